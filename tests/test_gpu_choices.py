"""Files of algorithms that were chosen by time: made, used, named, and refused elsewhere."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, kernels
from fastmlp.datasets import load_digits

from .conftest import ON_DEVICE
from .hostcuda import cublaslt as standin_lt

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

kernels.load("cupy")

import cupy  # noqa: E402

from fastmlp.kernels.cupy_gpu import choices, tiers  # noqa: E402

if tiers._unfit() is not None:
    pytest.skip(str(tiers._unfit()), allow_module_level=True)

over_the_stand_in = pytest.mark.skipif(ON_DEVICE, reason="looks into the stand-in")

X, Y = load_digits(scaling="unit")
X, Y = X[:300], Y[:300]


@pytest.fixture(autouse=True)
def _tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tiers.VARIABLE, "lt")


def _net(**arguments: Any) -> MLP:
    return MLP((64, 40, 33, 10), backend="cupy", seed=1, **arguments)


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command that makes a file; over the stand-in the last algorithm is the fastest."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "tune_gpu", raising=False)
    tune = importlib.import_module("tune_gpu")
    if not ON_DEVICE:
        monkeypatch.setattr(tune, "REPEATS", 1)
        elapsed = iter(np.repeat([3.0, 2.0, 1.0] * 1000, tune.REPEATS + 3))
        monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda start, end: next(elapsed))
    return tune


@over_the_stand_in
def test_choices_are_made_used_and_named(
    tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "choices.json"
    for batch in (32, 12):  # the short last batch too
        tuning.main([str(path), "--layers", "64", "40", "33", "10", "--batch", str(batch)])
    record = json.loads(path.read_text())
    assert len(record["products"]) == 16
    plain = _net()
    wanted = plain.fit(X, Y, epochs=2, batch_size=32).loss
    monkeypatch.setenv("FASTMLP_GPU_CHOICES", str(path))
    standin_lt.USED.clear()
    net = _net()
    assert net.fit(X, Y, epochs=2, batch_size=32).loss == wanted  # here they are all the same
    # All but the single row of the warm-up, for which nothing was chosen.
    assert set(standin_lt.USED) == {0, standin_lt.ALGORITHMS - 1}
    assert standin_lt.USED[0] == 3
    name = net._engine.way().choices.name
    assert f"backend cupy (tier lt, choices {name})" in net.summary()
    assert "choices" not in plain.summary()
    net.save(tmp_path / "net")
    plain.save(tmp_path / "plain")
    assert f'"choices": "{name}"'.encode() in _header(tmp_path / "net")
    assert b"choices" not in _header(tmp_path / "plain")
    monkeypatch.delenv("FASTMLP_GPU_CHOICES")
    loaded, going = (MLP.load(tmp_path / name, backend="cupy") for name in ("net", "plain"))
    again = loaded.fit(X, Y, epochs=1, batch_size=32).loss
    assert again == going.fit(X, Y, epochs=1, batch_size=32).loss
    assert not loaded._engine.way().choices.name


def _header(path: Path) -> bytes:
    """A file's configuration, as readable text."""
    return path.read_bytes().replace(b"\\", b"")


BAD_FILES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no JSON": (lambda record: "[", "holds no choices"),
    "a list": (lambda record: "[]", "holds no choices"),
    "no products": (lambda record: {"device": 1, "library": 2}, "holds no choices"),
    "no bytes": (lambda record: record | {"products": {"a": "xyz"}}, "holds no choices"),
    "too few bytes": (lambda record: record | {"products": {"a": "00"}}, "of the wrong size"),
    "another device": (lambda record: record | {"device": "Z"}, "was made for .*'Z'"),
    "another library": (lambda record: record | {"library": 1}, "was made for .* 1}, and this"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_choices_that_do_not_belong_here_are_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "choices.json"
    choices.write(path, {})
    change, message = BAD_FILES[what]
    made = change(json.loads(path.read_text()))
    path.write_text(made if isinstance(made, str) else json.dumps(made))
    monkeypatch.setenv("FASTMLP_GPU_CHOICES", str(path))
    with pytest.raises(ValueError, match=f"FASTMLP_GPU_CHOICES: .*{message}"):
        _net().fit(X, Y, epochs=1)


@over_the_stand_in
def test_an_algorithm_that_does_not_serve_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = _net()
    net.fit(X, Y, epochs=1, batch_size=32)
    program = net._engine._plan.programs["train", 32, True, False]  # type: ignore[union-attr]
    keys = [step.args[0].key for step in program if type(step).__name__ == "partial"]
    path = tmp_path / "choices.json"
    choices.write(path, dict.fromkeys(keys, bytes(64)))
    monkeypatch.setenv("FASTMLP_GPU_CHOICES", str(path))
    with pytest.raises(ValueError, match="the file of choices has an algorithm .* can't be used"):
        _net().fit(X, Y, epochs=1, batch_size=32)
    standin_lt.TROUBLE.clear()

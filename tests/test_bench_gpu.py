"""The GPU benchmark runs before anybody has a GPU: over the stand-in, peers on the processor."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import ON_DEVICE
from .hostcuda import build

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
MODULES = ("common", "gpu_cases", "gpu_lineup", "gpu_worker", "bench_gpu", "gpu_cpu")

if build.compiler() is None:
    pytest.skip("no C++ compiler", allow_module_level=True)
if ON_DEVICE:
    pytest.skip("python benchmarks/bench_gpu.py runs it on the device", allow_module_level=True)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module; examples have modules of the same names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("bench_gpu")
    for name in MODULES:
        sys.modules.pop(name, None)


def _rehearsed(bench: Any, folder: Path, *libraries: str, minutes: float = 5.0) -> Any:
    (folder / "work").mkdir(exist_ok=True)
    arguments = argparse.Namespace(
        only=None, libraries=libraries, minutes=minutes, rehearse=True, results=folder
    )
    return bench.run(arguments, folder / "work")


NEEDS = {"torch": "torch", "compiled": "torch", "jax": "jax"}


@pytest.mark.parametrize(
    "library",
    [
        "fastmlp",
        "cpu",
        "naive",
        "torch",
        "jax",
        pytest.param("compiled", marks=pytest.mark.slow),
    ],
)
def test_everybody_is_timed_after_parity(library: str, bench: Any, tmp_path: Path) -> None:
    need = NEEDS.get(library)
    if need and find_spec(need) is None:
        pytest.skip(f"{need} is not installed")
    results = _rehearsed(bench, tmp_path, library)
    assert json.loads((tmp_path / "gpu.json").read_text()) == results
    expected = {
        "NumPy, tuned, float32": "no binary cross-entropy",
        "PyTorch, CUDA graph": "need a GPU",
    }
    timed = 0
    for name, case in results["cases"].items():
        assert case["floors"]["floor"] > 0
        for who, found in case["contenders"].items():
            if "step" not in found:
                assert expected[who] in found["failed"], (name, who, found)
                continue
            timed += 1
            assert len(found["repeats"]) == 2
            assert found["step"] > 0
            products = who.startswith("products")
            assert products or found["losses apart"] <= 2e-2
            if "bar" in case and not products:
                assert found["share of the products"] == case["bar"]["step"] / found["step"]
    assert timed >= 2
    if library == "fastmlp":
        _check_parts(results)


def _check_parts(results: Any) -> None:
    """A step taken apart, and what belongs to no case."""
    for case in results["cases"].values():
        parts = case["contenders"]["fastmlp, generic"]["parts"]
        assert parts["number of launches"] > 10
        assert parts["products"] > 0
    assert results["others"]["memory"]["bytes per second"] > 0
    assert results["others"]["graph"]["launches"] > 8
    assert results["others"]["MNIST"]["fastmlp, generic"]["runs"][0]["accuracy"] > 0.7


def test_what_is_left_out_says_why(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    results = _rehearsed(bench, tmp_path, "cpu", "torch", minutes=0.0)
    assert results["others"]["torch"] == {"left out": "torch is not installed"}
    case = results["cases"]["A, float32"]["contenders"]
    assert case["NumPy, tuned, float32"] == {"left out": "the time was over"}


CRASHING = """
import json, os, sys
folder = sys.argv[sys.argv.index("--folder") + 1]
path = os.path.join(folder, "cpu.jsonl")
done = open(path).read() if os.path.exists(path) else ""
with open(path, "a") as file:
    if "first" not in done:
        file.write(json.dumps({"key": "A, float32: first", "started": True}) + "\\n")
        file.flush()
        print("it is the driver's fault", flush=True)
        os.abort()
    file.write(json.dumps({"key": "A, float32: second", "found": {"step": 1.0}}) + "\\n")
"""


def test_a_crash_costs_one_contender(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crashing.py"
    script.write_text(CRASHING)
    monkeypatch.setattr(bench, "__file__", str(script))
    lines = bench.run_library("cpu", tmp_path, time.time() + 60, [])
    found = bench.gathered(lines, bench.gpu_worker.cases(True, None))
    contenders = found["cases"]["A, float32"]["contenders"]
    assert "ended with status -6; it is the driver's fault" in contenders["first"]["failed"]
    assert contenders["second"] == {"step": 1.0}


def test_a_contender_that_hangs_is_stopped(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "hanging.py"
    script.write_text(CRASHING.replace("os.abort()", "import time; time.sleep(600)"))
    monkeypatch.setattr(bench, "__file__", str(script))
    monkeypatch.setattr(bench, "GRACE", 1.0)
    lines = bench.run_library("cpu", tmp_path, time.time() - 1, [])
    assert "ran past its time" in lines[-1]["failed"]


def test_losses_that_differ_are_not_timed(bench: Any) -> None:
    worker, cases = bench.gpu_worker, importlib.import_module("gpu_cases")
    case = cases.REHEARSAL["A"]
    start = cases.given(case)
    wanted = worker.references({"A": case})["A"]
    lineup = importlib.import_module("gpu_lineup")
    name, build = next(iter(lineup.contenders("cpu").items()))
    task = lineup.Task("A", "float32", name, build)
    assert worker.measured(task, case, start, wanted)["losses apart"] < 1e-4
    for wrong, why in (
        ([2 * loss for loss in wanted], "apart, allowed"),
        (None, "nothing|no losses"),
    ):
        with pytest.raises(ValueError, match=why):
            worker.measured(task, case, start, wrong)
    assert cases.apart([np.nan], [1.0]) == np.inf


@pytest.mark.parametrize(
    ("name", "precision", "flop", "bytes_"),
    [
        ("A", "bfloat16", 7.46e12, 6.7e9),
        ("B 2^18", "bfloat16", 33e9, 1.07e9),
        ("C", "float32", 11e6, 1.7e6),
        ("D 2^17", "bfloat16", 91e9, 1.0e9),
        ("D 8192", "tf32", 5.7e9, 0.13e9),
        ("E", "bfloat16", 78e9, 0.27e9),
    ],
)
def test_floors_are_those_of_the_sizes(
    name: str, precision: str, flop: float, bytes_: float, bench: Any
) -> None:
    """Against numbers that were worked out by hand."""
    case = importlib.import_module("gpu_cases").CASES[name]
    assert case.flop == pytest.approx(flop, rel=0.06)
    assert case.traffic(precision) == pytest.approx(bytes_, rel=0.12)


def test_places_go_through_an_epoch_and_on(bench: Any) -> None:
    places = importlib.import_module("gpu_cases").Places(5)
    assert places.following(3) == [(0, 3)]
    assert places.following(8) == [(3, 2), (0, 5), (0, 1)]
    assert places.following(4) == [(1, 4)]


@pytest.mark.parametrize(("wanted", "steps", "found"), [(0.1, 4, 1), (7, 16, 4), (1e9, 80, 80)])
def test_samples_divide_the_epoch(wanted: float, steps: int, found: int, bench: Any) -> None:
    assert bench.gpu_worker.samples_steps(wanted, steps) == found

"""What README and documentation say of real GPUs comes from records, and says so without them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODULES = ("report", "result_tables", "gpu_tables", "gpu_notes", "gpu_cases")

TESTS = {
    "device": "Some GPU",
    "driver": "580.1",
    "cuda of the driver": "13.0",
    "cuda": "12.8",
    "cupy": "14.2.0",
    "commit": "abc1234",
    "date": "2026-12-01 10:00 UTC",
    "outcome": "failed",
    "tests": {
        "status": 1,
        "seconds": 9.0,
        "tests": 900,
        "failures": 2,
        "errors": 1,
        "skipped": 40,
    },
    "sanitizer": {"memcheck": {"status": 0}, "racecheck": {"status": 1}},
}

CASE = {
    "layers": "784-50-50-10",
    "batch": 64,
    "precision": "float32",
    "floors": {"floor": 2e-7},
    "bar": {"step": 1e-5, "of": "products, PyTorch"},
    "contenders": {
        "products, PyTorch": {"step": 1e-5},
        "fastmlp, generic": {"step": 2e-4},
        "fastmlp, lt": {"step": 4e-5},
        "fastmlp on the CPU, float32": {"step": 5e-5},
        "PyTorch": {"step": 6e-5},
        "JAX": {"failed": "ImportError: no jax"},
    },
}

GPU = {
    "machine": {
        "processor": "P",
        "cores": 16,
        "python": "3",
        "packages": {"numpy": "2"},
        "commit": "c",
        "date": "d",
    },
    "cases": {"C, float32": CASE},
    "others": {
        "device": {"name": "Some GPU"},
        "MNIST": {
            "fastmlp, lt": {"seconds": 0.5, "reached": 3, "runs": [{"epochs": 4}, {"epochs": 6}]},
            "JAX scan": {"left out": "the time was over"},
        },
    },
}

FIRST_RUN = {
    "parts": {
        "graph": {"found": {"each launch": 5e-6, "each node": 7e-7}},
        "ceilings": {"outcome": "failed"},
        "epilogues": {
            "found": {
                "shapes": {
                    "one": {"separate": 2.0, "relu in it": 1.6},
                    "two": {"separate": 2.0, "relu in it": "refused: status 15"},
                }
            }
        },
    }
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, record in (("gpu_tests", TESTS), ("gpu", GPU), ("gpu_first_run", FIRST_RUN)):
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    return tmp_path


def test_without_a_record_it_is_said_plainly(module: Any, tmp_path: Path) -> None:
    report = module("report")
    assert report.block("gpu_tests", tmp_path) == "The tests have not run on a real GPU yet.\n"
    notes = module("gpu_notes").filled(tmp_path)
    assert len(notes) > 8
    for title, floor, prediction, measured, learnt in notes:
        assert title
        assert floor
        assert prediction
        assert measured == "not measured yet"
        assert learnt == "nothing yet"


def test_the_last_run_shows_what_ran_where(module: Any, folder: Path) -> None:
    text = module("report").block("gpu_tests", folder)
    for line in (
        "| last run of the tests on a GPU | failed |",
        "| device | Some GPU |",
        "| driver | 580.1, for CUDA 13.0 |",
        "| commit, date | abc1234, 2026-12-01 10:00 UTC |",
        "| tests | 857 passed, 3 failed, 40 skipped |",
        "| compute-sanitizer | memcheck clean, racecheck failed |",
    ):
        assert line in text


def test_steps_are_set_beside_the_best_of_the_others(module: Any, folder: Path) -> None:
    (head, row), record = module("result_tables").table("gpu", folder)
    found = dict(zip(head, row, strict=True))
    assert found["fastmlp, µs"] == "40 (lt)"
    assert found["share of the products"] == "25%"
    assert found["best of the others, µs"] == "60 (PyTorch)"
    assert found["times faster"] == "1.50"
    assert module("result_tables").origin(record).startswith("Some GPU; P, 16 cores")
    (_, row), _ = module("result_tables").table("gpu untimed", folder)
    assert row == ("C, float32", "JAX", "ImportError: no jax")
    (_, *rows), _ = module("result_tables").table("gpu accuracy", folder)
    assert rows == [("fastmlp, lt", "0.50", "4 to 6"), ("JAX scan", "–", "the time was over")]


def test_notes_take_their_measurements_from_the_records(module: Any, folder: Path) -> None:
    measured = {title: text for title, _, _, text, _ in module("gpu_notes").filled(folder)}
    assert measured["Tiny batches: 784-50-50-10, batch 64, float32"] == (
        "40 µs a step (fastmlp, lt), 1.6e+06 rows/s; its products 10 µs (25%)"
    )
    assert measured["Graphs in place of launches"] == "5.00 µs a launch, 0.70 µs a node"
    epilogues = measured["Bias and activation inside the product (epilogues of cuBLASLt)"]
    assert epilogues == "1.25 to 1.25 times as fast, over 1 shapes"
    assert measured["The same in TF32"] == "not measured yet"


@pytest.mark.parametrize(
    ("path", "claim"),
    [
        ("README.md", "nobody has trained on a GPU with it yet"),
        ("CHANGELOG.md", "has not run on a real GPU yet"),
        ("docs/index.rst", "has not run on a real GPU yet"),
        ("docs/guide/gpu.rst", "has not run on a real GPU yet"),
        ("docs/guide/sklearn.rst", "has not run on a real GPU yet"),
    ],
)
def test_texts_say_that_nothing_has_run_as_long_as_that_is_so(path: str, claim: str) -> None:
    text = " ".join((ROOT / path).read_text().split())
    assert (claim in text) == (not (RESULTS / "gpu_tests.json").exists())

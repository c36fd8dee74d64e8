"""The script of the first run on a GPU, where there is none: every part fails cleanly or runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ON_DEVICE
from .hostcuda import nvrtc

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "gpu"

if ON_DEVICE:
    pytest.skip("there is a device", allow_module_level=True)


@pytest.fixture
def first_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module; other folders have modules of the same names."""
    for folder in (FOLDER, ROOT / "benchmarks"):
        monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("first_run")
    for name in ("first_run", "run", "probes", "ceilings", "lt_probe", "gpu_cases"):
        sys.modules.pop(name, None)


def _run(*words: str, script: str = "first_run.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


BRIEF = ("environment", "capture", "nvrtc", "graph", "tests", "ceilings", "epilogues")


def test_without_a_gpu_every_part_says_why(tmp_path: Path) -> None:
    done = _run("--results", str(tmp_path), "--only", *BRIEF, "profile", "sanitizer")
    assert done.returncode == 1, done.stderr
    record = json.loads((tmp_path / "gpu_first_run.json").read_text())
    for name in BRIEF:
        part = record["parts"][name]
        assert part["outcome"] == "failed"
        assert "cupy" in part["reason"].lower() or "CUDA" in part["reason"], part
        assert f"{name}: failed" in done.stdout
    assert "== capture" in (tmp_path / "gpu_first_run.log").read_text()
    assert not (tmp_path / "gpu_tests.json").exists()


def test_the_tests_of_the_device_leave_no_record_without_one(tmp_path: Path) -> None:
    done = _run("--result", str(tmp_path / "gpu_tests.json"), script="run.py")
    assert done.returncode == 3
    assert "nothing was run: backend 'cupy' can't be used" in done.stderr
    assert not list(tmp_path.iterdir())


def test_limits_sum_up_to_less_than_half_an_hour(first_run: Any) -> None:
    assert sum(part.seconds for part in first_run.PARTS.values()) < 30 * 60


PART = """
import json, os, sys, time
name = sys.argv[2]
print("looking")
if name == "environment":
    print("RESULT " + json.dumps({"device": "none"}))
elif name == "capture":
    os.abort()
elif name == "nvrtc":
    time.sleep(600)
elif name == "profile":
    print("RESULT " + json.dumps({"skipped": "not here"}))
"""


@pytest.fixture
def faked(first_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script with parts that end in every way."""
    script = tmp_path / "part.py"
    script.write_text(PART)
    monkeypatch.setattr(first_run, "__file__", str(script))
    monkeypatch.setattr(first_run, "RESULTS", tmp_path / "nowhere")
    monkeypatch.setattr(first_run, "LEAST", 0.5)
    monkeypatch.setitem(first_run.PARTS, "nvrtc", first_run.Part("probes", "nvrtc", 1.0))
    return first_run


def _main(script: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["first_run.py", *words])
    return int(script.main())


def test_parts_that_crash_or_hang_are_noted_and_the_rest_goes_on(
    faked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = tmp_path / "results"
    words = ("--results", str(folder), "--only", "environment", "capture", "nvrtc", "profile")
    assert _main(faked, monkeypatch, *words) == 1
    parts = json.loads((folder / "gpu_first_run.json").read_text())["parts"]
    assert {name: part["outcome"] for name, part in parts.items()} == {
        "environment": "passed",
        "capture": "failed",
        "nvrtc": "failed",
        "profile": "skipped",
    }
    assert parts["environment"]["found"] == {"device": "none"}
    assert parts["capture"]["reason"] == "looking (status -6)"
    assert parts["nvrtc"]["reason"] == "it took longer than 1 s"
    # What has passed is not run again, what has failed is.
    capsys.readouterr()
    assert _main(faked, monkeypatch, *words) == 1
    again = capsys.readouterr().out
    assert "capture: failed" in again
    assert "environment" not in again
    assert "profile" not in again
    assert _main(faked, monkeypatch, *words[:2], "--only", "environment", "--again") == 0
    assert "environment: passed" in capsys.readouterr().out


def test_a_run_ends_in_time_and_says_how_it_goes_on(
    faked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ("--results", str(tmp_path / "results"), "--minutes", "0")
    assert _main(faked, monkeypatch, *words) == 1
    assert "the same command goes on from here" in capsys.readouterr().out


# What the parts compile


@pytest.mark.skipif(nvrtc.version() is None, reason="the wheel nvidia-cuda-nvrtc is missing")
@pytest.mark.parametrize(
    ("module", "name", "architecture"),
    [
        ("probes", "NODE", "80"),
        ("probes", "MMA", "80"),
        ("probes", "MMA", "90"),
        ("probes", "WGMMA", "90a"),
        ("ceilings", "ADD", "80"),
    ],
)
def test_the_probes_compile(module: str, name: str, architecture: Any, first_run: Any) -> None:
    code = getattr(importlib.import_module(module), name)
    made = nvrtc.compiled(code, (), architecture)
    assert made.cubin[:4] == b"\x7fELF"
    assert "warning" not in made.log, made.log


def test_every_product_of_the_benchmark_is_asked_for_once(first_run: Any) -> None:
    shapes = list(importlib.import_module("ceilings").shapes())
    assert len({(precision, shape) for _, precision, shape in shapes}) == len(shapes) > 50

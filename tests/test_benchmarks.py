"""The benchmarks' scripts run, and what README says of them is what was measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
README = (ROOT / "README.md").read_text()

MARKED = re.findall(r"<!-- table: ([\w ]+) -->", README)
NEEDED = re.findall(
    r"result-table:: (\w+)(?:\n +:part: (\w+))?",
    "".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.rst"))),
)
PEERS = ("PyTorch", "PyTorch, compiled", "JAX scan", "scikit-learn")
WITHOUT = ("--without", *PEERS)

SCRIPTS = {
    "bench_training": WITHOUT,
    "bench_sweeps": (*WITHOUT, "--only", "width 2", "depth 1", "rows 1024", "precision"),
    "bench_grid": (*WITHOUT, "--only", "2-4-2"),
    "bench_threads": (*WITHOUT, "--only", "xor", "skdef"),
    "bench_neighbour": WITHOUT,
    "bench_predict": (),
    "bench_overhead": (),
    "bench_extras": WITHOUT,
    "bench_accuracy": (*WITHOUT, "--only", "MNIST"),
    "bench_memory": (*WITHOUT, "--only", "rows 10240", "input float64"),
    "bench_kernels": ("--only", "relu", "adam", "squared_error", "product", "train_steps"),
}
"""Script -> words that make it brief."""


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("report")


def _run(script: str, *words: str) -> str:
    result = subprocess.run(
        [sys.executable, str(FOLDER / f"{script}.py"), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_a_machine_whose_threads_are_far_apart_is_not_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    monkeypatch.syspath_prepend(str(FOLDER))
    import peak

    assert peak.meeting_cycles() >= 0  # two real threads
    meetings = iter([100.0, 199.0, 201.0, 40.0, 81.0, 80.0])
    monkeypatch.setattr(peak, "_rate", lambda dtype, threads: 8.0 * threads)
    monkeypatch.setattr(peak, "meeting_cycles", lambda: next(meetings))
    monkeypatch.setattr(peak, "get_num_threads", lambda: 2)
    probe = peak.Probe()
    assert [probe() for _ in range(6)] == [16.0, 16.0, 8.0, 16.0, 8.0, 16.0]
    monkeypatch.setattr(peak, "get_num_threads", lambda: 1)
    assert probe() == 8.0  # nobody to meet


# What was measured


@pytest.mark.parametrize("name", MARKED)
def test_tables_of_the_readme_are_those_of_the_results(name: str, report: Any) -> None:
    found = report.blocks(README)[name]
    assert found == report.block(name)
    if report.table(name) is None:
        pytest.skip(f"{name.partition(' ')[0]}.json is not there: nothing is measured yet")


def test_every_table_that_is_asked_for_can_be_made(report: Any) -> None:
    from result_tables import TABLES

    assert MARKED
    asked = {*MARKED, *(f"{name} {part}".strip() for name, part in NEEDED)}
    assert asked <= set(TABLES)


def test_all_results_make_tables(report: Any) -> None:
    from result_tables import TABLES

    for name in TABLES:
        found = report.table(name)
        if found is not None:
            head, *rows = found[0]
            assert rows
            assert {len(row) for row in rows} == {len(head)}


def test_the_readme_is_filled_between_its_markers(report: Any, tmp_path: Path) -> None:
    text = "before\n<!-- table: startup -->\nold\n<!-- end of table -->\nafter\n"
    assert report.filled(text, tmp_path) == text.replace("old", "Not measured yet.")
    (tmp_path / "startup.json").write_text(
        '{"machine": {"processor": "P", "cores": 2, "python": "3", "packages": {"numpy": "2"},'
        ' "commit": "c", "date": "d"},'
        ' "seconds": {"float32": {"cold": {"import": 0.123, "a": 1, "b": 2}}}}'
    )
    filled = report.filled(text, tmp_path)
    assert "| float32 | cold | 0.12 s | 1.00 s | 2.00 s |\n" in filled
    assert "P, 2 cores; Python 3, numpy 2; commit c, d." in filled
    assert report.filled(filled, tmp_path) == filled


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123456, "0.0123"), (9.996, "10.00"), (123.4, "123"), (741_234.0, "741,000")],
)
def test_numbers_have_three_digits(value: float, text: str, report: Any) -> None:
    from result_tables import significant

    assert significant(value) == text


# The scripts


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run_and_make_tables(script: str, report: Any, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    if script == "bench_kernels":
        pytest.importorskip("pytest_benchmark")
    if script == "bench_memory" and not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not count a process's peak memory")
    if script == "bench_accuracy" and "FASTMLP_MNIST" not in os.environ:
        pytest.skip("FASTMLP_MNIST names no folder")
    _run(script, "--quick", "--results", str(tmp_path), *SCRIPTS[script])
    (path,) = tmp_path.iterdir()
    name = path.stem
    from result_tables import TABLES

    for part in (key for key in TABLES if key.partition(" ")[0] == name):
        head, *rows = report.table(part, tmp_path)[0]
        assert rows, part
        assert {len(row) for row in rows} == {len(head)}


@pytest.mark.slow
def test_plots_are_drawn_the_same_each_time(tmp_path: Path, report: Any) -> None:
    pytest.importorskip("numba")
    pytest.importorskip("matplotlib")
    few = ("width 2", "width 4", "depth", "batch 1", "rows 1024", "precision", "threads")
    brief = ("--quick", "--results", str(tmp_path), *WITHOUT, "--only")
    _run("bench_sweeps", *brief, *few)
    _run("bench_grid", *brief, "2-4-2")
    from plots import PLOTS, draw

    plots = [name for name, (source, _) in PLOTS.items() if source in ("sweeps", "grid")]
    first = {p.stem: p.read_bytes() for p in draw(tmp_path / "one", tmp_path)}
    again = {p.stem: p.read_bytes() for p in draw(tmp_path / "two", tmp_path)}
    assert list(first) == plots
    assert first == again


@pytest.mark.slow
def test_an_interrupted_run_is_continued(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    words = ("--quick", "--results", str(tmp_path), *WITHOUT)
    assert "width 2:" in _run("bench_sweeps", *words, "--only", "width 2")
    out = _run("bench_sweeps", *words, "--only", "width 2", "width 4", "--resume")
    assert "width 2:" not in out
    assert "width 4:" in out
    assert "time is over" in _run("bench_sweeps", *words, "--resume", "--minutes", "0")

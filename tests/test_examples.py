"""Every script under examples/ runs, prints its numbers and saves its figures."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "common")
FIGURES = {"mnist_by_hand": ("sevens", "cost", "accuracy", "mistakes")}
"""Figures of the scripts that make more than one."""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script by its name, as Python does when it starts one in its folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return importlib.import_module


def _run(
    *arguments: str, folder: Path = EXAMPLES, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", **variables}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_runs_at_reduced_size(
    name: str,
    example: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("matplotlib")
    if name.startswith("mnist"):
        request.getfixturevalue("mnist_folder")
    example(name).main(["--quick", "--save", str(tmp_path / "figure.png")])
    wanted = [f"figure-{figure}.png" for figure in FIGURES.get(name, ())] or ["figure.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(wanted)
    for figure in tmp_path.iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert figure.stat().st_size > 5000
    assert re.search(r"\d(\.\d|%)", capsys.readouterr().out)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_short_and_says_what_it_shows(name: str, example: Any) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 180
    assert len(example(name).__doc__.splitlines()) > 2


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_names_the_script(name: str) -> None:
    pages = [ROOT / "docs" / "chapter.rst", *(ROOT / "docs" / "guide").glob("*.rst")]
    assert any(f"examples/{name}.py" in page.read_text() for page in pages)


def test_a_script_starts_from_any_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script = str(EXAMPLES / "perceptron.py")
    result = _run(script, "--quick", "--backend", "numpy", "--save", "planes.png", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "saved planes.png" in result.stdout
    assert (tmp_path / "planes.png").is_file()


def test_a_script_explains_itself() -> None:
    result = _run("mnist_by_hand.py", "--help")
    assert result.returncode == 0, result.stderr
    for word in ("NeuralNetMLP", "--epochs", "--quick", "--folder", "--backend", "--save"):
        assert word in result.stdout


def test_without_mnist_the_script_says_how_to_get_it(tmp_path: Path) -> None:
    result = _run("mnist_layers.py", "--folder", str(tmp_path))
    assert result.returncode == 1
    assert "FileNotFoundError" in result.stderr


def test_importing_a_script_imports_no_matplotlib() -> None:
    code = f"import sys, {', '.join(SCRIPTS)}\nassert 'matplotlib' not in sys.modules"
    result = _run("-c", code)
    assert result.returncode == 0, result.stderr


def test_without_matplotlib_the_numbers_still_come(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    example("loss_gallery").main(["--backend", "numpy"])
    printed = capsys.readouterr().out
    assert "0.740818220682" in printed
    assert "fastmlp[plot]" in printed

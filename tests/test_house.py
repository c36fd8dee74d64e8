"""The rules of the house: direction of imports, twins, a light import, clean text."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fastmlp import kernels

ROOT = Path(__file__).resolve().parents[1]

# From low to high: a module imports only what stands above it in this list.
ORDER = (
    "blocks",
    "checks",
    "sparse",
    "devices",
    "datasets",
    "activations",
    "losses",
    "initializers",
    "schedules",
    "optimizers",
    "generators",
    "records",
    "files",
    "threads",
    "choices",
    "targets",
    "metrics",
    "architecture",
    "history",
    "progress",
    "callbacks",
    "engine",
    "parameters",
    "training",
    "jobs",
    "saving",
    "inference",
    "network",
    "estimators",
    "",  # fastmlp/__init__.py
    "cli",
    "__main__",
)

BACKENDS = {"reference": "numpy", "numba_cpu": "numba", "cupy_gpu": "cupy"}
FOLDERS = ("fastmlp", "kernels", "tests", "examples", "benchmarks", "docs", ".ci")
TEXT = {
    ".py",
    ".md",
    ".rst",
    ".toml",
    ".cfg",
    ".in",
    ".txt",
    ".yml",
    ".yaml",
    ".json",
    ".cu",
    ".cuh",
    ".hpp",
    "",
}


def _files(*folders: str) -> Iterator[Path]:
    """Files of the project below `folders`, each once, without what tools and builds leave."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            parts = path.relative_to(ROOT).parts
            made = {"__pycache__", "_build", "generated"} & set(parts)
            if path.is_file() and not made and parts[:2] != ("fastmlp", "kernels"):
                yield path


def _sources(*folders: str) -> Iterator[Path]:
    return (path for path in _files(*folders) if path.suffix == ".py")


def _module(path: Path) -> str:
    """Dotted name of a source file, with kernels/ at its place inside fastmlp."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("fastmlp", *parts) if parts[0] == "kernels" else parts)


def _is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def _imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, also inside functions."""
    package = _module(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                deeper = f"{start}.{alias.name}"
                yield deeper if start.startswith("fastmlp") and _is_module(deeper) else start


def _below_fastmlp(name: str) -> str:
    """The module or package right below fastmlp; empty for fastmlp itself."""
    return name.removeprefix("fastmlp").removeprefix(".").partition(".")[0]


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _outsiders(path: Path) -> set[str]:
    """Top-level packages that a file imports, apart from fastmlp and the standard library."""
    tops = {name.split(".")[0] for name in _imports(path)}
    return tops - set(sys.stdlib_module_names) - {"fastmlp"}


def _run(code: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# Direction of imports


def test_kernels_import_nothing_from_the_rest_of_fastmlp() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources("kernels")
        for name in _imports(path)
        if _within(name, "fastmlp") and not _within(name, "fastmlp.kernels")
    ]
    assert not upward


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_do_not_import_one_another(backend: str) -> None:
    others = [name for name in BACKENDS if name != backend]
    crossing = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(f"kernels/{backend}")
        for name in _imports(path)
        if any(_within(name, f"fastmlp.kernels.{other}") for other in others)
    ]
    assert not crossing


def test_only_the_loader_and_backends_know_backends() -> None:
    for name in ("contract", "layout"):
        used = set(_imports(ROOT / "kernels" / f"{name}.py"))
        assert not [n for n in used if n.rpartition(".")[2] in BACKENDS]


def test_the_reference_needs_numpy_only() -> None:
    for path in _sources("kernels/reference"):
        assert _outsiders(path) <= {"numpy"}, path


def test_imports_inside_fastmlp_run_one_way() -> None:
    rank = {name: place for place, name in enumerate(ORDER)}
    unplaced = {_below_fastmlp(_module(path)) for path in _sources("fastmlp")} - set(ORDER)
    assert not unplaced, "which place in ORDER do these have?"
    wrong = []
    for path in _sources("fastmlp"):
        own = _below_fastmlp(_module(path))
        for name in _imports(path):
            other = _below_fastmlp(name)
            inside = _within(name, "fastmlp") and other not in (own, "kernels")
            if inside and rank[other] >= rank[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_data_sets_stand_alone() -> None:
    for path in _sources("fastmlp/datasets"):
        known = ("fastmlp.datasets", "fastmlp.checks")
        for name in _imports(path):
            if _within(name, "fastmlp"):
                assert any(_within(name, package) for package in known), f"{path}: {name}"


def test_nobody_writes_import_kernels() -> None:
    assert not [p for p in _sources(*FOLDERS) if any(_within(n, "kernels") for n in _imports(p))]


def test_kernels_is_no_top_level_package() -> None:
    result = _run("import kernels", ROOT, str(ROOT))
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert "fastmlp.kernels" in result.stderr


# Twins


def _parameters(function: ast.FunctionDef) -> str:
    """Names, order, kinds and defaults of the parameters; types may differ."""
    arguments = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(arguments, ast.FunctionDef)
    for node in ast.walk(arguments.args):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(arguments.args)


def _functions(path: Path) -> dict[str, str]:
    """Public functions of a file, in order, with their parameters."""
    return {
        node.name: _parameters(node)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _dictionaries() -> list[str]:
    """Names of the dictionaries that every backend offers, read off the contract."""
    tree = ast.parse((ROOT / "kernels" / "contract.py").read_text())
    backend = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Backend")
    return [
        node.target.id
        for node in backend.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and ast.unparse(node.annotation).startswith("Mapping")
    ]


TWINS = [
    pytest.param(path, folder, id=f"{folder}/{path.name}")
    for folder in BACKENDS
    if folder != "reference"
    for path in sorted((ROOT / "kernels" / "reference").glob("*.py"))
]


@pytest.mark.parametrize(("path", "folder"), TWINS)
def test_public_functions_are_the_same(path: Path, folder: str) -> None:
    twin = ROOT / "kernels" / folder / path.name
    assert twin.is_file(), f"{path.name} has no twin in {folder}"
    wanted, found = _functions(path), _functions(twin)
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(("path", "folder"), TWINS)
def test_public_functions_come_in_the_same_order(path: Path, folder: str) -> None:
    twin = ROOT / "kernels" / folder / path.name
    wanted = list(_functions(path))
    assert [name for name in _functions(twin) if name in wanted] == wanted


@pytest.mark.parametrize("name", _dictionaries())
def test_dictionaries_have_the_same_keys(name: str, backend: str) -> None:
    reference, loaded = kernels.load("numpy"), kernels.load(backend)
    assert list(getattr(loaded, name)) == list(getattr(reference, name))


@pytest.mark.parametrize("name", _dictionaries())
def test_kernels_in_dictionaries_take_the_same(name: str, backend: str) -> None:
    reference, loaded = kernels.load("numpy"), kernels.load(backend)
    assert _kernels_of(getattr(loaded, name)) == _kernels_of(getattr(reference, name))


def _kernels_of(dictionary: Mapping[Any, tuple[Any, ...]]) -> dict[tuple[Any, int], object]:
    """Parameters of each function in a dictionary of tuples, and all else as it is."""
    return {
        (key, place): list(inspect.signature(entry).parameters) if callable(entry) else entry
        for key, record in dictionary.items()
        for place, entry in enumerate(record)
    }


# A light import


def test_import_is_light() -> None:
    code = """
import sys, time
import numpy
start = time.perf_counter()
import fastmlp
seconds = time.perf_counter() - start
heavy = {"numba", "llvmlite", "cupy", "sklearn", "scipy", "pandas", "matplotlib", "joblib"}
print(sorted(heavy & set(sys.modules)), seconds)
assert not heavy & set(sys.modules) and seconds < 1
"""
    result = _run(code, ROOT, str(ROOT))
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_checkout_without_symbolic_links_says_what_to_do(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("kernels", "__pycache__")
    shutil.copytree(ROOT / "fastmlp", tmp_path / "fastmlp", ignore=ignored)
    (tmp_path / "fastmlp" / "kernels").write_text("../kernels")
    result = _run("import fastmlp; fastmlp.MLP", tmp_path, str(tmp_path))
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert "symbolic link" in result.stderr
    assert "core.symlinks" in result.stderr


# Text

FORBIDDEN = {
    "a note to self": re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b"),
    "a path of one machine": re.compile(r"(^|[\s\"'(=:`])/(tm[p]|hom[e]|roo[t]|wor[k]|User[s])/"),
    "a package index": re.compile(r"ind[e]x-url|--extra-ind[e]x|files\.pythonhost[e]d"),
}


def _texts() -> Iterator[Path]:
    here = (path for path in sorted(ROOT.iterdir()) if path.is_file())
    everything = (*here, *_files(*FOLDERS))
    return (path for path in everything if path.suffix in TEXT and path.name != ".git")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in _texts()
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found


@pytest.mark.parametrize("path", list(_sources("fastmlp", "kernels")), ids=_module)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert not [f"{node.name}: {_lines(node)}" for node in functions if _lines(node) > 60]


def _lines(function: ast.FunctionDef) -> int:
    """Length of a function without its docstring."""
    first = function.body[1:2] if ast.get_docstring(function) else function.body[:1]
    return (function.end_lineno or 0) - (first[0].lineno if first else function.lineno) + 2


# README and CI


def _command_lines() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^python -m venv .*$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("end", ["fastmlp train", "pytest"])
def test_ci_runs_the_command_lines_of_the_readme(end: str) -> None:
    assert len([line for line in _command_lines() if line.endswith(end)]) == 1
    calls = re.findall(r'^readme "(.*)"$', (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert end in calls


def test_readme_has_no_other_set_up_line() -> None:
    assert len(_command_lines()) == 2

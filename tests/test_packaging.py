"""The archives that users install: complete, and working far away from the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

TRAIN = """
import numpy, fastmlp
rng = numpy.random.default_rng(0)
X, y = rng.normal(size=(50, 3)), rng.integers(0, 2, 50)
net = fastmlp.MLP((3, 4, 2), backend="numba", dtype="float64", seed=0)
print(net.fit(X, y, epochs=1).loss)
"""

NO_USER = """
import pwd
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
"""


def _run(
    command: list[str | Path], cwd: Path, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run with these variables set (None: removed) and no trace of the checkout."""
    changed = {**os.environ, "PYTHONPATH": None, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def _works(command: list[str | Path], cwd: Path, **environment: str | None) -> str:
    result = _run(command, cwd, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("archives")
    copy = folder / "checkout"
    left = shutil.ignore_patterns(".*", "__pycache__", "_build", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy]
    _works(build, folder)
    return folder


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of an environment with the wheel; NumPy and Numba are borrowed."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    wheel = next(archives.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install"]
    _works([*pip, "--no-deps", "--no-index", wheel], home)
    _site_packages(scripts).joinpath("borrowed.pth").write_text(str(Path(np.__file__).parents[1]))
    return scripts


def _site_packages(scripts: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(_works([scripts / "python", "-c", code], scripts).strip())


def _wheel_names(archives: Path) -> set[str]:
    with zipfile.ZipFile(next(archives.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def _source_names() -> set[str]:
    """Python files of the package, by their names in an installation."""
    parts = {"fastmlp": ROOT / "fastmlp", "fastmlp/kernels": ROOT / "kernels"}
    return {
        f"{prefix}/{path.relative_to(folder).as_posix()}"
        for prefix, folder in parts.items()
        for path in folder.rglob("*.py")
        if path.relative_to(ROOT).parts[:2] != ("fastmlp", "kernels")
    }


def test_wheel_has_every_module(archives: Path) -> None:
    found = {name for name in _wheel_names(archives) if name.endswith(".py")}
    assert found == _source_names()


def test_wheel_has_the_device_code_and_nothing_to_test_it(archives: Path) -> None:
    names = _wheel_names(archives)
    cuda = {
        f"fastmlp/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("kernels/*/cuda/*")
    }
    assert cuda
    assert {name for name in names if ".cu" in name} == cuda
    assert not [name for name in names if "hostcuda" in name or name.endswith(".hpp")]


def test_wheel_has_data_types_and_licence(archives: Path) -> None:
    names = _wheel_names(archives)
    assert {"fastmlp/py.typed", "fastmlp/datasets/digits.npz"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_source_archive_has_what_its_tests_need(archives: Path) -> None:
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "LICENSE", "pyproject.toml", "tests/conftest.py", "docs/conf.py"}
    assert wanted <= names


def test_import_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import fastmlp.kernels as k, fastmlp; print(fastmlp.__version__, k.__file__)"
    version, place = _works([installed / "python", "-c", code], tmp_path).split()
    assert Path(place).is_relative_to(_site_packages(installed))
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_command_line_trains(installed: Path, tmp_path: Path) -> None:
    command = [installed / "fastmlp", "train", "--epochs=1", "--backend=numpy", "--no-compare"]
    output = _works(command, tmp_path)
    assert "loss" in output


@pytest.mark.slow
def test_readme_snippets_run(installed: Path, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    output = _works([installed / "python", "-W", "error", "-c", "".join(snippets)], tmp_path)
    assert float(re.findall(r"'accuracy': ([\d.]+)", output)[0]) > 0.85
    assert any(tmp_path.iterdir())


# Where nothing can be written. A file stands where a folder should be: that stops root as well.


def _train(installed: Path, cwd: Path, before: str = "", **environment: str | None) -> None:
    folder = _site_packages(installed) / "fastmlp"
    held = set(folder.rglob("*"))
    for path in (folder, *held):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        _works([installed / "python", "-W", "error", "-c", before + TRAIN], cwd, **environment)
    finally:
        for path in (folder, *held):
            path.chmod(path.stat().st_mode | 0o200)
    assert set(folder.rglob("*")) == held


@pytest.mark.slow
def test_unwritable_cache_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _train(installed, tmp_path, FASTMLP_CACHE_DIR=str(tmp_path / "file" / "cache"))


@pytest.mark.slow
def test_unwritable_home(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = str(tmp_path / "file")
    _train(installed, tmp_path, FASTMLP_CACHE_DIR=None, XDG_CACHE_HOME=None, HOME=home)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the home folder is found in another way")
def test_no_home_at_all(installed: Path, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("FASTMLP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"))
    _train(installed, tmp_path, NO_USER, **nothing)


@pytest.mark.slow
def test_kernels_are_kept_in_the_cache_folder(installed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _train(installed, tmp_path, FASTMLP_CACHE_DIR=str(cache))
    assert any(cache.rglob("*.o"))


@pytest.mark.slow
def test_cache_can_be_switched_off(installed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _train(installed, tmp_path, FASTMLP_CACHE_DIR=str(cache), FASTMLP_CACHE="0")
    assert not cache.exists() or not any(cache.rglob("*"))

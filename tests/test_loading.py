"""Which backends there are, and what is said where one is missing."""

from __future__ import annotations

import importlib.machinery
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fastmlp import kernels
from fastmlp.kernels import driver

from .conftest import REAL_MISSING


def test_the_reference_is_always_there() -> None:
    assert kernels.available()["numpy"] is None
    assert kernels.load("numpy").NAME == "numpy"


def test_loading_gives_one_module(backend: str) -> None:
    loaded = kernels.load(backend)
    assert loaded is kernels.load(backend)
    assert backend == loaded.NAME


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="numpy, numba, cupy; got 'torch'"):
        kernels.load("torch")


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    reason = kernels.available()["numba"]
    assert reason is not None
    assert "pip install numba" in reason
    with pytest.raises(ImportError, match="pip install numba"):
        kernels.load("numba")


def test_a_backend_that_is_not_shipped_names_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "_shipped", lambda name: name != "cupy")
    with pytest.raises(ImportError, match=r"no GPU kernels; it has numpy, numba"):
        kernels.load("cupy")


def test_a_gpu_backend_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(driver, "missing", REAL_MISSING)
    monkeypatch.setattr(driver.ctypes, "CDLL", no_library)
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    sys.modules["cupy"].__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    driver.missing.cache_clear()
    reason = kernels.available()["cupy"]
    driver.missing.cache_clear()
    assert reason is not None
    assert "no NVIDIA driver is installed" in reason
    with pytest.raises(ImportError, match="backend 'cupy' can't be used: no NVIDIA driver"):
        kernels.load("cupy")


@pytest.mark.parametrize(("status", "devices"), [(100, 1), (0, 0), (0, 2)])
def test_a_driver_is_asked_for_its_devices(
    status: int, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Driver:
        @staticmethod
        def cuInit(flags: int) -> int:
            return status

        @staticmethod
        def cuDeviceGetCount(place: Any) -> int:
            place._obj.value = devices
            return 0

    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: Driver)
    REAL_MISSING.cache_clear()
    reason = REAL_MISSING()
    REAL_MISSING.cache_clear()
    assert (reason is None) == (status == 0 and devices > 0)


def test_cupy_itself_without_a_driver() -> None:
    """The package CuPy, where it is installed and there is no GPU."""
    code = (
        "from importlib.util import find_spec\n"
        "import fastmlp\n"
        "reason = fastmlp.available_backends()['cupy']\n"
        "print(find_spec('cupy') is not None, reason)\n"
        "if reason is not None:\n"
        "    try:\n"
        "        fastmlp.MLP((2, 2), backend='cupy')\n"
        "    except ImportError as error:\n"
        "        assert reason in str(error)\n"
        "    else:\n"
        "        raise AssertionError\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).resolve().parents[1],
    )
    installed, reason = run.stdout.strip().split(" ", 1)
    if installed == "False":
        assert "pip install" in reason
        pytest.skip("CuPy is not installed")
    if reason == "None":
        pytest.skip("this machine has a GPU")
    assert "NVIDIA driver" in reason


def test_asking_what_is_available_imports_nothing() -> None:
    code = (
        "import sys; from fastmlp import kernels; kernels.available(); kernels.load('numpy'); "
        "assert not {'numba', 'llvmlite', 'cupy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

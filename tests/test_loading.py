"""Which backends there are, and what is said where one is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastmlp import kernels


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


def test_a_backend_that_is_not_shipped_names_those_that_are() -> None:
    with pytest.raises(ImportError, match=r"no GPU kernels; it has numpy, numba"):
        kernels.load("cupy")


def test_asking_what_is_available_imports_nothing() -> None:
    code = (
        "import sys; from fastmlp import kernels; kernels.available(); kernels.load('numpy'); "
        "assert not {'numba', 'llvmlite', 'cupy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

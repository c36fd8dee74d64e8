"""The arithmetic of fastmlp, once per kind of machine.

`contract` says what a backend offers, `layout` where each array lies in a flat vector.
`reference` (NumPy) documents formulas, shapes and mutation; the other backends are its twins.
`load` imports a backend on request, `available` says which ones can be loaded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple, cast

if __name__ == "kernels":
    raise ImportError(
        "this folder is part of fastmlp and is imported as fastmlp.kernels; "
        "the name 'kernels' belongs to another package"
    )

from . import driver
from .contract import Backend


class _Source(NamedTuple):
    module: str
    title: str
    package: str
    install: str


_SOURCES: Mapping[str, _Source] = {
    "numpy": _Source("reference", "NumPy", "numpy", "pip install numpy"),
    "numba": _Source("numba_cpu", "Numba", "numba", "pip install numba"),
    "cupy": _Source(
        "cupy_gpu",
        "GPU",
        "cupy",
        "pip install 'fastmlp[cuda13]', or 'fastmlp[cuda12]' for a driver of CUDA 12",
    ),
}


def load(name: str) -> Backend:
    """Import a backend and return its module.

    Parameters
    ----------
    name : "numpy", "numba" or "cupy".

    Raises
    ------
    ValueError
        There is no backend of this name.
    ImportError
        The backend is not part of this version, or a package or a device that it needs is missing.
    """
    if name not in _SOURCES:
        raise ValueError(f"backend must be one of {', '.join(_SOURCES)}; got {name!r}")
    reason = _missing(name)
    if reason is not None:
        raise ImportError(f"backend {name!r} can't be used: {reason}")
    return cast(Backend, import_module(f".{_SOURCES[name].module}", __name__))


def available() -> dict[str, str | None]:
    """Name each backend with None where it can be loaded, else with the reason why it can't."""
    return {name: _missing(name) for name in _SOURCES}


def _missing(name: str) -> str | None:
    source = _SOURCES[name]
    if not _shipped(name):
        others = ", ".join(other for other in _SOURCES if _shipped(other))
        return f"this version of fastmlp has no {source.title} kernels; it has {others}"
    if find_spec(source.package) is None:
        return f"the package {source.package} is not installed; {source.install}"
    return driver.missing() if name == "cupy" else None


def _shipped(name: str) -> bool:
    # A folder without __init__.py, as a removed package leaves one behind, has no origin.
    spec = find_spec(f"{__name__}.{_SOURCES[name].module}")
    return spec is not None and spec.origin is not None

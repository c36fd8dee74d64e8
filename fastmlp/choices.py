"""Which precision and which backend a user's word means."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from . import checks, kernels

BACKENDS = ("numpy", "numba", "cupy", "auto")
DTYPES = ("float32", "float64")


def precision(dtype: Any) -> str:
    """Return "float32" or "float64" for a word or a NumPy dtype; else a TypeError or ValueError."""
    if isinstance(dtype, str):
        return checks.word(dtype, "dtype", DTYPES)
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = ""
    if name not in DTYPES or dtype is None:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {checks.shown(dtype)}")
    return name


def backend(word: Any) -> str:
    """The name of a backend that can be loaded."""
    name = checks.word(word, "backend", BACKENDS)
    if name == "auto":
        name = "numba" if find_spec("numba") is not None else "numpy"
    kernels.load(name)
    return name

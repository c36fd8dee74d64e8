"""Which precision and which backend a user's word means."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from . import checks, kernels

BACKENDS = ("numpy", "numba", "cupy", "auto")
DTYPES = ("float32", "float64")
REDUCED = ("tf32", "bfloat16")
"""Precisions of the GPU alone. Parameters, losses and results are float32; products, and with
bfloat16 what lies between the layers, have fewer bits."""


def precision(dtype: Any) -> str:
    """Return the precision that a word or a NumPy dtype means; else a TypeError or ValueError."""
    if isinstance(dtype, str):
        return checks.word(dtype, "dtype", (*DTYPES, *REDUCED))
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = ""
    if name not in DTYPES or dtype is None:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {checks.shown(dtype)}")
    return name


def numbers_of(precision: str) -> np.dtype[Any]:
    """The dtype of a network's parameters and results."""
    return np.dtype("float32" if precision in REDUCED else precision)


def backend(word: Any, precision: str) -> str:
    """The name of a backend that can be loaded and has this precision."""
    name = checks.word(word, "backend", BACKENDS)
    if name == "auto" and precision in REDUCED:
        name = "cupy"
    elif name == "auto":
        name = "numba" if find_spec("numba") is not None else "numpy"
    if precision in REDUCED and name != "cupy":
        raise ValueError(
            f"dtype {precision!r} needs backend 'cupy'; got {name!r}, for which dtype='float32' is"
        )
    kernels.load(name)
    return name


def other_precision(dtype: Any, now: str) -> str:
    """The precision to change to: None changes nothing; others must share the dtype of `now`."""
    name = now if dtype is None else precision(dtype)
    if numbers_of(name) != numbers_of(now):
        raise ValueError(f"dtype must keep the numbers of {now!r} as they are; got {name!r}")
    return name

"""Functions of numbers that several kernels share."""

from __future__ import annotations

import numpy as np

from ..contract import Array


def sigmoid(x: Array) -> Array:
    """1/(1 + exp(-x)), written so that exp never overflows."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, small, 1) / (1 + small))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), written so that exp never overflows."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

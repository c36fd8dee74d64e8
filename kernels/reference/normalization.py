"""Normalization of Z (N, columns) between the product and the activation.

hat (N, columns) is Z with mean 0 and variance 1, spread is 1/sqrt(variance + epsilon): (columns,)
for "batch", (N,) for "layer". Y = scale hat + shift with scale, shift (columns,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..contract import NORMALIZATION_EPSILON, RUNNING_MOMENTUM, Array, Normalization


class Running(NamedTuple):
    """Batch normalization by running statistics, which are constants to the gradient."""

    forward: Callable[..., None]
    """forward(Y, hat, spread, Z, scale, shift, mean, variance)"""
    backward: Callable[..., None]
    """backward(dZ, dscale, dshift, dY, hat, spread, scale)"""
    move: Callable[..., None]
    """move(mean, variance, Z)"""


def _batch_forward(
    Y: Array, hat: Array, spread: Array, Z: Array, scale: Array, shift: Array
) -> None:
    """Normalize each column over the rows (Ioffe & Szegedy 2015, algorithm 1)."""
    spread[...] = 1 / np.sqrt(Z.var(axis=0) + NORMALIZATION_EPSILON)
    hat[...] = (Z - Z.mean(axis=0)) * spread
    Y[...] = hat * scale + shift


def _batch_backward(
    dZ: Array, dscale: Array, dshift: Array, dY: Array, hat: Array, spread: Array, scale: Array
) -> None:
    """dZ = spread (dhat - mean(dhat) - hat mean(dhat hat)), dhat = dY scale, means over rows.

    Source: Ioffe & Szegedy 2015, section 3, with the sums that are zero left out.
    """
    _sums(dscale, dshift, dY, hat)
    dhat = dY * scale
    dZ[...] = spread * (dhat - dhat.mean(axis=0) - hat * (dhat * hat).mean(axis=0))


def _layer_forward(
    Y: Array, hat: Array, spread: Array, Z: Array, scale: Array, shift: Array
) -> None:
    """Normalize each row over its columns (Ba, Kiros & Hinton 2016, equation 4)."""
    spread[...] = 1 / np.sqrt(Z.var(axis=1) + NORMALIZATION_EPSILON)
    hat[...] = (Z - Z.mean(axis=1, keepdims=True)) * spread[:, None]
    Y[...] = hat * scale + shift


def _layer_backward(
    dZ: Array, dscale: Array, dshift: Array, dY: Array, hat: Array, spread: Array, scale: Array
) -> None:
    """dZ = spread (dhat - mean(dhat) - hat mean(dhat hat)), dhat = dY scale, means over columns.

    Source: Ba, Kiros & Hinton 2016, by the chain rule.
    """
    _sums(dscale, dshift, dY, hat)
    dhat = dY * scale
    centre = dhat.mean(axis=1, keepdims=True)
    dZ[...] = spread[:, None] * (dhat - centre - hat * (dhat * hat).mean(axis=1, keepdims=True))


def _running_forward(
    Y: Array,
    hat: Array,
    spread: Array,
    Z: Array,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
) -> None:
    """Batch normalization by a given mean and variance (Ioffe & Szegedy 2015, algorithm 2)."""
    spread[...] = 1 / np.sqrt(variance + NORMALIZATION_EPSILON)
    hat[...] = (Z - mean) * spread
    Y[...] = hat * scale + shift


def _running_backward(
    dZ: Array, dscale: Array, dshift: Array, dY: Array, hat: Array, spread: Array, scale: Array
) -> None:
    """Gradient of `_running_forward`, a fixed affine map: dZ = dY scale spread."""
    _sums(dscale, dshift, dY, hat)
    dZ[...] = dY * scale * spread


def _running_move(mean: Array, variance: Array, Z: Array) -> None:
    """Move the running mean and variance (columns,) towards those of a batch.

    r = (1 - m) r + m new with m = RUNNING_MOMENTUM. The new variance is the unbiased one, with
    n/(n - 1) (Ioffe & Szegedy 2015, algorithm 2, step 10); of a single row, the biased one.
    """
    rows = len(Z)
    mean *= 1 - RUNNING_MOMENTUM
    mean += RUNNING_MOMENTUM * Z.mean(axis=0)
    variance *= 1 - RUNNING_MOMENTUM
    variance += RUNNING_MOMENTUM * (rows / max(rows - 1, 1)) * Z.var(axis=0)


def _sums(dscale: Array, dshift: Array, dY: Array, hat: Array) -> None:
    np.sum(dY * hat, axis=0, out=dscale)
    np.sum(dY, axis=0, out=dshift)


NORMALIZATIONS: Mapping[str, Normalization] = {
    "batch": Normalization(_batch_forward, _batch_backward),
    "layer": Normalization(_layer_forward, _layer_backward),
}

RUNNING = Running(_running_forward, _running_backward, _running_move)

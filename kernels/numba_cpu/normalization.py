"""Batch and layer normalization over panels.

A layer's columns are `pieces` times `units`; each piece fills whole panels, the last one in part.
Sums run over rows, or over a row's columns, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numba.core import types

from ..contract import NORMALIZATION_EPSILON, RUNNING_MOMENTUM, Array, Normalization
from .calls import destination
from .intrinsics import at, fma, lanes, like, pointer_to
from .jit import INTEGER, POINTER, entry, family, inline, prepare
from .products import column_sums, from_panels, to_panels
from .tiles import column_dot
from .updates import root

NONE, BATCH, LAYER = range(3)
CODES = {None: NONE, "batch": BATCH, "layer": LAYER}


@family(types.void, POINTER, POINTER, POINTER, INTEGER)
def column_moments(mean, variance, z, rows):
    """Mean and biased variance of one panel's columns; z is shifted to mean 0."""
    v = lanes(z)
    column_sums(mean, z, 0, rows, 1)
    for j in range(v):
        mean[j] = mean[j] / like(z, rows)
    for r in range(rows):
        for j in range(v):
            z[r * v + j] = z[r * v + j] - mean[j]
    column_dot(variance, z, z, 0, rows, 0)
    for j in range(v):
        variance[j] = variance[j] / like(z, rows)


@inline
def spread_of(variance):
    """1 / sqrt(variance + epsilon)."""
    return like(variance, 1.0) / root(variance + like(variance, NORMALIZATION_EPSILON))


@inline
def move_running(mean, variance, batch_mean, batch_variance, rows):
    """Move running statistics of one panel towards those of a batch."""
    for j in range(lanes(mean)):
        share, rest = like(mean, RUNNING_MOMENTUM), like(mean, 1 - RUNNING_MOMENTUM)
        unbiased = like(mean, rows) / like(mean, max(rows - 1, 1))
        mean[j] = rest * mean[j] + share * batch_mean[j]
        variance[j] = rest * variance[j] + share * (unbiased * batch_variance[j])


@family(types.void, *(POINTER,) * 6, *(INTEGER,) * 4)
def normalize_columns(y, hat, mean, spread, scale, shift, rows, panels, y_stride, stride):
    """hat = (hat - mean) spread in place, y = hat scale + shift, column by column."""
    v = lanes(y)
    for p in range(panels):
        out, h = at(y, p * y_stride), at(hat, p * stride)
        for r in range(rows):
            for j in range(v):
                c = p * v + j
                value = (h[r * v + j] - mean[c]) * spread[c]
                h[r * v + j] = value
                out[r * v + j] = fma(value, scale[c], shift[c])


@inline
def _width(p, unit_panels, units, v):
    return min(v, units - (p % unit_panels) * v)


@family(types.void, *(POINTER,) * 5, *(INTEGER,) * 6)
def normalize_rows(
    y, hat, spread, scale, shift, rows, panels, unit_panels, units, y_stride, stride
):
    """hat = (hat - its row's mean) spread in place, y = hat scale + shift, row by row."""
    v = lanes(y)
    columns = like(y, panels // unit_panels * units)
    for r in range(rows):
        total = like(y, 0.0)
        for p in range(panels):
            h = at(hat, p * stride + r * v)
            for j in range(_width(p, unit_panels, units, v)):
                total += h[j]
        mean = total / columns
        squares = like(y, 0.0)
        for p in range(panels):
            h = at(hat, p * stride + r * v)
            for j in range(_width(p, unit_panels, units, v)):
                squares = fma(h[j] - mean, h[j] - mean, squares)
        spread[r] = spread_of(squares / columns)
        for p in range(panels):
            h, out = at(hat, p * stride + r * v), at(y, p * y_stride + r * v)
            for j in range(v):
                value = (h[j] - mean) * spread[r]
                h[j] = value
                out[j] = fma(value, scale[p * v + j], shift[p * v + j])


@family(types.void, *(POINTER,) * 7, *(INTEGER,) * 4)
def batch_gradient(dz, dy, hat, spread, scale, dscale, dshift, rows, total, panels, stride):
    """dz = spread scale (dy - mean(dy) - hat mean(dy hat)); the sums are dshift and dscale.

    With `total` 0, of running statistics: dz = spread scale dy.
    """
    v = lanes(dz)
    share = like(dz, 0.0)
    if total > 0:
        share = like(dz, 1.0) / like(dz, total)
    for p in range(panels):
        out, d, h = at(dz, p * stride), at(dy, p * stride), at(hat, p * stride)
        for r in range(rows):
            for j in range(v):
                c = p * v + j
                i = r * v + j
                centred = d[i] - share * dshift[c] - h[i] * (share * dscale[c])
                out[i] = spread[c] * scale[c] * centred


@family(types.void, *(POINTER,) * 5, *(INTEGER,) * 5)
def layer_gradient(dz, dy, hat, spread, scale, rows, panels, unit_panels, units, stride):
    """dz = spread (dhat - mean(dhat) - hat mean(dhat hat)), dhat = dy scale, row by row."""
    v = lanes(dz)
    columns = like(dz, panels // unit_panels * units)
    for r in range(rows):
        total, dots = like(dz, 0.0), like(dz, 0.0)
        for p in range(panels):
            d, h = at(dy, p * stride + r * v), at(hat, p * stride + r * v)
            for j in range(_width(p, unit_panels, units, v)):
                dhat = d[j] * scale[p * v + j]
                total += dhat
                dots = fma(dhat, h[j], dots)
        mean, dot = total / columns, dots / columns
        for p in range(panels):
            d, h = at(dy, p * stride + r * v), at(hat, p * stride + r * v)
            out = at(dz, p * stride + r * v)
            for j in range(v):
                dhat = d[j] * scale[p * v + j]
                out[j] = spread[r] * (dhat - mean - h[j] * dot)


@entry
def _forward_entry(code, one, y, hat, mean, spread, scale, shift, rows, panels, columns):
    Y, HAT, SPREAD = pointer_to(one, y), pointer_to(one, hat), pointer_to(one, spread)
    SCALE, SHIFT = pointer_to(one, scale), pointer_to(one, shift)
    v = lanes(Y)
    stride = rows * v
    if code == LAYER:
        normalize_rows(Y, HAT, SPREAD, SCALE, SHIFT, rows, panels, panels, columns, stride, stride)
        return
    MEAN = pointer_to(one, mean)
    for p in range(panels):
        column_moments(at(MEAN, p * v), at(SPREAD, p * v), at(HAT, p * stride), rows)
        for j in range(v):
            MEAN[p * v + j] = like(Y, 0.0)
            SPREAD[p * v + j] = spread_of(SPREAD[p * v + j])
    normalize_columns(Y, HAT, MEAN, SPREAD, SCALE, SHIFT, rows, panels, stride, stride)


@entry
def _backward_entry(code, one, dz, dscale, dshift, dy, hat, spread, scale, rows, panels, columns):
    dZ, dY, HAT = pointer_to(one, dz), pointer_to(one, dy), pointer_to(one, hat)
    SPREAD, SCALE = pointer_to(one, spread), pointer_to(one, scale)
    dSCALE, dSHIFT = pointer_to(one, dscale), pointer_to(one, dshift)
    v = lanes(dZ)
    stride = rows * v
    for p in range(panels):
        run = at(dY, p * stride)
        column_dot(at(dSCALE, p * v), run, at(HAT, p * stride), 0, rows, 0)
        column_sums(at(dSHIFT, p * v), run, 0, rows, 1)
    if code == LAYER:
        layer_gradient(dZ, dY, HAT, SPREAD, SCALE, rows, panels, panels, columns, stride)
    else:
        batch_gradient(dZ, dY, HAT, SPREAD, SCALE, dSCALE, dSHIFT, rows, rows, panels, stride)


def _forward(code: int) -> Callable[..., None]:
    def forward(Y: Array, hat: Array, spread: Array, Z: Array, scale: Array, shift: Array) -> None:
        prepare(Y.dtype.name)
        h = to_panels(Z)
        y, mean = np.empty_like(h), np.empty(h.shape[0] * h.shape[2], Y.dtype)
        factors = [to_panels(x[None, :]) for x in (scale, shift)]
        wide = np.empty(max(mean.size, len(Z)), Y.dtype)
        _forward_entry(
            code,
            Y.dtype.type(1),
            y.ctypes.data,
            h.ctypes.data,
            mean.ctypes.data,
            *(wide.ctypes.data, *(x.ctypes.data for x in factors)),
            len(Z),
            len(h),
            Z.shape[1],
        )
        from_panels(Y, y)
        from_panels(hat, h)
        spread[...] = wide[: len(spread)]

    return forward


def _backward(code: int) -> Callable[..., None]:
    def backward(
        dZ: Array, dscale: Array, dshift: Array, dY: Array, hat: Array, spread: Array, scale: Array
    ) -> None:
        prepare(dZ.dtype.name)
        dy, h = to_panels(dY), to_panels(hat)
        dz = np.empty_like(dy)
        sums = [np.empty((len(dy), 1, dy.shape[2]), dZ.dtype) for _ in range(2)]
        spreads = spread if code == LAYER else to_panels(spread[None, :])
        factors = [np.ascontiguousarray(x) for x in (spreads, to_panels(scale[None, :]))]
        _backward_entry(
            *(code, dZ.dtype.type(1), dz.ctypes.data, *(x.ctypes.data for x in sums)),
            *(x.ctypes.data for x in (dy, h, *factors)),
            len(dZ),
            len(dy),
            dZ.shape[1],
        )
        from_panels(dZ, dz)
        for gradient, total in zip((dscale, dshift), sums, strict=True):
            with destination(gradient) as out:
                from_panels(out[None, :], total)

    return backward


NORMALIZATIONS: Mapping[str, Normalization] = {
    "batch": Normalization(_forward(BATCH), _backward(BATCH)),
    "layer": Normalization(_forward(LAYER), _backward(LAYER)),
}

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
from .intrinsics import at, fma, lanes, own_numbers
from .jit import INTEGER, POINTER, family, inline
from .products import column_products, column_sums, from_panels, to_panels
from .tiles import turn_rows
from .vectors import every, load, square_root, store

NONE, BATCH, LAYER = range(3)
CODES = {None: NONE, "batch": BATCH, "layer": LAYER}
_own_tile = own_numbers(16 * 16)  # the square of the longest vectors


@family(types.void, POINTER, POINTER, POINTER, INTEGER, INTEGER, INTEGER)
def column_moments(mean, variance, z, stride, rows, panels):
    """Mean and biased variance of each column of a few panels; z is shifted to mean 0."""
    v = lanes(z)
    count = every(z, float(rows))
    column_sums(mean, z, stride, rows, panels)
    for p in range(panels):
        middle = load(at(mean, p * v)) / count
        store(at(mean, p * v), middle)
        for r in range(0, rows * v, v):
            x = at(z, p * stride + r)
            store(x, load(x) - middle)
    column_products(variance, z, z, stride, rows, panels)
    for p in range(panels):
        store(at(variance, p * v), load(at(variance, p * v)) / count)


@inline
def to_spread(variance):
    """1 / sqrt(variance + epsilon) in place of a row of variances."""
    shifted = load(variance) + every(variance, NORMALIZATION_EPSILON)
    store(variance, every(variance, 1.0) / square_root(shifted))


@inline
def move_running(mean, variance, batch_mean, batch_variance, rows):
    """Move running statistics of one panel towards those of a batch."""
    share, rest = every(mean, RUNNING_MOMENTUM), every(mean, 1 - RUNNING_MOMENTUM)
    unbiased = every(mean, float(rows)) / every(mean, float(max(rows - 1, 1)))
    store(mean, rest * load(mean) + share * load(batch_mean))
    store(variance, rest * load(variance) + share * (unbiased * load(batch_variance)))


@family(types.void, *(POINTER,) * 6, *(INTEGER,) * 4)
def normalize_columns(y, hat, mean, spread, scale, shift, rows, panels, y_stride, stride):
    """hat = (hat - mean) spread in place, y = hat scale + shift, column by column."""
    v = lanes(y)
    for p in range(panels):
        out, h, c = at(y, p * y_stride), at(hat, p * stride), p * v
        middle, factor = load(at(mean, c)), load(at(spread, c))
        slope, offset = load(at(scale, c)), load(at(shift, c))
        for r in range(0, rows * v, v):
            value = (load(at(h, r)) - middle) * factor
            store(at(h, r), value)
            store(at(out, r), fma(value, slope, offset))


@inline
def _width(p, unit_panels, units, v):
    return min(v, units - (p % unit_panels) * v)


@family(types.void, *(POINTER,) * 5, *(INTEGER,) * 6)
def normalize_rows(
    y, hat, spread, scale, shift, rows, panels, unit_panels, units, y_stride, stride
):
    """hat = (hat - its row's mean) spread in place, y = hat scale + shift, row by row."""
    v, tile = lanes(y), _own_tile(y)
    columns = every(y, float(panels // unit_panels * units))
    for first in range(0, rows, v):
        last = min(v, rows - first) - 1
        total, squares = every(y, 0.0), every(y, 0.0)
        for p in range(panels):
            turn_rows(tile, at(hat, p * stride + first * v), last)
            for j in range(_width(p, unit_panels, units, v)):
                total = total + load(at(tile, j * v))
        mean = total / columns
        for p in range(panels):
            turn_rows(tile, at(hat, p * stride + first * v), last)
            for j in range(_width(p, unit_panels, units, v)):
                gap = load(at(tile, j * v)) - mean
                squares = fma(gap, gap, squares)
        store(tile, mean)
        spreads = at(tile, v)
        store(spreads, squares / columns)
        to_spread(spreads)
        for r in range(last + 1):
            spread[first + r] = spreads[r]
        for p in range(panels):
            slope, offset = load(at(scale, p * v)), load(at(shift, p * v))
            h, out = at(hat, p * stride + first * v), at(y, p * y_stride + first * v)
            for r in range(last + 1):
                value = (load(at(h, r * v)) - every(y, tile[r])) * every(y, spread[first + r])
                store(at(h, r * v), value)
                store(at(out, r * v), fma(value, slope, offset))


@family(types.void, *(POINTER,) * 7, *(INTEGER,) * 4)
def batch_gradient(dz, dy, hat, spread, scale, dscale, dshift, rows, total, panels, stride):
    """dz = spread scale (dy - mean(dy) - hat mean(dy hat)); the sums are dshift and dscale.

    With `total` 0, of running statistics: dz = spread scale dy.
    """
    v = lanes(dz)
    share = every(dz, 1.0) / every(dz, float(total)) if total > 0 else every(dz, 0.0)
    for p in range(panels):
        out, d, h, c = at(dz, p * stride), at(dy, p * stride), at(hat, p * stride), p * v
        mean, dot = share * load(at(dshift, c)), share * load(at(dscale, c))
        factor = load(at(spread, c)) * load(at(scale, c))
        for r in range(0, rows * v, v):
            store(at(out, r), factor * (load(at(d, r)) - mean - load(at(h, r)) * dot))


@family(types.void, *(POINTER,) * 5, *(INTEGER,) * 5)
def layer_gradient(dz, dy, hat, spread, scale, rows, panels, unit_panels, units, stride):
    """dz = spread (dhat - mean(dhat) - hat mean(dhat hat)), dhat = dy scale, row by row."""
    v, tile, other = lanes(dz), _own_tile(dz), _own_tile(dz)
    columns = every(dz, float(panels // unit_panels * units))
    for first in range(0, rows, v):
        last = min(v, rows - first) - 1
        total, dots = every(dz, 0.0), every(dz, 0.0)
        for p in range(panels):
            turn_rows(tile, at(dy, p * stride + first * v), last)
            turn_rows(other, at(hat, p * stride + first * v), last)
            for j in range(_width(p, unit_panels, units, v)):
                dhat = load(at(tile, j * v)) * every(dz, scale[p * v + j])
                total = total + dhat
                dots = fma(dhat, load(at(other, j * v)), dots)
        store(tile, total / columns)
        store(other, dots / columns)
        for p in range(panels):
            place, slope = p * stride + first * v, load(at(scale, p * v))
            d, h, out = at(dy, place), at(hat, place), at(dz, place)
            for r in range(last + 1):
                dhat = load(at(d, r * v)) * slope
                rest = dhat - every(dz, tile[r]) - load(at(h, r * v)) * every(dz, other[r])
                store(at(out, r * v), every(dz, spread[first + r]) * rest)


@family(types.void, INTEGER, *(POINTER,) * 6, *(INTEGER,) * 3, on_demand=True)
def normalization_forward(code, y, hat, mean, spread, scale, shift, rows, panels, columns):
    """Normalize the panels of a whole matrix, which `hat` holds before and after."""
    v = lanes(y)
    stride = rows * v
    if code == LAYER:
        normalize_rows(y, hat, spread, scale, shift, rows, panels, panels, columns, stride, stride)
        return
    for p in range(panels):
        column_moments(at(mean, p * v), at(spread, p * v), at(hat, p * stride), stride, rows, 1)
        store(at(mean, p * v), every(y, 0.0))
        to_spread(at(spread, p * v))
    normalize_columns(y, hat, mean, spread, scale, shift, rows, panels, stride, stride)


@family(types.void, INTEGER, *(POINTER,) * 7, *(INTEGER,) * 3, on_demand=True)
def normalization_backward(code, dz, dscale, dshift, dy, hat, spread, scale, rows, panels, columns):
    """The gradients by the panels of a whole matrix, by scale and by shift."""
    v = lanes(dz)
    stride = rows * v
    for p in range(panels):
        run = at(dy, p * stride)
        column_products(at(dscale, p * v), run, at(hat, p * stride), 0, rows, 1)
        column_sums(at(dshift, p * v), run, 0, rows, 1)
    if code == LAYER:
        layer_gradient(dz, dy, hat, spread, scale, rows, panels, panels, columns, stride)
    else:
        batch_gradient(dz, dy, hat, spread, scale, dscale, dshift, rows, rows, panels, stride)


def _forward(code: int) -> Callable[..., None]:
    def forward(Y: Array, hat: Array, spread: Array, Z: Array, scale: Array, shift: Array) -> None:
        h = to_panels(Z)
        y, mean = np.empty_like(h), np.empty(h.shape[0] * h.shape[2], Y.dtype)
        factors = [to_panels(x[None, :]) for x in (scale, shift)]
        wide = np.empty(max(mean.size, len(Z)), Y.dtype)
        normalization_forward.of(Y.dtype.name)(
            code,
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
        dy, h = to_panels(dY), to_panels(hat)
        dz = np.empty_like(dy)
        sums = [np.empty((len(dy), 1, dy.shape[2]), dZ.dtype) for _ in range(2)]
        spreads = spread if code == LAYER else to_panels(spread[None, :])
        factors = [np.ascontiguousarray(x) for x in (spreads, to_panels(scale[None, :]))]
        normalization_backward.of(dZ.dtype.name)(
            code,
            *(x.ctypes.data for x in (dz, *sums, dy, h, *factors)),
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

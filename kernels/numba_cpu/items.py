"""What happens to items: square tiles of the weights, and columns with all that belongs to them.

Items count from the first layer to the last: a layer's tiles, then its panels of columns. A
thread's share is a range of items, which is at most two runs of each vector per layer.
"""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import fields
from .intrinsics import at, lanes, like
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .memory import layer_of, parameter
from .normalization import BATCH, NONE, column_moments, move_running, spread_of
from .products import transpose_tiles, weight_tiles
from .tiles import column_absolute, column_dot, column_sum
from .updates import update_run


@inline
def run_of(position, count, first, stop):
    """The part of first ... stop that lies in the `count` items from `position` on."""
    return max(first - position, 0), min(stop - position, count)


@family(types.void, POINTER, INTEGERS, DOUBLES, REAL, INTEGER, INTEGER, INTEGER, INTEGER)
def gradient_items(m, t, f, share, training, rows, first, stop):
    """Gradients of items first ... stop of all layers; `share` multiplies the penalty."""
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[fields.IN_PANELS] * layer[fields.PANELS]
        low, high = run_of(position, tiles, first, stop)
        if low < high:
            g = at(m, t[fields.GRADIENT] + layer[fields.W])
            weight_tiles(
                g,
                at(m, layer[fields.LAYER_INPUT]),
                stride,
                at(m, layer[fields.DZ]),
                stride,
                rows,
                layer[fields.IN_PANELS],
                low,
                high,
            )
            if t[fields.PENALIZED]:
                w = parameter(m, t, layer[fields.W])
                l1, l2 = share * like(m, f[fields.L1]), share * like(m, f[fields.L2])
                _add_penalty(at(g, low * v * v), at(w, low * v * v), l1, l2, (high - low) * v * v)
        position += tiles
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        for p in range(low, high):
            _column_gradients(m, t, layer, p, training, rows)
        position += layer[fields.PANELS]


@inline
def _add_penalty(g, w, l1, l2, n):
    zero = like(g, 0.0)
    for i in range(n):
        sign = l1 if w[i] > zero else (-l1 if w[i] < zero else zero)
        g[i] = g[i] + sign + l2 * w[i]


@inline
def _column_gradients(m, t, layer, p, training, rows):
    """Gradients of one panel's biases and other per-column parameters.

    A bias before batch statistics has gradient 0; its rounding noise would become whole steps of
    Adam.
    """
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    g = at(m, t[fields.GRADIENT] + p * v)
    if training and layer[fields.NORM] == BATCH:
        for j in range(v):
            g[layer[fields.B] + j] = like(m, 0.0)
    else:
        _columns(at(g, layer[fields.B]), at(m, layer[fields.DZ] + p * stride), rows)
        if layer[fields.NORM] != NONE:
            normalization_columns(m, t, layer, p, rows)
    if layer[fields.U] != layer[fields.B]:
        _columns(at(g, layer[fields.U]), at(m, layer[fields.DU] + p * stride), rows)
    if layer[fields.V] != layer[fields.B]:
        _columns(at(g, layer[fields.V]), at(m, layer[fields.DV] + p * stride), rows)


@inline
def _columns(out, x, rows):
    column_sum(out, x, x, rows)


@inline
def normalization_columns(m, t, layer, p, rows):
    """Gradients of scale and shift; batch normalization needs them before its own."""
    v = lanes(m)
    place = p * t[fields.CAPACITY] * v
    g = at(m, t[fields.GRADIENT] + p * v)
    dy = at(m, layer[fields.DY] + place)
    column_dot(at(g, layer[fields.SCALE]), dy, at(m, layer[fields.HAT] + place), rows)
    _columns(at(g, layer[fields.SHIFT]), dy, rows)


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER)
def moment_panels(m, t, number, rows, first, stop):
    """Batch mean and spread of panels first ... stop of a layer; running statistics follow."""
    v = lanes(m)
    layer = layer_of(t, number)
    for p in range(first, stop):
        mean, spread = at(m, layer[fields.MEAN] + p * v), at(m, layer[fields.SPREAD] + p * v)
        column_moments(mean, spread, at(m, layer[fields.HAT] + p * t[fields.CAPACITY] * v), rows)
        if t[fields.TRAINING] == fields.UPDATING:
            move_running(
                at(m, layer[fields.RUNNING_MEAN] + p * v),
                at(m, layer[fields.RUNNING_VARIANCE] + p * v),
                mean,
                spread,
                rows,
            )
        for j in range(v):
            mean[j] = like(m, 0.0)
            spread[j] = spread_of(spread[j])


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER)
def penalty_columns(m, t, first, stop):
    """Per column of items first ... stop: sums of |W| and W^2 down the rows."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        position += layer[fields.IN_PANELS] * layer[fields.PANELS]
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        for p in range(low, high):
            w = parameter(m, t, layer[fields.W] + p * layer[fields.IN_PANELS] * v * v)
            column_absolute(at(m, layer[fields.SUMS] + p * v), w, w, layer[fields.INPUTS])
            column_dot(at(m, layer[fields.SQUARES] + p * v), w, w, layer[fields.INPUTS])
        position += layer[fields.PANELS]


@family(types.float64, POINTER, INTEGERS, INTEGER)
def summed_columns(m, t, field):
    """The column sums of all layers in one number, column by column."""
    total = 0.0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        for piece in range(layer[fields.PIECES]):
            run = at(m, layer[field] + piece * layer[fields.UNIT_PANELS] * lanes(m))
            for j in range(layer[fields.UNITS]):
                total += run[j]
    return total


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER)
def squared_gradients(m, t, f, first, stop):
    """Per column of items first ... stop: the sum of the gradient's squares.

    In float64: what is to be clipped may be too large for a square in float32.
    """
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        position += layer[fields.IN_PANELS] * layer[fields.PANELS]
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        for p in range(low, high):
            sums = at(f, layer[fields.SQUARED_GRADIENT] + p * v)
            for j in range(v):
                sums[j] = 0.0
            g = at(m, t[fields.GRADIENT])
            weights = layer[fields.W] + p * layer[fields.IN_PANELS] * v * v
            _add_squares(sums, at(g, weights), layer[fields.INPUTS], v)
            for k in range(layer[fields.VECTORS]):
                _add_squares(sums, at(g, layer[fields.VECTOR + k] + p * v), 1, v)
        position += layer[fields.PANELS]


@inline
def _add_squares(sums, x, rows, v):
    for r in range(rows):
        for j in range(v):
            wide = np.float64(x[r * v + j])
            sums[j] += wide * wide


@inline
def summed_gradients(t, f, v):
    """The sum of the gradient's squares, column by column; padding is zero."""
    total = 0.0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        for piece in range(layer[fields.PIECES]):
            run = at(f, layer[fields.SQUARED_GRADIENT] + piece * layer[fields.UNIT_PANELS] * v)
            for j in range(layer[fields.UNITS]):
                total += run[j]
    return total


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER)
def clip_items(m, t, f, first, stop):
    """Cut every entry of the gradient of items first ... stop to the largest value."""
    v = lanes(m)
    limit = like(m, f[fields.CLIP_VALUE])
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[fields.IN_PANELS] * layer[fields.PANELS]
        low, high = run_of(position, tiles, first, stop)
        if low < high:
            _clip(
                at(m, t[fields.GRADIENT] + layer[fields.W] + low * v * v),
                limit,
                (high - low) * v * v,
            )
        position += tiles
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        if low < high:
            for k in range(layer[fields.VECTORS]):
                g = at(m, t[fields.GRADIENT] + layer[fields.VECTOR + k] + low * v)
                _clip(g, limit, (high - low) * v)
        position += layer[fields.PANELS]


@inline
def _clip(g, limit, n):
    for i in range(n):
        x = g[i]
        g[i] = limit if x > limit else (-limit if x < -limit else x)


@inline
def _update(m, t, offset, numbers, factor, n):
    """Update n parameters from an offset of the flat vector on."""
    g = at(m, t[fields.GRADIENT] + offset)
    if factor != 1.0:
        scale = like(m, factor)
        for i in range(n):
            g[i] = g[i] * scale
    update_run(
        t[fields.UPDATE],
        parameter(m, t, offset),
        at(m, t[fields.SLOT_U] + offset),
        at(m, t[fields.SLOT_V] + offset),
        g,
        numbers,
        n,
    )


@family(types.void, POINTER, INTEGERS, DOUBLES, DOUBLES, types.float64, INTEGER, INTEGER)
def update_items(m, t, decaying, plain, factor, first, stop):
    """Update items first ... stop by the gradient times `factor`, and the transposed weights.

    Weights are updated with the numbers `decaying`, all else with `plain`.
    """
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[fields.IN_PANELS] * layer[fields.PANELS]
        low, high = run_of(position, tiles, first, stop)
        if low < high:
            _update(m, t, layer[fields.W] + low * v * v, decaying, factor, (high - low) * v * v)
            if number > 0:
                w = parameter(m, t, layer[fields.W])
                transpose_tiles(
                    at(m, layer[fields.WT]),
                    w,
                    layer[fields.IN_PANELS],
                    layer[fields.PANELS],
                    low,
                    high,
                )
        position += tiles
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        if low < high:
            for k in range(layer[fields.VECTORS]):
                _update(m, t, layer[fields.VECTOR + k] + low * v, plain, factor, (high - low) * v)
            if layer[fields.BETA]:
                _raise_to_floor(parameter(m, t, layer[fields.V] + low * v), (high - low) * v)
        position += layer[fields.PANELS]


@inline
def _raise_to_floor(p, n):
    floor = like(p, fields.BETA_FLOOR)
    for i in range(n):
        p[i] = floor if p[i] < floor else p[i]


@family(types.void, POINTER, INTEGERS)
def transpose_weights(m, t):
    """Copy all weights transposed; later each update keeps its own tiles in step."""
    for number in range(1, t[fields.LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[fields.IN_PANELS] * layer[fields.PANELS]
        w = parameter(m, t, layer[fields.W])
        transpose_tiles(
            at(m, layer[fields.WT]), w, layer[fields.IN_PANELS], layer[fields.PANELS], 0, tiles
        )


@family(types.void, POINTER, INTEGERS)
def spread_running(m, t):
    """1/sqrt of the running variances, for inference."""
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        if layer[fields.NORM] == BATCH:
            for j in range(layer[fields.PANELS] * lanes(m)):
                m[layer[fields.RUNNING_SPREAD] + j] = spread_of(
                    m[layer[fields.RUNNING_VARIANCE] + j]
                )

"""What belongs to whole columns: biases, normalization, sums down a column of weights.

Work is shared out by panels of columns, counted from the first layer to the last.
"""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import fields
from .intrinsics import at, lanes, like
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .memory import layer_of, parameter, run_of
from .normalization import BATCH, NONE, column_moments, move_running, to_spread
from .products import column_products, column_sums
from .tiles import TILE_PANELS, column_absolute, column_dot
from .updates import trust_ratio, trust_run
from .vectors import every, load, store


@inline
def column_gradients(m, t, layer, first, stop, training, rows):
    """Gradients of biases and other per-column parameters of panels first ... stop.

    A bias before batch statistics has gradient 0; its rounding noise would become whole steps of
    Adam.
    """
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    g, place, panels = at(m, t[fields.GRADIENT] + first * v), first * stride, stop - first
    if training and layer[fields.NORM] == BATCH:
        for j in range(panels * v):
            g[layer[fields.B] + j] = like(m, 0.0)
    else:
        column_sums(at(g, layer[fields.B]), at(m, layer[fields.DZ] + place), stride, rows, panels)
        if layer[fields.NORM] != NONE:
            normalization_columns(m, t, layer, first, stop, rows)
    if layer[fields.U] != layer[fields.B]:
        column_sums(at(g, layer[fields.U]), at(m, layer[fields.DU] + place), stride, rows, panels)
    if layer[fields.V] != layer[fields.B]:
        column_sums(at(g, layer[fields.V]), at(m, layer[fields.DV] + place), stride, rows, panels)


@inline
def normalization_columns(m, t, layer, first, stop, rows):
    """Gradients of scale and shift of a few panels; batch normalization needs them first."""
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    g = at(m, t[fields.GRADIENT] + first * v)
    dy, hat = at(m, layer[fields.DY] + first * stride), at(m, layer[fields.HAT] + first * stride)
    column_products(at(g, layer[fields.SCALE]), dy, hat, stride, rows, stop - first)
    column_sums(at(g, layer[fields.SHIFT]), dy, stride, rows, stop - first)


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER)
def moment_panels(m, t, number, rows, first, stop):
    """Batch mean and spread of a few panels of a layer; running statistics follow."""
    v = lanes(m)
    layer, stride = layer_of(t, number), t[fields.CAPACITY] * v
    mean, spread = at(m, layer[fields.MEAN] + first * v), at(m, layer[fields.SPREAD] + first * v)
    hat = at(m, layer[fields.HAT] + first * stride)
    column_moments(mean, spread, hat, stride, rows, stop - first)
    for p in range(stop - first):
        if t[fields.TRAINING] == fields.UPDATING:
            move_running(
                at(m, layer[fields.RUNNING_MEAN] + (first + p) * v),
                at(m, layer[fields.RUNNING_VARIANCE] + (first + p) * v),
                at(mean, p * v),
                at(spread, p * v),
                rows,
            )
        store(at(mean, p * v), every(m, 0.0))
        to_spread(at(spread, p * v))


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER)
def penalty_columns(m, t, first, stop):
    """Per column of panels first ... stop of all layers: sums of |W| and W^2 down the rows."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        panel, inputs = layer[fields.IN_PANELS] * v * v, layer[fields.INPUTS]
        for p in range(low, high, TILE_PANELS):
            w, last = parameter(m, t, layer[fields.W] + p * panel), min(high - p, TILE_PANELS) - 1
            column_absolute(at(m, layer[fields.SUMS] + p * v), w, w, panel, inputs, last)
            column_dot(at(m, layer[fields.SQUARES] + p * v), w, w, panel, inputs, last)
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
    """Per column of panels first ... stop of all layers: the sum of the gradient's squares.

    In float64: what is to be clipped may be too large for a square in float32.
    """
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
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


@family(types.void, POINTER, INTEGERS, DOUBLES, DOUBLES, REAL, INTEGER, INTEGER)
def trust_columns(m, t, f, numbers, factor, first, stop):
    """`trust_run` for the weights of panels first ... stop of all layers."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        low, high = run_of(position, layer[fields.PANELS], first, stop)
        for p in range(low, high):
            offset = layer[fields.W] + p * layer[fields.IN_PANELS] * v * v
            trust_run(
                t[fields.UPDATE],
                parameter(m, t, offset),
                at(m, t[fields.SLOT_U] + offset),
                at(m, t[fields.SLOT_V] + offset),
                at(m, t[fields.GRADIENT] + offset),
                factor,
                numbers,
                at(f, layer[fields.TRUST_SQUARES] + 2 * p * v),
                layer[fields.INPUTS],
                v,
            )
        position += layer[fields.PANELS]


@family(types.float64, POINTER, INTEGERS, INTEGERS, DOUBLES, DOUBLES)
def layer_trust(m, t, layer, f, numbers):
    """The trust ratio of a layer's weights: its sums of squares added column by column."""
    v = lanes(m)
    squared_p, squared_way = 0.0, 0.0
    for piece in range(layer[fields.PIECES]):
        for j in range(layer[fields.UNITS]):
            panel = piece * layer[fields.UNIT_PANELS] + j // v
            run = at(f, layer[fields.TRUST_SQUARES] + 2 * panel * v + j % v)
            squared_p += run[0]
            squared_way += run[v]
    return trust_ratio(t[fields.UPDATE], numbers, squared_p, squared_way)


@family(types.void, POINTER, INTEGERS)
def spread_running(m, t):
    """1/sqrt of the running variances, for inference."""
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        if layer[fields.NORM] == BATCH:
            v = lanes(m)
            for c in range(0, layer[fields.PANELS] * v, v):
                spread = at(m, layer[fields.RUNNING_SPREAD] + c)
                store(spread, load(at(m, layer[fields.RUNNING_VARIANCE] + c)))
                to_spread(spread)

"""What happens to a block of rows on the way forward: gather, layers, loss.

m is the plan's memory, t its table, f its numbers; r0 is the block's first place in the buffers
and n its rows, at most fields.BLOCK_ROWS of the table. Row by row, so any thread may do it.
"""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import activations as act
from . import fields, losses
from .activations import activation_forward, maxout_forward, softmax_forward
from .intrinsics import at, copy_vector, integers_at, lanes, like, pointer_to, prefetch
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .losses import loss_terms, row_sums, softmax_cross_entropy
from .memory import activation_input, layer_of, parameter, scratch_of
from .normalization import LAYER, NONE, normalize_columns, normalize_rows
from .products import product
from .random import dropout_block, shuffled_run
from .rows import OWN, convert_row, row_address, row_at
from .team import halting
from .vectors import every, load, store


@inline
def _order_run(t, round_keys, first, stop):
    """`order_rows` for places that lie side by side in the ring."""
    ring = t[fields.RING]
    mine = at(integers_at(t[fields.LISTED_ROWS]), first & (ring - 1))
    if t[fields.ORDER] == fields.KEYED:
        shuffled_run(mine, at(mine, ring), first, stop - first, t[fields.ROWS], round_keys)
    else:
        index = at(integers_at(t[fields.INDEX]), first)
        for i in range(stop - first):
            mine[i] = index[i]


@family(types.void, POINTER, INTEGERS, INTEGERS, INTEGER, INTEGER, early=True)
def order_rows(m, t, round_keys, first, stop):
    """List the rows at places first ... stop of the order, at most a ring of them, for `row_at`."""
    if t[fields.ORDER] == fields.SEQUENCE or stop <= first:
        return
    edge = min((first | (t[fields.RING] - 1)) + 1, stop)
    _order_run(t, round_keys, first, edge)
    if edge < stop:
        _order_run(t, round_keys, edge, stop)


@inline
def order_ahead(m, t, round_keys, listed, stop):
    """See to it that the order is listed up to `stop` where it is up to `listed`; one thread."""
    if stop > listed:
        batches = max(fields.LISTED_AHEAD // t[fields.BATCH_ROWS], 1)
        end = (t[fields.FIRST] + t[fields.COUNT]) * t[fields.BATCH_ROWS]
        stop = min(listed + batches * t[fields.BATCH_ROWS], end, t[fields.ROWS])
        order_rows(m, t, round_keys, listed, stop)
        return stop
    return listed


@inline
def prefetch_rows(m, t, one, start, first, stop):
    """Ask for rows at places start + first ... start + stop, which the next batch will read."""
    size = t[fields.ROW_BYTES]
    for r in range(first, stop):
        row = row_address(t, row_at(t, start + r))
        for byte in range(0, size, fields.CACHE_LINE):
            prefetch(pointer_to(one, row + byte))


@inline
def gather_target(m, t, one, row, r):
    """Copy target and sample weight of a row to place r of the buffers.

    A class that does not exist makes the target NaN, and so the loss.
    """
    v = lanes(m)
    last = layer_of(t, t[fields.LAYERS] - 1)
    units, stride = last[fields.UNITS], t[fields.CAPACITY] * v
    if t[fields.SAMPLE_WEIGHTS]:
        m[t[fields.WEIGHTS] + r] = pointer_to(one, t[fields.SAMPLE_WEIGHTS])[row]
    goal = at(m, t[fields.TARGETS] + r * v)
    if t[fields.LABELS]:
        for p in range(last[fields.UNIT_PANELS]):
            store(at(goal, p * stride), every(m, 0.0))
        label = integers_at(t[fields.LABELS])[row]
        known = 0 <= label < units
        place = label if known else 0
        goal[(place // v) * stride + place % v] = one if known else like(m, np.nan)
    elif t[fields.DENSE]:
        dense = at(pointer_to(one, t[fields.DENSE]), row * units)
        for j in range(units):
            goal[(j // v) * stride + j % v] = dense[j]


@inline
def _copy_row(target, stride, source, inputs):
    v = lanes(target)
    for p in range(inputs // v):
        copy_vector(at(target, p * stride), at(source, p * v))
    for j in range(inputs - inputs % v, inputs):
        target[(j // v) * stride + j % v] = source[j]


@family(types.void, POINTER, INTEGERS, REAL, INTEGER, INTEGER, INTEGER)
def gather_rows(m, t, one, start, first, stop):
    """Copy the rows at places start + first ... start + stop of the order into the buffers.

    Inputs go to panels, converted where they are in another precision; targets to panels of the
    outputs (class indices as one-hot rows).
    """
    v, kind = lanes(m), t[fields.ROW_KIND]
    inputs, stride = layer_of(t, 0)[fields.INPUTS], t[fields.CAPACITY] * v
    x = pointer_to(one, t[fields.X])
    for r in range(first, stop):
        row = row_at(t, start + r)
        if kind == OWN:
            _copy_row(at(m, t[fields.INPUT] + r * v), stride, at(x, row * inputs), inputs)
        gather_target(m, t, one, row, r)
    if kind != OWN:
        for r in range(first, stop):
            source = row_address(t, row_at(t, start + r))
            convert_row(at(m, t[fields.INPUT] + r * v), stride, source, inputs, kind)


@inline
def _normalized(m, t, layer, y, y_stride, r0, n, training):
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    hat, panels = at(m, layer[fields.HAT] + r0 * v), layer[fields.PANELS]
    scale, shift = parameter(m, t, layer[fields.SCALE]), parameter(m, t, layer[fields.SHIFT])
    if layer[fields.NORM] == LAYER:
        normalize_rows(
            y,
            hat,
            at(m, layer[fields.ROW_SPREAD] + r0),
            scale,
            shift,
            n,
            panels,
            layer[fields.UNIT_PANELS],
            layer[fields.UNITS],
            y_stride,
            stride,
        )
        return
    mean = layer[fields.MEAN] if training else layer[fields.RUNNING_MEAN]
    spread = layer[fields.SPREAD] if training else layer[fields.RUNNING_SPREAD]
    normalize_columns(y, hat, at(m, mean), at(m, spread), scale, shift, n, panels, y_stride, stride)


@inline
def _activated(m, t, f, number, layer, y, y_stride, r0, n):
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    code, a = layer[fields.ACTIVATION], at(m, layer[fields.A] + r0 * v)
    constant = like(m, f[fields.NUMBERS + number * fields.LAYER_NUMBERS])
    if code == act.SOFTMAX:
        softmax_forward(a, y, n, layer[fields.UNITS], stride)
    elif code == act.MAXOUT:
        for p in range(layer[fields.UNIT_PANELS]):
            piece = layer[fields.UNIT_PANELS] * y_stride
            maxout_forward(
                at(a, p * stride), at(y, p * y_stride), n * v, layer[fields.PIECES], piece
            )
    else:
        u, w = parameter(m, t, layer[fields.U]), parameter(m, t, layer[fields.V])
        for p in range(layer[fields.PANELS]):
            activation_forward(
                code,
                constant,
                at(u, p * v),
                at(w, p * v),
                at(a, p * stride),
                at(y, p * y_stride),
                n * v,
                v,
            )


@inline
def _dropped(m, t, f, number, layer, r0, n, training, key, step):
    v = lanes(m)
    kept = like(m, f[fields.NUMBERS + number * fields.LAYER_NUMBERS + 1])
    for p in range(layer[fields.UNIT_PANELS]):
        place = (p * t[fields.CAPACITY] + r0) * v
        mask = at(m, layer[fields.MASK] + place)
        a, out = at(m, layer[fields.A] + place), at(m, layer[fields.OUTPUT] + place)
        if training:
            units = min(v, layer[fields.UNITS] - p * v)
            dropout_block(
                mask, key, step, number, kept, layer[fields.THRESHOLD], r0, n, p * v, units, v
            )
            for i in range(n * v):
                out[i] = a[i] * mask[i]
        else:
            for i in range(n * v):
                out[i] = a[i]


@family(types.void, POINTER, INTEGERS, DOUBLES, *(INTEGER,) * 10)
def forward_block(m, t, f, first, resumed, stop, r0, n, thread, training, finish, key, step):
    """Layers `first` ... of a block, up to the product of layer `stop` or to the end.

    `resumed`: the product of layer `first` is there already. Without `finish` the last
    activation is left out, for a loss that is computed from the logits.
    """
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    for number in range(first, t[fields.LAYERS]):
        if halting(t):
            return
        layer = layer_of(t, number)
        y, y_stride = activation_input(m, t, layer, thread, r0)
        normal = layer[fields.NORM] != NONE
        z = at(m, layer[fields.HAT] + r0 * v) if normal else y
        z_stride = stride if normal else y_stride
        if not (resumed and number == first):
            product(
                z,
                z_stride,
                at(m, layer[fields.LAYER_INPUT] + r0 * v),
                stride,
                parameter(m, t, layer[fields.W]),
                layer[fields.IN_PANELS] * v * v,
                parameter(m, t, layer[fields.B]),
                n,
                layer[fields.INPUTS],
                layer[fields.PANELS],
            )
            if number == stop:
                return
        if normal:
            _normalized(m, t, layer, y, y_stride, r0, n, training)
        if finish or number < t[fields.LAYERS] - 1:
            _activated(m, t, f, number, layer, y, y_stride, r0, n)
        if layer[fields.DROPS]:
            _dropped(m, t, f, number, layer, r0, n, training, key, step)


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER, INTEGER)
def loss_block(m, t, f, r0, n, thread):
    """Each row's loss, and its gradient by the outputs, or for a joined loss by the logits."""
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    layer = layer_of(t, t[fields.LAYERS] - 1)
    target = at(m, t[fields.TARGETS] + r0 * v)
    out = at(m, t[fields.ROW_LOSSES] + r0)
    scratch = scratch_of(m, t, thread)
    source = at(m, (layer[fields.Y] if t[fields.JOINED] else layer[fields.A]) + r0 * v)
    d = at(m, layer[fields.DY] + r0 * v) if t[fields.JOINED] else at(scratch, t[fields.SCRATCH_DA])
    d_stride = stride if t[fields.JOINED] else t[fields.BLOCK_ROWS] * v
    if t[fields.LOSS] == losses.CROSS_ENTROPY_SOFTMAX:
        totals = at(scratch, t[fields.SCRATCH_TERMS])
        softmax_cross_entropy(
            out, totals, d, source, target, n, layer[fields.UNITS], d_stride, stride
        )
    else:
        terms = at(scratch, t[fields.SCRATCH_TERMS])
        constant, tiny = like(m, f[fields.LOSS_CONSTANT]), like(m, f[fields.TINY])
        for p in range(layer[fields.UNIT_PANELS]):
            loss_terms(
                t[fields.LOSS],
                constant,
                tiny,
                like(m, f[fields.EPSILON]),
                at(terms, p * t[fields.BLOCK_ROWS] * v),
                at(d, p * d_stride),
                at(source, p * stride),
                at(target, p * stride),
                n * v,
                layer[fields.UNITS],
            )
        row_sums(out, terms, n, layer[fields.UNITS], t[fields.BLOCK_ROWS] * v)
    factors = at(m, t[fields.FACTORS] + r0)
    for p in range(layer[fields.UNIT_PANELS]):
        for r in range(n):
            row = at(d, p * d_stride + r * v)
            store(row, load(row) * every(d, factors[r]))

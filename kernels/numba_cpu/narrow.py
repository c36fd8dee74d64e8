"""Training of tiny networks: no layer wider than `WIDTH` units, a row of each in a few numbers.

In panels such a network is mostly padding. Here its rows lie `WIDTH` numbers apart, all parameters
in one short vector with one update, and one function sees to whole batches. The same numbers in
the same order as in `phases`, so the choice between the two changes no bit.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from . import fields
from .activations import activation_backward, activation_forward
from .forward_rows import order_ahead
from .intrinsics import (
    at,
    integers_at,
    lanes,
    like,
    llvm_vector,
    pointer_to,
    restore_tiny,
    store_vector,
    tiny_to_zero,
)
from .items import transpose_weights
from .jit import DOUBLES, INTEGERS, POINTER, family, inline
from .keeping import keep_all, look_at_run
from .losses import CROSS_ENTROPY_SOFTMAX, loss_terms, row_sum_rows, softmax_cross_entropy_rows
from .memory import layer_of, scratch_of
from .random import fill_round_keys
from .rows import OWN, convert_row, row_address, row_at
from .tiles import product_tile, weight_tile_of
from .updates import fill_numbers, update_run
from .vectors import filler, loader, product_or_zero, store

WIDTH = fields.NARROW_WIDTH
_tile, _weight_tile = product_tile(4, 1, WIDTH), weight_tile_of(WIDTH, 1, WIDTH, asking=False)
# As loops over WIDTH numbers, what these do took 2-2-2 with 4 rows from 0.46 to 0.56 us.
_load, _every = loader(WIDTH), filler(WIDTH)


@intrinsic
def _one_hot_row(typingctx, out, label):
    """out = 1 at the place `label`, else 0."""
    real = out.dtype

    def codegen(context, builder, sig, args):
        out, label = args
        kind = ir.VectorType(ir.IntType(64), WIDTH)
        first = builder.insert_element(
            ir.Constant(kind, ir.Undefined), label, ir.Constant(ir.IntType(32), 0)
        )
        everywhere = builder.shuffle_vector(
            first, ir.Constant(kind, ir.Undefined), ir.VectorType(ir.IntType(32), WIDTH)(None)
        )
        hot = builder.icmp_signed("==", everywhere, ir.Constant(kind, list(range(WIDTH))))
        row = builder.uitofp(hot, llvm_vector(real, WIDTH))
        store_vector(builder, real, row, out)
        return context.get_dummy_value()

    return types.void(out, types.int64), codegen


@inline
def _packed(m, t, vector, narrow):
    """Copy a flat vector from its panels to `narrow`, layer by layer weights, then biases."""
    v = lanes(m)
    place = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        panel = layer[fields.IN_PANELS] * v * v
        for j in range(WIDTH):
            given = j < layer[fields.UNITS]
            column = at(m, vector + layer[fields.W] + (j // v) * panel + j % v)
            for k in range(layer[fields.INPUTS]):
                narrow[place + k * WIDTH + j] = column[k * v] if given else like(m, 0.0)
            bias = m[vector + layer[fields.B] + j] if given else like(m, 0.0)
            narrow[place + layer[fields.INPUTS] * WIDTH + j] = bias
        place += (layer[fields.INPUTS] + 1) * WIDTH
    return place


@inline
def _unpacked(m, t, vector, narrow):
    """Copy `narrow` back to the panels of a flat vector."""
    v = lanes(m)
    place = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        panel = layer[fields.IN_PANELS] * v * v
        for j in range(layer[fields.UNITS]):
            column = at(m, vector + layer[fields.W] + (j // v) * panel + j % v)
            for k in range(layer[fields.INPUTS]):
                column[k * v] = narrow[place + k * WIDTH + j]
            bias = narrow[place + layer[fields.INPUTS] * WIDTH + j]
            m[vector + layer[fields.B] + j] = bias
        place += (layer[fields.INPUTS] + 1) * WIDTH


@inline
def _gathered(m, t, start, rows):
    """Copy a batch's rows into the buffers."""
    one, v = like(m, 1.0), lanes(m)
    last = layer_of(t, t[fields.LAYERS] - 1)
    inputs, units = layer_of(t, 0)[fields.INPUTS], last[fields.UNITS]
    x, goal = at(m, t[fields.INPUT]), at(m, t[fields.TARGETS])
    zero = like(m, 0.0)
    given = pointer_to(one, t[fields.X])
    for r in range(rows):
        row = row_at(t, start + r)
        if t[fields.ROW_KIND] == OWN:
            for i in range(inputs):
                x[r * WIDTH + i] = given[row * inputs + i]
        else:
            convert_row(at(x, r * WIDTH), v, row_address(t, row), inputs, t[fields.ROW_KIND])
        if t[fields.LABELS]:
            label = integers_at(t[fields.LABELS])[row]
            _one_hot_row(at(goal, r * WIDTH), label)
            if not 0 <= label < units:
                goal[r * WIDTH] = like(m, np.nan)
        else:
            dense = at(pointer_to(one, t[fields.DENSE]), row * units)
            for j in range(WIDTH):
                goal[r * WIDTH + j] = dense[j] if j < units else zero


@inline
def _multiplied(z, x, w, b, rows, k):
    """z = x w + b."""
    for r in range(0, rows, 4):
        _tile(at(z, r * WIDTH), 0, b, 0, 0, at(x, r * WIDTH), 0, w, 0, k, rows - 1 - r)


@inline
def _forward(m, t, f, p, rows):
    scratch = scratch_of(m, t, 0)
    n = rows * WIDTH
    x = at(m, t[fields.INPUT])
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        inputs = layer[fields.INPUTS]
        a = at(m, layer[fields.A])
        z = at(m, layer[fields.Y]) if layer[fields.KEEPS_Y] else scratch
        _multiplied(z, x, p, at(p, inputs * WIDTH), rows, inputs)
        if number < t[fields.LAYERS] - 1 or not t[fields.JOINED]:
            constant = like(m, f[fields.NUMBERS + number * fields.LAYER_NUMBERS])
            activation_forward(layer[fields.ACTIVATION], constant, z, z, a, z, n, WIDTH)
        p, x = at(p, (inputs + 1) * WIDTH), a


@inline
def _loss_gradient(m, t, f, factors, rows):
    """Each row's loss; returns its gradient by the outputs, or for a joined loss by the logits."""
    layer, scratch = layer_of(t, t[fields.LAYERS] - 1), scratch_of(m, t, 0)
    losses, terms = at(m, t[fields.ROW_LOSSES]), at(scratch, t[fields.SCRATCH_TERMS])
    joined = t[fields.JOINED]
    d = at(m, layer[fields.DZ]) if joined else at(scratch, t[fields.SCRATCH_DA])
    source = at(m, layer[fields.Y] if joined else layer[fields.A])
    target = at(m, t[fields.TARGETS])
    units, code, n = layer[fields.UNITS], t[fields.LOSS], rows * WIDTH
    if code == CROSS_ENTROPY_SOFTMAX:
        places = (rows + WIDTH - 1) // WIDTH * WIDTH
        softmax_cross_entropy_rows(
            losses, terms, d, source, target, rows, places, units, WIDTH, 0, 0
        )
    else:
        constant, tiny = like(m, f[fields.LOSS_CONSTANT]), like(m, f[fields.TINY])
        epsilon = like(m, f[fields.EPSILON])
        loss_terms(code, constant, tiny, epsilon, terms, d, source, target, n, units)
        row_sum_rows(losses, terms, rows, units, WIDTH, 0)
    for i in range(0, n, WIDTH):
        store(at(d, i), product_or_zero(_load(at(d, i)), _load(at(factors, i))))
    return d


@inline
def _gradient_of_weights(g, room, x, dz, rows, inputs):
    _weight_tile(room, 0, x, dz, 0, rows, 0, 0, 0, 0)
    for i in range(inputs):
        store(at(g, i * WIDTH), _load(at(room, i * WIDTH)))
    total = _every(g, 0.0)
    for r in range(rows):
        total = total + _load(at(dz, r * WIDTH))
    store(at(g, inputs * WIDTH), total)


@inline
def _gradient_of_inputs(da, room, dz, w, rows, inputs, units):
    """da = dz w'; `room` is for the transposed copy, and a row of zeros."""
    zero = like(da, 0.0)
    for j in range(units):
        for i in range(WIDTH):
            room[j * WIDTH + i] = w[i * WIDTH + j] if i < inputs else zero
    for i in range(WIDTH):
        room[WIDTH * WIDTH + i] = zero
    _multiplied(da, dz, room, at(room, WIDTH * WIDTH), rows, units)


@inline
def _backward(m, t, f, p, g, d, rows):
    """Fill the gradient g from the last layer to the first; d is the loss's gradient."""
    n, last = rows * WIDTH, t[fields.LAYERS] - 1
    scratch = scratch_of(m, t, 0)
    da, room = at(scratch, t[fields.SCRATCH_DA]), at(scratch, t[fields.SCRATCH_TERMS])
    for number in range(last, -1, -1):
        layer = layer_of(t, number)
        inputs = layer[fields.INPUTS]
        dz, a = at(m, layer[fields.DZ]), at(m, layer[fields.A])
        if number < last or not t[fields.JOINED]:
            y = at(m, layer[fields.Y]) if layer[fields.KEEPS_Y] else a
            constant = like(m, f[fields.NUMBERS + number * fields.LAYER_NUMBERS])
            unused = at(m, t[fields.FACTORS])
            code = layer[fields.ACTIVATION]
            activation_backward(code, constant, a, a, dz, unused, unused, d, y, a, n, WIDTH)
        p, g = at(p, -(inputs + 1) * WIDTH), at(g, -(inputs + 1) * WIDTH)
        _gradient_of_weights(g, room, at(m, layer[fields.LAYER_INPUT]), dz, rows, inputs)
        if number:
            _gradient_of_inputs(da, room, dz, p, rows, inputs, layer[fields.UNITS])
            d = da


@inline
def _fill_factors(m, t, factors, share, rows):
    """What the loss's gradient is multiplied by; 0 stands for padding."""
    units = layer_of(t, t[fields.LAYERS] - 1)[fields.UNITS]
    for i in range(rows * WIDTH):
        factors[i] = like(m, share if i % WIDTH < units else 0.0)


@family(types.int64, POINTER, INTEGERS, DOUBLES, INTEGERS, on_demand=True)
def train_narrow(m, t, f, flags):
    """All of fields.COUNT minibatches on one thread; returns the updates made."""
    before = tiny_to_zero()
    keep_all(m, t)
    keys = at(flags, fields.ROUND_KEYS)
    fill_round_keys(keys, t[fields.ORDER_KEY])
    rates, losses = pointer_to(1.0, t[fields.RATES]), pointer_to(1.0, t[fields.LOSSES_OUT])
    added = pointer_to(1.0, t[fields.TOTAL])[0]
    p = at(m, t[fields.NARROW])
    size = _packed(m, t, t[fields.PARAMETERS], p)
    u, v, g, factors = at(p, size), at(p, 2 * size), at(p, 3 * size), at(p, 4 * size)
    _packed(m, t, t[fields.SLOT_U], u)
    _packed(m, t, t[fields.SLOT_V], v)
    numbers = at(f, fields.NUMBERS + t[fields.LAYERS] * fields.LAYER_NUMBERS)
    filled, share = 0, 1.0
    listed = t[fields.FIRST] * t[fields.BATCH_ROWS]
    for b in range(t[fields.COUNT]):
        start = (t[fields.FIRST] + b) * t[fields.BATCH_ROWS]
        rows = min(t[fields.BATCH_ROWS], t[fields.ROWS] - start)
        if rows != filled:
            share = 1.0 / float(rows) if t[fields.MEAN_OVER_ROWS] else 1.0
            _fill_factors(m, t, factors, share, rows)
            filled = rows
        listed = order_ahead(m, t, keys, listed, start + rows)
        _gathered(m, t, start, rows)
        _forward(m, t, f, p, rows)
        d = _loss_gradient(m, t, f, factors, rows)
        total = 0.0
        for r in range(rows):
            total += np.float64(m[t[fields.ROW_LOSSES] + r])
        losses[b] = share * total
        added += losses[b]
        _backward(m, t, f, at(p, size), at(g, size), d, rows)
        rule = t[fields.UPDATE]
        fill_numbers(numbers, rule, at(f, fields.RULE), rates[b], t[fields.STEP] + b + 1)
        update_run(rule, p, u, v, g, numbers, size)
    # Slots that the optimizer does not have are the parameters themselves: these go last.
    _unpacked(m, t, t[fields.SLOT_V], v)
    _unpacked(m, t, t[fields.SLOT_U], u)
    _unpacked(m, t, t[fields.PARAMETERS], p)
    transpose_weights(m, t)
    pointer_to(1.0, t[fields.TOTAL])[0] = added
    numbers[fields.LOOKED] = look_at_run(m, t, 0, t[fields.FLAT])
    restore_tiny(before)
    return t[fields.COUNT]

"""What happens to a block of rows: forward, loss, backward. Row by row, so any thread may do it.

m is the plan's memory, t its table, f its numbers; r0 is the block's first place in the buffers
and n its rows, at most `plan.BLOCK`.
"""

from __future__ import annotations

from . import activations as act
from . import losses
from .activations import (
    activation_backward,
    activation_forward,
    maxout_backward,
    maxout_forward,
    softmax_backward,
    softmax_forward,
)
from .intrinsics import at, copy_vector, integers_at, lanes, like, pointer_to
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline, types
from .losses import loss_terms, row_sums, softmax_cross_entropy
from .normalization import (
    BATCH,
    LAYER,
    NONE,
    batch_gradient,
    layer_gradient,
    normalize_columns,
    normalize_rows,
)
from .plan import (
    ACTIVATION,
    BLOCK,
    CAPACITY,
    DENSE,
    DROPS,
    DU,
    DV,
    DY,
    DZ,
    EPSILON,
    FACTORS,
    FIELDS,
    GRADIENT,
    HAT,
    HEADER,
    IN_PANELS,
    INDEX,
    INPUT,
    INPUTS,
    JOINED,
    KEEPS_Y,
    KEYED,
    LABELS,
    LAYER_INPUT,
    LAYER_NUMBERS,
    LAYERS,
    LISTED,
    LOSS,
    LOSS_CONSTANT,
    MASK,
    MEAN,
    NORM,
    NUMBERS,
    ORDER,
    OUTPUT,
    PANELS,
    PARAMETERS,
    PIECES,
    ROW_LOSSES,
    ROW_SPREAD,
    ROWS,
    RUNNING_MEAN,
    RUNNING_SPREAD,
    SAMPLE_WEIGHTS,
    SCALE,
    SCRATCH,
    SCRATCH_DA,
    SCRATCH_SIZE,
    SCRATCH_TERMS,
    SHIFT,
    SPREAD,
    TARGETS,
    THRESHOLD,
    TINY,
    UNIT_PANELS,
    UNITS,
    WEIGHTS,
    WT,
    ZEROS,
    A,
    B,
    U,
    V,
    W,
    X,
    Y,
)
from .products import product
from .random import dropout_block, shuffle_bits, shuffled


@inline
def layer_of(t, number):
    """A layer's line of the table."""
    return at(t, HEADER + number * FIELDS)


@inline
def parameter(m, t, offset):
    """Pointer to parameters at an offset of the flat vector."""
    return at(m, t[PARAMETERS] + offset)


@inline
def _scratch(m, t, thread):
    return at(m, t[SCRATCH] + thread * t[SCRATCH_SIZE])


@family(types.void, POINTER, INTEGERS, INTEGERS, REAL, INTEGER, INTEGER, INTEGER)
def gather_rows(m, t, round_keys, one, start, first, stop):
    """Copy the rows at places start + first ... start + stop of the order into the buffers.

    Inputs go to panels, targets to panels of the outputs (class indices as one-hot rows).
    """
    v = lanes(m)
    last = layer_of(t, t[LAYERS] - 1)
    inputs, units = layer_of(t, 0)[INPUTS], last[UNITS]
    stride = t[CAPACITY] * v
    x = pointer_to(one, t[X])
    bits = shuffle_bits(t[ROWS])
    for r in range(first, stop):
        row = start + r
        if t[ORDER] == KEYED:
            row = shuffled(row, t[ROWS], bits, round_keys)
        elif t[ORDER] == LISTED:
            row = integers_at(t[INDEX])[row]
        source, target = at(x, row * inputs), at(m, t[INPUT] + r * v)
        for p in range(inputs // v):
            copy_vector(at(target, p * stride), at(source, p * v))
        for j in range(inputs - inputs % v, inputs):
            target[(j // v) * stride + j % v] = source[j]
        if t[SAMPLE_WEIGHTS]:
            m[t[WEIGHTS] + r] = pointer_to(one, t[SAMPLE_WEIGHTS])[row]
        goal = at(m, t[TARGETS] + r * v)
        if t[LABELS]:
            for p in range(last[UNIT_PANELS]):
                for j in range(v):
                    goal[p * stride + j] = like(m, 0.0)
            label = integers_at(t[LABELS])[row]
            goal[(label // v) * stride + label % v] = one
        elif t[DENSE]:
            dense = at(pointer_to(one, t[DENSE]), row * units)
            for j in range(units):
                goal[(j // v) * stride + j % v] = dense[j]


@inline
def _activation_input(m, t, layer, thread, r0):
    """Pointer and panel stride of what the activation is given, kept or in scratch."""
    v = lanes(m)
    if layer[KEEPS_Y]:
        return at(m, layer[Y] + r0 * v), t[CAPACITY] * v
    return _scratch(m, t, thread), BLOCK * v


@inline
def _normalized(m, t, layer, y, y_stride, r0, n, training):
    v = lanes(m)
    stride = t[CAPACITY] * v
    hat, panels = at(m, layer[HAT] + r0 * v), layer[PANELS]
    scale, shift = parameter(m, t, layer[SCALE]), parameter(m, t, layer[SHIFT])
    if layer[NORM] == LAYER:
        normalize_rows(
            y,
            hat,
            at(m, layer[ROW_SPREAD] + r0),
            scale,
            shift,
            n,
            panels,
            layer[UNIT_PANELS],
            layer[UNITS],
            y_stride,
            stride,
        )
        return
    mean = layer[MEAN] if training else layer[RUNNING_MEAN]
    spread = layer[SPREAD] if training else layer[RUNNING_SPREAD]
    normalize_columns(y, hat, at(m, mean), at(m, spread), scale, shift, n, panels, y_stride, stride)


@inline
def _activated(m, t, f, number, layer, y, y_stride, r0, n):
    v = lanes(m)
    stride = t[CAPACITY] * v
    code, a = layer[ACTIVATION], at(m, layer[A] + r0 * v)
    constant = like(m, f[NUMBERS + number * LAYER_NUMBERS])
    if code == act.SOFTMAX:
        softmax_forward(a, y, n, layer[UNITS], stride)
    elif code == act.MAXOUT:
        for p in range(layer[UNIT_PANELS]):
            piece = layer[UNIT_PANELS] * y_stride
            maxout_forward(at(a, p * stride), at(y, p * y_stride), n * v, layer[PIECES], piece)
    else:
        u, w = parameter(m, t, layer[U]), parameter(m, t, layer[V])
        for p in range(layer[PANELS]):
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
    kept = like(m, f[NUMBERS + number * LAYER_NUMBERS + 1])
    for p in range(layer[UNIT_PANELS]):
        place = (p * t[CAPACITY] + r0) * v
        mask = at(m, layer[MASK] + place)
        a, out = at(m, layer[A] + place), at(m, layer[OUTPUT] + place)
        if training:
            units = min(v, layer[UNITS] - p * v)
            dropout_block(mask, key, step, number, kept, layer[THRESHOLD], r0, n, p * v, units, v)
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
    stride = t[CAPACITY] * v
    for number in range(first, t[LAYERS]):
        layer = layer_of(t, number)
        y, y_stride = _activation_input(m, t, layer, thread, r0)
        normal = layer[NORM] != NONE
        z = at(m, layer[HAT] + r0 * v) if normal else y
        z_stride = stride if normal else y_stride
        if not (resumed and number == first):
            product(
                z,
                z_stride,
                at(m, layer[LAYER_INPUT] + r0 * v),
                stride,
                parameter(m, t, layer[W]),
                layer[IN_PANELS] * v * v,
                parameter(m, t, layer[B]),
                n,
                layer[INPUTS],
                layer[PANELS],
            )
            if number == stop:
                return
        if normal:
            _normalized(m, t, layer, y, y_stride, r0, n, training)
        if finish or number < t[LAYERS] - 1:
            _activated(m, t, f, number, layer, y, y_stride, r0, n)
        if layer[DROPS]:
            _dropped(m, t, f, number, layer, r0, n, training, key, step)


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER, INTEGER)
def loss_block(m, t, f, r0, n, thread):
    """Each row's loss, and its gradient by the outputs, or for a joined loss by the logits."""
    v = lanes(m)
    stride = t[CAPACITY] * v
    layer = layer_of(t, t[LAYERS] - 1)
    target = at(m, t[TARGETS] + r0 * v)
    out = at(m, t[ROW_LOSSES] + r0)
    scratch = _scratch(m, t, thread)
    source = at(m, (layer[Y] if t[JOINED] else layer[A]) + r0 * v)
    d = at(m, layer[DY] + r0 * v) if t[JOINED] else at(scratch, t[SCRATCH_DA])
    d_stride = stride if t[JOINED] else BLOCK * v
    if t[LOSS] == losses.CROSS_ENTROPY_SOFTMAX:
        softmax_cross_entropy(out, d, source, target, n, layer[UNITS], d_stride, stride)
    else:
        terms = at(scratch, t[SCRATCH_TERMS])
        constant, tiny = like(m, f[LOSS_CONSTANT]), like(m, f[TINY])
        for p in range(layer[UNIT_PANELS]):
            loss_terms(
                t[LOSS],
                constant,
                tiny,
                like(m, f[EPSILON]),
                at(terms, p * BLOCK * v),
                at(d, p * d_stride),
                at(source, p * stride),
                at(target, p * stride),
                n * v,
                layer[UNITS],
            )
        row_sums(out, terms, n, layer[UNITS], BLOCK * v)
    for p in range(layer[UNIT_PANELS]):
        for r in range(n):
            factor = m[t[FACTORS] + r0 + r]
            for j in range(v):
                d[p * d_stride + r * v + j] = d[p * d_stride + r * v + j] * factor


@inline
def _clear_padding(d, layer, stride, n):
    """Zero the lanes that stand for no column, so that padding never reaches a parameter."""
    v = lanes(d)
    used = layer[UNITS] % v
    if used:
        for piece in range(layer[PIECES]):
            run = at(d, ((piece + 1) * layer[UNIT_PANELS] - 1) * stride)
            for r in range(n):
                for j in range(used, v):
                    run[r * v + j] = like(d, 0.0)


@inline
def _output_gradient(m, t, number, layer, da, r0, n, training):
    """da, the gradient by a layer's output, from the layer above and through dropout."""
    v = lanes(m)
    stride = t[CAPACITY] * v
    above = layer_of(t, number + 1)
    k = above[UNITS] if above[PIECES] == 1 else above[PANELS] * v
    product(
        da,
        BLOCK * v,
        at(m, above[DZ] + r0 * v),
        stride,
        at(m, above[WT]),
        above[PANELS] * v * v,
        at(m, t[ZEROS]),
        n,
        k,
        layer[UNIT_PANELS],
    )
    if layer[DROPS] and training:
        for p in range(layer[UNIT_PANELS]):
            mask, run = at(m, layer[MASK] + p * stride + r0 * v), at(da, p * BLOCK * v)
            for i in range(n * v):
                run[i] = run[i] * mask[i]


@inline
def _activation_gradient(m, t, f, number, layer, da, r0, n):
    v = lanes(m)
    stride = t[CAPACITY] * v
    code = layer[ACTIVATION]
    dy, a = at(m, layer[DY] + r0 * v), at(m, layer[A] + r0 * v)
    y = at(m, layer[Y] + r0 * v) if layer[KEEPS_Y] else a
    if code == act.SOFTMAX:
        softmax_backward(dy, da, a, n, layer[UNITS], BLOCK * v, stride)
    elif code == act.MAXOUT:
        piece = layer[UNIT_PANELS] * stride
        for p in range(layer[UNIT_PANELS]):
            maxout_backward(
                at(dy, p * stride),
                at(da, p * BLOCK * v),
                at(y, p * stride),
                at(a, p * stride),
                n * v,
                layer[PIECES],
                piece,
                piece,
            )
    else:
        constant = like(m, f[NUMBERS + number * LAYER_NUMBERS])
        u, w = parameter(m, t, layer[U]), parameter(m, t, layer[V])
        for p in range(layer[PANELS]):
            place = p * stride
            activation_backward(
                code,
                constant,
                at(u, p * v),
                at(w, p * v),
                at(dy, place),
                at(m, layer[DU] + r0 * v + place),
                at(m, layer[DV] + r0 * v + place),
                at(da, p * BLOCK * v),
                at(y, place),
                at(a, place),
                n * v,
                v,
            )


@inline
def _normalization_gradient(m, t, layer, r0, n, training, rows):
    v = lanes(m)
    stride = t[CAPACITY] * v
    place = r0 * v
    dz, dy, hat = at(m, layer[DZ] + place), at(m, layer[DY] + place), at(m, layer[HAT] + place)
    scale, panels = parameter(m, t, layer[SCALE]), layer[PANELS]
    if layer[NORM] == LAYER:
        layer_gradient(
            dz,
            dy,
            hat,
            at(m, layer[ROW_SPREAD] + r0),
            scale,
            n,
            panels,
            layer[UNIT_PANELS],
            layer[UNITS],
            stride,
        )
        _clear_padding(dz, layer, stride, n)
        return
    sums = t[GRADIENT]
    batch_gradient(
        dz,
        dy,
        hat,
        at(m, layer[SPREAD] if training else layer[RUNNING_SPREAD]),
        scale,
        at(m, sums + layer[SCALE]),
        at(m, sums + layer[SHIFT]),
        n,
        rows if training else 0,
        panels,
        stride,
    )


@family(types.void, POINTER, INTEGERS, DOUBLES, *(INTEGER,) * 8)
def backward_block(m, t, f, first, resumed, stop, r0, n, thread, training, rows):
    """Gradients by Z of layers `first` down to 0, or down to before layer `stop`'s normalization.

    `resumed`: the gradient by the input of layer `first`'s activation is there already.
    """
    da = at(_scratch(m, t, thread), t[SCRATCH_DA])
    stride = t[CAPACITY] * lanes(m)
    last = t[LAYERS] - 1
    for number in range(first, -1, -1):
        layer = layer_of(t, number)
        if not (resumed and number == first):
            if number < last:
                _output_gradient(m, t, number, layer, da, r0, n, training)
            if number < last or not t[JOINED]:
                _activation_gradient(m, t, f, number, layer, da, r0, n)
            _clear_padding(at(m, layer[DY] + r0 * lanes(m)), layer, stride, n)
            if number == stop:
                return
        if layer[NORM] != NONE:
            _normalization_gradient(m, t, layer, r0, n, training, rows)


@inline
def batch_normalized_after(t, number):
    """The next layer with batch normalization from `number` on; the number of layers if none."""
    while number < t[LAYERS] and layer_of(t, number)[NORM] != BATCH:
        number += 1
    return number


@inline
def batch_normalized_before(t, number):
    """The next layer with batch normalization from `number` down; -1 if none."""
    while number >= 0 and layer_of(t, number)[NORM] != BATCH:
        number -= 1
    return number

"""What happens to a block of rows on the way back; letters as in `forward`."""

from __future__ import annotations

from numba.core import types

from . import activations as act
from . import fields
from .activations import activation_backward, maxout_backward, softmax_backward
from .intrinsics import at, lanes, like
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, family, inline
from .memory import clear_padding, layer_of, parameter, scratch_of
from .normalization import LAYER, NONE, batch_gradient, layer_gradient
from .products import product
from .team import halting


@inline
def _output_gradient(m, t, number, layer, da, r0, n, training):
    """da, the gradient by a layer's output, from the layer above and through dropout."""
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    above = layer_of(t, number + 1)
    k = above[fields.UNITS] if above[fields.PIECES] == 1 else above[fields.PANELS] * v
    product(
        da,
        t[fields.BLOCK_ROWS] * v,
        at(m, above[fields.DZ] + r0 * v),
        stride,
        at(m, above[fields.WT]),
        above[fields.PANELS] * v * v,
        at(m, t[fields.ZEROS]),
        n,
        k,
        layer[fields.UNIT_PANELS],
    )
    if layer[fields.DROPS] and training:
        for p in range(layer[fields.UNIT_PANELS]):
            mask, run = (
                at(m, layer[fields.MASK] + p * stride + r0 * v),
                at(da, p * t[fields.BLOCK_ROWS] * v),
            )
            for i in range(n * v):
                run[i] = run[i] * mask[i]


@inline
def _activation_gradient(m, t, f, number, layer, da, r0, n):
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    code = layer[fields.ACTIVATION]
    dy, a = at(m, layer[fields.DY] + r0 * v), at(m, layer[fields.A] + r0 * v)
    y = at(m, layer[fields.Y] + r0 * v) if layer[fields.KEEPS_Y] else a
    if code == act.SOFTMAX:
        softmax_backward(dy, da, a, n, layer[fields.UNITS], t[fields.BLOCK_ROWS] * v, stride)
    elif code == act.MAXOUT:
        piece = layer[fields.UNIT_PANELS] * stride
        for p in range(layer[fields.UNIT_PANELS]):
            maxout_backward(
                at(dy, p * stride),
                at(da, p * t[fields.BLOCK_ROWS] * v),
                at(y, p * stride),
                at(a, p * stride),
                n * v,
                layer[fields.PIECES],
                piece,
                piece,
            )
    else:
        constant = like(m, f[fields.NUMBERS + number * fields.LAYER_NUMBERS])
        u, w = parameter(m, t, layer[fields.U]), parameter(m, t, layer[fields.V])
        for p in range(layer[fields.PANELS]):
            place = p * stride
            activation_backward(
                code,
                constant,
                at(u, p * v),
                at(w, p * v),
                at(dy, place),
                at(m, layer[fields.DU] + r0 * v + place),
                at(m, layer[fields.DV] + r0 * v + place),
                at(da, p * t[fields.BLOCK_ROWS] * v),
                at(y, place),
                at(a, place),
                n * v,
                v,
            )


@inline
def _normalization_gradient(m, t, layer, r0, n, training, rows):
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    place = r0 * v
    dz, dy, hat = (
        at(m, layer[fields.DZ] + place),
        at(m, layer[fields.DY] + place),
        at(m, layer[fields.HAT] + place),
    )
    scale, panels = parameter(m, t, layer[fields.SCALE]), layer[fields.PANELS]
    if layer[fields.NORM] == LAYER:
        layer_gradient(
            dz,
            dy,
            hat,
            at(m, layer[fields.ROW_SPREAD] + r0),
            scale,
            n,
            panels,
            layer[fields.UNIT_PANELS],
            layer[fields.UNITS],
            stride,
        )
        clear_padding(dz, layer, stride, n)
        return
    sums = t[fields.GRADIENT]
    batch_gradient(
        dz,
        dy,
        hat,
        at(m, layer[fields.SPREAD] if training else layer[fields.RUNNING_SPREAD]),
        scale,
        at(m, sums + layer[fields.SCALE]),
        at(m, sums + layer[fields.SHIFT]),
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
    da = at(scratch_of(m, t, thread), t[fields.SCRATCH_DA])
    stride = t[fields.CAPACITY] * lanes(m)
    last = t[fields.LAYERS] - 1
    for number in range(first, -1, -1):
        if halting(t):
            return
        layer = layer_of(t, number)
        if not (resumed and number == first):
            if number < last:
                _output_gradient(m, t, number, layer, da, r0, n, training)
            if number < last or not t[fields.JOINED]:
                _activation_gradient(m, t, f, number, layer, da, r0, n)
            clear_padding(at(m, layer[fields.DY] + r0 * lanes(m)), layer, stride, n)
            if number == stop:
                return
        if layer[fields.NORM] != NONE:
            _normalization_gradient(m, t, layer, r0, n, training, rows)

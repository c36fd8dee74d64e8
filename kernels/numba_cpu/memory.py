"""Where things are in a plan's memory, for jitted code."""

from __future__ import annotations

from . import fields
from .intrinsics import at, choose, lanes, like
from .jit import inline
from .normalization import BATCH


@inline
def layer_of(t, number):
    """A layer's line of the table."""
    return at(t, fields.HEADER + number * fields.FIELDS)


@inline
def parameter(m, t, offset):
    """Pointer to parameters at an offset of the flat vector."""
    return at(m, t[fields.PARAMETERS] + offset)


@inline
def scratch_of(m, t, thread):
    return at(m, t[fields.SCRATCH] + thread * t[fields.SCRATCH_SIZE])


@inline
def activation_input(m, t, layer, thread, r0):
    """Pointer and panel stride of what the activation is given, kept or in scratch."""
    v = lanes(m)
    if layer[fields.KEEPS_Y]:
        return at(m, layer[fields.Y] + r0 * v), t[fields.CAPACITY] * v
    return scratch_of(m, t, thread), t[fields.BLOCK_ROWS] * v


@inline
def batch_normalized_after(t, number):
    """The next layer with batch normalization from `number` on; the number of layers if none."""
    while number < t[fields.LAYERS] and layer_of(t, number)[fields.NORM] != BATCH:
        number += 1
    return number


@inline
def batch_normalized_before(t, number):
    """The next layer with batch normalization from `number` down; -1 if none."""
    while number >= 0 and layer_of(t, number)[fields.NORM] != BATCH:
        number -= 1
    return number


@inline
def clear_padding(d, layer, stride, n):
    """Zero the lanes that stand for no column, so that padding never reaches a parameter."""
    v = lanes(d)
    used = layer[fields.UNITS] % v
    if used:
        for piece in range(layer[fields.PIECES]):
            run = at(d, ((piece + 1) * layer[fields.UNIT_PANELS] - 1) * stride)
            for r in range(n):
                for j in range(v):
                    run[r * v + j] = choose(j < used, run[r * v + j], like(d, 0.0))


@inline
def run_of(position, count, first, stop):
    """The part of first ... stop that lies in the `count` things from `position` on."""
    return max(first - position, 0), min(stop - position, count)

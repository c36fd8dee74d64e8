"""Training by single rows and plain descent: one pass over the first layer's weights for each.

The update by one row and the product with the next visit the same weights: done together, a step
of 784-30-10 takes 1.1 us instead of 2.7. All else is as in `phases`, to the same bits.
"""

from __future__ import annotations

from numba.core import types

from . import fields
from .backward_rows import backward_block
from .columns import column_gradients
from .forward_rows import (
    forward_block,
    gather_rows,
    gather_target,
    loss_block,
    order_ahead,
    prefetch_rows,
)
from .intrinsics import at, lanes, like, pointer_to, restore_tiny, tiny_to_zero
from .items import filled_numbers, numbers_of_thread, train_items, update_columns
from .jit import DOUBLES, INTEGERS, POINTER, family, inline
from .keeping import keep_all, look_at_run
from .memory import activation_input, layer_of, parameter, scratch_of
from .normalization import NONE
from .random import fill_round_keys
from .rows import OWN, convert_row, row_address, row_at
from .sharing import items_share
from .tiles import REVISITING_TILES

_tile_1, _tile_2, _tile_4 = REVISITING_TILES[1], REVISITING_TILES[2], REVISITING_TILES[4]


@inline
def revisit_weights(m, t, x, following, numbers):
    """Update the first layer's weights by row x, and fill its product with the row `following`."""
    v = lanes(m)
    layer = layer_of(t, 0)
    stride, panel = t[fields.CAPACITY] * v, layer[fields.IN_PANELS] * v * v
    z, z_stride = activation_input(m, t, layer, 0, 0)
    if layer[fields.NORM] != NONE:
        z, z_stride = at(m, layer[fields.HAT]), stride
    rate, k, panels = like(m, numbers[0]), layer[fields.INPUTS], layer[fields.PANELS]
    p = 0
    while p < panels:
        left = panels - p
        out, w = at(z, p * z_stride), parameter(m, t, layer[fields.W] + p * panel)
        b, dz = parameter(m, t, layer[fields.B] + p * v), at(m, layer[fields.DZ] + p * stride)
        if left >= 4:
            _tile_4(out, z_stride, w, panel, b, dz, stride, x, following, rate, k)
        elif left >= 2:
            _tile_2(out, z_stride, w, panel, b, dz, stride, x, following, rate, k)
        else:
            _tile_1(out, z_stride, w, panel, b, dz, stride, x, following, rate, k)
        p += 4 if left >= 4 else (2 if left >= 2 else 1)


@inline
def _row_in_line(m, t, one, place):
    """The row at a place of the order, its numbers side by side; valid while the next one is."""
    row, kind = row_at(t, place), t[fields.ROW_KIND]
    if kind == OWN:
        return pointer_to(one, row_address(t, row))
    layer, v = layer_of(t, 0), lanes(m)
    line = at(m, t[fields.LINES] + (place & 1) * layer[fields.IN_PANELS] * v)
    convert_row(line, v, row_address(t, row), layer[fields.INPUTS], kind)
    return line


@family(types.int64, POINTER, INTEGERS, DOUBLES, INTEGERS, on_demand=True)
def train_online(m, t, f, flags):
    """All of fields.COUNT rows, one at a time, on one thread; returns the updates made."""
    before = tiny_to_zero()
    keep_all(m, t)
    one = like(m, 1.0)
    keys = at(flags, fields.ROUND_KEYS)
    fill_round_keys(keys, t[fields.ORDER_KEY])
    rates, losses = pointer_to(1.0, t[fields.RATES]), pointer_to(1.0, t[fields.LOSSES_OUT])
    total = pointer_to(1.0, t[fields.TOTAL])
    first, layers = t[fields.FIRST], t[fields.LAYERS]
    last = first + t[fields.COUNT] - 1
    lowest = layer_of(t, 0)
    scratch, none = scratch_of(m, t, 0), like(m, 0.0)
    own, items = lowest[fields.ITEMS], items_share(t, 0, 1)[1]
    m[t[fields.FACTORS]] = one
    listed, x = first, m
    for place in range(first, last + 1):
        b = place - first
        ahead = min(place + 3, last + 1)
        listed = order_ahead(m, t, keys, listed, ahead)
        prefetch_rows(m, t, one, ahead - 1, 0, 1)
        if place in (first, last):
            gather_rows(m, t, one, place, 0, 1)
        else:
            gather_target(m, t, one, row_at(t, place), 0)
        step = t[fields.STEP] + b
        resumed = 0 if place == first else 1
        finish = 0 if t[fields.JOINED] else 1
        forward_block(m, t, f, 0, resumed, layers, 0, 1, 0, 1, finish, t[fields.KEY], step)
        loss_block(m, t, f, 0, 1, 0)
        losses[b] = m[t[fields.ROW_LOSSES]]
        total[0] += losses[b]
        backward_block(m, t, f, layers - 1, 0, -1, 0, 1, 0, 1, 1)
        mine = filled_numbers(t, f, 0, rates[b], step + 1)
        if place == last:
            train_items(m, t, f, mine, scratch, none, 1, 0, items, 0, 0, 0)
            continue
        train_items(m, t, f, mine, scratch, none, 1, own, items, 0, 0, 0)
        column_gradients(m, t, lowest, 0, lowest[fields.PANELS], 1, 1)
        update_columns(m, t, lowest, mine, 1.0, 0, lowest[fields.PANELS])
        if place == first:
            x = _row_in_line(m, t, one, place)
        following = _row_in_line(m, t, one, place + 1)
        revisit_weights(m, t, x, following, mine)
        x = following
    numbers_of_thread(t, f, 0)[fields.LOOKED] = look_at_run(m, t, 0, t[fields.FLAT])
    restore_tiny(before)
    return t[fields.COUNT]

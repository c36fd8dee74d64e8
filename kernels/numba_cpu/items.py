"""What happens to items, which `sharing` has listed: gradients, clipping, updates.

What belongs to columns (biases and the like) is done with the first block of inputs.
"""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import fields
from .columns import column_gradients, layer_trust
from .forward_rows import prefetch_rows
from .gradients import passes_of, weight_tiles
from .intrinsics import at, integers_at, lanes, like
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .keeping import keep_run, look_at_run
from .memory import layer_of, parameter, run_of
from .products import BEYOND_THE_CACHE, transpose_tiles
from .team import halting
from .updates import TRUST, fill_numbers, trusts, update_run


@inline
def numbers_of_thread(t, f, thread):
    """A thread's numbers of an update."""
    first = fields.NUMBERS + t[fields.LAYERS] * fields.LAYER_NUMBERS
    return at(f, first + thread * fields.THREAD_NUMBERS)


@inline
def filled_numbers(t, f, thread, rate, step):
    """A thread's numbers of this update."""
    mine = numbers_of_thread(t, f, thread)
    fill_numbers(mine, t[fields.UPDATE], at(f, fields.RULE), rate, step)
    mine[fields.LOOKED] = 0.0 if t[fields.LOOKING] else np.nan
    return mine


@inline
def item_of(t, item):
    """Input panels low ... high and panels of columns p0 ... p1 of an item."""
    line = at(integers_at(t[fields.ITEM_LINES]), fields.ITEM_FIELDS * item)
    return line[0], line[1], line[2], line[3]


@inline
def tile_at(layer, p, low, v):
    """Where the tile of input panel `low` and panel p of columns stands in the weights."""
    return (p * layer[fields.IN_PANELS] + low) * v * v


@inline
def _vectors_far(t, v):
    """How many vectors an update moves, parameters and slots, if they don't stay in the cache."""
    if t[fields.TILES] * v * v < BEYOND_THE_CACHE:
        return 0
    first = t[fields.PARAMETERS]
    return 1 + (1 if t[fields.SLOT_U] != first else 0) + (1 if t[fields.SLOT_V] != first else 0)


@inline
def _item_gradient(
    m, t, f, layer, g, g_stride, share, rows, low, high, p0, p1, place, after, vectors
):
    """Gradients of an item, penalties in; g is where the first tile goes.

    The rows at places `place` ... `after` of the order are asked for, then what the item's update
    will move: `vectors` of the parameters and their slots.
    """
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    weight_tiles(
        g,
        g_stride,
        at(m, layer[fields.LAYER_INPUT] + low * stride),
        stride,
        at(m, layer[fields.DZ] + p0 * stride),
        stride,
        rows,
        high - low,
        p1 - p0,
        t,
        place,
        after,
        parameter(m, t, layer[fields.W] + tile_at(layer, p0, low, v)),
        layer[fields.IN_PANELS] * v * v,
        t[fields.SLOT_U] - t[fields.PARAMETERS],
        vectors,
    )
    if t[fields.PENALIZED]:
        l1, l2 = share * like(m, f[fields.L1]), share * like(m, f[fields.L2])
        for p in range(p0, p1):
            w = parameter(m, t, layer[fields.W] + tile_at(layer, p, low, v))
            _add_penalty(at(g, (p - p0) * g_stride), w, l1, l2, (high - low) * v * v)


@family(types.void, POINTER, INTEGERS, DOUBLES, REAL, INTEGER, INTEGER, INTEGER, INTEGER)
def gradient_items(m, t, f, share, training, rows, first, stop):
    """Gradients of items first ... stop of all layers; `share` multiplies the penalty."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        stride = layer[fields.IN_PANELS] * v * v
        begin, end = run_of(position, layer[fields.ITEMS], first, stop)
        for item in range(begin, end):
            if halting(t):
                return
            low, high, p0, p1 = item_of(t, position + item)
            g = at(m, t[fields.GRADIENT] + layer[fields.W] + tile_at(layer, p0, low, v))
            _item_gradient(m, t, f, layer, g, stride, share, rows, low, high, p0, p1, 0, 0, 0)
            if low == 0:
                column_gradients(m, t, layer, p0, p1, training, rows)
        position += layer[fields.ITEMS]


@inline
def _add_penalty(g, w, l1, l2, n):
    zero = like(g, 0.0)
    for i in range(n):
        sign = l1 if w[i] > zero else (-l1 if w[i] < zero else zero)
        g[i] = g[i] + sign + l2 * w[i]


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER)
def clip_items(m, t, f, first, stop):
    """Cut every entry of the gradient of items first ... stop to the largest value."""
    v = lanes(m)
    limit = like(m, f[fields.CLIP_VALUE])
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, layer[fields.ITEMS], first, stop)
        for item in range(begin, end):
            low, high, p0, p1 = item_of(t, position + item)
            for p in range(p0, p1):
                g = at(m, t[fields.GRADIENT] + layer[fields.W] + tile_at(layer, p, low, v))
                _clip(g, limit, (high - low) * v * v)
            if low == 0:
                _clip_columns(m, t, layer, limit, p0, p1)
        position += layer[fields.ITEMS]


@inline
def _clip_columns(m, t, layer, limit, first, stop):
    v = lanes(m)
    for k in range(layer[fields.VECTORS]):
        g = at(m, t[fields.GRADIENT] + layer[fields.VECTOR + k] + first * v)
        _clip(g, limit, (stop - first) * v)


@inline
def _clip(g, limit, n):
    for i in range(n):
        x = g[i]
        g[i] = limit if x > limit else (-limit if x < -limit else x)


@inline
def _raise_to_floor(p, n):
    floor = like(p, fields.BETA_FLOOR)
    for i in range(n):
        p[i] = floor if p[i] < floor else p[i]


@inline
def _update(m, t, code, offset, g, numbers, factor, n):
    """Update n parameters from an offset of the flat vector on by their gradient g."""
    if factor != 1.0:
        scale = like(m, factor)
        for i in range(n):
            g[i] = g[i] * scale
    if t[fields.KEPT]:
        keep_run(m, t, offset, n)
    update_run(
        code,
        parameter(m, t, offset),
        at(m, t[fields.SLOT_U] + offset),
        at(m, t[fields.SLOT_V] + offset),
        g,
        numbers,
        n,
    )
    if t[fields.LOOKING]:
        numbers[fields.LOOKED] += look_at_run(m, t, offset, n)


@inline
def _update_panel(m, t, number, layer, g, numbers, factor, p, low, high):
    """Update an item's tiles of one panel by the gradient g, and their transposed copies."""
    v = lanes(m)
    offset, n = layer[fields.W] + tile_at(layer, p, low, v), (high - low) * v * v
    _update(m, t, t[fields.UPDATE], offset, g, numbers, factor, n)
    if number > 0:
        w, inputs = parameter(m, t, layer[fields.W]), layer[fields.IN_PANELS]
        first, stop = p * inputs + low, p * inputs + high
        transpose_tiles(at(m, layer[fields.WT]), w, inputs, layer[fields.PANELS], first, stop)


@inline
def update_columns(m, t, layer, numbers, factor, first, stop):
    """Update all that belongs to columns: panels first ... stop of a layer."""
    v = lanes(m)
    n = (stop - first) * v
    for k in range(layer[fields.VECTORS]):
        offset = layer[fields.VECTOR + k] + first * v
        g = at(m, t[fields.GRADIENT] + offset)
        _update(m, t, t[fields.VECTOR_UPDATE], offset, g, numbers, factor, n)
    if layer[fields.BETA]:
        _raise_to_floor(parameter(m, t, layer[fields.V] + first * v), n)


@family(types.void, POINTER, INTEGERS, DOUBLES, DOUBLES, types.float64, INTEGER, INTEGER)
def update_items(m, t, f, numbers, factor, first, stop):
    """Update items first ... stop by the gradient times `factor`, and the transposed weights."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, layer[fields.ITEMS], first, stop)
        if trusts(t[fields.UPDATE]):
            numbers[TRUST] = layer_trust(m, t, layer, f, numbers)
        for item in range(begin, end):
            low, high, p0, p1 = item_of(t, position + item)
            for p in range(p0, p1):
                g = at(m, t[fields.GRADIENT] + layer[fields.W] + tile_at(layer, p, low, v))
                _update_panel(m, t, number, layer, g, numbers, factor, p, low, high)
            if low == 0:
                update_columns(m, t, layer, numbers, factor, p0, p1)
        position += layer[fields.ITEMS]


@family(
    types.void,
    *(POINTER, INTEGERS, DOUBLES, DOUBLES, POINTER, REAL),
    *(INTEGER,) * 6,
)
def train_items(
    m, t, f, numbers, scratch, share, rows, first, stop, next_start, next_row, next_stop
):
    """Gradient and update of items first ... stop at once, where nothing asks for the whole of it.

    The same numbers as `gradient_items`, `clip_items` and `update_items`, item by item, so that a
    gradient is used while it is in the cache (784-30-10, one row: 1.7 us in two passes). Between
    them the rows of the next batch are asked for, places next_row ... next_stop.
    """
    v = lanes(m)
    one, limit = like(m, 1.0), like(m, f[fields.CLIP_VALUE])
    several = 1 + (next_stop - next_row) // max(stop - first, 1)
    vectors = _vectors_far(t, v)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, layer[fields.ITEMS], first, stop)
        for item in range(begin, end):
            low, high, p0, p1 = item_of(t, position + item)
            stride = (high - low) * v * v
            after = min(next_row + several, next_stop)
            place = max(next_row, after - passes_of(high - low, p1 - p0, v))
            prefetch_rows(m, t, one, next_start, next_row, place)
            place, next_row = next_start + place, after
            after += next_start
            _item_gradient(
                m,
                t,
                f,
                layer,
                scratch,
                stride,
                share,
                rows,
                low,
                high,
                p0,
                p1,
                place,
                after,
                vectors,
            )
            if f[fields.CLIP_VALUE] > 0.0:
                _clip(scratch, limit, (p1 - p0) * stride)
            for p in range(p0, p1):
                g = at(scratch, (p - p0) * stride)
                _update_panel(m, t, number, layer, g, numbers, 1.0, p, low, high)
            if low == 0:
                column_gradients(m, t, layer, p0, p1, 1, rows)
                if f[fields.CLIP_VALUE] > 0.0:
                    _clip_columns(m, t, layer, limit, p0, p1)
                update_columns(m, t, layer, numbers, 1.0, p0, p1)
        position += layer[fields.ITEMS]


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

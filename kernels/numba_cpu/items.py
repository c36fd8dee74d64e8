"""What happens to items: a few square tiles of the weights that follow one another.

Items count from the first layer to the last. A layer's input panels are cut into blocks; an item
is a block in one panel of columns, columns fastest: the block of inputs is read once and stays in
the cache, and a thread's share of items needs little of what other threads have gathered. What
belongs to columns (biases and the like) is done with the first block.
"""

from __future__ import annotations

from numba.core import types

from . import fields
from .columns import column_gradients, layer_trust
from .forward_rows import prefetch_rows
from .intrinsics import at, lanes, like
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .memory import layer_of, parameter, run_of
from .products import transpose_tiles, weight_tiles
from .team import halting
from .updates import TRUST, fill_numbers, trusts, update_run


@inline
def filled_numbers(t, f, thread, rate, step):
    """A thread's numbers of this update."""
    mine = at(
        f, fields.NUMBERS + t[fields.LAYERS] * fields.LAYER_NUMBERS + thread * fields.THREAD_NUMBERS
    )
    fill_numbers(mine, at(f, fields.RULE), rate, step)
    return mine


@inline
def items_of(layer):
    """How many items a layer has."""
    return layer[fields.BLOCKS] * layer[fields.PANELS]


@inline
def _item_near(t, tile):
    """The item that holds the `tile`-th tile of the network, about."""
    items = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[fields.IN_PANELS] * layer[fields.PANELS]
        if tile < tiles:
            return items + items_of(layer) * tile // tiles
        tile -= tiles
        items += items_of(layer)
    return items


@inline
def items_share(t, thread, team):
    """First and last of a thread's items: each thread has about as many tiles as the others."""
    tiles = t[fields.TILES]
    return _item_near(t, tiles * thread // team), _item_near(t, tiles * (thread + 1) // team)


@inline
def tiles_of(layer, item):
    """First tile of an item, and the one after its last; tiles count down a panel's inputs."""
    panels, blocks, inputs = layer[fields.PANELS], layer[fields.BLOCKS], layer[fields.IN_PANELS]
    block, p = item // panels, item % panels
    return p * inputs + inputs * block // blocks, p * inputs + inputs * (block + 1) // blocks


@inline
def _tile_gradients(m, t, f, layer, g, share, rows, low, high):
    """Gradients of a layer's tiles low ... high, penalties in; g is where the first one goes."""
    v = lanes(m)
    stride = t[fields.CAPACITY] * v
    weight_tiles(
        at(g, -low * v * v),
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
        w = at(parameter(m, t, layer[fields.W]), low * v * v)
        l1, l2 = share * like(m, f[fields.L1]), share * like(m, f[fields.L2])
        _add_penalty(g, w, l1, l2, (high - low) * v * v)


@family(types.void, POINTER, INTEGERS, DOUBLES, REAL, INTEGER, INTEGER, INTEGER, INTEGER)
def gradient_items(m, t, f, share, training, rows, first, stop):
    """Gradients of items first ... stop of all layers; `share` multiplies the penalty."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, items_of(layer), first, stop)
        for item in range(begin, end):
            if halting(t):
                return
            low, high = tiles_of(layer, item)
            g = at(m, t[fields.GRADIENT] + layer[fields.W] + low * v * v)
            _tile_gradients(m, t, f, layer, g, share, rows, low, high)
            if item < layer[fields.PANELS]:
                column_gradients(m, t, layer, item, training, rows)
        position += items_of(layer)


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
        begin, end = run_of(position, items_of(layer), first, stop)
        for item in range(begin, end):
            low, high = tiles_of(layer, item)
            g = at(m, t[fields.GRADIENT] + layer[fields.W] + low * v * v)
            _clip(g, limit, (high - low) * v * v)
            if item < layer[fields.PANELS]:
                _clip_column(m, t, layer, limit, item)
        position += items_of(layer)


@inline
def _clip_column(m, t, layer, limit, p):
    v = lanes(m)
    for k in range(layer[fields.VECTORS]):
        _clip(at(m, t[fields.GRADIENT] + layer[fields.VECTOR + k] + p * v), limit, v)


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
    update_run(
        code,
        parameter(m, t, offset),
        at(m, t[fields.SLOT_U] + offset),
        at(m, t[fields.SLOT_V] + offset),
        g,
        numbers,
        n,
    )


@inline
def _update_tiles(m, t, number, layer, g, numbers, factor, low, high):
    """Update a layer's tiles low ... high by the gradient g, and their transposed copies."""
    v = lanes(m)
    code, offset, n = t[fields.UPDATE], layer[fields.W] + low * v * v, (high - low) * v * v
    _update(m, t, code, offset, g, numbers, factor, n)
    if number > 0:
        w = parameter(m, t, layer[fields.W])
        panels = layer[fields.PANELS]
        transpose_tiles(at(m, layer[fields.WT]), w, layer[fields.IN_PANELS], panels, low, high)


@inline
def update_column(m, t, layer, numbers, factor, p):
    """Update all that belongs to a layer's panel p of columns."""
    v = lanes(m)
    for k in range(layer[fields.VECTORS]):
        offset = layer[fields.VECTOR + k] + p * v
        g = at(m, t[fields.GRADIENT] + offset)
        _update(m, t, t[fields.VECTOR_UPDATE], offset, g, numbers, factor, v)
    if layer[fields.BETA]:
        _raise_to_floor(parameter(m, t, layer[fields.V] + p * v), v)


@family(types.void, POINTER, INTEGERS, DOUBLES, DOUBLES, types.float64, INTEGER, INTEGER)
def update_items(m, t, f, numbers, factor, first, stop):
    """Update items first ... stop by the gradient times `factor`, and the transposed weights."""
    v = lanes(m)
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, items_of(layer), first, stop)
        if trusts(t[fields.UPDATE]):
            numbers[TRUST] = layer_trust(m, t, layer, f, numbers)
        for item in range(begin, end):
            low, high = tiles_of(layer, item)
            g = at(m, t[fields.GRADIENT] + layer[fields.W] + low * v * v)
            _update_tiles(m, t, number, layer, g, numbers, factor, low, high)
            if item < layer[fields.PANELS]:
                update_column(m, t, layer, numbers, factor, item)
        position += items_of(layer)


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
    position = 0
    for number in range(t[fields.LAYERS]):
        layer = layer_of(t, number)
        begin, end = run_of(position, items_of(layer), first, stop)
        for item in range(begin, end):
            after = min(next_row + several, next_stop)
            prefetch_rows(m, t, one, next_start, next_row, after)
            next_row = after
            low, high = tiles_of(layer, item)
            _tile_gradients(m, t, f, layer, scratch, share, rows, low, high)
            if f[fields.CLIP_VALUE] > 0.0:
                _clip(scratch, limit, (high - low) * v * v)
            _update_tiles(m, t, number, layer, scratch, numbers, 1.0, low, high)
            if item < layer[fields.PANELS]:
                column_gradients(m, t, layer, item, 1, rows)
                if f[fields.CLIP_VALUE] > 0.0:
                    _clip_column(m, t, layer, limit, item)
                update_column(m, t, layer, numbers, 1.0, item)
        position += items_of(layer)


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

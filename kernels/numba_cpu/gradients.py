"""The gradient of a layer's weights, a few square tiles of it at a time."""

from __future__ import annotations

from numba.core import types

from .fields import CACHE_LINE, ROW_BYTES, TEAM
from .intrinsics import VECTOR_BITS, address_of, at, lanes, prefetch_to_write
from .jit import INTEGER, INTEGERS, POINTER, family, inline
from .rows import row_address, row_at
from .tiles import TILE_PANELS, TILE_ROWS, WEIGHT_TILES

_weights_1, _weights_2, _weights_3 = WEIGHT_TILES[1], WEIGHT_TILES[2], WEIGHT_TILES[TILE_PANELS]

GRADIENT_ROWS = 128 if VECTOR_BITS == 512 else 208
"""Rows that a gradient adds up at a time, at most: three panels of dZ and one of A stay in the
first-level cache (AVX2: 26 of 32 KiB). With 128, the 200 rows of a batch were two blocks, of 128
and 72, and a step of 784-100-10 took 2 % longer."""

NEAR_ROWS = 1024
"""Rows up to which the inputs of an item are still in the second-level cache after their sums."""


@inline
def passes_of(tiles, panels, v):
    """How often `weight_tiles` goes down the rows, for each block of them."""
    return tiles if panels == 1 else tiles * ((v + TILE_ROWS - 1) // TILE_ROWS)


@inline
def _read_next(a, a_stride, dz, dz_stride, row, panels, number):
    """Address of a panel that the sums from `row` on read: first those of dZ, then those of A.

    From row 0 on they are the sums of the next group of panels of dZ.
    """
    v = lanes(a)
    if number < panels:
        p = number if row else number + panels
        return address_of(at(dz, p * dz_stride + row * v))
    return address_of(at(a, (number - panels) * a_stride + row * v))


@inline
def _run_at(w, w_stride, far, panels, run):
    """Address of a panel of the weights that will be updated, or of their slots."""
    return address_of(at(w, run // panels * far + run % panels * w_stride))


@inline
def _ask_to_write(w, w_stride, panels, n, size):
    """Ask for n numbers in each of some panels of the weights; `size` is a row's in bytes."""
    for p in range(panels):
        for i in range(0, n, CACHE_LINE * lanes(w) // size):
            prefetch_to_write(at(w, p * w_stride + i))


@family(
    types.void,
    *(POINTER, INTEGER, POINTER, INTEGER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER),
    *(INTEGERS, INTEGER, INTEGER, POINTER, INTEGER, INTEGER, INTEGER),
)
def weight_tiles(
    g,
    g_stride,
    a,
    a_stride,
    dz,
    dz_stride,
    rows,
    tiles,
    panels,
    t,
    place,
    stop,
    w,
    w_stride,
    far,
    vectors,
):
    """A' dZ for `tiles` input panels and a group of output panels; strides from panel to panel.

    Meanwhile the rows at places `place` ... `stop` of the plan's order are asked for, one in each
    pass: line by line between the sums; all at once they took 10 us of 100 (784-50-50-10). Then
    what the next block of rows reads (4096 rows of 2048 by 2048: 143 and 171 GFLOP/s), or, in the
    last block of not too many, what the caller will update: the weights at w and their slots,
    `vectors` in all, `far` apart (3072-1024-512-10 with Adam, 64 rows: 8 % faster). Where others
    have read nearer ones, they are asked to hand them over: with cores that are far apart a step of
    784-50-50-10 is 14 % faster, of 784-100-10 8 %.
    """
    v, runs = lanes(g), vectors * panels if rows <= NEAR_ROWS else 0
    shared = runs == 0 and w_stride > 0 and t[TEAM] > 1
    blocks = max((rows + GRADIENT_ROWS - 1) // GRADIENT_ROWS, 1)  # no rows: zeros
    together = (rows + blocks - 1) // blocks
    for block in range(blocks):
        first = block * together
        n, delta, passes = min(together, rows - first), at(dz, first * v), 0
        line = address_of(at(dz, v)) - address_of(dz)
        row_pace = (t[ROW_BYTES] + n - 1) // n if place < stop else 0
        run_pace = tiles * v * line // n if runs else 0
        for tile in range(tiles):
            out, x = at(g, tile * v * v), at(a, tile * a_stride + first * v)
            step = v if panels == 1 else TILE_ROWS
            for i in range(0, v, step):
                goal, x_i = at(out, i * v), at(x, i)
                if place < stop:
                    ahead, pace = row_address(t, row_at(t, place)), row_pace
                    apart, place = 0, place + 1
                elif first + n >= rows and 0 <= 2 * (passes - panels) < runs:
                    run = 2 * (passes - panels)
                    ahead, pace = _run_at(w, w_stride, far, panels, run), run_pace
                    apart = _run_at(w, w_stride, far, panels, min(run + 1, runs - 1)) - ahead
                else:
                    row = first + n if first + n < rows else 0
                    ahead, pace = _read_next(a, a_stride, dz, dz_stride, row, panels, passes), line
                    apart = 0
                passes += 1
                if shared and first + n >= rows:
                    _ask_to_write(at(w, (tile * v + i) * v), w_stride, panels, step * v, line)
                if panels >= TILE_PANELS:
                    _weights_3(goal, g_stride, x_i, delta, dz_stride, n, first, ahead, pace, apart)
                elif panels == 2:
                    _weights_2(goal, g_stride, x_i, delta, dz_stride, n, first, ahead, pace, apart)
                else:
                    _weights_1(goal, g_stride, x_i, delta, dz_stride, n, first, ahead, pace, apart)

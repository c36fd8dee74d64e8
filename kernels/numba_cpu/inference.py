"""Forward passes: blocks of rows that a team takes by turns, and the short way of a few rows."""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import fields
from .forward_rows import forward_block, gather_rows, loss_block
from .intrinsics import (
    at,
    integers_at,
    lanes,
    like,
    pointer_to,
    restore_tiny,
    tiny_to_zero,
)
from .jit import ARRAY, DOUBLES, INTEGER, INTEGERS, POINTER, family, inline
from .memory import layer_of
from .rows import OWN
from .team import halting
from .tiles import TILE_ROWS
from .turns import turn


@inline
def _largest(row, stride, count, v):
    """Which of `count` numbers of a row is the first of the largest; NaN is larger than all."""
    best = 0
    for j in range(1, count):
        number, largest = row[(j // v) * stride + j % v], row[(best // v) * stride + best % v]
        if not (number <= largest or np.isnan(largest)):
            best = j
    return best


@inline
def _write(m, t, layer, start, r0, n):
    """Write what is asked for of rows start ... start + n; their buffers begin at row r0."""
    v = lanes(m)
    out, stride = pointer_to(like(m, 1.0), t[fields.OUT]), t[fields.CAPACITY] * v
    mode = t[fields.MODE]
    if mode == fields.LOSS_ONLY:
        for r in range(n):
            out[start + r] = m[t[fields.ROW_LOSSES] + r0 + r]
        return
    before = mode in (fields.LOGITS, fields.CLASSES)
    units, pieces = layer[fields.UNITS], (layer[fields.PIECES] if before else 1)
    source = at(m, (layer[fields.Y] if before else layer[fields.A]) + r0 * v)
    if mode == fields.CLASSES:
        classes = integers_at(t[fields.OUT])
        for r in range(n):
            classes[start + r] = _largest(at(source, r * v), stride, units, v)
        return
    for r in range(n):
        line = at(out, (start + r) * units * pieces)
        for piece in range(pieces):
            for j in range(units):
                panel = piece * layer[fields.UNIT_PANELS] + j // v
                line[piece * units + j] = source[panel * stride + r * v + j % v]


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER)
def infer_team(m, t, f, flags, thread, team):
    """A thread's blocks of a forward pass over fields.ROWS rows; what it writes, MODE says."""
    layer = layer_of(t, t[fields.LAYERS] - 1)
    mode = t[fields.MODE]
    # As many blocks for each thread, as few as possible and even.
    most = min(t[fields.BLOCK_ROWS], t[fields.CAPACITY] // (team * TILE_ROWS) * TILE_ROWS)
    blocks = team * max(1, (t[fields.ROWS] + team * most - 1) // (team * most))
    tiles = (t[fields.ROWS] + blocks * TILE_ROWS - 1) // (blocks * TILE_ROWS)
    size = min(most, tiles * TILE_ROWS)
    r0 = thread * most
    finish = (
        1 if mode == fields.OUTPUTS or (mode == fields.LOSS_ONLY and not t[fields.JOINED]) else 0
    )
    blocks = (t[fields.ROWS] + size - 1) // size
    block = turn(flags, thread, team, blocks)
    while block < blocks and not halting(t):
        start = block * size
        block = turn(flags, thread, team, blocks)
        n = min(size, t[fields.ROWS] - start)
        gather_rows(m, t, like(m, 1.0), start - r0, r0, r0 + n)
        forward_block(m, t, f, 0, 0, t[fields.LAYERS], r0, n, thread, 0, finish, 0, 0)
        if mode == fields.LOSS_ONLY:
            loss_block(m, t, f, r0, n, thread)
        _write(m, t, layer, start, r0, n)


DATA = object.__basicsize__
"""Where a NumPy array has the address of its numbers: first behind what all objects have."""


@inline
def _all_finite(x, count):
    odd = 0
    for i in range(count):
        odd |= 0 if x[i] - x[i] == 0 else 1
    return odd == 0


@family(types.int64, POINTER, INTEGERS, ARRAY, ARRAY, INTEGER, INTEGER)
def infer_few(m, blocks, x, out, rows, mode):
    """A forward pass of few rows on one thread; 0 where they are not all finite, else 1.

    Python's part would be most of the time. Hence the rows are looked at and the table is filled
    here, and arrays are asked for their addresses (in Python: 1 us and 4 us).
    """
    before = tiny_to_zero()
    t, f, flags = integers_at(blocks[1]), pointer_to(1.0, blocks[2]), integers_at(blocks[3])
    t[fields.X], t[fields.ROWS], t[fields.ROW_KIND] = integers_at(x + DATA)[0], rows, OWN
    t[fields.OUT], t[fields.MODE] = integers_at(out + DATA)[0], mode
    t[fields.LABELS] = t[fields.DENSE] = t[fields.SAMPLE_WEIGHTS] = 0
    t[fields.ORDER], t[fields.TRAINING] = fields.SEQUENCE, fields.EVALUATION
    t[fields.HALT] = fields.NEVER
    flags[fields.TURNS] = flags[fields.TURN_BASE] = 0  # Ctrl-C may have left turns over
    numbers = pointer_to(like(m, 1.0), t[fields.X])
    finite = _all_finite(numbers, rows * layer_of(t, 0)[fields.INPUTS])
    if finite:
        infer_team(m, t, f, flags, 0, 1)
    restore_tiny(before)
    return 1 if finite else 0

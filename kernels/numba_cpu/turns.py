"""Work that threads take by turns: who is free takes the next part.

Cores are not equally fast, or not always: some are small, others have a neighbour. With a program
that took a third of one of two cores, steps of wide layers were 9 to 17 % faster than in equal
shares. Where a share stays in the cache of its core from step to step, it is not given up for that.
"""

from __future__ import annotations

from numba.core import types

from . import fields
from .backward_rows import backward_block
from .forward_rows import forward_block, gather_rows, loss_block
from .intrinsics import at, fetch_add, like
from .items import train_items
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, family, inline
from .memory import batch_normalized_after
from .products import BEYOND_THE_CACHE
from .team import halting

LEAST_TURNS = 4
"""Turns for each thread from which on work is shared so."""

ITEM_TURNS = 64
"""Turns for each thread into which items are put together, for each of them asks for what the one
behind it reads."""


@inline
def turn(flags, thread, team, count):
    """The next of `count` things that no thread has taken yet; `count` or more if none is left.

    The counter runs on from phase to phase; each thread must look until none is left, before it
    meets the others, and so takes one number too many.
    """
    base = at(flags, thread * fields.THREAD_FLAGS + fields.TURN_BASE)
    number = fetch_add(at(flags, fields.TURNS), 1) - base[0]
    if number >= count:
        base[0] += count + team
    return number


@inline
def rows_by_turns(t, team, rows):
    """Whether blocks of a batch's rows are taken by turns, from gathering to their gradient."""
    if team == 1 or t[fields.SAMPLE_WEIGHTS] or rows < LEAST_TURNS * team * t[fields.BLOCK_ROWS]:
        return False
    return not t[fields.TRAINING] or batch_normalized_after(t, 0) == t[fields.LAYERS]


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGERS, *(INTEGER,) * 5, REAL)
def rows_in_turn(m, t, f, flags, thread, team, start, rows, step, factor):
    """Gather, forward, loss and backward, block by block; a row counts `factor` times."""
    training = 1 if t[fields.TRAINING] else 0
    size, layers = t[fields.BLOCK_ROWS], t[fields.LAYERS]
    finish = 0 if t[fields.JOINED] else 1
    factors = at(m, t[fields.FACTORS])
    blocks = (rows + size - 1) // size
    block = turn(flags, thread, team, blocks)
    while block < blocks and not halting(t):
        r0 = block * size
        n = min(size, rows - r0)
        gather_rows(m, t, like(m, 1.0), start, r0, r0 + n)
        for r in range(r0, r0 + n):
            factors[r] = factor
        forward_block(m, t, f, 0, 0, layers, r0, n, thread, training, finish, t[fields.KEY], step)
        loss_block(m, t, f, r0, n, thread)
        backward_block(m, t, f, layers - 1, 0, -1, r0, n, thread, training, rows)
        block = turn(flags, thread, team, blocks)


@inline
def items_by_turns(t, team, v):
    """Whether items are taken by turns."""
    large = t[fields.TILES] * v * v >= BEYOND_THE_CACHE
    return large and team > 1 and t[fields.ITEM_COUNT] >= LEAST_TURNS * team


@inline
def items_in_turn(m, t, f, flags, numbers, scratch, share, thread, team, rows):
    """Gradient and update of items, some of them at a time; see `train_items`."""
    count = t[fields.ITEM_COUNT]
    each = max(1, count // (ITEM_TURNS * team))
    turns = (count + each - 1) // each
    number = turn(flags, thread, team, turns)
    while number < turns:
        first, stop = number * each, min((number + 1) * each, count)
        train_items(m, t, f, numbers, scratch, share, rows, first, stop, 0, 0, 0)
        number = turn(flags, thread, team, turns)

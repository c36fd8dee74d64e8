"""The phases of a batch, shared out to a team of threads.

A batch has two phases: by rows (gather, forward, loss, backward) and by items (gradient, then
update). Batch normalization adds meetings to the first. Every number is computed by one thread,
from sums in a fixed order: how many threads there are changes no bit.
"""

from __future__ import annotations

import numpy as np
from numba.core import types

from . import fields
from .backward_rows import backward_block
from .columns import (
    moment_panels,
    normalization_columns,
    penalty_columns,
    spread_running,
    squared_gradients,
    summed_columns,
    summed_gradients,
    trust_columns,
)
from .forward_rows import forward_block, gather_rows, loss_block, order_ahead, order_rows
from .intrinsics import at, lanes, like, pointer_to
from .items import (
    clip_items,
    filled_numbers,
    gradient_items,
    train_items,
    update_items,
)
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, family, inline
from .memory import batch_normalized_after, batch_normalized_before, layer_of, scratch_of
from .random import fill_round_keys
from .sharing import items_share
from .team import given_up, halting, meet, share_of, tell, watch
from .tiles import TILE_PANELS, TILE_ROWS
from .turns import items_by_turns, items_in_turn, rows_by_turns, rows_in_turn
from .updates import trusts

ROWS_TOGETHER = TILE_ROWS // 2
"""Threads share rows out by so many: half a tile (by whole ones of 4, 784-100-10 with 100 rows gave
48 to one thread and 52 to the other)."""

GATHERED = 1 << 16
"""Rows that a thread gathers between two looks at Ctrl-C."""


@inline
def _rows_share(rows, thread, team):
    """First and last of a thread's rows of a batch, in every phase."""
    return share_of(rows, thread, team, ROWS_TOGETHER)


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER)
def rows_phase(m, t, f, flags, thread, team, rows, step):
    """Forward, loss and backward of the gathered rows, in step with the team."""
    training = 1 if t[fields.TRAINING] else 0
    low, high = _rows_share(rows, thread, team)
    first, last = 0, t[fields.LAYERS] - 1
    resumed = 0
    while True:
        stop = batch_normalized_after(t, first + resumed) if training else t[fields.LAYERS]
        for r0 in range(low, high, t[fields.BLOCK_ROWS]):
            if halting(t):
                break
            n = min(t[fields.BLOCK_ROWS], high - r0)
            finish = 0 if t[fields.JOINED] else 1
            forward_block(
                m,
                t,
                f,
                first,
                resumed,
                stop,
                r0,
                n,
                thread,
                training,
                finish,
                t[fields.KEY],
                step,
            )
            if stop > last:
                loss_block(m, t, f, r0, n, thread)
                end = batch_normalized_before(t, last) if training else -1
                backward_block(m, t, f, last, 0, end, r0, n, thread, training, rows)
        if stop > last:
            break
        meet(flags, thread, team)
        p0, p1 = share_of(layer_of(t, stop)[fields.PANELS], thread, team, 1)
        for p in range(p0, p1, TILE_PANELS):
            if not halting(t):
                moment_panels(m, t, stop, rows, p, min(p + TILE_PANELS, p1))
        meet(flags, thread, team)
        first, resumed = stop, 1
    top = batch_normalized_before(t, last) if training else -1
    while top >= 0:
        meet(flags, thread, team)
        layer = layer_of(t, top)
        p0, p1 = share_of(layer[fields.PANELS], thread, team, 1)
        for p in range(p0, p1, TILE_PANELS):
            if not halting(t):
                normalization_columns(m, t, layer, p, min(p + TILE_PANELS, p1), rows)
        meet(flags, thread, team)
        end = batch_normalized_before(t, top - 1)
        for r0 in range(low, high, t[fields.BLOCK_ROWS]):
            if halting(t):
                break
            n = min(t[fields.BLOCK_ROWS], high - r0)
            backward_block(m, t, f, top, 1, end, r0, n, thread, training, rows)
        top = end


@inline
def _weighted(t):
    return t[fields.SAMPLE_WEIGHTS] != 0


@inline
def _weight_total(m, t, rows):
    if not t[fields.SAMPLE_WEIGHTS]:
        return float(rows)
    total = 0.0
    for r in range(rows):
        total += m[t[fields.WEIGHTS] + r]
    return total


@inline
def _data_loss(m, t, rows):
    total = 0.0
    for r in range(rows):
        weight = m[t[fields.WEIGHTS] + r] if t[fields.SAMPLE_WEIGHTS] else like(m, 1.0)
        total += np.float64(m[t[fields.ROW_LOSSES] + r]) * np.float64(weight)
    return total


@inline
def _penalty(m, t, f):
    return f[fields.L1] * summed_columns(m, t, fields.SUMS) + 0.5 * f[fields.L2] * summed_columns(
        m, t, fields.SQUARES
    )


@inline
def _share(m, t, rows):
    """1 / the batch's rows or sample weights; 0 where all weights are 0."""
    total = _weight_total(m, t, rows)
    return 1.0 / total if total > 0.0 else 0.0


@family(
    types.void,
    *(POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER),
)
def batch_phase(m, t, f, flags, thread, team, start, rows, step):
    """All that a batch's gradient is made of: gather, forward, loss, backward; the team has met."""
    one = like(m, 1.0)
    in_turn = rows_by_turns(t, team, rows)
    low, high = _rows_share(rows, thread, team)
    for r in range(low, low if in_turn else high, GATHERED):
        if halting(t):
            break
        gather_rows(m, t, one, start, r, min(r + GATHERED, high))
    if t[fields.PENALIZED]:
        p0, p1 = share_of(t[fields.COLUMN_PANELS], thread, team, 1)
        penalty_columns(m, t, p0, p1)
    if t[fields.SAMPLE_WEIGHTS]:
        meet(flags, thread, team)
    data_share = like(m, _share(m, t, rows) if t[fields.MEAN_OVER_ROWS] else 1.0)
    if in_turn:
        rows_in_turn(m, t, f, flags, thread, team, start, rows, step, data_share)
        tell(t, flags, thread)
        meet(flags, thread, team)
        return
    factors, weights, weighted = at(m, t[fields.FACTORS]), at(m, t[fields.WEIGHTS]), _weighted(t)
    for r in range(low, high):
        factors[r] = data_share * weights[r] if weighted else data_share
    rows_phase(m, t, f, flags, thread, team, rows, step)
    tell(t, flags, thread)
    meet(flags, thread, team)


@inline
def _loss(m, t, f, rows):
    """The batch's loss, penalties in, after `batch_phase`."""
    share = _share(m, t, rows)
    loss = (share if t[fields.MEAN_OVER_ROWS] else 1.0) * _data_loss(m, t, rows)
    if t[fields.PENALIZED]:
        loss += (share if t[fields.PENALTY_PER_ROW] else 1.0) * _penalty(m, t, f)
    return loss


@inline
def _penalty_share(m, t, rows):
    return like(m, _share(m, t, rows) if t[fields.PENALTY_PER_ROW] else 1.0)


@family(
    types.float64,
    *(POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER),
)
def batch_gradient_phase(m, t, f, flags, thread, team, start, rows, step):
    """Fill the gradient over a batch; a thread its own items. The loss on thread 0."""
    batch_phase(m, t, f, flags, thread, team, start, rows, step)
    training = 1 if t[fields.TRAINING] else 0
    i0, i1 = items_share(t, thread, team)
    gradient_items(m, t, f, _penalty_share(m, t, rows), training, rows, i0, i1)
    return _loss(m, t, f, rows) if thread == 0 else 0.0


@family(
    types.void,
    *(POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, types.float64, INTEGER),
)
def update_phase(m, t, f, flags, thread, team, rate, step):
    """One update of a thread's own items by the gradient, after clipping."""
    i0, i1 = items_share(t, thread, team)
    factor = 1.0
    if f[fields.CLIP_VALUE] > 0.0:
        clip_items(m, t, f, i0, i1)
    if t[fields.CLIPPED]:
        meet(flags, thread, team)
        p0, p1 = share_of(t[fields.COLUMN_PANELS], thread, team, 1)
        squared_gradients(m, t, f, p0, p1)
        meet(flags, thread, team)
        norm = np.sqrt(summed_gradients(t, f, lanes(m)))
        if norm > f[fields.CLIP_NORM]:
            factor = f[fields.CLIP_NORM] / norm
    mine = filled_numbers(t, f, thread, rate, step)
    if trusts(t[fields.UPDATE]):
        meet(flags, thread, team)
        p0, p1 = share_of(t[fields.COLUMN_PANELS], thread, team, 1)
        trust_columns(m, t, f, mine, like(m, factor), p0, p1)
        meet(flags, thread, team)
    update_items(m, t, f, mine, factor, i0, i1)


@inline
def _batch_rows(t, number):
    return min(t[fields.BATCH_ROWS], t[fields.ROWS] - number * t[fields.BATCH_ROWS])


@inline
def _order_batch(m, t, flags, thread, team, number, listed):
    """List a thread's rows of batch `number`, if it is one of this call.

    Returns their places in the batch, and up to where in the order one thread alone has listed.
    """
    if number >= t[fields.FIRST] + t[fields.COUNT]:
        return 0, 0, listed
    low, high = _rows_share(_batch_rows(t, number), thread, team)
    keys = at(flags, thread * fields.THREAD_FLAGS + fields.ROUND_KEYS)
    start = number * t[fields.BATCH_ROWS]
    if team == 1:
        return low, high, order_ahead(m, t, keys, listed, start + high)
    order_rows(m, t, keys, start + low, start + high)
    return low, high, listed


@inline
def _train_on(m, t, f, flags, thread, team, rows, rate, step, number, listed):
    """Gradient and update of a thread's own items; batch `number` is the next one."""
    low, high, listed = _order_batch(m, t, flags, thread, team, number, listed)
    share = _penalty_share(m, t, rows)
    i0, i1 = items_share(t, thread, team)
    if t[fields.CLIPPED] or trusts(t[fields.UPDATE]) or t[fields.TWO_PASSES]:
        gradient_items(m, t, f, share, 1, rows, i0, i1)
        if t[fields.HALT] != fields.NEVER:
            tell(t, flags, thread)
            meet(flags, thread, team)
            if given_up(t, flags, team):
                return listed
        update_phase(m, t, f, flags, thread, team, rate, step)
        return listed
    if given_up(t, flags, team):
        return listed
    mine = filled_numbers(t, f, thread, rate, step)
    after = number * t[fields.BATCH_ROWS]
    scratch = scratch_of(m, t, thread)
    if items_by_turns(t, team, lanes(m)):
        items_in_turn(m, t, f, flags, mine, scratch, share, thread, team, rows)
        return listed
    train_items(m, t, f, mine, scratch, share, rows, i0, i1, after, low, high)
    return listed


@inline
def _weightless(m, t, flags, thread, team, start, rows):
    """Whether a batch's sample weights are all zero, read where the caller keeps them."""
    if not t[fields.SAMPLE_WEIGHTS]:
        return False
    low, high = _rows_share(rows, thread, team)
    gather_rows(m, t, like(m, 1.0), start, low, high)
    meet(flags, thread, team)
    empty = _weight_total(m, t, rows) == 0.0
    meet(flags, thread, team)
    return empty


@family(types.int64, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER)
def train_team(m, t, f, flags, thread, team):
    """A thread's part in fields.COUNT minibatches; returns the updates made.

    The team leaves early where it breaks up, and before an update where Ctrl-C is pressed.
    """
    fill_round_keys(
        at(flags, thread * fields.THREAD_FLAGS + fields.ROUND_KEYS), t[fields.ORDER_KEY]
    )
    rates, losses = pointer_to(1.0, t[fields.RATES]), pointer_to(1.0, t[fields.LOSSES_OUT])
    total = pointer_to(1.0, t[fields.TOTAL])
    made = done = 0
    listed = t[fields.FIRST] * t[fields.BATCH_ROWS]
    listed = _order_batch(m, t, flags, thread, team, t[fields.FIRST], listed)[2]
    meet(flags, thread, team)  # where rows are taken by turns, others gather what this one lists
    for b in range(t[fields.COUNT]):
        looking = 1 if b == t[fields.COUNT] - 1 else 0
        if thread == 0 and t[fields.LOOKING] != looking:  # others read its cache line all the time
            t[fields.LOOKING] = looking
        number = t[fields.FIRST] + b
        start, rows = number * t[fields.BATCH_ROWS], _batch_rows(t, number)
        if _weightless(m, t, flags, thread, team, start, rows):
            p0, p1 = share_of(t[fields.COLUMN_PANELS], thread, team, 1)
            penalty_columns(m, t, p0, p1)
            meet(flags, thread, team)
            if thread == 0:
                losses[b] = 0.0 if t[fields.PENALTY_PER_ROW] else _penalty(m, t, f)
                total[0] += losses[b]
            listed = _order_batch(m, t, flags, thread, team, number + 1, listed)[2]
            done += 1
            meet(flags, thread, team)
            continue
        step = t[fields.STEP] + made
        batch_phase(m, t, f, flags, thread, team, start, rows, step)
        if thread == 0:
            losses[b] = _loss(m, t, f, rows)
        rate = rates[made]
        listed = _train_on(m, t, f, flags, thread, team, rows, rate, step + 1, number + 1, listed)
        if given_up(t, flags, team):
            break
        made += 1
        done += 1
        if thread == 0:
            total[0] += losses[b]
        if thread == 0 and team > 1:
            watch(flags, team, t[fields.WINDOW], t[fields.PATIENCE])
        meet(flags, thread, team)
        if thread == 0 and t[fields.KEPT]:
            t[fields.KEPT] = 0  # this update has saved all; nobody reads it before the next meeting
        if flags[fields.APART]:
            break
    if thread == 0:
        t[fields.DONE] = done
        spread_running(m, t)
    return made

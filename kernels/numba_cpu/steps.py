"""Steps over a plan: the phases of a batch, shared out to a team of threads.

A batch has two phases: by rows (gather, forward, loss, backward) and by items (weight tiles and
columns of each layer: gradient, then update). Batch normalization adds two meetings in the first
phase. Every number is computed by one thread, from sums in a fixed order: how many threads there
are changes no bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from ..contract import Array, Data, Order
from .blocks import (
    backward_block,
    batch_normalized_after,
    batch_normalized_before,
    forward_block,
    gather_rows,
    layer_of,
    loss_block,
    parameter,
)
from .intrinsics import (
    at,
    give_way,
    integers_at,
    lanes,
    like,
    load_acquire,
    pointer_to,
    relax,
    store_release,
)
from .jit import DOUBLES, INTEGER, INTEGERS, POINTER, REAL, entry, family, inline, types
from .normalization import (
    BATCH,
    NONE,
    column_moments,
    move_running,
    spread_of,
)
from .plan import (
    BATCH as BATCH_ROWS,
)
from .plan import (
    BETA,
    BETA_FLOOR,
    BLOCK,
    CAPACITY,
    CLIP_NORM,
    CLIP_VALUE,
    CLIPPED,
    COUNT,
    DENSE,
    DU,
    DV,
    DY,
    DZ,
    FACTORS,
    FIRST,
    GRADIENT,
    HAT,
    IN_PANELS,
    INDEX,
    INPUTS,
    ITEMS,
    JOINED,
    KEY,
    L1,
    L2,
    LABELS,
    LAYER_INPUT,
    LAYER_NUMBERS,
    LAYERS,
    LOGITS,
    LOSS_ONLY,
    LOSSES_OUT,
    MEAN,
    MEAN_OVER_ROWS,
    MODE,
    NORM,
    NUMBERS,
    ORDER,
    ORDER_KEY,
    ORDERS,
    OUT,
    OUTPUTS,
    PANELS,
    PARAMETERS,
    PENALIZED,
    PENALTY_1,
    PENALTY_2,
    PENALTY_PER_ROW,
    PIECES,
    RATES,
    ROW_LOSSES,
    ROWS,
    RULE,
    RUNNING_MEAN,
    RUNNING_SPREAD,
    RUNNING_VARIANCE,
    SAMPLE_WEIGHTS,
    SCALE,
    SHIFT,
    SLOT_U,
    SLOT_V,
    SPREAD,
    STEP,
    THREAD_FLAGS,
    THREAD_NUMBERS,
    TRAINING,
    UNIT_PANELS,
    UNITS,
    UPDATE,
    WEIGHTS,
    WT,
    A,
    B,
    Plan,
    U,
    V,
    W,
    X,
    Y,
)
from .products import transpose_tiles, weight_tiles
from .random import fill_round_keys, signed
from .tiles import column_absolute, column_dot, column_sum
from .updates import fill_numbers, update_run

SPINS = 2000
"""Looks at a flag before the core is offered to others (about 10 us)."""


@inline
def _meet(flags, thread, team):
    """Wait until the whole team has come here; what others wrote before is visible afterwards."""
    if team == 1:
        return
    place = thread * THREAD_FLAGS
    meeting = flags[place] + 1
    store_release(at(flags, place), meeting)
    for other in range(team):
        spins = 0
        while load_acquire(at(flags, other * THREAD_FLAGS)) < meeting:
            relax()
            spins += 1
            if spins > SPINS:
                give_way()


@inline
def _share(count, thread, team, multiple):
    """First and last of a thread's part of `count` things, split at multiples."""
    groups = (count + multiple - 1) // multiple
    first = groups * thread // team * multiple
    stop = groups * (thread + 1) // team * multiple
    return min(first, count), min(stop, count)


@inline
def _runs(position, count, first, stop):
    """The part of first ... stop that lies in the `count` items from `position` on."""
    return max(first - position, 0), min(stop - position, count)


@family(types.void, POINTER, INTEGERS, DOUBLES, REAL, INTEGER, INTEGER, INTEGER, INTEGER)
def gradient_items(m, t, f, share, training, rows, first, stop):
    """Gradients of items first ... stop of all layers; `share` multiplies the penalty."""
    v = lanes(m)
    stride = t[CAPACITY] * v
    position = 0
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[IN_PANELS] * layer[PANELS]
        low, high = _runs(position, tiles, first, stop)
        if low < high:
            g = at(m, t[GRADIENT] + layer[W])
            weight_tiles(
                g,
                at(m, layer[LAYER_INPUT]),
                stride,
                at(m, layer[DZ]),
                stride,
                rows,
                layer[IN_PANELS],
                low,
                high,
            )
            if t[PENALIZED]:
                w = parameter(m, t, layer[W])
                l1, l2 = share * like(m, f[L1]), share * like(m, f[L2])
                _add_penalty(at(g, low * v * v), at(w, low * v * v), l1, l2, (high - low) * v * v)
        position += tiles
        low, high = _runs(position, layer[PANELS], first, stop)
        for p in range(low, high):
            _column_gradients(m, t, layer, p, training, rows)
        position += layer[PANELS]


@inline
def _add_penalty(g, w, l1, l2, n):
    zero = like(g, 0.0)
    for i in range(n):
        sign = l1 if w[i] > zero else (-l1 if w[i] < zero else zero)
        g[i] = g[i] + sign + l2 * w[i]


@inline
def _column_gradients(m, t, layer, p, training, rows):
    """Gradients of one panel's biases and other per-column parameters.

    A bias before batch statistics has gradient 0; its rounding noise would become whole steps of
    Adam.
    """
    v = lanes(m)
    stride = t[CAPACITY] * v
    g = at(m, t[GRADIENT] + p * v)
    if training and layer[NORM] == BATCH:
        for j in range(v):
            g[layer[B] + j] = like(m, 0.0)
    else:
        _columns(at(g, layer[B]), at(m, layer[DZ] + p * stride), rows)
        if layer[NORM] != NONE:
            _normalization_columns(m, t, layer, p, rows)
    if p < layer[UNIT_PANELS]:
        if layer[U] != layer[B]:
            _columns(at(g, layer[U]), at(m, layer[DU] + p * stride), rows)
        if layer[V] != layer[B]:
            _columns(at(g, layer[V]), at(m, layer[DV] + p * stride), rows)


@inline
def _columns(out, x, rows):
    column_sum(out, x, x, rows)


@inline
def _normalization_columns(m, t, layer, p, rows):
    """Gradients of scale and shift; batch normalization needs them before its own."""
    v = lanes(m)
    place = p * t[CAPACITY] * v
    g = at(m, t[GRADIENT] + p * v)
    dy = at(m, layer[DY] + place)
    column_dot(at(g, layer[SCALE]), dy, at(m, layer[HAT] + place), rows)
    _columns(at(g, layer[SHIFT]), dy, rows)


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER)
def moment_panels(m, t, number, rows, first, stop):
    """Batch mean and spread of panels first ... stop of a layer; running statistics follow."""
    v = lanes(m)
    layer = layer_of(t, number)
    for p in range(first, stop):
        mean, spread = at(m, layer[MEAN] + p * v), at(m, layer[SPREAD] + p * v)
        column_moments(mean, spread, at(m, layer[HAT] + p * t[CAPACITY] * v), rows)
        if t[TRAINING] == 2:
            move_running(
                at(m, layer[RUNNING_MEAN] + p * v),
                at(m, layer[RUNNING_VARIANCE] + p * v),
                mean,
                spread,
                rows,
            )
        for j in range(v):
            mean[j] = like(m, 0.0)
            spread[j] = spread_of(spread[j])


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER, INTEGER)
def column_terms(m, t, source, first, stop):
    """Per column of items first ... stop: sums of |x| and x^2 down the rows of W or its gradient.

    `source` is the flat vector, parameters or gradient; other arrays count when it is the gradient.
    """
    v = lanes(m)
    position = 0
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        position += layer[IN_PANELS] * layer[PANELS]
        low, high = _runs(position, layer[PANELS], first, stop)
        for p in range(low, high):
            x = at(m, source + layer[W] + p * layer[IN_PANELS] * v * v)
            sums = at(m, layer[PENALTY_1] + p * v)
            squares = at(m, layer[PENALTY_2] + p * v)
            column_absolute(sums, x, x, layer[INPUTS])
            column_dot(squares, x, x, layer[INPUTS])
            if source == t[GRADIENT]:
                _add_squares(squares, at(m, source + layer[B] + p * v))
                if layer[NORM] != NONE:
                    _add_squares(squares, at(m, source + layer[SCALE] + p * v))
                    _add_squares(squares, at(m, source + layer[SHIFT] + p * v))
                if p < layer[UNIT_PANELS] and layer[U] != layer[B]:
                    _add_squares(squares, at(m, source + layer[U] + p * v))
                if p < layer[UNIT_PANELS] and layer[V] != layer[B]:
                    _add_squares(squares, at(m, source + layer[V] + p * v))
        position += layer[PANELS]


@inline
def _add_squares(squares, x):
    for j in range(lanes(x)):
        squares[j] = squares[j] + x[j] * x[j]


@family(types.float64, POINTER, INTEGERS, INTEGER)
def summed_terms(m, t, field):
    """The column sums of all layers in one number, column by column."""
    v = lanes(m)
    total = 0.0
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        for piece in range(layer[PIECES]):
            run = at(m, layer[field] + piece * layer[UNIT_PANELS] * v)
            for j in range(layer[UNITS]):
                total += run[j]
    return total


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGER, INTEGER)
def clip_items(m, t, f, first, stop):
    """Cut every entry of the gradient of items first ... stop to the largest value."""
    v = lanes(m)
    limit = like(m, f[CLIP_VALUE])
    position = 0
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[IN_PANELS] * layer[PANELS]
        low, high = _runs(position, tiles, first, stop)
        if low < high:
            _clip(at(m, t[GRADIENT] + layer[W] + low * v * v), limit, (high - low) * v * v)
        position += tiles
        low, high = _runs(position, layer[PANELS], first, stop)
        for p in range(low, high):
            g = at(m, t[GRADIENT] + p * v)
            _clip(at(g, layer[B]), limit, v)
            if layer[NORM] != NONE:
                _clip(at(g, layer[SCALE]), limit, v)
                _clip(at(g, layer[SHIFT]), limit, v)
            if p < layer[UNIT_PANELS] and layer[U] != layer[B]:
                _clip(at(g, layer[U]), limit, v)
            if p < layer[UNIT_PANELS] and layer[V] != layer[B]:
                _clip(at(g, layer[V]), limit, v)
        position += layer[PANELS]


@inline
def _clip(g, limit, n):
    for i in range(n):
        x = g[i]
        g[i] = limit if x > limit else (-limit if x < -limit else x)


@inline
def _update(m, t, offset, numbers, factor, n):
    """Update n parameters from an offset of the flat vector on."""
    g = at(m, t[GRADIENT] + offset)
    if factor != 1.0:
        scale = like(m, factor)
        for i in range(n):
            g[i] = g[i] * scale
    update_run(
        t[UPDATE],
        parameter(m, t, offset),
        at(m, t[SLOT_U] + offset),
        at(m, t[SLOT_V] + offset),
        g,
        numbers,
        n,
    )


@family(types.void, POINTER, INTEGERS, DOUBLES, DOUBLES, types.float64, INTEGER, INTEGER)
def update_items(m, t, decaying, plain, factor, first, stop):
    """Update items first ... stop by the gradient times `factor`, and the transposed weights.

    Weights are updated with the numbers `decaying`, all else with `plain`.
    """
    v = lanes(m)
    position = 0
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[IN_PANELS] * layer[PANELS]
        low, high = _runs(position, tiles, first, stop)
        if low < high:
            _update(m, t, layer[W] + low * v * v, decaying, factor, (high - low) * v * v)
            if number > 0:
                w = parameter(m, t, layer[W])
                transpose_tiles(at(m, layer[WT]), w, layer[IN_PANELS], layer[PANELS], low, high)
        position += tiles
        low, high = _runs(position, layer[PANELS], first, stop)
        if low < high:
            _update(m, t, layer[B] + low * v, plain, factor, (high - low) * v)
            if layer[NORM] != NONE:
                _update(m, t, layer[SCALE] + low * v, plain, factor, (high - low) * v)
                _update(m, t, layer[SHIFT] + low * v, plain, factor, (high - low) * v)
            high = min(high, layer[UNIT_PANELS])
            if low < high and layer[U] != layer[B]:
                _update(m, t, layer[U] + low * v, plain, factor, (high - low) * v)
            if low < high and layer[V] != layer[B]:
                _update(m, t, layer[V] + low * v, plain, factor, (high - low) * v)
                if layer[BETA]:
                    _raise_to_floor(parameter(m, t, layer[V] + low * v), (high - low) * v)
        position += layer[PANELS]


@inline
def _raise_to_floor(p, n):
    floor = like(p, BETA_FLOOR)
    for i in range(n):
        p[i] = floor if p[i] < floor else p[i]


@family(types.void, POINTER, INTEGERS)
def transpose_weights(m, t):
    """Copy all weights transposed; later each update keeps its own tiles in step."""
    for number in range(1, t[LAYERS]):
        layer = layer_of(t, number)
        tiles = layer[IN_PANELS] * layer[PANELS]
        w = parameter(m, t, layer[W])
        transpose_tiles(at(m, layer[WT]), w, layer[IN_PANELS], layer[PANELS], 0, tiles)


@family(types.void, POINTER, INTEGERS)
def spread_running(m, t):
    """1/sqrt of the running variances, for inference."""
    for number in range(t[LAYERS]):
        layer = layer_of(t, number)
        if layer[NORM] == BATCH:
            for j in range(layer[PANELS] * lanes(m)):
                m[layer[RUNNING_SPREAD] + j] = spread_of(m[layer[RUNNING_VARIANCE] + j])


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER)
def rows_phase(m, t, f, flags, thread, team, rows, step):
    """Forward, loss and backward of the gathered rows, in step with the team."""
    training = 1 if t[TRAINING] else 0
    low, high = _share(rows, thread, team, 8)
    first, last = 0, t[LAYERS] - 1
    resumed = 0
    while True:
        stop = batch_normalized_after(t, first + resumed) if training else t[LAYERS]
        for r0 in range(low, high, BLOCK):
            n = min(BLOCK, high - r0)
            finish = 0 if t[JOINED] else 1
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
                t[KEY],
                step,
            )
            if stop > last:
                loss_block(m, t, f, r0, n, thread)
                end = batch_normalized_before(t, last) if training else -1
                backward_block(m, t, f, last, 0, end, r0, n, thread, training, rows)
        if stop > last:
            break
        _meet(flags, thread, team)
        p0, p1 = _share(layer_of(t, stop)[PANELS], thread, team, 1)
        moment_panels(m, t, stop, rows, p0, p1)
        _meet(flags, thread, team)
        first, resumed = stop, 1
    top = batch_normalized_before(t, last) if training else -1
    while top >= 0:
        _meet(flags, thread, team)
        layer = layer_of(t, top)
        p0, p1 = _share(layer[PANELS], thread, team, 1)
        for p in range(p0, p1):
            _normalization_columns(m, t, layer, p, rows)
        _meet(flags, thread, team)
        end = batch_normalized_before(t, top - 1)
        for r0 in range(low, high, BLOCK):
            n = min(BLOCK, high - r0)
            backward_block(m, t, f, top, 1, end, r0, n, thread, training, rows)
        top = end


@inline
def _weight_total(m, t, rows):
    if not t[SAMPLE_WEIGHTS]:
        return float(rows)
    total = 0.0
    for r in range(rows):
        total += m[t[WEIGHTS] + r]
    return total


@inline
def _data_loss(m, t, rows):
    total = 0.0
    for r in range(rows):
        weight = m[t[WEIGHTS] + r] if t[SAMPLE_WEIGHTS] else like(m, 1.0)
        total += float(m[t[ROW_LOSSES] + r]) * float(weight)
    return total


@inline
def _penalty(m, t, f):
    return f[L1] * summed_terms(m, t, PENALTY_1) + 0.5 * f[L2] * summed_terms(m, t, PENALTY_2)


@family(
    types.float64,
    *(POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER),
)
def batch_gradient_phase(m, t, f, flags, thread, team, start, rows, step):
    """Gather a batch and fill the gradient; the loss on thread 0, NaN for no weight at all.

    The team has met after the rows' phase; the gradient of a thread's own items is complete.
    """
    one = like(m, 1.0)
    low, high = _share(rows, thread, team, 8)
    gather_rows(m, t, at(flags, thread * THREAD_FLAGS + 16), one, start, low, high)
    i0, i1 = _share(t[ITEMS], thread, team, 1)
    if t[PENALIZED]:
        column_terms(m, t, t[PARAMETERS], i0, i1)
    if t[SAMPLE_WEIGHTS]:
        _meet(flags, thread, team)
    total = _weight_total(m, t, rows)
    share = 1.0 / total if total > 0.0 else 0.0
    data_share = share if t[MEAN_OVER_ROWS] else 1.0
    for r in range(low, high):
        weight = m[t[WEIGHTS] + r] if t[SAMPLE_WEIGHTS] else one
        m[t[FACTORS] + r] = like(m, data_share) * weight
    rows_phase(m, t, f, flags, thread, team, rows, step)
    _meet(flags, thread, team)
    penalty_share = share if t[PENALTY_PER_ROW] else 1.0
    training = 1 if t[TRAINING] else 0
    gradient_items(m, t, f, like(m, penalty_share), training, rows, i0, i1)
    loss = 0.0
    if thread == 0:
        loss = data_share * _data_loss(m, t, rows)
        if t[PENALIZED]:
            loss += penalty_share * _penalty(m, t, f)
    return loss


@family(
    types.void,
    *(POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER, types.float64, INTEGER),
)
def update_phase(m, t, f, flags, thread, team, rate, step):
    """One update of a thread's own items, after clipping."""
    i0, i1 = _share(t[ITEMS], thread, team, 1)
    factor = 1.0
    if f[CLIP_VALUE] > 0.0:
        clip_items(m, t, f, i0, i1)
    if t[CLIPPED]:
        _meet(flags, thread, team)
        column_terms(m, t, t[GRADIENT], i0, i1)
        _meet(flags, thread, team)
        norm = np.sqrt(summed_terms(m, t, PENALTY_2))
        if norm > f[CLIP_NORM]:
            factor = f[CLIP_NORM] / norm
    mine = at(f, NUMBERS + t[LAYERS] * LAYER_NUMBERS + thread * THREAD_NUMBERS)
    plain = at(mine, 8)
    constants = at(f, RULE)
    fill_numbers(mine, constants, rate, step, True)
    fill_numbers(plain, constants, rate, step, False)
    update_items(m, t, mine, plain, factor, i0, i1)


@inline
def _batch_rows(t, number):
    return min(t[BATCH_ROWS], t[ROWS] - number * t[BATCH_ROWS])


@inline
def _weightless(m, t, flags, thread, team, start, rows):
    """Whether a batch's sample weights are all zero, read where the caller keeps them."""
    if not t[SAMPLE_WEIGHTS]:
        return False
    low, high = _share(rows, thread, team, 8)
    gather_rows(m, t, at(flags, thread * THREAD_FLAGS + 16), like(m, 1.0), start, low, high)
    _meet(flags, thread, team)
    empty = _weight_total(m, t, rows) == 0.0
    _meet(flags, thread, team)
    return empty


@family(types.int64, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER)
def train_team(m, t, f, flags, thread, team):
    """A thread's part in COUNT minibatches; returns the updates made."""
    fill_round_keys(at(flags, thread * THREAD_FLAGS + 16), t[ORDER_KEY])
    rates, losses = pointer_to(1.0, t[RATES]), pointer_to(1.0, t[LOSSES_OUT])
    made = 0
    for b in range(t[COUNT]):
        number = t[FIRST] + b
        start, rows = number * t[BATCH_ROWS], _batch_rows(t, number)
        if _weightless(m, t, flags, thread, team, start, rows):
            i0, i1 = _share(t[ITEMS], thread, team, 1)
            column_terms(m, t, t[PARAMETERS], i0, i1)
            _meet(flags, thread, team)
            if thread == 0:
                losses[b] = 0.0 if t[PENALTY_PER_ROW] else _penalty(m, t, f)
            _meet(flags, thread, team)
            continue
        step = t[STEP] + made
        loss = batch_gradient_phase(m, t, f, flags, thread, team, start, rows, step)
        if thread == 0:
            losses[b] = loss
        update_phase(m, t, f, flags, thread, team, rates[made], step + 1)
        made += 1
        _meet(flags, thread, team)
    if thread == 0:
        spread_running(m, t)
    return made


@family(types.void, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER)
def infer_team(m, t, f, flags, thread, team):
    """A thread's blocks of a forward pass over ROWS rows: logits, outputs or losses."""
    v = lanes(m)
    one = like(m, 1.0)
    layer = layer_of(t, t[LAYERS] - 1)
    out = pointer_to(one, t[OUT])
    mode = t[MODE]
    r0 = thread * BLOCK
    units, pieces = layer[UNITS], (layer[PIECES] if mode == LOGITS else 1)
    finish = 0 if mode == LOGITS or (mode == LOSS_ONLY and t[JOINED]) else 1
    source = at(m, (layer[Y] if mode == LOGITS else layer[A]) + r0 * v)
    for start in range(thread * BLOCK, t[ROWS], team * BLOCK):
        n = min(BLOCK, t[ROWS] - start)
        gather_rows(m, t, at(flags, 16), one, start - r0, r0, r0 + n)
        forward_block(m, t, f, 0, 0, t[LAYERS], r0, n, thread, 0, finish, 0, 0)
        if mode == LOSS_ONLY:
            loss_block(m, t, f, r0, n, thread)
            for r in range(n):
                out[start + r] = m[t[ROW_LOSSES] + r0 + r]
            continue
        for r in range(n):
            line = at(out, (start + r) * units * pieces)
            for piece in range(pieces):
                for j in range(units):
                    panel = piece * layer[UNIT_PANELS] + j // v
                    line[piece * units + j] = source[panel * t[CAPACITY] * v + r * v + j % v]


TRAIN, GRADIENTS, APPLY, INFER, REFRESH = range(5)


@entry
def _entry(job, one, memory, table, numbers, flags, thread, team):
    m, t = pointer_to(one, memory), integers_at(table)
    f, flags = pointer_to(1.0, numbers), integers_at(flags)
    if job == TRAIN:
        return float(train_team(m, t, f, flags, thread, team))
    if job == GRADIENTS:
        return batch_gradient_phase(m, t, f, flags, thread, team, 0, t[ROWS], t[STEP])
    if job == APPLY:
        update_phase(m, t, f, flags, thread, team, pointer_to(1.0, t[RATES])[0], t[STEP])
    elif job == INFER:
        infer_team(m, t, f, flags, thread, team)
    else:
        transpose_weights(m, t)
        spread_running(m, t)
    return 0.0


SMALL = 3e6
"""Multiply-adds of a batch (twice) below which a second thread costs more than it brings."""

WORTH_A_THREAD = 5e7
"""The same of a whole call: starting threads takes about as long as 1e7."""


def _team(plan: Plan, rows: int, batches: int, passes: int) -> int:
    """How many threads share a call. A rule, not a stopwatch; no bit depends on it."""
    work = plan.flops * rows * passes / 3
    if plan.threads == 1 or work < SMALL or work * batches < WORTH_A_THREAD:
        return 1
    return min(plan.threads, int(work / (SMALL / 2)), max(1, rows // 8))


def _run(plan: Plan, job: int, team: int) -> float:
    """Run a job on a team: this thread and, where the system allows it, team - 1 others."""
    if not plan.fresh and job != REFRESH:
        plan.fresh = True
        _run(plan, REFRESH, 1)
    one, addresses = plan.one, plan.addresses
    plan.flags[::THREAD_FLAGS] = 0
    if team == 1:
        return float(_entry(job, one, *addresses, 0, 1))
    return _run_team(lambda thread, size: float(_entry(job, one, *addresses, thread, size)), team)


def _run_team(call: Callable[[int, int], float], team: int) -> float:
    """Start the helpers first; all wait until it is known how many there are."""
    size = [0]
    ready = threading.Event()

    def helper(thread: int) -> None:
        ready.wait()
        if thread < size[0]:
            call(thread, size[0])

    helpers: list[threading.Thread] = []
    try:
        for thread in range(1, team):
            helpers.append(threading.Thread(target=helper, args=(thread,), daemon=True))
            helpers[-1].start()
    except RuntimeError:  # the system gives no more threads
        helpers.pop()
    size[0] = 1 + len(helpers)
    ready.set()
    result = call(0, size[0])
    for member in helpers:
        member.join()
    return result


def _bind(plan: Plan, X_: Array, T: Array | None, w: Array | None) -> None:
    table = plan.table
    table[X], table[ROWS] = X_.ctypes.data, len(X_)
    table[LABELS] = table[DENSE] = table[SAMPLE_WEIGHTS] = 0
    if T is not None:
        table[LABELS if T.ndim == 1 else DENSE] = T.ctypes.data
    if w is not None:
        table[SAMPLE_WEIGHTS] = w.ctypes.data
    table[ORDER] = ORDERS["sequence"]


def forward(plan: Plan, out: Array, X: Array, logits: bool) -> None:
    """Fill out (N, O) with logits or outputs: running statistics, no dropout, any N."""
    _infer(plan, out, X, None, LOGITS if logits else OUTPUTS)


def row_losses(plan: Plan, losses: Array, X: Array, T: Array) -> None:
    """Fill losses (N,) with each row's loss, unweighted, without penalties."""
    _infer(plan, losses, X, T, LOSS_ONLY)


def _infer(plan: Plan, out: Array, X_: Array, T: Array | None, mode: int) -> None:
    with plan.lock:
        team = _team(plan, len(X_), 1, 1)
        plan.reserve(BLOCK, team)
        _bind(plan, X_, T, None)
        plan.table[OUT], plan.table[MODE], plan.table[TRAINING] = out.ctypes.data, mode, 0
        _run(plan, INFER, team)


def backprop(
    plan: Plan,
    gradient: Array,
    X: Array,
    T: Array,
    w: Array | None,
    key: int,
    step: int,
    training: bool,
) -> float:
    """Fill the canonical gradient (P,) over all rows as one batch; return the loss."""
    with plan.lock:
        team = _team(plan, len(X), 1, 3)
        plan.reserve(len(X), team)
        _bind(plan, X, T, w)
        table = plan.table
        table[KEY], table[STEP], table[TRAINING] = signed(key), step, training
        loss = _run(plan, GRADIENTS, team)
        plan.store_gradient(gradient)
    return loss


def update(plan: Plan, gradient: Array, rate: float, step: int) -> None:
    """Apply the plan's optimizer once, as its update number `step`, counted from 1."""
    rates = np.array([rate], np.float64)
    with plan.lock:
        plan.load_gradient(gradient)
        plan.table[RATES], plan.table[STEP] = rates.ctypes.data, step
        _run(plan, APPLY, 1)


def train_steps(
    plan: Plan,
    losses: Array,
    data: Data,
    order: Order,
    batch: int,
    first: int,
    count: int,
    rates: Array,
    step: int,
    key: int,
) -> int:
    """Run `count` minibatches from batch number `first` of an epoch; return the updates made."""
    with plan.lock:
        rows = min(batch, len(data.X))
        team = _team(plan, rows, count, 3)
        plan.reserve(rows, team)
        _bind(plan, data.X, data.T, data.w)
        table = plan.table
        table[ORDER], table[ORDER_KEY] = ORDERS[order.kind], signed(order.key)
        table[INDEX] = order.index.ctypes.data if order.index is not None else 0
        table[BATCH_ROWS], table[FIRST], table[COUNT] = batch, first, count
        table[STEP], table[KEY], table[TRAINING] = step, signed(key), 2
        table[RATES], table[LOSSES_OUT] = rates.ctypes.data, losses.ctypes.data
        return int(_run(plan, TRAIN, team))

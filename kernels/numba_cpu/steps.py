"""Steps over a plan, and the one door through which they reach compiled code."""

from __future__ import annotations

import math
import time

import numpy as np

from ..contract import Array, Data, Order
from . import fields
from .calls import address
from .columns import spread_running
from .crew import run_team
from .inference import infer_few, infer_team
from .intrinsics import pointer_to, restore_tiny, tiny_to_zero
from .items import transpose_weights
from .jit import DOUBLE, DOUBLES, INTEGER, INTEGERS, POINTER, family, inline
from .narrow import train_narrow
from .online import train_online
from .phases import batch_gradient_phase, train_team, update_phase
from .plan import Plan
from .random import signed
from .rows import kind_of
from .work import LONG, LONG_ITEMS, MANY_ROWS

TRAIN, GRADIENTS, APPLY, INFER, REFRESH, NARROW, ONLINE = range(7)


@inline
def _done(job, m, t, f, flags, thread, team):
    """Do a thread's part of a job; returns its number."""
    if job == TRAIN:
        return float(train_team(m, t, f, flags, thread, team))
    if job == GRADIENTS:
        return batch_gradient_phase(m, t, f, flags, thread, team, 0, t[fields.ROWS], t[fields.STEP])
    if job == APPLY:
        update_phase(
            m, t, f, flags, thread, team, pointer_to(1.0, t[fields.RATES])[0], t[fields.STEP]
        )
    elif job == INFER:
        infer_team(m, t, f, flags, thread, team)
    else:
        transpose_weights(m, t)
        spread_running(m, t)
    return 0.0


@family(DOUBLE, INTEGER, POINTER, INTEGERS, DOUBLES, INTEGERS, INTEGER, INTEGER)
def run_job(job, m, t, f, flags, thread, team):
    """A thread's part of a job; returns its number."""
    before = tiny_to_zero()
    result = _done(job, m, t, f, flags, thread, team)
    restore_tiny(before)
    return result


_SHORTCUTS = {NARROW: train_narrow, ONLINE: train_online}

SMALL, LARGE = 9e5, 6e7
"""Multiply-adds of a batch (twice), and what its update counts as, below which a second thread
costs more than it brings, and from which on it pays; between them `Company` finds out, for it
depends on the machine."""

USUAL = 1e11
"""Twice the multiply-adds that a thread does in a second: a guess for the first batches."""


WORTH_A_THREAD = 5e7
"""The same of a whole call: starting threads takes about as long as 1e7."""


FEW_ROWS, MOST_FOR_FEW = 4, 8
"""Rows below which one thread has them all, so that only gradients and updates are shared; and
threads for batches of less than 8 rows a thread, at most (a guess: two were measured)."""


def _team(plan: Plan, rows: int, batches: int, passes: int, updates: bool = False) -> int:
    """How many threads share a call. A rule, not a stopwatch; no bit depends on it."""
    update = plan.update_work if updates else 0.0
    whole = plan.flops * rows * passes / 3 + update
    shared = whole if rows >= FEW_ROWS else plan.flops * rows * (passes - 2) / 3 + update
    if plan.threads == 1 or shared < max(SMALL, whole / 2) or whole * batches < WORTH_A_THREAD:
        return 1
    return min(plan.threads, int(shared / (SMALL / 2)), max(rows // 8, MOST_FOR_FEW))


WINDOW = 8_000_000
"""Cycles (2 to 4 ms) after which a team looks how long its threads have waited for one another."""

PATIENCE = 50
"""Percent of that time; waiting for half of it is as slow as one thread alone."""


def way_of(plan: Plan, rows: int, weights: Array | None) -> int:
    """Which kernel trains: for all the same numbers."""
    if weights is None and plan.narrow and rows <= fields.BLOCK:
        return NARROW
    if weights is None and plan.online and rows == 1:
        return ONLINE
    return TRAIN


def _run(plan: Plan, job: int, team: int, long: bool = False) -> float:
    """Run a job on a team; a long one ends soon, undone, where Ctrl-C is pressed."""
    if not plan.fresh and job != REFRESH:
        plan.fresh = True
        _run(plan, REFRESH, 1)
    addresses = plan.addresses
    plan.cells[fields.HALT] = fields.POSSIBLE if long else fields.NEVER
    plan.cells[fields.TEAM] = team
    if job in _SHORTCUTS:
        return float(_SHORTCUTS[job].of(plan.precision)(*addresses))
    plan.flags[:] = 0  # the shortcuts never ask what is in there
    run = run_job.of(plan.precision)
    if team == 1 and not long:
        return float(run(job, *addresses, 0, 1))

    def call(thread: int, size: int) -> float:
        return float(run(job, *addresses, thread, size))

    def stop() -> None:
        plan.cells[fields.HALT] = fields.WANTED

    return run_team(call, team, stop if long else None)


def _halted(plan: Plan) -> bool:
    """Whether the last run has left work undone."""
    return plan.cells[fields.HALT] == fields.WANTED


def _whole(plan: Plan, job: int, team: int, long: bool) -> float:
    """Run a job of which a part is good for nothing."""
    result = _run(plan, job, team, long)
    if _halted(plan):
        raise KeyboardInterrupt
    return result


def _bind(plan: Plan, X_: Array, T: Array | None, w: Array | None) -> None:
    cells = plan.cells
    cells[fields.X], cells[fields.ROWS] = address(X_), len(X_)
    cells[fields.ROW_KIND] = kind_of(X_.dtype, plan.dtype)
    cells[fields.ROW_BYTES] = X_.shape[1] * X_.itemsize
    cells[fields.LABELS] = cells[fields.DENSE] = cells[fields.SAMPLE_WEIGHTS] = 0
    if T is not None:
        cells[fields.LABELS if T.ndim == 1 else fields.DENSE] = address(T)
    if w is not None:
        cells[fields.SAMPLE_WEIGHTS] = address(w)
    cells[fields.ORDER] = fields.ORDERS["sequence"]


def forward(plan: Plan, out: Array, X: Array, logits: bool) -> None:
    """Fill out (N, O) with logits or outputs: running statistics, no dropout, any N."""
    mode = fields.LOGITS if logits else fields.OUTPUTS
    few = len(X) <= plan.brief and X.dtype == plan.dtype
    if not (few and _infer_few(plan, out, X, mode)):
        _infer(plan, out, X, None, mode)


def predict_few(plan: Plan, X: Array, classes: bool) -> Array | None:
    """Classes or outputs of a few rows, or None where they are many or not all finite."""
    if len(X) > plan.brief:
        return None
    if classes:
        out, mode = np.empty(len(X), np.int64), fields.CLASSES
    else:
        out, mode = np.empty((len(X), plan.network.layers[-1].units), plan.dtype), fields.OUTPUTS
    return out if _infer_few(plan, out, X, mode) else None


def _infer_few(plan: Plan, out: Array, X: Array, mode: int) -> bool:
    """Fill `out` for a few rows of the plan's dtype, if they are finite; whether that is done."""
    with plan.lock:
        call = infer_few.of(plan.precision)
        return plan.fresh and bool(call(*plan.entrance, X, out, len(X), mode))


def row_losses(plan: Plan, losses: Array, X: Array, T: Array) -> None:
    """Fill losses (N,) with each row's loss, unweighted, without penalties."""
    _infer(plan, losses, X, T, fields.LOSS_ONLY)


def _infer(plan: Plan, out: Array, X_: Array, T: Array | None, mode: int) -> None:
    with plan.lock:
        team = _team(plan, len(X_), 1, 1)
        plan.reserve(plan.block, team)
        _bind(plan, X_, T, None)
        plan.cells[fields.OUT], plan.cells[fields.MODE], plan.cells[fields.TRAINING] = (
            address(out),
            mode,
            fields.EVALUATION,
        )
        _whole(plan, INFER, team, plan.heft * len(X_) / 3 >= LONG)


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
        plan.items.deal(plan.table, len(X), team)
        _bind(plan, X, T, w)
        cells = plan.cells
        cells[fields.KEY], cells[fields.STEP], cells[fields.TRAINING] = signed(key), step, training
        loss = _whole(plan, GRADIENTS, team, plan.heft * len(X) >= LONG)
        plan.store_gradient(gradient)
    return loss


def update(plan: Plan, gradient: Array, rate: float, step: int) -> None:
    """Apply the plan's optimizer once, as its update number `step`, counted from 1."""
    rates = np.array([rate], np.float64)
    with plan.lock:
        plan.about_to_move()
        plan.load_gradient(gradient)
        plan.cells[fields.RATES], plan.cells[fields.STEP] = address(rates), step
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
    total: Array | None = None,
) -> int:
    """Run `count` minibatches from batch number `first` of an epoch; return the updates made."""
    added = np.zeros(1) if total is None else total
    with plan.lock:
        rows = min(batch, len(data.X))
        way = way_of(plan, rows, data.w)
        team = _team(plan, rows, count, 3, updates=True) if way == TRAIN else 1
        plan.reserve(rows, team)
        plan.items.deal(plan.table, rows, team)
        _bind(plan, data.X, data.T, data.w)
        cells = plan.cells
        cells[fields.ORDER], cells[fields.ORDER_KEY] = fields.ORDERS[order.kind], signed(order.key)
        cells[fields.INDEX] = address(order.listed) if order.listed is not None else 0
        cells[fields.BATCH_ROWS], cells[fields.KEY] = batch, signed(key)
        cells[fields.TRAINING], cells[fields.WINDOW] = fields.UPDATING, WINDOW
        cells[fields.PATIENCE], cells[fields.TOTAL] = PATIENCE, address(added)
        long = way == TRAIN and plan.heft * rows >= LONG
        cells[fields.TWO_PASSES] = rows >= MANY_ROWS and plan.heft * rows >= LONG_ITEMS
        if plan.rule.name == "lamb":  # its moments move before its items do
            plan.about_to_move()
        work = plan.flops * rows
        if team > 1:
            plan.company.begin(team, work / USUAL)
        done = made = 0
        while done < count:
            size, part = 1, count - done
            if team > 1:
                size, part = plan.company.next_part(part, work < LARGE)
            part = 1 if long and len(plan.statistics) else part
            cells[fields.FIRST], cells[fields.COUNT] = first + done, part
            cells[fields.STEP], cells[fields.DONE] = step + made, part
            cells[fields.RATES] = address(rates) + made * rates.itemsize
            cells[fields.LOSSES_OUT] = address(losses) + done * losses.itemsize
            started = time.perf_counter()
            made += _train_part(plan, way, size, long)
            if team > 1:
                seconds = time.perf_counter() - started
                plan.company.learn(size, part, cells[fields.DONE], seconds)
            done += cells[fields.DONE]
            if _halted(plan):
                break
        return made


def _train_part(plan: Plan, way: int, size: int, long: bool) -> int:
    """Run some batches; one that is left undone leaves no trace."""
    running, cells, looks, backup = plan.statistics, plan.cells, plan.looks, plan.backup
    before = running.copy() if long else running
    plan.looked = False
    for thread in range(size):
        looks[thread] = math.nan
    cells[fields.KEPT] = address(backup.numbers) if backup.due else 0
    try:
        made = int(_run(plan, way, size, long))
    finally:  # another signal's handler may raise when all is done
        backup.due, cells[fields.KEPT] = cells[fields.KEPT] != 0, 0
    plan.looked = not any(looks[:size])  # NaN is true
    if _halted(plan) and len(running) and cells[fields.DONE] == 0:
        running[:] = before
        plan.fresh = False
    return made

"""Steps over a plan: rows come to the device, a program of launches runs, results come back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from ..contract import Array, Data, Order
from . import programs
from .advice import advised
from .device import empty, is_device
from .launch import Launch
from .plan import BATCHES, Plan, Program
from .rows import Resident, gather, resident, training_rows
from .streaming import Streamed

INFERENCE_ROWS = 1 << 14
"""Most rows of a prediction that pass through the network together."""

_SEQUENCE = Order("sequence")


@advised
def forward(plan: Plan, out: Any, X: Any, logits: bool) -> None:
    """Fill out (N, O) with logits or outputs: running statistics, no dropout, any N."""
    last = plan.network.layers[-1]
    with plan.lock:
        for first in range(0, len(X), INFERENCE_ROWS):
            part = X[first : first + INFERENCE_ROWS]
            rows = len(part)
            _infer(plan, Data(part, None))  # type: ignore[arg-type]
            own = plan.buffers.layers[-1]
            flat, columns = (own.Z, last.columns) if logits else (own.A, last.units)
            result = _widened(plan, plan.buffers.matrix(flat, rows, columns))
            _bring(out[first : first + rows], result)


@advised
def row_losses(plan: Plan, losses: Any, X: Any, T: Any) -> None:
    """Fill losses (N,) with each row's loss, unweighted, without penalties."""
    with plan.lock:
        for first in range(0, len(X), INFERENCE_ROWS):
            part = slice(first, first + INFERENCE_ROWS)
            rows = len(X[part])
            _infer(plan, Data(X[part], T[part]))
            _run(programs.measure(plan, rows, T.ndim == 1))
            _bring(losses[first : first + rows], plan.buffers.losses[:rows])


@advised
def backprop(
    plan: Plan,
    gradient: Any,
    X: Any,
    T: Any,
    w: Any,
    key: int,
    step: int,
    training: bool,
) -> float:
    """Fill the canonical gradient (P,) over all rows as one batch; return the loss."""
    with plan.lock:
        rows = len(X)
        program = programs.differentiate(plan, rows, T.ndim == 1, w is not None, training)
        _set_clock(plan, 0, step, key)
        _run(gather(plan, resident(plan, Data(X, T, w)), _SEQUENCE, rows, rows))
        _run(program)
        plan.trimmed(gradient, plan.gradient.get())
        return float(plan.losses[:1].get()[0])


@advised
def update(plan: Plan, gradient: Array, rate: float, step: int) -> None:
    """Apply the plan's optimizer once, as its update number `step`, counted from 1."""
    with plan.lock:
        program = programs.apply(plan)
        plan.gradient.set(plan.padded(gradient))
        plan.rates[:1].set(np.array([rate]))
        _set_clock(plan, 0, step - 1, 0)
        _run(program)


@advised
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
    """Run `count` minibatches from batch number `first` of an epoch; return the updates made.

    The host starts launches, or graphs of them, and does not wait; it reads losses and the number
    of updates once in `BATCHES` batches.
    """
    made = 0
    with plan.lock:
        rows = training_rows(plan, data)
        for start in range(0, count, BATCHES):
            part = losses[start : min(start + BATCHES, count)]
            made += _train(
                *(plan, part, rows, order, batch, first + start, rates[made:], step + made, key)
            )
    if total is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            total[:] = np.cumsum(np.append(total, losses))[-1:]
    return made


def _train(
    plan: Plan,
    losses: Array,
    data: Resident,
    order: Order,
    batch: int,
    first: int,
    rates: Array,
    step: int,
    key: int,
) -> int:
    total, count = len(data.X), len(losses)
    plan.reserve(min(batch, total))
    coming = np.asarray(rates[:count], np.float64)
    if len(coming):  # the last batches may weigh nothing, and then make no updates
        plan.rates[: len(coming)].set(coming)
    _set_clock(plan, first, step, key, order.key)
    plan.listing(order.listed)
    whole = min(count, max(0, total // batch - first))
    coming_rows: Iterator[Launch] = iter(())
    if isinstance(data.X, Streamed):
        size = min(batch, total)
        coming_rows = data.X.batches(plan.kernels, plan.buffers.X, order, size, first, count)
    for batches, rows in ((whole, batch), (count - whole, total % batch)):
        build = partial(_training, plan, data, order, batch, rows)
        if batches and isinstance(data.X, Streamed):
            _run_streamed(build(), coming_rows, batches)
        elif batches:
            plan.run((rows, batch, order.kind), build, batches)
    # To its end: an event says that the last slab may be written to again.
    _run(list(coming_rows))
    losses[...] = plan.losses[:count].get()
    return int(plan.clock.get()[2])


def _training(plan: Plan, data: Resident, order: Order, batch: int, rows: int) -> Program:
    """A minibatch of `rows` rows, from the data set to moved parameters."""
    labelled, weighted = data.T.ndim == 1, data.w is not None  # type: ignore[union-attr]
    return [
        *gather(plan, data, order, batch, rows),
        *programs.train(plan, rows, labelled, weighted),
    ]


def _run_streamed(program: Program, rows: Iterator[Launch], count: int) -> None:
    """Launch by launch: which slab a batch lies in changes from one to the next."""
    for _ in range(count):
        _run(list(islice(rows, 1)))
        _run(program)


def _infer(plan: Plan, data: Data) -> None:
    rows = len(data.X)
    program = programs.infer(plan, rows)
    _set_clock(plan, 0, 0, 0)
    _run(gather(plan, resident(plan, data), _SEQUENCE, rows, rows))
    _run(program)


def _set_clock(plan: Plan, first: int, step: int, key: int, order: int = 0) -> None:
    plan.clock.set(np.array([first, first, 0, step, key, order], np.uint64))


def _run(program: Program) -> None:
    for launch in program:
        launch()


def _widened(plan: Plan, result: Any) -> Any:
    """Results in the precision that the caller sees."""
    if plan.copy is None:
        return result
    wide = empty(result.shape, plan.dtype)
    plan.kernels.launch("widened_copy", result.size, wide, result, result.size)()
    return wide


def _bring(out: Any, result: Any) -> None:
    out[...] = result if is_device(out) else result.get()

"""The training loop: epochs, orders, slices, validation, callbacks; one for all backends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import checks, generators
from .callbacks import Callback
from .engine import Engine, Optimization
from .history import History, Losses
from .kernels.contract import Array, Data, Order
from .kernels.interrupts import deferred
from .metrics import Metric
from .optimizers import Optimizer
from .progress import Progress

SLICE_SECONDS = 0.2
"""Time between two looks at Ctrl-C, progress and time limits."""

OrderFunction = Callable[[Any, Array], Any]


class DivergenceError(ArithmeticError):
    """Training has left the finite numbers; the network is as it was before that epoch."""


class Job(NamedTuple):
    """A checked order to train."""

    data: Data
    epochs: int
    batch: int
    shuffle: bool | str | OrderFunction
    drop_last: bool
    summed: bool
    validation: Data | None
    metrics: dict[str, Metric]
    callbacks: list[Callback]
    progress: Progress | None
    late: bool
    """Nobody has looked for NaN in X yet, nor maybe at class indices: what the first epoch leaves
    will show it."""

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        rows = len(self.data.X)
        return rows - rows % self.batch if self.drop_last else rows


def train(net: Any, engine: Engine, job: Job, fresh: Optimizer | None) -> History:
    """Train with a new history, which is the network's from now on.

    `net` is what callbacks are shown. `fresh` is an optimizer to change to.

    Raises
    ------
    ValueError
        The first epoch found NaN or infinity in X, or no class in y; everything is as it was.
    DivergenceError, KeyboardInterrupt
        As `run` does.
    """
    shown, drawn = net.history, generators.state_of(engine.rng) if job.late else None
    net.history = history = History(validated=job.validation is not None)
    try:
        before = _begin(net, engine, job, fresh, history)
    except BaseException:
        net.history = shown
        raise
    try:
        run(net, engine, job, history)
    except DivergenceError:
        if not job.late or len(history):
            raise
        try:
            checks.finite(job.data.X, "X", engine.dtype)
            engine.targets.encode(job.data.T, len(job.data.X), engine.dtype)
        except ValueError as error:
            net.history = shown
            generators.rewind(engine.rng, drawn)
            if before is not None:
                engine.resume(before)
            raise error from None
        raise
    return history


def _begin(
    net: Any, engine: Engine, job: Job, fresh: Optimizer | None, history: History
) -> Optimization | None:
    """Change to a fresh optimizer and tell the callbacks; undone where one of them objects."""
    if job.metrics:
        prefixes = ("", "validation_") if history.validated else ("",)
        names = [f"{prefix}{name}" for prefix in prefixes for name in job.metrics]
        history.metrics.update({name: [] for name in names})
    before = None if fresh is None else engine.restart(fresh)
    try:
        for callback in job.callbacks:
            callback.on_fit_start(history, net)
    except BaseException:
        if before is not None:
            engine.resume(before)
        raise
    return before


def run(net: Any, engine: Engine, job: Job, history: History) -> None:
    """Train; `history` grows by an entry an epoch. `net` is what callbacks are shown.

    Raises
    ------
    DivergenceError
        A loss or a parameter is no finite number at the end of an epoch.
    KeyboardInterrupt
        Ctrl-C; what was trained so far stays, the callbacks have ended.
    """
    try:
        orders = _orders(engine, job)
        history.compile_seconds = engine.warm_up() if job.epochs else 0.0
        if job.progress is not None:
            job.progress.begin(history)
        for epoch in range(1, job.epochs + 1):
            if not _epoch(net, engine, job, orders(), history):
                break
            answers = [_yes(c.on_epoch_end(epoch, history, net)) for c in job.callbacks]
            if any(answers):
                break
    finally:
        try:
            if job.progress is not None:
                job.progress.end(history)
        finally:
            _end(net, job.callbacks, history)


def _end(net: Any, callbacks: list[Callback], history: History) -> None:
    """Let every callback come to its end, also where the one before it fails."""
    for place, callback in enumerate(callbacks):
        try:
            callback.on_fit_end(history, net)
        except BaseException:
            _end(net, callbacks[place + 1 :], history)
            raise


def _yes(answer: object) -> bool:
    """True only for True: a number or a list that a lambda returns by the way stops nothing."""
    return isinstance(answer, checks.BOOLEANS) and bool(answer)


def one_update(engine: Engine, data: Data) -> float:
    """Make one update with all rows; return the loss before it.

    Raises
    ------
    DivergenceError
        The loss or a parameter is no finite number; the network is as it was.
    """
    losses, rates = _room(1), engine.rates(1)
    before = engine.checkpoint()
    try:
        with deferred():
            engine.run_steps(losses, data, Order("sequence"), len(data.X), 0, rates)
    except BaseException:
        engine.go_back(before)
        raise
    loss: float = losses.total.item()
    if not (math.isfinite(loss) and engine.finite()):
        engine.go_back(before)
        raise DivergenceError(
            f"this update diverged (loss {loss:g}): lower the learning rate or scale X; "
            "the network is as it was before"
        )
    return loss


def _room(batches: int) -> Losses:
    return Losses(np.empty(batches), np.zeros(1))


def _epoch(net: Any, engine: Engine, job: Job, order: Order, history: History) -> bool:
    """Run one epoch; False if a callback has stopped it half-way."""
    started = time.perf_counter()
    before = engine.checkpoint()
    losses = _room(-(-job.rows // job.batch))
    try:
        rate = _slices(net, engine, job, order, losses, history)
        loss = math.nan if rate is None else _epoch_loss(losses, job)
        finite = math.isfinite(loss) and engine.finite()
    except KeyboardInterrupt:
        _keep_finite(engine, before)
        raise
    except BaseException:
        engine.go_back(before)
        raise
    if rate is None:
        _keep_finite(engine, before)
        return False
    if not finite:
        engine.go_back(before)
        raise DivergenceError(_divergence(engine, len(history) + 1, loss))
    _record(engine, job, history, loss, rate, started)
    return True


def _keep_finite(engine: Engine, before: Any) -> None:
    """After half an epoch: go back to its start if it was diverging."""
    if not engine.finite():
        engine.go_back(before)


def _slices(
    net: Any, engine: Engine, job: Job, order: Order, losses: Losses, history: History
) -> float | None:
    """Run the epoch's batches; return the last rate, or None if a callback stopped half-way.

    Losses that are no finite numbers end the epoch at once: there is nothing to hope for.
    """
    first, batches, rate = 0, len(losses.each), math.nan
    while first < batches:
        threads = engine.most_threads()
        count = min(_slice_length(engine, job.batch, threads), batches - first)
        rates = engine.rates(count)
        started = time.perf_counter()
        with deferred():
            part = losses.part(first, count)
            engine.run_steps(part, job.data, order, job.batch, first, rates)
        seconds = (time.perf_counter() - started) / count
        engine.pace = (job.batch, threads, seconds)
        first, rate = first + count, float(rates.item(-1))
        if not math.isfinite(losses.total.item()):
            return rate
        if job.progress is not None:
            job.progress.within_epoch(history, min(first * job.batch, job.rows))
        if first < batches and _wants_to_stop(job, history, net):
            return None
    return rate


def _slice_length(engine: Engine, batch: int, threads: int) -> int:
    """Steps in about `SLICE_SECONDS`; one where no steps like these have been timed."""
    *alike, seconds = engine.pace
    if alike != [batch, threads] or seconds <= 0.0:
        return 1
    return max(1, int(SLICE_SECONDS / seconds))


def _wants_to_stop(job: Job, history: History, net: Any) -> bool:
    answers = [_yes(callback.on_slice_end(history, net)) for callback in job.callbacks]
    return any(answers)  # a list: every callback is asked, also after one has said yes


def _epoch_loss(losses: Losses, job: Job) -> float:
    """Average of the batch losses by rows, or their sum."""
    batches, total = len(losses.each), float(losses.total.item())
    if job.summed or batches == 1:
        return total
    rows, loss = job.rows - (batches - 1) * job.batch, float(losses.each.item(-1))
    return ((total - loss) * job.batch + loss * rows) / job.rows


def _divergence(engine: Engine, epoch: int, loss: float) -> str:
    rate = engine.optimizer.learning_rate
    shown = "the learning rate" if callable(rate) else f"the learning rate (now {rate:g})"
    return (
        f"training diverged in epoch {epoch} (loss {loss:g}): lower {shown}, scale the columns of "
        "X to mean 0 and variance 1, or clip the gradient (clip_norm=1.0). The network is as it "
        "was before that epoch"
    )


def _record(
    engine: Engine, job: Job, history: History, loss: float, rate: float, started: float
) -> None:
    measured = engine.measured(job.data, job.metrics)
    held_out = math.nan
    if job.validation is not None:
        held_out = engine.data_loss(job.validation)
        for name, value in engine.measured(job.validation, job.metrics).items():
            measured[f"validation_{name}"] = value
    with deferred():  # Ctrl-C must not leave half an entry
        engine.epochs += 1
        history.loss.append(loss)
        history.learning_rate.append(rate)
        if job.validation is not None:
            history.validation_loss.append(held_out)
        for name, value in measured.items():
            history.metrics[name].append(value)
        history.seconds.append(time.perf_counter() - started)
    if job.progress is not None:
        job.progress.end_of_epoch(history)


def _orders(engine: Engine, job: Job) -> Callable[[], Order]:
    """Return what gives the order of each epoch in turn."""
    rows = len(job.data.X)
    if job.shuffle is False:
        return lambda: Order("sequence")
    if job.shuffle is True:
        return lambda: Order("keyed", generators.key64(engine.rng))
    if isinstance(job.shuffle, str):
        # Checked too: the generator may be a subclass of the user's.
        return lambda: Order("array", listed=checked_order(engine.rng.permutation(rows), rows))
    return _own_orders(engine, job.shuffle, rows)


def _own_orders(engine: Engine, function: OrderFunction, rows: int) -> Callable[[], Order]:
    previous = np.arange(rows)

    def following() -> Order:
        nonlocal previous
        previous = checked_order(function(engine.rng, previous.copy()), rows)
        return Order("array", listed=previous)

    return following


def checked_order(order: Any, rows: int) -> Array:
    """Return a user's order (rows,) as int64, every entry a row.

    Raises
    ------
    TypeError, ValueError
        It is something else; nothing else may reach a kernel.
    """
    raw = checks.real_array(order, "the order that shuffle returned")
    if raw.dtype.kind not in "iu":
        raise TypeError(f"shuffle must return integers; got dtype {raw.dtype}")
    if raw.shape != (rows,):
        raise ValueError(f"shuffle must return {rows} row numbers; got shape {raw.shape}")
    if raw.min() < 0 or raw.max() >= rows:
        wrong = raw.min() if raw.min() < 0 else raw.max()
        raise ValueError(f"shuffle must return row numbers 0 to {rows - 1}; got {wrong}")
    return np.array(raw, np.int64)


def split_rows(
    rng: generators.Random, T: Array, fraction: float, classes: bool
) -> tuple[Array, Array]:
    """Draw validation rows; return training and validation row numbers, both ascending.

    With class indices as targets each class gives its share, as near as whole rows allow.

    Raises
    ------
    ValueError
        There are too few rows for both parts.
    """
    rows = len(T)
    count = max(1, round(rows * fraction))
    if count >= rows:
        raise ValueError(
            f"validation_fraction={fraction:g} of {rows} rows leaves none to train on: give more "
            "rows or a smaller fraction"
        )
    places = rng.permutation(rows)
    if classes and T.ndim == 1:
        places = _interleaved(places, T)
    chosen = np.zeros(rows, np.bool_)
    chosen[places[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _interleaved(places: Array, T: Array) -> Array:
    """Order rows so that every beginning has nearly the class shares of the whole."""
    share = np.empty(len(T))
    for label in np.unique(T):
        members = places[T[places] == label]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    return places[np.argsort(share[places], kind="stable")]

"""What scikit-learn does at the end of an epoch: records, best values, stopping, learning rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..callbacks import Callback
from ..engine import Engine
from ..history import History
from ..kernels.contract import Array
from ..kernels.layout import parameter_segments
from .scores import Held

SMALLEST_RATE = 1e-6
"""Below it the adaptive rate gives up, as in scikit-learn."""


class Orders:
    """Orders composed from epoch to epoch, anew in each fit; the last one is kept."""

    def __init__(self, rows: int):
        self.latest = np.arange(rows)

    def __call__(self, rng: Any, previous: Array) -> Array:
        """Return the next order."""
        self.latest = previous[rng.permutation(len(previous))]
        return self.latest


class Penalties:
    """The average penalty of an epoch's batches, each before its update.

    The backends report losses with penalties in. Where only the rest is to be divided by the number
    of outputs, the penalties have to be known apart.
    """

    def __init__(self, engine: Engine, w: Array | None, rows: int, batch: int, orders: Orders):
        self.engine, self.w, self.rows, self.batch, self.orders = engine, w, rows, batch, orders
        self.mean = 0.0

    def __call__(self, number: int) -> None:
        """Add the penalty of an epoch's next batch."""
        if number == 0:
            self.mean = 0.0
        network, flat = self.engine.network, self.engine.state().parameters.astype(np.float64)
        weights = [s.view(flat) for s in parameter_segments(network) if s.kind == "weights"]
        absolute = sum(float(np.abs(W).sum()) for W in weights) if network.l1 else 0.0
        squares = sum(float(np.square(W).sum()) for W in weights)
        penalty = network.l1 * absolute + 0.5 * network.l2 * squares
        places = self.orders.latest[number * self.batch : (number + 1) * self.batch]
        total = float(len(places) if self.w is None else self.w[places].sum(dtype=np.float64))
        self.mean += len(places) / self.rows * (penalty / total if total else 0.0)


class Reported:
    """From `MLP`'s losses to the ones that scikit-learn reports.

    They differ in a constant for each row (Poisson), whose average follows the batches where rows
    have weights; and squared errors are averaged over the outputs.
    """

    def __init__(self, train: Held, batch: int, orders: Orders, share: float):
        self.constants, self.w = train.constants, train.w
        self.batch, self.orders, self.share = batch, orders, share
        self.penalties: Penalties | None = None

    def __call__(self, loss: float) -> float:
        """Return the loss to report for the loss of an epoch."""
        penalty = 0.0 if self.penalties is None else self.penalties.mean
        return (loss - penalty) * self.share + penalty + self._constant()

    def validation(self, loss: float, held: Held) -> float:
        """Return the loss to report for the loss of validation rows."""
        if held.constants is None:
            return loss * self.share
        return loss * self.share + float(np.average(held.constants, weights=held.w))

    def _constant(self) -> float:
        if self.constants is None or self.w is None:
            return 0.0 if self.constants is None else float(self.constants.mean())
        order = self.orders.latest
        starts = np.arange(0, len(order), self.batch)
        w = self.w[order].astype(np.float64)
        sums = np.add.reduceat(w, starts)
        means = np.add.reduceat(w * self.constants[order], starts) / np.where(sums == 0, 1, sums)
        rows = np.diff(np.append(starts, len(order)))
        return float(means @ rows / len(order))


class Epochs(Callback):
    """Keeps an estimator's record of its training, and decides when to stop.

    Parameters
    ----------
    estimator : estimator
        Its fitted attributes are written to.
    rows : int
        Rows of an epoch.
    reported : Reported
        From the losses to the ones that are recorded.
    held : Held or None
        Validation rows.
    score : callable
        (held, history) -> score, where more is better.
    """

    def __init__(
        self,
        estimator: Any,
        rows: int,
        reported: Reported,
        held: Held | None,
        score: Callable[[Held, History], float],
    ):
        self.estimator = estimator
        self.rows = rows
        self.reported = reported
        self.held = held
        self.score = score
        self.stopped = False
        self.adapts = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
        self.decays = estimator.solver == "sgd" and estimator.learning_rate == "invscaling"

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """Record the epoch; stop when nothing has improved for long enough."""
        self.record(epoch, self.reported(history.loss[-1]))
        if self.held is not None:
            loss = self.reported.validation(history.validation_loss[-1], self.held)
            self.validate(self.score(self.held, history), loss, net)
        self._count()
        estimator = self.estimator
        if self.decays:
            with np.errstate(over="ignore"):
                growth = float(np.float64(estimator.t_ + 1) ** estimator.power_t)
            net.learning_rate = max(estimator.learning_rate_init / growth, sys.float_info.min)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self.stopped = self._stops(net)
        return self.stopped

    def record(self, epoch: int, loss: float) -> None:
        """Write down an epoch and its loss."""
        estimator = self.estimator
        estimator.n_iter_ = epoch
        estimator.loss_ = loss
        estimator.t_ += self.rows
        estimator.loss_curve_.append(loss)
        self._say(f"Iteration {epoch}, loss = {loss:.8f}")

    def validate(self, score: float, loss: float, net: Any) -> None:
        """Write down the score of the validation rows; keep the best parameters."""
        estimator = self.estimator
        estimator.validation_scores_.append(score)
        estimator.validation_loss_curve_.append(loss)
        if estimator.early_stopping:
            self._say(f"Validation score: {score:f}")
            self.improved = not score < estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best = net.snapshot()

    def _count(self) -> None:
        """Count the epochs without improvement; NaN, which compares as false, is none of them."""
        estimator = self.estimator
        if not estimator.early_stopping:
            loss = estimator.loss_
            self.improved = not loss > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(loss, estimator.best_loss_)
        waited = 0 if self.improved else estimator._no_improvement_count + 1
        estimator._no_improvement_count = waited

    def _stops(self, net: Any) -> bool:
        estimator = self.estimator
        what = "Validation score" if estimator.early_stopping else "Training loss"
        reason = (
            f"{what} did not improve more than tol={estimator.tol:f} "
            f"for {estimator.n_iter_no_change:.0f} consecutive epochs."
        )
        if not self.adapts:
            self._say(f"{reason} Stopping.")
            return True
        if net.learning_rate <= SMALLEST_RATE:
            self._say(f"{reason} Learning rate too small. Stopping.")
            return True
        net.learning_rate /= 5.0
        self._say(f"{reason} Setting learning rate to {net.learning_rate:f}")
        estimator._no_improvement_count = 0
        return False

    def diverged(self, net: Any) -> None:
        """Write down an epoch that left the finite numbers, before validation rows are used up."""
        self.record(self.estimator.n_iter_ + 1, math.nan)
        self.validate(math.nan, math.nan, net)

    def _say(self, line: str) -> None:
        if self.estimator.verbose and self.estimator.verbose != "progress":
            print(line)  # noqa: T201 - scikit-learn's verbose lines go to standard output

"""What scikit-learn does at the end of an epoch: records, best values, stopping, learning rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..callbacks import Callback
from ..history import History
from ..kernels.contract import Array
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


class Reported:
    """From `MLP`'s loss of an epoch to the one that scikit-learn reports.

    They differ in a constant for each row (Poisson), whose average follows the batches where rows
    have weights.
    """

    def __init__(self, constants: Array | None, w: Array | None, batch: int, orders: Orders):
        self.constants, self.w, self.batch, self.orders = constants, w, batch, orders
        self._same = None if constants is None or w is not None else float(constants.mean())

    def __call__(self, loss: float) -> float:
        """Return the loss to report."""
        if self.constants is None:
            return loss
        return loss + (self._weighted() if self._same is None else self._same)

    def _weighted(self) -> float:
        assert self.constants is not None
        assert self.w is not None
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
    reported : callable
        From the epoch's loss to the one that is recorded.
    held : Held or None
        Validation rows.
    score : callable
        (held, history) -> score, where more is better.
    single : bool
        One epoch of ``partial_fit``.
    """

    def __init__(
        self,
        estimator: Any,
        rows: int,
        reported: Callable[[float], float],
        held: Held | None,
        score: Callable[[Held, History], float],
        single: bool,
    ):
        self.estimator = estimator
        self.rows = rows
        self.reported = reported
        self.held = held
        self.score = score
        self.single = single
        self.stopped = False
        self.adapts = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
        self.decays = estimator.solver == "sgd" and estimator.learning_rate == "invscaling"

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """Record the epoch; stop when nothing has improved for long enough."""
        self.record(epoch, self.reported(history.loss[-1]))
        if self.held is not None:
            self.validate(self.score(self.held, history), history.validation_loss[-1], net)
        self._count()
        estimator = self.estimator
        if self.decays:
            decay = float(estimator.t_ + 1) ** -estimator.power_t
            net.learning_rate = max(estimator.learning_rate_init * decay, sys.float_info.min)
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

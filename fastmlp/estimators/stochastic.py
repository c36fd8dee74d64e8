"""The part of the estimators that trains by minibatches, through `MLP.fit`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from .. import devices
from ..history import History
from ..kernels.contract import Array
from ..network import MLP
from ..training import DivergenceError
from . import parameters, scores
from .coded import Accepted, Coded
from .epochs import Epochs, Orders, Penalties, Reported
from .scores import Held

REMEDY = (
    "Training diverged: lower learning_rate_init, scale the columns of X to mean 0 and variance 1, "
    "or clip the gradient (clip_norm=1.0)."
)


class Stochastic:
    """Splits rows, trains, and keeps the record that scikit-learn keeps."""

    alpha: float
    l1: float
    batch_size: Any
    max_iter: int
    shuffle: bool
    verbose: Any
    early_stopping: bool
    validation_fraction: float
    eval_metric: Any
    callbacks: Any
    n_outputs_: int
    n_iter_: int
    _net: MLP
    _trained: bool

    # What a subclass says

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        """Return X and y, checked by scikit-learn."""
        raise NotImplementedError

    def _coded(self, y: Array, dtype: np.dtype[Any], first: bool, single: bool) -> Coded:
        """Return targets in the forms that are needed; `single`: for one epoch of many."""
        raise NotImplementedError

    def _answers(self, outputs: Array) -> Array:
        """Return answers in the form of `Coded.truth`."""
        raise NotImplementedError

    def _metric(self, truth: Array, answers: Array, w: Array | None) -> float:
        """Return the score of answers."""
        raise NotImplementedError

    # Training

    def _split(
        self, data: Held, rng: Any, single: bool, X_val: Any, y_val: Any
    ) -> tuple[Held, Held | None]:
        """Return the rows to train on and those that validate."""
        if X_val is not None or y_val is not None:
            return data, self._given(X_val, y_val)
        if not self.early_stopping:
            return data, None
        if single:
            raise ValueError("partial_fit does not support early_stopping=True")
        binary = data.truth.dtype == np.bool_ and data.truth.shape[1:] == (1,)
        train, held = train_test_split(
            np.arange(len(data.X)),
            random_state=rng,
            test_size=self.validation_fraction,
            stratify=data.truth if binary else None,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        parts = data.take(train), data.take(held)
        for part, name in zip(parts, ("training", "validation"), strict=True):
            if part.w is not None and not part.w.any():
                raise ValueError(f"sample_weight is zero for every {name} row that was drawn")
        return parts

    def _given(self, X: Any, y: Any) -> Held:
        """Return the user's validation rows."""
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together")
        accepted = Accepted.by(self._net._engine)
        wanted = (accepted.dtype, *accepted.left_alone(X))
        X, y = self._checked_targets(X, y, dtype=wanted, reset=False)
        coded = self._coded(y, accepted.dtype, first=False, single=True)
        if coded.outputs != self.n_outputs_:
            raise ValueError(
                f"y_val must have {self.n_outputs_} outputs as y has; got {coded.outputs}"
            )
        return Held(accepted.rows(X), coded.T, coded.truth, y, None, coded.constants)

    def _batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                f"batch_size={self.batch_size} is more than the {rows} training rows: every epoch "
                "is one batch of them all",
                stacklevel=2,
            )
        return min(int(self.batch_size), rows)

    def _begin_record(self, validated: bool) -> None:
        """Set up what an epoch is compared with, unless an earlier fit has."""
        state = self.__dict__
        if "loss_curve_" not in state:
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_: float | None = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.validation_loss_curve_: list[float] | None = None
        if not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = math.inf
        if validated and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -math.inf
            self._best = self._net.snapshot()

    def _train(self, net: MLP, train: Held, held: Held | None, single: bool, tasks: Any) -> None:
        self._begin_record(held is not None)
        rows = len(train.X)
        batch, orders = self._batch(rows), Orders(rows)
        averaged = net._engine.network.loss == "half_squared_error"
        reported = Reported(train, batch, orders, 1 / self.n_outputs_ if averaged else 1.0)
        if reported.share != 1 and (self.alpha or self.l1):
            reported.penalties = Penalties(net._engine, train.w, rows, batch, orders)
        net._engine.before_batch = reported.penalties
        epochs = Epochs(self, rows, reported, held, self._scoring())
        others = [self.callbacks] if callable(self.callbacks) else list(self.callbacks or ())
        fresh = None if single and self.__dict__.get("_trained") else parameters.optimizer(self)
        self._trained = True
        self.n_iter_ = 0
        try:
            net.fit(
                train.X,
                train.T,
                epochs=1 if single else self.max_iter,
                batch_size=batch,
                shuffle=orders if self.shuffle else False,
                optimizer=fresh,
                sample_weight=train.w,
                validation_data=None if held is None else (held.X, held.T, held.w),
                callbacks=[epochs, *others, *([] if tasks is None else [tasks])],
                progress=self.verbose == "progress",
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        except DivergenceError as error:
            if held is None:
                raise ValueError(
                    "Solver produced non-finite parameter weights. The input data may contain "
                    f"large values and need to be preprocessed. {REMEDY}"
                ) from error
            epochs.diverged(net)
            warnings.warn(f"{REMEDY} The best weights are back.", ConvergenceWarning, stacklevel=2)
        else:
            if not (single or epochs.stopped) and self.n_iter_ == self.max_iter:
                warnings.warn(
                    f"Training has not converged within max_iter={self.max_iter} epochs.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        finally:
            net._engine.before_batch = None
        if held is not None:
            net.restore(self._best)

    def _scoring(self) -> Any:
        """Return the function (held, history) -> score."""
        if self.eval_metric is None:
            return self._score_of
        if self.eval_metric == "loss":
            return _minus_loss
        scoring = scores.scorer(self.eval_metric)

        def score(held: Held, _history: History) -> float:
            return scores.measured(scoring, self, held)

        return score

    def _score_of(self, held: Held, _history: History) -> float:
        outputs = devices.on_host(self._net._engine.forward(held.X, False))
        if not np.isfinite(outputs).all():
            return math.nan
        return self._metric(held.truth, self._answers(outputs), held.w)


def _minus_loss(_held: Held, history: History) -> float:
    return -history.validation_loss[-1]

"""What the classifier and the regressor share: fitting, and how they keep their network."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import checks, choices
from ..history import History
from ..kernels.contract import Array, Data
from ..network import MLP
from ..sparse import SparseRows
from ..training import DivergenceError
from . import lbfgs, networks, parameters, scores
from .epochs import Epochs, Orders, Reported
from .scikit_callbacks import CallbackSupportMixin, begun
from .scores import Held

REMEDY = (
    "Training diverged: lower learning_rate_init, scale the columns of X to mean 0 and variance 1, "
    "or clip the gradient (clip_norm=1.0)."
)


class Coded(NamedTuple):
    """Targets in the forms that are needed."""

    T: Array
    """As `MLP` takes them."""
    truth: Array
    """As the estimator's answers come."""
    outputs: int
    loss: Any
    """As `MLP` takes it."""
    constants: Array | None = None
    """What the reported loss has for each row beyond `MLP`'s loss."""


class BaseMLP(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Fitting and stopping, for both kinds of targets."""

    hidden_layer_sizes: Any
    activation: Any
    solver: Any
    alpha: float
    batch_size: Any
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    early_stopping: bool
    validation_fraction: float
    max_fun: int
    backend: str
    dtype: Any
    eval_metric: Any
    callbacks: Any
    n_threads: int | None

    _parameter_constraints = parameters.CONSTRAINTS

    # What a subclass says

    def _coded(self, y: Array, dtype: np.dtype[Any], first: bool, single: bool) -> Coded:
        raise NotImplementedError

    def _answers(self, outputs: Array) -> Array:
        """Return answers in the form of `Coded.truth`."""
        raise NotImplementedError

    def _written(self, answers: Array) -> Array:
        """Return answers in the form of the user's y."""
        raise NotImplementedError

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        raise NotImplementedError

    def _class_weights(self, y: Array, single: bool) -> Array | None:
        return None

    def _metric(self, truth: Array, answers: Array, w: Array | None) -> float:
        raise NotImplementedError

    # Fitting

    def _remember(self, given: dict[str, Any]) -> None:
        """Store the constructor's arguments, as scikit-learn wants them: unchanged."""
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit makes an epoch of minibatches: it needs another solver than 'lbfgs'"
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        single: bool,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Any:
        parameters.hidden_sizes(self.hidden_layer_sizes)  # a bad size, before anything changes
        first = not hasattr(self, "coefs_") or (not self.warm_start and not single)
        wanted = (np.float64, np.float32) if self.dtype is None else choices.precision(self.dtype)
        X, y = self._checked_targets(
            X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=wanted, reset=first
        )
        coded = self._coded(y, X.dtype, first, single)
        weights = self._weights(X, y, sample_weight, single)
        rows = sparse_or_dense(X)
        rng = check_random_state(self.random_state)
        net = self._network(rows, coded, weights, rng, first)
        tasks = begun(self, X, y, sample_weight)
        if self.solver == "lbfgs":
            self._refuse_for_lbfgs(X_val)
            self._minimize(net, Data(rows, coded.T, weights), coded)  # type: ignore[arg-type]
        else:
            data = Held(rows, coded.T, coded.truth, y, weights)
            train, held, constants = self._split(data, coded, rng, single, X_val, y_val)
            self._train(net, train, held, constants, single, tasks)
        self.__dict__.update(networks.shown(net))
        if tasks is not None:
            tasks.close(net)
        return self

    def _weights(self, X: Any, y: Array, given: Any, single: bool) -> Array | None:
        balance = self._class_weights(y, single)
        if given is None:
            return balance
        weights: Array = _check_sample_weight(given, X)
        if (weights < 0).any():
            raise ValueError(f"sample_weight must be >= 0; got {weights.min():g}")
        weights = weights if balance is None else weights * balance
        if not weights.any():
            raise ValueError("sample_weight must not be zero for every row")
        return weights

    def _network(
        self, rows: Any, coded: Coded, weights: Array | None, rng: Any, first: bool
    ) -> MLP:
        """Return the network to train: new, or the one of the previous fit."""
        total = float(len(rows) if weights is None else weights.sum())
        wanted = networks.recipe(
            self, rows.shape[1], coded.outputs, coded.loss, rows.dtype, total
        )
        if first:
            net = networks.drawn(self, wanted, rng)
            self.n_iter_, self.t_ = 0, 0
            self._trained = False
            self.__dict__.pop("loss_curve_", None)
        elif self.__dict__.get("_recipe") == wanted:
            net = self._live()
        else:
            old = self.__dict__.get("_net")
            net = networks.carried(old, wanted, self.coefs_, self.intercepts_)
            self._best = net.snapshot()
        net._engine.rng = rng
        net._engine.threads = self.n_threads
        output = net._engine.network.layers[-1].activation
        self._net, self._recipe = net, wanted
        self.n_outputs_ = coded.outputs
        self.n_layers_ = len(wanted["layer_sizes"])
        self.out_activation_ = parameters.OUTPUT_NAMES.get(output, output)
        self.__dict__.update(networks.shown(net))
        return net

    def _live(self) -> MLP:
        """Return the network, with weights that the user may have exchanged."""
        net: MLP | None = self.__dict__.get("_net")
        if net is None:
            check_is_fitted(self, "_net")
            raise AssertionError
        places = (*self.coefs_, *self.intercepts_)
        if len(places) != len(self._shown) or any(
            now is not then for now, then in zip(places, self._shown, strict=True)
        ):
            networks.assign(net, "coefs", self.coefs_, "coefs_")
            networks.assign(net, "intercepts", self.intercepts_, "intercepts_")
            self._shown = list(places)
        return net

    # Stochastic solvers

    def _split(
        self, data: Held, coded: Coded, rng: Any, single: bool, X_val: Any, y_val: Any
    ) -> tuple[Held, Held | None, Array | None]:
        """Return the rows to train on, those that validate, and the former's loss constants."""
        if X_val is not None or y_val is not None:
            return data, self._given(X_val, y_val, data.X.dtype), coded.constants
        if not self.early_stopping:
            return data, None, coded.constants
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
        parts = [
            Held(*(None if part is None else part[rows] for part in data)) for rows in (train, held)
        ]
        for part, name in zip(parts, ("training", "validation"), strict=True):
            if part.w is not None and not part.w.any():
                raise ValueError(f"sample_weight is zero for every {name} row that was drawn")
        constants = None if coded.constants is None else coded.constants[train]
        return parts[0], parts[1], constants

    def _given(self, X: Any, y: Any, dtype: np.dtype[Any]) -> Held:
        """Return the user's validation rows."""
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together")
        X, y = self._checked_targets(
            X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=dtype, reset=False
        )
        coded = self._coded(y, X.dtype, first=False, single=True)
        if coded.outputs != self.n_outputs_:
            raise ValueError(
                f"y_val must have {self.n_outputs_} outputs as y has; got {coded.outputs}"
            )
        return Held(sparse_or_dense(X), coded.T, coded.truth, y, None)

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

    def _train(
        self,
        net: MLP,
        train: Held,
        held: Held | None,
        constants: Array | None,
        single: bool,
        tasks: Any,
    ) -> None:
        self._begin_record(held is not None)
        rows = len(train.X)
        batch, orders = self._batch(rows), Orders(rows)
        reported = Reported(constants, train.w, batch, orders)
        epochs = Epochs(self, rows, reported, held, self._scoring(), single)
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
        if held is not None:
            net.restore(self._best)

    def _scoring(self) -> Any:
        if self.eval_metric is None:
            return self._score_of
        if self.eval_metric == "loss":
            return lambda held, history: -history.validation_loss[-1]
        scoring = scores.scorer(self.eval_metric)
        return lambda held, history: scores.measured(scoring, self, held)

    def _score_of(self, held: Held, history: History) -> float:
        outputs = self._net._engine.forward(held.X, False)
        if not np.isfinite(outputs).all():
            return math.nan
        return self._metric(held.truth, self._answers(outputs), held.w)

    # L-BFGS

    def _refuse_for_lbfgs(self, X_val: Any) -> None:
        for layer in self._net._engine.network.layers:
            if layer.dropout > 0 or layer.normalization == "batch":
                raise ValueError(
                    "solver='lbfgs' has no minibatches: dropout and normalization='batch' need "
                    "another solver, such as 'adam'"
                )
        if X_val is not None:
            raise ValueError("X_val and y_val need another solver than 'lbfgs', such as 'adam'")

    def _watching(self) -> Any:
        """Return what is told the loss of each iteration of L-BFGS; it prints where asked to."""
        self.loss_curve_ = []

        def watch(loss: float) -> bool:
            self.loss_curve_.append(loss)
            if self.verbose:
                print(f"Iteration {len(self.loss_curve_)}, loss = {loss:.8f}")  # noqa: T201
            return False

        return watch

    def _minimize(self, net: MLP, data: Data, coded: Coded) -> None:
        w, constants = data.w, coded.constants
        constant = 0.0 if constants is None else float(np.average(constants, weights=w))
        if w is not None:
            data = data._replace(w=w.astype(net.dtype))
        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol}
        result = lbfgs.run(net._engine, data, constant, self._watching(), options)
        if not all(np.isfinite(a).all() for a in net.parameters.values()):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain "
                "large values and need to be preprocessed."
            )
        self.n_iter_, self.loss_ = min(result.nit, self.max_iter), float(result.fun)
        if result.status != 0:
            warnings.warn(
                f"lbfgs has not converged after {self.n_iter_} iterations: {result.message}. "
                f"A larger max_iter (now {self.max_iter}) or scaled columns of X may help.",
                ConvergenceWarning,
                stacklevel=2,
            )

    # Prediction

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs (rows, O)."""
        net = self._live()
        plain = (
            type(X) is np.ndarray
            and X.dtype == net.dtype
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and len(X) > 0
            and X.flags.c_contiguous
            and "feature_names_in_" not in self.__dict__
            and checks.all_finite(X)
        )
        # scikit-learn's check costs several times a small network's prediction, so arrays that
        # can only pass skip it.
        if not plain:
            X = validate_data(
                self, X, accept_sparse=["csr", "csc"], dtype=net.dtype, reset=False
            )
        return net._engine.forward(sparse_or_dense(X), False)

    # Scikit-learn's hooks

    def __getstate__(self) -> dict[str, Any]:
        if "_net" in self.__dict__:
            self._live()
        state: dict[str, Any] = super().__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_net" in self.__dict__:
            self.__dict__.update(networks.shown(self._net))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def sparse_or_dense(X: Any) -> Any:
    """Return checked X as `MLP` takes it."""
    if issparse(X):
        return SparseRows(X.tocsr(), X.dtype)
    return np.require(X, requirements=["C", "A"])

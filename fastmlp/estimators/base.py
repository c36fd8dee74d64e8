"""What the classifier and the regressor share: fitting, and how they keep their network."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import blocks, checks, choices, devices, kernels
from ..kernels.contract import Array, Data
from ..network import MLP
from ..threads import get_num_threads
from . import lbfgs, networks, on_gpu, parameters
from .coded import Accepted, Coded
from .scikit_callbacks import CallbackSupportMixin, begun
from .scores import Held
from .stochastic import Stochastic


class BaseMLP(Stochastic, CallbackSupportMixin, BaseEstimator):
    """Fitting and stopping, for both kinds of targets."""

    hidden_layer_sizes: Any
    activation: Any
    solver: Any
    random_state: Any
    tol: float
    warm_start: bool
    max_fun: int
    backend: str
    dtype: Any
    n_threads: int | None
    n_features_in_: int
    _shown: list[Array]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = parameters.CONSTRAINTS

    def _written(self, answers: Array) -> Array:
        """Return answers in the form of the user's y."""
        raise NotImplementedError

    def _class_weights(self, y: Array, w: Array | None, single: bool) -> Array | None:
        """Return a weight for each row, or None."""
        return None

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
        y, y_val, sample_weight = map(devices.on_host, (y, y_val, sample_weight))
        X, y = self._checked_targets(X, y, dtype=self._numbers(X), reset=first)
        precision = on_gpu.precision(self.dtype, X)
        accepted = self._accepted(precision, X)
        coded = self._coded(y, accepted.dtype, first, single)
        weights = self._weights(y, sample_weight, single)
        rows = accepted.rows(X)
        rng = check_random_state(self.random_state)
        net = self._network(rows, coded, precision, weights, rng, first)
        tasks = begun(self, X, y, sample_weight)
        if self.solver == "lbfgs":
            self._refuse_for_lbfgs(X_val)
            self._minimize(net, Data(rows, coded.T, weights), coded)
        else:
            data = Held(rows, coded.T, coded.truth, y, weights, coded.constants)
            train, held = self._split(data, rng, single, X_val, y_val)
            self._train(net, train, held, single, tasks)
        self.__dict__.update(networks.shown(net))
        if tasks is not None:
            tasks.close(net)
        return self

    def _numbers(self, X: Any) -> Any:
        """Return the dtypes that rows may keep; others are converted to the first."""
        if devices.holds(X):
            return (choices.numbers_of(on_gpu.precision(self.dtype, X)),)
        own = ("float64", "float32") if self.dtype is None else (choices.precision(self.dtype),)
        numbers = [choices.numbers_of(name) for name in own]
        return (*numbers, *self._accepted(own[0], X).left_alone(X))

    def _validated(self, X: Any, y: Any, dtype: Any, reset: bool, numeric: bool) -> Any:
        """Return X and y checked, X where it lies."""
        if devices.holds(X):
            return on_gpu.checked_targets(self, X, y, dtype, reset, numeric)
        checked = {"accept_sparse": ["csr", "csc"], "multi_output": True, "y_numeric": numeric}
        return validate_data(self, X, y, dtype=dtype, reset=reset, **checked)

    def _weights(self, y: Array, given: Any, single: bool) -> Array | None:
        weights: Array | None = None
        if given is not None:
            weights = np.asarray(_check_sample_weight(given, y))
            if (weights < 0).any():
                raise ValueError(f"sample_weight must be >= 0; got {weights.min():g}")
        balance = self._class_weights(y, weights, single)
        if balance is not None:
            weights = balance if weights is None else weights * balance
        if weights is not None and not weights.any():
            raise ValueError("sample_weight must not be zero for every row")
        return weights

    def _accepted(self, precision: str, X: Any) -> Accepted:
        name = choices.backend(on_gpu.backend(self.backend, X), precision)
        # L-BFGS passes over the rows hundreds of times: it wants them converted once.
        gathered = () if self.solver == "lbfgs" else kernels.load(name).GATHERED
        numbers = choices.numbers_of(precision)
        return Accepted(numbers, gathered, lambda: self.n_threads or get_num_threads())

    def _network(
        self,
        rows: Any,
        coded: Coded,
        precision: str,
        weights: Array | None,
        rng: Any,
        first: bool,
    ) -> MLP:
        """Return the network to train: new, or the one of the previous fit."""
        total = float(len(rows) if weights is None else weights.sum())
        wanted = networks.recipe(self, rows, coded.outputs, coded.loss, precision, total)
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

    @property
    def _optimizer(self) -> Any:
        """The optimizer, with its present learning rate."""
        return self._live().optimizer

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
        """Return the network's outputs (rows, O), where X lies."""
        net = self._live()
        plain = (
            checks.is_matrix(X, self.n_features_in_, net.dtype)
            and "feature_names_in_" not in self.__dict__
            and blocks.all_finite(X)
        )
        # scikit-learn's check costs several times a small network's prediction, so arrays that
        # can only pass skip it.
        if devices.holds(X):
            X = on_gpu.checked_rows(self, X, net.dtype, net.backend, reset=False)
        elif not plain:
            accepted = Accepted.by(net._engine)
            wanted = (accepted.dtype, *accepted.left_alone(X))
            X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=wanted, reset=False)
            X = accepted.rows(X)
        return net._engine.forward(X, False)

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

"""Constructor parameters: what is allowed, and what it means to class `MLP`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from ..activations import Activation
from ..callbacks import Callback
from ..initializers import Random, Uniform
from ..kernels.contract import Array
from ..kernels.reference.activations import PROPERTIES
from ..optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

ACTIVATIONS: Mapping[str, str] = {
    **{
        name: name
        for name, known in PROPERTIES.items()
        if known.trainable and not known.output_only
    },
    "logistic": "sigmoid",
}
"""Word -> the word of `MLP`, for hidden layers."""

OUTPUT_NAMES: Mapping[str, str] = {"sigmoid": "logistic"}
"""Output activation -> scikit-learn's word, where it has one of its own."""

CLASSIFIER_LOSSES = ("log_loss", "hinge", "squared_hinge", "exponential", "perceptron")

REGRESSOR_LOSSES: Mapping[str, str] = {
    "squared_error": "half_squared_error",
    "poisson": "poisson",
    "absolute_error": "absolute_error",
    "huber": "huber",
    "quantile": "quantile",
}
"""Word -> the word of `MLP`."""

STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop", "adagrad")

_at_least_0 = [Interval(Real, 0, None, closed="left")]
_above_0 = [Interval(Real, 0, None, closed="neither")]

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS)), Activation, "array-like"],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC}), Optimizer],
    "alpha": _at_least_0,
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": _above_0,
    "power_t": _at_least_0,
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": _at_least_0,
    "verbose": ["verbose", StrOptions({"progress"})],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": _above_0,
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "backend": [StrOptions({"auto", "numpy", "numba", "cupy"})],
    "dtype": "no_validation",  # type: ignore[dict-item]  # whatever names a precision to NumPy
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "normalization": [StrOptions({"batch", "layer"}), "array-like", None],
    "l1": _at_least_0,
    "clip_value": [*_above_0, None],
    "clip_norm": [*_above_0, None],
    "eval_metric": [str, callable, None],
    "callbacks": [list, tuple, callable, Callback, None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "coefs_init": [list, tuple, None],
    "intercepts_init": [list, tuple, None],
}
"""Parameter -> what scikit-learn's check lets pass."""


def hidden_sizes(given: Any) -> list[int]:
    """Return the hidden layers' sizes as a list.

    Raises
    ------
    ValueError
        One of them is not above 0.
    """
    sizes = [int(size) for size in given] if hasattr(given, "__iter__") else [int(given)]
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def hidden_activations(given: Any) -> Any:
    """Return activations as `MLP` takes them: one for all hidden layers, or a list."""
    if isinstance(given, str):
        return ACTIVATIONS.get(given, given)
    if isinstance(given, Activation):
        return given
    return [hidden_activations(one) for one in given]


def per_layer(given: Any) -> Any:
    """Return a value for all hidden layers as it is, and any sequence of values as a list."""
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        return given
    return list(given)


@dataclasses.dataclass(frozen=True)
class SameBounds:
    """Weights, then biases, uniform on [-b, b), b = sqrt(factor/(I + O)), as in scikit-learn."""

    factor: float

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        """Draw weights (inputs, outputs) and biases (outputs,)."""
        uniform = Uniform(float(np.sqrt(self.factor / (inputs + outputs))))
        weights, _ = uniform.draw(rng, inputs, outputs, activation)
        return weights, rng.uniform(-uniform.bound, uniform.bound, outputs)


def initializer(activation: Any) -> SameBounds:
    """Return what draws the first weights for hidden layers of this kind."""
    kinds = activation if isinstance(activation, list) else [activation]
    # Glorot & Bengio's bound, and scikit-learn's narrower one where sigmoids would saturate.
    return SameBounds(2.0 if kinds and all(kind == "sigmoid" for kind in kinds) else 6.0)


def optimizer(params: Any) -> Optimizer:
    """Return the optimizer for the parameters of an estimator."""
    if isinstance(params.solver, Optimizer):
        return params.solver
    rate = float(params.learning_rate_init)
    clips = {"clip_value": params.clip_value, "clip_norm": params.clip_norm}
    if params.solver == "sgd":
        nesterov = bool(params.nesterovs_momentum and params.momentum > 0)
        return SGD(rate, params.momentum, nesterov, rate_in_velocity=True, **clips)
    if params.solver == "adagrad":
        return Adagrad(rate, **clips)
    if params.solver == "rmsprop":
        return RMSprop(rate, epsilon=params.epsilon, **clips)
    numbers = (rate, params.beta_1, params.beta_2, params.epsilon)
    if params.solver == "adamw":
        return AdamW(*numbers, **clips)
    return Adam(*numbers, epsilon_hat=True, **clips)

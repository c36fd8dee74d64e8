"""Losses, summed over the outputs of a row, and their gradients.

Value fills losses (N,) from the outputs A and the targets T, both (N, O); gradient fills dA (N, O).
`constant` is the number named in the formula, unused where there is none. d = A - T throughout.
A logit loss is a loss joined with its output activation and computed from Z, so that it stays
finite for every finite Z but where exp itself overflows. NaN in gives NaN out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contract import Array, LogitLoss, Loss
from .activations import ACTIVATIONS
from .elementary import sigmoid, softplus


def _cross_entropy_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """-sum T log(A); A is cut below at the smallest normal number."""
    losses[...] = -(T * np.log(_positive(A))).sum(axis=1)


def _cross_entropy_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -T/A, A cut as in the value."""
    dA[...] = -T / _positive(A)


def _binary_cross_entropy_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """-sum (T log(A) + (1 - T) log(1 - A)); A is cut to [eps, 1 - eps] of its precision."""
    A = _inside(A)
    losses[...] = -(T * np.log(A) + (1 - T) * np.log1p(-A)).sum(axis=1)


def _binary_cross_entropy_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = (A - T)/(A (1 - A)), A cut as in the value."""
    A = _inside(A)
    dA[...] = (A - T) / (A * (1 - A))


def _squared_error_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum d^2."""
    losses[...] = np.square(A - T).sum(axis=1)


def _squared_error_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = 2 d."""
    dA[...] = 2 * (A - T)


def _half_squared_error_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum d^2/2."""
    losses[...] = 0.5 * np.square(A - T).sum(axis=1)


def _half_squared_error_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = d."""
    dA[...] = A - T


def _mean_squared_error_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum d^2 / O."""
    losses[...] = np.square(A - T).sum(axis=1) / A.shape[1]


def _mean_squared_error_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = 2 d / O."""
    dA[...] = 2 * (A - T) / A.shape[1]


def _absolute_error_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum |d|."""
    losses[...] = np.abs(A - T).sum(axis=1)


def _absolute_error_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = sign(d), 0 where d = 0."""
    dA[...] = np.sign(A - T)


def _mean_absolute_error_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum |d| / O."""
    losses[...] = np.abs(A - T).sum(axis=1) / A.shape[1]


def _mean_absolute_error_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = sign(d) / O, 0 where d = 0."""
    dA[...] = np.sign(A - T) / A.shape[1]


def _huber_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum d^2/2 where |d| <= delta, else delta (|d| - delta/2); constant delta (Huber 1964)."""
    size = np.abs(A - T)
    inner = np.minimum(size, constant)
    losses[...] = (inner * (size - 0.5 * inner)).sum(axis=1)


def _huber_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = d cut to [-delta, delta]."""
    dA[...] = np.clip(A - T, -constant, constant)


def _hinge_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum max(0, 1 - T A), T = +-1 (Cortes & Vapnik 1995)."""
    losses[...] = np.maximum(1 - T * A, 0).sum(axis=1)


def _hinge_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -T where T A < 1, else 0."""
    dA[...] = _or_nan(np.where(T * A < 1, -T, 0), A)


def _squared_hinge_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum max(0, 1 - T A)^2, T = +-1."""
    losses[...] = np.square(np.maximum(1 - T * A, 0)).sum(axis=1)


def _squared_hinge_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -2 T max(0, 1 - T A)."""
    dA[...] = -2 * T * np.maximum(1 - T * A, 0)


def _exponential_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum exp(-T A), T = +-1 (Friedman, Hastie & Tibshirani 2000: AdaBoost's loss)."""
    losses[...] = np.exp(-T * A).sum(axis=1)


def _exponential_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -T exp(-T A)."""
    dA[...] = -T * np.exp(-T * A)


def _perceptron_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum max(0, -T A), T = +-1 (Rosenblatt 1957)."""
    losses[...] = np.maximum(-T * A, 0).sum(axis=1)


def _perceptron_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -T where T A <= 0, else 0: at 0 too, so that zero weights learn."""
    dA[...] = _or_nan(np.where(T * A <= 0, -T, 0), A)


def _poisson_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum A - T log(A), the Poisson log-likelihood but for log(T!); A is cut in the logarithm."""
    losses[...] = (A - T * np.log(_positive(A))).sum(axis=1)


def _poisson_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = 1 - T/A, A cut as in the value."""
    dA[...] = 1 - T / _positive(A)


def _quantile_value(losses: Array, A: Array, T: Array, constant: float) -> None:
    """Sum max(q (T - A), (q - 1) (T - A)); constant q (Koenker & Bassett 1978)."""
    error = T - A
    losses[...] = np.maximum(constant * error, (constant - 1) * error).sum(axis=1)


def _quantile_gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
    """dA = -q where A < T, 1 - q where A > T, 0 where they are equal."""
    above = (A > T).astype(A.dtype)
    dA[...] = _or_nan(np.where(A == T, 0, above - constant), A)


def _cross_entropy_softmax_value(losses: Array, Z: Array, T: Array) -> None:
    """Sum T (logsumexp(Z) - Z)."""
    shifted = Z - Z.max(axis=1, keepdims=True)
    logsumexp = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses[...] = (T * (logsumexp - shifted)).sum(axis=1)


def _cross_entropy_softmax_gradient(dZ: Array, Z: Array, T: Array) -> None:
    """dZ = softmax(Z) - T, for rows of T that sum to 1 (Bridle 1990)."""
    ACTIVATIONS["softmax"].forward(dZ, Z, (), 0.0)
    dZ -= T


def _cross_entropy_sigmoid_value(losses: Array, Z: Array, T: Array) -> None:
    """Sum T softplus(-Z)."""
    losses[...] = (T * softplus(-Z)).sum(axis=1)


def _cross_entropy_sigmoid_gradient(dZ: Array, Z: Array, T: Array) -> None:
    """dZ = T (sigmoid(Z) - 1) = -T sigmoid(-Z)."""
    dZ[...] = -T * sigmoid(-Z)


def _binary_cross_entropy_sigmoid_value(losses: Array, Z: Array, T: Array) -> None:
    """Sum max(Z, 0) - Z T + log(1 + exp(-|Z|))."""
    losses[...] = (np.maximum(Z, 0) - Z * T + np.log1p(np.exp(-np.abs(Z)))).sum(axis=1)


def _binary_cross_entropy_sigmoid_gradient(dZ: Array, Z: Array, T: Array) -> None:
    """dZ = sigmoid(Z) - T."""
    dZ[...] = sigmoid(Z) - T


def _poisson_exp_value(losses: Array, Z: Array, T: Array) -> None:
    """Sum exp(Z) - T Z."""
    losses[...] = (np.exp(Z) - T * Z).sum(axis=1)


def _poisson_exp_gradient(dZ: Array, Z: Array, T: Array) -> None:
    """dZ = exp(Z) - T."""
    dZ[...] = np.exp(Z) - T


def _positive(A: Array) -> Array:
    return np.asarray(np.maximum(A, np.finfo(A.dtype).tiny))


def _inside(A: Array) -> Array:
    epsilon = np.finfo(A.dtype).eps
    return np.clip(A, epsilon, 1 - epsilon)


def _or_nan(slope: Array, A: Array) -> Array:
    return np.where(np.isnan(A), A, slope)


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy_value, _cross_entropy_gradient),
    "binary_cross_entropy": Loss(_binary_cross_entropy_value, _binary_cross_entropy_gradient),
    "squared_error": Loss(_squared_error_value, _squared_error_gradient),
    "half_squared_error": Loss(_half_squared_error_value, _half_squared_error_gradient),
    "mean_squared_error": Loss(_mean_squared_error_value, _mean_squared_error_gradient),
    "absolute_error": Loss(_absolute_error_value, _absolute_error_gradient),
    "mean_absolute_error": Loss(_mean_absolute_error_value, _mean_absolute_error_gradient),
    "huber": Loss(_huber_value, _huber_gradient),
    "hinge": Loss(_hinge_value, _hinge_gradient),
    "squared_hinge": Loss(_squared_hinge_value, _squared_hinge_gradient),
    "exponential": Loss(_exponential_value, _exponential_gradient),
    "perceptron": Loss(_perceptron_value, _perceptron_gradient),
    "poisson": Loss(_poisson_value, _poisson_gradient),
    "quantile": Loss(_quantile_value, _quantile_gradient),
}

LOGIT_LOSSES: Mapping[tuple[str, str], LogitLoss] = {
    ("cross_entropy", "softmax"): LogitLoss(
        _cross_entropy_softmax_value, _cross_entropy_softmax_gradient
    ),
    ("cross_entropy", "sigmoid"): LogitLoss(
        _cross_entropy_sigmoid_value, _cross_entropy_sigmoid_gradient
    ),
    ("binary_cross_entropy", "sigmoid"): LogitLoss(
        _binary_cross_entropy_sigmoid_value, _binary_cross_entropy_sigmoid_gradient
    ),
    ("poisson", "exp"): LogitLoss(_poisson_exp_value, _poisson_exp_gradient),
}
"""(loss, output activation) -> the pair as one function of Z."""

DOMAINS: Mapping[str, str] = dict.fromkeys(LOSSES, "real") | {
    "cross_entropy": "unit",
    "binary_cross_entropy": "unit",
    "poisson": "positive",
}
"""Outputs for which a loss is defined: "real", "unit" ([0, 1]) or "positive"."""

TARGETS: Mapping[str, str] = dict.fromkeys(LOSSES, "real") | {
    "cross_entropy": "classes",
    "binary_cross_entropy": "binary",
    **dict.fromkeys(("hinge", "squared_hinge", "exponential", "perceptron"), "margin"),
    "poisson": "counts",
}
"""Targets that a loss takes: "classes", "binary" (0/1), "margin" (+-1), "counts" (>= 0), "real"."""

LINKS: Mapping[str, str] = dict.fromkeys(LOSSES, "identity") | {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "poisson": "exp",
}
"""Output activation that goes with a loss unless another one is asked for."""

LOSS_CONSTANTS: Mapping[str, float] = {"huber": 1.0, "quantile": 0.5}
"""Default constant of the losses that have one."""

"""Metrics: numbers that compare targets with predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import checks
from .kernels.contract import Array

Metric = Callable[[Array, Array], float]

# Predictions of a network that was about to diverge have squares beyond the range of numbers.
_quiet = np.errstate(over="ignore", invalid="ignore")


def accuracy(y: Array, predicted: Array) -> float:
    """Share of rows of which every output is predicted right."""
    right = y == predicted
    return float((right if right.ndim == 1 else right.all(axis=1)).mean())


def zero_one(y: Array, predicted: Array) -> float:
    """0-1 loss: share of rows with a wrong prediction."""
    return 1.0 - accuracy(y, predicted)


@_quiet
def mse(y: Array, predicted: Array) -> float:
    """Mean squared error, over rows and outputs."""
    return float(np.square(_wide(y) - predicted).mean())


@_quiet
def mae(y: Array, predicted: Array) -> float:
    """Mean absolute error, over rows and outputs."""
    return float(np.abs(_wide(y) - predicted).mean())


@_quiet
def r2(y: Array, predicted: Array) -> float:
    """Coefficient of determination, the mean of the outputs' (Draper & Smith 1998, chapter 1).

    An output whose targets are all alike counts 1 where it is predicted exactly, else 0.
    """
    table = _wide(y).reshape(len(y), -1)
    rest = np.square(table - predicted.reshape(table.shape)).sum(axis=0)
    total = np.square(table - table.mean(axis=0)).sum(axis=0)
    constant = total == 0
    scores = 1.0 - rest / np.where(constant, 1.0, total)
    return float(np.where(constant, (rest == 0).astype(np.float64), scores).mean())


def _wide(y: Array) -> Array:
    return y.astype(np.float64)


METRICS: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "zero_one": zero_one,
    "mse": mse,
    "mae": mae,
    "r2": r2,
}
"""Word -> function (targets, predictions) -> float."""

OF_ANSWERS = ("accuracy", "zero_one")
"""Metrics of right and wrong answers: for losses with labels, not with numbers, as targets."""


def resolve(metrics: Any, kind: str) -> dict[str, Metric]:
    """Return name -> function for words and functions.

    Parameters
    ----------
    metrics : sequence of str or callable
        A callable takes (targets, predictions) and is named by its ``__name__``.
    kind : str
        What the targets are: "classes", "binary", "margin", "counts" or "real".

    Raises
    ------
    TypeError, ValueError
        An unknown word, something else, a name twice, or a metric of answers for numbers.
    """
    if isinstance(metrics, str) or callable(metrics) or not isinstance(metrics, checks.SEQUENCES):
        raise TypeError(
            "metrics must be a sequence of words and functions, such as ('accuracy',); "
            f"got {checks.shown(metrics)}"
        )
    found: dict[str, Metric] = {}
    for metric in metrics:
        name = getattr(metric, "__name__", type(metric).__name__)
        if not callable(metric):
            name = checks.word(metric, "metrics", METRICS, " or a function (y, predicted)")
            if name in OF_ANSWERS and kind in ("counts", "real"):
                raise ValueError(
                    f"metrics: {name} compares labels, but this loss predicts numbers; "
                    "use mse, mae or r2"
                )
            metric = METRICS[name]
        if name == "loss":
            raise ValueError("metrics must have other names than 'loss', which is the loss's")
        if name in found:
            raise ValueError(f"metrics must have different names; got {name} twice")
        found[name] = metric
    return found


def compute(metrics: Mapping[str, Metric], y: Array, predicted: Array) -> dict[str, float]:
    """Return name -> value.

    Raises
    ------
    TypeError
        A user's metric returns no number.
    """
    values = {}
    for name, metric in metrics.items():
        value = metric(y, predicted)
        try:
            values[name] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"metric {name} must return a number; got {checks.shown(value)}"
            ) from None
    return values

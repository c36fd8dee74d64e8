"""Scores of the validation rows: scikit-learn's numbers without its checks, once an epoch.

`accuracy_score` and `r2_score` look at their arguments for longer than a small network needs to
train an epoch; the arguments here are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import devices
from ..kernels.contract import Array


class Held(NamedTuple):
    """Rows that train or validate."""

    X: Any
    T: Array
    """Targets as `MLP` takes them."""
    truth: Array
    """Targets as the estimator's answers come."""
    y: Array
    """Targets as the user wrote them."""
    w: Array | None
    constants: Array | None = None
    """What the reported loss has for each row beyond `MLP`'s loss."""

    def take(self, rows: Array) -> Held:
        """Return some of the rows."""
        rest: list[Any] = [None if part is None else part[rows] for part in self[1:]]
        return Held(devices.chosen_rows(self.X, rows), *rest)


def accuracy(truth: Array, answers: Array, w: Array | None) -> float:
    """Weighted share of rows of which every output is right."""
    right = truth == answers
    right = right.all(axis=1) if right.ndim == 2 else right
    return float(np.average(right, weights=w))


def r2(truth: Array, answers: Array, w: Array | None) -> float:
    """Coefficient of determination, the mean of the outputs'; constant ones count 1 or 0."""
    share = np.ones((len(truth), 1)) if w is None else w[:, None]
    wide = truth.astype(np.float64)
    rest = (share * np.square(wide - answers)).sum(axis=0)
    total = (share * np.square(wide - np.average(wide, axis=0, weights=w))).sum(axis=0)
    constant = total == 0
    scores = 1.0 - rest / np.where(constant, 1.0, total)
    return float(np.where(constant, (rest == 0).astype(np.float64), scores).mean())


def scorer(metric: Any) -> Callable[..., Any]:
    """Return scikit-learn's scorer for a word, or the user's own for a function.

    Raises
    ------
    ValueError
        scikit-learn knows no such word.
    """
    from sklearn.metrics import get_scorer

    found: Callable[..., Any] = get_scorer(metric) if isinstance(metric, str) else metric
    return found


def measured(scoring: Callable[..., Any], estimator: Any, held: Held) -> float:
    """Return what a scorer (estimator, X, y) gives for an estimator in the middle of its training.

    Raises
    ------
    TypeError
        It gives no number.
    """
    # Validation rows are plain arrays here: without names, there is nothing to warn of.
    view = object.__new__(type(estimator))
    view.__dict__.update(vars(estimator))
    view.__dict__.pop("feature_names_in_", None)
    weights = {} if held.w is None else {"sample_weight": held.w}
    # Scorers compare answers with y, which is on the host: so must the answers be.
    X = getattr(held.X, "matrix", devices.on_host(held.X))
    value = scoring(view, X, held.y, **weights)
    if not isinstance(value, int | float | np.number):
        raise TypeError(f"eval_metric must return a number; got {value!r}")
    return float(value)

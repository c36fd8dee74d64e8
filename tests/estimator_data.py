"""Small tables for the tests of the estimators, and what compares two of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning

import fastmlp
from fastmlp.datasets import load_digits

ROWS = 150


def tables() -> dict[str, tuple[str, Any, Any, dict[str, Any]]]:
    """Name -> (estimator, X, y, parameters): every kind of target."""
    rng = np.random.default_rng(5)
    X, y = load_digits(scaling="unit")
    X, y = X[:ROWS].astype(np.float64), y[:ROWS]
    labels = np.array(["even", "odd"], dtype=object)[y % 2]
    L, Y = make_multilabel_classification(n_samples=ROWS, n_features=12, random_state=3)
    R = rng.normal(size=(ROWS, 8))
    values = np.sin(R[:, 0]) + R[:, 1] * R[:, 2]
    several = np.stack([values, R[:, 3] ** 2, 0.1 * rng.normal(size=ROWS)], axis=1)
    counts = rng.poisson(np.exp(0.5 * R[:, 0])).astype(np.float64)
    return {
        "classes": ("MLPClassifier", X, y, {}),
        "two classes": ("MLPClassifier", X, labels, {}),
        "labels": ("MLPClassifier", L / 10, Y, {}),
        "values": ("MLPRegressor", R, values, {}),
        "several values": ("MLPRegressor", R, several, {"alpha": 0.5}),
        "counts": ("MLPRegressor", R, counts, {"loss": "poisson"}),
        "several counts": (
            "MLPRegressor",
            R,
            np.stack([counts, counts[::-1]], 1),
            {"loss": "poisson"},
        ),
    }


TABLES = tables()


def both(kind: str, **parameters: Any) -> tuple[Any, Any]:
    """Return scikit-learn's estimator and ours."""
    return (
        getattr(sklearn.neural_network, kind)(**parameters),
        getattr(fastmlp, kind)(**parameters),
    )


def quietly(method: Any, *arguments: Any, **named: Any) -> Any:
    """Call a fit that ends before it has converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return method(*arguments, **named)


def distance(theirs: Any, ours: Any) -> float:
    """Largest difference of weights, relative to the largest weight of the layer."""
    pairs = zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


RECORDS = ("loss_curve_", "validation_scores_")
SCALARS = ("loss_", "best_loss_", "best_validation_score_")
COUNTS = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def assert_same(theirs: Any, ours: Any, X: Any, tolerance: float) -> None:
    """Everything that is fitted agrees, and what is predicted from it."""
    for name in COUNTS:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in SCALARS if hasattr(theirs, "loss_curve_") else ("loss_",):
        expected, got = getattr(theirs, name), getattr(ours, name)
        assert (got is None) == (expected is None), name
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=tolerance, err_msg=name)
    for name in RECORDS:
        if getattr(theirs, name, None) is not None:
            expected = getattr(theirs, name)
            np.testing.assert_allclose(
                getattr(ours, name), expected, rtol=tolerance, atol=tolerance, err_msg=name
            )
    assert distance(theirs, ours) < tolerance
    expected, got = theirs.predict(X), ours.predict(X)
    assert got.dtype.kind == expected.dtype.kind
    assert got.shape == expected.shape
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    else:
        assert (got == expected).all()
    if hasattr(theirs, "predict_proba"):
        expected, got = theirs.predict_proba(X), ours.predict_proba(X)
        np.testing.assert_allclose(got, expected, rtol=100 * tolerance, atol=tolerance)
        with np.errstate(divide="ignore"):  # probabilities that round to 0
            logs = ours.predict_log_proba(X)
        assert (logs[got > 0] == np.log(got[got > 0])).all()

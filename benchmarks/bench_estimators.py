"""Fit times of the scikit-learn estimators against scikit-learn's own, result by result.

Both sides get the same parameters and seed, and the results are compared before anything is timed.
"warm" repeats fits in one process; "cold" is a process of its own with an empty kernel cache,
"cached" one that finds compiled kernels. The search over activations and solvers runs in two
worker processes, which are there already when it is timed. ``--quick`` tries everything on a few
rows and writes nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import joblib
import numpy as np
import sklearn.neural_network
from common import python, write
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import fastmlp
from fastmlp.datasets import load_digits, load_fashion_mnist, load_mnist

Array = NDArray[Any]
Table = tuple[Array, Array]
SIDES = ("scikit-learn", "fastmlp")
QUICK_ROWS = 300
PAUSE = 0.3
"""Seconds before each measurement: OpenBLAS's threads keep their cores busy for a while."""


def digits() -> Table:
    return load_digits(scaling="unit")


def mnist() -> Table:
    X, y = load_mnist(scaling="unit")[:2]
    return X, y


def fashion() -> Table:
    X, y = load_fashion_mnist(scaling="unit")[:2]
    return X, y


def ten_thousand() -> Table:
    X, y = mnist()
    return X[:10_000], y[:10_000]


def made(rows: int, columns: int, classes: int) -> Callable[[], Table]:
    """Rows of normal numbers, labelled (or, without classes, valued) by a network of tanh."""

    def table() -> Table:
        rng = np.random.default_rng(rows + columns)
        X = rng.normal(size=(rows, columns))
        W = rng.normal(size=(columns, 8)) / math.sqrt(columns)
        values = np.tanh(2 * X @ W) @ rng.normal(size=(8, max(classes, 1)))
        return X, values.argmax(axis=1) if classes else values[:, 0]

    return table


class Case(NamedTuple):
    """A table, and how it is fitted."""

    name: str
    table: Callable[[], Table]
    kind: str
    dtype: str
    parameters: dict[str, Any]


CLASSES, NUMBERS = "MLPClassifier", "MLPRegressor"
CASES = (
    Case("digits, adam", digits, CLASSES, "float64", {"max_iter": 40}),
    Case("digits, sgd", digits, CLASSES, "float32", {"solver": "sgd", "max_iter": 40}),
    Case("digits, lbfgs", digits, CLASSES, "float64", {"solver": "lbfgs", "max_iter": 30}),
    Case("MNIST, adam", mnist, CLASSES, "float32", {"max_iter": 2}),
    Case(
        "Fashion-MNIST, sgd",
        fashion,
        CLASSES,
        "float32",
        {"solver": "sgd", "activation": "tanh", "batch_size": 64, "max_iter": 2},
    ),
    Case(
        "10,000 of MNIST, lbfgs",
        ten_thousand,
        CLASSES,
        "float32",
        {"solver": "lbfgs", "max_iter": 10},
    ),
    Case("wide, 2,000 x 3,000, adam", made(2000, 3000, 5), CLASSES, "float32", {"max_iter": 5}),
    Case(
        "long, 200,000 x 20, adam",
        made(200_000, 20, 0),
        NUMBERS,
        "float64",
        {"hidden_layer_sizes": (50, 50), "max_iter": 3},
    ),
    Case(
        "long, 200,000 x 20, sgd",
        made(200_000, 20, 3),
        CLASSES,
        "float32",
        {"solver": "sgd", "learning_rate": "invscaling", "activation": "logistic", "max_iter": 3},
    ),
    Case(
        "small, 500 x 10, early stopping",
        made(500, 10, 2),
        CLASSES,
        "float64",
        {"hidden_layer_sizes": (20,), "early_stopping": True, "max_iter": 60, "batch_size": 32},
    ),
)


def models(case: Case) -> dict[str, Any]:
    """Both sides' estimators."""
    modules = zip(SIDES, (sklearn.neural_network, fastmlp), strict=True)
    return {
        side: getattr(module, case.kind)(random_state=0, **case.parameters)
        for side, module in modules
    }


def assert_same(case: Case, X: Array, y: Array) -> None:
    """Both sides give the same losses, weights and scores: to rounding, where that is promised.

    float32 rounds along another path at every step, so only losses and scores are near there.
    """
    theirs, ours = (model.fit(X, y) for model in models(case).values())
    wide = case.dtype == "float64"
    tolerance = (1e-4 if theirs.solver == "lbfgs" else 1e-7) if wide else 0.02
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=tolerance)
    assert ours.n_iter_ == theirs.n_iter_
    if hasattr(theirs, "loss_curve_"):
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    if wide:
        for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    assert abs(ours.score(X, y) - theirs.score(X, y)) < 0.02


def fitted_seconds(case: Case, X: Array, y: Array, repeats: int) -> dict[str, float]:
    """Median seconds of a warm fit, the two sides in turn."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side, model in models(case).items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            model.fit(X, y)
            times[side].append(time.perf_counter() - started)
    return {side: statistics.median(found) for side, found in times.items()}


def fits(quick: bool, repeats: int, only: list[str] | None) -> dict[str, Any]:
    """Times of all cases."""
    results = {}
    for case in CASES:
        if only and not any(part in case.name for part in only):
            continue
        X, y = case.table()
        X, y = X.astype(case.dtype), y.astype(case.dtype) if case.kind == NUMBERS else y
        X, y = (X[:QUICK_ROWS], y[:QUICK_ROWS]) if quick else (X, y)
        assert_same(case, X, y)
        seconds = fitted_seconds(case, X, y, repeats)
        ratio = seconds["scikit-learn"] / seconds["fastmlp"]
        results[case.name] = {"dtype": case.dtype, "seconds": seconds, "ratio": ratio}
        shown = ", ".join(f"{side} {value:.3f} s" for side, value in seconds.items())
        print(f"{case.name}, {case.dtype}: {shown}; {ratio:.2f} times", flush=True)
    return results


def search(quick: bool, repeats: int) -> dict[str, float]:
    """Median seconds of a grid search over activations and solvers, in two workers."""
    X, y = digits()
    X, y = (X[:QUICK_ROWS], y[:QUICK_ROWS]) if quick else (X, y)
    grid = {"activation": ["logistic", "tanh", "relu"], "solver": ["sgd", "adam", "lbfgs"]}
    parameters = {"random_state": 0, "max_iter": 15}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    scores = {}
    with joblib.parallel_config("loky", n_jobs=2):
        for turn in range(repeats + 1):
            for side, module in zip(SIDES, (sklearn.neural_network, fastmlp), strict=True):
                model = GridSearchCV(module.MLPClassifier(**parameters), grid, cv=3)
                started = time.perf_counter()
                model.fit(X, y)
                if turn:  # the first one starts the workers and loads the kernels in them
                    times[side].append(time.perf_counter() - started)
                scores[side] = model.cv_results_["mean_test_score"]
    np.testing.assert_allclose(*scores.values(), atol=2 / len(X))
    return {side: statistics.median(found) for side, found in times.items()}


CODE = """
import time, warnings
warnings.simplefilter("ignore")
started = time.perf_counter()
from {module} import MLPClassifier
from sklearn.datasets import load_digits
X, y = load_digits(return_X_y=True)
MLPClassifier(max_iter=40, random_state=0).fit(X, y)
print(time.perf_counter() - started)
"""


def starts(repeats: int) -> dict[str, float]:
    """Median seconds of a new process that imports, fits the digits and ends."""
    times: dict[str, list[float]] = {"scikit-learn": [], "fastmlp cold": [], "fastmlp cached": []}
    for _ in range(repeats):
        times["scikit-learn"].append(
            float(python("-c", CODE.format(module="sklearn.neural_network")))
        )
        with tempfile.TemporaryDirectory() as folder:
            for state in ("cold", "cached"):
                printed = python("-c", CODE.format(module="fastmlp"), FASTMLP_CACHE_DIR=folder)
                times[f"fastmlp {state}"].append(float(printed))
    return {state: statistics.median(found) for state, found in times.items()}


def one_row() -> dict[str, float]:
    """Microseconds of a `predict` of one row."""
    X, y = digits()
    case = Case("one row", digits, CLASSES, "float64", {"max_iter": 3})
    found = {}
    for side, model in models(case).items():
        predict, row = model.fit(X, y).predict, X[:1]
        predict(row)
        found[side] = min(timeit.repeat(lambda p=predict, r=row: p(r), number=500)) / 500 * 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="parts of the names of cases")
    parser.add_argument("--quick", action="store_true", help="a few rows, nothing written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for dtype in ("float32", "float64"):
        fastmlp.warmup(dtype)
    found = fits(arguments.quick, arguments.repeats, arguments.only)
    mean = statistics.geometric_mean(case["ratio"] for case in found.values())
    print(f"geometric mean: {mean:.2f} times")
    if arguments.only:
        return
    results = {
        "repeats": arguments.repeats,
        "fits": found,
        "geometric mean": mean,
        "grid search": search(arguments.quick, arguments.repeats),
        "first fit of a process": starts(min(arguments.repeats, 3)),
        "one row, microseconds": one_row(),
    }
    for name in ("grid search", "first fit of a process", "one row, microseconds"):
        print(f"{name}: {', '.join(f'{k} {v:.3f}' for k, v in results[name].items())}")
    if not arguments.quick:
        write("estimators", results)


if __name__ == "__main__":
    main()

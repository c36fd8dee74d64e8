"""The estimators follow scikit-learn's trajectory: weights, losses, scores, to rounding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from . import estimator_data
from .estimator_data import TABLES, assert_same, both, quietly

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
TOLERANCE = 1e-7


def weights_of(rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(11).uniform(0.1, 3, rows)


def compare(table: str, tolerance: float, weighted: bool = False, **parameters: Any) -> None:
    kind, X, y, own = TABLES[table]
    pair = both(kind, random_state=7, **own, **parameters)
    named = {"sample_weight": weights_of(len(X))} if weighted else {}
    for model in pair:
        quietly(model.fit, X, y, **named)
    assert_same(*pair, X, tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("table", TABLES)
def test_a_dozen_epochs(table: str, solver: str, activation: str) -> None:
    choices = itertools.product((32, "auto"), (False, True), (False, True), (False, True))
    for batch_size, early_stopping, shuffle, weighted in choices:
        compare(
            table,
            TOLERANCE,
            weighted,
            solver=solver,
            activation=activation,
            batch_size=batch_size,
            early_stopping=early_stopping,
            shuffle=shuffle,
            hidden_layer_sizes=(9, 6),
            learning_rate_init=0.01,
            max_iter=12,
        )


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("momentum", [(0.0, True), (0.9, False), (0.5, True)])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_schedules_and_momentum(schedule: str, momentum: Any, early_stopping: bool) -> None:
    for table in ("classes", "values"):
        compare(
            table,
            TOLERANCE,
            solver="sgd",
            learning_rate=schedule,
            power_t=0.3,
            momentum=momentum[0],
            nesterovs_momentum=momentum[1],
            early_stopping=early_stopping,
            learning_rate_init=0.05,
            hidden_layer_sizes=8,
            n_iter_no_change=1,
            tol=0.01,
            max_iter=40,
        )


@pytest.mark.parametrize("table", TABLES)
def test_the_same_epoch_ends_it(table: str) -> None:
    kind, X, y, own = TABLES[table]
    for early_stopping in (False, True):
        parameters = {"tol": 0.02, "n_iter_no_change": 3, "learning_rate_init": 0.02}
        pair = both(kind, random_state=1, early_stopping=early_stopping, **parameters, **own)
        for model in pair:
            quietly(model.fit, X, y)
        assert pair[0].n_iter_ < 200
        assert_same(*pair, X, 1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("table", [name for name in TABLES if name != "several values"])
def test_lbfgs(table: str, activation: str, weighted: bool) -> None:
    compare(
        table,
        1e-4,
        weighted,
        solver="lbfgs",
        activation=activation,
        hidden_layer_sizes=(7,),
        max_iter=15,
    )


def test_lbfgs_of_several_values_minimizes_the_sum_over_outputs() -> None:
    kind, X, y, _ = TABLES["several values"]
    theirs, ours = both(kind, solver="lbfgs", alpha=0.1, random_state=0, max_iter=200, tol=1e-6)
    quietly(ours.fit, X, y)
    penalty = 0.05 * sum(float((W**2).sum()) for W in ours.coefs_) / len(X)
    squares = 0.5 * np.square(y - ours.predict(X)).sum(axis=1).mean()
    np.testing.assert_allclose(ours.loss_, squares + penalty, rtol=1e-10)
    # Its objective is another one than its gradient's, so its line search gives up early.
    quietly(theirs.fit, X, y)
    assert ours.score(X, y) > theirs.score(X, y) - 1e-3


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3, 2), np.array([6, 5])])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_depths(hidden: Any, solver: str) -> None:
    compare("classes", TOLERANCE, solver=solver, hidden_layer_sizes=hidden, max_iter=8)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit(table: str, solver: str) -> None:
    kind, X, y, own = TABLES[table]
    pair = both(kind, solver=solver, random_state=3, hidden_layer_sizes=10, **own)
    for model in pair:
        for start in (0, 50, 100, 0, 50):
            part = slice(start, start + 50)
            first = start == 0 and not hasattr(model, "coefs_") and kind == "MLPClassifier"
            classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
            model.partial_fit(X[part], y[part], **({"classes": classes} if first else {}))
    assert_same(*pair, X, TOLERANCE)
    assert len(pair[1].loss_curve_) == 5


def test_partial_fit_goes_on_after_a_fit() -> None:
    kind, X, y, _ = TABLES["classes"]
    pair = both(kind, random_state=0, max_iter=4)
    for model in pair:
        quietly(model.fit, X, y)
        model.partial_fit(X, y)
        model.partial_fit(X, y, sample_weight=weights_of(len(X)))
    assert_same(*pair, X, TOLERANCE)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_warm_start(solver: str) -> None:
    for table in ("classes", "values"):
        kind, X, y, own = TABLES[table]
        pair = both(
            kind,
            solver=solver,
            warm_start=True,
            learning_rate="invscaling",
            random_state=2,
            max_iter=5,
            **own,
        )
        for model in pair:
            for _ in range(3):
                quietly(model.fit, X, y)
            model.set_params(alpha=0.1, max_iter=3)
            quietly(model.fit, X[:100], y[:100])
        assert_same(*pair, X, TOLERANCE)


def test_warm_start_keeps_the_best_weights_of_all_fits() -> None:
    """Scikit-learn forgets them: its second fit changes the arrays that it had put aside."""
    kind, X, y, _ = TABLES["values"]
    _, ours = both(
        kind,
        warm_start=True,
        early_stopping=True,
        random_state=2,
        max_iter=30,
        tol=0,
        learning_rate_init=0.01,
    )
    quietly(ours.fit, X, y)
    best, before = ours.best_validation_score_, [W.copy() for W in ours.coefs_]
    ours.set_params(max_iter=2, learning_rate_init=1.0)
    quietly(ours.fit, X, y)
    assert ours.best_validation_score_ == best
    assert max(ours.validation_scores_) == best
    assert all((a == b).all() for a, b in zip(before, ours.coefs_, strict=True))


def test_warm_start_of_lbfgs_goes_on() -> None:
    kind, X, y, _ = TABLES["values"]
    pair = both(kind, solver="lbfgs", warm_start=True, random_state=2, max_iter=6)
    for model in pair:
        quietly(model.fit, X, y)
        quietly(model.fit, X, y)
    assert_same(*pair, X, 1e-4)


def test_a_generator_is_used_on() -> None:
    kind, X, y, _ = TABLES["values"]
    pair = both(kind, max_iter=3, early_stopping=True)
    for model in pair:
        model.set_params(random_state=np.random.RandomState(4))
        quietly(model.fit, X, y)
        quietly(model.fit, X, y)
    assert_same(*pair, X, TOLERANCE)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_rows(form: Any, solver: str) -> None:
    for table in ("classes", "labels"):
        kind, X, y, own = TABLES[table]
        S = form(np.where(X.mean() < X, X, 0))
        for early_stopping in (False, True):
            pair = both(
                kind,
                solver=solver,
                early_stopping=early_stopping,
                batch_size=20,
                random_state=0,
                max_iter=6,
                **own,
            )
            for model in pair:
                quietly(model.fit, S, y)
            assert_same(*pair, S, TOLERANCE)


def test_sparse_rows_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, X, y, _ = TABLES["classes"]
    S = sparse.csr_matrix(X)
    largest = []
    plain = estimator_data.fastmlp.sparse.SparseRows.dense

    def watched(rows: Any, index: Any) -> Any:
        block = plain(rows, index)
        largest.append(len(block))
        return block

    monkeypatch.setattr("fastmlp.sparse.BLOCK_BYTES", 64 * 8 * 30)
    monkeypatch.setattr("fastmlp.sparse.SparseRows.dense", watched)
    for solver in ("adam", "lbfgs"):
        dense, own = (
            both(kind, solver=solver, batch_size=10, max_iter=5, random_state=0)[1] for _ in "ab"
        )
        quietly(dense.fit, X, y, weights_of(len(X)))
        quietly(own.fit, S, y, weights_of(len(X)))
        assert estimator_data.distance(dense, own) < 1e-9
        np.testing.assert_allclose(own.predict_proba(S), dense.predict_proba(X), rtol=1e-7)
    assert max(largest) == 30


def test_weights_of_zero_and_batches_without_weight() -> None:
    kind, X, y, _ = TABLES["values"]
    w = np.ones(len(X))
    w[:40] = 0
    ours = both(kind, shuffle=False, batch_size=20, random_state=0, max_iter=5)[1]
    fewer = both(kind, shuffle=False, batch_size=20, random_state=0, max_iter=5)[1]
    quietly(ours.fit, X, y, sample_weight=w)
    quietly(fewer.fit, X[40:], y[40:])
    assert estimator_data.distance(fewer, ours) < 1e-12


def test_verbose_lines_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    kind, X, y, _ = TABLES["classes"]
    for parameters in (
        {"max_iter": 4},
        {"max_iter": 300, "early_stopping": True, "tol": 0.5, "n_iter_no_change": 2},
        {"max_iter": 300, "tol": 0.5, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    ):
        pair = both(kind, random_state=0, verbose=True, **parameters)
        printed = []
        for model in pair:
            quietly(model.fit, X, y)
            printed.append(capsys.readouterr().out)
        assert printed[1] == printed[0]
        assert "Iteration 2, loss = " in printed[1]

"""What the estimators have beyond scikit-learn's: every keyword, X_val, and how training ends."""

from __future__ import annotations

import inspect
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp
from fastmlp import ELU, LeakyReLU, MLPClassifier, MLPRegressor, Quantile, RMSprop, kernels
from fastmlp.callbacks import Callback

from .estimator_data import TABLES, distance, quietly

_, X, Y, _ = TABLES["classes"]
_, R, VALUES, _ = TABLES["values"]
TWO = np.where(Y > 4, "high", "low")


def classifier(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})


def regressor(**parameters: Any) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_begin_with_scikit_learns(name: str) -> None:
    theirs = inspect.signature(getattr(sklearn.neural_network, name).__init__).parameters
    ours = inspect.signature(getattr(fastmlp, name).__init__).parameters
    first = list(ours.values())[: len(theirs)]
    wanted = [(p.name, p.kind, p.default) for p in theirs.values()]
    assert [(p.name, p.kind, p.default) for p in first] == wanted
    assert all(p.kind is p.KEYWORD_ONLY for p in list(ours.values())[len(theirs) :])


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_every_parameter_is_documented_and_checked(name: str) -> None:
    kind = getattr(fastmlp, name)
    for parameter in kind().get_params():
        assert parameter in kind.__doc__.split("Attributes\n")[0], parameter
        assert parameter in kind._parameter_constraints, parameter


def test_backends_agree() -> None:
    numba, numpy = (
        quietly(classifier(backend=b, max_iter=6).fit, X, Y) for b in ("numba", "numpy")
    )
    assert distance(numba, numpy) < 1e-12
    if kernels.available()["cupy"] is None:
        cupy = quietly(classifier(backend="cupy", max_iter=6).fit, X, Y)
        assert distance(cupy, numpy) < 1e-12
    else:
        with pytest.raises(ImportError, match="cupy"):
            classifier(backend="cupy").fit(X, Y)


@pytest.mark.parametrize("dtype", ["float32", np.float64, np.dtype("float32")])
def test_dtype(dtype: Any) -> None:
    model = quietly(regressor(dtype=dtype, max_iter=3).fit, R, VALUES)
    assert {a.dtype for a in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
    assert model.predict(R).dtype == np.dtype(dtype)
    assert model.predict(R.astype(np.float32)).dtype == np.dtype(dtype)


def test_dtype_follows_x() -> None:
    for kind in (np.float32, np.float64, np.int64):
        model = quietly(regressor(max_iter=2).fit, (R * 10).astype(kind), VALUES)
        assert model.coefs_[0].dtype == (np.float32 if kind is np.float32 else np.float64)
    with pytest.raises(ValueError, match="dtype"):
        regressor(dtype="float16").fit(R, VALUES)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weight_is_a_weight_of_each_row(solver: str) -> None:
    dict_weights = {"high": 3.0, "low": 0.5}
    rows = np.where(TWO == "high", 3.0, 0.5)
    extra = np.linspace(0.5, 2, len(X))
    by_class = classifier(class_weight=dict_weights, solver=solver, max_iter=5)
    by_row = classifier(solver=solver, max_iter=5)
    quietly(by_class.fit, X, TWO, extra)
    quietly(by_row.fit, X, TWO, extra * rows)
    assert distance(by_row, by_class) == 0
    share = len(X) / 2 / np.array([(TWO == "high").sum(), (TWO == "low").sum()])
    given = classifier(class_weight=dict(zip(("high", "low"), share, strict=True)), max_iter=5)
    balanced = classifier(class_weight="balanced", max_iter=5)
    assert distance(quietly(given.fit, X, TWO), quietly(balanced.fit, X, TWO)) < 1e-12


def test_class_weight_balances_weighted_rows_too() -> None:
    w = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = classifier(class_weight="balanced", solver="lbfgs", max_iter=5)
    repeated = classifier(class_weight="balanced", solver="lbfgs", max_iter=5)
    quietly(weighted.fit, X, TWO, w)
    quietly(repeated.fit, np.repeat(X, w, axis=0), np.repeat(TWO, w))
    assert distance(repeated, weighted) < 1e-6


def test_balanced_needs_all_rows() -> None:
    with pytest.raises(ValueError, match="balanced"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=np.unique(Y))
    model = classifier(class_weight={0: 5.0, 1: 1.0})
    model.partial_fit(X, Y == 0, classes=[False, True])


def test_class_weight_of_several_labels() -> None:
    _, L, T, _ = TABLES["labels"]
    plain = quietly(classifier(max_iter=3).fit, L, T)
    weights = [{0: 1, 1: 4}] * T.shape[1]
    weighted = quietly(classifier(max_iter=3, class_weight=weights).fit, L, T)
    assert distance(plain, weighted) > 1e-4


@pytest.mark.parametrize(
    "activation", ["gelu", "leaky_relu", "prelu", "maxout", "mpelu", "sigmoid", "mish", ELU(0.5)]
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_more_activations(activation: Any, solver: str) -> None:
    model = quietly(regressor(activation=activation, solver=solver, max_iter=30).fit, R, VALUES)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    again = quietly(regressor(activation=activation, solver=solver, max_iter=30).fit, R, VALUES)
    assert (again.predict(R) == model.predict(R)).all()


def test_an_activation_for_each_layer() -> None:
    model = regressor(hidden_layer_sizes=(6, 5), activation=["tanh", LeakyReLU(0.2)], max_iter=3)
    quietly(model.fit, R, VALUES)
    A = np.tanh(R @ model.coefs_[0] + model.intercepts_[0])
    Z = A @ model.coefs_[1] + model.intercepts_[1]
    A = np.where(Z > 0, Z, 0.2 * Z)
    np.testing.assert_allclose(
        model.predict(R), (A @ model.coefs_[2] + model.intercepts_[2])[:, 0], rtol=1e-10
    )
    with pytest.raises(ValueError, match="activation must be one value, or one for each"):
        regressor(hidden_layer_sizes=(6, 5), activation=["tanh"]).fit(R, VALUES)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "quantile", Quantile(0.9)])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_for_numbers(loss: Any, solver: str) -> None:
    model = regressor(loss=loss, solver=solver, max_iter=150, learning_rate_init=0.01, alpha=0)
    quietly(model.fit, R, VALUES)
    assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]
    error = VALUES - model.predict(R)
    if isinstance(loss, Quantile):
        assert 0.8 < (error < 0).mean() < 0.98
    if loss == "absolute_error" and solver == "lbfgs":
        np.testing.assert_allclose(model.loss_, np.abs(error).mean(), rtol=1e-6)


@pytest.mark.parametrize("y", [Y, TWO, TABLES["labels"][2]], ids=["classes", "two", "labels"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "exponential", "perceptron"])
def test_margin_losses(loss: str, y: Any) -> None:
    rows = TABLES["labels"][1] if y.ndim == 2 else X
    model = classifier(loss=loss, max_iter=60, learning_rate_init=0.01)
    quietly(model.fit, rows, y)
    assert (model.predict(rows) == y).mean() > 0.5
    margins = model.decision_function(rows)
    assert margins.shape == ((len(rows),) if y is TWO else (len(rows), model.n_outputs_))
    if y is TWO:
        assert (model.predict(rows) == model.classes_[(margins > 0).astype(int)]).all()
    elif y is Y:
        assert (model.predict(rows) == model.classes_[margins.argmax(axis=1)]).all()
    assert not hasattr(model, "predict_proba")
    assert not hasattr(classifier(), "decision_function")


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", "adagrad", RMSprop(0.01, rho=0.5)])
def test_more_solvers(solver: Any) -> None:
    model = quietly(regressor(solver=solver, max_iter=30).fit, R, VALUES)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    model.partial_fit(R, VALUES)
    word = type(solver).__name__ if isinstance(solver, RMSprop) else solver
    assert type(model._net.optimizer).__name__.lower() == word.lower()
    if isinstance(solver, str):
        assert model._net.learning_rate == 0.001


def test_dropout_and_normalization() -> None:
    plain = quietly(classifier(max_iter=20).fit, X, Y)
    for extra in ({"dropout": 0.5}, {"normalization": "batch"}, {"normalization": ["layer"]}):
        model = quietly(classifier(max_iter=20, **extra).fit, X, Y)
        assert distance(plain, model) > 1e-3
        again = quietly(classifier(max_iter=20, **extra).fit, X, Y)
        assert (again.predict_proba(X) == model.predict_proba(X)).all()
        copy = pickle.loads(pickle.dumps(model))
        assert (copy.predict_proba(X) == model.predict_proba(X)).all()
    for extra in ({"dropout": 0.5}, {"normalization": "batch"}):
        with pytest.raises(ValueError, match="lbfgs"):
            classifier(solver="lbfgs", **extra).fit(X, Y)


def test_l1_makes_small_weights() -> None:
    plain = quietly(regressor(max_iter=200, batch_size=20).fit, R, VALUES)
    sparse_model = quietly(regressor(max_iter=200, l1=2.0, batch_size=20).fit, R, VALUES)
    assert sum(np.abs(W).sum() for W in sparse_model.coefs_) < 0.5 * sum(
        np.abs(W).sum() for W in plain.coefs_
    )


def test_clipping_bounds_a_step() -> None:
    parameters = {"solver": "sgd", "momentum": 0, "batch_size": len(R), "max_iter": 1}
    start = quietly(regressor(**parameters, learning_rate_init=1e-300).fit, R, 100 * VALUES)
    for name in ("clip_value", "clip_norm"):
        model = regressor(**parameters, learning_rate_init=1.0, **{name: 0.01})
        quietly(model.fit, R, 100 * VALUES)
        pairs = zip(model.coefs_ + model.intercepts_, start.coefs_ + start.intercepts_, strict=True)
        step = np.concatenate([(a - b).ravel() for a, b in pairs])
        size = np.abs(step).max() if name == "clip_value" else math.sqrt(step @ step)
        np.testing.assert_allclose(size, 0.01, rtol=1e-6)


def test_validation_rows_of_ones_own() -> None:
    train, held = slice(0, 100), slice(100, None)
    model = classifier(max_iter=40, early_stopping=True, n_iter_no_change=40)
    quietly(model.fit, X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.score(X[held], Y[held]) == model.best_validation_score_
    plain = classifier(max_iter=40, early_stopping=False)
    quietly(plain.fit, X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert plain.loss_curve_ == model.loss_curve_
    assert plain.score(X[held], Y[held]) == plain.best_validation_score_
    without = quietly(classifier(max_iter=40).fit, X[train], Y[train])
    assert without.validation_scores_ is None
    assert without.validation_loss_curve_ is None
    assert without.loss_curve_ == plain.loss_curve_


def test_the_validation_loss_is_the_loss_of_the_validation_rows() -> None:
    for table in ("classes", "values", "several values", "counts"):
        kind, rows, y, own = TABLES[table]
        again = getattr(fastmlp, kind)(random_state=0, max_iter=2, **{**own, "alpha": 0})
        quietly(again.fit, rows, y, X_val=rows, y_val=y)
        # With one batch an epoch, the loss before the second update is the one after the first.
        np.testing.assert_allclose(
            again.validation_loss_curve_[0], again.loss_curve_[1], rtol=1e-10
        )


def test_validation_rows_are_checked() -> None:
    with pytest.raises(ValueError, match="together"):
        classifier().fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="features"):
        classifier().fit(X, Y, X_val=X[:, 1:], y_val=Y)
    with pytest.raises(ValueError, match="classes of the earlier"):
        classifier().fit(X, Y, X_val=X, y_val=Y + 5)
    with pytest.raises(ValueError, match="outputs"):
        regressor().fit(R, VALUES, X_val=R, y_val=np.stack([VALUES, VALUES], 1))
    with pytest.raises(ValueError, match="lbfgs"):
        regressor(solver="lbfgs").fit(R, VALUES, X_val=R, y_val=VALUES)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_eval_metric(form: Any) -> None:
    rows, held = form(X[:100]), form(X[100:])
    seen = []

    def own(model: Any, A: Any, y: Any) -> float:
        seen.append(A.shape)
        return -float((model.predict(A) != y).mean())

    scores = {}
    for metric in (None, "accuracy", "neg_log_loss", "loss", own):
        model = classifier(max_iter=15, early_stopping=True, eval_metric=metric)
        quietly(model.fit, rows, Y[:100], X_val=held, y_val=Y[100:])
        scores[metric] = np.array(model.validation_scores_)
        assert model.best_validation_score_ == max(model.validation_scores_)
    np.testing.assert_allclose(scores["accuracy"], scores[None], rtol=1e-12)
    np.testing.assert_allclose(scores[own], scores[None] - 1, rtol=1e-12)
    np.testing.assert_allclose(scores["neg_log_loss"], scores["loss"], rtol=1e-12)
    assert seen == [held.shape] * 15


def test_eval_metric_with_weights_and_names() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(R, columns=list("abcdefgh"))
    w = np.linspace(1, 2, len(R))
    parameters = {"early_stopping": True, "max_iter": 8}
    a = quietly(regressor(**parameters, eval_metric="r2").fit, table, VALUES, w)
    b = quietly(regressor(**parameters).fit, table, VALUES, w)
    np.testing.assert_allclose(a.validation_scores_, b.validation_scores_, rtol=1e-10)


def test_eval_metric_is_checked() -> None:
    with pytest.raises(ValueError, match="no_such"):
        classifier(eval_metric="no_such", early_stopping=True).fit(X, Y)
    with pytest.raises(TypeError, match="eval_metric"):
        classifier(eval_metric=lambda *_: "x", early_stopping=True).fit(X, Y)


def test_callbacks() -> None:
    seen = []

    class Watching(Callback):
        def on_fit_end(self, history: Any, net: Any) -> None:
            seen.append(len(history))

    def stop(epoch: int, history: Any, net: Any) -> bool:
        return epoch == 3

    model = classifier(callbacks=[stop, Watching()]).fit(X, Y)
    assert (model.n_iter_, seen) == (3, [3])
    assert classifier(callbacks=stop).fit(X, Y).n_iter_ == 3


def test_scikit_learns_callbacks() -> None:
    pytest.importorskip("sklearn.callback")
    calls: list[Any] = []

    class Recorder:
        def setup(self, estimator: Any, context: Any) -> None:
            calls.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            calls.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            calls.append(("begin", context.task_name, context.task_id))

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any = None, fitted_estimator: Any = None
        ) -> bool:
            score = None if fitted_estimator is None else fitted_estimator.predict(X).shape
            calls.append(("end", context.task_name, context.task_id, score))
            return context.task_name == "epoch" and context.task_id == 1

    model = classifier().set_callbacks(Recorder())
    quietly(model.fit, X, Y)
    rows = (len(X),)
    assert model.n_iter_ == 2
    assert calls == [
        "setup",
        ("begin", "fit", 0),
        ("begin", "epoch", 0),
        ("end", "epoch", 0, rows),
        ("begin", "epoch", 1),
        ("end", "epoch", 1, rows),
        ("end", "fit", 0, rows),
        "teardown",
    ]


def test_scikit_learns_scoring_monitor() -> None:
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = classifier(max_iter=4).set_callbacks(monitor)
    quietly(model.fit, X, Y)
    assert model.n_iter_ == 4
    assert (model.predict(X) == quietly(classifier(max_iter=4).fit, X, Y).predict(X)).all()
    for solver in ("lbfgs",):
        quietly(classifier(max_iter=4, solver=solver).set_callbacks(monitor).fit, X, Y)


def test_threads() -> None:
    one, two = (quietly(classifier(max_iter=5, n_threads=n).fit, X, Y) for n in (1, 2))
    assert distance(one, two) == 0
    assert one._net._engine.plan().threads == 1
    assert two._net._engine.plan().threads == 2
    free = quietly(classifier(max_iter=1).fit, X, Y)
    assert free._net._engine.plan().threads == fastmlp.get_num_threads()


def test_first_weights_of_ones_own() -> None:
    first = quietly(regressor(max_iter=3).fit, R, VALUES)
    model = regressor(max_iter=1, learning_rate_init=1e-300, solver="sgd")
    model.set_params(coefs_init=first.coefs_, intercepts_init=first.intercepts_)
    quietly(model.fit, R, VALUES)
    assert distance(first, model) == 0
    with pytest.raises(ValueError, match=r"coefs_init.*shape"):
        regressor(coefs_init=[np.zeros((3, 3)), np.zeros((3, 1))]).fit(R, VALUES)
    with pytest.raises(ValueError, match=r"intercepts_init.*2 arrays"):
        regressor(intercepts_init=[np.zeros(3)]).fit(R, VALUES)


def test_progress_draws_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    quietly(classifier(verbose="progress", max_iter=3).fit, X, Y)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "epoch 3/3" in printed.err


def test_lbfgs_prints_and_records_its_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    model = quietly(regressor(solver="lbfgs", verbose=True, max_iter=4).fit, R, VALUES)
    assert len(model.loss_curve_) == len(capsys.readouterr().out.splitlines()) == model.n_iter_ == 4
    assert model.loss_curve_[-1] == model.loss_


# How training ends


def test_divergence_with_early_stopping_brings_the_best_weights_back() -> None:
    model = regressor(
        activation="identity", solver="sgd", learning_rate_init=1.0, early_stopping=True
    )
    with pytest.warns(ConvergenceWarning, match="learning_rate_init"):
        model.fit(100 * R, VALUES)
    assert math.isnan(model.validation_scores_[-1])
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_
    assert all(np.isfinite(W).all() for W in model.coefs_ + model.intercepts_)
    assert np.isfinite(model.predict(R)).all()


def test_divergence_without_it_is_an_error_with_a_remedy() -> None:
    model = regressor(activation="identity", solver="sgd", learning_rate_init=1.0)
    with pytest.raises(ValueError, match=r"non-finite parameter weights.*learning_rate_init"):
        model.fit(100 * R, VALUES)


def test_ctrl_c_keeps_the_model() -> None:
    def interrupt(epoch: int, history: Any, net: Any) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    model = classifier(callbacks=[interrupt])
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, Y)
    assert model.n_iter_ == 3
    assert distance(quietly(classifier(max_iter=3).fit, X, Y), model) == 0


def test_not_converged_is_said_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier(max_iter=3).fit(X, Y)
    assert [w.category for w in caught] == [ConvergenceWarning]
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        classifier(max_iter=3, solver="lbfgs").fit(X, Y)


# Weights that a user exchanges


def test_assigned_weights_count() -> None:
    model = quietly(regressor(max_iter=3).fit, R, VALUES)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1
    model.coefs_[1] = np.zeros_like(model.coefs_[1])
    assert (model.predict(R) == model.intercepts_[1]).all()
    model.intercepts_ = [model.intercepts_[0], np.array([7.0])]
    assert (model.predict(R) == 7).all()
    assert (pickle.loads(pickle.dumps(model)).predict(R) == 7).all()
    model.coefs_ = [np.zeros((2, 2))]
    with pytest.raises(ValueError, match="coefs_"):
        model.predict(R)


def test_changed_parameters_between_partial_fits() -> None:
    model = regressor()
    for alpha in (0.0, 1.0, 0.0):
        model.set_params(alpha=alpha).partial_fit(R, VALUES)
    theirs = sklearn.neural_network.MLPRegressor(hidden_layer_sizes=(12,), random_state=0)
    for alpha in (0.0, 1.0, 0.0):
        theirs.set_params(alpha=alpha).partial_fit(R, VALUES)
    assert distance(theirs, model) < 1e-12


# Bad input


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("activation", "nonsense"),
        ("activation", "softmax"),
        ("activation", "step"),
        ("solver", "newton"),
        ("alpha", -1),
        ("backend", "torch"),
        ("dropout", 1.0),
        ("normalization", "instance"),
        ("l1", -0.1),
        ("clip_value", 0),
        ("clip_norm", -1),
        ("n_threads", 0),
        ("loss", "absolute"),
        ("verbose", "loud"),
        ("callbacks", 3),
        ("batch_size", 0),
        ("learning_rate", "cosine"),
    ],
)
def test_bad_parameters_give_scikit_learns_error(parameter: str, value: Any) -> None:
    for model, A, y in ((classifier(), X, Y), (regressor(), R, VALUES)):
        with pytest.raises(InvalidParameterError, match=parameter):
            model.set_params(**{parameter: value}).fit(A, y)


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="NaN"):
        classifier().fit(np.where(X > 0.9, np.nan, X), Y)
    with pytest.raises(ValueError, match="inconsistent"):
        classifier().fit(X, Y[:-1])
    with pytest.raises(ValueError, match="poisson"):
        regressor(loss="poisson").fit(R, VALUES - 10)
    with pytest.raises(ValueError, match="weight"):
        classifier().fit(X, Y, -np.ones(len(X)))
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        classifier(hidden_layer_sizes=(3, 0)).fit(X, Y)
    with pytest.warns(UserWarning, match="batch_size"):
        quietly(classifier(batch_size=10_000, max_iter=1).fit, X, Y)


def test_partial_fit_learns_new_classes_only_if_they_were_announced() -> None:
    model = classifier()
    model.partial_fit(X, Y, classes=np.arange(11))
    assert model.predict_proba(X).shape == (len(X), 11)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, Y + 20)


def test_partial_fit_of_labels_needs_no_classes() -> None:
    _, L, T, _ = TABLES["labels"]
    model = classifier()
    for _ in range(3):
        model.partial_fit(L, T)
    assert model.predict(L).shape == T.shape

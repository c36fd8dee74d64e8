"""The estimators among scikit-learn's other tools, data frames and worker processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, MLPRegressor, get_num_threads, threads
from fastmlp.metrics import accuracy

from .estimator_data import TABLES, both, distance

ROOT = Path(__file__).resolve().parents[1]
_, X, Y, _ = TABLES["classes"]
_, R, VALUES, _ = TABLES["values"]
WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def model(**parameters: Any) -> MLPClassifier:
    given = {"random_state": 0, "max_iter": 30, "learning_rate_init": 0.02, **parameters}
    return MLPClassifier(hidden_layer_sizes=(12,), **given)


def test_pipeline_and_names() -> None:
    pipe = make_pipeline(StandardScaler(), model()).fit(X, WORDS[Y])
    assert pipe.score(X, WORDS[Y]) > 0.8
    assert set(pipe.predict(X)) <= set(WORDS)
    assert list(pipe[-1].classes_) == sorted(WORDS)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_grid_search_in_workers(backend: str) -> None:
    grid = {"alpha": [1e-4, 1.0], "solver": ["adam", "lbfgs"]}
    alone = GridSearchCV(model(), grid, cv=2, error_score="raise").fit(X, Y)
    with joblib.parallel_config(backend, n_jobs=2):
        search = GridSearchCV(model(), grid, cv=2, error_score="raise").fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, alone.cv_results_["mean_test_score"])


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_worker_has_one_thread(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    threads._asked.cache_clear()
    with joblib.parallel_config(backend, n_jobs=2):
        seen = joblib.Parallel()(joblib.delayed(get_num_threads)() for _ in range(4))
    assert seen == [1, 1, 1, 1]
    assert get_num_threads() == min(len(os.sched_getaffinity(0)), get_num_threads())


def test_a_thread_of_ones_own_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    thread = threading.Thread(target=lambda: seen.append(get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [get_num_threads()]


def test_clone_forgets_and_keeps() -> None:
    fitted = model(callbacks=[print_nothing], activation=["tanh"]).fit(X, Y)
    fresh = clone(fitted)
    assert not hasattr(fresh, "coefs_")
    assert {k: v for k, v in fresh.get_params().items() if k != "callbacks"} == {
        k: v for k, v in fitted.get_params().items() if k != "callbacks"
    }
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    assert distance(fitted, fresh.fit(X, Y)) == 0


def print_nothing(epoch: int, history: Any, net: Any) -> None:
    """A callback that can be pickled."""


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_pickles_predict_and_train_on(solver: str, tmp_path: Path) -> None:
    fitted = model(solver=solver, warm_start=True).fit(X, Y)
    joblib.dump(fitted, tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model")):
        assert (copy.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match="read-only"):
            copy.coefs_[0][0, 0] = 1
    copy = joblib.load(tmp_path / "model")
    if solver != "lbfgs":
        copy.partial_fit(X, Y)
        fitted.partial_fit(X, Y)
    assert distance(fitted.fit(X, Y), copy.fit(X, Y)) == 0


def test_a_pickle_holds_no_rows() -> None:
    fitted = model().fit(np.repeat(X, 20, axis=0), np.repeat(Y, 20))
    parameters = sum(a.nbytes for a in fitted.coefs_ + fitted.intercepts_)
    assert len(pickle.dumps(fitted)) < 6 * parameters + 10_000


def test_other_meta_estimators() -> None:
    assert cross_val_score(model(), X, Y, cv=2).min() > 0.3
    assert BaggingClassifier(model(), n_estimators=2, random_state=0).fit(X, Y).score(X, Y) > 0.5
    targets = np.stack([Y, Y % 3], axis=1)
    assert MultiOutputClassifier(model()).fit(X, targets).predict(X).shape == targets.shape
    wrapped = TransformedTargetRegressor(MLPRegressor(max_iter=5), transformer=StandardScaler())
    assert wrapped.fit(R, VALUES).predict(R).shape == VALUES.shape


def test_metadata_routing() -> None:
    w = np.linspace(0.1, 3, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = model().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, routed).fit(X, Y, sample_weight=w)
        plain = model().fit(StandardScaler().fit_transform(X), Y, sample_weight=w)
        assert distance(plain, pipe[-1]) == 0
        scored = routed.set_score_request(sample_weight=True)
        result = GridSearchCV(scored, {"alpha": [0.1]}, cv=2).fit(X, Y, sample_weight=w)
        assert result.best_score_ > 0
        held = model().set_fit_request(X_val=True, y_val=True)
        assert "X_val" in str(held.get_metadata_routing())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library: str) -> None:
    frames: Any = pytest.importorskip(library)
    names = [f"column {i}" for i in range(R.shape[1])]
    table = frames.DataFrame(dict(zip(names, R.T, strict=True)))
    target = frames.Series("y", VALUES) if library == "polars" else frames.Series(VALUES)
    fitted = MLPRegressor(random_state=0, max_iter=5).fit(table, target)
    assert list(fitted.feature_names_in_) == names
    plain = MLPRegressor(random_state=0, max_iter=5).fit(R, VALUES)
    assert (fitted.predict(table) == plain.predict(R)).all()
    with pytest.warns(UserWarning, match="feature names"):
        fitted.predict(R)
    other = (
        table.rename(columns={"column 0": "z"})
        if library == "pandas"
        else table.rename({"column 0": "z"})
    )
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(other)
    labels = frames.Series("y", WORDS[Y]) if library == "polars" else frames.Series(WORDS[Y])
    assert set(model().fit(X, labels).predict(X)) <= set(WORDS)


def test_set_output_of_a_pipeline() -> None:
    pytest.importorskip("pandas")
    pipe = make_pipeline(StandardScaler(), model()).set_output(transform="pandas").fit(X, Y)
    assert list(pipe[-1].feature_names_in_) == [f"x{i}" for i in range(X.shape[1])]
    assert accuracy(Y, pipe.predict(X)) == pipe.score(X, Y)


def test_html_and_text() -> None:
    fitted = model(alpha=0.25).fit(X, Y)
    assert repr(fitted) == (
        "MLPClassifier(alpha=0.25, hidden_layer_sizes=(12,), learning_rate_init=0.02,\n"
        "              max_iter=30, random_state=0)"
    )
    html = fitted._repr_html_()
    assert "MLPClassifier" in html
    assert "alpha" in html
    assert "_repr_html_" not in html


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_tags_tell_the_truth(kind: str) -> None:
    theirs, ours = (estimator.__sklearn_tags__() for estimator in both(kind))
    assert ours.input_tags == theirs.input_tags
    assert ours.estimator_type == theirs.estimator_type
    assert ours.classifier_tags == theirs.classifier_tags
    assert ours.target_tags.multi_output is (kind == "MLPRegressor")
    assert not ours.array_api_support
    assert not ours.non_deterministic


def test_memory_maps_orders_and_read_only_rows() -> None:
    plain = model().fit(X, Y).predict_proba(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    for rows in (np.asfortranarray(X), frozen, X[::1, :], X.tolist()):
        assert (model().fit(rows, Y).predict_proba(rows) == plain).all()


def test_a_row_is_predicted_alike_alone_and_among_others() -> None:
    fitted = model().fit(X, Y)
    alone = np.concatenate([fitted.predict_proba(row.reshape(1, -1)) for row in X])
    assert (alone == fitted.predict_proba(X)).all()


def test_bad_rows_are_refused_also_by_the_short_way() -> None:
    fitted = model().fit(X, Y)
    for wrong, message in (
        (X[:, 1:], "features"),
        (X[0], "2D"),
        (X[:0], "minimum of 1"),
        (np.where(X > 0.9, np.inf, X), "infinity"),
        (X.astype(str).astype(object) + "x", "convert"),
        (X * 1j, "Complex"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(wrong)


def test_predicting_in_threads() -> None:
    fitted = model().fit(X, Y)
    expected = fitted.predict(X)
    results = joblib.Parallel(n_jobs=4, backend="threading")(
        joblib.delayed(fitted.predict)(X) for _ in range(20)
    )
    assert all((found == expected).all() for found in results)


def test_without_scikit_learn_the_import_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('none here')")
    code = "import fastmlp; fastmlp.MLP; fastmlp.MLPClassifier"
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "pip install 'fastmlp[sklearn]'" in result.stderr

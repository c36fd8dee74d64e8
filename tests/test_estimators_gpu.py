"""The estimators with rows on the GPU; on a machine without one, over the stand-in."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from fastmlp import kernels

from .draws import on_device
from .estimator_data import TABLES, quietly

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

kernels.load("cupy")

import cupy  # noqa: E402

import fastmlp  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]

_, X, Y, _ = TABLES["classes"]
X = X.astype(np.float32)
WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture(autouse=True)
def _few_epochs_converge() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training has not converged|lbfgs has not converged")
        yield


class _ByInterface:
    """An array of another library, with ``__cuda_array_interface__``."""

    def __init__(self, array: Any) -> None:
        self.kept, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.kept.__cuda_array_interface__


def _model(kind: str = "MLPClassifier", **parameters: Any) -> Any:
    given = {"hidden_layer_sizes": (12,), "random_state": 0, "max_iter": 3, **parameters}
    return getattr(fastmlp, kind)(**{"backend": "cupy", **given})


def _assert_same(one: Any, two: Any) -> None:
    assert one.loss_curve_ == two.loss_curve_
    for a, b in zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("table", TABLES)
def test_fits_and_answers_are_those_of_rows_on_the_host(table: str, solver: str) -> None:
    kind, rows, y, parameters = TABLES[table]
    numbers = np.asarray(y).dtype.kind in "biuf"
    there, here = (_model(kind, solver=solver, **parameters) for _ in range(2))
    there.fit(on_device(rows), on_device(y) if numbers else y)
    _assert_same(there, here.fit(rows, y))
    found = there.predict(on_device(rows))
    assert isinstance(found, cupy.ndarray if numbers else np.ndarray)
    np.testing.assert_array_equal(found.get() if numbers else found, here.predict(rows))
    given = on_device(y) if numbers else y
    assert there.score(on_device(rows), given) == here.score(rows, y)
    assert there.score(rows, y) == here.score(rows, y)
    for name in ("predict_proba", "predict_log_proba"):
        if hasattr(there, name):
            found = getattr(there, name)(on_device(rows))
            assert isinstance(found, cupy.ndarray)
            np.testing.assert_array_equal(found.get(), getattr(here, name)(rows))


@pytest.mark.parametrize("loss", ["hinge", "exponential"])
@pytest.mark.parametrize("y", [Y, Y % 2], ids=["ten", "two"])
def test_margins_stay_where_the_rows_are(y: Array, loss: str) -> None:
    model = _model(loss=loss).fit(on_device(X), y)
    found = model.decision_function(on_device(X))
    np.testing.assert_array_equal(found.get(), model.decision_function(X))
    assert found.shape == ((len(X), 10) if y.max() > 1 else (len(X),))


@pytest.mark.parametrize("wrap", [lambda array: array, _ByInterface])
@pytest.mark.parametrize("backend", ["auto", "cupy"])
def test_auto_goes_where_the_rows_are(backend: str, wrap: Callable[[Any], Any]) -> None:
    model = _model(backend=backend).fit(wrap(on_device(X)), Y)
    assert model._net.backend == "cupy"
    assert model._net.dtype == np.float32
    assert model.coefs_[0].dtype == np.float32
    assert isinstance(model.predict(wrap(on_device(X))), cupy.ndarray)
    assert isinstance(model.predict(X), np.ndarray)


@pytest.mark.parametrize(
    ("given", "dtype", "wanted"),
    [
        ("float64", None, "float64"),
        ("float32", None, "float32"),
        ("uint8", None, "float64"),
        ("uint8", "float32", "float32"),
        ("float16", "float32", "float32"),
        ("float64", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("float32", "tf32", "tf32"),
    ],
)
def test_precisions_follow_the_rows(given: str, dtype: str | None, wanted: str) -> None:
    rows = (16 * X).astype(given)
    there, here = _model(dtype=dtype), _model(dtype=dtype)
    _assert_same(there.fit(on_device(rows), Y), here.fit(rows, Y))
    assert there._net._engine.precision == wanted
    np.testing.assert_array_equal(there.predict(on_device(rows)).get(), here.predict(rows))


@pytest.mark.parametrize("metric", [None, "loss", "f1_macro"])
def test_early_stopping_and_weights(metric: str | None) -> None:
    parameters = {"early_stopping": True, "eval_metric": metric, "class_weight": "balanced"}
    w = np.linspace(0.5, 2, len(X))
    there, here = _model(**parameters), _model(**parameters)
    _assert_same(there.fit(on_device(X), on_device(Y), on_device(w)), here.fit(X, Y, w))
    assert there.validation_scores_ == here.validation_scores_
    given = there.score(on_device(X), on_device(Y), sample_weight=on_device(w))
    assert given == here.score(X, Y, sample_weight=w)


@pytest.mark.parametrize("where", [on_device, np.asarray])
def test_validation_rows_of_ones_own(where: Callable[[Any], Any]) -> None:
    there, here = _model(), _model()
    there.fit(on_device(X[:100]), Y[:100], X_val=where(X[100:]), y_val=where(Y[100:]))
    _assert_same(there, here.fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:]))
    assert there.validation_loss_curve_ == here.validation_loss_curve_


def test_partial_fit_and_warm_start() -> None:
    there, here = _model(), _model()
    there.partial_fit(on_device(X), on_device(Y), classes=on_device(np.arange(10)))
    here.partial_fit(X, Y, classes=np.arange(10))
    _assert_same(there.partial_fit(on_device(X), Y), here.partial_fit(X, Y))
    there, here = _model(warm_start=True), _model(warm_start=True)
    _assert_same(there.fit(on_device(X), Y), here.fit(X, Y))
    _assert_same(there.fit(on_device(X), Y), here.fit(X, Y))


def test_a_copy_of_it_holds_nothing_of_the_device() -> None:
    model = _model(early_stopping=True).fit(on_device(X), Y)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict(on_device(X)).get(), model.predict(X))


def test_labels_that_are_no_numbers_come_from_the_host() -> None:
    model = _model().fit(on_device(X), WORDS[Y])
    found = model.predict(on_device(X))
    assert isinstance(found, np.ndarray)
    assert set(found) <= set(WORDS)


def test_names_of_columns_are_compared() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    model = _model().fit(frame, Y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.predict(on_device(X))
    np.testing.assert_array_equal(found.get(), model.predict(frame))


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: np.where(X.max() == X, np.nan, X), "X must hold finite numbers"),
    (lambda: X[0], r"X must have shape \(rows, columns\), both >= 1; got shape \(64,\)"),
    (lambda: X[:0], "both >= 1"),
    (lambda: X[:, :0], "both >= 1"),
    (lambda: X[:7], "inconsistent numbers of samples"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_rows_are_refused(rows: Callable[[], Array], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _model().fit(on_device(rows()), Y)


def test_bad_targets_and_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="requires y to be passed"):
        _model().fit(on_device(X), None)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        _model("MLPRegressor").fit(on_device(X), on_device(np.full(len(X), np.nan)))
    model = _model().fit(on_device(X), Y)
    with pytest.raises(ValueError, match="X has 5 features, but MLPClassifier is expecting 64"):
        model.predict(on_device(X[:, :5]))
    with pytest.raises(NotFittedError):
        _model().predict(on_device(X))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_backend_of_the_cpu_refuses_rows_on_the_device(backend: str) -> None:
    if kernels.available()[backend] is not None:
        pytest.skip(f"backend {backend}: {kernels.available()[backend]}")
    for call in (
        lambda: _model(backend=backend).fit(on_device(X), Y),
        lambda: quietly(_model(backend=backend).fit, X, Y).predict(on_device(X)),
    ):
        with pytest.raises(TypeError, match="X lies on the GPU.*backend='cupy'"):
            call()

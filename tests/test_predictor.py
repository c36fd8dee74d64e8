"""Single rows and small batches: fast ways that give what the slow ones give."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, available_backends

BACKENDS = [name for name in ("numpy", "numba") if name in available_backends()]
LOSSES = ["cross_entropy", "binary_cross_entropy", "squared_error", "hinge"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_compiled_predictor_answers_as_predict(
    loss: str, outputs: int, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    if loss == "cross_entropy" and outputs == 1:
        pytest.skip("one class")
    net = MLP((7, 9, outputs), loss=loss, dtype=dtype, backend=backend, seed=3)
    answer = net.compiled_predictor()
    X = rng.normal(size=(90, 7)).astype(dtype)
    wanted = net.predict(X)
    np.testing.assert_array_equal(answer(X), wanted)
    alone = [answer(X[i : i + 1]) for i in range(len(X))]
    assert alone[0].dtype == wanted.dtype
    one_by_one = [net.predict(X[i : i + 1]) for i in range(len(X))]
    np.testing.assert_array_equal(np.concatenate(alone), np.concatenate(one_by_one))
    rounded = X[:2].astype("float16").tolist()
    np.testing.assert_array_equal(answer(rounded), net.predict(rounded))


def test_compiled_predictor_stays_as_it_was(rng: np.random.Generator) -> None:
    net = MLP((5, 6, 2), loss="squared_error", optimizer="adam", seed=0)
    X, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    answer, before = net.compiled_predictor(), net.predict(X)
    net.fit(X, y, epochs=3)
    np.testing.assert_array_equal(answer(X), before)
    assert not np.array_equal(net.predict(X), before)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([[1.0, np.nan, 0.0]], "finite"),
        ([[1.0, np.inf, 0.0]], "finite"),
        ([[1.0, 2.0]], "3 columns"),
        ([1.0, 2.0, 3.0], "one row"),
        (np.zeros((0, 3)), "at least one row"),
    ],
)
def test_compiled_predictor_refuses(row: Any, message: str) -> None:
    answer = MLP((3, 2)).compiled_predictor()
    for given in (row, np.asarray(row, np.float32)):
        with pytest.raises(ValueError, match=message):
            answer(given)


def test_a_huge_finite_row_is_no_error() -> None:
    X = np.full((1, 3), 1e30, np.float32)
    assert np.isfinite(MLP((3, 2), seed=0).predict(X)).all()


def test_a_read_only_row(rng: np.random.Generator) -> None:
    net = MLP((3, 4, 2), seed=0)
    X = rng.normal(size=(1, 3)).astype(np.float32)
    wanted = net.forward(X)
    X.flags.writeable = False
    np.testing.assert_array_equal(net.forward(X), wanted)
    np.testing.assert_array_equal(net.compiled_predictor()(X), net.predict(X))


def test_threads_share_a_predictor(rng: np.random.Generator) -> None:
    net = MLP((20, 33, 5), loss="squared_error", seed=0)
    answer = net.compiled_predictor()
    X = rng.normal(size=(300, 20)).astype(np.float32)
    wanted = net.predict(X)
    wrong: list[int] = []

    def ask(start: int) -> None:
        asked = range(start, len(X), 4)
        wrong.extend(i for i in asked if not np.array_equal(answer(X[i : i + 1])[0], wanted[i]))

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_are_those_of_argmax(backend: str) -> None:
    net = MLP((2, 9), backend=backend, seed=0)
    weights = np.zeros((2, 9))
    weights[0] = [1, 3, 2, 3, 0, -1, 3, 1, 2]
    weights[1, 4:6] = 1
    net.weights = [weights]
    net.biases = [np.zeros(9)]
    rows = {"the first of the largest": [1, 0], "all equal": [0, 0], "beyond a vector": [-1, -9]}
    for what, row in rows.items():
        X = np.array([row], np.float32)
        assert net.predict(X)[0] == net.logits(X)[0].argmax(), what


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_class_where_logits_are_nan(backend: str) -> None:
    net = MLP((2, 1, 9), activation="relu", backend=backend, seed=0)
    net.weights = [np.full((2, 1), 1e3), np.array([[1, 3, 2, 0, 1, 0, 3, -1, 2]])]
    X = np.full((1, 2), 3e38, np.float32)
    logits = net.logits(X)[0]  # infinity times each weight
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(logits)), [3, 5])
    assert net.predict(X)[0] == logits.argmax()
    assert net.compiled_predictor()(X) == net.predict(X)


@pytest.mark.parametrize("place", [0, 7, 8, 17])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_rows_that_are_not_finite(dtype: str, odd: float, place: int) -> None:
    net = MLP((9, 4, 3), dtype=dtype, seed=0)
    X = np.ones((2, 9), dtype)
    wanted = net.predict(X)  # from here on there is a plan
    X.flat[place] = odd
    for ask in (net.predict, net.forward, net.predict_proba, net.logits, net.compiled_predictor()):
        with pytest.raises(ValueError, match=rf"\({place // 9}, {place % 9}\)"):
            ask(X)
    X[:] = 1
    np.testing.assert_array_equal(net.predict(X), wanted)

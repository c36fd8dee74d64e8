"""LARS and LAMB next to the papers' algorithms in plain NumPy, and what a trust ratio promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp import LAMB, LARS, MLP, Maxout, PolynomialDecay, WarmUp, kernels
from fastmlp.kernels.contract import Update, check_rule

from .draws import Array
from .tolerances import assert_close

ROWS, SIZES, STEPS = 40, (7, 19, 11, 3), 12
RNG = np.random.default_rng(8)
X, Y = RNG.normal(size=(ROWS, SIZES[0])), RNG.integers(0, SIZES[-1], ROWS)
RATES = WarmUp(PolynomialDecay(0.5, STEPS, power=2), 4)


def _net(optimizer: Any, backend: str, **arguments: Any) -> MLP:
    chosen: dict[str, Any] = {"activation": "tanh", "dtype": "float64", "seed": 4, **arguments}
    return MLP(SIZES, optimizer=optimizer, backend=backend, **chosen)


def _gradients(W: list[Array], b: list[Array]) -> tuple[list[Array], list[Array]]:
    """Mean cross-entropy of a tanh network on all rows, by the chain rule."""
    A = [X]
    for weights, biases in zip(W[:-1], b[:-1], strict=True):
        A.append(np.tanh(A[-1] @ weights + biases))
    Z = A[-1] @ W[-1] + b[-1]
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    D = (P / P.sum(axis=1, keepdims=True) - np.eye(SIZES[-1])[Y]) / ROWS
    dW, db = [], []
    for layer in reversed(range(len(W))):
        dW.insert(0, A[layer].T @ D)
        db.insert(0, D.sum(axis=0))
        D = (D @ W[layer].T) * (1 - A[layer] ** 2)
    return dW, db


def _lars(optimizer: LARS) -> Callable[..., None]:
    """You, Gitman & Ginsburg 2017, algorithm 1; a vector has the local rate 1 and no decay."""
    velocity: dict[int, Array] = {}

    def move(key: int, w: Array, g: Array, rate: float, step: int) -> None:
        local, decay = 1.0, 0.0
        if w.ndim == 2:
            decay = optimizer.weight_decay
            norm = np.linalg.norm(w)
            local = optimizer.trust_coefficient * norm / (np.linalg.norm(g) + decay * norm)
        v = velocity.get(key, np.zeros_like(w))
        velocity[key] = optimizer.momentum * v + rate * local * (g + decay * w)
        w -= velocity[key]

    return move


def _lamb(optimizer: LAMB) -> Callable[..., None]:
    """You et al. 2020, algorithm 2 with phi(z) = z; a vector takes Adam's step."""
    moments: dict[int, tuple[Array, Array]] = {}
    b1, b2 = optimizer.beta1, optimizer.beta2

    def move(key: int, w: Array, g: Array, rate: float, step: int) -> None:
        m, v = moments.get(key, (np.zeros_like(w), np.zeros_like(w)))
        m, v = moments[key] = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        r = m / (1 - b1**step) / (np.sqrt(v / (1 - b2**step)) + optimizer.epsilon)
        if w.ndim == 2:
            r += optimizer.weight_decay * w
            rate *= np.linalg.norm(w) / np.linalg.norm(r)
        w -= rate * r

    return move


CASES: list[tuple[LARS | LAMB, Callable[..., Any]]] = [
    (LARS(RATES, trust_coefficient=0.1), _lars),
    (LARS(RATES, momentum=0.5, trust_coefficient=0.2, weight_decay=0.1), _lars),
    (LAMB(RATES), _lamb),
    (LAMB(RATES, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.1), _lamb),
]


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize(
    ("optimizer", "paper"), CASES, ids=["LARS", "LARS, decay", "LAMB", "LAMB, decay"]
)
def test_the_papers_algorithms(
    optimizer: Any, paper: Callable[..., Any], clip: float | None, backend: str
) -> None:
    net = _net(dataclasses.replace(optimizer, clip_norm=clip), backend)
    W, b = [a.copy() for a in net.weights], [a.copy() for a in net.biases]
    move = paper(optimizer)
    for step in range(STEPS):
        dW, db = _gradients(W, b)
        gradients = dW + db
        length = np.sqrt(sum((g**2).sum() for g in gradients))
        part = 1.0 if clip is None else min(1.0, clip / length)
        for key, (w, g) in enumerate(zip(W + b, gradients, strict=True)):
            move(key, w, part * g, RATES(step, 0), step + 1)
    net.fit(X, Y, epochs=STEPS, batch_size=ROWS)
    for found, wanted in zip([*net.weights, *net.biases], W + b, strict=True):
        assert_close(found, wanted, "training")


def _moved(net: MLP, scale: float = 1.0) -> list[float]:
    """The length of each layer's way in one update, as a part of its weights' length."""
    before = net.weights
    net.train_on_batch(X, Y, sample_weight=np.full(ROWS, scale))
    return [
        float(np.linalg.norm(after - first) / np.linalg.norm(first))
        for after, first in zip(net.weights, before, strict=True)
    ]


@pytest.mark.parametrize(
    "optimizer", [LARS(2.0, trust_coefficient=0.01), LAMB(0.02), LAMB(0.02, weight_decay=1.0)]
)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_every_layer_moves_by_the_same_part(optimizer: Any, scale: float, backend: str) -> None:
    """However long its gradient is; up to LAMB's epsilon, which is nothing beside 1e-3."""
    net = _net(optimizer, backend, reduction="sum")
    np.testing.assert_allclose(_moved(net, scale), 0.02, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [LARS(0.1, momentum=0), LAMB(0.1)], ids=repr)
def test_weights_of_zero_have_the_ratio_1(optimizer: Any, dtype: str, backend: str) -> None:
    net = _net(optimizer, backend, init="zeros", dtype=dtype)
    g = net.gradients(X, Y).weights[-1]
    assert not g.any()
    net.biases = [np.ones_like(biases) for biases in net.biases]
    g = net.gradients(X, Y).weights[-1]
    net.train_on_batch(X, Y)
    plain = g if isinstance(optimizer, LARS) else g / (np.abs(g) + optimizer.epsilon)
    assert_close(net.weights[-1], -0.1 * plain, "training", dtype)
    assert not net.weights[0].any()


@pytest.mark.parametrize("optimizer", [LARS(0.1), LAMB(0.1)], ids=repr)
def test_tiny_numbers_stay_finite(optimizer: Any, backend: str) -> None:
    """Squares below the smallest float32, in both precisions, count as none."""
    results = []
    for dtype in ("float32", "float64"):
        net = _net(optimizer, backend, dtype=dtype)
        net.weights = [1e-25 * np.sign(weights) for weights in net.weights]
        net.train_on_batch(X, Y)
        results.append(np.concatenate([weights.ravel() for weights in net.weights]))
    assert_close(results[0], results[1], "training", "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", ["lars", "lamb"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_backends_agree_on_other_layers(
    word: str, normalization: str | None, dtype: str, backend: str
) -> None:
    """A maxout layer is one layer, whatever its pieces; scales and shifts are no weights."""
    nets = [
        _net(
            word,
            name,
            activation=("mpelu", Maxout(3)),
            normalization=normalization,
            l2=0.01,
            dtype=dtype,
        )
        for name in ("numpy", backend)
    ]
    for net in nets:
        net.fit(X, Y, epochs=3, batch_size=16)
    for name, wanted in nets[0].parameters.items():
        assert_close(nets[1].parameters[name], wanted, "training", dtype)


# A backend without them


def test_a_rule_that_a_backend_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = kernels.load("numpy")
    check_rule(reference, Update("lamb", (0.9, 0.999, 1e-6, 0.0)))
    net, moving = _net("sgd", "numpy"), _net("lars", "numpy")
    monkeypatch.setattr(reference, "UPDATES", {"sgd": None, "adam": None})
    refused = "optimizer 'lars' can't be used with backend 'numpy', which has sgd, adam"
    before = net.parameters
    calls: list[Callable[[], Any]] = [
        lambda: _net("lars", "numpy"),
        lambda: net.fit(X, Y, optimizer="lars"),
        lambda: moving.to("numpy"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=refused):
            call()
    assert net.optimizer.rule().name == "sgd"
    for name, wanted in before.items():
        np.testing.assert_array_equal(net.parameters[name], wanted)

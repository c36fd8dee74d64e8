"""Forward and backprop of every backend: against slopes, the reference and the chapter."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.kernels.contract import Layer, Network, State, Update
from fastmlp.kernels.layout import LEARNED, parameter_segments, running_segments
from fastmlp.kernels.reference import LINKS, TARGETS
from fastmlp.kernels.reference.random import dropout_scale

from .draws import (
    DTYPES,
    PAIRS,
    REFERENCE,
    TRAINABLE,
    Array,
    assert_untouched,
    blank,
    cast,
    differences,
    network,
    plan_of,
    state,
    stored,
    targets,
)
from .tolerances import assert_close

SGD = Update("sgd")
NORMALIZATIONS = (None, *REFERENCE.NORMALIZATIONS)
HIDDEN = [name for name in TRAINABLE if name not in ("exp", "softmax")]
KEY, STEP = 0xFEDCBA9876543210, 3


def _rows(
    rng: np.random.Generator, net: Network, rows: int, dtype: str = "float64"
) -> tuple[Array, Array, Array]:
    """Draw X, T and weights in float32 numbers; one of the weights is zero."""
    X = rng.normal(0, 1, (rows, net.layers[0].inputs)).astype(np.float32)
    T = targets(rng, net.loss, rows, net.layers[-1].units).astype(np.float32)
    w = rng.uniform(0.2, 2, rows).astype(np.float32)
    w[0] = 0
    X, T, w = cast((X, T, w), dtype)
    if TARGETS[net.loss] == "classes":
        T /= T.sum(axis=1, keepdims=True)
    return X, T, w


def _options(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the rest of a network: each combination comes up somewhere among the tests."""
    choices: dict[str, tuple[Any, Any]] = {
        "reduction": ("mean", "sum"),
        "penalty_scale": ("batch", "rows"),
        "l1": (0.0, 0.02),
        "l2": (0.0, 0.1),
        "dropout": (0.0, 0.3),
    }
    return {name: pair[rng.integers(2)] for name, pair in choices.items()}


def _backprop(
    backend: Any, plan: Any, X: Array, T: Array, w: Array | None, training: bool
) -> tuple[float, Array]:
    size = parameter_segments(plan.network)[-1].stop
    gradient = blank(size, X.dtype)
    return backend.backprop(plan, gradient, X, T, w, KEY, STEP, training), gradient


def _check_gradient(backend: Any, net: Network, rng: np.random.Generator) -> None:
    """Compare a backend's gradient with slopes of the loss, which it finds as the reference does.

    To take the slopes of each backend's own loss made the suite a tenth longer.
    """
    start = state(rng, net, SGD)
    X, T, w = _rows(rng, net, 6)
    batch = (X, T, w if rng.random() < 0.5 else None)
    print(net, "weights" if batch[2] is not None else "no weights")
    plan, reference = (plan_of(each, net, SGD, start) for each in (backend, REFERENCE))

    def wanted(training: bool) -> float:
        reference.load(start)
        return _backprop(REFERENCE, reference, *batch, training)[0]

    for training in (True, False):
        plan.load(start)
        loss, gradient = _backprop(backend, plan, *batch, training)
        assert_close(loss, wanted(training), "step")
        slopes = differences(partial(wanted, training), start.parameters)
        assert_close(gradient, slopes, "difference")


# Gradients against slopes


@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
@pytest.mark.parametrize("activation", HIDDEN)
def test_gradients_of_hidden_layers(
    activation: str, loss: str, backend: str, rng: np.random.Generator
) -> None:
    """Every hidden activation with every loss and every normalization, learned numbers included."""
    for normalization in NORMALIZATIONS:
        net = network(loss, activation, normalization=normalization, **_options(rng))
        _check_gradient(kernels.load(backend), net, rng)


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_gradients_of_output_layers(
    loss: str, output: str, backend: str, rng: np.random.Generator
) -> None:
    net = network(loss, "tanh", output=output, **_options(rng))
    _check_gradient(kernels.load(backend), net, rng)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("sizes", [(3, 2), (2, 3, 4, 3, 2)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_by_depth(
    normalization: str | None,
    sizes: tuple[int, ...],
    loss: str,
    backend: str,
    rng: np.random.Generator,
) -> None:
    net = network(
        loss, "sigmoid", sizes=sizes, normalization=normalization, dropout=0.2, l2=0.1, l1=0.01
    )
    _check_gradient(kernels.load(backend), net, rng)


# Against the reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("activation", HIDDEN)
def test_steps_equal_the_reference(
    activation: str, normalization: str | None, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    """Layers wider than a vector register and not a multiple of it, in both precisions."""
    loss = str(rng.choice(list(REFERENCE.LOSSES)))
    options = {**_options(rng), "normalization": normalization}
    net = network(loss, activation, sizes=(11, 37, 18, 5), **options)
    start = state(rng, net, SGD)
    batch = _rows(rng, net, 41)
    print(net)
    results = []
    for b, precision in ((REFERENCE, "float64"), (kernels.load(backend), dtype)):
        X, T, w = cast(batch, precision)
        plan = plan_of(b, net, SGD, State(*cast(tuple(start), precision)))
        outputs, logits = blank((41, 5), precision), blank((41, 5), precision)
        losses = blank(41, precision)
        b.forward(plan, outputs, X, False)
        b.forward(plan, logits, X, True)
        b.row_losses(plan, losses, X, T)
        frozen, trained = (_backprop(b, plan, X, T, w, training) for training in (False, True))
        results.append((outputs, logits, losses, *frozen, *trained))
    for wanted, found in zip(*results, strict=True):
        assert_close(found, wanted, "step", dtype)


@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_the_loss_is_the_mean_of_row_losses(
    loss: str, backend: str, rng: np.random.Generator
) -> None:
    b, net = kernels.load(backend), network(loss, "tanh")
    plan = plan_of(b, net, SGD, state(rng, net, SGD))
    X, T, w = _rows(rng, net, 9)
    losses = blank(9)
    b.row_losses(plan, losses, X, T)
    assert_close(_backprop(b, plan, X, T, w, False)[0], np.average(losses, weights=w), "formula")
    assert_close(_backprop(b, plan, X, T, None, False)[0], losses.mean(), "formula")


@pytest.mark.parametrize("penalty_scale", ["batch", "rows"])
def test_penalties(penalty_scale: str, backend: str, rng: np.random.Generator) -> None:
    b = kernels.load(backend)
    plain = network("squared_error", "tanh")
    net = plain._replace(l1=0.3, l2=0.7, penalty_scale=penalty_scale)
    start = state(rng, net, SGD)
    X, T, w = _rows(rng, net, 9)
    weights = [s.view(start.parameters) for s in parameter_segments(net) if s.kind == "weights"]
    penalty = sum(0.3 * np.abs(W).sum() + 0.35 * (W * W).sum() for W in weights)
    for given, total in ((None, 9.0), (w, w.sum())):
        without = _backprop(b, plan_of(b, plain, SGD, start), X, T, given, True)[0]
        found = _backprop(b, plan_of(b, net, SGD, start), X, T, given, True)[0]
        share = total if penalty_scale == "rows" else 1.0
        assert_close(found, without + penalty / share, "formula")


def test_sign_of_zero_weights_is_zero(backend: str) -> None:
    net = network("squared_error", "relu", l1=1.0)
    b = kernels.load(backend)
    plan = b.make_plan(net, SGD, "float64")
    loss, gradient = _backprop(b, plan, np.ones((2, 3)), np.zeros((2, 2)), None, True)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty_scale", ["batch", "rows"])
def test_a_weightless_batch_has_penalties_alone(
    penalty_scale: str, reduction: str, backend: str, rng: np.random.Generator
) -> None:
    b = kernels.load(backend)
    net = network("squared_error", "tanh", l2=2.0, penalty_scale=penalty_scale, reduction=reduction)
    start = state(rng, net, SGD)
    X, T, w = _rows(rng, net, 4)
    loss, gradient = _backprop(b, plan_of(b, net, SGD, start), X, T, 0 * w, True)
    share = 1.0 if penalty_scale == "batch" else 0.0
    wanted, penalty = np.zeros_like(gradient), 0.0
    for segment in parameter_segments(net):
        if segment.kind == "weights":
            W = segment.view(start.parameters)
            segment.view(wanted)[...] = share * 2 * W
            penalty += share * (W * W).sum()
    assert_close(loss, penalty, "formula")
    assert_close(gradient, wanted, "formula")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_class_indices_are_one_hot_rows(
    loss: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    b, net = kernels.load(backend), network(loss, "relu", sizes=(3, 5, 4))
    plan = plan_of(b, net, SGD, state(rng, net, SGD, dtype))
    X, labels = rng.normal(size=(7, 3)).astype(dtype), rng.integers(0, 4, 7)
    results = []
    for T in (labels, np.eye(4, dtype=dtype)[labels]):
        losses = blank(7, dtype)
        b.row_losses(plan, losses, X, T)
        results.append((losses, *_backprop(b, plan, X, T, None, True)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_rows(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("cross_entropy", "relu", normalization="batch")
    start, X = state(rng, net, SGD), rng.normal(size=(5, 3))
    plan = plan_of(b, net, SGD, start)
    outputs = [blank((5, 2)) for _ in range(2)]
    b.forward(plan, outputs[0], X, False)
    b.forward(plan, np.empty((0, 2)), np.empty((0, 3)), False)
    b.row_losses(plan, np.empty(0), np.empty((0, 3)), np.empty(0, np.int64))
    b.forward(plan, outputs[1], X, False)
    np.testing.assert_array_equal(*outputs)
    assert_untouched(tuple(stored(plan, start)), tuple(start))


def test_maxout_logits_are_all_pieces(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("squared_error", "tanh", output="maxout")
    plan = plan_of(b, net, SGD, state(rng, net, SGD))
    X, logits, out = rng.normal(size=(5, 3)), blank((5, 4)), blank((5, 2))
    b.forward(plan, logits, X, True)
    b.forward(plan, out, X, False)
    np.testing.assert_array_equal(out, np.maximum(logits[:, :2], logits[:, 2:]))


@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_huge_weights_neither_warn_nor_crash(
    loss: str, backend: str, rng: np.random.Generator
) -> None:
    b, net = kernels.load(backend), network(loss, "relu", normalization="batch")
    start = state(rng, net, SGD, "float32")
    start.parameters[...] *= 1e30
    X, T, _ = _rows(rng, net, 6, "float32")
    plan = plan_of(b, net, SGD, start)
    b.forward(plan, blank((6, 2), "float32"), X, False)
    b.row_losses(plan, blank(6, "float32"), X, T)
    _backprop(b, plan, X, T, None, True)
    assert_untouched(tuple(stored(plan, start)), tuple(start))


def test_step_cannot_be_trained_by_gradients(rng: np.random.Generator) -> None:
    net = network("hinge", "step")
    plan = plan_of(REFERENCE, net, SGD, state(rng, net, SGD))
    with pytest.raises(ValueError, match="step"):
        _backprop(REFERENCE, plan, np.ones((1, 3)), np.ones((1, 2)), None, True)


# What plans promise


@pytest.mark.parametrize("dtype", DTYPES)
def test_plans_keep_numbers_to_the_bit(dtype: str, backend: str, rng: np.random.Generator) -> None:
    b, rule = kernels.load(backend), Update("adam", (0.9, 0.999, 1e-8))
    net = network("squared_error", "mpelu", sizes=(3, 19, 17, 2), normalization="batch")
    start = state(rng, net, rule, dtype)
    start.slots[...] = rng.normal(size=start.slots.shape)
    plan = b.make_plan(net, rule, dtype)
    assert all(not numbers.any() for numbers in stored(plan, start))
    plan.load(start)
    kept = plan.snapshot()
    for found, wanted in zip(stored(plan, start), start, strict=True):
        np.testing.assert_array_equal(found, wanted)
    plan.load(State(*(numbers + 1 for numbers in start)))
    plan.restore(kept)
    for found, wanted in zip(stored(plan, start), start, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert plan.finite()
    start.parameters[len(start.parameters) // 2] = np.inf
    assert plan.finite()
    plan.load(start)
    assert not plan.finite()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_backprop_changes_nothing_but_the_gradient(
    normalization: str | None, backend: str, rng: np.random.Generator
) -> None:
    b = kernels.load(backend)
    net = network("cross_entropy", "prelu", normalization=normalization, dropout=0.5, l2=1.0)
    start = state(rng, net, SGD)
    plan, batch = plan_of(b, net, SGD, start), _rows(rng, net, 6)
    copies = cast(batch, "float64")
    results = [_backprop(b, plan, *batch, training)[1] for training in (True, False, True)]
    np.testing.assert_array_equal(results[0], results[2])
    for found, wanted in zip((*stored(plan, start), *batch), (*start, *copies), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_make_plan_refuses_other_precisions() -> None:
    with pytest.raises(ValueError, match="float16"):
        REFERENCE.make_plan(network("squared_error", "tanh"), SGD, "float16")


# What a forward pass is, written out once more


def test_forward_of_one_layer_by_hand(backend: str, rng: np.random.Generator) -> None:
    """Running statistics and no dropout for forward; batch statistics and a mask in training."""
    b = kernels.load(backend)
    net = network("squared_error", "tanh", normalization="batch", dropout=0.5, sizes=(3, 6, 2))
    start = state(rng, net, SGD)
    plan = plan_of(b, net, SGD, start)
    v = {s.name: s.view(start.parameters) for s in parameter_segments(net)}
    mean, variance = (s.view(start.running) for s in running_segments(net))
    X, T, _ = _rows(rng, net, 5)
    Z = X @ v["weights.0"] + v["biases.0"]
    hat = (Z - mean) / np.sqrt(variance + 1e-5)
    A = np.tanh(hat * v["scale.0"] + v["shift.0"])
    out = blank((5, 2))
    b.forward(plan, out, X, False)
    assert_close(out, A @ v["weights.1"] + v["biases.1"], "formula")
    hat = (Z - Z.mean(0)) / np.sqrt(Z.var(0) + 1e-5)
    mask = blank((5, 6))
    dropout_scale(mask, KEY, STEP, 0, 0.5)
    A = mask * np.tanh(hat * v["scale.0"] + v["shift.0"])
    errors = A @ v["weights.1"] + v["biases.1"] - T
    loss, gradient = _backprop(b, plan, X, T, None, True)
    assert_close(loss, (errors**2).sum(axis=1).mean(), "formula")
    weights = next(s for s in parameter_segments(net) if s.name == "weights.1")
    assert_close(weights.view(gradient), A.T @ errors * 2 / 5, "formula")


def _chapter_network() -> tuple[Network, State]:
    """The worked example 2-2-2: sigmoid everywhere, half squared error."""
    net = Network((Layer(2, 2, "sigmoid"), Layer(2, 2, "sigmoid")), "half_squared_error")
    parameters = [0.15, 0.25, 0.20, 0.30, 0.35, 0.35, 0.40, 0.50, 0.45, 0.55, 0.60, 0.60]
    return net, State(np.array(parameters), np.zeros((0, 12)), np.zeros(0))


def test_the_worked_example_of_the_chapter(backend: str) -> None:
    b, (net, start) = kernels.load(backend), _chapter_network()
    plan = plan_of(b, net, SGD, start)
    X, T, out = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]]), blank((1, 2))
    b.forward(plan, out, X, False)
    loss, gradient = _backprop(b, plan, X, T, None, True)
    np.testing.assert_allclose(out, [[0.751365069552, 0.772928465321]], atol=1e-12)
    assert loss == pytest.approx(0.298371108760, abs=1e-12)
    assert gradient[6] == pytest.approx(0.082167040564, abs=1e-12)
    assert gradient[0] == pytest.approx(0.000438567734, abs=1e-12)


def test_every_learned_parameter_has_a_gradient(rng: np.random.Generator) -> None:
    for name in LEARNED:
        net = network("squared_error", name, output=LINKS["squared_error"])
        plan = plan_of(REFERENCE, net, SGD, state(rng, net, SGD))
        X, T, _ = _rows(rng, net, 20)
        _, gradient = _backprop(REFERENCE, plan, X, T, None, True)
        for segment in parameter_segments(net):
            assert segment.view(gradient).any(), segment.name

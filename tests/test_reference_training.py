"""Updates and training steps of every backend: composed by hand, sliced, clipped, weightless."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.kernels.contract import Data, Layer, Network, Order, State, Update
from fastmlp.kernels.layout import FLOORS, parameter_segments, running_segments
from fastmlp.kernels.reference import TARGETS

from .draws import (
    DTYPES,
    REFERENCE,
    UPDATE_CONSTANTS,
    Array,
    blank,
    cast,
    network,
    plan_of,
    sibling,
    state,
    stored,
    targets,
)
from .tolerances import assert_close

ROWS, BATCH, BATCHES = 45, 8, 6
KEY, ORDER_KEY = 0xFEDCBA9876543210, 0x0123456789ABCDEF
SEQUENCE = Order("sequence")


class _Run(NamedTuple):
    """An epoch's arguments."""

    network: Network
    rule: Update
    start: State
    data: Data
    order: Order = SEQUENCE
    step: int = 0
    rates: Array = np.linspace(0.05, 0.01, BATCHES)


def _rule(name: str, **clips: float) -> Update:
    return Update(name, UPDATE_CONSTANTS[name], **clips)


def _run(rng: np.random.Generator, net: Network, rule: Update, dtype: str = "float64") -> _Run:
    inputs, outputs = net.layers[0].inputs, net.layers[-1].units
    X = rng.normal(size=(ROWS, inputs)).astype(np.float32)
    if TARGETS[net.loss] == "classes":
        T: Array = rng.integers(0, outputs, ROWS)
    else:
        T = targets(rng, net.loss, ROWS, outputs).astype(np.float32).astype(dtype)
    w = rng.uniform(0.2, 2, ROWS).astype(np.float32)
    return _Run(
        net, rule, state(rng, net, rule, dtype), Data(*cast((X,), dtype), T, cast(w, dtype))
    )


def _train(
    backend: Any, plan: Any, run: _Run, first: int = 0, count: int = BATCHES, made: int = 0
) -> tuple[Array, int]:
    """The losses of some batches and the number of updates; what they add up to is checked."""
    losses, total = blank(count), np.array([0.1])
    rates, step = run.rates[made:], run.step + made
    made = backend.train_steps(
        plan, losses, run.data, run.order, BATCH, first, count, rates, step, KEY, total
    )
    np.testing.assert_array_equal(total, np.cumsum([0.1, *losses])[-1:])
    return losses, made


def _places(run: _Run, backend: str) -> list[Array]:
    """Give the rows of each batch."""
    index = np.arange(ROWS)
    if run.order.kind == "keyed":
        sibling(backend, "random").shuffle_places(index, ROWS, run.order.key, 0)
    elif run.order.listed is not None:
        index = run.order.listed
    return np.split(index, range(BATCH, ROWS, BATCH))


def _composed(backend: str, run: _Run) -> tuple[Array, State]:
    """Train by backprop and update, one batch after the other."""
    b = kernels.load(backend)
    plan = plan_of(b, run.network, run.rule, run.start)
    losses, gradient = [], blank(run.start.parameters.shape, run.start.parameters.dtype)
    for made, rows in enumerate(_places(run, backend)):
        X, T = run.data.X[rows], run.data.T[rows]
        w = None if run.data.w is None else run.data.w[rows]
        step = run.step + made
        losses.append(b.backprop(plan, gradient, X, T, w, KEY, step, True))
        b.update(plan, gradient, run.rates[made], step + 1)
    return np.array(losses), stored(plan, run.start)


def _check_composition(backend: str, run: _Run) -> None:
    b = kernels.load(backend)
    dtype = run.start.parameters.dtype.name
    plan = plan_of(b, run.network, run.rule, run.start)
    losses, made = _train(b, plan, run)
    wanted_losses, wanted = _composed(backend, run)
    found = stored(plan, run.start)
    assert made == BATCHES
    assert_close(losses, wanted_losses, "training", dtype)
    assert_close(found.parameters, wanted.parameters, "training", dtype)
    assert_close(found.slots, wanted.slots, "training", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.UPDATES)
def test_training_is_backprop_and_update(
    name: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    net = network(
        "cross_entropy", "mpelu", sizes=(3, 19, 5), normalization="batch", dropout=0.2, l2=0.1
    )
    run = _run(rng, net, _rule(name), dtype)._replace(step=7)
    _check_composition(backend, run)


@pytest.mark.parametrize("normalization", [None, *REFERENCE.NORMALIZATIONS])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty_scale", ["batch", "rows"])
@pytest.mark.parametrize("kind", ["sequence", "keyed", "array"])
def test_orders_and_reductions(
    kind: str,
    penalty_scale: str,
    reduction: str,
    normalization: str | None,
    backend: str,
    rng: np.random.Generator,
) -> None:
    net = network(
        "huber",
        "prelu",
        normalization=normalization,
        reduction=reduction,
        penalty_scale=penalty_scale,
        l1=0.01,
        l2=0.1,
    )
    order = Order(kind, ORDER_KEY, rng.permutation(ROWS) if kind == "array" else None)
    run = _run(rng, net, _rule("momentum"))._replace(order=order)
    _check_composition(backend, run)
    _check_composition(backend, run._replace(data=run.data._replace(w=None)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalization", [None, *REFERENCE.NORMALIZATIONS])
def test_training_equals_the_reference(
    normalization: str | None, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    net = network(
        "cross_entropy", "silu", sizes=(11, 37, 18, 5), normalization=normalization, dropout=0.3
    )
    run = _run(rng, net, _rule("momentum"), "float32")
    results = []
    for b, precision in ((REFERENCE, "float64"), (kernels.load(backend), dtype)):
        start = State(*cast(tuple(run.start), precision))
        data = Data(*cast((run.data.X,), precision), run.data.T, cast(run.data.w, precision))
        plan = plan_of(b, net, run.rule, start)
        losses, _ = _train(b, plan, run._replace(start=start, data=data, order=Order("keyed", 5)))
        results.append((losses, *stored(plan, start)))
    for wanted, found in zip(*results, strict=True):
        assert_close(found, wanted, "training", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cuts", [(1,) * 6, (2, 3, 1), (5, 1)])
def test_slices_change_no_bit(
    cuts: tuple[int, ...], dtype: str, backend: str, rng: np.random.Generator
) -> None:
    b = kernels.load(backend)
    net = network("cross_entropy", "relu", sizes=(5, 20, 3), normalization="batch", dropout=0.3)
    run = _run(rng, net, _rule("adam"), dtype)._replace(order=Order("keyed", ORDER_KEY))
    whole, parts = (plan_of(b, net, run.rule, run.start) for _ in range(2))
    wanted, _ = _train(b, whole, run)
    found, made = [], 0
    for first, count in zip(np.cumsum((0, *cuts)), cuts, strict=False):
        losses, more = _train(b, parts, run, int(first), count, made)
        found.append(losses)
        made += more
    np.testing.assert_array_equal(np.concatenate(found), wanted)
    for one, other in zip(stored(parts, run.start), stored(whole, run.start), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stored_plan_goes_on_with_the_same_bits(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("squared_error", "mpelu", normalization="batch")
    run = _run(rng, net, _rule("adamw"))
    whole, before = (plan_of(b, net, run.rule, run.start) for _ in range(2))
    _train(b, whole, run)
    _, made = _train(b, before, run, 0, 3)
    after = plan_of(b, net, run.rule, stored(before, run.start))
    _train(b, after, run, 3, 3, made)
    for one, other in zip(stored(after, run.start), stored(whole, run.start), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_short_last_batch(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("squared_error", "tanh")
    run = _run(rng, net, _rule("sgd"))
    plan = plan_of(b, net, run.rule, run.start)
    losses, made = _train(b, plan, run, BATCHES - 1, 1)
    rest = [array[BATCH * (BATCHES - 1) :] for array in run.data]
    gradient = blank(run.start.parameters.shape)
    wanted = b.backprop(plan_of(b, net, run.rule, run.start), gradient, *rest, KEY, 0, True)
    assert len(rest[0]) == ROWS % BATCH
    assert made == 1
    assert_close(losses, [wanted], "formula")
    moved = run.start.parameters - run.rates[0] * gradient
    assert_close(stored(plan, run.start).parameters, moved, "formula")


def test_a_batch_larger_than_the_data(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("squared_error", "tanh")
    run = _run(rng, net, _rule("sgd"))
    results = []
    for batch in (ROWS, ROWS + 100):
        plan, losses = plan_of(b, net, run.rule, run.start), blank(1)
        b.train_steps(plan, losses, run.data, SEQUENCE, batch, 0, 1, run.rates, 0, KEY)
        results.append((losses, *stored(plan, run.start)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("penalty_scale", ["batch", "rows"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weightless_batches_make_no_update(
    reduction: str, penalty_scale: str, backend: str, rng: np.random.Generator
) -> None:
    """Batches 1 and 4 weigh nothing: training goes on as if they were not there."""
    b = kernels.load(backend)
    options = {"normalization": "batch", "reduction": reduction, "penalty_scale": penalty_scale}
    net = network("squared_error", "tanh", dropout=0.3, l2=0.5, **options)
    run = _run(rng, net, _rule("adam"))
    empty = np.isin(np.arange(ROWS) // BATCH, (1, 4))
    w = np.where(empty, 0, run.data.w)
    plan = plan_of(b, net, run.rule, run.start)
    losses, made = _train(b, plan, run._replace(data=run.data._replace(w=w)))
    kept = Data(run.data.X[~empty], run.data.T[~empty], w[~empty])
    other = plan_of(b, net, run.rule, run.start)
    wanted, others = _train(b, other, run._replace(data=kept), 0, 4)
    assert made == others == 4
    np.testing.assert_array_equal(losses[[0, 2, 3, 5]], wanted)
    for one, two in zip(stored(plan, run.start), stored(other, run.start), strict=True):
        np.testing.assert_array_equal(one, two)
    _check_penalty(b, run, losses[1], 1.0 if penalty_scale == "batch" else 0.0)


def _check_penalty(b: Any, run: _Run, loss: float, share: float) -> None:
    """Compare the loss of batch 1, after one update."""
    plan = plan_of(b, run.network, run.rule, run.start)
    _train(b, plan, run, 0, 1)
    flat = stored(plan, run.start).parameters
    weights = [s.view(flat) for s in parameter_segments(run.network) if s.kind == "weights"]
    assert_close(loss, share * sum(0.25 * (W * W).sum() for W in weights), "formula")


def test_running_statistics_by_hand(backend: str, rng: np.random.Generator) -> None:
    """They move a tenth of the way to each batch, with the unbiased variance."""
    b, net = kernels.load(backend), network("squared_error", "relu", normalization="batch")
    run = _run(rng, net, _rule("sgd"))._replace(rates=np.zeros(BATCHES))
    plan = plan_of(b, net, run.rule, run.start)
    _train(b, plan, run)
    W, bias = (s.view(run.start.parameters) for s in parameter_segments(net)[:2])
    mean, variance = (s.view(run.start.running).copy() for s in running_segments(net))
    for rows in np.split(np.arange(ROWS), range(BATCH, ROWS, BATCH)):
        Z = run.data.X[rows] @ W + bias
        mean += 0.1 * (Z.mean(axis=0) - mean)
        variance += 0.1 * (Z.var(axis=0, ddof=1) - variance)
    assert_close(stored(plan, run.start).running, np.concatenate([mean, variance]), "formula")


def test_running_variance_of_a_single_row(backend: str, rng: np.random.Generator) -> None:
    b, net = kernels.load(backend), network("squared_error", "relu", normalization="batch")
    run = _run(rng, net, _rule("sgd"))
    plan = plan_of(b, net, run.rule, run.start)
    b.train_steps(plan, blank(1), run.data, SEQUENCE, 1, 0, 1, np.zeros(1), 0, KEY)
    found, (_, variance) = stored(plan, run.start), running_segments(net)
    assert_close(variance.view(found.running), 0.9 * variance.view(run.start.running), "formula")


# Updates


def _updated(backend: str, net: Network, rule: Update, start: State, gradient: Array) -> State:
    b = kernels.load(backend)
    plan, kept = plan_of(b, net, rule, start), gradient.copy()
    b.update(plan, gradient, 0.1, 1)
    np.testing.assert_array_equal(gradient, kept)
    return stored(plan, start)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.UPDATES)
def test_updates_of_a_plan_are_the_rules(
    name: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    net, rule = network("squared_error", "tanh", sizes=(3, 19, 2)), _rule(name)
    start = state(rng, net, rule, dtype)
    gradient = rng.normal(size=start.parameters.shape).astype(dtype)
    p, slots = start.parameters.astype(float), start.slots.astype(float)
    for segment in parameter_segments(net):
        span = slice(segment.start, segment.stop)
        chosen = rule if segment.kind == "weights" else rule.for_vectors
        REFERENCE.UPDATES[chosen.name].apply(
            p[span], slots[:, span], gradient[span].astype(float), 0.1, 1, chosen.constants
        )
    found = _updated(backend, net, rule, start, gradient)
    assert_close(found.parameters, p, "product", dtype)
    assert_close(found.slots, slots, "product", dtype)


CLIPS: list[tuple[dict[str, float], float]] = [
    ({"clip_value": 0.5}, np.inf),
    ({"clip_norm": 2.0}, 2.0),
    ({"clip_value": 0.5, "clip_norm": 1.0}, 1.0),
    ({"clip_value": 100.0, "clip_norm": 1000.0}, np.inf),
]


@pytest.mark.parametrize(("clips", "norm"), CLIPS)
def test_clipping(
    clips: dict[str, float], norm: float, backend: str, rng: np.random.Generator
) -> None:
    """Values first, then the norm of the whole gradient."""
    net, rule = network("squared_error", "tanh", sizes=(3, 19, 2)), Update("sgd", **clips)
    start = state(rng, net, rule)
    gradient = rng.normal(size=start.parameters.shape)
    limit = clips.get("clip_value", np.inf)
    wanted = np.clip(gradient, -limit, limit)
    wanted *= min(1.0, norm / np.linalg.norm(wanted))
    found = _updated(backend, net, rule, start, gradient)
    assert_close((start.parameters - found.parameters) / 0.1, wanted, "training")


def test_a_huge_gradient_is_clipped_in_float32(backend: str, rng: np.random.Generator) -> None:
    """Its squares overflow in float32."""
    net, rule = network("squared_error", "tanh"), Update("sgd", clip_norm=1.0)
    start = state(rng, net, rule, "float32")
    gradient = np.full(start.parameters.shape, 1e30, np.float32)
    found = _updated(backend, net, rule, start, gradient)
    wanted = start.parameters - 0.1 / np.sqrt(gradient.size)
    assert_close(found.parameters, wanted, "step", "float32")


def test_floors_hold_after_updates(backend: str, rng: np.random.Generator) -> None:
    net, rule = network("squared_error", "mpelu"), Update("sgd")
    start = state(rng, net, rule)
    found = _updated(backend, net, rule, start, np.full(start.parameters.shape, 100.0))
    for segment in parameter_segments(net):
        low = segment.view(found.parameters).min()
        assert low == FLOORS[segment.kind] if segment.kind in FLOORS else low < -5


# Divergence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "exponential", "cross_entropy"])
@pytest.mark.parametrize("activation", ["relu", "identity", "mish"])
def test_divergence_shows_and_does_not_warn(
    activation: str, loss: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    b, net = kernels.load(backend), network(loss, activation, l2=1.0)
    run = _run(rng, net, _rule("sgd"), dtype)._replace(rates=np.full(BATCHES, 1e30))
    plan = plan_of(b, net, run.rule, run.start)
    for epoch in range(4):
        losses, _ = _train(b, plan, run._replace(step=epoch * BATCHES))
    assert not plan.finite()
    assert not np.isfinite(losses).all()


def test_the_worked_example_of_the_chapter_learns(backend: str) -> None:
    """2-2-2 with biases that stay: the chapter's numbers after one step and after 10,000."""
    b = kernels.load(backend)
    net = Network((Layer(2, 2, "sigmoid"), Layer(2, 2, "sigmoid")), "half_squared_error")
    parameters = [0.15, 0.25, 0.20, 0.30, 0.35, 0.35, 0.40, 0.50, 0.45, 0.55, 0.60, 0.60]
    start = State(np.array(parameters), np.zeros((0, 12)), np.zeros(0))
    plan, gradient = plan_of(b, net, Update("sgd"), start), blank(12)
    X, T = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
    biases = [4, 5, 10, 11]
    for step in range(10_001):
        loss = b.backprop(plan, gradient, X, T, None, 0, step, True)
        if step == 1:
            assert loss == pytest.approx(0.291027773694, abs=1e-10)
            first = stored(plan, start).parameters
        gradient[biases] = 0
        b.update(plan, gradient, 0.5, step + 1)
    weights = [0.149780716133, 0.249751143632, 0.199561432266, 0.299502287265]
    np.testing.assert_allclose(first[:4], weights, atol=1e-11)
    weights = [0.358916479718, 0.511301270239, 0.408666186076, 0.561370121108]
    np.testing.assert_allclose(first[6:10], weights, atol=1e-11)
    assert loss == pytest.approx(3.5101878e-5, abs=1e-11)

"""Optimizers, their state between fits, and learning rates."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    LAMB,
    LARS,
    MLP,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Cosine,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    PolynomialDecay,
    RMSprop,
    StepDecay,
    WarmUp,
    scaled_rate,
)
from fastmlp.kernels.reference import UPDATES
from fastmlp.optimizers import WORDS, Optimizer

from .tolerances import assert_close

EVERY = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, rate_in_velocity=True),
    SGD(0.1, momentum=0.9, nesterov=True),
    SGD(0.1, momentum=0.9, nesterov=True, rate_in_velocity=True),
    Adam(0.01),
    Adam(0.01, epsilon_hat=True),
    AdamW(0.01, weight_decay=0.1),
    RMSprop(0.01),
    Adagrad(0.1),
    LARS(0.1, trust_coefficient=0.1, weight_decay=0.01),
    LAMB(0.02, weight_decay=0.1),
]
X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(np.int64)


def _net(optimizer: Any, backend: str, **arguments: Any) -> MLP:
    chosen = {"dtype": "float64", "seed": 5, "activation": "tanh", **arguments}
    return MLP((3, 4, 2), optimizer=optimizer, backend=backend, **chosen)


def _everything(net: MLP) -> np.ndarray[Any, Any]:
    return np.concatenate([a.ravel() for a in net.parameters.values()])


def test_every_rule_has_an_object() -> None:
    assert {o.rule().name for o in EVERY} == set(UPDATES)


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_rules_follow_the_gradient(optimizer: Optimizer, backend: str) -> None:
    """Two full-batch updates, next to the reference's arithmetic on the network's own gradients."""
    net = _net(optimizer, backend)
    rule = optimizer.rule()
    wanted = {name: a.ravel().copy() for name, a in net.parameters.items()}
    slots = {name: np.zeros((UPDATES[rule.name].slots, p.size)) for name, p in wanted.items()}
    for step in (1, 2):
        gradients = net.gradients(X, Y).parameters
        for name, p in wanted.items():
            chosen = rule if name.startswith("weights") else rule.for_vectors
            UPDATES[chosen.name].apply(
                *(p, slots[name], gradients[name].ravel()),
                *(optimizer.learning_rate, step, chosen.constants),
            )
        net.train_on_batch(X, Y)
        assert_close(_everything(net), np.concatenate(list(wanted.values())), "training")


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_every_optimizer_learns(optimizer: Optimizer, backend: str) -> None:
    history = _net(optimizer, backend).fit(X, Y, epochs=30, batch_size=8)
    assert history.loss[-1] < 0.75 * history.loss[0]


def test_words() -> None:
    assert " ".join(WORDS) == "sgd momentum nesterov adam adamw rmsprop adagrad lars lamb"
    assert MLP((2, 2), optimizer="momentum", backend="numpy").optimizer == SGD(momentum=0.9)


def test_defaults_are_those_of_the_papers() -> None:
    assert Adam() == Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)
    assert not Adam().epsilon_hat
    assert not SGD().rate_in_velocity


# Clipping


def test_clip_value(backend: str) -> None:
    clipped, plain = _net(SGD(1.0, clip_value=0.01), backend), _net(SGD(1.0), backend)
    before, g = _everything(plain), plain.gradients(X, Y).parameters
    flat = np.concatenate([a.ravel() for a in g.values()])
    clipped.train_on_batch(X, Y)
    assert (np.abs(flat) > 0.01).any()
    assert_close(_everything(clipped), before - np.clip(flat, -0.01, 0.01), "training")


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_clip_norm(backend: str, norm: float) -> None:
    net = _net(SGD(1.0, clip_norm=norm), backend)
    before = _everything(net)
    flat = np.concatenate([a.ravel() for a in net.gradients(X, Y).parameters.values()])
    length = np.sqrt(flat @ flat)
    net.train_on_batch(X, Y)
    assert_close(_everything(net), before - flat * min(1.0, norm / length), "training")


# State between fits


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_state_continues_from_fit_to_fit(optimizer: Optimizer, backend: str) -> None:
    once, twice = _net(optimizer, backend), _net(optimizer, backend)
    once.fit(X, Y, epochs=5, batch_size=16)
    twice.fit(X, Y, epochs=2, batch_size=16)
    twice.fit(X, Y, epochs=3, batch_size=16)
    np.testing.assert_array_equal(_everything(once), _everything(twice))


def test_reading_between_fits_changes_nothing(backend: str) -> None:
    once, twice = _net("adam", backend), _net("adam", backend)
    for net in (once, twice):
        for _ in range(4):
            net.fit(X, Y, epochs=1, batch_size=16)
            if net is twice:
                _ = net.weights, net.parameters, net.predict(X), net.gradients(X, Y)
                net.weights = net.weights
    np.testing.assert_array_equal(_everything(once), _everything(twice))


@pytest.mark.parametrize("fresh", ["adam", Adam()])
def test_a_new_optimizer_starts_afresh(backend: str, fresh: Any) -> None:
    net, other = _net("adam", backend), _net("adam", backend)
    net.fit(X, Y, epochs=2, batch_size=16)
    other.parameters = net.parameters
    net.fit(X, Y, epochs=1, batch_size=40, shuffle=False, optimizer=fresh)
    other.fit(X, Y, epochs=1, batch_size=40, shuffle=False)
    np.testing.assert_array_equal(_everything(net), _everything(other))


def test_another_rule_in_a_later_fit(backend: str) -> None:
    net, other = _net("adam", backend), _net(SGD(0.1, momentum=0.5), backend)
    net.fit(X, Y, epochs=2, batch_size=16)
    other.parameters = net.parameters
    for trained, optimizer in ((net, SGD(0.1, momentum=0.5)), (other, None)):
        trained.fit(X, Y, epochs=2, batch_size=40, shuffle=False, optimizer=optimizer)
    np.testing.assert_array_equal(_everything(net), _everything(other))
    assert net.optimizer == SGD(0.1, momentum=0.5)


def test_the_objects_are_never_changed(backend: str) -> None:
    optimizer = Adam(0.01)
    _net(optimizer, backend).fit(X, Y, epochs=1)
    assert optimizer == Adam(0.01)
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.beta1 = 0.5  # type: ignore[misc]


# Learning rates


def test_learning_rate_can_be_set(backend: str) -> None:
    net, slow = _net(SGD(0.5, momentum=0.9), backend), _net(SGD(0.1, momentum=0.9), backend)
    net.learning_rate = 0.1
    for trained in (net, slow):
        trained.fit(X, Y, epochs=2)
    np.testing.assert_array_equal(_everything(net), _everything(slow))
    assert net.optimizer == SGD(0.1, momentum=0.9)


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf])
def test_bad_rates_are_refused(rate: float) -> None:
    net = _net("sgd", "numpy")
    with pytest.raises(ValueError, match="learning_rate must be a finite number > 0"):
        net.learning_rate = rate
    with pytest.raises(ValueError, match="learning_rate must be a finite number > 0"):
        SGD(rate)
    assert net.learning_rate == 0.01


@pytest.mark.parametrize(
    ("schedule", "step", "epoch", "wanted"),
    [
        (ExponentialDecay(0.1, 0.5), 7, 3, 0.1 / 8),
        (StepDecay(0.1, 0.5, every=2), 7, 3, 0.05),
        (InverseScaling(0.1, 0.5), 3, 9, 0.05),
        (Cosine(0.1, 10), 0, 0, 0.1),
        (Cosine(0.1, 10), 5, 0, 0.05),
        (Cosine(0.1, 10, final=0.01), 50, 0, 0.01),
        (PolynomialDecay(0.1, 10), 4, 0, 0.06),
        (PolynomialDecay(0.1, 10, power=2), 5, 0, 0.025),
        (PolynomialDecay(0.1, 10, final=0.02), 5, 0, 0.06),
        (PolynomialDecay(0.1, 10, power=2, final=0.02), 99, 0, 0.02),
        (OneCycle(1.0, 100), 0, 0, 0.04),
        (OneCycle(1.0, 100), 30, 0, 1.0),
        (OneCycle(1.0, 100), 100, 0, 1e-4),
        (WarmUp(0.1, 10), 0, 0, 0.01),
        (WarmUp(0.1, 10), 9, 0, 0.1),
        (WarmUp(Cosine(0.1, 10), 2), 5, 0, 0.05),
        (WarmUp(PolynomialDecay(1.0, 10), 4), 1, 0, 0.45),
    ],
    ids=str,
)
def test_schedules(schedule: Any, step: int, epoch: int, wanted: float) -> None:
    assert schedule(step, epoch) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "base", "power", "wanted"),
    [
        *((128, 128, 1.0, 0.1), (8192, 128, 1.0, 6.4), (32, 128, 1.0, 0.025)),
        *((8192, 128, 0.5, 0.8), (8192, 128, 0.0, 0.1), (200, 100, 0.5, 0.1 * 2**0.5)),
    ],
)
def test_scaled_rates(rows: int, base: int, power: float, wanted: float) -> None:
    assert scaled_rate(0.1, rows, base, power) == pytest.approx(wanted, rel=1e-12)


def test_rates_scale_linearly_unless_told() -> None:
    assert scaled_rate(0.1, 512, base=128) == 0.4


def test_a_schedule_sees_every_step_and_epoch(backend: str) -> None:
    seen = []

    def schedule(step: int, epoch: int) -> float:
        seen.append((step, epoch))
        return 0.1

    net = _net(SGD(schedule), backend)
    net.fit(X, Y, epochs=2, batch_size=16)
    net.fit(X, Y, epochs=1, batch_size=16)
    wanted = [(3 * epoch + batch, epoch) for epoch in range(3) for batch in range(3)]
    assert sorted(set(seen)) == wanted


def test_a_schedule_is_what_trains(backend: str) -> None:
    net, by_hand = _net(SGD(ExponentialDecay(0.5, 0.5)), backend), _net(SGD(0.5), backend)
    history = net.fit(X, Y, epochs=3, shuffle=False)
    for rate in (0.5, 0.25, 0.125):
        by_hand.learning_rate = rate
        by_hand.fit(X, Y, epochs=1, shuffle=False)
    np.testing.assert_array_equal(_everything(net), _everything(by_hand))
    assert history.learning_rate == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "0.1", None])
def test_what_a_schedule_returns_is_checked(value: Any, backend: str) -> None:
    net = _net(SGD(lambda step, epoch: value), backend)
    before = _everything(net)
    with pytest.raises((TypeError, ValueError), match="learning_rate"):
        net.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(_everything(net), before)


def test_a_rate_of_zero_from_a_schedule_is_allowed(backend: str) -> None:
    net = _net(SGD(lambda step, epoch: 0.0), backend)
    before = _everything(net)
    net.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(_everything(net), before)


def test_schedules_that_go_on_for_ever_stay_finite() -> None:
    for schedule in (ExponentialDecay(0.1, 0.1), StepDecay(0.1), InverseScaling(0.1)):
        assert 0 <= schedule(10**9, 10**6) < math.inf


# What is refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(momentum=-0.1),
        lambda: SGD(momentum=1.1),
        lambda: SGD(nesterov=1),
        lambda: SGD(rate_in_velocity="yes"),
        lambda: SGD("fast"),
        lambda: SGD(True),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=-0.1),
        lambda: Adam(epsilon=0),
        lambda: Adam(epsilon=np.nan),
        lambda: AdamW(weight_decay=-1),
        lambda: RMSprop(rho=1.0),
        lambda: Adagrad(epsilon=-1),
        lambda: LARS(momentum=1.1),
        lambda: LARS(trust_coefficient=0),
        lambda: LARS(weight_decay=-1),
        lambda: LAMB(beta1=1.0),
        lambda: LAMB(beta2=-0.1),
        lambda: LAMB(epsilon=0),
        lambda: LAMB(weight_decay="1"),
        lambda: SGD(clip_value=0),
        lambda: SGD(clip_norm=-1),
        lambda: SGD(clip_norm="1"),
        lambda: ExponentialDecay(0.1, 0),
        lambda: ExponentialDecay(-0.1, 0.5),
        lambda: StepDecay(0.1, every=0),
        lambda: Cosine(0.1, 0),
        lambda: Cosine(0.1, 1.5),
        lambda: OneCycle(0.1, 10, rise=2),
        lambda: WarmUp("fast", 10),
        lambda: InverseScaling(0.1, -1),
        lambda: PolynomialDecay(0, 10),
        lambda: PolynomialDecay(0.1, 0),
        lambda: PolynomialDecay(0.1, 10, power=0),
        lambda: PolynomialDecay(0.1, 10, final=-1),
        lambda: scaled_rate(0, 256, 128),
        lambda: scaled_rate(0.1, 0, 128),
        lambda: scaled_rate(0.1, 256, 1.5),
        lambda: scaled_rate(0.1, 256, 128, power=2),
    ],
)
def test_bad_numbers_are_refused(make: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="must be|needs"):
        make()


@pytest.mark.parametrize("optimizer", [None, 0.1, SGD, Optimizer(0.1), ["sgd"]])
def test_what_is_no_optimizer_is_refused(optimizer: Any) -> None:
    with pytest.raises(TypeError, match="optimizer must be one of sgd"):
        MLP((2, 2), optimizer=optimizer, backend="numpy")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer must be one of sgd, .* got 'lion'"):
        MLP((2, 2), optimizer="lion", backend="numpy")


def test_a_refused_optimizer_changes_nothing() -> None:
    net = _net("adam", "numpy")
    net.fit(X, Y, epochs=1)
    with pytest.raises(ValueError, match="optimizer"):
        net.fit(X, Y, optimizer="lion")
    assert net.optimizer == Adam()
    assert net.steps == 1

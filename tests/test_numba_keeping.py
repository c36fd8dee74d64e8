"""What a Numba plan keeps of an epoch's beginning, and how it knows that its end is finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, DivergenceError, kernels, set_num_threads
from fastmlp.kernels.contract import Data, Network, Order, State, Update

from .draws import (
    DTYPES,
    UPDATE_CONSTANTS,
    assert_untouched,
    network,
    plan_of,
    state,
    stored,
)

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

import numba

from fastmlp.kernels.numba_cpu import fields, intrinsics, jit, keeping, steps
from fastmlp.kernels.numba_cpu.calls import address

BACKEND = kernels.load("numba")
BATCH, COUNT = 8, 4
RULES = [Update(name, constants) for name, constants in UPDATE_CONSTANTS.items()]
CLIPPED = Update("momentum", (0.9,), clip_norm=0.1)


def _name(rule: Any) -> str:
    return rule.name + ("_clipped" if rule.clip_norm else "") if isinstance(rule, Update) else None


@pytest.fixture(params=[1, 2, 3])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Threads that share all calls."""
    monkeypatch.setattr(steps, "_team", lambda *_, **__: request.param)
    return int(request.param)


def _train(plan: Any, rng: np.random.Generator, made: int = COUNT) -> None:
    """Train by batches that no narrow way takes; so many updates must have been made."""
    net: Network = plan.network
    X = rng.normal(size=(COUNT * BATCH, net.layers[0].inputs)).astype(plan.dtype)
    data = Data(X, rng.integers(0, net.layers[-1].units, len(X)), None)
    rates = np.full(COUNT, 0.01)
    assert made == BACKEND.train_steps(
        plan, np.empty(COUNT), data, Order("sequence"), BATCH, 0, COUNT, rates, 0, 7
    )


def _network(**options: Any) -> Network:
    return network("cross_entropy", "mpelu", sizes=(5, 70, 33, 3), output="softmax", **options)


def _start(rng: np.random.Generator, net: Network, rule: Update, dtype: str) -> State:
    start = state(rng, net, rule, dtype)
    start.slots[...] = rng.uniform(0.1, 1, start.slots.shape)
    return start


# The copy of an epoch's beginning


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [*RULES, CLIPPED], ids=_name)
def test_the_first_update_saves_all_that_it_moves(
    rule: Update, dtype: str, normalization: str | None, team: int, rng: np.random.Generator
) -> None:
    net = _network(normalization=normalization)
    start = _start(rng, net, rule, dtype)
    plan = plan_of(BACKEND, net, rule, start)
    for _ in range(2):
        before = stored(plan, start)
        snapshot = plan.snapshot()
        assert plan.backup.due
        _train(plan, rng)
        assert not plan.backup.due
        assert (stored(plan, start).parameters != before.parameters).any()
        plan.restore(snapshot)
        assert_untouched(tuple(stored(plan, start)), tuple(before))
        _train(plan, rng)  # the copy stays good
        plan.restore(snapshot)
        assert_untouched(tuple(stored(plan, start)), tuple(before))


@pytest.mark.parametrize("rows", [1, BATCH])
def test_ways_without_items_save_and_look_too(rows: int, rng: np.random.Generator) -> None:
    """Narrow, and row by row."""
    rule, net = Update("sgd", ()), network("cross_entropy", "tanh", output="softmax")
    start = _start(rng, net, rule, "float32")
    plan = plan_of(BACKEND, net, rule, start)
    assert steps.way_of(plan, rows, None) == steps.NARROW
    wide = network("cross_entropy", "tanh", sizes=(5, 30, 3), output="softmax")
    begin = _start(rng, wide, rule, "float32")
    other = plan_of(BACKEND, wide, rule, begin)
    assert steps.way_of(other, 1, None) == steps.ONLINE
    for found, numbers in ((plan, start), (other, begin)):
        snapshot = found.snapshot()
        X = rng.normal(size=(16, found.network.layers[0].inputs)).astype(np.float32)
        data = Data(X, rng.integers(0, 2, 16), None)
        batch = rows if found is plan else 1
        count = 16 // batch
        BACKEND.train_steps(
            *(found, np.empty(count), data, Order("sequence"), batch, 0, count),
            *(np.full(count, 0.1), 0, 7),
        )
        assert found.looked
        assert (stored(found, numbers).parameters != numbers.parameters).any()
        found.restore(snapshot)
        assert_untouched(tuple(stored(found, numbers)), tuple(numbers))


@pytest.mark.parametrize("move", ["load", "update"])
def test_what_is_due_is_copied_before_anything_else_moves(
    move: str, rng: np.random.Generator
) -> None:
    rule, net = Update("adam", (0.9, 0.999, 1e-8)), _network(normalization="batch")
    start = _start(rng, net, rule, "float64")
    plan = plan_of(BACKEND, net, rule, start)
    snapshot = plan.snapshot()
    if move == "load":
        plan.load(State(*(numbers + 1 for numbers in start)))
    else:
        BACKEND.update(plan, np.ones_like(start.parameters), 0.1, 1)
    assert not plan.backup.due
    _train(plan, rng)
    plan.restore(snapshot)
    assert_untouched(tuple(stored(plan, start)), tuple(start))


def test_without_an_update_there_is_nothing_to_go_back_to(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Ctrl-C before the first one: running statistics may have moved, nothing else has."""
    rule, net = Update("sgd", ()), _network(normalization="batch")
    start = _start(rng, net, rule, "float64")
    plan = plan_of(BACKEND, net, rule, start)
    snapshot = plan.snapshot()

    def interrupted(plan: Any, *_: Any) -> float:
        plan.table[fields.HALT], plan.table[fields.DONE] = fields.WANTED, 0
        plan.statistics[...] += 1
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_run", interrupted)
        _train(plan, rng, made=0)
    assert plan.backup.due
    assert not plan.looked
    plan.restore(snapshot)
    assert_untouched(tuple(stored(plan, start)), tuple(start))
    _train(plan, rng)
    plan.restore(snapshot)
    assert_untouched(tuple(stored(plan, start)), tuple(start))


def test_what_is_raised_after_an_update_does_not_hide_it(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """As by the handler of a signal that came while the kernels ran."""
    rule, net = Update("momentum", (0.9,)), _network()
    start = _start(rng, net, rule, "float64")
    plan = plan_of(BACKEND, net, rule, start)
    snapshot, run = plan.snapshot(), steps._run

    def raising(*arguments: Any) -> float:
        result = run(*arguments)
        if arguments[1] == steps.TRAIN:
            raise TimeoutError
        return result

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_run", raising)
        with pytest.raises(TimeoutError):
            _train(plan, rng)
    assert not plan.backup.due
    assert not plan.looked
    assert (stored(plan, start).parameters != start.parameters).any()
    plan.restore(snapshot)
    assert_untouched(tuple(stored(plan, start)), tuple(start))


# The look at an epoch's end


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.name != "sgd"], ids=_name)
def test_one_slot_that_is_not_finite_is_seen(
    rule: Update, dtype: str, wrong: float, team: int, rng: np.random.Generator
) -> None:
    net = _network()
    start = _start(rng, net, rule, dtype)
    plan = plan_of(BACKEND, net, rule, start)
    _train(plan, rng)
    assert plan.looked
    assert plan.finite()
    for _ in range(4):
        slot, place = rng.integers(len(start.slots)), rng.integers(start.parameters.size)
        right, start.slots[slot, place] = start.slots[slot, place], wrong
        plan.load(start)
        assert not plan.looked
        _train(plan, rng)
        assert not plan.looked, (slot, place)
        assert not plan.finite()
        start.slots[slot, place] = right
    plan.load(start)
    _train(plan, rng)
    assert plan.looked
    assert plan.finite()


def test_running_statistics_are_looked_at(rng: np.random.Generator) -> None:
    rule, net = Update("sgd", ()), _network(normalization="batch")
    start = _start(rng, net, rule, "float32")
    start.running[1] = np.inf
    plan = plan_of(BACKEND, net, rule, start)
    _train(plan, rng)
    assert plan.looked
    assert not plan.finite()


def test_batches_without_weight_prove_nothing(rng: np.random.Generator) -> None:
    """The last batch makes no update, so nobody has looked at what the one before has written."""
    rule, net = Update("momentum", (0.9,)), _network()
    start = _start(rng, net, rule, "float64")
    plan = plan_of(BACKEND, net, rule, start)
    w = np.ones(2 * BATCH)
    w[BATCH:] = 0
    data = Data(rng.normal(size=(2 * BATCH, 5)), rng.integers(0, 3, 2 * BATCH), w)
    rates = np.full(2, np.inf)
    made = BACKEND.train_steps(plan, np.empty(2), data, Order("sequence"), BATCH, 0, 2, rates, 0, 7)
    assert made == 1
    assert not plan.looked
    assert not plan.finite()


@numba.njit
def _look(m: Any, t: Any, n: int) -> int:
    return keeping.look_at_run(  # type: ignore[no-any-return]
        intrinsics.pointer_to(m[0], m.ctypes.data), intrinsics.integers_at(t.ctypes.data), 0, n
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_a_run_is_looked_at(dtype: str) -> None:
    jit.prepare(dtype)
    limits = np.finfo(dtype)
    finite = [0.0, -0.0, 1.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal]
    t = np.zeros(fields.HEADER, np.int64)
    t[[fields.PARAMETERS, fields.SLOT_U, fields.SLOT_V]] = vectors = (0, 64, 128)
    m = np.resize(np.array([*finite, *(-x for x in finite)], dtype), 3 * 64)
    for n in (4, 8, 16, 64):
        assert _look(m, t, n) == 0
        for place in range(len(m)):
            for wrong in (np.nan, -np.nan, np.inf, -np.inf):
                right, m[place] = m[place], wrong
                inside = any(place in range(start, start + n) for start in vectors)
                assert _look(m, t, n) == inside, (n, place, wrong)
                m[place] = right


# Looking over and copying all numbers of a plan


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 5, keeping.MANY - 1, keeping.MANY, keeping.MANY + 17])
def test_all_numbers_are_copied_and_looked_at(
    threads: int, count: int, rng: np.random.Generator
) -> None:
    numbers, goal = rng.standard_normal(count, np.float32), np.full(count, 7, np.float32)
    keeping.copy_numbers(goal, numbers, threads)
    assert np.array_equal(goal, numbers)
    assert keeping.all_finite(numbers, threads)
    for place in {0, count // 3, count // 2, count - 1} if count else ():
        for wrong in (np.nan, np.inf, -np.inf):
            numbers[place] = wrong
            assert not keeping.all_finite(numbers, threads), (place, wrong)
        numbers[place] = 0


@pytest.mark.parametrize("threads", [1, 2])
def test_finite_numbers_may_have_a_sum_that_is_not(threads: int) -> None:
    numbers = np.full(keeping.MANY, 3e38, np.float32)
    assert keeping.all_finite(numbers, threads)
    numbers[keeping.MANY // 2 :] *= -1
    assert keeping.all_finite(numbers, threads)
    numbers[-1] = np.inf
    assert not keeping.all_finite(numbers, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_network_goes_back_to_where_a_diverging_epoch_began(
    threads: int, rng: np.random.Generator
) -> None:
    sizes = (64, 2060, 2060, 2)
    X = rng.standard_normal((48, 64), np.float32)
    y = rng.integers(0, 2, 48)
    net = MLP(sizes, optimizer=SGD(0.1), seed=0, backend="numba")
    assert net.snapshot().parameters.size > keeping.MANY
    set_num_threads(threads)
    try:
        for _ in range(2):  # the second epoch's copy goes to where the first one's was
            net.fit(X, y, epochs=1, batch_size=16, optimizer=SGD(0.1))
            before = net.snapshot()
            with pytest.raises(DivergenceError):
                net.fit(X, y, epochs=1, batch_size=16, optimizer=SGD(1e30))
            assert all(np.array_equal(a, b) for a, b in zip(before, net.snapshot(), strict=True))
    finally:
        set_num_threads(None)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[1:, ::2],
        np.arange(5)[2:],
        np.zeros(0),
        np.frombuffer(b"12345678", np.uint8)[3:],
        np.array(3.0),
        np.arange(6).view(np.matrix),
    ],
)
def test_the_address_of_an_array_is_that_of_its_first_number(array: np.ndarray) -> None:
    assert address(array) == array.ctypes.data

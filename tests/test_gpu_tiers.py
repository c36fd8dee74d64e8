"""The GPU backend's tiers: ``lt`` against ``generic``, both against the reference, in one body.

Without a GPU cuBLASLt and graphs are those of `hostcuda`: a graph runs its launches on the
addresses of the capture, and refuses memory that has been freed since.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastmlp import MLP, SGD, DivergenceError, kernels, training
from fastmlp.datasets import load_digits
from fastmlp.kernels.contract import Data, Network, Order, State, Update

from .conftest import ON_DEVICE
from .draws import (
    DTYPES,
    REFERENCE,
    TRAINABLE,
    UPDATE_CONSTANTS,
    Array,
    blank,
    cast,
    fits,
    network,
    plan_of,
    state,
    stored,
    targets,
)
from .hostcuda import cublaslt as standin_lt
from .hostcuda import standin
from .tolerances import assert_close

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

BACKEND = kernels.load("cupy")

import cupy  # noqa: E402

from fastmlp.kernels.cupy_gpu import cublaslt, graphs, tiers  # noqa: E402

if ON_DEVICE and tiers._unfit() is not None:
    pytest.skip(str(tiers._unfit()), allow_module_level=True)

over_the_stand_in = pytest.mark.skipif(ON_DEVICE, reason="looks into the stand-in")

ROWS, BATCH, BATCHES = 65, 6, 11
"""Ten whole batches and a short one: with graphs of three steps all kinds of runs occur."""

X, Y = load_digits(scaling="unit")
X, Y = X[:300], Y[:300]


@pytest.fixture(autouse=True)
def _short_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of three steps from six on, so that epochs of these tests have them."""
    monkeypatch.setattr(graphs, "STEPS", 3)
    monkeypatch.setattr(graphs, "LONG", 6)


@pytest.fixture(autouse=True)
def _untroubled() -> Iterator[None]:
    """Unless a test asks for it, the library refuses nothing."""
    standin_lt.TROUBLE.clear()
    yield
    assert not standin_lt.TROUBLE


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose the tier of plans to come."""
    return lambda name: monkeypatch.setenv(tiers.VARIABLE, name)


# The rule


def test_lt_where_it_can_be_had(choose: Callable[[str], None]) -> None:
    assert tiers.chosen().tier == "lt"
    for name in tiers.TIERS:
        choose(name)
        assert tiers.chosen().tier == name
        assert _net()._engine.plan().way.tier == name  # type: ignore[attr-defined]
    choose("fastest")
    with pytest.raises(ValueError, match="FASTMLP_GPU_TIER must be one of lt, generic.*'fastest'"):
        tiers.chosen()


def _no_library(name: str) -> Any:
    raise ImportError(f"no {name} here")


@pytest.mark.parametrize("why", ["an old device", "no library", "a library without a device"])
def test_generic_where_lt_can_not_be_had(
    why: str, choose: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "an old device":
        monkeypatch.setattr(cupy.cuda, "Device", _Old)
        reason = "compute capability 7.5"
    elif why == "no library":
        monkeypatch.setattr(cublaslt, "handle", lambda: _no_library("cublasLt"))
        reason = "no cublasLt here"
    else:
        monkeypatch.setattr(cublaslt, "handle", lambda: cublaslt.check("cublasLtCreate", 1))
        reason = "cublasLtCreate gave CUBLAS_STATUS_NOT_INITIALIZED"
    assert tiers.chosen().tier == "generic"
    choose("lt")
    with pytest.raises(ValueError, match=f"FASTMLP_GPU_TIER is 'lt'.*{reason}"):
        tiers.chosen()


class _Old:
    compute_capability = "75"


def test_summary_names_the_tier(choose: Callable[[str], None]) -> None:
    for name in tiers.TIERS:
        choose(name)
        net = _net()
        assert f"backend cupy (tier {name})" in net.summary()
    assert "tier" not in _net(backend="numpy").summary()


# Training steps


class _Case(NamedTuple):
    network: Network
    rule: Update
    order: Order = Order("keyed", 77)
    weighted: bool = True


def _case(
    loss: str = "cross_entropy",
    activation: str = "relu",
    rule: str = "adam",
    order: Order | None = None,
    weighted: bool = True,
    clips: dict[str, float] | None = None,
    **options: Any,
) -> _Case:
    sizes = options.pop("sizes", (5, 9, 7, 4))
    made = network(loss, activation, sizes=sizes, **options)
    update = Update(rule, UPDATE_CONSTANTS[rule], **(clips or {}))
    return _Case(made, update, order or Order("keyed", 77), weighted)


LISTED = np.random.default_rng(4).permutation(ROWS)

CASES: dict[str, _Case] = {
    **{f"activation {name}": _case(activation=name) for name in TRAINABLE},
    **{f"loss {name}": _case(name) for name in REFERENCE.LOSSES},
    **{
        f"apart {loss}, {name}": _case(loss, "tanh", output=name)
        for loss, name in [("squared_error", "softmax"), ("huber", "tanh")]
        if fits(loss, name)
    },
    **{f"optimizer {name}": _case(rule=name, sizes=(5, 8, 4)) for name in REFERENCE.UPDATES},
    "batch normalization": _case(normalization="batch", activation="tanh"),
    "layer normalization": _case(normalization="layer", activation="gelu"),
    "dropout": _case(dropout=0.3, activation="prelu"),
    "all of it": _case(dropout=0.3, normalization="batch", l1=1e-3, l2=1e-2, rule="adamw"),
    "no weights": _case(weighted=False),
    "penalties by rows": _case(l1=1e-3, l2=1e-2, penalty_scale="rows", reduction="sum"),
    "clipped": _case(clips={"clip_value": 0.05, "clip_norm": 0.1}),
    "as they come": _case(order=Order("sequence")),
    "listed": _case(order=Order("array", 0, LISTED)),
    "one layer": _case(sizes=(5, 4)),
    "long inner sides": _case(sizes=(150, 130, 4)),
}


def _data(rng: np.random.Generator, case: _Case, dtype: str) -> Data:
    inputs, outputs = case.network.layers[0].inputs, case.network.layers[-1].units
    rows = rng.normal(size=(ROWS, inputs)).astype(np.float32)
    T: Array = targets(rng, case.network.loss, ROWS, outputs).astype(np.float32).astype(dtype)
    w = rng.uniform(0.2, 2, ROWS).astype(np.float32) if case.weighted else None
    return Data(rows.astype(dtype), T, None if w is None else cast(w, dtype))


def _epochs(
    backend: Any, plan: Any, case: _Case, data: Data, cuts: tuple[int, ...] = (BATCHES,)
) -> Array:
    """Two epochs, each in some slices; the second has another order."""
    losses = blank((2, BATCHES))
    rates = np.linspace(0.02, 0.01, 2 * BATCHES)
    made = 0
    for epoch in range(2):
        order = case.order
        if order.listed is None:
            order = order._replace(key=order.key + epoch)
        else:
            order = order._replace(listed=np.roll(order.listed, epoch))
        for first, count in zip(np.cumsum((0, *cuts)), cuts, strict=False):
            part = losses[epoch, first : first + count]
            made += backend.train_steps(
                *(plan, part, data, order, BATCH, int(first), count, rates[made:], made, 0xABCDEF)
            )
    return losses


def _run(
    tier: str, case: _Case, start: State, data: Data, choose: Any, cuts: Any = (BATCHES,)
) -> tuple[Array, State]:
    backend = REFERENCE if tier == "reference" else BACKEND
    if tier != "reference":
        choose(tier)
    plan = plan_of(backend, case.network, case.rule, start)
    losses = _epochs(backend, plan, case, data, cuts)
    if tier == "lt":
        captured = [set(run.graphs) for run in plan.runs.values()]
        assert captured
        assert all(captured)
    return losses, stored(plan, start)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_tiers_and_the_reference_train_alike(
    name: str, dtype: str, choose: Any, rng: np.random.Generator
) -> None:
    case = CASES[name]
    start, data = state(rng, case.network, case.rule, dtype), _data(rng, case, dtype)
    results = {
        tier: _run(tier, case, start, data, choose) for tier in ("reference", "generic", "lt")
    }
    for one, other in (("reference", "generic"), ("generic", "lt"), ("reference", "lt")):
        assert_close(results[other][0], results[one][0], "training", dtype)
        for found, wanted in zip(results[other][1], results[one][1], strict=True):
            assert_close(found, wanted, "training", dtype)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float64"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_whole_runs_are_alike_in_every_precision(
    normalization: str | None, precision: str, choose: Any
) -> None:
    """Shuffled, with weights, held-out rows, penalties and a short last batch."""
    found = {}
    for tier in tiers.TIERS:
        choose(tier)
        net = _net(dtype=precision, normalization=normalization, dropout=0.1, l2=1e-4)
        w = np.linspace(0.5, 1.5, len(X))
        history = net.fit(X, Y, epochs=3, batch_size=32, sample_weight=w, validation_fraction=0.2)
        found[tier] = np.array([history.loss, history.validation_loss])
    # The same factors are rounded alike; only sums differ, and what is rounded after them.
    relative = {"bfloat16": 1e-2, "tf32": 1e-3, "float32": 1e-4, "float64": 1e-9}[precision]
    np.testing.assert_allclose(found["lt"], found["generic"], rtol=relative)


# Graphs


@pytest.mark.parametrize("tier", tiers.TIERS)
@pytest.mark.parametrize("cuts", [(1,) * BATCHES, (2, 8, 1), (7, 4), (10, 1)])
def test_slices_change_no_bit(
    cuts: tuple[int, ...], tier: str, choose: Any, rng: np.random.Generator
) -> None:
    case = CASES["all of it"]
    start, data = state(rng, case.network, case.rule, "float32"), _data(rng, case, "float32")
    wanted = _run(tier, case, start, data, choose)
    found = _run(tier, case, start, data, choose, cuts)
    np.testing.assert_array_equal(found[0], wanted[0])
    for one, other in zip(found[1], wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float64"])
def test_graphs_change_no_bit(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same launches, one by one and out of graphs of one and of several steps."""
    results = []
    for steps, enough in ((3, 6), (1, 10**9), (0, 10**9)):
        monkeypatch.setattr(graphs, "STEPS", max(steps, 1))
        monkeypatch.setattr(graphs, "LONG", enough)
        if steps == 0:
            monkeypatch.setattr(graphs.Runs, "_captured", lambda self, steps: False)
        net = _net(dtype=precision, dropout=0.2, normalization="batch")
        net.fit(X, Y, epochs=3, batch_size=32)
        results.append((net.history.loss, net.parameters))  # type: ignore[union-attr]
    for losses, parameters in results[1:]:
        assert losses == results[0][0]
        for name, array in parameters.items():
            np.testing.assert_array_equal(array, results[0][1][name])


def _net(**arguments: Any) -> MLP:
    chosen: dict[str, Any] = {"backend": "cupy", "seed": 1, **arguments}
    return MLP((64, 40, 33, 10), **chosen)


def _runs(net: MLP) -> dict[Any, graphs.Runs]:
    found: dict[Any, graphs.Runs] = net._engine._plan.runs  # type: ignore[union-attr]
    return found


@over_the_stand_in
def test_an_epoch_is_a_few_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)
    net, rows = _net(dtype="float64"), X.copy()
    net.fit(rows, Y, epochs=1, batch_size=32)
    machine, before = standin.MACHINE, []

    def look(epoch: int, history: Any, net: Any) -> None:
        before.append((machine.launches, machine.replays))

    net.fit(rows, Y, epochs=4, batch_size=32, callbacks=[look])
    for one, other in zip(before[2:], before[1:], strict=False):
        # Nine whole batches are three replays, the short one is another; the host starts what
        # looks for numbers that are not finite, and no batch.
        assert one[1] - other[1] == 4
        assert one[0] - other[0] < len(net._engine._plan.programs["train", 32, True, False])  # type: ignore[union-attr]


def test_a_program_is_captured_when_it_pays() -> None:
    """The first run is eager, and so are few that may be all there will be."""
    started: list[int] = []
    run = graphs.Runs([lambda: started.append(1)], True)
    run.run(1)
    assert (len(started), set(run.graphs)) == (1, set())
    run.run(1)  # it comes again
    assert set(run.graphs) == {1}
    few = graphs.Runs([lambda: None], True)
    few.run(graphs.WORTH)
    assert set(few.graphs) == set()
    few.run(0)
    assert set(few.graphs) == set()
    some = graphs.Runs([lambda: None], True)
    some.run(1 + graphs.WORTH)
    assert set(some.graphs) == {1}
    many = graphs.Runs([lambda: None], True)
    many.run(1 + graphs.LONG)
    assert set(many.graphs) == {graphs.STEPS}
    plain = graphs.Runs([lambda: started.append(1)], False)
    plain.run(100)
    assert (len(started), set(plain.graphs)) == (102, set())


def test_larger_batches_take_the_graphs_with_the_buffers(rng: np.random.Generator) -> None:
    """Buffers are replaced between two calls on the same rows, and come back smaller."""
    case = CASES["all of it"]
    start, data = state(rng, case.network, case.rule, "float64"), _data(rng, case, "float64")
    lt, reference = (plan_of(b, case.network, case.rule, start) for b in (BACKEND, REFERENCE))
    made, seen = 0, []
    for batch in (6, 20, 6, 65, 9, 6):
        count = -(-ROWS // batch)
        losses = blank((2, count))
        for backend, plan, own in ((BACKEND, lt, losses[0]), (REFERENCE, reference, losses[1])):
            rates = np.full(count, 0.01)
            backend.train_steps(plan, own, data, case.order, batch, 0, count, rates, made, 5)
        made += count
        assert_close(losses[0], losses[1], "training")
        seen.append((lt.buffers.capacity, len(lt.runs)))
    assert [capacity for capacity, _ in seen] == [6, 20, 20, 65, 65, 65]
    assert seen[3][1] == 1
    for one, other in zip(stored(lt, start), stored(reference, start), strict=True):
        assert_close(one, other, "training")


def test_graphs_go_with_their_rows() -> None:
    net, kept = _net(dtype="float64"), X.copy()
    labels = Y.copy()
    for rows in (kept, kept[:200].copy(), kept):
        net.fit(rows, labels[: len(rows)], epochs=1, batch_size=32)
    # Targets are copied for a fit: with them its graphs go.
    del rows
    gc.collect()
    assert net._engine._plan.held is None  # type: ignore[union-attr]
    assert _runs(net) == {}


@over_the_stand_in
def test_many_fits_leave_nothing_behind() -> None:
    net, used = _net(dropout=0.1), []
    for batch in (32, 50, 16) * 14:
        net.fit(X, Y, epochs=2, batch_size=batch)
        gc.collect()
        used.append((standin.MACHINE.used, standin_lt.living("operation")))
    # A kernel of the stand-in keeps its last launches, of which each fit makes one or two.
    assert max(used[30:]) <= max(used[:30])


def test_a_network_moves_between_tiers_in_the_middle(choose: Any, tmp_path: Path) -> None:
    whole = _net(dtype="float64", dropout=0.2, optimizer="adam", normalization="batch")
    moved = copy.deepcopy(whole)
    wanted = whole.fit(X, Y, epochs=4, batch_size=32).loss
    found = []
    for tier in ("lt", "generic", "lt"):
        choose(tier)
        moved.save(tmp_path / tier)
        moved = MLP.load(tmp_path / tier)
        moved.to("cupy")
        found += moved.fit(X, Y, epochs=2 if tier == "generic" else 1, batch_size=32).loss
        assert moved._engine._plan.way.tier == tier  # type: ignore[union-attr]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


# What goes wrong


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_a_diverging_epoch_is_taken_back(tier: str, choose: Any) -> None:
    choose(tier)
    net = _net(activation="relu", dtype="float32", optimizer=SGD(0.1))
    net.fit(X, Y, epochs=2, batch_size=32)
    before = copy.deepcopy(net.parameters)
    with pytest.raises(DivergenceError):
        net.fit(X, Y, epochs=2, batch_size=32, optimizer=SGD(1e30))
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(array, before[name])
    net.fit(X, Y, epochs=2, batch_size=32, optimizer=SGD(0.1))
    assert np.isfinite(net.history.loss).all()  # type: ignore[union-attr]


@over_the_stand_in
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_capture_counts_no_step(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, twin = _net(dtype="float64"), _net(dtype="float64")
    rows, labels = X.copy(), Y.copy()
    begun = []
    start = graphs._start

    def interrupted(launches: Any) -> None:
        if standin.MACHINE.capturing is not None and not begun:
            start(list(launches)[:5])
            begun.append(1)
            raise error
        start(launches)

    monkeypatch.setattr(graphs, "_start", interrupted)
    with pytest.raises(error):
        net.fit(rows, labels, epochs=1, batch_size=32)
    assert begun
    assert standin.MACHINE.capturing is None
    # One batch has run; as after any error in an epoch, training goes on.
    twin.fit(rows, labels, epochs=2, batch_size=32)
    net.fit(rows, labels, epochs=2, batch_size=32)
    assert np.isfinite(net.history.loss).all()  # type: ignore[union-attr]
    assert net.forward(rows).shape == twin.forward(rows).shape


@over_the_stand_in
def test_a_product_without_an_algorithm_is_generics(
    choose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be captured, which is said; the results are the same."""
    choose("generic")
    wanted = _net(dtype="float64").fit(X, Y, epochs=2, batch_size=32).loss
    choose("lt")
    monkeypatch.setattr(standin_lt, "_refused", [lambda a, b, c: a.rows == 33])
    net = _net(dtype="float64")
    with pytest.warns(RuntimeWarning, match="can't be captured in a CUDA graph .*cuBLAS"):
        found = net.fit(X, Y, epochs=2, batch_size=32).loss
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert "no algorithm" in standin_lt.TROUBLE
    standin_lt.TROUBLE.clear()


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_networks_train_side_by_side(tier: str, choose: Any) -> None:
    """Each thread has streams and a capture of its own."""
    choose(tier)
    alone = [_net(seed=seed, dtype="float64") for seed in range(4)]
    together = [copy.deepcopy(net) for net in alone]
    for net in alone:
        net.fit(X, Y, epochs=3, batch_size=32)
    failures: list[BaseException] = []

    def work(net: MLP) -> None:
        try:
            net.fit(X, Y, epochs=3, batch_size=32)
        except BaseException as error:  # noqa: BLE001 - the test's own thread reports it
            failures.append(error)

    workers = [threading.Thread(target=work, args=(net,)) for net in together]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    for one, two in zip(alone, together, strict=True):
        assert one.history.loss == two.history.loss  # type: ignore[union-attr]


# Biases within products, which no rule asks for yet


@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_biases_may_be_added_within_products(
    normalization: str | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for joined in (frozenset(), frozenset([precision])):
        monkeypatch.setattr(tiers, "JOINING", joined)
        net = _net(dtype=precision, normalization=normalization)
        net.fit(X, Y, epochs=2, batch_size=32)
        plan: Any = net._engine._plan
        launches = len(plan.programs["train", 32, True, False])
        results.append((net.history.loss, launches))  # type: ignore[union-attr]
    relative = {"tf32": 1e-3, "float32": 1e-4, "float64": 1e-9}[precision]
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=relative)
    assert results[0][1] - results[1][1] == (3 if normalization else 1)

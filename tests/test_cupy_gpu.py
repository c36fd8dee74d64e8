"""What only the GPU backend promises: launches, orders of threads, precisions, device arrays.

On a machine without a GPU all this runs over the stand-in of `hostcuda`.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, kernels, training
from fastmlp.datasets import load_digits
from fastmlp.kernels.contract import Data, Order, Update

from .conftest import ON_DEVICE
from .draws import REFERENCE, network, on_device, plan_of, sibling, state, stored
from .hostcuda import standin
from .tolerances import assert_close

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

BACKEND = kernels.load("cupy")

import cupy  # noqa: E402

from fastmlp.kernels.cupy_gpu import codes, launch, rows, streaming, sums  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]

X, Y = load_digits(scaling="unit")
X, Y = X[:300], Y[:300]

over_the_stand_in = pytest.mark.skipif(ON_DEVICE, reason="looks into the stand-in")


def _net(**arguments: Any) -> MLP:
    chosen: dict[str, Any] = {"backend": "cupy", "seed": 1, **arguments}
    return MLP((64, 40, 33, 10), **chosen)


# Codes and launches


def test_host_and_device_know_the_same_vocabulary() -> None:
    assert list(REFERENCE.ACTIVATIONS) == list(codes.ACTIVATIONS)
    assert list(REFERENCE.LOSSES) == list(codes.LOSSES)
    assert list(REFERENCE.LOGIT_LOSSES) == list(codes.JOINED)
    assert list(REFERENCE.UPDATES) == list(codes.UPDATES)
    names = codes.defined()
    assert len(names) == sum(
        map(len, (codes.ACTIVATIONS, codes.LOSSES, codes.JOINED, codes.UPDATES))
    ) + len(codes.NUMBERS + codes.CLOCK)


def test_every_kernel_is_declared_with_types_that_are_known() -> None:
    for precision in launch.PRECISIONS:
        found = launch.kernels_of(precision)
        assert len(found.parameters) > 45
        assert found.parameters["update"][0] == launch.Parameter(True, found.dtype)


@pytest.mark.parametrize(
    "arguments",
    [
        lambda x: (x.astype("float64"), 0.0, 4),
        lambda x: (x.reshape(2, 2).T, 0.0, 4),
        lambda x: (x, 0.0),
    ],
)
def test_a_wrong_argument_never_reaches_a_kernel(arguments: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="fill"):
        launch.kernels_of("float32").launch(
            "fill", 4, *arguments(on_device(np.ones(4, np.float32)))
        )


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33, 100, 8192, 8193, 1_000_000])
def test_cuts_hold_every_row_once(rows: int) -> None:
    chunk, chunks = sums.cut(rows)
    assert chunks <= sums.CHUNKS
    assert (chunks - 1) * chunk < max(rows, 1) <= chunks * chunk


@pytest.mark.parametrize("rows", [1, 500, 9000])
def test_long_columns_are_summed_in_two_stages(rows: int, rng: np.random.Generator) -> None:
    D, found = rng.normal(size=(rows, 5)), np.empty(5)
    from fastmlp.kernels.cupy_gpu import products

    products.bias_gradient(found, D)
    assert_close(found, D.sum(axis=0), "product")


# What the steps do not use, but the vocabulary has


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_functions_of_numbers(name: str, dtype: str) -> None:
    x = np.linspace(-30, 30, 101).astype(dtype)
    found = getattr(sibling("cupy", "elementary"), name)(x)
    assert isinstance(found, cupy.ndarray)
    wanted = getattr(sibling("numpy", "elementary"), name)(x.astype(np.float64))
    assert_close(found.get(), wanted, "kernel", dtype)


def test_philox_is_the_references(rng: np.random.Generator) -> None:
    counters = rng.integers(0, 1 << 32, (4, 50), np.uint32)
    keys = [int(key) for key in rng.integers(0, 1 << 32, 2)]
    for found, wanted in zip(
        sibling("cupy", "random").philox(*counters, *keys),
        sibling("numpy", "random").philox(*counters, *keys),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


# Orders of threads


def _trained(dtype: str, normalization: str | None, activation: str) -> tuple[Array, ...]:
    net = network(
        *("cross_entropy", activation),
        sizes=(9, 40, 37, 35),
        normalization=normalization,
        dropout=0.2,
        l1=1e-3,
    )
    rng = np.random.default_rng(3)
    rule = Update("adam", (0.9, 0.999, 1e-8), clip_norm=0.5)
    start = state(rng, net, rule, dtype)
    plan = plan_of(BACKEND, net, rule, start)
    data = Data(
        rng.normal(size=(90, 9)).astype(dtype),
        rng.integers(0, 35, 90),
        rng.uniform(0.1, 1, 90).astype(dtype),
    )
    losses = np.empty(2)
    BACKEND.train_steps(plan, losses, data, Order("keyed", 5), 45, 0, 2, np.full(2, 0.01), 0, 11)
    return (*stored(plan, start), losses)


@over_the_stand_in
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "mpelu", "maxout"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_the_order_of_threads_changes_no_bit(
    normalization: str | None, activation: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows longer and shorter than a warp, sums in one and in two stages."""
    results = []
    for order in range(standin.ORDERS):
        monkeypatch.setattr(standin.MACHINE, "order", order)
        results.append(_trained(dtype, normalization, activation))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@over_the_stand_in
def test_training_allocates_nothing_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated = []
    for epochs in (1, 30):
        net = _net(dropout=0.1, normalization="batch")
        before = standin.MACHINE.allocations
        net._engine.plan()
        net.fit(X, Y, epochs=1, batch_size=32)
        net.fit(X, Y, epochs=epochs, batch_size=32)
        allocated.append(standin.MACHINE.allocations - before)
    # An epoch's checkpoint is a copy, and nothing else is new.
    assert allocated[1] - allocated[0] <= 2 * 29


@over_the_stand_in
def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    for _ in range(6):
        net = _net()
        net.fit(X, Y, epochs=1, batch_size=100)
        del net
        gc.collect()
        used.append(standin.MACHINE.used)
    # A kernel of the stand-in keeps its last launches; after the first rounds nothing is added.
    assert used[-1] <= 1.05 * max(used[:3])


# Memory


@over_the_stand_in
@pytest.mark.parametrize("left", [1_000, 50_000, 200_000])
def test_a_full_memory_says_what_helps(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are copied, at an epoch's checkpoint, and for a larger batch."""
    net = _net()
    net.fit(X, Y, epochs=1, batch_size=16)
    before = net.forward(X[:16])
    monkeypatch.setattr(standin.MACHINE, "total", standin.MACHINE.used + left)
    with pytest.raises(MemoryError, match="smaller batches.* The network is as it was"):
        net.fit(X, Y, epochs=1, batch_size=300)
    monkeypatch.undo()
    np.testing.assert_array_equal(net.forward(X[:16]), before)
    net.fit(X, Y, epochs=1, batch_size=300)


def test_rows_stay_on_the_device_as_long_as_a_fit() -> None:
    net, held = _net(), []

    def look(epoch: int, history: Any, net: Any) -> None:
        held.append(net._engine._plan.held)

    net.fit(X, Y, epochs=3, batch_size=32, callbacks=[look])
    assert held[0] is not None
    assert held[0] is held[2]
    held.clear()
    gc.collect()
    assert net._engine._plan.held is None  # type: ignore[union-attr]


def test_rows_that_changed_are_copied_anew() -> None:
    net, twin = _net(), _net()
    rows = X.copy()
    net.fit(rows, Y, epochs=1)
    rows[:] = rows[::-1].copy()
    assert net.fit(rows, Y, epochs=1).loss != twin.fit(X, Y, epochs=1).loss
    assert twin.fit(rows, Y, epochs=1).loss == net.history.loss  # type: ignore[union-attr]


# Rows that do not fit


@pytest.mark.parametrize("shuffle", [True, False, "permutation"])
@pytest.mark.parametrize(("batch", "slab"), [(32, 5), (300, 1), (7, 2), (1000, 1)])
def test_streaming_changes_no_bit(
    batch: int, slab: int, shuffle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"epochs": 2, "batch_size": batch, "shuffle": shuffle}
    w = np.linspace(0.5, 1.5, len(X))
    resident, streamed = _net(dropout=0.2), _net(dropout=0.2)
    wanted = resident.fit(X, Y, sample_weight=w, **arguments)
    monkeypatch.setattr(streaming, "too_large", lambda X: True)
    monkeypatch.setattr(rows, "too_large", lambda X: True)
    monkeypatch.setattr(streaming, "SLAB", slab * batch * X[0].nbytes)
    for seconds in (1e9, 1e-9):  # an epoch in one call, and a call for each batch
        monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
        found = (net := copy.deepcopy(streamed)).fit(X, Y, sample_weight=w, **arguments)
        assert found.loss == wanted.loss
        for name, array in net.parameters.items():
            np.testing.assert_array_equal(array, resident.parameters[name])


@over_the_stand_in
def test_only_rows_that_are_too_many_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    def look(epoch: int, history: Any, net: Any) -> None:
        looked.append(net._engine._plan.held.rows.X)

    for free in (4 * X.nbytes, 19 * X.nbytes // 10):
        net = _net()
        net.fit(X[:32], Y[:32], epochs=1, batch_size=32)
        gc.collect()
        monkeypatch.setattr(streaming, "SLAB", 2 * 32 * X[0].nbytes)
        monkeypatch.setattr(standin.MACHINE, "total", standin.MACHINE.used + free)
        net.fit(X, Y, epochs=1, batch_size=32, callbacks=[look])
        monkeypatch.undo()
    assert isinstance(looked[0], cupy.ndarray)
    assert isinstance(looked[1], streaming.Streamed)


@over_the_stand_in
def test_a_slab_is_written_to_when_it_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy waits for the training on its buffer, and the training for the copy."""
    monkeypatch.setattr(streaming, "too_large", lambda X: True)
    monkeypatch.setattr(rows, "too_large", lambda X: True)
    monkeypatch.setattr(streaming, "SLAB", 2 * 32 * X[0].nbytes)
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)
    net = _net()
    net.fit(X[:32], Y[:32], epochs=1, batch_size=32)
    net._engine.pace = (32, net._engine.most_threads(), 1e-12)
    standin.MACHINE.events.clear()
    net.fit(X, Y, epochs=1, batch_size=32)
    names = {}
    seen = [(what, names.setdefault(e, len(names)), s) for what, e, s in standin.MACHINE.events]
    one = [("synchronize", 0, ""), ("wait", 1, "other"), ("record", 0, "other")]
    one += [("wait", 0, "current"), ("record", 1, "current")]
    two = [(what, event + 2, stream) for what, event, stream in one]
    assert seen == (one + two) * 2 + one


# Arrays on the device


class _Foreign:
    """An array of another library."""

    def __init__(self, array: Any) -> None:
        self.kept, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.kept.__cuda_array_interface__


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "int32", "bool"])
def test_rows_on_the_device_train_the_same(dtype: str) -> None:
    rows = (X * 16).astype(dtype)
    net, twin = _net(), _net()
    arguments: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 32,
        "metrics": ("accuracy",),
        "validation_fraction": 0.2,
    }
    found = net.fit(on_device(rows), on_device(Y), **arguments)
    wanted = twin.fit(rows, Y, **arguments)
    assert found.loss == wanted.loss
    assert found.validation_loss == wanted.validation_loss
    assert found.metrics == wanted.metrics
    assert net.evaluate(on_device(rows), Y) == twin.evaluate(rows, Y)


@pytest.mark.parametrize("wrap", [lambda array: array, _Foreign])
def test_results_stay_where_the_rows_are(wrap: Callable[[Any], Any]) -> None:
    net = _net()
    rows = wrap(on_device(X.astype(np.float32)))
    for method in (net.forward, net.logits, net.predict, net.predict_proba):
        found = method(rows)
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_array_equal(found.get(), method(X))


@over_the_stand_in
def test_rows_on_the_device_are_not_copied() -> None:
    net, rows = _net(), on_device(X.astype(np.float32))
    assert net._rows(rows) is rows
    foreign = net._rows(_Foreign(rows))
    assert foreign.data.ptr == rows.data.ptr


def test_weights_and_gradients_with_rows_on_the_device() -> None:
    net = _net()
    w = np.linspace(0.1, 1, len(X))
    found = net.gradients(on_device(X), on_device(Y), sample_weight=on_device(w))
    wanted = net.gradients(X, Y, sample_weight=w)
    assert found.loss == wanted.loss
    for one, two in zip(found.weights, wanted.weights, strict=True):
        np.testing.assert_array_equal(one, two)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: np.where(X.max() == X, np.nan, X), "finite"),
    (lambda: X[:, :5], r"shape \(rows, 64\).* got shape \(300, 5\)"),
    (lambda: X[0], r"got shape \(64,\)"),
    (lambda: X[:0], "rows >= 1"),
    (lambda: X.astype(np.float64) * 1e300, "fit into float32"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_rows_on_the_device_never_reach_a_kernel(
    rows: Callable[[], Array], message: str
) -> None:
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        _net().forward(on_device(np.float64(rows())))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_network_on_the_cpu_refuses_rows_on_the_device(backend: str) -> None:
    if kernels.available()[backend] is not None:
        pytest.skip(f"backend {backend}: {kernels.available()[backend]}")
    with pytest.raises(TypeError, match=r"net\.to\('cupy'\)"):
        _net(backend=backend).forward(on_device(X))


# Precisions


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "prelu", "maxout"])
def test_reduced_precisions_are_near_float32(
    activation: str, normalization: str | None, precision: str
) -> None:
    """Norm of the difference of outputs and gradients against that of the numbers themselves."""
    # tf32 keeps 10 bits of a factor, bfloat16 7. At a kink a unit may fall on the other side.
    relative = {"tf32": 2e-3 if activation == "gelu" else 1e-2, "bfloat16": 3e-2}[precision]
    arguments: dict[str, Any] = {"activation": activation, "normalization": normalization}
    exact, net = _net(**arguments), _net(dtype=precision, **arguments)
    pairs = [(exact.forward(X), net.forward(X))]
    for mode in (False, True):
        wanted, found = (each.gradients(X, Y, training=mode) for each in (exact, net))
        assert found.loss == pytest.approx(wanted.loss, rel=relative)
        pairs += zip(wanted.weights, found.weights, strict=True)
    for one, two in pairs:
        assert two.dtype == np.float32
        assert 0 < np.linalg.norm(one - two) <= relative * np.linalg.norm(one)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_reduced_precisions_learn_alike(precision: str) -> None:
    exact, net = _net(), _net(dtype=precision)
    wanted = exact.fit(X, Y, epochs=15, batch_size=32)
    found = net.fit(X, Y, epochs=15, batch_size=32)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=0.02)
    assert found.loss[-1] < 0.6 * found.loss[0]
    assert precision in net.summary()


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_reduced_precisions_resume_from_files(precision: str, tmp_path: Path) -> None:
    whole, half = _net(dtype=precision, dropout=0.2), _net(dtype=precision, dropout=0.2)
    wanted = whole.fit(X, Y, epochs=4).loss
    first = half.fit(X, Y, epochs=2).loss
    half.save(tmp_path / "net")
    loaded = MLP.load(tmp_path / "net")
    assert loaded.backend == "cupy"
    assert first + loaded.fit(X, Y, epochs=2).loss == wanted
    plain = MLP.load(tmp_path / "net", backend="numpy", dtype="float32")
    assert plain.evaluate(X, Y)["loss"] == pytest.approx(half.evaluate(X, Y)["loss"], rel=0.02)
    with pytest.raises(ValueError, match="needs backend 'cupy'.*dtype='float32'"):
        MLP.load(tmp_path / "net", backend="numpy")


def test_precisions_change_with_the_backend() -> None:
    net = _net(dtype="bfloat16")
    net.fit(X, Y, epochs=1)
    parameters = copy.deepcopy(net.parameters)
    with pytest.raises(ValueError, match="dtype 'bfloat16' needs backend 'cupy'; got 'numpy'"):
        net.to("numpy")
    with pytest.raises(ValueError, match="keep the numbers"):
        net.to("numpy", dtype="float64")
    assert net.backend == "cupy"
    net.to("numpy", dtype="float32")
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(array, parameters[name])
    net.to("cupy", dtype="tf32").fit(X, Y, epochs=1)
    with pytest.raises(ValueError, match="needs backend 'cupy'"):
        MLP((2, 2), dtype="tf32", backend="numba")


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1 / 3, -2e-40, 65504.0, 1e38, 3.4e38, np.inf])
def test_bfloat16_is_rounded_to_the_nearest(value: float) -> None:
    x = np.array([value], np.float32)
    out = cupy.empty(1, "uint16")
    own = launch.kernels_of("bfloat16")
    own.launch("copy_parameters", 1, out, on_device(x), 1)()
    wide = cupy.empty(1, "float32")
    own.launch("widened_copy", 1, wide, out, 1)()
    found = float(wide.get()[0])
    low = int(x.view(np.uint32)[0]) >> 16
    near = np.array([low << 16, low + 1 << 16], np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):  # what comes after infinity
        near = near.astype(np.float64)
    if np.isfinite(near).all():
        assert abs(found - float(x[0])) == np.abs(near - float(x[0])).min()
    else:
        assert found in near


def test_every_float16_is_read_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    numbers = bits.view(np.float16)
    finite = np.isfinite(numbers)
    given = np.where(finite, numbers, np.float16(0))[:, None]
    out = cupy.empty((1 << 16, 1), "float32")
    index = on_device(np.arange(1 << 16))
    launch.kernels_of("float32").launch(
        "gather_float16", 1 << 16, out, on_device(given), index, 1 << 16, 1
    )()
    np.testing.assert_array_equal(out.get(), given.astype(np.float32))

"""Rows of any dtype and order mean what `X.astype(dtype)` means, to the bit, without a copy."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, blocks, checks, kernels
from fastmlp.kernels.contract import Array, Data, Layer, Network, Order, State, Update
from fastmlp.kernels.layout import length, parameter_segments

GATHERED = kernels.load("numpy").GATHERED
PAIRS = [(a, b) for a in GATHERED for b in ("float32", "float64") if a != b]
OTHERS = ("longdouble", ">f4", ">f8", ">f2", ">u2", ">i8")
ROWS, INPUTS = 70, 37
Y = np.arange(ROWS) % 4


def drawn(rng: np.random.Generator, dtype: str, shape: tuple[int, ...] = (ROWS, INPUTS)) -> Array:
    """Numbers of all sizes that a network can take."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        wild = rng.integers(limits.min, limits.max, shape, kind.newbyteorder("="), endpoint=True)
        return np.where(rng.random(shape) < 0.1, wild, wild % 7).astype(kind)
    return (rng.normal(size=shape) * 10.0 ** rng.integers(-5, 2, shape)).astype(kind)


def _spread(X: Array) -> Array:
    wide = np.zeros((len(X), 2 * X.shape[1] + 1), X.dtype)
    wide[:, 1::2] = X
    return wide[:, 1::2]


def _unaligned(X: Array) -> Array:
    room = np.zeros(X.nbytes + 1, np.uint8)
    room[1:] = np.ascontiguousarray(X).view(np.uint8).ravel()
    return room[1:].view(X.dtype).reshape(X.shape)


def _read_only(X: Array) -> Array:
    copy = X.copy()
    copy.flags.writeable = False
    return copy


ORDERS: dict[str, Callable[[Array], Array]] = {
    "C": lambda X: X,
    "Fortran": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second column": _spread,
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "Fortran, backwards": lambda X: np.asfortranarray(X[::-1])[::-1],
    "unaligned": _unaligned,
    "read-only": _read_only,
}

CALLS: dict[str, Callable[[MLP, Any], Any]] = {
    "fit": lambda net, X: net.fit(X, Y, epochs=2, batch_size=16).loss,
    "held out": lambda net, X: net.fit(X, Y, epochs=1, validation_fraction=0.3).validation_loss,
    "permuted": lambda net, X: net.fit(X, Y, 1, 16, shuffle="permutation", metrics=["mse"]).metrics,
    "validation": lambda net, X: net.fit(X[:9], Y[:9], 1, validation_data=(X, Y)).validation_loss,
    "weights": lambda net, X: net.fit(X, Y, 1, 16, sample_weight=Y).loss,
    "train_on_batch": lambda net, X: net.train_on_batch(X, Y),
    "gradients": lambda net, X: net.gradients(X, Y, training=True),
    "evaluate": lambda net, X: net.evaluate(X, Y, ["accuracy"]),
    "logits": lambda net, X: net.logits(X),
    "forward": lambda net, X: net.forward(X),
    "predict": lambda net, X: net.predict(X),
    "compiled": lambda net, X: net.compiled_predictor()(X),
}


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LARGE", 1)
    monkeypatch.setattr(blocks, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(blocks, "BLOCK", 99)
    monkeypatch.setattr(blocks, "LEAST_ROWS", 3)
    monkeypatch.setattr(blocks, "WIDEST", 10)


def _net(backend: str, dtype: str = "float32", **arguments: Any) -> MLP:
    chosen = {"optimizer": SGD(1e-3), "seed": 3, "normalization": "layer", **arguments}
    return MLP((INPUTS, 9, 4), dtype=dtype, backend=backend, **chosen)


def _same(one: Any, other: Any) -> None:
    for a, b in zip(_leaves(one), _leaves(other), strict=True):
        assert a.tobytes() == b.tobytes()


def _leaves(tree: Any) -> list[Array]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [np.asarray(tree)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_call(call: str, dtype: str, backend: str, rng: np.random.Generator) -> None:
    for given in GATHERED:
        X = drawn(rng, given) if np.dtype(given).itemsize < 4 else drawn(rng, given) % 5
        net, twin = _net(backend, dtype), _net(backend, dtype)
        _same(CALLS[call](net, X), CALLS[call](twin, X.astype(dtype)))
        _same(net.parameters, twin.parameters)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("given", [*GATHERED, *OTHERS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_order(
    order: str, given: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    X = drawn(rng, given)
    before = X.tobytes()
    net, form = _net(backend, dtype), ORDERS[order](X)
    _same(net.logits(form), net.logits(X.astype(dtype)))
    _same(net.evaluate(form, Y), net.evaluate(X.astype(dtype), Y))
    assert X.tobytes() == before == np.ascontiguousarray(form).tobytes()


@pytest.mark.parametrize("backend", ["numpy", "numba"], indirect=True)
def test_broadcast_rows(backend: str, rng: np.random.Generator) -> None:
    for given in GATHERED:
        X = np.broadcast_to(drawn(rng, given, (INPUTS,)), (ROWS, INPUTS))
        net = _net(backend)
        _same(net.forward(X), net.forward(X.astype("float32")))


def test_memory_maps(backend: str, rng: np.random.Generator, tmp_path: Path) -> None:
    X = drawn(rng, "uint8")
    for array in (X, np.asfortranarray(X)):
        np.save(tmp_path / "x.npy", array)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        net, twin = _net(backend), _net(backend)
        _same(CALLS["fit"](net, mapped), CALLS["fit"](twin, X.astype("float32")))
        _same(net.forward(mapped), twin.forward(X))
    assert np.shares_memory(net._rows(np.load(tmp_path / "x.npy", mmap_mode="r")), mapped) is False


def test_pandas(backend: str, rng: np.random.Generator) -> None:
    pandas = pytest.importorskip("pandas")
    for given in ("uint8", "float64", "int64"):
        X = drawn(rng, given) % 5
        net, frame = _net(backend), pandas.DataFrame(X, columns=[f"c{i}" for i in range(INPUTS)])
        _same(net.forward(frame), net.forward(X.astype("float32")))


def test_what_is_gathered_is_not_copied(backend: str, rng: np.random.Generator) -> None:
    net = _net(backend)
    for given in net._engine.gathered():
        X = drawn(rng, given)
        assert np.shares_memory(net._rows(X), X)
        smaller = net._rows(np.asfortranarray(X))
        assert smaller.itemsize == min(X.itemsize, 4)
        assert smaller.flags.c_contiguous
    assert {"uint8", "float16"} <= set(net._engine.gathered()) <= set(GATHERED)


def test_small_rows_are_converted_at_once(
    backend: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = drawn(rng, "uint8")
    monkeypatch.setattr(checks, "LARGE", X.size + 1)
    assert _net(backend)._rows(X).dtype == np.float32


ESTIMATORS = {
    "classifier": {},
    "float32": {"dtype": "float32"},
    "early stopping": {"early_stopping": True},
    "full batches": {"solver": "lbfgs"},
    "regressor": {},
}


@pytest.mark.parametrize("case", ESTIMATORS)
@pytest.mark.parametrize("given", [*GATHERED, ">i2", ">f4"])
def test_estimators(case: str, given: str, backend: str, rng: np.random.Generator) -> None:
    pytest.importorskip("sklearn")
    from fastmlp import MLPClassifier, MLPRegressor

    if case == "regressor":
        kind, options = MLPRegressor, {}
    else:
        kind, options = MLPClassifier, ESTIMATORS[case]
    X = drawn(rng, given) if np.dtype(given).itemsize < 4 else drawn(rng, given) % 5
    X = X.astype(given)
    follows = "float32" if given == "float32" else "float64"
    wanted = X.astype(options.get("dtype", follows))
    settings = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 1, "tol": 0.0}
    for order in ("C", "Fortran", "backwards"):
        one, other = (kind(backend=backend, **settings, **options) for _ in range(2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one.fit(ORDERS[order](X), Y)
            other.fit(wanted, Y)
        _same(one.coefs_, other.coefs_)
        assert one.coefs_[0].dtype == other.coefs_[0].dtype == wanted.dtype
        _same(one.predict(ORDERS[order](X)), other.predict(wanted))


# What is refused

LAST = (ROWS - 1, INPUTS - 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("given", ["float16", "float32", "float64", "longdouble", ">f8"])
def test_odd_numbers_are_refused(
    order: str, given: str, backend: str, rng: np.random.Generator
) -> None:
    for wrong, message in ((np.nan, "got nan at"), (-np.inf, "got -inf at")):
        X = drawn(rng, given)
        X[30, 4] = X[LAST] = wrong
        form = ORDERS[order](X)
        _refused(backend, form, rf"X must hold finite numbers; {message} \(30, 4\) \(2 NaN")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("given", ["float64", "longdouble", ">f8"])
def test_numbers_too_large_are_refused(
    order: str, given: str, backend: str, rng: np.random.Generator
) -> None:
    X = drawn(rng, given)
    X[LAST] = 3.4028235677973366e38  # the smallest that rounds to infinity
    _refused(backend, ORDERS[order](X), r"X must fit into float32; got numbers up to 3.4e\+38")
    X[LAST] = np.nextafter(X[LAST], 0)
    assert np.isfinite(_net(backend)._rows(ORDERS[order](X))).all()


def _refused(backend: str, X: Array, message: str) -> None:
    net = _net(backend)
    net.fit(np.ones((ROWS, INPUTS)), Y, epochs=1)
    before = [array.tobytes() for array in net.parameters.values()]
    for call in ("fit", "held out", "validation", "train_on_batch", "gradients", "forward"):
        with pytest.raises(ValueError, match=message):
            CALLS[call](net, X)
    assert [array.tobytes() for array in net.parameters.values()] == before
    assert (net.steps, net.epochs) == (2, 1)


# The blocks


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 40), (7, 99), (101, 13)])
def test_copies(threads: int, shape: tuple[int, int], rng: np.random.Generator) -> None:
    for order, given in itertools.product(ORDERS, ("uint8", "float64", ">f4")):
        X = drawn(rng, given, shape)
        copy, finite = blocks.copied(ORDERS[order](X), np.dtype("float32"), threads)
        assert copy.tobytes() == X.astype("float32").tobytes()
        assert copy.flags.c_contiguous
        assert finite
    X = np.asfortranarray(rng.normal(size=shape))
    X[-1, -1] = 1e39
    assert not blocks.copied(X, np.dtype("float32"), threads)[1]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_odd_numbers_are_found(ndim: int, order: Any, rng: np.random.Generator) -> None:
    for shape in itertools.product((1, 4, 200), repeat=ndim):
        X = np.asarray(rng.normal(size=shape), order=order)
        X = X[::-1]
        assert blocks.all_finite(X)
        assert blocks.fits(X, np.dtype("float32"))
        wrong = rng.random(shape) < 0.05
        wrong.ravel()[rng.integers(wrong.size)] = True
        X[wrong] = rng.choice([np.nan, np.inf, -np.inf], int(wrong.sum()))
        assert not blocks.all_finite(X)
        assert not blocks.fits(X, np.dtype("float32"))
        place = tuple(np.argwhere(wrong)[0].tolist())
        assert blocks.first_odd(X) == (place, int(wrong.sum()))


def test_an_error_in_a_thread_comes_out() -> None:
    def task(number: int) -> None:
        if number == 50:
            raise MemoryError("no room")

    for threads in (1, 2, 5):
        with pytest.raises(MemoryError, match="no room"):
            blocks._shared(task, 100, threads)


def test_a_system_that_gives_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    monkeypatch.setattr(blocks.threading.Thread, "start", refuse)
    blocks._shared(done.append, 10, 4)
    assert done == list(range(10))


# The compiled conversion, and the shortcuts of the Numba backend


@pytest.mark.parametrize(("given", "dtype"), PAIRS)
def test_compiled_conversion(given: str, dtype: str, rng: np.random.Generator) -> None:
    rows = pytest.importorskip("fastmlp.kernels.numba_cpu.rows")
    numbers = _every_kind_of_number(given, rng)
    code = rows.kind_of(np.dtype(given), np.dtype(dtype))
    convert = _compiled(rows.convert_row, dtype)
    lanes = _lanes(dtype)
    with np.errstate(all="ignore"):
        wanted = numbers.astype(dtype)
    for count in (*range(1, 40), len(numbers)):
        panels = -(-count // lanes)
        out = np.full((panels, 3 * lanes), 7, dtype)
        source = numbers[-count:].copy()
        convert(out.ctypes.data, 3 * lanes, source.ctypes.data, count, code)
        found = out[:, :lanes].ravel()
        np.testing.assert_array_equal(found[:count], wanted[-count:])
        signs = ~np.isnan(found[:count])
        np.testing.assert_array_equal(
            np.signbit(found[:count])[signs], np.signbit(wanted[-count:])[signs]
        )
        assert (found[count:] == 7).all()
        assert (out[:, lanes:] == 7).all()


def _every_kind_of_number(given: str, rng: np.random.Generator) -> Array:
    """All of small dtypes; of large ones the ends, ties of rounding, and random bits."""
    kind = np.dtype(given)
    if kind.itemsize <= 2:
        return np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    bits = rng.integers(0, 1 << 64, 20_000, np.uint64)
    small = (bits >> rng.integers(0, 64, bits.size, np.uint64)).view(np.int64)
    if kind.kind in "iu":
        ties = (1 << np.arange(23, 8 * kind.itemsize - 1, dtype=np.uint64)).astype(kind)
        near = [ties + kind.type(i) for i in (0, 1, 2, 3)] + [ties - kind.type(1), 3 * ties]
        ends = np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind)
        return np.concatenate([small.astype(kind), bits.astype(kind), ends, *near])
    odd = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 5e-324, 3.4028235677973366e38]
    with np.errstate(all="ignore"):
        halfway = bits.view(np.float32).astype(np.float64) * (1 + 2.0**-24)
        wild = [np.array(odd, np.float64), halfway, small]
        return np.concatenate([bits.view(kind), *(numbers.astype(kind) for numbers in wild)])


def _compiled(family: Any, dtype: str) -> Any:
    return family.of(dtype)


def _lanes(dtype: str) -> int:
    from fastmlp.kernels.numba_cpu.intrinsics import lane_count

    return lane_count(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(5, 8, 3), (37, 20, 3), (16, 5)])
@pytest.mark.parametrize("batch", [1, 7])
def test_shortcuts(dtype: str, sizes: tuple[int, ...], batch: int, rng: Any) -> None:
    backend = kernels.load("numba")
    layers = tuple(
        Layer(a, b, "tanh" if b != sizes[-1] else "softmax") for a, b in itertools.pairwise(sizes)
    )
    network, rule, count = Network(layers, "cross_entropy"), Update("sgd"), -(-ROWS // batch)
    start = rng.normal(size=length(parameter_segments(network))).astype(dtype)
    T = rng.integers(0, 3, ROWS)

    def trained(X: Array) -> State:
        plan = backend.make_plan(network, rule, dtype)
        state = State(start.copy(), np.zeros((0, start.size), dtype), np.zeros(0, dtype))
        plan.load(state)
        order, rates = Order("keyed", 5), np.full(count, 0.01)
        for first, stop in ((0, 3), (3, count)):
            backend.train_steps(
                *(plan, np.zeros(stop - first), Data(X, T, None), order, batch, first),
                *(stop - first, rates, first, 0),
            )
        plan.store(state)
        return state

    for given in GATHERED:
        X = drawn(rng, given, (ROWS, sizes[0])) % 5
        X = X.astype(given)
        _same(trained(X), trained(X.astype(dtype)))


# Memory


@pytest.fixture
def usual_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()


def _peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("usual_blocks")
@pytest.mark.parametrize("given", ["uint8", "float16", "float32", "float64", ">f4", "longdouble"])
def test_a_copy_takes_little_more_than_itself(given: str, fast_backend: str) -> None:
    X = np.ones((40_000, 200), given, order="F")
    net = MLP((200, 2), backend=fast_backend, seed=0)
    kept = min(X.itemsize, 4) if np.dtype(given).isnative else 4
    assert _peak(lambda: net._rows(X)) < 1.1 * X.size * kept


@pytest.mark.usefixtures("usual_blocks")
@pytest.mark.parametrize("given", ["uint8", "float16", "float64", "int64"])
def test_rows_that_are_gathered_take_no_memory(given: str, fast_backend: str) -> None:
    X, y = np.ones((40_000, 200), given), np.arange(40_000) % 2
    net = MLP((200, 2), backend=fast_backend, seed=0)
    net.fit(X[:64], y[:64], epochs=1)
    assert _peak(lambda: net.fit(X, y, epochs=1, batch_size=256)) < 0.1 * 4 * X.size


@pytest.mark.usefixtures("usual_blocks")
def test_estimators_take_no_memory_for_bytes(fast_backend: str) -> None:
    pytest.importorskip("sklearn")
    from fastmlp import MLPClassifier

    X, y = np.ones((40_000, 200), np.uint8), np.arange(40_000) % 2
    made = MLPClassifier((2,), max_iter=1, backend=fast_backend, tol=0.0)
    made.partial_fit(X[:64], y[:64], classes=[0, 1])
    assert _peak(lambda: made.partial_fit(X, y)) < 0.2 * 4 * X.size
    if fast_backend != "numpy":  # which predicts all rows at once
        assert _peak(lambda: made.predict(X)) < 0.2 * 4 * X.size


@pytest.mark.usefixtures("usual_blocks")
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_refusal_takes_little_memory(order: Any, fast_backend: str) -> None:
    X = np.ones((40_000, 200), np.float32, order=order)
    X[-1, -1] = np.nan
    net = MLP((200, 2), backend=fast_backend, seed=0)

    def refused() -> None:
        with pytest.raises(ValueError, match=r"at \(39999, 199\) \(1 NaN"):
            net.predict(X)

    assert _peak(refused) < (1.1 if order == "F" else 0.1) * X.nbytes

"""fit: orders, batches, weights, history, validation, divergence, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, SGD, Callback, DivergenceError, History, Normal, TruncatedNormal
from fastmlp.kernels.reference.random import shuffle_places

from .tolerances import assert_close

RNG = np.random.default_rng(2)
ROWS = 50
X = RNG.normal(size=(ROWS, 4))
Y = RNG.integers(0, 3, ROWS)


def _net(backend: str, **arguments: Any) -> MLP:
    chosen = {"dtype": "float64", "seed": 1, "optimizer": SGD(0.1), **arguments}
    return MLP((4, 6, 3), backend=backend, **chosen)


def _same(one: MLP, other: MLP) -> None:
    for name, array in one.parameters.items():
        np.testing.assert_array_equal(array, other.parameters[name], err_msg=name)


# Orders and batches


def _by_hand(net: MLP, orders: list[Any], batch: int, drop_last: bool = False) -> list[float]:
    """Train batch by batch; return each epoch's loss, averaged by rows."""
    losses = []
    for order in orders:
        parts = [order[start : start + batch] for start in range(0, len(order), batch)]
        parts = [part for part in parts if len(part) == batch or not drop_last]
        values = [net.train_on_batch(X[part], Y[part]) * len(part) for part in parts]
        losses.append(sum(values) / sum(map(len, parts)))
    return losses


def _keyed(rng: np.random.Generator) -> Any:
    order = np.empty(ROWS, np.int64)
    shuffle_places(order, ROWS, int.from_bytes(rng.bytes(8), "little"), 0)
    return order


def _composed(rng: Any, previous: Any) -> Any:
    return previous[rng.permutation(len(previous))]


ORDERS: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "as it comes": (False, lambda rng, previous: np.arange(ROWS)),
    "keyed": (True, lambda rng, previous: _keyed(rng)),
    "permutation": ("permutation", lambda rng, previous: rng.permutation(ROWS)),
    "composed": (_composed, _composed),
    "list": (lambda rng, previous: [0] * ROWS, lambda rng, previous: np.zeros(ROWS, np.int64)),
    "bootstrap": (
        lambda rng, previous: rng.integers(0, ROWS, ROWS),
        lambda rng, previous: rng.integers(0, ROWS, ROWS),
    ),
}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch", [1, 8, 25, 50, 64])
@pytest.mark.parametrize("name", ORDERS)
def test_orders(name: str, batch: int, drop_last: bool, backend: str) -> None:
    """The same as update by update, with the network's own stream of random numbers."""
    shuffle, draw = ORDERS[name]
    net = _net(backend, init=Normal(0.3), seed=np.random.default_rng(4))
    twin = _net(backend, init=Normal(0.3), seed=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    for weights in twin.weights:
        rng.normal(0, 0.3, weights.shape)
    history = net.fit(X, Y, epochs=3, batch_size=batch, shuffle=shuffle, drop_last=drop_last)
    orders, previous = [], np.arange(ROWS)
    for _ in range(3):
        previous = draw(rng, previous)
        orders.append(previous)
    wanted = _by_hand(twin, orders, min(batch, ROWS), drop_last)
    for parameter, array in net.parameters.items():
        assert_close(array, twin.parameters[parameter], "training")
    assert_close(history.loss, wanted, "training")
    assert net.steps == twin.steps


def test_a_previous_order_begins_anew_in_each_fit(backend: str) -> None:
    seen = []

    def order(rng: Any, previous: Any) -> Any:
        seen.append(previous.copy())
        return previous[::-1]

    net = _net(backend)
    net.fit(X, Y, epochs=2, shuffle=order)
    net.fit(X, Y, epochs=1, shuffle=order)
    straight = np.arange(ROWS)
    for found, wanted in zip(seen, (straight, straight[::-1], straight), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_order_function_sees_the_networks_generator(backend: str) -> None:
    rng, seen = np.random.default_rng(3), []

    def order(rng: Any, previous: Any) -> Any:
        seen.append(rng)
        return previous

    _net(backend, seed=rng).fit(X, Y, epochs=1, shuffle=order)
    assert seen == [rng]


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(("shuffle", "draws"), [(True, 1), ("permutation", 1), (False, 0)])
def test_only_orders_draw(shuffle: Any, draws: int, epochs: int, backend: str) -> None:
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    net = MLP((4, 6, 3), init=Normal(0.1), dropout=0.5, backend=backend, seed=rng)
    for weights in net.weights:
        twin.normal(0, 0.1, weights.shape)
    twin.bytes(8)
    net.fit(X, Y, epochs=epochs, shuffle=shuffle, validation_data=(X, Y), metrics=("accuracy",))
    for _ in range(epochs * draws):
        twin.bytes(8) if shuffle is True else twin.permutation(ROWS)
    assert rng.random() == twin.random()


def test_all_backends_see_the_same_order() -> None:
    nets = [_net("numpy"), _net("numpy").to("numba")]
    histories = [net.fit(X, Y, epochs=4, batch_size=7) for net in nets]
    assert_close(histories[0].loss, histories[1].loss, "training")


def test_bits_do_not_depend_on_slices(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [_net(backend, dropout=0.3, normalization="batch") for _ in range(3)]
    losses = []
    for net, seconds in zip(nets, (1e9, 1e-9, 1e-4), strict=True):
        monkeypatch.setattr("fastmlp.training.SLICE_SECONDS", seconds)
        losses.append(net.fit(X, Y, epochs=5, batch_size=4).loss)
    assert losses[0] == losses[1] == losses[2]
    _same(nets[0], nets[1])
    _same(nets[0], nets[2])


def test_bits_do_not_depend_on_threads() -> None:
    import fastmlp

    if fastmlp.available_backends()["numba"]:
        pytest.skip("promised where no BLAS computes")
    big, labels = RNG.normal(size=(3000, 60)), RNG.integers(0, 5, 3000)
    nets = [MLP((60, 128, 64, 5), dropout=0.2, seed=3, backend="numba") for _ in range(3)]
    try:
        for net, threads in zip(nets, (1, 2, 5), strict=True):
            fastmlp.set_num_threads(threads)
            net.fit(big, labels, epochs=2, batch_size=500)
    finally:
        fastmlp.set_num_threads(None)
    _same(nets[0], nets[1])
    _same(nets[0], nets[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits(dtype: str, backend: str) -> None:
    nets = [_net(backend, dtype=dtype, dropout=0.2) for _ in range(2)]
    for net in nets:
        net.fit(X, Y, epochs=3)
    _same(*nets)


# Weights of rows


def test_a_weight_of_zero_removes_a_row(backend: str) -> None:
    w = np.ones(ROWS)
    w[40:] = 0
    weighted, fewer = _net(backend), _net(backend)
    weighted.fit(X, Y, epochs=2, batch_size=10, shuffle=False, sample_weight=w)
    fewer.fit(X[:40], Y[:40], epochs=2, batch_size=10, shuffle=False)
    assert weighted.steps == fewer.steps == 8
    for name, array in weighted.parameters.items():
        assert_close(array, fewer.parameters[name], "training")


def test_whole_weights_repeat_rows(backend: str) -> None:
    w = RNG.integers(1, 4, ROWS)
    weighted, repeated = _net(backend), _net(backend)
    weighted.fit(X, Y, epochs=3, batch_size=ROWS, shuffle=False, sample_weight=w)
    many = np.repeat(np.arange(ROWS), w)
    repeated.fit(X[many], Y[many], epochs=3, batch_size=len(many), shuffle=False)
    for name, array in weighted.parameters.items():
        assert_close(array, repeated.parameters[name], "training")


# History


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_is_that_of_the_batches_before_each_update(reduction: str, backend: str) -> None:
    net = _net(backend, reduction=reduction, l2=0.1, optimizer=SGD(1e-3))
    parts = np.array_split(np.arange(ROWS), [16, 32, 48])
    twin = _net(backend, reduction=reduction, l2=0.1, optimizer=SGD(1e-3))
    losses = []
    for part in parts:
        losses.append(twin.gradients(X[part], Y[part]).loss)
        twin.train_on_batch(X[part], Y[part])
    weights = np.array([len(part) / ROWS for part in parts]) if reduction == "mean" else 1.0
    history = net.fit(X, Y, epochs=1, batch_size=16, shuffle=False)
    assert history.loss == [pytest.approx(np.sum(weights * np.array(losses)), rel=1e-12)]


def test_history(backend: str) -> None:
    net = _net(backend)
    assert net.history is None
    history = net.fit(
        X, Y, epochs=3, validation_data=(X[:9], Y[:9]), metrics=("accuracy", "zero_one")
    )
    assert net.history is history
    assert isinstance(history, History)
    lists = [history.loss, history.validation_loss, history.seconds, history.learning_rate]
    lists += history.metrics.values()
    assert [len(values) for values in lists] == [3] * len(lists)
    assert len(history) == 3
    assert list(history.metrics) == [
        *("accuracy", "zero_one"),
        *("validation_accuracy", "validation_zero_one"),
    ]
    found = net.evaluate(X[:9], Y[:9], metrics=("accuracy",))
    assert history.validation_loss[-1] == found["loss"]
    assert history.metrics["validation_accuracy"][-1] == found["accuracy"]
    assert history.metrics["accuracy"][-1] == net.evaluate(X, Y, ("accuracy",))["accuracy"]
    assert min(history.seconds) > 0
    again = net.fit(X, Y, epochs=1)
    assert net.history is again is not history
    assert (len(history), len(again)) == (3, 1)
    assert again.validation_loss == []
    assert not again.metrics


def test_measuring_does_not_change_training(backend: str) -> None:
    plain, measured = _net(backend, dropout=0.2), _net(backend, dropout=0.2)
    plain.fit(X, Y, epochs=3)
    measured.fit(X, Y, epochs=3, validation_data=(X[:5], Y[:5]), metrics=("accuracy",))
    _same(plain, measured)


def test_no_epochs_train_nothing(backend: str) -> None:
    net, twin = _net(backend), _net(backend)
    history = net.fit(X, Y, epochs=0, metrics=("accuracy",), validation_data=(X, Y))
    assert len(history) == 0
    assert history.metrics == {"accuracy": [], "validation_accuracy": []}
    assert (net.steps, net.epochs) == (0, 0)
    _same(net, twin)
    net.fit(X, Y, epochs=1)
    twin.fit(X, Y, epochs=1)
    _same(net, twin)


def test_counts(backend: str) -> None:
    net = _net(backend)
    net.fit(X, Y, epochs=2, batch_size=20)
    net.train_on_batch(X, Y)
    assert (net.steps, net.epochs) == (7, 2)
    net.fit(X, Y, epochs=1, batch_size=100, optimizer="adam")
    assert (net.steps, net.epochs) == (1, 1)


def test_compiling_is_counted_apart(backend: str) -> None:
    history = _net(backend).fit(X, Y, epochs=2)
    assert history.compile_seconds >= 0
    assert max(history.seconds) < 1


def test_plot(backend: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    net = _net(backend)
    plain = net.fit(X, Y, epochs=2).plot()
    assert len(plain.lines) == 1
    both = net.fit(X, Y, epochs=2, metrics=("accuracy",), validation_fraction=0.2).plot()
    assert [len(ax.lines) for ax in both] == [2, 2]
    _, ax = pyplot.subplots()
    assert net.fit(X, Y, epochs=2).plot(ax=ax) is ax
    pyplot.close("all")


def test_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install .*fastmlp\[plot\]"):
        History().plot()


# Held-out rows


def test_validation_weights(backend: str) -> None:
    w = np.arange(ROWS)
    net = _net(backend)
    history = net.fit(X, Y, epochs=1, validation_data=(X, Y, w))
    assert history.validation_loss == [net.evaluate(X, Y, sample_weight=w)["loss"]]


def _held_out(net: MLP, y: Any, fraction: float) -> Any:
    """Which rows train, found out by an order function that sees how many there are."""
    marked = np.arange(len(y), dtype=np.float64)[:, None] * np.ones(4)
    seen: dict[str, Any] = {}
    original = net._engine.run_steps

    def spy(losses: Any, data: Any, *rest: Any) -> None:
        seen["train"] = data.X[:, 0].astype(int).tolist()
        original(losses, data, *rest)

    net._engine.run_steps = spy  # type: ignore[method-assign]
    net.fit(marked / 1.0, y, epochs=1, validation_fraction=fraction, shuffle=False)
    return seen["train"]


def test_fraction_is_drawn_before_the_first_order(backend: str) -> None:
    net = _net(backend, optimizer=SGD(1e-9))
    train = _held_out(net, Y, 0.2)
    assert len(train) == 40
    assert train == sorted(set(train))
    assert train != list(range(40))
    assert _held_out(_net(backend, optimizer=SGD(1e-9)), Y, 0.2) == train


def test_fraction_is_stratified(backend: str) -> None:
    y = np.array([0] * 30 + [1] * 10 + [2] * 10)
    for seed in range(5):
        train = _held_out(_net(backend, optimizer=SGD(1e-9), seed=seed), y, 0.2)
        assert np.bincount(y[train]).tolist() == [24, 8, 8]


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.5), (2, 0.9), (50, 0.999)])
def test_too_few_rows_for_both_parts(rows: int, fraction: float, backend: str) -> None:
    net = _net(backend)
    state = repr(net._engine.rng.bit_generator.state)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="validation_fraction.*rows"):
        net.fit(X[:rows], Y[:rows], validation_fraction=fraction)
    assert repr(net._engine.rng.bit_generator.state) == state  # type: ignore[union-attr]


def test_held_out_rows_of_weight_zero(backend: str) -> None:
    w = np.zeros(ROWS)
    w[0] = 1
    net = _net(backend)
    state = repr(net._engine.rng.bit_generator.state)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="sample_weight is zero"):
        net.fit(X, Y, sample_weight=w, validation_fraction=0.3)
    assert repr(net._engine.rng.bit_generator.state) == state  # type: ignore[union-attr]


# Divergence


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence(dtype: str, backend: str) -> None:
    net = MLP((4, 6, 1), loss="mse", optimizer=SGD(1e3), dtype=dtype, backend=backend, seed=0)
    y = X[:, 0]
    with pytest.raises(DivergenceError, match=r"epoch \d+ .*learning rate.*scale.* X") as caught:
        net.fit(X, y, epochs=500, batch_size=5)
    assert isinstance(caught.value, ArithmeticError)
    history = net.history
    assert history is not None
    assert f"epoch {len(history) + 1} " in str(caught.value)
    assert np.isfinite(history.loss).all()
    assert all(np.isfinite(a).all() for a in net.parameters.values())
    assert (net.steps, net.epochs) == (10 * len(history), len(history))


def test_divergence_returns_to_the_last_finite_epoch(backend: str) -> None:
    """The rate explodes in epoch 3: what is left is bit for bit the network after 2."""

    def rate(step: int, epoch: int) -> float:
        return 0.01 if epoch < 2 else 1e200

    arguments = {"loss": "mse", "dropout": 0.2, "normalization": "batch", "dtype": "float64"}
    nets = [
        MLP((4, 6, 1), optimizer=SGD(rate, momentum=0.9), backend=backend, seed=0, **arguments)
        for _ in range(2)
    ]
    with pytest.raises(DivergenceError, match="epoch 3"):
        nets[0].fit(X, X[:, 0], epochs=5, batch_size=8)
    nets[1].fit(X, X[:, 0], epochs=2, batch_size=8)
    _same(*nets)
    np.testing.assert_array_equal(nets[0].predict(X), nets[1].predict(X))
    np.testing.assert_array_equal(nets[0]._engine.state().slots, nets[1]._engine.state().slots)
    assert nets[0].steps == nets[1].steps


def test_train_on_batch_diverges_without_harm(backend: str) -> None:
    arguments = {"loss": "exponential", "dtype": "float64", "init": Normal(300)}
    net, twin = (MLP((4, 1), seed=0, backend=backend, **arguments) for _ in range(2))
    with pytest.raises(DivergenceError, match="the network is as it was"):
        net.train_on_batch(X * 10, np.sign(X[:, 0]))
    _same(net, twin)
    assert net.steps == 0


# Ctrl-C and errors of others


@pytest.fixture
def _default_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.usefixtures("_default_ctrl_c")
def test_ctrl_c_keeps_what_is_trained(backend: str) -> None:
    net = _net(backend, normalization="batch")
    start = net.weights[0]
    net.fit(X, Y, epochs=1)
    ended = []

    class Watch(Callback):
        def on_fit_end(self, history: Any, net: Any) -> None:
            ended.append(len(history))

    timer = _press_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=10**7, batch_size=5, callbacks=[Watch()])
    timer.join()
    history = net.history
    assert history is not None
    assert len(history) > 1
    assert len(history.seconds) == len(history.loss) == len(history.learning_rate)
    assert ended == [len(history)]
    assert (net.weights[0] != start).any()
    assert np.isfinite(net.forward(X)).all()
    # The count is that of the updates in the weights: training goes on from here.
    assert 10 * len(history) <= net.steps - 1 <= 10 * (len(history) + 1)
    net.fit(X, Y, epochs=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.usefixtures("_default_ctrl_c")
def test_ctrl_c_amid_the_last_batch(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All updates of the epoch stay, but it has no entry: its metrics are not taken any more."""
    net, twin = _net(backend), _net(backend)
    run = net._engine.run_steps

    def pressed(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        run(*arguments)

    monkeypatch.setattr(net._engine, "run_steps", pressed)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=3, batch_size=ROWS, shuffle=False)
    assert net.history is not None
    assert (net.steps, net.epochs, len(net.history), len(net.history.seconds)) == (1, 0, 0, 0)
    twin.fit(X, Y, epochs=1, batch_size=ROWS, shuffle=False)
    _same(net, twin)


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.usefixtures("_default_ctrl_c")
def test_ctrl_c_within_an_epoch_is_soon(backend: str) -> None:
    many = np.random.default_rng(0).normal(size=(400_000, 4)).astype(np.float32)
    net = _net(backend, dtype="float32")
    net.fit(many[:2000], np.zeros(2000), epochs=2, batch_size=1)
    timer = _press_after(0.3)
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        net.fit(many, np.zeros(len(many)), epochs=100, batch_size=1)
    # On a loaded machine 3 s were not enough: a slice is as long as its steps took before. An epoch
    # of NumPy's takes a minute and more.
    assert time.perf_counter() - started < 10
    timer.join()


def test_an_error_in_a_callback_leaves_whole_epochs(backend: str) -> None:
    net, twin = _net(backend), _net(backend)

    def fails(epoch: int, history: Any, net: Any) -> None:
        if epoch == 2:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        net.fit(X, Y, epochs=5, callbacks=[fails])
    twin.fit(X, Y, epochs=2)
    _same(net, twin)
    assert net.history is not None
    assert len(net.history) == 2
    net.fit(X, Y, epochs=1)


def test_training_a_network_that_is_being_trained(backend: str) -> None:
    net, twin = _net(backend), _net(backend)
    refused = []

    def meddles(epoch: int, history: Any, net: MLP) -> None:
        for call in (
            lambda: net.fit(X, Y),
            lambda: net.train_on_batch(X, Y),
            lambda: net.to("numpy"),
        ):
            with pytest.raises(RuntimeError, match="being trained"):
                call()
            refused.append(epoch)

    net.fit(X, Y, epochs=2, callbacks=[meddles])
    twin.fit(X, Y, epochs=2)
    assert refused == [1, 1, 1, 2, 2, 2]
    _same(net, twin)


# What the chapter trains


def test_xor_of_the_chapter(backend: str) -> None:
    inputs, targets = [[0, 0], [0, 1], [1, 0], [1, 1]], [[1, 0], [0, 1], [0, 1], [1, 0]]
    solved = 0
    for seed in range(8) if backend == "numba" else range(2):
        net = MLP(
            (2, 2, 2),
            "sigmoid",
            optimizer=SGD(0.1),
            reduction="sum",
            init=TruncatedNormal(1.0),
            dtype="float64",
            backend=backend,
            seed=seed,
        )
        net.fit(inputs, targets, epochs=5000, batch_size=4, shuffle=False)
        found = net.evaluate(inputs, targets, metrics=("accuracy",))
        solved += found["loss"] < 0.02 and found["accuracy"] == 1.0
    assert solved >= (4 if backend == "numba" else 1)


@pytest.mark.parametrize("rule", ["perceptron", "squared_error"])
@pytest.mark.parametrize(("name", "y"), [("and", [-1, -1, -1, 1]), ("or", [-1, 1, 1, 1])])
def test_perceptron_separates_and_and_or(name: str, y: Any, rule: str, backend: str) -> None:
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    net = MLP((2, 1), loss=rule, optimizer=SGD(0.1), init="zeros", backend=backend, dtype="float64")
    net.fit(inputs, y, epochs=40, batch_size=1, shuffle=False)
    np.testing.assert_array_equal(np.where(net.forward(inputs)[:, 0] > 0, 1, -1), y)


def test_a_small_set_is_memorized(backend: str) -> None:
    labels = np.random.default_rng(8).integers(0, 3, ROWS)
    net = MLP((4, 100, 3), optimizer="adam", backend=backend, seed=0)
    net.learning_rate = 0.02
    net.fit(X, labels, epochs=200, batch_size=25)
    assert net.evaluate(X, labels, metrics=("accuracy",))["accuracy"] == 1.0

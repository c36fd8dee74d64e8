"""Large rows are not searched for NaN before training: the first epoch shows it, and is undone."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from fastmlp import LAMB, LARS, MLP, SGD, Adagrad, Adam, AdamW, RMSprop, jobs
from fastmlp.kernels.reference import LOSSES, PROPERTIES

ROWS, INPUTS = 150, 5
RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, INPUTS)).astype(np.float32)
HIDDEN = [name for name, each in PROPERTIES.items() if each.trainable and not each.output_only]
LAST = (ROWS - 1, INPUTS - 1)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.checks, "LARGE", X.size)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was searched for NaN before training."""
    seen: list[str] = []
    whole = jobs.checks.finite

    def noting(array: Any, name: str, dtype: Any = None) -> None:
        seen.append(name)
        whole(array, name, dtype)

    monkeypatch.setattr(jobs.checks, "finite", noting)
    return seen


def spoiled(place: tuple[int, int], wrong: float) -> Any:
    rows = X.copy()
    rows[place] = wrong
    return rows


def numbers(net: MLP) -> tuple[Any, ...]:
    state, rng = net._engine.state(), net._engine.rng
    assert isinstance(rng, np.random.Generator)
    return (
        *(array.tobytes() for array in state),
        (net.steps, net.epochs, repr(net.optimizer), id(net.history)),
        repr(rng.bit_generator.state),
    )


def targets(loss: str) -> Any:
    if loss in ("hinge", "squared_hinge", "exponential", "logistic", "perceptron"):
        return np.where(X[:, :2] > 0, 1, -1)
    return (X[:, :2] > 0).astype(float) if loss != "cross_entropy" else (X[:, 0] > 0).astype(int)


def refused(net: MLP, y: Any, rows: Any, place: tuple[int, int], **arguments: Any) -> None:
    before = numbers(net)
    with pytest.raises(ValueError, match=rf"X must hold finite numbers; .* at \({place[0]}, "):
        net.fit(rows, y, **{"epochs": 2, "batch_size": 32, **arguments})
    assert numbers(net) == before


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation_lets_it_through(backend: str, activation: str, wrong: float) -> None:
    net = MLP((INPUTS, 20, 4, 2), activation=activation, backend=backend, seed=0)
    refused(net, targets("cross_entropy"), spoiled(LAST, wrong), LAST)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_lets_it_through(backend: str, loss: str) -> None:
    net = MLP((INPUTS, 9, 2), activation="relu", loss=loss, backend=backend, seed=0)
    net.fit(X, targets(loss), epochs=1)
    for place in ((0, 0), (17, 3), LAST):
        for wrong in (np.nan, np.inf, -np.inf):
            refused(net, targets(loss), spoiled(place, wrong), place)


@pytest.mark.parametrize(
    "optimizer",
    [
        *(SGD(), SGD(momentum=0.9), Adam(), AdamW(), RMSprop(), Adagrad(), LARS(), LAMB()),
        SGD(1e-300),
    ],
)
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_every_update_lets_it_through(backend: str, optimizer: Any, normalization: Any) -> None:
    net = MLP(
        (INPUTS, 9, 2),
        normalization=normalization,
        dropout=0.5,
        l1=0.1,
        optimizer=optimizer,
        backend=backend,
        seed=0,
    )
    for shuffle in (True, False, "permutation"):
        for batch in (1, 64, ROWS):
            rows = spoiled(LAST, np.inf)
            refused(net, targets("cross_entropy"), rows, LAST, shuffle=shuffle, batch_size=batch)


def test_a_fresh_optimizer_goes_back(backend: str, early: list[str]) -> None:
    net = MLP((INPUTS, 9, 2), optimizer=Adam(), backend=backend, seed=0)
    y = targets("cross_entropy")
    net.fit(X, y, epochs=1)
    refused(net, y, spoiled(LAST, np.nan), LAST, optimizer=SGD(0.5))
    early.clear()
    refused(net, y, spoiled(LAST, np.nan), LAST, optimizer=SGD(0.5, clip_norm=1.0))
    assert early == ["X"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"callbacks": [lambda epoch, history, net: None]},
        {"metrics": ("accuracy",)},
        {"progress": True},
        {"drop_last": True},
        {"validation_fraction": 0.2},
        {"epochs": 0},
        {"sample_weight": np.ones(ROWS)},
        {"shuffle": lambda rng, previous: previous},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_would_be_seen_or_hidden_is_searched_first(
    backend: str, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = MLP((INPUTS, 9, 2), backend=backend, seed=0)

    def forbidden(*given: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(net._engine, "run_steps", forbidden)
    refused(net, targets("cross_entropy"), spoiled(LAST, np.nan), LAST, **arguments)


def test_a_plain_fit_searches_nothing(backend: str, early: list[str]) -> None:
    net = MLP((INPUTS, 9, 2), backend=backend, seed=0)
    net.fit(X, targets("cross_entropy"), epochs=2)
    assert early == []
    net.fit(X[:-1], targets("cross_entropy")[:-1], epochs=1)
    assert early == ["X"]


def test_true_divergence_is_still_one(backend: str) -> None:
    from fastmlp import DivergenceError

    net = MLP((INPUTS, 9, 2), loss="mse", activation="relu", optimizer=SGD(1e20), backend=backend)
    with pytest.raises(DivergenceError, match="epoch 1"):
        net.fit(X, targets("mse"), epochs=1, batch_size=8)


@pytest.mark.parametrize("sizes", [(INPUTS, 4, 2), (INPUTS, 20, 2), (INPUTS, 40, 40, 19)])
@pytest.mark.parametrize("batch", [1, 8, ROWS])
@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_a_class_that_does_not_exist_is_refused(
    backend: str, sizes: tuple[int, ...], batch: int, output: str | None
) -> None:
    y = RNG.integers(0, sizes[-1], ROWS)
    net = MLP(sizes, output_activation=output, optimizer="sgd", backend=backend, seed=0)
    for place in (0, ROWS - 1):
        for wrong in (-1, sizes[-1], 16, 1 << 40, -(1 << 63)):
            labels = y.copy()
            labels[place] = wrong if wrong != 16 or sizes[-1] < 16 else 255
            before = numbers(net)
            with pytest.raises(
                ValueError, match=f"y must hold class indices .* got {labels[place]}"
            ):
                net.fit(X, labels, epochs=2, batch_size=batch)
            assert numbers(net) == before
    net.fit(X, y, epochs=1, batch_size=batch)


def test_a_generator_of_ones_own_may_leave_rows_out(backend: str) -> None:
    class Lazy(np.random.Generator):
        def permutation(self, x: Any, axis: int = 0) -> Any:
            return np.zeros(x, np.int64)

    net = MLP((INPUTS, 9, 2), backend=backend, seed=Lazy(np.random.PCG64(0)))
    y = targets("cross_entropy")
    refused(net, y, spoiled(LAST, np.nan), LAST, shuffle="permutation")
    y[-1] = 2
    with pytest.raises(ValueError, match="y must hold class indices"):
        net.fit(X, y, epochs=1, shuffle="permutation")
    assert net.steps == 0


def test_class_indices_are_not_copied_where_nobody_can_change_them_meanwhile() -> None:
    net, y = MLP((INPUTS, 9, 2), seed=0, backend="numba"), targets("cross_entropy")
    seen: list[Any] = []
    train = net._engine.run_steps

    def noting(losses: Any, data: Any, *rest: Any) -> None:
        seen.append(np.shares_memory(data.T, y))
        train(losses, data, *rest)

    net._engine.run_steps = noting  # type: ignore[method-assign]
    net.fit(X, y, epochs=1)
    net.fit(X, y, epochs=1, callbacks=[lambda epoch, history, net: None])
    net.fit(X, y.astype(np.int32), epochs=1)
    net.fit(X, np.repeat(y, 2)[::2], epochs=1)
    net.fit(X[:-1], y[:-1], epochs=1)
    assert seen[:2] == [True, True]  # a first step is timed, then comes the rest
    assert not any(seen[2:])


def test_labels_that_change_meanwhile_harm_nothing(backend: str) -> None:
    """Another thread writes what is no class while the network is trained."""
    net, y = MLP((INPUTS, 20, 2), seed=0, backend=backend), targets("cross_entropy")
    good = y.copy()
    train = net._engine.run_steps

    def spoiling(*given: Any) -> None:
        train(*given)
        y[...] = 1 << 50

    net._engine.run_steps = spoiling  # type: ignore[method-assign]
    with contextlib.suppress(ArithmeticError, ValueError):
        net.fit(X, y, epochs=3, batch_size=1)
    assert all(np.isfinite(part).all() for part in net._engine.state())
    y[...] = good
    net._engine.run_steps = train  # type: ignore[method-assign]
    net.fit(X, y, epochs=1)


@pytest.mark.parametrize(
    ("sizes", "rows"), [((2, 2, 2), 4), ((40, 20, 2), 1), ((40, 20, 2), 8)], ids=str
)
def test_an_update_that_leaves_the_finite_numbers_is_undone(
    backend: str, sizes: tuple[int, ...], rows: int
) -> None:
    """Its own loss was finite: narrow, by single rows, and by batches."""
    from fastmlp import DivergenceError

    given = 100 * RNG.normal(size=(rows, sizes[0])).astype(np.float32)
    net = MLP(sizes, "relu", optimizer=SGD(3e38), seed=1, backend=backend)
    before = numbers(net)[:-2]
    with pytest.raises(DivergenceError, match=r"epoch 1 \(loss [0-9]"):
        net.fit(given, np.arange(rows) % 2, epochs=1, batch_size=rows, shuffle=False)
    assert numbers(net)[:-2] == before

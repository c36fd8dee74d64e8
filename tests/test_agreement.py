"""Whole training runs agree across backends, whatever the optimizer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, History, kernels
from fastmlp.datasets import load_digits
from fastmlp.optimizers import WORDS

from .tolerances import assert_close

pytestmark = pytest.mark.skipif(
    kernels.available()["numba"] is not None, reason=f"numba: {kernels.available()['numba']}"
)

OPTIMIZERS = {
    **WORDS,
    "momentum_with_rate": SGD(0.01, 0.9, rate_in_velocity=True),
    "nesterov_with_rate": SGD(0.01, 0.9, nesterov=True, rate_in_velocity=True),
    "adam_epsilon_hat": Adam(epsilon_hat=True),
    "clipped": SGD(0.1, 0.9, clip_value=0.01, clip_norm=0.1),
}


def _trained(backend: str, dtype: str, **arguments: Any) -> tuple[MLP, History]:
    """A digits network after three epochs: short last batch, shuffle, held-out rows, weights."""
    X, y = load_digits(scaling="unit")
    net = MLP((64, 33, 17, 10), "tanh", dtype=dtype, backend=backend, seed=3, **arguments)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, 500)
    history = net.fit(
        X[:500], y[:500], epochs=3, batch_size=32, sample_weight=weights, validation_fraction=0.2
    )
    return net, history


def _compare(dtype: str, **arguments: Any) -> None:
    (one, first), (other, second) = (
        _trained(backend, dtype, **arguments) for backend in ("numpy", "numba")
    )
    assert_close(second.loss, first.loss, "training", dtype)
    assert_close(second.validation_loss, first.validation_loss, "training", dtype)
    for name, array in one.parameters.items():
        assert_close(other.parameters[name], array, "training", dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_the_same_way(name: str, dtype: str) -> None:
    _compare(dtype, optimizer=OPTIMIZERS[name], l2=1e-4)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalization_and_dropout_go_the_same_way(normalization: str) -> None:
    _compare("float64", normalization=normalization, dropout=0.2)


@pytest.mark.parametrize("sizes", [(40, 600, 700, 3), (5000, 60, 20, 3), (60, 5000, 70, 3)])
@pytest.mark.parametrize("activation", ["relu", "maxout"])
def test_layers_larger_than_the_cache_go_the_same_way(
    sizes: tuple[int, ...], activation: str
) -> None:
    """These have larger blocks of rows, of which the last is short."""
    from fastmlp.kernels.numba_cpu.fields import WIDE_BLOCK
    from fastmlp.kernels.numba_cpu.products import BEYOND_THE_CACHE

    assert max(a * b for a, b in pairwise(sizes)) > BEYOND_THE_CACHE
    rng = np.random.default_rng(5)
    X = rng.normal(size=(WIDE_BLOCK + 45, sizes[0]))
    y = rng.integers(0, 3, len(X))
    reference, compiled = (
        MLP(sizes, activation, dtype="float64", seed=3, backend=backend)
        for backend in ("numpy", "numba")
    )
    one, other = (net.gradients(X, y) for net in (reference, compiled))
    assert_close(other.loss, one.loss, "step", "float64")
    for name, array in one.parameters.items():
        assert_close(other.parameters[name], array, "step", "float64")
    for rows in (9, 150, WIDE_BLOCK, len(X)):
        expected = reference.predict_proba(X[:rows])
        assert_close(compiled.predict_proba(X[:rows]), expected, "step", "float64")


def test_how_rows_are_cut_into_blocks_changes_no_bit() -> None:
    """Outputs of some rows, alone and among others, by one thread and by two."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(1100, 600)).astype(np.float32)
    net = MLP((600, 500, 3), "tanh", seed=3)
    found = []
    try:
        for threads in (1, 2):
            fastmlp.set_num_threads(threads)
            parts = [net.predict_proba(part) for part in (X[:607], X[607:])]
            found += [net.predict_proba(X), np.vstack(parts)]
    finally:
        fastmlp.set_num_threads(None)
    for outputs in found[1:]:
        assert outputs.tobytes() == found[0].tobytes()


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("sizes", "rows", "batch"),
    [((600, 500, 3), 2350, 2200), ((40, 90, 60, 3), 1300, 1100), ((700, 900, 400, 3), 300, 130)],
)
def test_who_takes_which_turn_changes_no_bit(
    sizes: tuple[int, ...], rows: int, batch: int, rule: str
) -> None:
    """Rows, items or both by turns; the last batch is shared evenly."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    y = rng.integers(0, 3, rows)
    found = []
    try:
        for threads in (1, 2, 3, 3, 3):
            fastmlp.set_num_threads(threads)
            net = MLP(sizes, "gelu", seed=3, optimizer=rule, dropout=0.1, l2=1e-4)
            history = net.fit(X, y, epochs=2, batch_size=batch)
            parameters = b"".join(array.tobytes() for array in net.parameters.values())
            found.append((parameters, tuple(history.loss)))
    finally:
        fastmlp.set_num_threads(None)
    assert found == found[:1] * len(found)

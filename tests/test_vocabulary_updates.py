"""Every normalization, optimizer and dense product of every backend, by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastmlp import kernels

from .draws import (
    DTYPES,
    REFERENCE,
    UPDATE_CONSTANTS,
    Array,
    blank,
    cast,
    differences,
    sibling,
)
from .tolerances import assert_close

# Normalization


def _normalize(backend: Any, kind: str, Z: Array, scale: Array, shift: Array) -> Iterator[Array]:
    Y, hat = blank(Z.shape, Z.dtype.name), blank(Z.shape, Z.dtype.name)
    spread = blank(Z.shape[1 if kind == "batch" else 0], Z.dtype.name)
    backend.NORMALIZATIONS[kind].forward(Y, hat, spread, Z, scale, shift)
    yield from (Y, hat, spread)


def _denormalize(
    backend: Any, kind: str, dY: Array, hat: Array, spread: Array, scale: Array
) -> tuple[Array, Array, Array]:
    dZ = blank(dY.shape, dY.dtype.name)
    dscale, dshift = blank(scale.shape, dY.dtype.name), blank(scale.shape, dY.dtype.name)
    backend.NORMALIZATIONS[kind].backward(dZ, dscale, dshift, dY, hat, spread, scale)
    return dZ, dscale, dshift


@pytest.mark.parametrize("kind", REFERENCE.NORMALIZATIONS)
def test_normalization_derivatives(kind: str, backend: str, rng: np.random.Generator) -> None:
    loaded = kernels.load(backend)
    Z, dY = rng.normal(1, 2, (2, 6, 4))
    scale, shift = rng.normal(size=(2, 4))
    _, hat, spread = _normalize(loaded, kind, Z, scale, shift)

    def total() -> float:
        return float((dY * next(_normalize(loaded, kind, Z, scale, shift))).sum())

    found = _denormalize(loaded, kind, dY, hat, spread, scale)
    for slope, x in zip(found, (Z, scale, shift), strict=True):
        assert_close(slope, differences(total, x), "difference")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", REFERENCE.NORMALIZATIONS)
def test_normalizations_equal_the_reference(
    kind: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    for shape in ((1, 5), (37, 13), (8, 70)):
        arrays = (rng.normal(1, 2, shape), *rng.normal(size=(2, shape[1])), rng.normal(size=shape))
        arrays = cast(arrays, "float32")
        results = []
        for b, precision in ((REFERENCE, "float64"), (kernels.load(backend), dtype)):
            Z, scale, shift, dY = cast(arrays, precision)
            Y, hat, spread = _normalize(b, kind, Z, scale, shift)
            results.append((Y, hat, spread, *_denormalize(b, kind, dY, hat, spread, scale)))
        for wanted, found in zip(*results, strict=True):
            assert_close(found, wanted, "step", dtype)


@pytest.mark.parametrize("kind", REFERENCE.NORMALIZATIONS)
def test_normalized_numbers_have_mean_0_and_variance_1(
    kind: str, backend: str, rng: np.random.Generator
) -> None:
    Z = rng.normal(3, 50, (40, 30))
    _, hat, _ = _normalize(kernels.load(backend), kind, Z, np.ones(30), np.zeros(30))
    axis = 0 if kind == "batch" else 1
    np.testing.assert_allclose(hat.mean(axis=axis), 0, atol=1e-12)
    np.testing.assert_allclose(hat.var(axis=axis), 1, atol=1e-7)


# Updates


def _run_updates(
    backend: Any, name: str, gradients: Array, p: Array, constants: tuple[float, ...]
) -> Array:
    """Apply one update per row of gradients; give the parameters after each, then the slots."""
    rule = backend.UPDATES[name]
    slots = np.zeros((rule.slots, p.size), p.dtype)
    path = []
    for step, g in enumerate(gradients, start=1):
        rule.apply(p, slots, g, 0.1, step, constants)
        path.append(p.copy())
    return np.array([*path, *slots])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.UPDATES)
def test_updates_equal_the_reference(
    name: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    constants = UPDATE_CONSTANTS[name]
    for size in (1, 7, 300):
        draws = cast((rng.normal(size=(6, size)), rng.normal(size=size)), "float32")
        wide, own = cast(draws, "float64"), cast(draws, dtype)
        kept = own[0].copy()
        found = _run_updates(kernels.load(backend), name, *own, constants)
        wanted = _run_updates(REFERENCE, name, *wide, constants)
        # Apart, because a second moment is a thousand times smaller than a parameter.
        for part in (slice(6), *range(6, len(wanted))):
            assert_close(found[part], wanted[part], "product", dtype)
        np.testing.assert_array_equal(own[0], kept)


@pytest.mark.parametrize("name", REFERENCE.UPDATES)
def test_updates_go_down_a_bowl(name: str, backend: str) -> None:
    rule, p = kernels.load(backend).UPDATES[name], np.array([1.0, -2.0, 0.5])
    slots = np.zeros((rule.slots, 3))
    for step in range(1, 501):
        rule.apply(p, slots, 2 * p, 0.02, step, UPDATE_CONSTANTS[name])
    assert np.abs(p).max() < (1.5 if name == "adagrad" else 0.05)


@pytest.mark.parametrize("name", REFERENCE.UPDATES)
def test_nan_in_a_gradient_shows(name: str, backend: str) -> None:
    p = _run_updates(
        kernels.load(backend), name, np.array([[1.0, np.nan]]), np.ones(2), UPDATE_CONSTANTS[name]
    )[0]
    assert np.isfinite(p[0])
    assert np.isnan(p[1])


def _by_hand(name: str, g: Array) -> Array:
    """Give the way of the parameters by the formula unrolled, for rate 0.1."""
    steps = np.arange(1, len(g) + 1)[:, None]
    powers = steps - steps.T
    past = np.where(powers >= 0, 1.0, 0.0)

    def decayed(b: float, x: Array) -> Array:
        return (past * np.float_power(b, np.maximum(powers, 0))) @ x

    moves: dict[str, Callable[[], Array]] = {
        "sgd": lambda: g,
        "momentum": lambda: decayed(0.9, g),
        "nesterov": lambda: g + 0.9 * decayed(0.9, g),
        "adam": lambda: (
            (0.1 * decayed(0.9, g) / (1 - 0.9**steps))
            / (np.sqrt(0.001 * decayed(0.999, g * g) / (1 - 0.999**steps)) + 1e-8)
        ),
        "rmsprop": lambda: g / (np.sqrt(0.01 * decayed(0.99, g * g)) + 1e-8),
        "adagrad": lambda: g / (np.sqrt(past @ (g * g)) + 1e-10),
    }
    return -0.1 * past @ moves[name]()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"])
def test_updates_by_hand(name: str, backend: str, rng: np.random.Generator) -> None:
    g = rng.normal(size=(8, 5))
    found = _run_updates(kernels.load(backend), name, g, np.zeros(5), UPDATE_CONSTANTS[name])
    assert_close(found[:8], _by_hand(name, g), "formula")


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_the_place_of_the_rate_is_the_same_to_a_constant_rate(
    name: str, backend: str, rng: np.random.Generator
) -> None:
    g, loaded = rng.normal(size=(8, 5)), kernels.load(backend)
    one, other = (
        _run_updates(loaded, n, g, np.zeros(5), (0.9,))[:8] for n in (name, f"{name}_with_rate")
    )
    assert_close(one, other, "formula")


def test_adams_agree_without_epsilon(backend: str, rng: np.random.Generator) -> None:
    g, loaded = rng.normal(size=(8, 5)), kernels.load(backend)
    adam = _run_updates(loaded, "adam", g, np.ones(5), (0.9, 0.999, 0.0))
    hat = _run_updates(loaded, "adam_epsilon_hat", g, np.ones(5), (0.9, 0.999, 0.0))
    undecayed = _run_updates(loaded, "adamw", g, np.ones(5), (0.9, 0.999, 0.0, 0.0))
    assert_close(hat, adam, "formula")
    np.testing.assert_array_equal(undecayed, adam)


def test_adamw_decays_before_it_steps(backend: str) -> None:
    p = _run_updates(
        kernels.load(backend), "adamw", np.zeros((3, 1)), np.ones(1), (0.9, 0.999, 1e-8, 0.5)
    )[:3]
    assert_close(p[:, 0], 0.95 ** np.arange(1, 4), "formula")


@pytest.mark.parametrize("name", ["momentum_with_rate", "nesterov_with_rate", "adam_epsilon_hat"])
def test_updates_equal_scikit_learn(name: str, backend: str, rng: np.random.Generator) -> None:
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    g, p = rng.normal(size=(8, 5)), np.zeros(5)
    if name == "adam_epsilon_hat":
        theirs = optimizers.AdamOptimizer([p], 0.1)
    else:
        theirs = optimizers.SGDOptimizer([p], 0.1, nesterov=name.startswith("nesterov"))
    for row in g:
        theirs.update_params([p], [row])
    found = _run_updates(kernels.load(backend), name, g, np.zeros(5), UPDATE_CONSTANTS[name])
    assert_close(found[7], p, "formula")


# Products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (37, 5, 13), (64, 300, 10), (0, 4, 3), (3, 2, 65), (209, 9, 25), (640, 3, 17)],
)
def test_products(
    shape: tuple[int, int, int], dtype: str, backend: str, rng: np.random.Generator
) -> None:
    rows, inputs, outputs = shape
    products = sibling(backend, "products")
    X, W, b, dZ = (
        rng.normal(size=s).astype(dtype)
        for s in ((rows, inputs), (inputs, outputs), outputs, (rows, outputs))
    )
    wide = {"X": X, "W": W, "b": b, "dZ": dZ}
    wide = {name: array.astype(np.float64) for name, array in wide.items()}
    Z, dW, dX, db = (blank(a.shape, dtype) for a in (dZ, W, X, b))
    products.affine(Z, X, W, b)
    products.weight_gradient(dW, X, dZ)
    products.input_gradient(dX, dZ, W)
    products.bias_gradient(db, dZ)
    assert_close(Z, wide["X"] @ wide["W"] + wide["b"], "product", dtype)
    assert_close(dW, wide["X"].T @ wide["dZ"], "product", dtype)
    assert_close(dX, wide["dZ"] @ wide["W"].T, "product", dtype)
    assert_close(db, wide["dZ"].sum(axis=0), "product", dtype)

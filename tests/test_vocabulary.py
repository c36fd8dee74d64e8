"""Every activation and every loss of every backend, by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.kernels.layout import LEARNED
from fastmlp.kernels.reference import DOMAINS, LINKS, TARGETS

from .draws import (
    DTYPES,
    PAIRS,
    REFERENCE,
    TRAINABLE,
    Array,
    assert_untouched,
    blank,
    cast,
    constant_of,
    differences,
    inputs,
    learned_of,
    pieces_of,
    targets,
)
from .tolerances import assert_close


def _forward(backend: Any, name: str, Z: Array, learned: tuple[Array, ...] = ()) -> Array:
    A = blank((len(Z), Z.shape[1] // pieces_of(name)), Z.dtype.name)
    backend.ACTIVATIONS[name].forward(A, Z, learned, constant_of(name))
    return A


def _backward(
    backend: Any, name: str, dA: Array, Z: Array, A: Array, learned: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...]]:
    dZ = blank(Z.shape, Z.dtype.name)
    dlearned = tuple(blank(p.shape, Z.dtype.name) for p in learned)
    backend.ACTIVATIONS[name].backward(dZ, dlearned, dA, Z, A, learned, constant_of(name))
    return dZ, dlearned


def _value(backend: Any, loss: str, A: Array, T: Array) -> Array:
    losses = blank(len(A), A.dtype.name)
    backend.LOSSES[loss].value(losses, A, T, constant_of(loss))
    return losses


def _gradient(backend: Any, loss: str, A: Array, T: Array) -> Array:
    dA = blank(A.shape, A.dtype.name)
    backend.LOSSES[loss].gradient(dA, A, T, constant_of(loss))
    return dA


def _logit(backend: Any, pair: tuple[str, str], Z: Array, T: Array) -> tuple[Array, Array]:
    losses, dZ = blank(len(Z), Z.dtype.name), blank(Z.shape, Z.dtype.name)
    backend.LOGIT_LOSSES[pair].value(losses, Z, T)
    backend.LOGIT_LOSSES[pair].gradient(dZ, Z, T)
    return losses, dZ


# Activations


@pytest.mark.parametrize("name", TRAINABLE)
def test_activation_derivatives(name: str, backend: str, rng: np.random.Generator) -> None:
    loaded = kernels.load(backend)
    Z, learned = cast((inputs(rng, name, 5, 3), learned_of(rng, name, 3)), "float64")
    dA = rng.normal(size=(5, 3))
    dZ, dlearned = _backward(loaded, name, dA, Z, _forward(loaded, name, Z, learned), learned)

    def total() -> float:
        return float((dA * _forward(loaded, name, Z, learned)).sum())

    assert_close(dZ, differences(total, Z), "difference")
    for found, parameter in zip(dlearned, learned, strict=True):
        assert_close(found, differences(total, parameter), "difference")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.ACTIVATIONS)
def test_activations_equal_the_reference(
    name: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    loaded = kernels.load(backend)
    for rows, units in ((1, 1), (37, 13), (3, 70)):
        Z, learned = inputs(rng, name, rows, units), learned_of(rng, name, units)
        dA = rng.normal(size=(rows, units)).astype(np.float32)
        wide = cast((Z, learned, dA), "float64")
        own = cast((Z, learned, dA), dtype)
        kept = cast(own, dtype)
        wanted = _forward(REFERENCE, name, wide[0], wide[1])
        A = _forward(loaded, name, own[0], own[1])
        assert_close(A, wanted, "kernel", dtype)
        if name in TRAINABLE:
            dZ, dlearned = _backward(loaded, name, own[2], own[0], A, own[1])
            wanted_dZ, wanted_dlearned = _backward(
                REFERENCE, name, wide[2], wide[0], wanted, wide[1]
            )
            assert_close(dZ, wanted_dZ, "kernel", dtype)
            for found, right in zip(dlearned, wanted_dlearned, strict=True):
                assert_close(found, right, "product", dtype)
        assert_untouched(own, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.ACTIVATIONS)
def test_activations_of_extreme_inputs(name: str, dtype: str, backend: str) -> None:
    """Huge inputs give what the reference gives; infinite ones too, where it has a limit."""
    values = [0.0, -0.0, 1e-30, -1e-30, 80, -80, 1e4, -1e4, 1e10, -1e10, np.inf, -np.inf]
    Z = np.repeat(np.array(values, dtype)[:, None], pieces_of(name), axis=1)
    learned = tuple(np.full(1, 0.7, dtype) for _ in LEARNED.get(name, ()))
    # exp is meant to overflow; inf - inf in softmax has no value.
    with np.errstate(over="ignore", invalid="ignore"):
        found = _forward(kernels.load(backend), name, Z, learned)
        wanted = _forward(REFERENCE, name, Z, learned)
    assert not np.isnan(found[:-2]).any()
    limits = ~np.isnan(wanted)
    assert_close(found[limits], wanted[limits], "kernel", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRAINABLE)
def test_derivatives_at_extreme_inputs(name: str, dtype: str, backend: str) -> None:
    values = [0.0, -0.0, 60, -60, 1e4, -1e4, 1e10, -1e10]
    Z = np.repeat(np.array(values, dtype)[:, None], pieces_of(name), axis=1)
    learned = tuple(np.full(1, 0.7, dtype) for _ in LEARNED.get(name, ()))
    dA = np.ones((len(values), 1), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        A = _forward(REFERENCE, name, Z, learned)
        found, _ = _backward(kernels.load(backend), name, dA, Z, A, learned)
        wanted, _ = _backward(REFERENCE, name, dA, Z, A, learned)
    assert not np.isnan(found).any()
    assert_close(found, wanted, "kernel", dtype)


KINKS = {"relu": 0.0, "leaky_relu": 0.01, "prelu": 0.5, "elu": 1.0, "mpelu": 0.25}
KINKS["selu"] = 1.0507009873554805 * 1.6732632423543772


@pytest.mark.parametrize("name", KINKS)
def test_derivative_at_the_kink(name: str, backend: str) -> None:
    Z = np.array([[0.0], [-0.0]])
    learned = tuple(np.full(1, 0.5) for _ in LEARNED.get(name, ()))
    loaded = kernels.load(backend)
    dZ, _ = _backward(loaded, name, np.ones((2, 1)), Z, _forward(loaded, name, Z, learned), learned)
    assert_close(dZ, np.full((2, 1), KINKS[name]), "kernel")


def test_maxout_gives_a_tie_to_the_first_piece(backend: str) -> None:
    Z = np.array([[2.0, 1.0, 2.0, 3.0]])
    dZ, _ = _backward(
        kernels.load(backend), "maxout", np.array([[5.0, 7.0]]), Z, np.array([[2.0, 3.0]]), ()
    )
    np.testing.assert_array_equal(dZ, [[5.0, 0.0, 0.0, 7.0]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE.ACTIVATIONS)
def test_nan_stays_nan(name: str, dtype: str, backend: str, rng: np.random.Generator) -> None:
    Z = inputs(rng, name, 9, 5).astype(dtype)
    learned = cast(learned_of(rng, name, 5), dtype)
    Z[[0, 3, 8], [0, 2, 4]] = np.nan
    found = np.isnan(_forward(kernels.load(backend), name, Z, learned))
    wanted = np.isnan(Z)[:, :5] | np.isnan(Z)[:, -5:]
    if name == "softmax":
        wanted[:] = wanted.any(axis=1, keepdims=True)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", REFERENCE.ACTIVATIONS)
def test_activations_of_no_rows(name: str, backend: str, rng: np.random.Generator) -> None:
    loaded = kernels.load(backend)
    Z, learned = inputs(rng, name, 0, 4).astype(float), cast(learned_of(rng, name, 4), "float64")
    A = _forward(loaded, name, Z, learned)
    assert A.shape == (0, 4)
    if name in TRAINABLE:
        dZ, dlearned = _backward(loaded, name, A, Z, A, learned)
        assert dZ.shape == Z.shape
        assert all((d == 0).all() for d in dlearned)


def test_softmax_of_the_chapter(backend: str) -> None:
    A = _forward(kernels.load(backend), "softmax", np.array([[3.0, 1.0, -3.0]]))
    np.testing.assert_allclose(A[0], [0.878878242732, 0.118943235911, 0.002178521357], atol=1e-12)


# Losses


def _trained_outputs(rng: np.random.Generator, activation: str, rows: int, units: int) -> Array:
    Z, learned = cast(
        (inputs(rng, activation, rows, units), learned_of(rng, activation, units)), "float64"
    )
    return _forward(REFERENCE, activation, Z, learned)


@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_loss_derivatives_by_logits(
    loss: str, activation: str, backend: str, rng: np.random.Generator
) -> None:
    """Each loss with each output activation that it is defined for, through the chain rule."""
    loaded = kernels.load(backend)
    Z, learned = cast((inputs(rng, activation, 4, 3), learned_of(rng, activation, 3)), "float64")
    T = targets(rng, loss, 4, 3)
    A = _forward(loaded, activation, Z, learned)
    dZ, dlearned = _backward(loaded, activation, _gradient(loaded, loss, A, T), Z, A, learned)

    def total() -> float:
        return float(_value(loaded, loss, _forward(loaded, activation, Z, learned), T).sum())

    assert_close(dZ, differences(total, Z), "difference")
    for found, parameter in zip(dlearned, learned, strict=True):
        assert_close(found, differences(total, parameter), "difference")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_losses_equal_the_reference(
    loss: str, dtype: str, backend: str, rng: np.random.Generator
) -> None:
    loaded = kernels.load(backend)
    for rows, units in ((1, 1), (37, 13), (3, 70)):
        A = _trained_outputs(rng, LINKS[loss], rows, units).astype(np.float32)
        if DOMAINS[loss] == "unit":
            A = A.clip(0.01, 0.99)
        T = targets(rng, loss, rows, units).astype(np.float32)
        wide, own = cast((A, T), "float64"), cast((A, T), dtype)
        kept = cast(own, dtype)
        assert_close(_value(loaded, loss, *own), _value(REFERENCE, loss, *wide), "product", dtype)
        assert_close(
            _gradient(loaded, loss, *own), _gradient(REFERENCE, loss, *wide), "kernel", dtype
        )
        assert_untouched(own, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", REFERENCE.LOGIT_LOSSES)
def test_logit_losses_equal_the_chain_rule(
    pair: tuple[str, str], dtype: str, backend: str, rng: np.random.Generator
) -> None:
    loss, activation = pair
    for rows, units in ((1, 2), (37, 13), (3, 70)):
        Z = inputs(rng, activation, rows, units)
        T = targets(rng, loss, rows, units)  # rows of probabilities sum to 1 in float64
        wide, own = cast((Z, T), "float64"), cast((Z, T), dtype)
        kept = cast(own, dtype)
        A = _forward(REFERENCE, activation, wide[0])
        chained, _ = _backward(
            REFERENCE, activation, _gradient(REFERENCE, loss, A, wide[1]), wide[0], A, ()
        )
        losses, dZ = _logit(kernels.load(backend), pair, *own)
        assert_close(losses, _value(REFERENCE, loss, A, wide[1]), "product", dtype)
        assert_close(dZ, chained, "product", dtype)
        assert_untouched(own, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", REFERENCE.LOGIT_LOSSES)
def test_logit_losses_stay_finite(pair: tuple[str, str], dtype: str, backend: str) -> None:
    Z = np.array([[1e4, -1e4], [-1e4, 1e4], [0.0, 1e4], [60.0, -60.0]], dtype)
    T = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype)
    if pair[1] == "exp":
        Z = np.minimum(Z, 60)
    losses, dZ = _logit(kernels.load(backend), pair, Z, T)
    wanted, wanted_dZ = _logit(REFERENCE, pair, Z, T)
    assert np.isfinite(losses).all()
    assert np.isfinite(dZ).all()
    assert_close(losses, wanted, "kernel", dtype)
    assert_close(dZ, wanted_dZ, "kernel", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_losses_at_the_ends_of_their_domain(loss: str, dtype: str, backend: str) -> None:
    ends = {"unit": [0.0, 1.0], "positive": [0.0, 1e4], "real": [-1e4, 1e4]}[DOMAINS[loss]]
    T = {"classes": [1, 0], "binary": [1, 0], "margin": [1, -1], "counts": [3, 0], "real": [1, 2]}
    A = np.array([ends, ends[::-1]], dtype)
    targets = np.array([T[TARGETS[loss]]] * 2, dtype)
    with np.errstate(over="ignore"):  # exp(1e4)
        found, wanted = (
            (_value(b, loss, A, targets), _gradient(b, loss, A, targets))
            for b in (kernels.load(backend), REFERENCE)
        )
    assert loss == "exponential" or np.isfinite(found[0]).all()
    assert_close(found[0], wanted[0], "kernel", dtype)
    assert_close(found[1], wanted[1], "kernel", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_losses_of_nan(loss: str, dtype: str, backend: str, rng: np.random.Generator) -> None:
    loaded = kernels.load(backend)
    A = _trained_outputs(rng, LINKS[loss], 5, 3).astype(dtype)
    T = targets(rng, loss, 5, 3).astype(dtype)
    A[1, 2] = A[4, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(_value(loaded, loss, A, T)), np.isnan(A).any(axis=1))
    np.testing.assert_array_equal(np.isnan(_gradient(loaded, loss, A, T)), np.isnan(A))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", REFERENCE.LOGIT_LOSSES)
def test_logit_losses_of_nan(
    pair: tuple[str, str], dtype: str, backend: str, rng: np.random.Generator
) -> None:
    Z = inputs(rng, pair[1], 5, 3).astype(dtype)
    T = targets(rng, pair[0], 5, 3).astype(dtype)
    Z[1, 2] = Z[4, 0] = np.nan
    losses, dZ = _logit(kernels.load(backend), pair, Z, T)
    rows = np.isnan(Z).any(axis=1)
    np.testing.assert_array_equal(np.isnan(losses), rows)
    assert np.isnan(dZ[np.isnan(Z)]).all()
    assert not np.isnan(dZ[~rows]).any()


@pytest.mark.parametrize("loss", REFERENCE.LOSSES)
def test_losses_of_no_rows(loss: str, backend: str) -> None:
    A = np.empty((0, 3))
    assert _value(kernels.load(backend), loss, A, A).shape == (0,)
    assert _gradient(kernels.load(backend), loss, A, A).shape == (0, 3)


CHAPTER = {
    "hinge": 0.7,
    "exponential": 0.740818220682,
    "squared_error": 0.49,
    "absolute_error": 0.7,
    "mean_absolute_error": 0.7,
    "half_squared_error": 0.245,
    "squared_hinge": 0.49,
    "perceptron": 0.0,
    "huber": 0.245,
    "quantile": 0.35,
}


@pytest.mark.parametrize("loss", CHAPTER)
def test_losses_of_the_chapter(loss: str, backend: str) -> None:
    """y = +1, f = 0.3."""
    found = _value(kernels.load(backend), loss, np.array([[0.3]]), np.array([[1.0]]))
    np.testing.assert_allclose(found, [CHAPTER[loss]], rtol=1e-11)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_log_loss_of_the_chapter(loss: str, backend: str) -> None:
    found = _value(kernels.load(backend), loss, np.array([[0.88]]), np.array([[1.0]]))
    np.testing.assert_allclose(found, [0.127833371510], rtol=1e-11)


KNEES = [  # loss, A, T, dA
    ("absolute_error", 2.0, 2.0, 0.0),
    ("mean_absolute_error", 2.0, 2.0, 0.0),
    ("quantile", 2.0, 2.0, 0.0),
    ("hinge", 1.0, 1.0, 0.0),
    ("hinge", -1.0, -1.0, 0.0),
    ("perceptron", 0.0, 1.0, -1.0),
    ("perceptron", 0.0, -1.0, 1.0),
]


@pytest.mark.parametrize(("loss", "a", "t", "wanted"), KNEES)
def test_loss_derivative_at_a_kink(
    loss: str, a: float, t: float, wanted: float, backend: str
) -> None:
    found = _gradient(kernels.load(backend), loss, np.array([[a]]), np.array([[t]]))
    np.testing.assert_array_equal(found, [[wanted]])

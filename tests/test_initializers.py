"""Initial weights: what is drawn, in which order, and from which generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Normal, PReLU, TruncatedNormal, Uniform
from fastmlp.initializers import AUTO, WORDS
from fastmlp.kernels.reference import ACTIVATIONS, PROPERTIES

I, O = 300, 200

UNIFORM = {
    "glorot_uniform": np.sqrt(6 / (I + O)),
    "he_uniform": np.sqrt(6 / I),
    "lecun_uniform": np.sqrt(3 / I),
}
NORMAL = {
    "glorot_normal": np.sqrt(2 / (I + O)),
    "he_normal": np.sqrt(2 / I),
    "lecun_normal": np.sqrt(1 / I),
}


def _net(**arguments: Any) -> MLP:
    chosen = {"dtype": "float64", "backend": "numpy", "loss": "mse", "seed": 3, **arguments}
    return MLP((I, O), **chosen)


def test_every_word_is_tested() -> None:
    assert {*UNIFORM, *NORMAL, "auto", "zeros"} == set(WORDS)


@pytest.mark.parametrize("word", UNIFORM)
def test_uniform_bounds(word: str) -> None:
    weights = _net(init=word).weights[0]
    bound = UNIFORM[word]
    assert 0.99 * bound < np.abs(weights).max() <= bound
    np.testing.assert_array_equal(weights, np.random.default_rng(3).uniform(-bound, bound, (I, O)))


@pytest.mark.parametrize("word", NORMAL)
def test_normal_deviations(word: str) -> None:
    weights = _net(init=word).weights[0]
    assert weights.std() == pytest.approx(NORMAL[word], rel=0.02)
    assert abs(weights.mean()) < 4 * NORMAL[word] / np.sqrt(I * O)
    np.testing.assert_array_equal(weights, np.random.default_rng(3).normal(0, NORMAL[word], (I, O)))


@pytest.mark.parametrize("word", WORDS)
def test_biases_start_at_zero(word: str) -> None:
    assert not _net(init=word).biases[0].any()


def test_zeros() -> None:
    assert not _net(init="zeros").weights[0].any()


def test_auto_knows_every_activation() -> None:
    assert set(AUTO) == set(ACTIVATIONS)
    assert set(AUTO.values()) <= set(WORDS)


@pytest.mark.parametrize(
    ("activation", "word"),
    [("relu", "he_normal"), ("mpelu", "he_normal"), ("selu", "lecun_normal")]
    + [("tanh", "glorot_uniform"), ("sigmoid", "glorot_uniform")],
)
def test_auto_goes_by_the_layers_activation(activation: str, word: str) -> None:
    auto = MLP((5, 7, 2), activation, backend="numpy", seed=0)
    named = MLP((5, 7, 2), activation, backend="numpy", seed=0, init=word)
    np.testing.assert_array_equal(auto.weights[0], named.weights[0])


def test_maxout_counts_all_pieces() -> None:
    net = MLP((5, 4, 2), "maxout", init="glorot_uniform", dtype="float64", backend="numpy", seed=1)
    bound = np.sqrt(6 / (5 + 8))
    np.testing.assert_array_equal(
        net.weights[0], np.random.default_rng(1).uniform(-bound, bound, (5, 8))
    )


# The stream of random numbers


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_normal_is_the_generators_own(make: Any) -> None:
    net = MLP((6, 5, 3), init=Normal(0.1), dtype="float64", backend="numpy", seed=make(1))
    rng = make(1)
    for weights, biases in zip(net.weights, net.biases, strict=True):
        np.testing.assert_array_equal(weights, rng.normal(0, 0.1, weights.shape))
        assert not biases.any()


def test_an_int_means_default_rng() -> None:
    given = MLP((6, 5, 3), backend="numpy", seed=np.random.default_rng(7))
    for weights, wanted in zip(
        MLP((6, 5, 3), backend="numpy", seed=7).weights, given.weights, strict=True
    ):
        np.testing.assert_array_equal(weights, wanted)


def test_a_generator_is_used_itself() -> None:
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    MLP((4, 3, 2), init=Normal(1.0), backend="numpy", seed=rng)
    twin.normal(0, 1.0, (4, 3))
    twin.normal(0, 1.0, (3, 2))
    assert rng.random() == twin.random()


def test_only_dropout_draws_a_key() -> None:
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    MLP((4, 3, 2), init=Normal(1.0), dropout=0.5, backend="numpy", seed=rng)
    twin.normal(0, 1.0, (4, 3))
    twin.normal(0, 1.0, (3, 2))
    twin.bytes(8)
    assert rng.random() == twin.random()


def test_without_hidden_layers_dropout_draws_nothing() -> None:
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    MLP((4, 2), init="zeros", dropout=0.5, backend="numpy", seed=rng)
    twin.uniform(0, 0, (4, 2))
    assert rng.random() == twin.random()


def test_weights_are_drawn_in_float64_and_converted(backend: str) -> None:
    wide = MLP((9, 8, 7), dtype="float64", backend=backend, seed=2)
    narrow = MLP((9, 8, 7), dtype="float32", backend=backend, seed=2)
    for w, n in zip(wide.weights, narrow.weights, strict=True):
        np.testing.assert_array_equal(w.astype(np.float32), n)


def test_weights_come_before_biases() -> None:
    class Both:
        def draw(self, rng: Any, inputs: int, outputs: int, activation: str) -> Any:
            return rng.random((inputs, outputs)), rng.random(outputs)

    net = MLP((3, 4, 2), init=Both(), dtype="float64", backend="numpy", seed=9)
    rng = np.random.default_rng(9)
    for weights, biases in zip(net.weights, net.biases, strict=True):
        np.testing.assert_array_equal(weights, rng.random(weights.shape))
        np.testing.assert_array_equal(biases, rng.random(biases.shape))


# Objects


def test_truncated_normal_is_cut_at_two_deviations() -> None:
    weights = _net(init=TruncatedNormal(0.5)).weights[0]
    assert np.abs(weights).max() <= 1.0
    # A normal distribution cut at 2 has 0.8796 of its standard deviation.
    assert weights.std() == pytest.approx(0.8796 * 0.5, rel=0.01)


def test_truncated_normal_keeps_what_lies_inside() -> None:
    raw = np.random.default_rng(3).normal(0, 1, (I, O))
    weights = _net(init=TruncatedNormal(1.0)).weights[0]
    inside = np.abs(raw) <= 2
    np.testing.assert_array_equal(weights[inside], raw[inside])
    assert (weights[~inside] != raw[~inside]).all()


def test_uniform() -> None:
    weights = _net(init=Uniform(0.25)).weights[0]
    assert 0.249 < np.abs(weights).max() <= 0.25


@pytest.mark.parametrize("kind", [Normal, TruncatedNormal, Uniform])
def test_no_spread_is_zero(kind: Any) -> None:
    assert not _net(init=kind(0)).weights[0].any()


@pytest.mark.parametrize("kind", [Normal, TruncatedNormal, Uniform])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_bad_numbers_are_refused(kind: Any, value: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number >= 0"):
        kind(value)


@pytest.mark.parametrize("value", ["0.1", None, True, [0.1]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="std must be a number"):
        Normal(value)


@pytest.mark.parametrize("init", [0.1, None, Normal, ["zeros"]])
def test_what_is_no_initializer_is_refused(init: Any) -> None:
    with pytest.raises(TypeError, match="init"):
        _net(init=init)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match=r"init must be one of auto, .*got 'xavier'"):
        _net(init="xavier")


@pytest.mark.parametrize(
    ("drawn", "error", "match"),
    [
        ((np.zeros((O, I)), np.zeros(O)), ValueError, "must return shapes"),
        ((np.zeros((I, O)), np.zeros((O, 1))), ValueError, "must return shapes"),
        ((np.full((I, O), np.nan), np.zeros(O)), ValueError, "finite"),
        ((np.full((I, O), "a"), np.zeros(O)), TypeError, "real numbers"),
        ((np.zeros((I, O)),), TypeError, r"\(weights, biases\)"),
        (None, TypeError, r"\(weights, biases\)"),
    ],
)
def test_what_an_initializer_of_ones_own_returns_is_checked(
    drawn: Any, error: type[Exception], match: str
) -> None:
    class Own:
        def draw(self, rng: Any, inputs: int, outputs: int, activation: str) -> Any:
            return drawn

    with pytest.raises(error, match=match):
        _net(init=Own())


def test_too_large_for_float32() -> None:
    with pytest.raises(ValueError, match="float32"):
        _net(init=Normal(1e60), dtype="float32")


# What is not drawn


def test_learned_numbers_start_where_they_are_told() -> None:
    net = MLP((3, 4, 2), PReLU(0.1), normalization="batch", backend="numpy", seed=0)
    assert (net.parameters["slope.0"] == np.float32(0.1)).all()
    assert (net.parameters["scale.0"] == 1).all()
    assert not net.parameters["shift.0"].any()


@pytest.mark.parametrize("activation", [n for n in PROPERTIES if not PROPERTIES[n].output_only])
def test_every_hidden_activation_has_a_network(activation: str, backend: str) -> None:
    net = MLP((3, 4, 2), activation, backend=backend, seed=0)
    assert np.isfinite(net.forward(np.ones((5, 3)))).all()


# Seeds


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, [1], np.random.SeedSequence(1)])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seed must be"):
        MLP((2, 2), backend="numpy", seed=seed)


@pytest.mark.parametrize("seed", [0, np.int32(4), 2**100, None])
def test_good_seeds(seed: Any) -> None:
    one, other = (MLP((2, 2), backend="numpy", seed=seed).weights[0] for _ in range(2))
    assert np.array_equal(one, other) == (seed is not None)

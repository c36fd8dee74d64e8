"""Tiny networks and single rows are trained by kernels of their own, to the bits of the others."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.kernels.contract import Array, Data, Layer, Network, Order, State, Update
from fastmlp.kernels.layout import length, parameter_segments

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

import itertools

from fastmlp.kernels.numba_cpu import steps

BACKEND = kernels.load("numba")

CONSTANTS = {
    "sgd": (),
    "momentum": (0.9,),
    "momentum_with_rate": (0.9,),
    "nesterov": (0.9,),
    "nesterov_with_rate": (0.9,),
    "adam": (0.9, 0.99, 1e-8),
    "adam_epsilon_hat": (0.9, 0.99, 1e-8),
    "rmsprop": (0.9, 1e-8),
    "adagrad": (1e-8,),
}
ACTIVATIONS = sorted(set(BACKEND.ACTIVATIONS) - {"softmax", "maxout", "step", "prelu", "mpelu"})
MARGINS = {"hinge", "squared_hinge", "exponential", "perceptron"}


class _Problem:
    """Rows, targets and a start for a network; odd counts, so that the last batch is short."""

    def __init__(self, rng: np.random.Generator, network: Network, dtype: str, rows: int = 131):
        inputs, units = network.layers[0].inputs, network.layers[-1].units
        self.X = rng.normal(size=(rows, inputs)).astype(dtype)
        self.T = rng.integers(0, units, rows)
        if network.loss != "cross_entropy":
            low = -1 if network.loss in MARGINS else 0
            self.T = rng.choice([low, 1], (rows, units)).astype(dtype)
        self.start = (rng.normal(size=length(parameter_segments(network))) * 0.2).astype(dtype)
        self.network, self.dtype = network, dtype
        self.listed = rng.permutation(rows)

    def train(self, rule: Update, batch: int, kind: str, shortcuts: bool) -> tuple[Array, ...]:
        """Losses and numbers after two epochs, each in two calls."""
        plan = BACKEND.make_plan(self.network, rule, self.dtype)
        if not shortcuts:
            plan.narrow = plan.online = False
        slots = np.zeros((BACKEND.UPDATES[rule.name].slots, self.start.size), self.dtype)
        state = State(self.start.copy(), slots, np.zeros(0, self.dtype))
        plan.load(state)
        count = -(-len(self.X) // batch)
        losses, total, made = np.zeros((2, count)), np.zeros(1), 0
        for epoch in range(2):
            order = Order(kind, 77 + epoch, self.listed if kind == "array" else None)
            half = count // 2
            for first, stop in ((0, half), (half, count)):
                made += BACKEND.train_steps(
                    plan,
                    losses[epoch, first:stop],
                    Data(self.X, self.T, None),
                    order,
                    batch,
                    first,
                    stop - first,
                    np.full(stop - first, 0.01),
                    made,
                    11,
                    total,
                )
        np.testing.assert_array_equal(total, np.cumsum(losses)[-1:])
        plan.store(state)
        out = np.empty((len(self.X), self.network.layers[-1].units), self.dtype)
        BACKEND.forward(plan, out, self.X, False)
        return (state.parameters, state.slots, losses, out)

    def compare(self, rule: Update, batch: int, kind: str = "keyed") -> None:
        fast, panels = (self.train(rule, batch, kind, way) for way in (True, False))
        assert np.isfinite(fast[2]).all()
        assert not np.array_equal(fast[0], self.start)
        for one, other in zip(fast, panels, strict=True):
            np.testing.assert_array_equal(one, other)


def _way(network: Network, rule: Update, batch: int) -> int:
    plan = BACKEND.make_plan(network, rule, "float32")
    return steps.way_of(plan, batch, None)


def _tiny(
    activation: str = "tanh", loss: str = "cross_entropy", output: str = "softmax"
) -> Network:
    layers = (Layer(3, 5, activation, 0.3), Layer(5, 8, activation, 0.3), Layer(8, 2, output))
    return Network(layers, loss, 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_narrow_activations(activation: str, dtype: str, rng: np.random.Generator) -> None:
    network = _tiny(activation)
    assert _way(network, Update("sgd"), 5) == steps.NARROW
    _Problem(rng, network, dtype).compare(Update("sgd"), 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [name for name in BACKEND.LOSSES if name != "cross_entropy"])
def test_narrow_losses(loss: str, dtype: str, rng: np.random.Generator) -> None:
    output = "sigmoid" if loss in ("binary_cross_entropy", "poisson") else "identity"
    _Problem(rng, _tiny("sigmoid", loss, output), dtype).compare(Update("sgd"), 7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", list(CONSTANTS))
def test_narrow_optimizers(rule: str, dtype: str, rng: np.random.Generator) -> None:
    _Problem(rng, _tiny(), dtype).compare(Update(rule, CONSTANTS[rule]), 16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["sequence", "keyed", "array"])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 17, 63, 64])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 2, 2), (8, 8, 8), (7, 1, 8, 3)])
def test_narrow_shapes(
    sizes: tuple[int, ...], batch: int, kind: str, dtype: str, rng: np.random.Generator
) -> None:
    """Where a vector is shorter than a narrow row, too: its buffers are as long as that row."""
    layers = [Layer(i, o, "tanh") for i, o in itertools.pairwise(sizes)]
    network = Network(tuple(layers), "squared_error")
    assert _way(network, Update("sgd"), batch) == steps.NARROW
    _Problem(rng, network, dtype).compare(Update("sgd"), batch, kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["sequence", "keyed", "array"])
@pytest.mark.parametrize("sizes", [(9, 3), (16, 15, 4), (33, 17, 9, 2), (50, 130, 3)])
def test_single_rows(
    sizes: tuple[int, ...], kind: str, dtype: str, rng: np.random.Generator
) -> None:
    network = _wide(sizes)
    assert _way(network, Update("sgd"), 1) == steps.ONLINE
    _Problem(rng, network, dtype).compare(Update("sgd"), 1, kind)


@pytest.mark.parametrize("activation", ["prelu", "mpelu", "maxout", "gelu"])
@pytest.mark.parametrize("normalization", [None, "layer"])
def test_single_rows_with_everything(
    activation: str, normalization: str | None, rng: np.random.Generator
) -> None:
    network = _wide((21, 19, 18, 3), activation, normalization)
    assert _way(network, Update("sgd"), 1) == steps.ONLINE
    _Problem(rng, network, "float32").compare(Update("sgd"), 1)


def _wide(
    sizes: tuple[int, ...], activation: str = "tanh", normalization: str | None = None
) -> Network:
    pieces = 3 if activation == "maxout" else 1
    layers = [
        Layer(i, o, activation, 0.1, pieces, normalization, 0.2)
        for i, o in itertools.pairwise(sizes[:-1])
    ]
    return Network((*layers, Layer(sizes[-2], sizes[-1], "softmax")), "cross_entropy")


@pytest.mark.parametrize(
    "network",
    [
        Network((Layer(9, 2, "softmax"),), "cross_entropy"),
        Network((Layer(2, 9, "tanh"), Layer(9, 2, "softmax")), "cross_entropy"),
        Network((Layer(2, 2, "maxout", 0.0, 3), Layer(2, 2, "softmax")), "cross_entropy"),
        Network((Layer(2, 2, "prelu"), Layer(2, 2, "softmax")), "cross_entropy"),
        Network((Layer(2, 2, "softmax"),), "squared_error"),
        Network((Layer(2, 2, "tanh", dropout=0.1), Layer(2, 2, "softmax")), "cross_entropy"),
        Network((Layer(2, 2, "tanh", normalization="layer"),), "squared_error"),
        Network((Layer(2, 2, "softmax"),), "cross_entropy", l2=0.1),
        Network((Layer(2, 2, "softmax"),), "cross_entropy", l1=0.1),
    ],
)
def test_what_is_not_narrow(network: Network) -> None:
    assert _way(network, Update("sgd"), 4) == steps.TRAIN


def test_what_has_no_shortcut() -> None:
    tiny = _tiny()
    assert _way(tiny, Update("sgd"), 65) == steps.TRAIN
    assert _way(tiny, Update("sgd", clip_norm=1.0), 4) == steps.TRAIN
    assert _way(tiny, Update("sgd", clip_value=1.0), 4) == steps.TRAIN
    for rule in ("adamw", "lars", "lamb"):
        assert _way(tiny, Update(rule, (0.9, 0.99, 1e-8, 0.01)), 4) == steps.TRAIN
    wide = _wide((20, 20, 2))
    assert _way(wide, Update("sgd"), 2) == steps.TRAIN
    assert _way(wide, Update("momentum", (0.9,)), 1) == steps.TRAIN
    assert _way(_wide((20, 20, 2), normalization="batch"), Update("sgd"), 1) == steps.TRAIN
    weights = np.ones(4, np.float32)
    plan = BACKEND.make_plan(tiny, Update("sgd"), "float32")
    assert steps.way_of(plan, 4, weights) == steps.TRAIN

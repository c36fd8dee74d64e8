"""Random inputs of kernels and networks, and slopes to compare gradients with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp import kernels
from fastmlp.kernels.contract import Layer, Network, State, Update
from fastmlp.kernels.layout import (
    LEARNED,
    length,
    parameter_segments,
    running_segments,
)
from fastmlp.kernels.reference import (
    ACTIVATION_CONSTANTS,
    DOMAINS,
    LINKS,
    LOSS_CONSTANTS,
    PROPERTIES,
    TARGETS,
)

from .tolerances import STEP_OF_DIFFERENCES

Array = np.ndarray[Any, np.dtype[Any]]

REFERENCE = kernels.load("numpy")
TRAINABLE = [n for n, kernel in REFERENCE.ACTIVATIONS.items() if kernel.backward is not None]
DTYPES = ("float32", "float64")

# One entry for each optimizer: its constants, as its docstring lists them.
UPDATE_CONSTANTS: dict[str, tuple[float, ...]] = {
    "sgd": (),
    "momentum": (0.9,),
    "momentum_with_rate": (0.9,),
    "nesterov": (0.9,),
    "nesterov_with_rate": (0.9,),
    "adam": (0.9, 0.999, 1e-8),
    "adam_epsilon_hat": (0.9, 0.999, 1e-8),
    "adamw": (0.9, 0.999, 1e-8, 0.01),
    "rmsprop": (0.99, 1e-8),
    "adagrad": (1e-10,),
    "lars": (0.9, 1.0, 0.01),
    "lamb": (0.9, 0.999, 1e-6, 0.01),
}


def constant_of(name: str) -> float:
    """Default constant of an activation or a loss."""
    return {**ACTIVATION_CONSTANTS, **LOSS_CONSTANTS}.get(name, 0.0)


def pieces_of(name: str) -> int:
    """Columns of Z per unit."""
    return int(constant_of(name)) if name == "maxout" else 1


def fits(loss: str, activation: str) -> bool:
    """Whether a loss is defined for every output of an activation that can be trained."""
    like = PROPERTIES[activation]
    if DOMAINS[loss] == "real":
        return True
    positive = like.low >= 0 and like.differentiable
    return positive and (DOMAINS[loss] == "positive" or like.high <= 1)


PAIRS = [(loss, name) for loss in REFERENCE.LOSSES for name in TRAINABLE if fits(loss, name)]


def inputs(rng: np.random.Generator, name: str, rows: int, units: int) -> Array:
    """Draw Z in float32 numbers, so that both precisions start from the same, off the kinks."""
    Z = rng.normal(0, 2, (rows, pieces_of(name) * units))
    Z += np.copysign(0.01, Z)
    return Z.astype(np.float32)


def learned_of(rng: np.random.Generator, name: str, units: int) -> tuple[Array, ...]:
    """Draw the learned parameters of an activation in float32 numbers."""
    return tuple(rng.uniform(0.2, 1.5, units).astype(np.float32) for _ in LEARNED.get(name, ()))


def targets(rng: np.random.Generator, loss: str, rows: int, units: int) -> Array:
    """Draw what a loss takes, in float64; rows of classes sum to 1."""
    if TARGETS[loss] == "classes":
        T = rng.dirichlet(np.ones(units), rows)
        T[::2] = np.eye(units)[rng.integers(units, size=len(T[::2]))]
        return T
    draws: dict[str, Callable[[], Array]] = {
        "binary": lambda: rng.integers(0, 2, (rows, units)),
        "margin": lambda: rng.choice((-1.0, 1.0), (rows, units)),
        "counts": lambda: rng.poisson(2, (rows, units)),
        "real": lambda: rng.normal(0, 2, (rows, units)).astype(np.float32),
    }
    return np.asarray(draws[TARGETS[loss]](), np.float64)


def cast(arrays: Any, dtype: str) -> Any:
    """Copy an array or a tuple of arrays in a precision."""
    if isinstance(arrays, tuple):
        return tuple(cast(a, dtype) for a in arrays)
    return np.array(arrays, dtype)


def blank(shape: Any, dtype: Any = "float64") -> Array:
    """Make a destination that shows what was not written."""
    return np.full(shape, np.nan, dtype)


def assert_untouched(arrays: Any, copies: Any) -> None:
    """Compare an array or a tuple of arrays bit by bit."""
    if isinstance(arrays, tuple):
        for array, copy in zip(arrays, copies, strict=True):
            assert_untouched(array, copy)
    else:
        np.testing.assert_array_equal(arrays, copies)


def differences(function: Callable[[], float], x: Array) -> Array:
    """Give the slopes of a function by each entry of x, which it reads."""
    slopes = np.empty_like(x)
    for place in np.ndindex(x.shape):
        middle = x[place]

        def moved(shift: float, place: Any = place, middle: float = middle) -> float:
            x[place] = middle + shift
            return function()

        slopes[place] = _slope(moved)
        x[place] = middle
    return slopes


def _slope(f: Callable[[float], float]) -> float:
    """Differentiate at 0 by central differences, or from the side without a kink."""
    h = STEP_OF_DIFFERENCES
    centre, above, below = f(0.0), f(h), f(-h)
    bent = 1e-4 * h
    if abs(above - 2 * centre + below) > bent:
        for side, far in ((h, above), (-h, below)):
            near = f(side / 2)
            if abs(far - 2 * near + centre) < bent:
                return (4 * near - far - 3 * centre) / side
    return (above - below) / (2 * h)


def sibling(backend: str, name: str) -> Any:
    """Import a file of a backend that is not a dictionary."""
    return importlib.import_module(f"{kernels.load(backend).__name__}.{name}")


def network(
    loss: str,
    activation: str,
    *,
    sizes: tuple[int, ...] = (3, 4, 2),
    output: str | None = None,
    normalization: str | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> Network:
    """Build a network whose hidden layers are alike."""
    names = [activation] * (len(sizes) - 2) + [output or LINKS[loss]]
    layers = [
        Layer(i, o, name, constant_of(name), pieces_of(name), normalization, dropout)
        for i, o, name in zip(sizes[:-1], sizes[1:], names, strict=True)
    ]
    layers[-1] = layers[-1]._replace(normalization=None, dropout=0.0)
    return Network(tuple(layers), loss, constant_of(loss), **options)


def state(rng: np.random.Generator, net: Network, rule: Update, dtype: str = "float64") -> State:
    """Draw a network's numbers in float32 numbers; slots are zero."""
    parameters, running = (
        np.zeros(length(segments)) for segments in (parameter_segments(net), running_segments(net))
    )
    for flat, segments in (
        (parameters, parameter_segments(net)),
        (running, running_segments(net)),
    ):
        for segment in segments:
            if segment.kind in ("weights", "biases", "shift", "mean"):
                root = np.sqrt(segment.shape[0]) if segment.kind == "weights" else 3.0
                segment.view(flat)[...] = rng.normal(0, 1 / root, segment.shape)
            else:
                segment.view(flat)[...] = rng.uniform(0.3, 1.4, segment.shape)
    slots = np.zeros((REFERENCE.UPDATES[rule.name].slots, parameters.size), dtype)
    return State(
        parameters.astype(np.float32).astype(dtype), slots, running.astype(np.float32).astype(dtype)
    )


def plan_of(backend: Any, net: Network, rule: Update, start: State) -> Any:
    """Build a plan that holds `start`."""
    plan = backend.make_plan(net, rule, start.parameters.dtype.name)
    plan.load(start)
    return plan


def stored(plan: Any, like: State) -> State:
    """Read a plan's numbers."""
    found = State(*(blank(numbers.shape, numbers.dtype) for numbers in like))
    plan.store(found)
    return found


def on_device(host: Any) -> Any:
    """A copy of an array on the GPU, or on what stands in for it."""
    import cupy

    values = np.ascontiguousarray(host)
    array = cupy.empty(np.shape(host), values.dtype)
    array.set(values)
    return array

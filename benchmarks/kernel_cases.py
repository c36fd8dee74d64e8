"""Every kernel of the vocabulary and every step as a case: arrays made, ready to run.

The cases come from the dictionaries of the reference and draw what the tests draw, so a new kernel
is timed by existing.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastmlp.kernels.contract import Data, Network, Order, State, Update
from fastmlp.kernels.layout import length, parameter_segments
from fastmlp.kernels.reference import DOMAINS, LINKS
from tests.draws import (
    REFERENCE,
    UPDATE_CONSTANTS,
    Array,
    blank,
    cast,
    constant_of,
    inputs,
    learned_of,
    network,
    plan_of,
    sibling,
    state,
    stored,
    targets,
)

KEY = 0x0123456789ABCDEF


class Size(NamedTuple):
    """Rows and units of what is timed."""

    rows: int = 256
    units: int = 256


class Ready(NamedTuple):
    """A kernel with its arrays."""

    run: Callable[[], object]
    results: Callable[[], tuple[Array, ...]]
    """What it has written, once it ran."""


class Case(NamedTuple):
    """A kernel of any backend."""

    name: str
    tolerance: str
    """Row of the tests' table of tolerances."""
    elements: int
    """What one call works on: outputs, parameters, multiply-adds or, for steps, rows."""
    prepare: Callable[[Any, str], Ready]
    """prepare(backend, dtype)"""


def cases(size: Size) -> Iterator[Case]:
    """All of them, by kind."""
    for kind in (_activations, _losses, _logit_losses, _updates, _normalizations, _random):
        yield from kind(size)
    yield from _products(size)
    for variant, options in VARIANTS.items():
        yield from _steps(size, variant, options)


def _draws(name: str) -> np.random.Generator:
    """The same numbers for every backend and precision of a case."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def _activations(size: Size) -> Iterator[Case]:
    for key, kernel in REFERENCE.ACTIVATIONS.items():
        for way in ("forward", "backward") if kernel.backward else ("forward",):
            name = f"activation {key} {way}"
            yield Case(name, "kernel", size.rows * size.units, _activation(size, key, way))


def _activation(size: Size, key: str, way: str) -> Callable[[Any, str], Ready]:
    def prepare(backend: Any, dtype: str) -> Ready:
        rng = _draws(key)
        Z, learned = inputs(rng, key, *size), learned_of(rng, key, size.units)
        dA = rng.normal(size=size).astype(np.float32)
        A = blank(size)
        wide = cast((Z, learned), "float64")
        REFERENCE.ACTIVATIONS[key].forward(A, *wide, constant_of(key))
        Z, learned, dA, A = cast((Z, learned, dA, A), dtype)
        kernel, constant = backend.ACTIVATIONS[key], constant_of(key)
        if way == "forward":
            return Ready(lambda: kernel.forward(A, Z, learned, constant), lambda: (A,))
        dZ, dlearned = blank(Z.shape, dtype), tuple(blank(p.shape, dtype) for p in learned)
        # The derivatives of learned numbers are sums over rows, which the tests compare by
        # other tolerances.
        return Ready(
            lambda: kernel.backward(dZ, dlearned, dA, Z, A, learned, constant), lambda: (dZ,)
        )

    return prepare


def _losses(size: Size) -> Iterator[Case]:
    for key in REFERENCE.LOSSES:
        for way, tolerance in (("value", "product"), ("gradient", "kernel")):
            name = f"loss {key} {way}"
            yield Case(name, tolerance, size.rows * size.units, _loss(size, key, way))


def _loss(size: Size, key: str, way: str) -> Callable[[Any, str], Ready]:
    def prepare(backend: Any, dtype: str) -> Ready:
        rng, link = _draws(key), LINKS[key]
        A = blank(size)
        learned = cast(learned_of(rng, link, size.units), "float64")
        Z = cast(inputs(rng, link, *size), "float64")
        REFERENCE.ACTIVATIONS[link].forward(A, Z, learned, constant_of(link))
        A = A.clip(0.01, 0.99) if DOMAINS[key] == "unit" else A
        A, T = A.astype(np.float32), targets(rng, key, *size).astype(np.float32)
        A, T = cast((A, T), dtype)
        out = blank(size.rows if way == "value" else size, dtype)
        kernel, constant = getattr(backend.LOSSES[key], way), constant_of(key)
        return Ready(lambda: kernel(out, A, T, constant), lambda: (out,))

    return prepare


def _logit_losses(size: Size) -> Iterator[Case]:
    for key in REFERENCE.LOGIT_LOSSES:
        for way in ("value", "gradient"):
            name = f"loss {key[0]} of {key[1]}, {way}"
            yield Case(name, "product", size.rows * size.units, _logit_loss(size, key, way))


def _logit_loss(size: Size, key: tuple[str, str], way: str) -> Callable[[Any, str], Ready]:
    def prepare(backend: Any, dtype: str) -> Ready:
        rng = _draws(key[0])
        Z, T = inputs(rng, key[1], *size), targets(rng, key[0], *size).astype(np.float32)
        Z, T = cast((Z, T), dtype)
        out = blank(size.rows if way == "value" else size, dtype)
        kernel = getattr(backend.LOGIT_LOSSES[key], way)
        return Ready(lambda: kernel(out, Z, T), lambda: (out,))

    return prepare


def _updates(size: Size) -> Iterator[Case]:
    count = size.rows * size.units
    for key, rule in REFERENCE.UPDATES.items():

        def prepare(backend: Any, dtype: str, key: str = key, slots: int = rule.slots) -> Ready:
            p, g = cast(_draws(key).normal(size=(2, count)).astype(np.float32), dtype)
            held, constants = np.zeros((slots, count), dtype), UPDATE_CONSTANTS[key]
            apply = backend.UPDATES[key].apply
            return Ready(lambda: apply(p, held, g, 1e-3, 1, constants), lambda: (p,))

        yield Case(f"update {key}", "product", count, prepare)


def _normalizations(size: Size) -> Iterator[Case]:
    for key in REFERENCE.NORMALIZATIONS:
        for way in ("forward", "backward"):
            name = f"normalization {key} {way}"
            yield Case(name, "step", size.rows * size.units, _normalization(size, key, way))


def _normalization(size: Size, key: str, way: str) -> Callable[[Any, str], Ready]:
    def prepare(backend: Any, dtype: str) -> Ready:
        rng = _draws(key)
        drawn = (rng.normal(1, 2, size), *rng.normal(size=(2, size.units)), rng.normal(size=size))
        Z, scale, shift, dY = cast(cast(drawn, "float32"), dtype)
        Y, hat, dZ = (blank(size, dtype) for _ in range(3))
        spread = blank(size.units if key == "batch" else size.rows, dtype)
        dscale, dshift = blank(size.units, dtype), blank(size.units, dtype)
        kernel = backend.NORMALIZATIONS[key]

        def forward() -> None:
            kernel.forward(Y, hat, spread, Z, scale, shift)

        forward()
        if way == "forward":
            return Ready(forward, lambda: (Y, hat, spread))
        return Ready(
            lambda: kernel.backward(dZ, dscale, dshift, dY, hat, spread, scale),
            lambda: (dZ, dscale, dshift),
        )

    return prepare


def _random(size: Size) -> Iterator[Case]:
    def dropout(backend: Any, dtype: str) -> Ready:
        scale, kernel = blank(size, dtype), sibling(backend.NAME, "random").dropout_scale
        return Ready(lambda: kernel(scale, KEY, 5, 1, 0.3), lambda: (scale,))

    def shuffle(backend: Any, _dtype: str) -> Ready:
        index = np.full(size.rows * size.units, -1, np.int64)
        kernel = sibling(backend.NAME, "random").shuffle_places
        return Ready(lambda: kernel(index, len(index), KEY, 0), lambda: (index,))

    yield Case("dropout mask", "kernel", size.rows * size.units, dropout)
    yield Case("keyed shuffle", "kernel", size.rows * size.units, shuffle)


def _products(size: Size) -> Iterator[Case]:
    rows, units = size

    def prepare(backend: Any, dtype: str, key: str) -> Ready:
        rng = _draws(key)
        X, dZ = rng.normal(size=(2, rows, units))
        W, b = rng.normal(size=(units, units)), rng.normal(size=units)
        X, dZ, W, b = cast(cast((X, dZ, W, b), "float32"), dtype)
        arguments = {
            "affine": (blank((rows, units), dtype), X, W, b),
            "weight_gradient": (blank((units, units), dtype), X, dZ),
            "input_gradient": (blank((rows, units), dtype), dZ, W),
            "bias_gradient": (blank(units, dtype), dZ),
        }[key]
        kernel = getattr(sibling(backend.NAME, "products"), key)
        return Ready(lambda: kernel(*arguments), lambda: (arguments[0],))

    for key in ("affine", "weight_gradient", "input_gradient", "bias_gradient"):
        count = rows * units * (1 if key == "bias_gradient" else units)
        yield Case(
            f"product {key}", "product", count, lambda b, dtype, key=key: prepare(b, dtype, key)
        )


VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    ", batch normalization": {"normalization": "batch"},
    ", layer normalization": {"normalization": "layer"},
    ", dropout": {"dropout": 0.3},
    ", penalties": {"l1": 1e-4, "l2": 1e-3},
}
"""What the steps run on: units-units-units-10 with tanh, a batch of all rows."""

ADAM = Update("adam", UPDATE_CONSTANTS["adam"])


class _Step(NamedTuple):
    """A plan and the rows it runs on."""

    backend: Any
    plan: Any
    net: Network
    start: State
    X: Array
    T: Array


def _steps(size: Size, variant: str, options: dict[str, Any]) -> Iterator[Case]:
    def prepared(backend: Any, dtype: str) -> _Step:
        rng, units = _draws(variant), size.units
        net = network("cross_entropy", "tanh", sizes=(units, units, units, 10), **options)
        start = State(*cast(tuple(state(rng, net, ADAM)), dtype))
        X = cast(rng.normal(size=size).astype(np.float32), dtype)
        plan = plan_of(backend, net, ADAM, start)
        return _Step(backend, plan, net, start, X, rng.integers(0, 10, size.rows))

    for key, (tolerance, ready) in STEPS.items():
        yield Case(
            f"step {key}{variant}",
            tolerance,
            size.rows,
            lambda backend, dtype, ready=ready: ready(prepared(backend, dtype)),
        )


def _forward(step: _Step) -> Ready:
    out = blank((len(step.X), 10), step.X.dtype)
    return Ready(lambda: step.backend.forward(step.plan, out, step.X, False), lambda: (out,))


def _row_losses(step: _Step) -> Ready:
    out = blank(len(step.X), step.X.dtype)
    return Ready(lambda: step.backend.row_losses(step.plan, out, step.X, step.T), lambda: (out,))


def _backprop(step: _Step) -> Ready:
    gradient = blank(length(parameter_segments(step.net)), step.X.dtype)
    arguments = (step.plan, gradient, step.X, step.T, None, KEY, 3, True)
    return Ready(lambda: step.backend.backprop(*arguments), lambda: (gradient,))


def _update(step: _Step) -> Ready:
    count = length(parameter_segments(step.net))
    gradient = cast(_draws("gradient").normal(size=count).astype(np.float32), step.X.dtype)
    return Ready(
        lambda: step.backend.update(step.plan, gradient, 1e-3, 1),
        lambda: (stored(step.plan, step.start).parameters,),
    )


def _train_steps(step: _Step) -> Ready:
    losses, rates = blank(1), np.full(1, 1e-3)
    data, order, rows = Data(step.X, step.T), Order("sequence"), len(step.X)
    return Ready(
        lambda: step.backend.train_steps(step.plan, losses, data, order, rows, 0, 1, rates, 0, KEY),
        lambda: (losses, stored(step.plan, step.start).parameters),
    )


STEPS: dict[str, tuple[str, Callable[[_Step], Ready]]] = {
    "forward": ("step", _forward),
    "row_losses": ("step", _row_losses),
    "backprop": ("step", _backprop),
    "update": ("training", _update),
    "train_steps": ("training", _train_steps),
}
"""Name -> row of the table of tolerances, builder."""

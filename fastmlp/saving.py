"""A network as a configuration and arrays, and back. Files come from anywhere: all is checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import activations, blocks, checks, generators, losses, optimizers, schedules
from .choices import other_precision, precision
from .engine import Engine
from .files import FileFormatError
from .generators import Random
from .kernels.contract import Array, State
from .kernels.layout import FLOORS, parameter_segments
from .optimizers import Optimizer
from .records import decode, encode

_ACTIVATIONS = {kind.__name__: kind for kind in activations.OBJECTS.values()}
_LOSSES = {kind.__name__: kind for kind in losses.OBJECTS.values()}
_OPTIMIZERS = {**optimizers.CLASSES, **schedules.SCHEDULES}


class Contents(NamedTuple):
    """What a file's configuration says."""

    description: dict[str, Any]
    """Arguments of `MLP`."""
    rng: Random
    dropout_key: int
    steps: int
    epochs: int
    metadata: dict[str, Any]


def packed(
    engine: Engine, choices: Mapping[str, Any], metadata: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the configuration and the arrays of a network.

    `choices` are the activations and the loss as the user named them.

    Raises
    ------
    ValueError
        Something is code of the user's own.
    """
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a mapping; got {checks.shown(metadata)}")
    network = engine.network
    hidden = network.layers[:-1]
    activation = choices["activation"]
    each = activation if isinstance(activation, tuple) else (activation,) * len(hidden)
    config = {
        "layer_sizes": [network.layers[0].inputs, *(layer.units for layer in network.layers)],
        "activation": [encode(a, "activation") for a in each],
        "output_activation": encode(choices["output_activation"], "output_activation"),
        "loss": encode(choices["loss"], "loss"),
        "optimizer": encode(engine.optimizer, "optimizer"),
        "reduction": network.reduction,
        "l1": network.l1,
        "l2": network.l2,
        "penalty_scale": network.penalty_scale,
        "dropout": [layer.dropout for layer in hidden],
        "normalization": [layer.normalization for layer in hidden],
        "dtype": engine.precision,
        "generator": generators.encode(engine.rng),
        "dropout_key": f"{engine.dropout_key:016x}",
        "steps": engine.steps,
        "epochs": engine.epochs,
        "metadata": metadata,
    }
    way = engine.way()
    if way is not None and way.choices.name:  # bits depend on them
        config["choices"] = way.choices.name
    state = engine.state()
    arrays = {s.name: s.view(state.parameters) for s in parameter_segments(network)}
    for number, slot in enumerate(state.slots):
        arrays[f"optimizer.{number}"] = slot
    if state.running.size:
        arrays["running"] = state.running
    return config, arrays


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a file's contents violate into a `FileFormatError` that names the file."""
    try:
        yield
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileFormatError(
            f"{os.fspath(path)} holds no network that can be used here: {error}"
        ) from error


def unpacked(config: Mapping[str, Any], dtype: Any = None) -> Contents:
    """Check a configuration; whatever is wrong with it raises one of the errors of `reading`.

    `dtype` is the precision to change to, as in `MLP.to`.
    """
    layers = [decode(a, _ACTIVATIONS, "activation") for a in _sequence(config, "activation")]
    optimizer = decode(config["optimizer"], _OPTIMIZERS, "optimizer")
    if not isinstance(optimizer, Optimizer):
        raise ValueError("optimizer must be a record of numbers")
    metadata = config["metadata"]
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be a mapping")
    description = {
        "layer_sizes": _sequence(config, "layer_sizes"),
        "activation": layers,
        "output_activation": decode(config["output_activation"], _ACTIVATIONS, "activation"),
        "loss": decode(config["loss"], _LOSSES, "loss"),
        "optimizer": optimizer,
        "dropout": _sequence(config, "dropout"),
        "normalization": _sequence(config, "normalization"),
        "dtype": other_precision(dtype, precision(config["dtype"])),
        **{name: config[name] for name in ("reduction", "l1", "l2", "penalty_scale")},
    }
    return Contents(
        description,
        generators.decode(config["generator"]),
        checks.whole(int(config["dropout_key"], 16), "dropout_key", 0, (1 << 64) - 1),
        checks.whole(config["steps"], "steps"),
        checks.whole(config["epochs"], "epochs"),
        metadata,
    )


def _sequence(config: Mapping[str, Any], name: str) -> list[Any]:
    value = config[name]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} must be a list")
    return list(value)


def check_sizes(config: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Refuse layer sizes that the file's arrays don't bear out, before memory is asked for."""
    sizes = [checks.whole(size, "layer_sizes", 1) for size in _sequence(config, "layer_sizes")]
    for number, (inputs, units) in enumerate(pairwise(sizes)):
        weights = arrays.get(f"weights.{number}")
        if weights is None or weights.ndim != 2 or len(weights) != inputs:
            raise ValueError(f"weights.{number} must have shape ({inputs}, {units})")
        if weights.shape[1] % units:
            raise ValueError(f"weights.{number} must have shape ({inputs}, {units})")


def fill(engine: Engine, contents: Contents, arrays: Mapping[str, Array]) -> None:
    """Put a file's numbers into a network built from its description."""
    fresh = engine.state()
    segments = parameter_segments(engine.network)
    names = {segment.name for segment in segments}
    names |= {f"optimizer.{number}" for number in range(len(fresh.slots))}
    names |= {"running"} if fresh.running.size else set()
    if names != arrays.keys():
        wrong = ", ".join(sorted(names ^ arrays.keys()))[:200]
        raise ValueError(f"arrays are missing or too many: {wrong}")
    parameters = np.empty_like(fresh.parameters)
    for segment in segments:
        values = _finite(arrays, segment.name, segment.shape, engine.dtype)
        if (values < FLOORS.get(segment.kind, -np.inf)).any():
            raise ValueError(f"{segment.name} must be at least {FLOORS[segment.kind]}")
        segment.view(parameters)[...] = values
    slots = np.empty_like(fresh.slots)
    for number, slot in enumerate(slots):
        slot[...] = _finite(arrays, f"optimizer.{number}", slot.shape, engine.dtype)
    running = fresh.running
    if running.size:
        running = _finite(arrays, "running", running.shape, engine.dtype).copy()
    engine.set_state(State(parameters, slots, running))
    engine.rng, engine.dropout_key = contents.rng, contents.dropout_key
    engine.steps, engine.epochs = contents.steps, contents.epochs


def _finite(
    arrays: Mapping[str, Array], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    values = arrays[name]
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(f"{name} must have shape {shape} and dtype {dtype}")
    if not blocks.all_finite(values):
        raise ValueError(f"{name} must hold finite numbers")
    return values

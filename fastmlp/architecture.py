"""From what users write to the kernels' record of a network."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import activations, checks, losses
from .generators import Random
from .initializers import Initializer, draw_layer
from .kernels.contract import Array, Layer, Network
from .kernels.layout import length, parameter_segments, running_segments
from .kernels.reference import DOMAINS, LINKS, LOGIT_LOSSES, PROPERTIES

LARGEST = 1 << 31
"""Most units of a layer."""

ALWAYS_THERE = 1 << 28
"""Bytes that are asked for without looking how many are free."""


class Architecture(NamedTuple):
    """A network and the starting values of what its activations learn."""

    network: Network
    starts: tuple[Mapping[str, float], ...]


def build(
    layer_sizes: Any,
    activation: Any,
    output_activation: Any,
    loss: Any,
    reduction: Any,
    l1: Any,
    l2: Any,
    penalty_scale: Any,
    dropout: Any,
    normalization: Any,
) -> Architecture:
    """Check the arguments that describe a network, and join them.

    Raises
    ------
    TypeError, ValueError
        The message names the argument.
    """
    sizes = _sizes(layer_sizes)
    hidden = len(sizes) - 2
    chosen = losses.resolve(loss)
    choices = [
        activations.resolve(a, "activation") for a in _each(activation, hidden, "activation")
    ]
    for choice in choices:
        if PROPERTIES[choice.name].output_only:
            raise ValueError(
                f"activation {choice.name!r} is for the output layer only: "
                f"output_activation={choice.name!r}"
            )
    choices.append(_output(output_activation, chosen.name, sizes[-1]))
    rates = [checks.number(d, "dropout", low=0, below=1) for d in _each(dropout, hidden, "dropout")]
    kinds = [_normalization(n) for n in _each(normalization, hidden, "normalization")]
    layers = tuple(
        Layer(inputs, units, c.name, c.constant, c.pieces, kind, rate)
        for inputs, units, c, kind, rate in zip(
            sizes, sizes[1:], choices, [*kinds, None], [*rates, 0.0], strict=False
        )
    )
    network = Network(
        layers,
        chosen.name,
        chosen.constant,
        checks.word(reduction, "reduction", ("mean", "sum")),
        checks.number(l1, "l1", low=0),
        checks.number(l2, "l2", low=0),
        checks.word(penalty_scale, "penalty_scale", ("batch", "rows")),
    )
    return Architecture(network, tuple(choice.start for choice in choices))


def _sizes(layer_sizes: Any) -> list[int]:
    if not checks.several(layer_sizes):
        raise TypeError(
            "layer_sizes must be a sequence of integers (inputs, hidden..., outputs); "
            f"got {checks.shown(layer_sizes)}"
        )
    sizes = [checks.whole(size, "layer_sizes", 1, LARGEST) for size in layer_sizes]
    if len(sizes) < 2:
        raise ValueError(
            f"layer_sizes must have at least the inputs and the outputs; got {tuple(sizes)}"
        )
    return sizes


def _each(value: Any, hidden: int, name: str) -> list[Any]:
    """One value for each hidden layer."""
    if not checks.several(value):
        return [value] * hidden
    if len(value) != hidden:
        raise ValueError(
            f"{name} must be one value, or one for each of the {hidden} hidden layers; "
            f"got {len(value)}"
        )
    return list(value)


def _normalization(kind: Any) -> str | None:
    if kind is None:
        return None
    return checks.word(kind, "normalization", ("batch", "layer"), " or None")


def _output(output_activation: Any, loss: str, outputs: int) -> activations.Choice:
    """The output layer's activation, if the loss has a value for what it gives."""
    if loss == "cross_entropy" and outputs < 2:
        raise ValueError(
            "cross_entropy needs at least two outputs, one a class; for two classes with one "
            "output take loss='binary_cross_entropy'"
        )
    wanted = LINKS[loss] if output_activation is None else output_activation
    choice = activations.resolve(wanted, "output_activation")
    if choice.name == "softmax" and outputs < 2:
        raise ValueError("output_activation 'softmax' needs two outputs or more: of one it is 1")
    fitting = [name for name in PROPERTIES if _fits(name, loss)]
    if choice.name not in fitting:
        raise ValueError(
            f"loss {loss!r} is not defined for the outputs of {choice.name!r}; output_activation "
            f"can be None (which means {LINKS[loss]!r}) or one of {', '.join(fitting)}"
        )
    return choice


def _fits(activation: str, loss: str) -> bool:
    if (loss, activation) in LOGIT_LOSSES or DOMAINS[loss] == "real":
        return True
    low, high = PROPERTIES[activation].low, PROPERTIES[activation].high
    if not PROPERTIES[activation].trainable:
        return False
    return activation in ("exp", "softplus", "sigmoid", "softmax") and (
        DOMAINS[loss] == "positive" or (low >= 0 and high <= 1)
    )


def trainable(network: Network) -> bool:
    """Whether every activation has a derivative to train by."""
    return all(PROPERTIES[layer.activation].trainable for layer in network.layers)


def draw_parameters(
    architecture: Architecture, init: Initializer, rng: Random, dtype: str
) -> tuple[Array, Array]:
    """Return the flat starting parameters and running statistics.

    Weights then biases layer by layer, drawn in float64 and then converted.

    Raises
    ------
    MemoryError
        There is no room for so many parameters; the message says how many.
    """
    network = architecture.network
    segments, running = parameter_segments(network), running_segments(network)
    count = length(segments)
    size = np.dtype(dtype).itemsize
    needed = count * size
    drawing = max(layer.inputs * layer.columns for layer in network.layers) * (8 + size)
    try:
        # Linux grants more than there is, and ends the process when it is written to.
        if needed + drawing > ALWAYS_THERE and needed + drawing > free_memory():
            raise MemoryError
        parameters = np.zeros(count, dtype)
    except (MemoryError, ValueError):
        raise MemoryError(
            f"layer_sizes asks for {count:,} parameters, {needed / 2**30:,.1f} GiB: "
            "make the layers smaller"
        ) from None
    for layer in network.layers:
        _fitting(layer.constant, f"the number of {layer.activation}", parameters.dtype)
    for segment in segments:
        start = architecture.starts[segment.layer].get(segment.kind, segment.kind == "scale")
        segment.view(parameters)[...] = _fitting(start, segment.kind, parameters.dtype)
    for segment in segments:
        layer = network.layers[segment.layer]
        view = segment.view(parameters)
        if segment.kind == "weights":
            weights, biases = draw_layer(init, rng, layer.inputs, layer.columns, layer.activation)
            _convert(view, weights, "weights")
        elif segment.kind == "biases":
            _convert(view, biases, "biases")
    statistics = np.zeros(length(running), dtype)
    for segment in running:
        segment.view(statistics)[...] = segment.kind == "variance"
    return parameters, statistics


def free_memory() -> float:
    """Bytes that Linux can still give, or all that a machine has; infinity where nobody says."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found is not None:
            return 1024.0 * int(found[1])
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _fitting(value: float, name: str, dtype: np.dtype[Any]) -> Array:
    return checks.converted(np.asarray(value), name, dtype)


def _convert(view: Array, drawn: Array, name: str) -> None:
    view[...] = checks.converted(drawn, f"{name} of init.draw", view.dtype)


def threshold(network: Network) -> float:
    """The output beyond which a binary or margin loss answers 1."""
    if network.loss != "binary_cross_entropy":
        return 0.0
    return 0.5


def describe(network: Network, dtype: str, backend: str, optimizer: object) -> str:
    """A table of the layers, with what they learn."""
    counts: dict[int, int] = {}
    for segment in parameter_segments(network):
        counts[segment.layer] = counts.get(segment.layer, 0) + math.prod(segment.shape)
    rows = [("layer", "inputs", "units", "activation", "normalization", "dropout", "parameters")]
    for number, layer in enumerate(network.layers):
        activation = layer.activation + (f"({layer.pieces})" if layer.pieces > 1 else "")
        rows.append(
            (
                str(number),
                str(layer.inputs),
                str(layer.units),
                activation,
                layer.normalization or "-",
                f"{layer.dropout:g}" if layer.dropout else "-",
                f"{counts[number]:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if column in (3, 4) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"{sum(counts.values()):,} parameters, {dtype}, backend {backend}")
    lines.append(f"loss {network.loss} ({network.reduction} over rows), optimizer {optimizer}")
    return "\n".join(lines)

"""Canonical form: where each named array lies in the flat vectors of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from .contract import Array, Network


class Segment(NamedTuple):
    """A named array inside a flat vector, C-contiguous."""

    layer: int
    kind: str
    """weights, biases, scale, shift, or a learned parameter of the activation."""
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def name(self) -> str:
        """For example ``weights.0``."""
        return f"{self.kind}.{self.layer}"

    def view(self, flat: Array) -> Array:
        """This array inside `flat`."""
        return flat[self.start : self.stop].reshape(self.shape)


LEARNED: Mapping[str, tuple[str, ...]] = {"prelu": ("slope",), "mpelu": ("alpha", "beta")}
"""Learned parameters of an activation, (units,) each, in the order in which kernels take them."""

FLOORS: Mapping[str, float] = {"beta": 1e-3}
"""Lowest value of a learned parameter, held after every update.

MPELU wants beta > 0 (Li et al. 2018, section 3.1).
"""


def parameter_segments(network: Network) -> tuple[Segment, ...]:
    """Layer by layer: weights, biases, the activation's own, normalization's scale and shift."""
    shapes: list[tuple[int, str, tuple[int, ...]]] = []
    for number, layer in enumerate(network.layers):
        shapes.append((number, "weights", (layer.inputs, layer.columns)))
        shapes.append((number, "biases", (layer.columns,)))
        shapes.extend((number, kind, (layer.units,)) for kind in LEARNED.get(layer.activation, ()))
        if layer.normalization is not None:
            shapes.extend((number, kind, (layer.columns,)) for kind in ("scale", "shift"))
    return _laid_out(shapes)


def running_segments(network: Network) -> tuple[Segment, ...]:
    """Running mean and variance of each layer with batch normalization."""
    return _laid_out(
        [
            (number, kind, (layer.columns,))
            for number, layer in enumerate(network.layers)
            if layer.normalization == "batch"
            for kind in ("mean", "variance")
        ]
    )


def length(segments: tuple[Segment, ...]) -> int:
    """Length of the flat vector that holds `segments`."""
    return segments[-1].stop if segments else 0


def _laid_out(shapes: list[tuple[int, str, tuple[int, ...]]]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    start = 0
    for layer, kind, shape in shapes:
        stop = start + math.prod(shape)
        segments.append(Segment(layer, kind, shape, start, stop))
        start = stop
    return tuple(segments)

"""The plan of the reference: canonical flat vectors and views of them, nothing more."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array, Network, State, Update
from ..layout import Segment, length, parameter_segments, running_segments
from .updates import UPDATES

Views = list[dict[str, Array]]


class Plan:
    """A network's numbers as canonical flat vectors, with views of them per layer."""

    def __init__(self, network: Network, rule: Update, dtype: str) -> None:
        self.network = network
        self.rule = rule
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.threads = 1
        self.segments = parameter_segments(network)
        running = running_segments(network)
        size = length(self.segments)
        self.state = State(
            parameters=np.zeros(size, self.dtype),
            slots=np.zeros((UPDATES[rule.name].slots, size), self.dtype),
            running=np.zeros(length(running), self.dtype),
        )
        self.views = self.by_layer(self.segments, self.state.parameters)
        self.running = self.by_layer(running, self.state.running)

    def load(self, state: State) -> None:
        """Take over the numbers of `state`, converted to this plan's precision."""
        self.restore(state)

    def store(self, state: State) -> None:
        """Write this plan's numbers into the arrays of `state`."""
        for target, source in zip(state, self.state, strict=True):
            target[...] = source

    def snapshot(self) -> State:
        """Copy all numbers, for `restore`."""
        return State(*(numbers.copy() for numbers in self.state))

    def restore(self, snapshot: State) -> None:
        """Go back to a snapshot."""
        for target, source in zip(self.state, snapshot, strict=True):
            target[...] = source

    def finite(self) -> bool:
        """Whether parameters, slots and running statistics are all finite numbers."""
        return all(bool(np.isfinite(numbers).all()) for numbers in self.state)

    def by_layer(self, segments: tuple[Segment, ...], flat: Array) -> Views:
        """Give each layer its arrays inside a flat vector, by kind."""
        views: Views = [{} for _ in self.network.layers]
        for segment in segments:
            views[segment.layer][segment.kind] = segment.view(flat)
        return views


def make_plan(network: Network, update: Update, dtype: str, threads: int = 1) -> Plan:
    """Build a plan for "float32" or "float64"; its numbers are zeros until `Plan.load`.

    Raises
    ------
    ValueError
        Another dtype.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64' on backend 'numpy'; got {dtype!r}")
    plan = Plan(network, update, dtype)
    plan.threads = threads
    return plan

"""A network on the device: one vector of everything that lasts, buffers, and programs of launches.

The vector holds parameters, slots and running statistics. Segments lie as in canonical form, but
each layer starts at a multiple of `ALIGNMENT` numbers, which cuBLAS is faster with; the gaps are
zeros, and nothing reads them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from ..contract import Array, Network, State, Update
from ..layout import Segment, length, parameter_segments, running_segments
from . import tiers
from .advice import advised
from .buffers import Buffers
from .codes import CLOCK, NUMBERS
from .device import DeviceArray, empty, zeros
from .graphs import Runs
from .launch import KERNELS_OF, kernels_of
from .updates import SLOTS

ALIGNMENT = 64
"""Numbers: 256 bytes of float32."""

BATCHES = 4096
"""Most batches between two looks at the host; their rates and losses lie on the device."""

PROGRAMS = 16
"""Programs that are kept; each belongs to one number of rows."""

Program = list[Any]
"""Launches and products, in order; each is called without arguments."""

T = TypeVar("T")


class Plan:
    """One network's numbers on the device, and the launches that make up its steps."""

    def __init__(self, network: Network, rule: Update, dtype: str) -> None:
        self.network = network
        self.rule = rule
        self.kernels = kernels_of(KERNELS_OF[dtype])
        self.way = tiers.chosen()
        self.product = tiers.products(self.way, dtype)
        self.joins_biases = self.way.tier == "lt" and dtype in tiers.JOINING
        self.dtype: np.dtype[Any] = self.kernels.dtype
        self.threads = 1
        self.lock = threading.RLock()
        self.segments = parameter_segments(network)
        self.running = running_segments(network)
        self.starts, self.size = _aligned(self.segments)
        self.slots = SLOTS[rule.name]
        running = length(self.running)
        self.vector = zeros((1 + self.slots) * self.size + running, self.dtype)
        self.parameters = self.vector[: self.size]
        ends = [(1 + i) * self.size for i in range(self.slots + 1)]
        self.slot_vectors = [self.vector[a:b] for a, b in pairwise(ends)]
        self.statistics = self.vector[(1 + self.slots) * self.size :]
        # What products read: the parameters themselves, or a copy in fewer bits.
        narrow = self.kernels.stored != self.dtype
        self.copy = zeros(self.size, self.kernels.stored) if narrow else None
        self.gradient = zeros(self.size, self.dtype)
        self.numbers = zeros(len(NUMBERS), "float64")
        self.clock = zeros(len(CLOCK), "uint64")
        self.rates = empty(BATCHES, "float64")
        self.losses = empty(BATCHES, "float64")
        self.odd = empty(1, "int32")
        self.buffers = Buffers(self, 0)
        self.programs: dict[Any, Program] = {}
        self.runs: dict[Any, Runs] = {}
        self.held: Any = None
        self.listed: DeviceArray | None = None

    # The numbers

    def load(self, state: State) -> None:
        """Take over the numbers of `state`."""
        vectors = (state.parameters, *state.slots)
        parts = [self.padded(np.asarray(flat, self.dtype)) for flat in vectors]
        self.vector.set(np.concatenate([*parts, np.asarray(state.running, self.dtype)]))
        self._refresh()

    def store(self, state: State) -> None:
        """Write the plan's numbers into the arrays of `state`."""
        host = self.vector.get()
        for place, flat in enumerate((state.parameters, *state.slots)):
            self.trimmed(flat, host[place * self.size : (place + 1) * self.size])
        state.running[...] = host[(1 + self.slots) * self.size :]

    @advised
    def snapshot(self) -> DeviceArray:
        """Copy all numbers, on the device."""
        return self.vector.copy()

    def restore(self, snapshot: DeviceArray) -> None:
        """Go back to a snapshot."""
        self.vector[...] = snapshot
        self._refresh()

    def _refresh(self) -> None:
        if self.copy is not None:
            self.kernels.launch(
                "copy_parameters", self.size, self.copy, self.parameters, self.size
            )()

    def finite(self) -> bool:
        """Whether parameters, slots and running statistics are all finite numbers."""
        self.odd.fill(0)
        vectors = (self.parameters, *self.slot_vectors)
        parts = [self.view(segment, flat) for flat in vectors for segment in self.segments]
        for part in (*parts, self.statistics):
            name = f"odd_{self.dtype.name}"
            self.kernels.launch(name, part.size, self.odd, part, part.size)()
        return int(self.odd.get()[0]) == 0

    def padded(self, flat: Array) -> Array:
        """A canonical vector with this plan's gaps."""
        wide = np.zeros(self.size, self.dtype)
        for segment, start in zip(self.segments, self.starts, strict=True):
            wide[start : start + segment.stop - segment.start] = flat[segment.start : segment.stop]
        return wide

    def trimmed(self, flat: Array, wide: Array) -> None:
        """Fill a canonical vector from one with gaps."""
        for segment, start in zip(self.segments, self.starts, strict=True):
            flat[segment.start : segment.stop] = wide[start : start + segment.stop - segment.start]

    # Views

    def view(self, segment: Segment, flat: DeviceArray) -> DeviceArray:
        """A segment inside one of the plan's vectors of `size` numbers."""
        start = self.starts[self.segments.index(segment)]
        stop = start + segment.stop - segment.start
        return flat[start:stop].reshape(segment.shape)

    def of_layer(self, number: int, flat: DeviceArray) -> dict[str, DeviceArray]:
        """A layer's arrays inside one of the plan's vectors, by kind."""
        return {s.kind: self.view(s, flat) for s in self.segments if s.layer == number}

    def statistics_of(self, number: int) -> dict[str, DeviceArray]:
        """A layer's running mean and variance."""
        return {s.kind: s.view(self.statistics) for s in self.running if s.layer == number}

    # Programs

    def reserve(self, rows: int) -> Buffers:
        """Buffers for batches of at least `rows` rows."""
        if rows > self.buffers.capacity:
            self.programs.clear()
            self.runs.clear()
            # The old ones go first: there may be no room for both.
            self.buffers = Buffers(self, 0)
            self.buffers = Buffers(self, rows)
        return self.buffers

    def program(self, key: Any, build: Callable[[], Program]) -> Program:
        """The program of a key, built where it is not kept."""
        return _kept(self.programs, key, build)

    def run(self, key: Any, build: Callable[[], Program], count: int) -> None:
        """Run what belongs to a key on the held rows, `count` times."""
        _kept(self.runs, key, lambda: Runs(build(), self.way.tier == "lt")).run(count)

    def release(self) -> None:
        """Let go of rows on the device, and of all that was captured with them."""
        self.runs.clear()
        self.held = self.listed = None

    def listing(self, listed: Array | None) -> DeviceArray | None:
        """Copy a listed order to where it stays as long as the rows."""
        if listed is None:
            return None
        if self.listed is None or self.listed.size != len(listed):
            self.runs.clear()
            self.listed = empty(len(listed), "int64")
        self.listed.set(np.ascontiguousarray(listed, np.int64))
        return self.listed


def _kept(kept: dict[Any, T], key: Any, build: Callable[[], T]) -> T:
    """The entry of a key, built where there is none; the oldest gives way to it."""
    if key not in kept:
        while len(kept) >= PROGRAMS:
            kept.pop(next(iter(kept)))
        kept[key] = build()
    return kept[key]


def _aligned(segments: tuple[Segment, ...]) -> tuple[tuple[int, ...], int]:
    """Where each segment starts, and how long the vector is."""
    starts, end = [], 0
    for segment in segments:
        if segment.kind == "weights":
            end = -(-end // ALIGNMENT) * ALIGNMENT
        starts.append(end)
        end += segment.stop - segment.start
    return tuple(starts), end


@advised
def make_plan(network: Network, update: Update, dtype: str, threads: int = 1) -> Plan:
    """Build a plan for a precision of `KERNELS_OF`; its numbers are zeros until `Plan.load`."""
    if dtype not in KERNELS_OF:
        known = ", ".join(map(repr, KERNELS_OF))
        raise ValueError(f"dtype must be one of {known} on backend 'cupy'; got {dtype!r}")
    plan = Plan(network, update, dtype)
    plan.threads = threads
    return plan

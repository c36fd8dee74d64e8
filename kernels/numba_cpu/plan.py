"""A network laid out for the kernels: one block of memory, one table of offsets.

The memory starts with what must outlast a batch (parameters, slots, running statistics), then come
gradient, transposed weights and buffers. Matrices are panels, ``[panel][row][lane]``; rows of a
buffer are the places of a batch. The table holds integers: a header, then a line of fields for
each layer. Kernels get three pointers: memory, table and numbers (float64).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ..contract import Array, Layer, Network, State, Update
from ..layout import FLOORS, Segment, parameter_segments, running_segments
from . import activations, losses, normalization, updates
from .intrinsics import lane_count
from .jit import prepare
from .products import to_panels

BLOCK = 64
"""Rows that pass through all layers together, so that they stay in the cache."""

ALIGNMENT = 64

# fmt: off
(LAYERS, CAPACITY, LOSS, JOINED, MEAN_OVER_ROWS, PENALTY_PER_ROW, PENALIZED, UPDATE, CLIPPED,
 PARAMETERS, SLOT_U, SLOT_V, GRADIENT, PERSISTENT, FLAT, INPUT, TARGETS, WEIGHTS, FACTORS,
 ROW_LOSSES, ZEROS, SCRATCH, SCRATCH_SIZE, SCRATCH_DA, SCRATCH_TERMS, ITEMS,
 X, LABELS, DENSE, SAMPLE_WEIGHTS, INDEX, ORDER, ORDER_KEY, ROWS, BATCH, FIRST, COUNT, STEP, KEY,
 RATES, LOSSES_OUT, OUT, MODE, TRAINING, DENSE_COLUMNS) = range(45)
HEADER = 48
(INPUTS, UNITS, PIECES, IN_PANELS, UNIT_PANELS, PANELS, ACTIVATION, NORM, DROPS, THRESHOLD,
 KEEPS_Y, W, B, U, V, SCALE, SHIFT, BETA, WT, LAYER_INPUT, Y, HAT, A, OUTPUT, DY, DZ, MASK, DU, DV,
 ROW_SPREAD, MEAN, SPREAD, RUNNING_MEAN, RUNNING_VARIANCE, RUNNING_SPREAD, PENALTY_1,
 PENALTY_2) = range(37)
FIELDS = 40
(LOSS_CONSTANT, L1, L2, TINY, EPSILON, CLIP_VALUE, CLIP_NORM, RULE) = range(8)
NUMBERS = RULE + updates.CONSTANTS
# fmt: on
LAYER_NUMBERS = 2
"""Per layer in the numbers: the activation's constant and 1/(1 - dropout)."""
THREAD_NUMBERS = 16
THREAD_FLAGS = 64
"""Integers of a thread: its barrier count on a cache line of its own, then the round keys."""

SEQUENCE, KEYED, LISTED = range(3)
ORDERS = {"sequence": SEQUENCE, "keyed": KEYED, "array": LISTED}
LOGITS, OUTPUTS, LOSS_ONLY = range(3)


class _Allocator:
    """Hands out aligned stretches of one block of memory."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.size = 0

    def take(self, count: int) -> int:
        start = self.size
        self.size += -(-count // 16) * 16
        return start


class Plan:
    """One network in panels, with buffers for batches of up to `capacity` rows."""

    def __init__(self, network: Network, rule: Update, dtype: str):
        self.network = network
        self.rule = rule
        self.dtype = np.dtype(dtype)
        self.one = self.dtype.type(1)
        self.threads = 1
        self.lock = threading.RLock()
        self.segments = parameter_segments(network)
        self.running = running_segments(network)
        self.capacity = 0
        self.team = 0
        self.flops = 6 * sum(layer.inputs * layer.columns for layer in network.layers)
        self.reserve(1, 1)
        self._clear_running()

    def reserve(self, rows: int, team: int) -> None:
        """Make room for batches of `rows` rows and teams of `team` threads."""
        if rows <= self.capacity and team <= self.team:
            return
        capacity = max(rows, team * BLOCK, self.capacity)
        team = max(team, self.team)
        capacity = -(-capacity // 8) * 8
        table, numbers, size = _laid_out(self, capacity, team)
        memory = _aligned(size, self.dtype)
        if self.capacity:
            kept = int(table[PERSISTENT])
            memory[:kept] = self.memory[:kept]
        self.memory, self.table, self.numbers = memory, table, numbers
        self.capacity, self.team = capacity, team
        self.flags = np.zeros(team * THREAD_FLAGS, np.int64)
        blocks = (memory, table, numbers, self.flags)
        self.addresses = tuple(block.ctypes.data for block in blocks)
        self.fresh = False

    def load(self, state: State) -> None:
        """Take over the numbers of `state`."""
        self._exchange(state, _to_segment)
        self.fresh = False

    def store(self, state: State) -> None:
        """Write the plan's numbers into the arrays of `state`."""
        self._exchange(state, _from_segment)

    def snapshot(self) -> Array:
        """Copy all numbers."""
        return self.memory[: int(self.table[PERSISTENT])].copy()

    def restore(self, snapshot: Array) -> None:
        """Go back to a snapshot."""
        self.memory[: len(snapshot)] = snapshot
        self.fresh = False

    def finite(self) -> bool:
        """Whether every parameter is a finite number."""
        start = int(self.table[PARAMETERS])
        with np.errstate(all="ignore"):
            total = self.memory[start : start + int(self.table[FLAT])].sum()
        if np.isfinite(total):
            return True
        for segment in self.segments:
            view = self._view(segment, int(self.table[PARAMETERS]))
            if not np.isfinite(_trimmed(view, segment, self.network)).all():
                return False
        return True

    def load_gradient(self, gradient: Array) -> None:
        """Take over a canonical gradient."""
        for segment in self.segments:
            view = self._view(segment, int(self.table[GRADIENT]))
            _to_segment(view, segment.view(gradient), segment, self.network)

    def store_gradient(self, gradient: Array) -> None:
        """Write the gradient in canonical form."""
        for segment in self.segments:
            view = self._view(segment, int(self.table[GRADIENT]))
            _from_segment(view, segment.view(gradient), segment, self.network)

    def _exchange(self, state: State, move: Any) -> None:
        vectors = [(PARAMETERS, state.parameters)]
        vectors += zip((SLOT_U, SLOT_V), state.slots, strict=False)
        for base, flat in vectors:
            for segment in self.segments:
                move(
                    self._view(segment, int(self.table[base])),
                    segment.view(flat),
                    segment,
                    self.network,
                )
        for segment in self.running:
            view = self._view(segment, 0)
            move(view, segment.view(state.running), segment, self.network)

    def _view(self, segment: Segment, base: int) -> Array:
        """The panels of a segment: (pieces, unit panels, rows, lanes)."""
        layer = self.network.layers[segment.layer]
        lanes = lane_count(self.dtype.name)
        line = HEADER + segment.layer * FIELDS
        start = base + int(self.table[line + _FIELD_OF[segment.kind]])
        pieces = layer.pieces if segment.shape[-1] == layer.columns else 1
        rows = _padded(layer.inputs, lanes) if segment.kind == "weights" else 1
        shape = (pieces, -(-layer.units // lanes), rows, lanes)
        return self.memory[start : start + int(np.prod(shape))].reshape(shape)

    def _clear_running(self) -> None:
        for segment in self.running:
            if segment.kind == "variance":
                self._view(segment, 0)[...] = 1.0


_FIELD_OF = {
    "weights": W,
    "biases": B,
    "slope": U,
    "alpha": U,
    "beta": V,
    "scale": SCALE,
    "shift": SHIFT,
    "mean": RUNNING_MEAN,
    "variance": RUNNING_VARIANCE,
}


def _padded(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


def _aligned(size: int, dtype: np.dtype[Any]) -> Array:
    block = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size * dtype.itemsize].view(dtype)


def _to_segment(view: Array, canonical: Array, segment: Segment, network: Network) -> None:
    units = network.layers[segment.layer].units
    matrix = canonical.reshape(-1, canonical.shape[-1])
    for piece in range(len(view)):
        columns = matrix[:, piece * units : (piece + 1) * units]
        view[piece] = to_panels(columns, view.shape[2] if segment.kind == "weights" else 1)


def _from_segment(view: Array, canonical: Array, segment: Segment, network: Network) -> None:
    canonical[...] = _trimmed(view, segment, network)


def _trimmed(view: Array, segment: Segment, network: Network) -> Array:
    """The panels of a segment without padding, in the segment's shape."""
    units = network.layers[segment.layer].units
    rows = segment.shape[0] if segment.kind == "weights" else 1
    pieces, panels, padded, lanes = view.shape
    wide = view.transpose(2, 0, 1, 3).reshape(padded, pieces, panels * lanes)
    return wide[:rows, :, :units].reshape(segment.shape)


def _laid_out(plan: Plan, capacity: int, team: int) -> tuple[Array, Array, int]:
    """Offsets of everything, and the size of the memory."""
    network, lanes = plan.network, lane_count(plan.dtype.name)
    table = np.zeros(HEADER + len(network.layers) * FIELDS, np.int64)
    lines = table[HEADER:].reshape(-1, FIELDS)
    memory = _Allocator(lanes)
    flat = _Allocator(lanes)
    for line, layer in zip(lines, network.layers, strict=True):
        _describe(line, layer, lanes)
        _place_parameters(line, flat, lanes)
    slots = updates.SLOTS[updates.CODES[plan.rule.name]]
    table[FLAT] = flat.size
    table[PARAMETERS] = table[SLOT_U] = table[SLOT_V] = memory.take(flat.size)
    if slots > 0:
        table[SLOT_U] = memory.take(flat.size)
    if slots > 1:
        table[SLOT_V] = memory.take(flat.size)
    for line in lines:
        if line[NORM] == normalization.BATCH:
            for field in (RUNNING_MEAN, RUNNING_VARIANCE):
                line[field] = memory.take(line[PANELS] * lanes)
    table[PERSISTENT] = memory.size
    table[GRADIENT] = memory.take(flat.size)
    _place_buffers(table, lines, memory, capacity, lanes)
    _place_scratch(table, lines, memory, team, lanes)
    _fill_header(table, plan, capacity)
    table[ITEMS] = sum(line[PANELS] * (line[IN_PANELS] + 1) for line in lines)
    return table, _numbers(plan, team), memory.size


def _describe(line: Array, layer: Layer, lanes: int) -> None:
    line[INPUTS], line[UNITS], line[PIECES] = layer.inputs, layer.units, layer.pieces
    line[IN_PANELS] = -(-layer.inputs // lanes)
    line[UNIT_PANELS] = -(-layer.units // lanes)
    line[PANELS] = layer.pieces * line[UNIT_PANELS]
    line[ACTIVATION] = activations.CODES[layer.activation]
    line[NORM] = normalization.CODES[layer.normalization]
    line[BETA] = layer.activation == "mpelu"
    line[THRESHOLD] = int(layer.dropout * 2**32)


def _place_parameters(line: Array, flat: _Allocator, lanes: int) -> None:
    line[W] = flat.take(line[PANELS] * line[IN_PANELS] * lanes * lanes)
    line[B] = flat.take(line[PANELS] * lanes)
    line[U] = line[V] = line[SCALE] = line[SHIFT] = line[B]
    if line[ACTIVATION] in (activations.PRELU, activations.MPELU):
        line[U] = flat.take(line[UNIT_PANELS] * lanes)
    if line[ACTIVATION] == activations.MPELU:
        line[V] = flat.take(line[UNIT_PANELS] * lanes)
    if line[NORM] != normalization.NONE:
        line[SCALE] = flat.take(line[PANELS] * lanes)
        line[SHIFT] = flat.take(line[PANELS] * lanes)


def _place_buffers(
    table: Array, lines: Array, memory: _Allocator, capacity: int, lanes: int
) -> None:
    """Buffers with a row for each place of a batch."""
    panel = capacity * lanes
    table[INPUT] = memory.take(lines[0, IN_PANELS] * panel)
    table[TARGETS] = memory.take(lines[-1, UNIT_PANELS] * panel)
    for field in (WEIGHTS, FACTORS, ROW_LOSSES):
        table[field] = memory.take(capacity)
    given = int(table[INPUT])
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        wide, narrow = line[PANELS] * panel, line[UNIT_PANELS] * panel
        line[LAYER_INPUT] = given
        line[A] = line[OUTPUT] = given = memory.take(narrow)
        line[DZ] = line[DY] = memory.take(wide)
        line[KEEPS_Y] = last or int(line[ACTIVATION]) in activations.READS_INPUT
        if line[KEEPS_Y]:
            line[Y] = memory.take(wide)
        if line[NORM] != normalization.NONE:
            line[HAT], line[DY] = memory.take(wide), memory.take(wide)
            line[ROW_SPREAD] = memory.take(capacity)
            for field in (MEAN, SPREAD, RUNNING_SPREAD):
                line[field] = memory.take(line[PANELS] * lanes)
        line[DU] = line[DV] = line[DZ]
        if line[ACTIVATION] in (activations.PRELU, activations.MPELU):
            line[DU] = memory.take(narrow)
        if line[ACTIVATION] == activations.MPELU:
            line[DV] = memory.take(narrow)
        line[DROPS] = line[THRESHOLD] > 0 and not last
        if line[DROPS]:
            line[MASK] = memory.take(narrow)
            line[OUTPUT] = given = memory.take(narrow)
        if number > 0:
            line[WT] = memory.take(line[PANELS] * line[IN_PANELS] * lanes * lanes)
        for field in (PENALTY_1, PENALTY_2):
            line[field] = memory.take(line[PANELS] * lanes)


def _place_scratch(table: Array, lines: Array, memory: _Allocator, team: int, lanes: int) -> None:
    """Per thread: an activation's input, a gradient by a layer's output, and loss terms."""
    widest = int(lines[:, PANELS].max())
    table[ZEROS] = memory.take(max(widest, int(lines[:, IN_PANELS].max())) * lanes)
    table[SCRATCH_DA] = widest * BLOCK * lanes
    table[SCRATCH_TERMS] = 2 * widest * BLOCK * lanes
    table[SCRATCH_SIZE] = (2 * widest + int(lines[-1, UNIT_PANELS])) * BLOCK * lanes
    table[SCRATCH] = memory.take(team * int(table[SCRATCH_SIZE]))


def _fill_header(table: Array, plan: Plan, capacity: int) -> None:
    network, rule = plan.network, plan.rule
    table[LAYERS], table[CAPACITY] = len(network.layers), capacity
    pair = (network.loss, network.layers[-1].activation)
    table[JOINED] = pair in losses.CODES
    table[LOSS] = losses.CODES[pair if table[JOINED] else network.loss]
    table[MEAN_OVER_ROWS] = network.reduction == "mean"
    table[PENALTY_PER_ROW] = network.penalty_scale == "rows"
    table[PENALIZED] = network.l1 != 0.0 or network.l2 != 0.0
    table[UPDATE] = updates.CODES[rule.name]
    table[CLIPPED] = rule.clip_norm > 0.0


def _numbers(plan: Plan, team: int) -> Array:
    network, rule = plan.network, plan.rule
    limits = np.finfo(plan.dtype)
    numbers = np.zeros(NUMBERS + len(network.layers) * LAYER_NUMBERS + team * THREAD_NUMBERS)
    numbers[:RULE] = (
        *(network.loss_constant, network.l1, network.l2, limits.tiny, limits.eps),
        *(rule.clip_value, rule.clip_norm),
    )
    numbers[RULE:NUMBERS] = updates.padded(rule.constants)
    for number, layer in enumerate(network.layers):
        place = NUMBERS + number * LAYER_NUMBERS
        numbers[place : place + 2] = layer.constant, 1.0 / (1.0 - layer.dropout)
    return numbers


BETA_FLOOR = FLOORS["beta"]


def make_plan(network: Network, update: Update, dtype: str) -> Plan:
    """Build a plan for a network and an optimizer's rule; its numbers are zeros."""
    prepare(dtype)
    return Plan(network, update, dtype)

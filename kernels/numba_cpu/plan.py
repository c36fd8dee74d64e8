"""A network laid out for the kernels: one block of memory, one table of offsets.

The memory starts with what must outlast a batch (parameters, slots, running statistics), then come
gradient, transposed weights and buffers. Matrices are panels, ``[panel][row][lane]``; rows of a
buffer are the places of a batch. The table holds integers: a header, then a line of fields for
each layer. Kernels get three pointers: memory, table and numbers (float64).
"""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np

from ..contract import Array, Layer, Network, State, Update
from ..forks import tell_after_fork
from ..layout import Segment, parameter_segments, running_segments
from . import activations, fields, losses, normalization, updates
from .company import Company
from .intrinsics import lane_count
from .jit import prepare
from .keeping import Backup, all_finite
from .products import BEYOND_THE_CACHE, to_panels
from .room import Allocator, aligned, places
from .sharing import Items
from .tiles import TILE_PANELS
from .work import LONG, heft, padded, update_work


class Plan:
    """One network in panels, with buffers for batches of up to `capacity` rows."""

    def __init__(self, network: Network, rule: Update, dtype: str):
        self.network = network
        self.rule = rule
        self.precision = dtype
        self.dtype = np.dtype(dtype)
        self.threads = 1
        self.after_fork()
        tell_after_fork(self)
        self.company = Company()
        self.items = Items(network, dtype)
        self.segments = parameter_segments(network)
        self.running = running_segments(network)
        self.capacity = 0
        self.memory = np.zeros(0, self.dtype)
        self.backup = Backup(self.dtype)
        self.looked = False
        """Whether all parameters and slots are known to be finite."""
        self.team = 0
        self.flops = 6 * sum(layer.inputs * layer.columns for layer in network.layers)
        self.heft = heft(network, self.dtype)
        self.update_work = self.flops / 6 * update_work(rule)
        weights = max(layer.inputs * layer.columns for layer in network.layers)
        wide = BEYOND_THE_CACHE <= weights < fields.TOO_WIDE
        self.block = fields.WIDE_BLOCK if wide else fields.BLOCK
        self.brief = min(fields.BLOCK, int(3 * LONG / self.heft))
        self.narrow, self.online = _narrow(network, rule), _online(network, rule)
        self.reserve(1, 1)

    def after_fork(self) -> None:
        """Make a new lock: nobody else is here who could have the old one."""
        self.lock = threading.RLock()

    def reserve(self, rows: int, team: int) -> None:
        """Make room for batches of `rows` rows and teams of `team` threads."""
        if rows <= self.capacity and team <= self.team:
            return
        capacity = max(rows, team * fields.BLOCK, self.capacity)
        team = max(team, self.team)
        capacity = places(capacity, lane_count(self.dtype.name), self.dtype.itemsize)
        table, numbers, size = _laid_out(self, capacity, team)
        memory = aligned(size, self.dtype)
        if self.capacity:
            kept = int(table[fields.PERSISTENT])
            memory[:kept] = self.memory[:kept]
        self.memory, self.table, self.numbers = memory, table, numbers
        self.cells = memoryview(cast(Any, table))  # its numbers take less time than NumPy's
        self.capacity, self.team = capacity, team
        self.persistent = memory[: int(table[fields.PERSISTENT])]
        self.running_from = int(table[fields.RUNNING])
        self.statistics = self.persistent[self.running_from :]
        first = fields.NUMBERS + len(self.network.layers) * fields.LAYER_NUMBERS + fields.LOOKED
        last = first + team * fields.THREAD_NUMBERS
        self.looks: Any = memoryview(cast(Any, numbers))[first : last : fields.THREAD_NUMBERS]
        self.flags = np.zeros(team * fields.THREAD_FLAGS, np.int64)
        ring = 1 << (capacity + max(capacity, fields.LISTED_AHEAD) - 1).bit_length()
        self.listed_rows = np.zeros(2 * ring, np.int64)
        table[fields.LISTED_ROWS], table[fields.RING] = self.listed_rows.ctypes.data, ring
        self.items.list_in(table)
        blocks = (memory, table, numbers, self.flags)
        self.addresses = tuple(block.ctypes.data for block in blocks)
        self.listed_blocks = np.array(self.addresses, np.int64)
        self.entrance = (self.addresses[0], self.listed_blocks.ctypes.data)
        self.fresh = False

    def load(self, state: State) -> None:
        """Take over the numbers of `state`."""
        self.about_to_move()
        self._exchange(state, _to_segment)
        self.fresh = False

    def store(self, state: State) -> None:
        """Write the plan's numbers into the arrays of `state`."""
        self._exchange(state, _from_segment)

    def snapshot(self) -> Array:
        """Promise a copy of all numbers, to where the last one was: new memory takes twice as long.

        The kernels make it, or `about_to_move`.
        """
        return self.backup.begin(self.persistent, self.running_from)

    def about_to_move(self) -> None:
        """To be called before anything moves parameters that does not save them by itself."""
        self.backup.complete(self.persistent, self.running_from, self.threads)
        self.looked = False

    def restore(self, snapshot: Array) -> None:
        """Go back to a snapshot."""
        self.backup.give_back(self.persistent, self.running_from, snapshot, self.threads)
        self.fresh = self.looked = False

    def finite(self) -> bool:
        """Whether parameters, slots and running statistics are all finite numbers."""
        first = self.running_from if self.looked else 0
        return first == len(self.persistent) or all_finite(self.persistent[first:], self.threads)

    def load_gradient(self, gradient: Array) -> None:
        """Take over a canonical gradient."""
        for segment in self.segments:
            view = self._view(segment, int(self.table[fields.GRADIENT]))
            _to_segment(view, segment.view(gradient), segment, self.network)

    def store_gradient(self, gradient: Array) -> None:
        """Write the gradient in canonical form."""
        for segment in self.segments:
            view = self._view(segment, int(self.table[fields.GRADIENT]))
            _from_segment(view, segment.view(gradient), segment, self.network)

    def _exchange(self, state: State, move: Any) -> None:
        vectors = [(fields.PARAMETERS, state.parameters)]
        vectors += zip((fields.SLOT_U, fields.SLOT_V), state.slots, strict=False)
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
        line = fields.HEADER + segment.layer * fields.FIELDS
        start = base + int(self.table[line + _FIELD_OF[segment.kind]])
        pieces = layer.pieces if segment.shape[-1] == layer.columns else 1
        rows = padded(layer.inputs, lanes) if segment.kind == "weights" else 1
        shape = (pieces, -(-layer.units // lanes), rows, lanes)
        return self.memory[start : start + int(np.prod(shape))].reshape(shape)


def _narrow(network: Network, rule: Update) -> bool:
    """Whether `narrow` can train a network: tiny, and without what only panels have."""
    if not _plain(network, rule) or rule.name in ("adamw", "lars", "lamb"):
        return False
    for layer in network.layers:
        code = activations.CODES[layer.activation]
        joined = layer is network.layers[-1] and (network.loss, layer.activation) in losses.CODES
        if max(layer.inputs, layer.columns) > fields.NARROW_WIDTH or layer.dropout:
            return False
        if layer.normalization is not None or (code in activations.WHOLE_PANELS and not joined):
            return False
    return True


def _online(network: Network, rule: Update) -> bool:
    """Whether `online` can train a network by single rows."""
    normalizations = [normalization.CODES[layer.normalization] for layer in network.layers]
    return (
        _plain(network, rule) and rule.name == "sgd" and normalization.BATCH not in normalizations
    )


def _plain(network: Network, rule: Update) -> bool:
    return not (network.l1 or network.l2 or rule.clip_value or rule.clip_norm)


_FIELD_OF = {
    "weights": fields.W,
    "biases": fields.B,
    "slope": fields.U,
    "alpha": fields.U,
    "beta": fields.V,
    "scale": fields.SCALE,
    "shift": fields.SHIFT,
    "mean": fields.RUNNING_MEAN,
    "variance": fields.RUNNING_VARIANCE,
}


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
    table = np.zeros(fields.HEADER + len(network.layers) * fields.FIELDS, np.int64)
    lines = table[fields.HEADER :].reshape(-1, fields.FIELDS)
    memory = Allocator()
    flat = Allocator()
    for line, layer in zip(lines, network.layers, strict=True):
        _describe(line, layer, lanes)
        _place_parameters(line, flat, lanes)
    slots = updates.SLOTS[updates.CODES[plan.rule.name]]
    table[fields.FLAT] = flat.size
    table[fields.PARAMETERS] = table[fields.SLOT_U] = table[fields.SLOT_V] = memory.take(flat.size)
    if slots > 0:
        table[fields.SLOT_U] = memory.take(flat.size)
    if slots > 1:
        table[fields.SLOT_V] = memory.take(flat.size)
    table[fields.RUNNING] = memory.size
    for line in lines:
        if line[fields.NORM] == normalization.BATCH:
            for field in (fields.RUNNING_MEAN, fields.RUNNING_VARIANCE):
                line[field] = memory.take(line[fields.PANELS] * lanes)
    table[fields.PERSISTENT] = memory.size
    table[fields.GRADIENT] = memory.take(flat.size)
    # Narrow rows are this far apart also where vectors are shorter.
    width = max(lanes, fields.NARROW_WIDTH) if plan.narrow else lanes
    _place_buffers(table, lines, memory, capacity, width)
    table[fields.BLOCK_ROWS] = plan.block
    _place_scratch(table, lines, memory, team, width)
    if plan.narrow:
        parameters = sum(layer.inputs + 1 for layer in network.layers) * fields.NARROW_WIDTH
        table[fields.NARROW] = memory.take(4 * parameters + capacity * fields.NARROW_WIDTH)
    table[fields.LINES] = memory.take(2 * lines[0, fields.IN_PANELS] * lanes)
    _fill_header(table, plan, capacity)
    table[fields.TILES] = sum(line[fields.PANELS] * line[fields.IN_PANELS] for line in lines)
    table[fields.COLUMN_PANELS] = sum(line[fields.PANELS] for line in lines)
    return table, _numbers(table, plan, team), memory.size


def _describe(line: Array, layer: Layer, lanes: int) -> None:
    line[fields.INPUTS], line[fields.UNITS] = layer.inputs, layer.units
    line[fields.PIECES] = layer.pieces
    line[fields.IN_PANELS] = -(-layer.inputs // lanes)
    line[fields.UNIT_PANELS] = -(-layer.units // lanes)
    line[fields.PANELS] = layer.pieces * line[fields.UNIT_PANELS]
    line[fields.ACTIVATION] = activations.CODES[layer.activation]
    line[fields.NORM] = normalization.CODES[layer.normalization]
    line[fields.BETA] = layer.activation == "mpelu"
    line[fields.THRESHOLD] = int(layer.dropout * 2**32)


def _place_parameters(line: Array, flat: Allocator, lanes: int) -> None:
    line[fields.W] = flat.take(line[fields.PANELS] * line[fields.IN_PANELS] * lanes * lanes)
    vectors = [fields.B]
    if line[fields.ACTIVATION] in (activations.PRELU, activations.MPELU):
        vectors.append(fields.U)
    if line[fields.ACTIVATION] == activations.MPELU:
        vectors.append(fields.V)
    if line[fields.NORM] != normalization.NONE:
        vectors += [fields.SCALE, fields.SHIFT]
    line[fields.VECTORS] = len(vectors)
    offsets = [flat.take(line[fields.PANELS] * lanes) for _ in vectors]
    line[fields.VECTOR : fields.VECTOR + len(vectors)] = offsets
    line[[fields.U, fields.V, fields.SCALE, fields.SHIFT]] = offsets[0]
    line[vectors] = offsets


def _place_buffers(
    table: Array, lines: Array, memory: Allocator, capacity: int, lanes: int
) -> None:
    """Buffers with a row for each place of a batch."""
    panel = capacity * lanes
    table[fields.INPUT] = memory.take(lines[0, fields.IN_PANELS] * panel)
    table[fields.TARGETS] = memory.take(lines[-1, fields.UNIT_PANELS] * panel)
    for field in (fields.WEIGHTS, fields.FACTORS, fields.ROW_LOSSES):
        table[field] = memory.take(capacity)
    given = int(table[fields.INPUT])
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        wide, narrow = line[fields.PANELS] * panel, line[fields.UNIT_PANELS] * panel
        line[fields.LAYER_INPUT] = given
        line[fields.A] = line[fields.OUTPUT] = given = memory.take(narrow)
        line[fields.DZ] = line[fields.DY] = memory.take(wide)
        line[fields.KEEPS_Y] = last or int(line[fields.ACTIVATION]) in activations.READS_INPUT
        if line[fields.KEEPS_Y]:
            line[fields.Y] = memory.take(wide)
        if line[fields.NORM] != normalization.NONE:
            line[fields.HAT], line[fields.DY] = memory.take(wide), memory.take(wide)
            line[fields.ROW_SPREAD] = memory.take(capacity)
            for field in (fields.MEAN, fields.SPREAD, fields.RUNNING_SPREAD):
                line[field] = memory.take(line[fields.PANELS] * lanes)
        line[fields.DU] = line[fields.DV] = line[fields.DZ]
        if line[fields.ACTIVATION] in (activations.PRELU, activations.MPELU):
            line[fields.DU] = memory.take(narrow)
        if line[fields.ACTIVATION] == activations.MPELU:
            line[fields.DV] = memory.take(narrow)
        line[fields.DROPS] = line[fields.THRESHOLD] > 0 and not last
        if line[fields.DROPS]:
            line[fields.MASK] = memory.take(narrow)
            line[fields.OUTPUT] = given = memory.take(narrow)
        if number > 0:
            line[fields.WT] = memory.take(
                line[fields.PANELS] * line[fields.IN_PANELS] * lanes * lanes
            )
        for field in (fields.SUMS, fields.SQUARES):
            line[field] = memory.take(line[fields.PANELS] * lanes)


def _place_scratch(table: Array, lines: Array, memory: Allocator, team: int, lanes: int) -> None:
    """Per thread: an activation's input, a gradient by a layer's output, and loss terms."""
    widest, given = (int(lines[:, field].max()) for field in (fields.PANELS, fields.IN_PANELS))
    panel = int(table[fields.BLOCK_ROWS]) * lanes
    table[fields.ZEROS] = memory.take(max(widest, given) * lanes)
    table[fields.SCRATCH_DA] = widest * panel
    table[fields.SCRATCH_TERMS] = 2 * widest * panel
    table[fields.SCRATCH_SIZE] = max(
        table[fields.SCRATCH_TERMS] + int(lines[-1, fields.UNIT_PANELS]) * panel,
        fields.ITEM_INPUTS * TILE_PANELS * lanes,
    )
    table[fields.SCRATCH] = memory.take(team * int(table[fields.SCRATCH_SIZE]))


def _fill_header(table: Array, plan: Plan, capacity: int) -> None:
    network, rule = plan.network, plan.rule
    table[fields.LAYERS], table[fields.CAPACITY] = len(network.layers), capacity
    pair = (network.loss, network.layers[-1].activation)
    table[fields.JOINED] = pair in losses.CODES
    table[fields.LOSS] = losses.CODES[pair if table[fields.JOINED] else network.loss]
    table[fields.MEAN_OVER_ROWS] = network.reduction == "mean"
    table[fields.PENALTY_PER_ROW] = network.penalty_scale == "rows"
    table[fields.PENALIZED] = network.l1 != 0.0 or network.l2 != 0.0
    table[fields.UPDATE] = updates.CODES[rule.name]
    table[fields.VECTOR_UPDATE] = updates.CODES[rule.for_vectors.name]
    table[fields.CLIPPED] = rule.clip_norm > 0.0


def _numbers(table: Array, plan: Plan, team: int) -> Array:
    """The float64 numbers: of the network, the layers, the threads, then sums of squares."""
    network, rule = plan.network, plan.rule
    limits = np.finfo(plan.dtype)
    size = fields.NUMBERS + len(network.layers) * fields.LAYER_NUMBERS
    size += team * fields.THREAD_NUMBERS
    for line in table[fields.HEADER :].reshape(-1, fields.FIELDS):
        columns = int(line[fields.PANELS]) * lane_count(plan.dtype.name)
        line[fields.SQUARED_GRADIENT], line[fields.TRUST_SQUARES] = size, size + columns
        size += 3 * columns
    numbers = np.zeros(size)
    numbers[: fields.RULE] = (
        network.loss_constant,
        network.l1,
        network.l2,
        limits.tiny,
        limits.eps,
        rule.clip_value,
        rule.clip_norm,
    )
    numbers[fields.RULE : fields.NUMBERS] = updates.padded(rule.constants)
    for number, layer in enumerate(network.layers):
        place = fields.NUMBERS + number * fields.LAYER_NUMBERS
        numbers[place : place + 2] = layer.constant, 1.0 / (1.0 - layer.dropout)
    return numbers


def make_plan(network: Network, update: Update, dtype: str, threads: int = 1) -> Plan:
    """Build a plan for a network and an optimizer's rule; its numbers are zeros."""
    prepare(dtype, threads)
    plan = Plan(network, update, dtype)
    plan.threads = threads
    return plan

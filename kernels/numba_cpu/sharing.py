"""Items, a few square tiles of the weights that follow one another, and how threads share them.

Items count from the first layer to the last. A layer's input panels are cut into blocks, its panels
of columns into groups; an item is a block in a group, groups fastest: the block of inputs is read
once and stays in the cache, and a thread's share of items needs little of what other threads have
gathered.
"""

from __future__ import annotations

import numpy as np

from ..contract import Array, Layer, Network
from . import fields
from .intrinsics import integers_at, lane_count
from .jit import inline
from .tiles import TILE_PANELS

UPDATED, TRANSPOSED, COLUMNS = 14, 18, 20
"""What a tile takes besides its sums, and a panel of columns besides half of its rows, counted in
rows of a tile: the update, the transposed copy, all together (cycles of two threads of Zen 3). By
tiles alone one thread had 7000 cycles to do and the other 12000 (16-64-64-2, 32 rows)."""

LOW, HIGH = 0, 1


class Items:
    """The items of a network, cut where the shares of a team's threads meet."""

    def __init__(self, network: Network, dtype: str):
        lanes = lane_count(dtype)
        listed = [_items_of(layer, lanes) for layer in network.layers]
        self._whole = np.array([line for lines in listed for line in lines], np.int64)
        self._layers = np.repeat(np.arange(len(listed)), [len(lines) for lines in listed])
        self._kind = (1, 0)
        self._cut([], [])

    def deal(self, table: Array, rows: int, team: int) -> None:
        """Share them out to `team` threads for batches of about `rows` rows.

        One thread takes them all, however they are cut.
        """
        kind = (team, rows.bit_length())
        if team == 1 or kind == self._kind:
            return
        self._kind = kind
        low, high = self._whole[:, LOW], self._whole[:, HIGH]
        across = self._whole[:, 3] - self._whole[:, 2]
        each = across * (rows + UPDATED + TRANSPOSED * (self._layers > 0))
        ends = np.cumsum(across * (low == 0) * (rows / 2 + COLUMNS) + each * (high - low))
        goals = ends[-1] * np.arange(1, team) / team
        items = np.searchsorted(ends, goals)
        places = high[items] - np.rint((ends[items] - goals) / each[items]).astype(np.int64)
        self._cut(items.tolist(), np.maximum(places, low[items]).tolist())
        self.list_in(table)

    def list_in(self, table: Array) -> None:
        """Tell a plan's table where items and shares are listed."""
        table[fields.HEADER + fields.ITEMS :: fields.FIELDS] = self._counts
        table[fields.ITEM_LINES] = self._lines.ctypes.data
        table[fields.ITEM_COUNT] = len(self._lines)
        table[fields.SHARES] = len(self._starts) - 1
        table[fields.SHARE_STARTS] = self._starts.ctypes.data

    def _cut(self, items: list[int], places: list[int]) -> None:
        """Let shares meet at the `places`-th input panels of `items`."""
        cuts: list[tuple[int, int]] = []
        starts = [0]
        for item, place in zip(items, places, strict=True):
            low, high = self._whole[item, : HIGH + 1]
            if low < place < high and (item, place) not in cuts:
                cuts.append((item, place))
            starts.append(item + len(cuts) + int(place == high))
        cut = np.array([item for item, _ in cuts], np.int64)
        self._lines = np.insert(self._whole, cut + 1, self._whole[cut], axis=0)
        for number, (item, place) in enumerate(cuts):
            self._lines[item + number, HIGH] = self._lines[item + number + 1, LOW] = place
        self._counts = np.bincount(np.insert(self._layers, cut + 1, self._layers[cut]))
        self._starts = np.array([*starts, len(self._lines)], np.int64)


def _items_of(layer: Layer, lanes: int) -> list[tuple[int, int, int, int]]:
    inputs, panels = -(-layer.inputs // lanes), layer.pieces * -(-layer.units // lanes)
    return [
        (*block, *group)
        for block in _parts(inputs, -(-inputs * lanes // fields.ITEM_INPUTS))
        for group in _parts(panels, -(-panels // TILE_PANELS))
    ]


def _parts(count: int, parts: int) -> list[tuple[int, int]]:
    """First and last of `count` things in parts that are as even as they can be."""
    return [(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


@inline
def items_share(t, thread, team):
    """First and last of a thread's items; a team that lacks threads takes several shares each."""
    shares, starts = t[fields.SHARES], integers_at(t[fields.SHARE_STARTS])
    return starts[shares * thread // team], starts[shares * (thread + 1) // team]

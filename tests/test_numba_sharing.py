"""How a team shares the weights: every tile has one owner, and threads have about as much to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import kernels
from fastmlp.kernels.contract import Layer, Network

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

import itertools

from fastmlp.kernels.numba_cpu import fields
from fastmlp.kernels.numba_cpu.intrinsics import lane_count
from fastmlp.kernels.numba_cpu.sharing import COLUMNS, TRANSPOSED, UPDATED, Items

Shares = list[list[tuple[int, int, int, int, int]]]


def _dealt(sizes: list[int], rows: int, team: int, dtype: str) -> Shares:
    """Each share's items, as a layer's number and the item's line."""
    layers = tuple(Layer(a, b, "relu") for a, b in itertools.pairwise(sizes))
    table = np.zeros(fields.HEADER + len(layers) * fields.FIELDS, np.int64)
    items = Items(Network(layers, "squared"), dtype)
    items.list_in(table)
    items.deal(table, rows, team)
    counts = table[fields.HEADER + fields.ITEMS :: fields.FIELDS]
    numbers = np.repeat(np.arange(len(layers)), counts).tolist()
    lines = items._lines.tolist()
    assert len(lines) == len(numbers)
    assert table[fields.ITEM_LINES] == items._lines.ctypes.data
    assert table[fields.SHARE_STARTS] == items._starts.ctypes.data
    starts = items._starts.tolist()
    assert len(starts) == table[fields.SHARES] + 1
    assert table[fields.ITEM_COUNT] == len(lines)
    assert starts[0] == 0
    assert starts[-1] == len(lines)
    return [
        [(numbers[item], *lines[item]) for item in range(first, stop)]
        for first, stop in itertools.pairwise(starts)
    ]


SIZES = st.lists(st.integers(1, 300), min_size=2, max_size=5)
TEAMS = st.one_of(st.integers(1, 4), st.integers(5, 300))


@given(SIZES, st.integers(1, 5000), TEAMS, st.sampled_from(["float32", "float64"]))
def test_every_tile_has_one_owner(sizes: list[int], rows: int, team: int, dtype: str) -> None:
    lanes = lane_count(dtype)
    owners = [np.zeros((-(-a // lanes), -(-b // lanes)), int) for a, b in itertools.pairwise(sizes)]
    shares = _dealt(sizes, rows, team, dtype)
    assert len(shares) == team
    for share in shares:
        for number, low, high, p0, p1 in share:
            assert low < high
            assert p0 < p1
            owners[number][low:high, p0:p1] += 1
    for tiles in owners:
        np.testing.assert_array_equal(tiles, 1)


@given(SIZES, st.integers(1, 5000), st.integers(2, 8), st.sampled_from(["float32", "float64"]))
def test_shares_are_even(sizes: list[int], rows: int, team: int, dtype: str) -> None:
    """No share is off by more than one row of tiles with its columns, which no cut divides."""

    def cost(number: int, low: int, high: int, p0: int, p1: int) -> float:
        tile = rows + UPDATED + (TRANSPOSED if number else 0)
        return (p1 - p0) * ((high - low) * tile + (rows / 2 + COLUMNS if low == 0 else 0))

    costs = [sum(cost(*item) for item in share) for share in _dealt(sizes, rows, team, dtype)]
    across = 3  # panels of columns in an item, at most
    grain = across * (rows + UPDATED + TRANSPOSED + rows / 2 + COLUMNS)
    assert max(costs) - sum(costs) / team <= grain


def test_another_team_or_size_of_batch_is_dealt_anew_and_the_same_is_not() -> None:
    layers = (Layer(100, 90, "relu"), Layer(90, 10, "softmax"))
    table = np.zeros(fields.HEADER + len(layers) * fields.FIELDS, np.int64)
    items = Items(Network(layers, "cross_entropy"), "float32")
    seen = []
    for rows, team in ((64, 2), (100, 2), (64, 1), (64, 3), (1000, 3)):
        items.deal(table, rows, team)
        seen.append((int(table[fields.SHARES]), items._lines))
        assert table[fields.ITEM_LINES] == items._lines.ctypes.data
    first, near, alone, three, longer = seen
    assert first[0] == 2
    assert first[1] is near[1] is alone[1]  # one thread takes all, however they are cut
    assert three[0] == longer[0] == 3
    assert len({id(first[1]), id(three[1]), id(longer[1])}) == 3

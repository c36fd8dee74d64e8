"""The counter-based generator: the same bits on every backend, for ever."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import kernels
from fastmlp.kernels.reference.random import philox

from .draws import DTYPES, Array, blank, sibling

# Random123 1.14, tests/kat_vectors, philox4x32-10: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: str, key: str, wanted: str) -> None:
    c0, c1, c2, c3 = _words(counter)
    k0, k1 = _words(key)
    assert [int(word) for word in philox(c0, c1, c2, c3, k0, k1)] == _words(wanted)


def _shuffled_by_hand(place: int, rows: int, key: int) -> int:
    """VariablePhilox in plain integers, for one place."""
    bits = max(4, (rows - 1).bit_length())
    left_bits, right_bits = bits // 2, bits - bits // 2
    words = [philox(j, 0, 0, 0, key & 0xFFFFFFFF, key >> 32) for j in range(6)]
    round_keys = [int(word) for block in words for word in block]
    while True:
        left, right = place >> right_bits, place & ((1 << right_bits) - 1)
        for round_key in round_keys:
            high, low = divmod(0xD2B74407B1CE6E93 * left, 1 << 64)
            carried = (low << (right_bits - left_bits)) | (right >> left_bits)
            left = (high ^ round_key ^ right) & ((1 << left_bits) - 1)
            right = carried & ((1 << right_bits) - 1)
        place = left << right_bits | right
        if place < rows:
            return place


def _shuffled(backend: str, rows: int, key: int, first: int = 0, count: int = -1) -> Array:
    index = np.full(rows if count < 0 else count, -1, np.int64)
    sibling(backend, "random").shuffle_places(index, rows, key, first)
    return index


@given(rows=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_a_shuffle_is_a_bijection(rows: int, key: int) -> None:
    for name, reason in kernels.available().items():
        if reason is None:
            np.testing.assert_array_equal(np.sort(_shuffled(name, rows, key)), np.arange(rows))


@pytest.mark.parametrize("rows", [*range(1, 40), 255, 256, 257, 65535, 65536, 65537, 1_000_003])
def test_shuffles_of_chosen_sizes(rows: int, backend: str) -> None:
    index = _shuffled(backend, rows, 0xFEDCBA9876543210)
    assert (np.bincount(index, minlength=rows) == 1).all()


@given(rows=st.integers(1, 2**40), key=st.integers(0, 2**64 - 1), share=st.floats(0, 1, width=32))
def test_shuffles_equal_plain_integers(rows: int, key: int, share: float) -> None:
    place = min(int(share * rows), rows - 1)
    wanted = _shuffled_by_hand(place, rows, key)
    for name, reason in kernels.available().items():
        if reason is None:
            assert _shuffled(name, rows, key, place, 1)[0] == wanted


def test_a_shuffle_does_not_depend_on_slices(backend: str) -> None:
    whole = _shuffled(backend, 1000, 7)
    parts = [
        _shuffled(backend, 1000, 7, first, min(64, 1000 - first)) for first in range(0, 1000, 64)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert _shuffled(backend, 1000, 7, 1000, 0).size == 0


def test_keys_give_different_orders(backend: str) -> None:
    orders = [_shuffled(backend, 500, key) for key in (0, 1, 2, 1 << 32, 1 << 63)]
    agreements = [(a == b).mean() for i, a in enumerate(orders) for b in orders[:i]]
    assert max(agreements) < 0.02


def _dropped(backend: str, shape: tuple[int, int], dtype: str = "float32", **kw: Any) -> Array:
    scale = blank(shape, dtype)
    where = {"key": 0x0123456789ABCDEF, "step": 5, "layer": 1, "rate": 0.3, **kw}
    sibling(backend, "random").dropout_scale(scale, *where.values())
    return scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (37, 13), (5, 70), (0, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.999])
def test_dropout_masks_are_the_same_bits(
    rate: float, shape: tuple[int, int], dtype: str, backend: str
) -> None:
    found = _dropped(backend, shape, dtype, rate=rate)
    np.testing.assert_array_equal(found, _dropped("numpy", shape, dtype, rate=rate))
    assert set(np.unique(found)) <= {0, np.dtype(dtype).type(1 / (1 - rate))}


def test_dropout_drops_a_share_and_keeps_the_mean(backend: str) -> None:
    scale = _dropped(backend, (2000, 50), "float64")
    # 100,000 draws: the standard deviation of the share is 0.0015.
    assert abs((scale == 0).mean() - 0.3) < 0.006
    assert abs(scale.mean() - 1) < 0.01


def test_a_dropout_mask_does_not_depend_on_the_batch(backend: str) -> None:
    whole = _dropped(backend, (40, 23))
    np.testing.assert_array_equal(_dropped(backend, (11, 23)), whole[:11])
    np.testing.assert_array_equal(_dropped(backend, (40, 6)), whole[:, :6])


@pytest.mark.parametrize(
    "other", [{"key": 0x0123456789ABCDEE}, {"key": 1 << 63}, {"step": 6}, {"layer": 2}]
)
def test_dropout_masks_differ(other: dict[str, int], backend: str) -> None:
    share = (_dropped(backend, (40, 40), **other) == _dropped(backend, (40, 40))).mean()
    assert 0.5 < share < 0.66  # 0.3^2 + 0.7^2 = 0.58


def test_dropout_bits_never_change(backend: str) -> None:
    """Saved networks carry the key alone, so their masks rest on these bits."""
    kept = (_dropped(backend, (2, 16)) > 0).astype(int)
    assert ["".join(map(str, row)) for row in kept] == ["0110100111111111", "1010000001100111"]


def test_shuffle_bits_never_change(backend: str) -> None:
    assert _shuffled(backend, 100, 12345678901234567890)[:10].tolist() == [
        24,
        74,
        52,
        85,
        76,
        66,
        42,
        62,
        55,
        53,
    ]


def test_shuffle_moves_every_row_everywhere(backend: str, rng: np.random.Generator) -> None:
    """Rows against places over many keys: chi-square with (n - 1)^2 degrees of freedom."""
    rows, keys = 30, 3000
    counts = np.zeros((rows, rows))
    for key in rng.integers(0, 2**63, keys):
        counts[np.arange(rows), _shuffled(backend, rows, int(key))] += 1
    expected = keys / rows
    excess = ((counts - expected) ** 2 / expected).sum() - (rows - 1) ** 2
    assert excess < 6 * math.sqrt(2) * (rows - 1)

"""The counter-based generator: dropout masks and the shuffled order."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from ..contract import Array
from .calls import destination
from .intrinsics import (
    at,
    choose,
    like,
    own_integers,
    own_numbers,
)
from .jit import INTEGER, INTEGERS, POINTER, REAL, family, inline

# Everything in uint64: numba would turn a mix of signed and unsigned into floats.
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_SHUFFLE_HIGH, _SHUFFLE_LOW = np.uint64(0xD2B74407), np.uint64(0xB1CE6E93)
ROUNDS = 24
WORDS, TOGETHER = 4, 64
"""Words of one counter, and rows whose words are drawn together."""
_room_for_words, _room_for_a_unit = own_integers(WORDS * TOGETHER), own_numbers(TOGETHER)
_room_for_round_keys = own_integers(ROUNDS)


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit words, in uint64, of one counter."""
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0 = (product1 >> _HALF) ^ c1 ^ k0
        c2 = (product0 >> _HALF) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


@inline
def _draw(words, key, step, layer, block, first, count):
    """The words of one block of units for rows first ... first + count, TOGETHER apart.

    A loop over rows, for it becomes vectors: row by row a mask took 7.5 ns a number, so 1.6.
    """
    k0, k1 = np.uint64(key) & _LOW, np.uint64(key) >> _HALF
    c0, c2, c3 = np.uint64(block) & _LOW, np.uint64(layer) & _LOW, np.uint64(step) & _LOW
    for r in range(count):
        w0, w1, w2, w3 = philox(c0, np.uint64(first + r) & _LOW, c2, c3, k0, k1)
        words[r], words[TOGETHER + r] = np.int64(w0), np.int64(w1)
        words[2 * TOGETHER + r], words[3 * TOGETHER + r] = np.int64(w2), np.int64(w3)


@family(types.void, POINTER, INTEGER, INTEGER, INTEGER, REAL, *(INTEGER,) * 6, early=True)
def dropout_block(scale, key, step, layer, kept, threshold, first_row, rows, first, units, width):
    """scale[row][unit] for units first ... first + units; rows lie `width` apart."""
    words, chosen = _room_for_words(), _room_for_a_unit(scale)
    zero, limit = like(scale, 0.0), np.int64(threshold)
    for start in range(0, rows, TOGETHER):
        count = min(TOGETHER, rows - start)
        for block in range(first // WORDS, (first + units + WORDS - 1) // WORDS):
            _draw(words, key, step, layer, block, first_row + start, count)
            for j in range(WORDS):
                unit = WORDS * block + j - first
                if 0 <= unit < units:
                    goal, drawn = at(scale, start * width + unit), at(words, j * TOGETHER)
                    # Two loops: the first becomes vectors. In one, every choice became a jump that
                    # processors often predict wrongly (3.9 ns a number instead of 1.6).
                    for r in range(count):
                        chosen[r] = choose(drawn[r] >= limit, kept, zero)
                    for r in range(count):
                        goal[r * width] = chosen[r]


@inline
def fill_round_keys(round_keys, key):
    """The shuffle's round keys for an epoch's key."""
    k0, k1 = np.uint64(key) & _LOW, np.uint64(key) >> _HALF
    zero = np.uint64(0)
    for block in range(ROUNDS // 4):
        words = philox(np.uint64(block), zero, zero, zero, k0, k1)
        for j in range(4):
            round_keys[4 * block + j] = np.int64(words[j])


@inline
def shuffle_bits(rows):
    """Bits of the places that the shuffle permutes: enough for every row, at least 4."""
    bits = 4
    while (rows - 1) >> bits:
        bits += 1
    return bits


@inline
def _enciphered(x, key, left_bits, right_bits):
    """One round of the Feistel network over left_bits + right_bits bits."""
    left, right = x >> right_bits, x & ((_ONE << right_bits) - _ONE)
    low = left * _SHUFFLE_LOW
    high = left * _SHUFFLE_HIGH
    top = (high + (low >> _HALF)) >> _HALF
    bottom = (high << _HALF) + low
    carried = (bottom << (right_bits - left_bits)) | (right >> left_bits)
    left = (top ^ key ^ right) & ((_ONE << left_bits) - _ONE)
    return (left << right_bits) | (carried & ((_ONE << right_bits) - _ONE))


@inline
def _encipher(places, count, rows, round_keys):
    """All rounds on each of `count` places, round by round, which runs in vectors."""
    bits = shuffle_bits(rows)
    left_bits = np.uint64(bits // 2)
    right_bits = np.uint64(bits) - left_bits
    for i in range(ROUNDS):
        key = np.uint64(round_keys[i])
        for j in range(count):
            places[j] = np.int64(_enciphered(np.uint64(places[j]), key, left_bits, right_bits))


@inline
def shuffled_run(out, room, first, count, rows, round_keys):
    """Fill out with the rows at places first ... first + count of a shuffled epoch.

    A result that is no row is enciphered again; `room` takes these, so that they go on together
    (32 places: 0.2 us, one by one 1.4).
    """
    for j in range(count):
        out[j] = first + j
    _encipher(out, count, rows, round_keys)
    while True:
        waiting = 0
        for j in range(count):
            if out[j] >= rows:
                room[waiting] = out[j]
                waiting += 1
        if waiting == 0:
            return
        _encipher(room, waiting, rows, round_keys)
        waiting = 0
        for j in range(count):
            if out[j] >= rows:
                out[j] = room[waiting]
                waiting += 1


@family(types.void, POINTER, REAL, *(INTEGER,) * 6, on_demand=True)
def dropout_scales(scale, kept, key, step, layer, threshold, rows, units):
    """The scales of all units for the rows from the first on."""
    dropout_block(scale, key, step, layer, kept, threshold, 0, rows, 0, units, units)


@family(types.void, *(INTEGERS,) * 2, *(INTEGER,) * 4, on_demand=True)
def shuffled_places(out, room, rows, key, first, count):
    """Rows at places first ... first + count of a shuffled epoch."""
    keys = _room_for_round_keys()
    fill_round_keys(keys, key)
    shuffled_run(out, room, first, count, rows, keys)


def signed(key: int) -> int:
    """A 64-bit key as the signed integer with the same bits: the one type that kernels take."""
    return key - (1 << 64) if key >= 1 << 63 else key


def dropout_scale(scale: Array, key: int, step: int, layer: int, rate: float) -> None:
    """Fill scale (N, units) with 0 for dropped units and 1/(1 - rate) for kept ones."""
    with destination(scale) as out:
        dropout_scales.of(scale.dtype.name)(
            out.ctypes.data,
            float(1.0 / (1.0 - rate)),
            signed(key),
            step,
            layer,
            int(rate * 2**32),
            len(scale),
            scale.shape[1],
        )


def shuffle_places(index: NDArray[np.int64], rows: int, key: int, first: int) -> None:
    """Fill index[j] with the row that comes at place first + j of a shuffled epoch."""
    with destination(index) as out:
        room = np.empty(len(index), np.int64)
        addresses = (out.ctypes.data, room.ctypes.data)
        # No number of either precision takes part.
        shuffled_places.of("float32")(*addresses, rows, signed(key), first, len(index))

"""Random numbers that are functions of a key and a counter: the same bits on every backend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..contract import Array

Words = NDArray[np.uint64]

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_SHUFFLE_MULTIPLIER = 0xD2B74407B1CE6E93
_SHUFFLE_ROUNDS = 24


def philox(
    c0: Array | int, c1: Array | int, c2: Array | int, c3: Array | int, k0: int, k1: int
) -> tuple[NDArray[np.uint32], ...]:
    """Philox4x32-10: four random 32-bit words for each 128-bit counter.

    Parameters
    ----------
    c0, c1, c2, c3 : 32-bit words of the counters, lowest first; arrays broadcast.
    k0, k1 : 32-bit words of the key, lowest first.

    Returns
    -------
    Four uint32 arrays of the counters' broadcast shape.

    Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    words = [np.asarray(c, dtype=np.uint64) for c in (c0, c1, c2, c3)]
    for number in range(10):
        key0 = np.uint64((k0 + number * _WEYL[0]) & _LOW)
        key1 = np.uint64((k1 + number * _WEYL[1]) & _LOW)
        product0 = words[0] * np.uint64(_MULTIPLIERS[0])
        product1 = words[2] * np.uint64(_MULTIPLIERS[1])
        words = [
            (product1 >> np.uint64(32)) ^ words[1] ^ key0,
            product1 & np.uint64(_LOW),
            (product0 >> np.uint64(32)) ^ words[3] ^ key1,
            product0 & np.uint64(_LOW),
        ]
    return tuple(word.astype(np.uint32) for word in np.broadcast_arrays(*words))


def dropout_scale(scale: Array, key: int, step: int, layer: int, rate: float) -> None:
    """Fill scale (N, units) with 0 for dropped units and 1/(1 - rate) for kept ones.

    Unit u of row n is kept where word u % 4 of ``philox(u // 4, n, layer, step; key)`` reaches
    ``floor(rate * 2**32)``.

    Parameters
    ----------
    key : 64 bits.
    step : number of updates made before this one.
    layer : number of the layer whose outputs are dropped.
    rate : share of dropped units, 0 <= rate < 1.

    Source: inverted dropout (Srivastava et al. 2014, section 10).
    """
    rows, units = scale.shape
    places = np.arange(rows, dtype=np.uint64)[:, None]
    blocks = np.arange((units + 3) // 4, dtype=np.uint64)[None, :]
    words = np.stack(
        philox(blocks, places, layer, step & _LOW, key & _LOW, (key >> 32) & _LOW), axis=-1
    )
    kept = words.reshape(rows, 4 * blocks.size)[:, :units] >= int(rate * 2**32)
    scale[...] = np.where(kept, 1.0 / (1.0 - rate), 0.0)


def shuffle_places(index: NDArray[np.int64], rows: int, key: int, first: int) -> None:
    """Fill index[j] with the row that comes at place first + j of a shuffled epoch.

    For each key this is a bijection of [0, rows). A place is enciphered within the next power of
    two, again and again until it falls below `rows`.

    Parameters
    ----------
    rows : number of rows, at least 1.
    key : 64 bits.
    first : first place; ``first + len(index) <= rows``.

    Source: VariablePhilox of Mitchell, Stokes, Frank & Holmes 2022, "Bandwidth-optimal random
    shuffling for GPUs".
    """
    bits = max(4, (rows - 1).bit_length())
    keys = np.stack(
        philox(np.arange(_SHUFFLE_ROUNDS // 4), 0, 0, 0, key & _LOW, (key >> 32) & _LOW), axis=-1
    ).ravel()
    places = np.arange(first, first + index.size, dtype=np.uint64)
    pending = np.arange(index.size)
    while pending.size:
        places[pending] = _encipher(places[pending], bits, keys)
        pending = pending[places[pending] >= rows]
    index[...] = places


def _encipher(x: Words, bits: int, keys: NDArray[np.uint32]) -> Words:
    """Permute [0, 2**bits) by an unbalanced Feistel network."""
    left_bits = bits // 2
    right_bits = bits - left_bits
    left_mask = np.uint64((1 << left_bits) - 1)
    right_mask = np.uint64((1 << right_bits) - 1)
    left, right = x >> np.uint64(right_bits), x & right_mask
    for key in keys.astype(np.uint64):
        high, low = _wide_product(left)
        carried = (low << np.uint64(right_bits - left_bits)) | (right >> np.uint64(left_bits))
        left = (high ^ key ^ right) & left_mask
        right = carried & right_mask
    return (left << np.uint64(right_bits)) | right


def _wide_product(x: Words) -> tuple[Words, Words]:
    """Give the high and low 64 bits of x, below 2**32, times the shuffle's multiplier."""
    low = x * np.uint64(_SHUFFLE_MULTIPLIER & _LOW)
    high = x * np.uint64(_SHUFFLE_MULTIPLIER >> 32)
    return (high + (low >> np.uint64(32))) >> np.uint64(32), (high << np.uint64(32)) + low

"""The counter-based generator: dropout masks and the shuffled order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array
from .calls import destination, kernels_for
from .device import upload, zeros
from .launch import kernels_of

_LOW = 0xFFFFFFFF


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: int, k1: int) -> tuple[Array, ...]:
    """Philox4x32-10: four random 32-bit words, on the host, for each 128-bit counter."""
    counters = np.broadcast_arrays(*(np.asarray(c, np.uint32) for c in (c0, c1, c2, c3)))
    given = upload(np.stack(counters), np.uint32)
    out = zeros(given.shape, np.uint32)
    count = counters[0].size
    kernels_of("float32").launch("philox_words", count, out, given, k0, k1, count)()
    return tuple(out.get())


def dropout_scale(scale: Any, key: int, step: int, layer: int, rate: float) -> None:
    """Fill scale (N, units) with 0 for dropped units and 1/(1 - rate) for kept ones."""
    rows, units = scale.shape
    kept, threshold = kept_and_threshold(rate)
    with destination(scale) as out:
        kernels_for(scale).launch(
            *("dropout_mask", rows * -(-units // 4), out, key, step, layer),
            *(threshold, kept, rows, units),
        )()


def shuffle_places(index: Any, rows: int, key: int, first: int) -> None:
    """Fill index[j] with the row that comes at place first + j of a shuffled epoch."""
    with destination(index) as out:
        kernels_of("float32").launch(
            *("shuffled_places", out.size, out, rows, shuffle_bits(rows), key, first, out.size)
        )()


def kept_and_threshold(rate: float) -> tuple[float, int]:
    """What a kept unit is multiplied by, and the smallest word that keeps it."""
    return 1.0 / (1.0 - rate), int(rate * 2**32)


def shuffle_bits(rows: int) -> int:
    """Bits of the places that the shuffle permutes: enough for every row, at least 4."""
    return max(4, (rows - 1).bit_length())

"""Room for a plan's arrays: one block of memory, and where each array begins."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array
from .fields import CACHE_LINE


class Allocator:
    """Hands out aligned stretches of one block of memory."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        """Where `count` numbers begin."""
        start = self.size
        self.size += -(-count // 16) * 16
        return start


def places(rows: int, lanes: int, size: int) -> int:
    """Places for `rows` rows: panels begin an odd number of cache lines apart.

    At multiples of 4 KiB the same row of every panel would compete for the same places in the
    cache (784-2048-2048-10, 4096 rows: 9 % slower).
    """
    each = max(1, CACHE_LINE // (lanes * size))
    return (-(-rows // each) | 1) * each


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """Zeros that begin at a cache line."""
    block = np.zeros(size * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + size * dtype.itemsize].view(dtype)

"""How an array reaches a kernel: contiguous, and as the address of its first number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..contract import Array


def source(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array itself where it is contiguous and of this precision, else a copy."""
    return np.ascontiguousarray(array, dtype)


@contextmanager
def destination(array: Array) -> Iterator[Array]:
    """A contiguous array to write to; what was written reaches `array` in the end."""
    if array.flags.c_contiguous:
        yield array
        return
    copy = np.ascontiguousarray(array)
    yield copy
    array[...] = copy


def leading(arrays: Sequence[Array], place: int) -> int:
    """Address of the array at `place`, 0 where there are fewer."""
    return arrays[place].ctypes.data if place < len(arrays) else 0

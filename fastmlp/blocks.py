"""Large arrays, a block at a time: copies by several threads, and the search for NaN.

A block is small enough to stay in the cache between its making and the look at it, so neither
leaves temporaries of the array's size.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .kernels.contract import Array

BLOCK = 1 << 16
"""Numbers of a block."""

WIDEST = 1024
"""Columns of a block: with more, those of a Fortran-ordered array lie on too many pages."""

LEAST_ROWS = 64
"""Rows of a block at least: a column's cache lines are then used up before they are gone."""

WORTH_A_THREAD = 1 << 20
"""Numbers of a copy from which on a second thread brings more than its start costs."""

_FEW = 1024


def all_finite(array: Array) -> bool:
    """Whether every entry is finite."""
    if array.dtype.kind != "f":
        return True
    if array.size <= _FEW:
        return b"\0" not in np.isfinite(array).tobytes()  # 0.6 us; all() takes 1.3
    if array.size <= BLOCK:
        return bool(np.isfinite(array).all())
    known = np.empty(BLOCK, np.bool_)
    return all(
        np.isfinite(part, out=known[: part.size].reshape(part.shape)).all()
        for _, part in _parts(array)
    )


def fits(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether every entry, converted to the float `dtype`, is finite."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= dtype.itemsize:
        return all_finite(array)
    room = np.empty(min(BLOCK, array.size), dtype)
    for _, part in _parts(array):
        narrow = room[: part.size].reshape(part.shape)
        with np.errstate(all="ignore"):
            np.copyto(narrow, part, casting="same_kind")
        if not np.isfinite(narrow).all():
            return False
    return True


def first_odd(array: Array) -> tuple[tuple[int, ...], int]:
    """Place of the first entry, in C order, that is NaN or infinite, and how many are."""
    place, count = -1, 0
    for start, part in _parts(array):
        wrong = ~np.isfinite(part).ravel()
        found = int(np.count_nonzero(wrong))
        if found and not count:
            place = start + int(wrong.argmax())
        count += found
    return tuple(int(i) for i in np.unravel_index(place, array.shape)), count


def _parts(array: Array) -> Iterator[tuple[int, Array]]:
    """All of an array in C order: the place of a part's first entry, and the part."""
    if array.flags.c_contiguous or array.ndim < 2:
        flat = array.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            yield start, flat[start : start + BLOCK]
        return
    size = array[0].size
    if size > BLOCK:
        for row, line in enumerate(array):
            for start, part in _parts(line):
                yield row * size + start, part
        return
    several = max(1, BLOCK // max(size, 1))
    for row in range(0, len(array), several):
        yield row * size, array[row : row + several]


def copied(array: Array, dtype: np.dtype[Any], threads: int) -> tuple[Array, bool]:
    """Copy rows, a matrix, to C order and `dtype`; also say whether all is finite there.

    Fortran-ordered rows, 60000 x 784 float64 to float32: 100 ms on two threads, where one
    ``astype`` and a look for NaN take 170 ms.
    """
    result = np.empty(array.shape, dtype)
    rows, columns = array.shape
    width = max(1, min(columns, WIDEST))
    height = max(LEAST_ROWS, BLOCK // width)
    tiles = list(itertools.product(range(0, rows, height), range(0, columns, width)))
    finite = [False] * len(tiles)

    def copy(number: int) -> None:
        row, column = tiles[number]
        tile = (slice(row, row + height), slice(column, column + width))
        with np.errstate(all="ignore"):
            np.copyto(result[tile], array[tile], casting="unsafe")
        finite[number] = dtype.kind != "f" or bool(np.isfinite(result[tile]).all())

    _shared(copy, len(tiles), threads if array.size >= WORTH_A_THREAD else 1)
    return result, all(finite)


def _shared(task: Callable[[int], None], count: int, threads: int) -> None:
    """Do `task` for 0 ... count - 1 on this thread and others; all is done when it returns.

    An error ends the others too, and comes from here whoever met it.
    """
    turns, errors = itertools.count(), list[BaseException]()

    def work() -> None:
        try:
            while not errors and (number := next(turns)) < count:
                task(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    helpers: list[threading.Thread] = []
    for _ in range(min(threads, count) - 1):
        helpers.append(threading.Thread(target=work, daemon=True))
        try:
            helpers[-1].start()
        except RuntimeError:  # the system gives no more threads
            helpers.pop()
            break
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]

"""Looking over and copying all numbers of a plan, by several threads where they are many.

Both are done in each epoch. Where it has few batches they weigh: two of 128 rows with Adam through
768-3072-768 took 39 ms with a fresh copy and one thread for both; shared out and with the copy's
memory kept, 29.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract import Array
from .team import run_team

MANY = 1 << 22
"""Numbers from which on they are shared out: for 2^20 of float32 a second thread starts too late
(copied in 282 us alone, in 446 by two); at 2^22 it is 1133 and 892."""


def copy_numbers(goal: Array, source: Array, threads: int) -> None:
    """Fill `goal` with `source`."""
    _in_parts(lambda part: np.copyto(goal[part], source[part]), len(source), threads)


def all_finite(numbers: Array, threads: int) -> bool:
    """Whether all numbers are finite."""
    totals: list[float] = []

    def add(part: slice) -> None:
        with np.errstate(all="ignore"):  # each thread has its own
            totals.append(float(numbers[part].sum()))

    _in_parts(add, len(numbers), threads)
    # Finite numbers can have a sum that is not, but not the other way round.
    return bool(np.isfinite(totals).all() or np.isfinite(numbers).all())


def _in_parts(work: Callable[[slice], None], count: int, threads: int) -> None:
    """Do some work on `count` numbers, in as many parts as there are threads."""
    if threads == 1 or count < MANY:
        work(slice(0, count))
        return

    def call(thread: int, size: int) -> float:
        work(slice(count * thread // size, count * (thread + 1) // size))
        return 0.0

    run_team(call, threads)

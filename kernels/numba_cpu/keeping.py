"""A plan's numbers as they were when an epoch began, and whether they are finite when it ends.

Both would be a pass of their own over everything that training changes. Where an epoch has few
batches that weighs: of two of 128 rows with Adam through 768-3072-768, 11 of 38 ms. So the kernels
do it while they have the numbers in the cache: the first update saves what it is about to move, the
last update of a call looks at what it has written. The ways of training that have no items save
all before the first batch, and look at all after the last. Here is what is left to be done: without
an update, and for running statistics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba.core import types

from ..contract import Array
from . import fields
from .crew import run_team
from .intrinsics import address_of, at, copy_vector, integers_at, lanes, like, pointer_to
from .jit import INTEGER, INTEGERS, POINTER, family, inline
from .room import aligned

MANY = 1 << 22
"""Numbers from which on they are shared out: for 2^20 of float32 a second thread starts too late
(copied in 282 us alone, in 446 by two); at 2^22 it is 1133 and 892."""

BITS_OF_4 = (0x7F8000007F800000, 0x0040000000400000)
BITS_OF_8 = (0x7FF0000000000000, 0x0008000000000000)
"""Bits in 8 bytes: all of the exponents, and half of their lowest ones."""
CARRIED = 0x4000000040000000
"""Half of what stands above the exponents."""

FEW = 1 << 12
"""Numbers below which they are not summed up: to keep NumPy from warning takes longer."""


class Backup:
    """The numbers at a plan's last snapshot; `due` while the kernels have not yet saved them."""

    def __init__(self, dtype: np.dtype):
        self.numbers: Array = np.zeros(0, dtype)
        self.due = False

    def begin(self, numbers: Array, running: int) -> Array:
        """Take a snapshot of `numbers`; only those from `running` on are copied at once."""
        if len(self.numbers) != len(numbers):
            self.numbers = aligned(len(numbers), numbers.dtype)
        if running < len(numbers):
            self.numbers[running:] = numbers[running:]
        self.due = True
        return self.numbers

    def complete(self, numbers: Array, running: int, threads: int) -> None:
        """Copy what is due, before something other than the kernels' items moves it."""
        if self.due:
            copy_numbers(self.numbers[:running], numbers[:running], threads)
            self.due = False

    def give_back(self, numbers: Array, running: int, snapshot: Array, threads: int) -> None:
        """Fill `numbers` with a snapshot; where ours is due, they have not moved."""
        moved = running if self.due and snapshot is self.numbers else 0
        copy_numbers(numbers[moved:], snapshot[moved:], threads)


@inline
def _copy(goal, source, n):
    for i in range(0, n, lanes(goal)):
        copy_vector(at(goal, i), at(source, i))


@family(types.void, POINTER, INTEGERS, INTEGER, INTEGER)
def keep_run(m, t, offset, n):
    """Save n parameters from an offset of the flat vector on, and their slots."""
    kept = pointer_to(like(m, 1.0), t[fields.KEPT])
    for vector in (fields.PARAMETERS, fields.SLOT_U, fields.SLOT_V):
        place = t[vector] + offset
        # Slots that the optimizer does not have are the parameters themselves.
        if vector == fields.PARAMETERS or t[vector] != t[fields.PARAMETERS]:
            _copy(at(kept, place), at(m, place), n)


@inline
def keep_all(m, t):
    """Save all parameters and slots if that is due."""
    if t[fields.KEPT]:
        keep_run(m, t, 0, t[fields.FLAT])
        t[fields.KEPT] = 0


@family(types.int64, POINTER, INTEGERS, INTEGER, INTEGER)
def look_at_run(m, t, offset, n):
    """Whether n parameters from an offset of the flat vector on, or slots, are not finite: 0 or 1.

    Infinities and NaN are the numbers with all bits of the exponent set: one more, and they carry.
    On integers, for the compiler may not reorder a sum of real numbers; halves, for it takes it
    that integers don't overflow.
    """
    size = address_of(at(m, 1)) - address_of(m)
    exponents, half_one = BITS_OF_4 if size == 4 else BITS_OF_8
    count = n * size // 8
    carried = 0
    for vector in (fields.PARAMETERS, fields.SLOT_U, fields.SLOT_V):
        bits = integers_at(address_of(at(m, t[vector] + offset)))
        for i in range(count):
            carried |= ((bits[i] & exponents) >> 1) + half_one
    return 1 if carried & CARRIED else 0


def copy_numbers(goal: Array, source: Array, threads: int) -> None:
    """Fill `goal` with `source`."""
    _in_parts(lambda part: np.copyto(goal[part], source[part]), len(source), threads)


def all_finite(numbers: Array, threads: int) -> bool:
    """Whether all numbers are finite."""
    if len(numbers) < FEW:
        return bool(np.isfinite(numbers).all())
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

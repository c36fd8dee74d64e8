"""What the machine can do: the rate of the kernels' register tile, and how soon two threads meet.

No product of a layer can be faster than that tile with everything in the first-level cache:
floating-point operations over its rate are the floor that a step's time is compared with.
"""

from __future__ import annotations

import time

import numpy as np

from fastmlp import get_num_threads
from fastmlp.kernels.numba_cpu.crew import run_team
from fastmlp.kernels.numba_cpu.fields import THREAD_FLAGS
from fastmlp.kernels.numba_cpu.intrinsics import at, cycles, lane_count, lanes
from fastmlp.kernels.numba_cpu.jit import INTEGER, INTEGERS, NOTHING, POINTER, family
from fastmlp.kernels.numba_cpu.products import product
from fastmlp.kernels.numba_cpu.team import meet
from fastmlp.kernels.numba_cpu.tiles import TILE_PANELS

ROWS, LENGTH = 24, 96
"""Of a call, and the summed index: 18 KiB of weights, 9 of rows and 4.5 of results in float32 with
AVX-512. With the 4 rows of one AVX2 tile the calls themselves took a tenth of the time."""
REPEATS = 5_000
"""About 10 ms a call on a fast core; in the first 2 after a pause it may have half of its speed."""
ROUNDS = 10

MEETINGS = 2_000
"""Of two threads, a quarter of a millisecond where they share a cache."""
FAR = 2.0
"""How many times as long as ever a meeting may take: on a shared machine the system below moves
virtual processors about, and where two share no cache any more a meeting takes four times as long
(Zen 3: 450 ns, not 110), a step of 784-100-10 on both 1.2 times."""


@family(NOTHING, POINTER, *(INTEGER,) * 4, on_demand=True)
def _repeat(base, rows, panels, length, repeats):  # type: ignore[no-untyped-def]
    v = lanes(base)
    a = at(base, panels * rows * v)
    w = at(a, rows * length)
    b = at(w, panels * length * v)
    for _ in range(repeats):
        product(base, rows * v, a, rows * v, w, length * v, b, rows, length, panels)


@family(INTEGER, POINTER, INTEGERS, INTEGER, INTEGER, on_demand=True)
def _meet_often(_, flags, thread, count):  # type: ignore[no-untyped-def]
    meet(flags, thread, 2)  # whoever comes first waits here
    started = cycles()
    for _ in range(count):
        meet(flags, thread, 2)
    return cycles() - started


def tile_peak(dtype: str = "float32") -> dict[str, float]:
    """Multiplications and additions a second, in 1e9: of one thread, and of all together."""
    most = get_num_threads()
    _rate(dtype, 1, 1)  # compiles
    found = {count: max(_rate(dtype, count) for _ in range(ROUNDS)) for count in {1, most}}
    return {"one thread": found[1], "all threads": found[most]}


class Probe:
    """How fast the machine is at the moment: the rate of all threads together.

    Half of it where the first two of them are further apart than they have been.
    """

    def __init__(self) -> None:
        self._soonest = float("inf")

    def __call__(self) -> float:
        """Look, for about ten milliseconds."""
        threads = get_num_threads()
        rate = _rate("float32", threads)
        if threads == 1:
            return rate
        meeting = meeting_cycles()
        self._soonest = min(self._soonest, meeting)
        return rate if meeting <= FAR * self._soonest else rate / 2


def meeting_cycles() -> float:
    """What two threads take to meet, in cycles of a steady counter; 0 where there is none."""
    meet_often = _meet_often.of("float32")
    flags, nothing = np.zeros(2 * THREAD_FLAGS + 8, np.int64), np.zeros(1, np.float32)
    place = -(-flags.ctypes.data // 64) * 64
    found: list[int] = []

    def call(thread: int, _: int) -> float:
        found.append(meet_often(nothing.ctypes.data, place, thread, MEETINGS))
        return 0.0

    run_team(call, 2)
    return max(found) / MEETINGS


def _rate(dtype: str, threads: int, repeats: int = REPEATS) -> float:
    repeat, v = _repeat.of(dtype), lane_count(dtype)
    assert LENGTH % v == 0
    numbers = (TILE_PANELS + 1) * (ROWS + LENGTH + 1) * v + ROWS * LENGTH
    memories = [np.zeros(numbers + 64, dtype) for _ in range(threads)]
    operations = 2 * ROWS * TILE_PANELS * v * LENGTH * repeats
    rates: list[float] = []

    def call(thread: int, _: int) -> float:
        place = -(-memories[thread].ctypes.data // 64) * 64  # whole cache lines, as in a plan
        started = time.perf_counter()
        repeat(place, ROWS, TILE_PANELS, LENGTH, repeats)
        rates.append(operations / (time.perf_counter() - started) / 1e9)
        return 0.0

    run_team(call, threads)  # on a core each
    return sum(rates)

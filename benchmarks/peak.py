"""The rate of the kernels' own register tile when everything lies in the first-level cache.

No product of a layer can be faster with that tile: floating-point operations over this rate are the
floor that a step's time is compared with.
"""

from __future__ import annotations

import time

import numpy as np

from fastmlp import get_num_threads
from fastmlp.kernels.numba_cpu.intrinsics import at, lane_count, lanes
from fastmlp.kernels.numba_cpu.jit import INTEGER, NOTHING, POINTER, family
from fastmlp.kernels.numba_cpu.products import product
from fastmlp.kernels.numba_cpu.team import run_team
from fastmlp.kernels.numba_cpu.tiles import TILE_PANELS

ROWS, LENGTH = 24, 96
"""Of a call, and the summed index: 18 KiB of weights, 9 of rows and 4.5 of results in float32 with
AVX-512. With the 4 rows of one AVX2 tile the calls themselves took a tenth of the time."""
REPEATS = 5_000
"""About 10 ms a call on a fast core; in the first 2 after a pause it may have half of its speed."""
ROUNDS = 10


@family(NOTHING, POINTER, *(INTEGER,) * 4, on_demand=True)
def _repeat(base, rows, panels, length, repeats):  # type: ignore[no-untyped-def]
    v = lanes(base)
    a = at(base, panels * rows * v)
    w = at(a, rows * length)
    b = at(w, panels * length * v)
    for _ in range(repeats):
        product(base, rows * v, a, rows * v, w, length * v, b, rows, length, panels)


def tile_peak(dtype: str = "float32") -> dict[str, float]:
    """Multiplications and additions a second, in 1e9: of one thread, and of all together."""
    most = get_num_threads()
    _rate(dtype, 1, 1)  # compiles
    found = {count: max(_rate(dtype, count) for _ in range(ROUNDS)) for count in {1, most}}
    return {"one thread": found[1], "all threads": found[most]}


def present_rate() -> float:
    """The rate of all threads together at this moment."""
    return _rate("float32", get_num_threads())


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

"""What `fit` takes around its kernels: checks, shuffling, history, the copy that it can go back to.

    python benchmarks/bench_overhead.py

The eight workloads, one epoch a call, with plain SGD and Adam; and 150 rows for 100 epochs a call.
The clock runs around `fit` and around each call of compiled code in it, threads included.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench_training import RATES
from common import Cases, parser

from fastmlp import MLP, SGD, Adam
from fastmlp.cli.workloads import WORKLOADS, Workload, describe, problem
from fastmlp.kernels.numba_cpu import steps

EPOCHS = {"flowers": 100}
"""Of a call, where it is more than one."""
FLOWERS = Workload("flowers", (4, 10, 3), "relu", 32, 5)
ALLOWED_SHARE, ALLOWED = 0.03, 100.0
"""What was aimed at: one or the other, in microseconds an epoch."""
SECONDS = 3.0
"""Of each case; at least 5 calls of `fit`, at most 200."""


@contextmanager
def compiled_seconds() -> Iterator[list[float]]:
    """A list to which every call of compiled code adds its seconds."""
    spent: list[float] = []
    run: Callable[..., float] = steps._run

    def timed(*arguments: Any) -> float:
        started = time.perf_counter()
        try:
            return run(*arguments)
        finally:
            spent.append(time.perf_counter() - started)

    steps._run = timed
    try:
        yield spent
    finally:
        steps._run = run


def measured(work: Workload, optimizer: str, seconds: float) -> dict[str, Any]:
    """Microseconds of an epoch, and how many of them are not the kernels': medians."""
    given, epochs = problem(work), EPOCHS.get(work.name, 1)
    rule = SGD(RATES["sgd"]) if optimizer == "sgd" else Adam(RATES["adam"])
    net = MLP(work.sizes, work.activation, dtype=work.dtype, optimizer=rule, seed=0)
    wholes, others = [], []
    with compiled_seconds() as spent:
        for call in range(202):
            spent.clear()
            started = time.perf_counter()
            net.fit(given.X, given.y, epochs=epochs, batch_size=work.batch, shuffle=True)
            whole = time.perf_counter() - started
            if call > 1:  # the first ones compile, and find out how long a step takes
                wholes.append(whole / epochs * 1e6)
                others.append((whole - sum(spent)) / epochs * 1e6)
            if call > 6 and sum(wholes) * epochs / 1e6 > seconds:
                break
    epoch, other = statistics.median(wholes), statistics.median(others)
    return {
        **describe(work),
        "optimizer": optimizer,
        "rows": len(given.X),
        "epochs a call": epochs,
        "microseconds": {"an epoch": epoch, "around the kernels": other},
        "share": other / epoch,
        "within": other <= max(ALLOWED, ALLOWED_SHARE * epoch),
    }


def main() -> None:
    arguments = parser(__doc__).parse_args()
    works = {
        f"{work.name} {optimizer}": (work, optimizer)
        for work in (FLOWERS, *WORKLOADS)
        for optimizer in RATES
    }
    if arguments.quick:
        works = {
            name: (work._replace(steps=min(work.steps, 2)), optimizer)
            for name, (work, optimizer) in works.items()
            if work.name != "large2048"
        }
    record = Cases("overhead", arguments, {"allowed": [ALLOWED_SHARE, ALLOWED]})
    for name in record.wanted(works):
        found = measured(*works[name], 0.0 if arguments.quick else SECONDS)
        record.add(name, found)
        micro = found["microseconds"]
        print(
            f"{name}: {micro['an epoch']:.4g} us an epoch, around the kernels "
            f"{micro['around the kernels']:.4g} ({100 * found['share']:.1f} %)",
            flush=True,
        )


if __name__ == "__main__":
    main()

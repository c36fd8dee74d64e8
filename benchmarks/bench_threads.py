"""Microseconds an update by the number of cores: 1, 2, 4, 8, 16, as far as the machine has them.

    python benchmarks/bench_threads.py

Each number of cores is a process of its own that may run on that many cores only, which all
libraries respect. Our weights must be the same bits whatever the number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from common import Cases, parser, python, times_of

from fastmlp.cli.contest import BRIEF, Pace, in_turn, verdict
from fastmlp.cli.peers import COMPILED, OURS, PEERS, SCIKIT, installed
from fastmlp.cli.workloads import WORKLOADS, Workload, describe, floor_flops, problem

COUNTS = (1, 2, 4, 8, 16)
SLOW = (COMPILED, SCIKIT)
"""Nowhere the best peer of these workloads on one core or two: left out, to save the time."""


def worker(names: list[str], work: Workload, cores: int, pace: Pace) -> dict[str, Any]:
    """Times of a workload in this process, which is bound to so many cores."""
    given = problem(work)
    runners = {name: PEERS[name](work, given, "sgd") for name in names}
    times = in_turn({name: runner.epoch for name, runner in runners.items()}, pace)
    micro = {name: statistics.median(t) / work.steps * 1e6 for name, t in times.items()}
    # Every number of cores trains this many epochs from one start: the bits can be compared.
    net = PEERS[OURS](work._replace(steps=2), problem(work._replace(steps=2)), "sgd")
    net.epoch()
    bits = b"".join(np.ascontiguousarray(W).tobytes() for W in net.weights() + net.biases())
    found = verdict(micro, floor_flops(work.sizes, work.batch))
    return {"cores": cores, **found, "bits": hashlib.sha256(bits).hexdigest()}


@contextmanager
def bound(cores: int) -> Iterator[None]:
    """Let processes that are started meanwhile run on so many cores only.

    From their start: NumPy's import starts threads, which stay where they may run then.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=3.0, help="of rounds, each case")
    options.add_argument("--without", nargs="*", default=list(SLOW), help="names of peers")
    options.add_argument("--worker", nargs=2, metavar=("CORES", "WORKLOAD"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    works = {work.name: work for work in WORKLOADS}
    pace = Pace(arguments.seconds)
    if arguments.quick:
        pace = BRIEF
        works = {
            name: work._replace(sizes=(3, 20, 2), batch=8, steps=2) for name, work in works.items()
        }
    if arguments.worker:
        cores, name = arguments.worker
        names = [peer for peer in installed() if peer not in arguments.without]
        print(json.dumps(worker(names, works[name], int(cores), pace)))
        return
    record = Cases("threads", arguments, {"seconds": arguments.seconds})
    counts = [count for count in COUNTS if count <= len(os.sched_getaffinity(0))]
    bits: dict[str, str] = {}
    for case in record.wanted(f"{name} {count}" for name in works for count in counts):
        name, count = case.split()
        words = ["--seconds", str(arguments.seconds), *(["--quick"] if arguments.quick else [])]
        words += ["--without", *arguments.without, "--worker", count, name]
        with bound(int(count)):
            found = json.loads(python(__file__, *words).splitlines()[-1])
        known = bits.setdefault(name, found.pop("bits"))
        assert known == bits[name], f"{name}: other bits on {count} cores"
        record.add(case, {"workload": name, **describe(works[name]), **found})
        print(f"{name}, {count} cores: {times_of(found)}", flush=True)


if __name__ == "__main__":
    main()

"""Training while another process keeps one core busy.

    python benchmarks/bench_neighbour.py

Each workload is timed quiet and beside a process that computes without end on the last core: with
all our threads, with one, and by the peers. What counts is our time beside the neighbour over our
own time on one thread, there.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from common import Cases, parser

from fastmlp import get_num_threads, set_num_threads
from fastmlp.cli.contest import BRIEF, Pace, in_turn
from fastmlp.cli.peers import COMPILED, OURS, PEERS, SCIKIT, installed
from fastmlp.cli.workloads import WORKLOADS, Workload, describe, problem

BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print("busy", flush=True)
while True:
    pass
"""
LEFT_OUT = ("xor", "online", "large2048")
"""Too small for threads, or an epoch of seconds."""
ONE, ALL = "fastmlp, one thread", "fastmlp, all threads"
SETTLE = 0.5
"""Seconds for the scheduler to notice who is busy."""


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps the last of our cores busy."""
    core = max(os.sched_getaffinity(0))
    busy = subprocess.Popen([sys.executable, "-c", BUSY, str(core)], stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        time.sleep(SETTLE)
        yield
    finally:
        busy.kill()
        busy.communicate()


def contestants(work: Workload, names: list[str]) -> dict[str, Callable[[], object]]:
    """Ours with one thread and with all, and the peers."""
    given, most = problem(work), get_num_threads()

    def limited(epoch: Callable[[], object], threads: int) -> Callable[[], object]:
        def run() -> None:
            set_num_threads(threads)
            try:
                epoch()
            finally:
                set_num_threads(None)

        return run

    runs = {
        name: limited(PEERS[OURS](work, given, "sgd").epoch, threads)
        for name, threads in ((ONE, 1), (ALL, most))
    }
    others = {name: PEERS[name](work, given, "sgd").epoch for name in names if name != OURS}
    return {**runs, **others}


def measured(work: Workload, names: list[str], pace: Pace) -> dict[str, Any]:
    """Microseconds an update, medians and longest, quiet and beside the neighbour."""
    runs = contestants(work, names)
    found = {"quiet": _micro(in_turn(runs, pace), work)}
    with neighbour():
        found["beside a neighbour"] = _micro(in_turn(runs, pace), work)
    medians = {name: times["median"] for name, times in found["beside a neighbour"].items()}
    rivals = [name for name in medians if name not in (ONE, ALL)]
    best = min(rivals, key=medians.__getitem__) if rivals else ONE
    return {
        **describe(work),
        "microseconds": found,
        "all threads / one": medians[ALL] / medians[ONE],
        "best peer": best,
        "best peer / ours": medians[best] / medians[ALL],
    }


def _micro(times: Mapping[str, list[float]], work: Workload) -> dict[str, dict[str, float]]:
    scale = 1e6 / work.steps
    return {
        name: {"median": statistics.median(several) * scale, "longest": max(several) * scale}
        for name, several in times.items()
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=8.0, help="of rounds, each case, twice")
    options.add_argument("--without", nargs="*", default=[COMPILED, SCIKIT], help="names of peers")
    arguments = options.parse_args()
    names = [name for name in installed() if name not in arguments.without]
    works = {work.name: work for work in WORKLOADS if work.name not in LEFT_OUT}
    pace = Pace(arguments.seconds, 5, 25)
    if arguments.quick:
        pace = BRIEF
        works = {"chapter_np": works["chapter_np"]._replace(sizes=(9, 20, 2), batch=8, steps=4)}
    record = Cases("neighbour", arguments, {"seconds": arguments.seconds})
    for name in record.wanted(works):
        found = measured(works[name], names, pace)
        record.add(name, found)
        medians = found["microseconds"]["beside a neighbour"]
        times = ", ".join(f"{who} {value['median']:.4g}" for who, value in medians.items())
        print(f"{name}: {times} us; all / one {found['all threads / one']:.2f}", flush=True)


if __name__ == "__main__":
    main()

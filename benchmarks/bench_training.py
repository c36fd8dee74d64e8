"""Training throughput on eight workloads against every installed peer.

Each peer trains the same epochs from the same weights; after a short epoch their weights must
agree with ours (`parity`), then whole epochs are timed in turn. Microseconds a step, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

from common import write

from fastmlp.cli.contest import parity, verdict
from fastmlp.cli.peers import PEERS, Runner, installed
from fastmlp.cli.workloads import WORKLOADS, Problem, Workload, floor_flops, problem


def timed(runners: dict[str, Runner], work: Workload, repeats: int) -> dict[str, float]:
    """Microseconds a step: the median over rounds in which every peer has its turn."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        runner.epoch()
    for _ in range(repeats):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.epoch()
            times[name].append((time.perf_counter() - started) / work.steps * 1e6)
    return {name: statistics.median(several) for name, several in times.items()}


def measured(work: Workload, names: list[str], optimizer: str, repeats: int) -> dict[str, Any]:
    """Parity, then times, of one workload."""
    given: Problem = problem(work)
    parity(work, names, optimizer)
    runners = {name: PEERS[name](work, given, optimizer) for name in names}
    micro = timed(runners, work, repeats)
    return verdict(micro, floor_flops(work.sizes, work.batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    parser.add_argument("--only", nargs="*", help="names of workloads")
    parser.add_argument("--without", nargs="*", default=[], help="names of peers")
    arguments = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")
    names = [name for name in installed() if name not in arguments.without]
    results = {}
    for work in WORKLOADS:
        if arguments.only and work.name not in arguments.only:
            continue
        found = measured(work, names, arguments.optimizer, arguments.repeats)
        results[work.name] = found
        shown = ", ".join(f"{name} {us:.4g}" for name, us in found["microseconds"].items())
        print(f"{work.name}: {shown}; best peer / ours {found['best peer / ours']:.2f}", flush=True)
    write(f"training_{arguments.optimizer}", {"repeats": arguments.repeats, "workloads": results})


if __name__ == "__main__":
    main()

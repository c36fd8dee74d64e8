"""Training throughput on eight workloads against every installed peer.

    python benchmarks/bench_training.py
    python benchmarks/bench_training.py --optimizer adam

Each peer trains the same epochs from the same weights; after three steps their weights must agree,
then whole epochs are timed in turn. Microseconds a step, medians. Epochs count before which the
machine was quiet: ten milliseconds of the kernels' register tile on all cores were as fast as
ever, and two threads met as soon as ever. The floor of a step is its multiplications and additions
at the rate of that tile, which is measured in the same run.
"""

from __future__ import annotations

import os
from typing import Any

from common import Cases, parser, times_of
from peak import Probe, tile_peak

from fastmlp.cli.contest import BRIEF, Pace, measured
from fastmlp.cli.peers import OURS, installed
from fastmlp.cli.workloads import WORKLOADS, Workload, describe, floor_flops

RATES = {"sgd": 0.05, "adam": 0.001}
"""What trains these networks; with Adam's steps of 0.05 their units are full at once."""


def result(work: Workload, names: list[str], optimizer: str, pace: Pace) -> dict[str, Any]:
    """Times of a workload, and how far ours is above its floor."""
    found = measured(work, names, optimizer, pace)
    peak = tile_peak(work.dtype)
    floor = floor_flops(work.sizes, work.batch) / peak["all threads"] / 1e3
    ratio = found["microseconds"][OURS] / floor
    return {**describe(work), **found, "tile peak": peak, "floor": floor, "ours / floor": ratio}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=7, help="of an epoch, at least")
    options.add_argument("--most", type=int, default=21, help="rounds of a workload")
    options.add_argument("--seconds", type=float, default=12.0, help="of rounds, each workload")
    options.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    options.add_argument("--without", nargs="*", default=[], help="names of peers")
    arguments = options.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")
    names = [name for name in installed() if name not in arguments.without]
    rate = RATES[arguments.optimizer]
    works = {work.name: work._replace(rate=rate) for work in WORKLOADS}
    pace = Pace(arguments.seconds, arguments.repeats, arguments.most, probe=Probe())
    if arguments.quick:
        pace = BRIEF
        works = {name: work._replace(steps=min(work.steps, 2)) for name, work in works.items()}
        works.pop("large2048")
    record = Cases(
        f"training_{arguments.optimizer}",
        arguments,
        {"repeats": arguments.repeats, "seconds": arguments.seconds},
    )
    for name in record.wanted(works):
        found = result(works[name], names, arguments.optimizer, pace)
        record.add(name, found)
        peak = found["tile peak"]
        print(
            f"{name}: {times_of(found)}; best peer / ours {found['best peer / ours']:.2f}; "
            f"ours / floor {found['ours / floor']:.2f} "
            f"(tile peak {peak['one thread']:.0f}, {peak['all threads']:.0f} GFLOP/s)",
            flush=True,
        )


if __name__ == "__main__":
    main()

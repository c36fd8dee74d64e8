"""How the cost of an update grows with the width, the depth, the batch and the rows.

    python benchmarks/bench_sweeps.py

Each sweep changes one thing; precisions and threads are compared by width. Every case checks parity
and then times the contestants in turn; `fastmlp.cli.contest` says how, and when one that is far
behind is timed no further.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from common import Cases, parser, times_of
from peak import Probe

from fastmlp import set_num_threads
from fastmlp.cli.contest import BRIEF, Pace, in_turn, measured, verdict
from fastmlp.cli.peers import COMPILED, NUMPY, OURS, PEERS, SCIKIT, installed
from fastmlp.cli.workloads import Workload, describe, floor_flops, problem

SLOW = (COMPILED, SCIKIT)
"""Left out: PyTorch's compiler takes up to a minute a shape, and scikit-learn was far behind the
best on every one of the eight workloads."""
EPOCH = 0.03
"""Seconds that an epoch should take, so that what a call costs, 0.1 ms, stays unseen."""
RATE = 150e9
"""Operations a second that are assumed for it, besides half a microsecond an update."""
CELLS = 2**25
"""Numbers that the rows may hold: 128 MiB in float32."""

WIDTHS = tuple(2**power for power in range(1, 13))
DEPTHS = (1, 2, 3, 4, 5, 6)
BATCHES = tuple(2**power for power in range(14))
ROWS = (1_024, 8_192, 65_536, 524_288, 2_097_152)
THREADS = (1, 2, 4, 8, 16)
MIDDLE = (16, 64, 256, 1024)
"""Widths of the sweeps over precision and threads."""


class Case(NamedTuple):
    """A workload, who trains it, and what a plot's axis shows of it."""

    work: Workload
    optimizer: str
    value: float
    names: Callable[[list[str]], list[str]]
    threads: int | None = None


def everyone(names: list[str]) -> list[str]:
    """All who are installed."""
    return names


def ours_and_numpy(_names: list[str]) -> list[str]:
    """Who computes in every precision."""
    return [OURS, NUMPY]


def sized(sizes: tuple[int, ...], batch: int, activation: str, **more: Any) -> Workload:
    """A workload whose epoch takes about `EPOCH` seconds."""
    seconds = floor_flops(sizes, batch) / RATE + 0.5e-6
    most = min(20_000, max(2, CELLS // (batch * sizes[0])))
    steps = int(min(max(EPOCH / seconds, 2), most))
    name = f"{'-'.join(map(str, sizes))} b{batch} {activation}"
    return Workload(name, sizes, activation, batch, steps, **more)


def sweeps() -> Iterator[tuple[str, Case]]:
    for width in WIDTHS:
        yield f"width {width}", _swept((32, width, width, 10), 128, width)
    for depth in DEPTHS:
        yield f"depth {depth}", _swept((64, *[128] * depth, 10), 128, depth)
    for batch in BATCHES:
        yield f"batch {batch}", _swept((64, 128, 128, 10), batch, batch)
    for rows in ROWS:
        work = Workload(f"{rows} rows", (16, 32, 2), "relu", 64, rows // 64)
        yield f"rows {rows}", Case(work, "sgd", rows, everyone)
    for width in MIDDLE:
        for dtype in ("float32", "float64"):
            work = sized((32, width, width, 10), 128, "relu", dtype=dtype)
            yield f"precision {dtype} {width}", Case(work, "sgd", width, ours_and_numpy)
    for count in THREADS:
        for width in MIDDLE if count <= (os.cpu_count() or 1) else ():
            case = _swept((32, width, width, 10), 128, width)
            only_ours = case._replace(names=lambda _names: [OURS], threads=count)
            yield f"threads {count} {width}", only_ours


def _swept(sizes: tuple[int, ...], batch: int, value: float) -> Case:
    return Case(sized(sizes, batch, "relu"), "sgd", value, everyone)


def result(case: Case, names: list[str], pace: Pace) -> dict[str, Any]:
    """Times of one case."""
    chosen = case.names(names)
    about = {**describe(case.work), "optimizer": case.optimizer, "value": case.value}
    if case.threads is None:
        return {**about, **measured(case.work, chosen, case.optimizer, pace)}
    set_num_threads(case.threads)
    try:
        return {**about, "threads": case.threads, **_alone(case, pace)}
    finally:
        set_num_threads(None)


def _alone(case: Case, pace: Pace) -> Mapping[str, Any]:
    """Our own time; parity of the shape is asserted by the sweep over widths."""
    runner = PEERS[OURS](case.work, problem(case.work), case.optimizer)
    micro = min(in_turn({OURS: runner.epoch}, pace)[OURS]) / case.work.steps * 1e6
    return verdict({OURS: micro}, floor_flops(case.work.sizes, case.work.batch))


def shown(name: str, found: Mapping[str, Any]) -> str:
    """A case in a line."""
    if "best peer" not in found:
        return f"{name}: {times_of(found)}"
    return f"{name}: {times_of(found)}; best peer / ours {found['best peer / ours']:.2f}"


def measure(kind: str, cases: Iterator[tuple[str, Case]], about: str | None) -> None:
    """Measure cases into the record of this name, as the command line asks for."""
    options = parser(about)
    options.add_argument("--seconds", type=float, default=3.0, help="of rounds, each case")
    options.add_argument("--without", nargs="*", default=list(SLOW), help="names of peers")
    arguments = options.parse_args()
    names = [name for name in installed() if name not in arguments.without]
    pace, found = Pace(arguments.seconds, probe=Probe()), dict(cases)
    if arguments.quick:
        pace, found = BRIEF, {n: _small(case) for n, case in found.items()}
    record = Cases(kind, arguments, {"seconds": arguments.seconds})
    for name in record.wanted(found):
        case = result(found[name], names, pace)
        record.add(name, case)
        print(shown(name, case), flush=True)


def _small(case: Case) -> Case:
    """A few units and steps of a case."""
    sizes = tuple(min(size, 8) for size in case.work.sizes)
    return case._replace(work=case.work._replace(sizes=sizes, batch=2, steps=2))


if __name__ == "__main__":
    measure("sweeps", sweeps(), __doc__)

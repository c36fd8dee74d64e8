"""Peak memory of training: by rows, by the kind of input, and by library.

    python benchmarks/bench_memory.py

Every case is a process of its own. It makes its rows, trains once on a few of them, so that
imports and compiled code are there, resets the kernel's record of the peak (Linux) and trains an
epoch. "more" is what the process then held at most beyond what it held before: copies of the rows,
buffers, the network. For input of another precision or order that is compared with the size of the
rows as float32 in C order, which the kernels work on. "seconds" is the time of one more epoch, as a
fit of its own: with the checks, conversions and copies of the rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import Cases, parser, python

from fastmlp.cli.peers import COMPILED, OURS, PEERS, installed
from fastmlp.cli.workloads import Problem, Workload, start
from fastmlp.kernels.contract import Array

BATCH = 128
SIZES = (784, 100, 10)
LEAST = 1024
"""Rows of the first training, whose memory does not count."""


class Case(NamedTuple):
    """Rows, what they are, and who trains on them."""

    rows: int
    kind: str
    peer: str


KINDS = {
    "float32": lambda rows: _filled(rows, "float32", "C"),
    "float32, Fortran order": lambda rows: _filled(rows, "float32", "F"),
    "float64": lambda rows: _filled(rows, "float64", "C"),
    "float64, Fortran order": lambda rows: _filled(rows, "float64", "F"),
    "float16": lambda rows: _filled(rows, "float16", "C"),
    "float16, Fortran order": lambda rows: _filled(rows, "float16", "F"),
    "uint8": lambda rows: _filled(rows, "uint8", "C"),
    "uint8, Fortran order": lambda rows: _filled(rows, "uint8", "F"),
    "uint8, every second row": lambda rows: _filled(2 * rows, "uint8", "C")[::2],
}
"""Name of the input -> how it is made."""

ROWS = (10_240, 40_960, 163_840, 655_360)
MIDDLE = 163_840


def _filled(rows: int, dtype: str, order: Any) -> Array:
    """Cheap numbers of a precision: what they are does not matter here."""
    X = np.empty((rows, SIZES[0]), dtype, order)
    X[...] = np.arange(SIZES[0]) % 3
    return X


def all_cases(peers: list[str]) -> dict[str, Case]:
    """Ours by rows and by kinds; the peers by rows, and by kinds none: they take float32."""
    found = {f"rows {rows} {OURS}": Case(rows, "float32", OURS) for rows in ROWS}
    others = [name for name in peers if name != OURS]
    for rows in ROWS[:-1]:  # some hold the rows four times
        found.update({f"rows {rows} {name}": Case(rows, "float32", name) for name in others})
    found.update({f"input {kind}": Case(MIDDLE, kind, OURS) for kind in KINDS})
    return found


def worker(case: Case) -> dict[str, Any]:
    """Train in this process and watch the peak."""
    X = KINDS[case.kind](case.rows)
    y = np.arange(case.rows) % SIZES[-1]
    rng = np.random.default_rng(0)
    work = Workload("memory", SIZES, "relu", BATCH, 0)
    weights = start(work, rng)
    for rows in (LEAST, case.rows):
        part = Problem(X[:rows], y[:rows], *weights)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        runner = PEERS[case.peer](work._replace(steps=rows // BATCH), part, "sgd")
        runner.epoch()
        more = _status("VmHWM") - before
    started = time.perf_counter()
    runner.epoch()
    seconds = time.perf_counter() - started
    return {
        "more": more,
        "seconds": seconds,
        "held before": before,
        "float32 rows": X.size * 4,
        "input": X.nbytes,
    }


def _status(key: str) -> int:
    """Bytes that the kernel counts for this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not say {key}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--without", nargs="*", default=[COMPILED], help="names of peers")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    cases = all_cases([name for name in installed() if name not in arguments.without])
    if arguments.worker:
        case = cases[arguments.worker]
        print(json.dumps(worker(case._replace(rows=2048) if arguments.quick else case)))
        return
    record = Cases("memory", arguments, {"layers": "-".join(map(str, SIZES)), "batch": BATCH})
    for name in record.wanted(cases):
        words = ["--worker", name, *(["--quick"] if arguments.quick else [])]
        words += ["--without", *arguments.without]
        found = json.loads(python(__file__, *words).splitlines()[-1])
        found["more / float32 rows"] = found["more"] / found["float32 rows"]
        record.add(name, {**cases[name]._asdict(), **found})
        print(
            f"{name}: {found['more'] / 2**20:.0f} MiB more, "
            f"{found['more / float32 rows']:.2f} times the rows as float32, "
            f"{found['seconds']:.2f} s an epoch",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""``fastmlp bench``: training on this machine, beside the other libraries that it has."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import available_backends, get_num_threads, set_num_threads
from ..network import warmup
from . import contest, machine
from .peers import COMPILED, NUMPY, OURS, installed
from .workloads import WORKLOADS, Workload, describe

Say = Callable[[str], None]

SUBSET = ("xor", "online", "small64x2", "chapter_np", "skdef", "tab256x3")
"""The workloads that take two minutes together, with every library there is."""

TITLES = {OURS: "fastmlp", NUMPY: "NumPy"}


def run(chosen: argparse.Namespace) -> int:
    """Time, print, write; return the exit status."""
    if chosen.threads is not None:
        set_num_threads(chosen.threads)
    reason = available_backends()["numba"]
    if reason is not None:
        raise ImportError(f"there are no compiled kernels to time: {reason}")
    path = None if chosen.json is None else _writable(chosen.json)
    # Compiling PyTorch needs a C++ compiler and takes longer than all the rest.
    names = [name for name in installed(chosen.dtype) if name != COMPILED]
    _say(_heading(chosen, names))
    _say(f"compiled or loaded kernels in {warmup(chosen.dtype, 'numba'):.2f} s")
    _say(_row(["layers", "batch", *(TITLES.get(name, name) for name in names), "best / ours"]))
    found = {}
    for work in _workloads(chosen):
        found[work.name] = _timed(work, names, chosen.optimizer, chosen.seconds)
        _say(_line(work, names, found[work.name]))
    _say("Microseconds an update, medians. NumPy writes into buffers that it keeps.")
    _say(f"-: more than {contest.FAR:.0f} times behind the best in a short trial.")
    _say("Other work on this machine disturbs all of them.")
    if path is not None:
        _write(path, chosen, found)
    return 0


def short(dtype: str, say: Say) -> None:
    """Make the comparison that ends ``fastmlp train``, or say why there is none."""
    reason = available_backends()["numba"]
    if reason is not None:
        say(f"no comparison with compiled kernels: {reason}")
        return
    work = Workload("short", (784, 256, 256, 10), "relu", 256, 8, dtype)
    warmup(dtype, "numba")
    found = _timed(work, [OURS, NUMPY], "adam", 0.5)
    ours, numpy = (found["microseconds"][name] / work.batch for name in (OURS, NUMPY))
    say(
        f"Comparison: training {describe(work)['layers']} (relu, cross_entropy, adam), batches of "
        f"{work.batch}, {dtype}"
    )
    say(f"  fastmlp {1e6 / ours:12,.0f} rows/s  ({get_num_threads()} threads)")
    say(f"  NumPy   {1e6 / numpy:12,.0f} rows/s  (BLAS's threads, buffers that it keeps)")
    say(f"  ratio   {numpy / ours:12.2f}  (fastmlp bench asks other libraries, too)")


def _workloads(chosen: argparse.Namespace) -> list[Workload]:
    """The list, or the one network that was asked for."""
    if chosen.layers is None:
        return [w._replace(dtype=chosen.dtype) for w in WORKLOADS if w.name in SUBSET]
    batch = min(chosen.batch_size, chosen.rows)
    sizes = tuple(chosen.layers)
    name = "-".join(map(str, sizes))
    return [Workload(name, sizes, "relu", batch, chosen.rows // batch, chosen.dtype)]


def _timed(work: Workload, names: list[str], optimizer: str, seconds: float) -> dict[str, Any]:
    pace = contest.Pace(seconds * len(names))
    return {**describe(work), **contest.measured(work, names, optimizer, pace)}


def _heading(chosen: argparse.Namespace, names: list[str]) -> str:
    others = [name for name in names if name not in (OURS, NUMPY)]
    return (
        f"{machine.cpu_name()}, {get_num_threads()} threads; training with {chosen.optimizer}, "
        f"cross-entropy, {chosen.dtype}\n"
        f"beside NumPy{''.join(f', {name}' for name in others)}"
        f"{'' if others else '; PyTorch, JAX and scikit-learn would be timed if installed'}"
    )


def _line(work: Workload, names: list[str], found: Mapping[str, Any]) -> str:
    micro = found["microseconds"]
    times = [f"{micro[name]:.4g}" if name in micro else "-" for name in names]
    best = found["best peer"]
    ratio = f"{found['best peer / ours']:.2f} ({TITLES.get(best, best)})"
    return _row([f"{describe(work)['layers']} {work.activation}", str(work.batch), *times, ratio])


def _row(cells: list[str]) -> str:
    first, batch, *times, ratio = cells
    return f"{first:26}{batch:>6}" + "".join(f"{cell:>14}" for cell in times) + f"  {ratio}"


def _writable(name: str) -> Path:
    """The file to write; what would fail after two minutes fails before them."""
    path = Path(name)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--json {path}: is a folder, or in a folder that isn't there")
    return path


def _write(path: Path, chosen: argparse.Namespace, found: Mapping[str, Any]) -> None:
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    whole = {"machine": {**machine.record(), "date": date}, "optimizer": chosen.optimizer}
    path.write_text(json.dumps({**whole, "workloads": found}, indent=1) + "\n")
    _say(f"written to {path}")


def _say(text: str) -> None:
    # Workloads take seconds: each line is shown when it is known.
    print(text, flush=True)

"""``fastmlp bench``: the NumPy reference beside the compiled kernels, on this machine."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import available_backends, get_num_threads, set_num_threads
from ..network import MLP, warmup

NAMES = ("numpy", "numba")
BLOCKS = 3
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}
"""How far the losses of an epoch may be apart, relatively."""


class Case(NamedTuple):
    """What is timed."""

    layers: tuple[int, ...]
    batch: int
    rows: int
    seconds: float
    """For each backend."""
    dtype: str


def run(chosen: argparse.Namespace) -> int:
    """Time and print; return the exit status."""
    if chosen.threads is not None:
        set_num_threads(chosen.threads)
    case = Case(tuple(chosen.layers), chosen.batch_size, chosen.rows, chosen.seconds, chosen.dtype)
    reason = available_backends()["numba"]
    if reason is not None:
        raise ImportError(f"nothing to compare the NumPy reference with: {reason}")
    _report(case, print)
    return 0


def short(dtype: str, say: Callable[[str], None]) -> None:
    """Make the comparison that ends ``fastmlp train``, or say why there is none."""
    reason = available_backends()["numba"]
    if reason is not None:
        say(f"no comparison with compiled kernels: {reason}")
        return
    _report(Case((784, 256, 256, 10), 256, 2048, 1.0, dtype), say)


def _report(case: Case, say: Callable[[str], None]) -> None:
    sizes = "-".join(map(str, case.layers))
    say(
        f"Comparison: training {sizes} (relu, cross_entropy, adam), batches of {case.batch}, "
        f"{case.rows} random rows, {case.dtype}; best epoch"
    )
    rates, losses = measure(case)
    for name in NAMES:
        threads = f"{get_num_threads()} threads" if name == "numba" else "BLAS's threads"
        say(f"  {name:6} {rates[name]:12,.0f} rows/s  ({threads})")
    apart = abs(losses["numba"] / losses["numpy"] - 1)
    say(f"  ratio  {rates['numba'] / rates['numpy']:12.2f}         (losses differ by {apart:.0e})")
    say("  The NumPy reference is written to be read; other work on this machine disturbs both.")
    if not apart <= TOLERANCE[case.dtype]:
        raise ArithmeticError(f"the backends disagree: losses {losses}")


def measure(case: Case) -> tuple[dict[str, float], dict[str, float]]:
    """Return rows per second, of the best epoch, and the loss of the first."""
    warmup(case.dtype, "numba")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(case.rows, case.layers[0])).astype(case.dtype)
    y = rng.integers(0, case.layers[-1], case.rows)
    nets = {name: MLP(case.layers, dtype=case.dtype, backend=name, seed=0) for name in NAMES}
    losses = {name: net.fit(X, y, 1, case.batch).loss[0] for name, net in nets.items()}
    best = dict.fromkeys(NAMES, math.inf)
    # Blocks in turn: both meet the same moods of the machine, and neither right after the other's
    # threads. The best epoch is the one that nothing else disturbed.
    for name in NAMES * BLOCKS:
        until = time.perf_counter() + case.seconds / BLOCKS
        while (started := time.perf_counter()) < until:
            nets[name].fit(X, y, 1, case.batch)
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: case.rows / seconds for name, seconds in best.items()}, losses

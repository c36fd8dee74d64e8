"""Chooses cuBLASLt's algorithms by time, for the products of one network's training step.

    python benchmarks/tune_gpu.py choices.json --layers 784 4096 4096 10 --batch 65536 --dtype tf32
    FASTMLP_GPU_CHOICES=choices.json python train.py

Without such a file a rule chooses (see ``docs/guide/gpu.rst``), and the same machine gives the same
bits for ever. With one, bits depend on the file, so summaries and saved networks name it. It holds
for one device and one version of the library, and several runs may share it: what it has stays.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from fastmlp import MLP
from fastmlp.kernels.cupy_gpu import choices, tiers

CANDIDATES = 16
"""Algorithms of a product that are tried, in the order of the library's heuristic."""

REPEATS = 20

GAIN = 0.97
"""Another algorithm than the heuristic's first must take less than this share of its time."""


def seconds(run: Callable[[], object]) -> float:
    """Median seconds on the device, after three calls that do not count."""
    times = []
    for _ in range(REPEATS + 3):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1000)
    return statistics.median(times[3:])


def products(layers: tuple[int, ...], batch: int, dtype: str) -> list[Any]:
    """The products of a training step, with their buffers filled by one."""
    net = MLP(layers, backend="cupy", dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(batch, layers[0])).astype(np.float32)
    net.train_on_batch(rows, rng.integers(0, layers[-1], batch))
    plan: Any = net._engine._plan
    if plan.way.tier != "lt":
        raise SystemExit(f"the tier is {plan.way.tier}: {tiers._unfit()}")
    program = plan.programs["train", batch, True, False]
    return [step for step in program if isinstance(step, partial)]


def fastest(step: Any, timed: Callable[[Callable[[], object]], float] = seconds) -> bytes | None:
    """The algorithm of a product that beats the heuristic's first; None where none does."""
    product = step.args[0]
    candidates = product.ranked(CANDIDATES)
    times = []
    for candidate in candidates:
        product.use(candidate)
        times.append(timed(step))
    best = int(np.argmin(times))
    product.use(candidates[best])
    print(f"{product.key}: {best + 1} of {len(times)}, {times[best] / times[0]:.2f} of the first")
    return bytes(candidates[best].algorithm) if times[best] < GAIN * times[0] else None


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args(given)
    found = dict(choices.read(options.file).algorithms) if options.file.exists() else {}
    for step in products(tuple(options.layers), options.batch, options.dtype):
        algorithm = fastest(step)
        if algorithm is not None:
            found[step.args[0].key] = algorithm
    choices.write(options.file, found)


if __name__ == "__main__":
    main()

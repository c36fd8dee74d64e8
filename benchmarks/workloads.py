"""The eight training workloads, from a 2-2-2 network to 784-2048-2048-10, and how peers run them.

Every peer gets the same rows, the same starting weights, the same order (as it comes), plain SGD or
Adam, and its best form; `parity` compares the weights after a few steps before anything is timed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Workload(NamedTuple):
    """A shape and a batch size."""

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch: int
    steps: int
    """Minibatches of the timed epoch."""


WORKLOADS = (
    Workload("xor", (2, 2, 2), "sigmoid", 4, 20_000),
    Workload("online", (784, 30, 10), "sigmoid", 1, 10_000),
    Workload("small64x2", (16, 64, 64, 2), "relu", 32, 4_000),
    Workload("chapter_tf", (784, 50, 50, 10), "tanh", 64, 900),
    Workload("chapter_np", (784, 100, 10), "sigmoid", 100, 500),
    Workload("skdef", (784, 100, 10), "relu", 200, 250),
    Workload("tab256x3", (54, 256, 256, 256, 7), "relu", 1024, 20),
    Workload("large2048", (784, 2048, 2048, 10), "relu", 4096, 2),
)


class Problem(NamedTuple):
    """Rows, classes and starting parameters of a workload."""

    X: Array
    y: NDArray[np.int64]
    weights: list[Array]
    biases: list[Array]


def problem(work: Workload, seed: int = 0) -> Problem:
    """Draw a problem; weights are small enough for every activation to stay lively."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(work.batch * work.steps, work.sizes[0])).astype(np.float32)
    y = rng.integers(0, work.sizes[-1], len(X))
    weights = [
        (rng.normal(size=(i, o)) / np.sqrt(i)).astype(np.float32)
        for i, o in zip(work.sizes, work.sizes[1:], strict=False)
    ]
    return Problem(X, y, weights, [np.zeros(o, np.float32) for o in work.sizes[1:]])


def floor_flops(work: Workload) -> float:
    """Multiplications and additions of a step: three products a layer, two for the first."""
    layers = list(zip(work.sizes, work.sizes[1:], strict=False))
    whole = sum(6 * i * o for i, o in layers)
    return float(work.batch * (whole - 2 * layers[0][0] * layers[0][1]))

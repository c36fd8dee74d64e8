"""Training workloads, from a 2-2-2 network to 784-2048-2048-10, and the rows they run on.

Every contestant gets the same rows, the same starting weights, the same order, plain SGD or Adam.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.contract import Array


class Workload(NamedTuple):
    """A network with cross-entropy, a batch size, and how long an epoch is."""

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch: int
    steps: int
    """Minibatches of an epoch, all of them full."""
    dtype: str = "float32"
    rate: float = 0.05


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
    """Draw a problem."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((work.batch * work.steps, work.sizes[0]), np.float32)
    y = rng.integers(0, work.sizes[-1], len(X))
    return Problem(X.astype(work.dtype, copy=False), y, *start(work, rng))


def start(work: Workload, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """Draw weights, small enough for every activation to stay lively; biases are zero."""
    weights = [
        (rng.normal(size=(i, o)) / np.sqrt(i)).astype(work.dtype) for i, o in pairwise(work.sizes)
    ]
    return weights, [np.zeros(o, work.dtype) for o in work.sizes[1:]]


def floor_flops(sizes: tuple[int, ...], batch: int) -> float:
    """Multiplications and additions of a step: three products a layer, two for the first."""
    layers = list(pairwise(sizes))
    whole = sum(6 * i * o for i, o in layers)
    return float(batch * (whole - 2 * layers[0][0] * layers[0][1]))


def describe(work: Workload) -> dict[str, Any]:
    """Layers, activation and batch, as they stand in a table."""
    return {
        "layers": "-".join(map(str, work.sizes)),
        "activation": work.activation,
        "batch": work.batch,
        "dtype": work.dtype,
    }

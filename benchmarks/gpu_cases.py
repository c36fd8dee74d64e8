"""The training steps that are measured on a GPU: their sizes, rows, floors and tolerances."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastmlp.cli.workloads import floor_flops
from fastmlp.kernels.contract import Array

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


class Case(NamedTuple):
    """A network with relu inside, and how it is trained; Adam everywhere."""

    layers: tuple[int, ...]
    """One output: binary cross-entropy; else cross-entropy."""
    batch: int
    precisions: tuple[str, ...]
    distinct: int
    """Rows that are drawn."""
    repeats: int = 1
    """How often they lie on the device, one after the other."""
    shuffled: bool = False
    """Rows are picked in an order of the epoch's; else batches are slices."""

    @property
    def rows(self) -> int:
        """Rows on the device."""
        return self.distinct * self.repeats

    @property
    def steps(self) -> int:
        """Whole batches of an epoch."""
        return self.rows // self.batch

    @property
    def flop(self) -> float:
        """Multiplications and additions of a step."""
        return floor_flops(self.layers, self.batch)

    def traffic(self, precision: str) -> float:
        """Bytes of a step whose products read and write each tensor once, and of Adam."""
        pairs = list(pairwise(self.layers))
        sides = sum(i + o for i, o in pairs)
        columns = 3 * sides - sum(pairs[0])
        parameters = sum((i + 1) * o for i, o in pairs)
        return columns * self.batch * WIDTHS[precision] + 28.0 * parameters


WIDTHS = {"bfloat16": 2, "tf32": 4, "float32": 4}
"""Bytes of a number between the layers."""

ALL = ("bfloat16", "tf32", "float32")

CASES: Mapping[str, Case] = {
    "A": Case((784, 4096, 4096, 10), 1 << 16, ALL, 1 << 16, repeats=4),
    "B 2^18": Case((64, 64, 64, 64, 64, 64, 16), 1 << 18, ("bfloat16",), 1 << 18, repeats=16),
    "B 2^20": Case((64, 64, 64, 64, 64, 64, 16), 1 << 20, ("bfloat16",), 1 << 20, repeats=8),
    "C": Case((784, 50, 50, 10), 64, ("float32",), 64_000),
    "D 2^17": Case((100, 256, 256, 128, 1), 1 << 17, ("bfloat16",), 1 << 20, 10, True),
    "D 8192": Case((100, 256, 256, 128, 1), 8192, ("tf32",), 1 << 20, 10, True),
    "E": Case((784, 1024, 1024, 10), 8192, ("bfloat16", "tf32"), 8192 * 8, repeats=4),
}
"""Wide layers; narrow ones; a tiny batch; ten million rows of a table; middle sizes."""

REHEARSAL: Mapping[str, Case] = {
    "A": Case((9, 24, 16, 5), 32, ALL, 64, repeats=2),
    "D 8192": Case((7, 12, 8, 1), 16, ("tf32",), 48, 2, True),
}
"""Small cases of both losses, with and without an order."""

CEILINGS: Mapping[str, float] = {"bfloat16": 790e12, "tf32": 400e12, "float32": 67e12}
"""Multiplications and additions a second of an H200: measured elsewhere, assumed, data sheet."""

BANDWIDTH = 4.3e12
"""Bytes a second of an H200's memory, assumed until a copy is measured."""

TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "tf32": 2e-3, "bfloat16": 2e-2}
"""How far losses of the first steps may be from those of float32, relative to the loss."""


def parity_steps(case: Case) -> int:
    """How many losses are compared: the CPU has to make the same steps."""
    return min(case.steps, 5 if case.flop < 1e12 else 2)


class Given(NamedTuple):
    """Rows, targets and first weights, on the host."""

    X: Array
    y: Array
    """(rows,) int64 class indices, or (rows,) float32 of 0 and 1."""
    weights: list[Array]
    biases: list[Array]


def given(case: Case, seed: int = 0) -> Given:
    """Draw a case; products take longer on random numbers than on zeros."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((case.distinct, case.layers[0]), np.float32)
    outputs = case.layers[-1]
    y = rng.integers(0, max(2, outputs), case.distinct)
    return Given(X, y if outputs > 1 else y.astype(np.float32), *first_weights(case, rng))


def first_weights(case: Case, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """Draw He's weights; biases are zero."""
    weights = [
        (rng.standard_normal((i, o)) * math.sqrt(2 / i)).astype(np.float32)
        for i, o in pairwise(case.layers)
    ]
    return weights, [np.zeros(o, np.float32) for o in case.layers[1:]]


def floors(case: Case, precision: str) -> dict[str, float]:
    """Seconds that an H200's arithmetic and memory need at least, layer by layer."""
    arithmetic = case.flop / CEILINGS[precision]
    memory = case.traffic(precision) / BANDWIDTH
    return {
        "flop": case.flop,
        "bytes": case.traffic(precision),
        "arithmetic": arithmetic,
        "memory": memory,
        "floor": max(arithmetic, memory),
    }


class Contender(Protocol):
    """A network that is ready to train."""

    clock: str
    """What `sample` reads: "events" of the device, or "wall"."""

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""

    def run(self, count: int) -> None:
        """Start that many steps, batch after batch."""

    def wait(self) -> None:
        """Wait until they are done."""

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on, as the rows come; return the loss of each."""

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights (inputs, outputs) and biases now, on the host."""


def wall_seconds(contender: Contender, count: int) -> float:
    """Seconds a step of that many steps, by the wall clock."""
    contender.wait()
    started = time.perf_counter()
    contender.run(count)
    contender.wait()
    return (time.perf_counter() - started) / count


def apart(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Largest difference of losses relative to the first; infinite where one is no number."""
    gap = np.abs(np.asarray(found) - np.asarray(wanted)).max() / max(abs(wanted[0]), 1e-9)
    return float(gap) if np.isfinite(gap) else math.inf


class Places:
    """Which batch comes next; `fresh` is called where an epoch begins."""

    def __init__(self, steps: int) -> None:
        self.steps, self.next = steps, 0

    def following(self, count: int) -> list[tuple[int, int]]:
        """Runs (first, count) of batches that lie within an epoch."""
        runs = []
        while count:
            part = min(count, self.steps - self.next)
            runs.append((self.next, part))
            self.next, count = (self.next + part) % self.steps, count - part
        return runs


def accuracy(weights: Sequence[Array], biases: Sequence[Array], X: Array, y: Array) -> float:
    """Share of rows whose largest output is that of their class."""
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = np.maximum(X @ W + b, 0)
    return float(((X @ weights[-1] + biases[-1]).argmax(axis=1) == y).mean())


def describe(case: Case, precision: str) -> dict[str, Any]:
    """What stands beside a case's results."""
    return {
        "layers": "-".join(map(str, case.layers)),
        "batch": case.batch,
        "precision": precision,
        "rows": case.rows,
        "shuffled": case.shuffled,
        "floors": floors(case, precision),
    }

"""NumPy on the processor in its best form, for the cases of the GPU benchmark."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from gpu_cases import RATE, Case, Given, Places

from fastmlp.cli.tuned import TunedNumPy
from fastmlp.cli.workloads import Problem, Workload
from fastmlp.kernels.contract import Array


class Tuned:
    """`fastmlp.cli.tuned`, batch by batch."""

    clock = "wall"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        if case.layers[-1] == 1:
            raise ValueError("it has no binary cross-entropy")
        steps = case.distinct // case.batch
        work = Workload("gpu", case.layers, "relu", case.batch, steps, rate=RATE)
        self.net = TunedNumPy(work, Problem(start.X, start.y, start.weights, start.biases), "adam")
        self.batch, self.steps, self.given = case.batch, steps, start
        self.places = Places(steps)

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        self.net.restart(list(weights), list(biases))
        self.places = Places(self.steps)

    def _step(self, number: int) -> None:
        part = slice(number * self.batch, (number + 1) * self.batch)
        self.net._step(self.given.X[part], self.given.y[part])

    def run(self, count: int) -> None:
        """Make that many steps."""
        for first, part in self.places.following(count):
            for number in range(first, first + part):
                self._step(number)

    def wait(self) -> None:
        """Nothing is under way."""

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on; return the loss of each."""
        found = []
        for number in range(min(count, self.steps)):
            part = slice(number * self.batch, (number + 1) * self.batch)
            X, y = self.given.X[part], self.given.y[part]
            self.net._forward(X)
            Z = self.net.A[-1].astype(np.float64)
            Z -= Z.max(axis=1, keepdims=True)
            logs = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
            found.append(float(-logs[np.arange(len(y)), y].mean()))
            self._step(number)
        return found

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""
        started = time.perf_counter()
        self.run(count)
        return (time.perf_counter() - started) / count

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        return self.net.W, self.net.b

"""The processor's part of the GPU benchmark: fastmlp's CPU backend, and NumPy in its best form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gpu_cases import BETA1, BETA2, EPSILON, RATE, Case, Given, Places, wall_seconds

from fastmlp import MLP, Adam
from fastmlp.cli.tuned import TunedNumPy
from fastmlp.cli.workloads import Problem, Workload
from fastmlp.history import Losses
from fastmlp.kernels.contract import Array, Data, Order


class OnCpu:
    """A network of fastmlp, trained by its backend's `train_steps`; float32 on the processor."""

    clock = "wall"
    backend = "auto"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        loss = "cross_entropy" if case.layers[-1] > 1 else "binary_cross_entropy"
        self.case, self.epoch = case, 0
        kind = precision if self.backend == "cupy" else "float32"
        self.net = MLP(case.layers, loss=loss, dtype=kind, backend=self.backend, seed=0)
        targets = start.y if case.layers[-1] > 1 else start.y.reshape(-1, 1)
        self.data = Data(*(self.placed(rows, case.repeats) for rows in (start.X, targets)))
        self.restart(start.weights, start.biases)

    @staticmethod
    def placed(block: Array, repeats: int) -> Array:
        """Rows so many times one after the other."""
        return np.ascontiguousarray(np.concatenate([block] * repeats))

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        self.net.weights, self.net.biases = list(weights), list(biases)
        self.net._engine.restart(Adam(RATE, BETA1, BETA2, EPSILON))
        self.places = Places(self.case.steps)

    def run(self, count: int) -> None:
        """Start that many steps; the call ends with a look at their losses."""
        for first, part in self.places.following(count):
            self.epoch += first == 0
            order = Order("keyed", self.epoch) if self.case.shuffled else Order("sequence")
            self._steps(np.empty(part), order, first)

    def _steps(self, losses: Array, order: Order, first: int) -> None:
        engine, rates = self.net._engine, np.full(len(losses), RATE)
        engine.run_steps(
            Losses(losses, np.zeros(1)), self.data, order, self.case.batch, first, rates
        )

    def wait(self) -> None:
        """Nothing is under way."""

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on, as the rows come; return the loss of each."""
        found = np.empty(min(count, self.case.steps))
        self._steps(found, Order("sequence"), 0)
        return [float(loss) for loss in found]

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""
        return wall_seconds(self, count)

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        return list(self.net.weights), list(self.net.biases)


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
        return wall_seconds(self, count)

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        return self.net.W, self.net.b

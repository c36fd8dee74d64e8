"""The step as one writes it with CuPy's own functions; it runs over NumPy as well."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from gpu_cases import BETA1, BETA2, EPSILON, RATE, Case, Given, Places, wall_seconds

from fastmlp.kernels.contract import Array


class Naive:
    """float32, every operation a call of the array module `xp`."""

    clock = "wall"
    module = "cupy"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        self.case, self.xp = case, importlib.import_module(self.module)
        self.X, self.y = self.xp.asarray(start.X), self.xp.asarray(start.y)
        self.steps = case.distinct // case.batch
        self.restart(start.weights, start.biases)

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        self.P = [self.xp.asarray(p).copy() for p in (*weights, *biases)]
        self.M = [self.xp.zeros_like(p) for p in self.P]
        self.V = [self.xp.zeros_like(p) for p in self.P]
        self.made, self.places = 0, Places(self.steps)

    def step(self, number: int) -> Any:
        """One step; its loss stays on the device."""
        xp, part = self.xp, slice(number * self.case.batch, (number + 1) * self.case.batch)
        X, y, count = self.X[part], self.y[part], self.case.batch
        weights, biases = self.P[: len(self.P) // 2], self.P[len(self.P) // 2 :]
        A = [X]
        for W, b in zip(weights, biases, strict=True):
            Z = A[-1] @ W + b
            A.append(xp.maximum(Z, 0) if len(A) < len(weights) else Z)
        loss, D = self._outputs(A[-1], y, count)
        dW, db = [], []
        for layer in reversed(range(len(weights))):
            dW.insert(0, A[layer].T @ D)
            db.insert(0, D.sum(axis=0))
            if layer:
                D = (D @ weights[layer].T) * (A[layer] > 0)
        self._update([*dW, *db])
        return loss

    def _outputs(self, Z: Any, y: Any, count: int) -> tuple[Any, Any]:
        xp = self.xp
        if Z.shape[1] == 1:
            z = Z[:, 0]
            loss = (xp.maximum(z, 0) - z * y + xp.log1p(xp.exp(-xp.abs(z)))).mean()
            return loss, ((1 / (1 + xp.exp(-z)) - y) / np.float32(count))[:, None]
        Z = Z - Z.max(axis=1, keepdims=True)
        E = xp.exp(Z)
        S = E.sum(axis=1, keepdims=True)
        rows = xp.arange(count)
        loss = (xp.log(S[:, 0]) - Z[rows, y]).mean()
        D = E / S
        D[rows, y] -= 1
        return loss, D / np.float32(count)

    def _update(self, gradients: list[Any]) -> None:
        self.made += 1
        c1, c2 = 1 - BETA1**self.made, 1 - BETA2**self.made
        for p, m, v, g in zip(self.P, self.M, self.V, gradients, strict=True):
            m *= np.float32(BETA1)
            m += np.float32(1 - BETA1) * g
            v *= np.float32(BETA2)
            v += np.float32(1 - BETA2) * g * g
            root = self.xp.sqrt(v / np.float32(c2)) + np.float32(EPSILON)
            p -= np.float32(RATE / c1) * m / root

    def run(self, count: int) -> None:
        """Start that many steps."""
        for first, part in self.places.following(count):
            for number in range(first, first + part):
                self.step(number)

    def wait(self) -> None:
        """Wait for the device."""
        float(self.P[0][0, 0])

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on; return the loss of each."""
        return [float(self.step(number)) for number in range(min(count, self.steps))]

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""
        return wall_seconds(self, count)

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        host = [p if isinstance(p, np.ndarray) else p.get() for p in self.P]
        return host[: len(host) // 2], host[len(host) // 2 :]

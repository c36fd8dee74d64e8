"""NumPy at its best: every product and activation written into buffers that exist already.

The reference kernels are written to be read; this is what they would be compared with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.contract import Array
from .workloads import Problem, Workload

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class TunedNumPy:
    """A network with softmax and cross-entropy; relu, tanh or sigmoid inside."""

    def __init__(self, work: Workload, given: Problem, optimizer: str):
        self.work, self.given, self.adam = work, given, optimizer == "adam"
        self.real = np.dtype(work.dtype).type
        self.restart(given.weights, given.biases)
        self.X = np.empty((work.batch, work.sizes[0]), work.dtype)
        self.A = [np.empty((work.batch, n), work.dtype) for n in work.sizes[1:]]
        self.D = [np.empty_like(a) for a in self.A]
        self.S = [np.empty_like(a) for a in self.A]
        self.above = [np.empty(a.shape, np.bool_) for a in self.A]
        self.rows = np.arange(work.batch)
        self.G = [np.empty_like(w) for w in self.W]
        self.g = [np.empty_like(b) for b in self.b]
        self.scratch = [np.empty_like(p) for p in [*self.W, *self.b]]

    def restart(self, weights: list[Array], biases: list[Array]) -> None:
        """Take these parameters and forget all steps."""
        self.W = [w.copy() for w in weights]
        self.b = [b.copy() for b in biases]
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in [*self.W, *self.b]]
        self.steps = 0

    def epoch(self, order: NDArray[np.int64] | None = None) -> None:
        """Train on all minibatches, as the rows come or in an order."""
        X, y, batch = self.given.X, self.given.y, self.work.batch
        for begin in range(0, len(X), batch):
            if order is None:
                self._step(X[begin : begin + batch], y[begin : begin + batch])
            else:
                places = order[begin : begin + batch]
                np.take(X, places, axis=0, out=self.X, mode="clip")
                self._step(self.X, y[places])

    def _step(self, X: Array, y: NDArray[np.int64]) -> None:
        self._forward(X)
        out, d = self.A[-1], self.D[-1]
        np.subtract(out, out.max(axis=1, keepdims=True), out=d)
        np.exp(d, out=d)
        d /= d.sum(axis=1, keepdims=True)
        d[self.rows, y] -= 1
        d *= self.real(1 / len(y))
        for layer in reversed(range(len(self.W))):
            given = X if layer == 0 else self.A[layer - 1]
            np.matmul(given.T, self.D[layer], out=self.G[layer])
            np.sum(self.D[layer], axis=0, out=self.g[layer])
            if layer:
                np.matmul(self.D[layer], self.W[layer].T, out=self.D[layer - 1])
                self._derivative(layer - 1)
        self._update()

    def _forward(self, X: Array) -> None:
        for layer, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            A = self.A[layer]
            np.matmul(X, W, out=A)
            A += b
            if layer < len(self.W) - 1:
                self._activate(A)
            X = A

    def _activate(self, A: Array) -> None:
        if self.work.activation == "relu":
            np.maximum(A, 0, out=A)
        elif self.work.activation == "tanh":
            np.tanh(A, out=A)
        else:
            np.negative(A, out=A)
            np.exp(A, out=A)
            A += 1
            np.reciprocal(A, out=A)

    def _derivative(self, layer: int) -> None:
        A, D, S = self.A[layer], self.D[layer], self.S[layer]
        if self.work.activation == "relu":
            np.greater(A, 0, out=self.above[layer])
            D *= self.above[layer]
        elif self.work.activation == "tanh":
            np.multiply(A, A, out=S)
            np.subtract(1, S, out=S)
            D *= S
        else:
            np.subtract(1, A, out=S)
            S *= A
            D *= S

    def _update(self) -> None:
        self.steps += 1
        parameters, gradients = [*self.W, *self.b], [*self.G, *self.g]
        if not self.adam:
            for p, g in zip(parameters, gradients, strict=True):
                g *= self.real(self.work.rate)
                p -= g
            return
        root = np.sqrt(1 - BETA2**self.steps)
        rate, epsilon = self.work.rate * root / (1 - BETA1**self.steps), EPSILON * root
        for p, g, (m, v), s in zip(parameters, gradients, self.moments, self.scratch, strict=True):
            m *= self.real(BETA1)
            np.multiply(g, self.real(1 - BETA1), out=s)
            m += s
            v *= self.real(BETA2)
            np.multiply(g, g, out=s)
            s *= self.real(1 - BETA2)
            v += s
            np.sqrt(v, out=s)
            s += self.real(epsilon)
            np.divide(m, s, out=s)
            s *= self.real(rate)
            p -= s

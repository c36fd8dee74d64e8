"""Seconds an epoch of the chapter's 784-100-10 network: plain NumPy and ours.

The rows are MNIST's where FASTMLP_MNIST names its folder, else random ones of the same shape. All
train from the same weights in the same order; the costs after the first epoch must agree.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write
from numpy.typing import NDArray

from fastmlp import MLP, SGD, Normal
from fastmlp.datasets import load_mnist

ROWS, BATCH, RATE, L2, UNITS = 55_000, 100, 0.0005, 0.01, 100
AGREEMENT = {"float64": 1e-9, "float32": 1e-4}
"""Largest relative difference of the costs."""


def rows() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The training rows and their one-hot classes."""
    folder = os.environ.get("FASTMLP_MNIST")
    if folder:
        data = load_mnist(folder, scaling="signed", dtype="float64")
        X, y = data.X_train[:ROWS], data.y_train[:ROWS]
    else:
        rng = np.random.default_rng(0)
        X, y = rng.uniform(-1, 1, (ROWS, 784)), rng.integers(0, 10, ROWS)
    return X, np.eye(10)[y]


class PlainNumPy:
    """Forward, backward and update as three formulas each, float64."""

    def __init__(self) -> None:
        self.rng = np.random.RandomState(1)
        self.W1 = self.rng.normal(0, 0.1, (784, UNITS))
        self.W2 = self.rng.normal(0, 0.1, (UNITS, 10))
        self.b1, self.b2 = np.zeros(UNITS), np.zeros(10)

    def hidden(self, X: NDArray[Any]) -> NDArray[Any]:
        return 1 / (1 + np.exp(-np.clip(X @ self.W1 + self.b1, -250, 250)))

    def output(self, A: NDArray[Any]) -> NDArray[Any]:
        return 1 / (1 + np.exp(-np.clip(A @ self.W2 + self.b2, -250, 250)))

    def epoch(self, X: NDArray[Any], T: NDArray[Any]) -> None:
        order = self.rng.permutation(len(X))
        for start in range(0, len(X) - BATCH + 1, BATCH):
            x, t = X[order[start : start + BATCH]], T[order[start : start + BATCH]]
            A = self.hidden(x)
            d2 = self.output(A) - t
            d1 = (d2 @ self.W2.T) * A * (1 - A)
            self.W2 -= RATE * (A.T @ d2 + L2 * self.W2)
            self.b2 -= RATE * d2.sum(axis=0)
            self.W1 -= RATE * (x.T @ d1 + L2 * self.W1)
            self.b1 -= RATE * d1.sum(axis=0)

    def cost(self, X: NDArray[Any], T: NDArray[Any]) -> float:
        out = self.output(self.hidden(X))
        losses = -(T * np.log(out) + (1 - T) * np.log(1 - out))
        return float(losses.sum() + L2 / 2 * ((self.W1**2).sum() + (self.W2**2).sum()))


class Ours:
    """The same through `MLP`."""

    def __init__(self, backend: str, dtype: str):
        self.net = MLP(
            (784, UNITS, 10),
            activation="sigmoid",
            loss="binary_cross_entropy",
            optimizer=SGD(RATE),
            reduction="sum",
            init=Normal(0.1),
            l2=L2,
            dtype=dtype,
            backend=backend,
            seed=np.random.RandomState(1),
        )

    def epoch(self, X: NDArray[Any], T: NDArray[Any]) -> None:
        self.net.fit(X, T, epochs=1, batch_size=BATCH, shuffle="permutation", drop_last=True)

    def cost(self, X: NDArray[Any], T: NDArray[Any]) -> float:
        squares = sum(float(np.square(W, dtype=np.float64).sum()) for W in self.net.weights)
        return self.net.evaluate(X, T)["loss"] + L2 / 2 * squares


CONTESTANTS: dict[str, Callable[[], Any]] = {
    "plain NumPy, float64": PlainNumPy,
    "fastmlp numpy, float64": lambda: Ours("numpy", "float64"),
    "fastmlp numba, float64": lambda: Ours("numba", "float64"),
    "fastmlp numba, float32": lambda: Ours("numba", "float32"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows, nothing written")
    arguments = parser.parse_args()
    epochs = 1 if arguments.quick else arguments.epochs
    X, T = (part[: 20 * BATCH] if arguments.quick else part for part in rows())
    given = {"float64": X, "float32": X.astype(np.float32)}
    nets = {name: build() for name, build in CONTESTANTS.items()}
    costs, times = {}, {name: [] for name in nets}
    for name, net in nets.items():
        net.epoch(given[name[-7:]], T)
        costs[name] = net.cost(X, T)
        wanted = costs["plain NumPy, float64"]
        difference = abs(costs[name] - wanted) / wanted
        assert difference < AGREEMENT[name[-7:]], f"{name}: cost differs by {difference:g}"
    for _ in range(epochs):
        for name, net in nets.items():
            started = time.perf_counter()
            net.epoch(given[name[-7:]], T)
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(several) for name, several in times.items()}
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.3f} s an epoch, cost after the first {costs[name]:.3f}")
    if arguments.quick:
        return
    write(
        "chapter",
        {
            "epochs": epochs,
            "data": "MNIST" if "FASTMLP_MNIST" in os.environ else "random rows",
            "seconds an epoch": medians,
            "cost after the first epoch": costs,
        },
    )


if __name__ == "__main__":
    main()

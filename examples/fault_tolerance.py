"""Fault tolerance: hidden units fail one by one, or weights do; accuracy falls slowly.

A network learns the 8x8 digits (or MNIST, with ``--folder``). Then its hidden units are cut off one
after another, and in a second try its weights are replaced one after another by random ones of the
same spread, each time in ten random orders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import digits, options, show

from fastmlp import MLP
from fastmlp.datasets import Split, load_mnist

HIDDEN = 100
ORDERS = 10


def train(data: Split, epochs: int, backend: str = "auto") -> MLP:
    """Train a network with one hidden layer."""
    sizes = (data.X_train.shape[1], HIDDEN, 10)
    net = MLP(sizes, activation="relu", backend=backend, seed=0)
    net.fit(data.X_train, data.y_train, epochs=epochs, batch_size=64)
    return net


def accuracy(net: MLP, data: Split) -> float:
    return float(net.evaluate(data.X_test, data.y_test, metrics=("accuracy",))["accuracy"])


def without_units(net: MLP, data: Split, rng: np.random.Generator) -> np.ndarray:
    """Accuracy with 0, 1, ..., all hidden units cut off, in a random order."""
    whole = net.weights
    first, second = whole[0], whole[1].copy()
    curve = [accuracy(net, data)]
    for unit in rng.permutation(HIDDEN):
        second[unit] = 0
        net.weights = [first, second]
        curve.append(accuracy(net, data))
    net.weights = whole
    return np.array(curve)


def with_noise(net: MLP, data: Split, rng: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    """Accuracy after the first 0, ... of all weights, in a random order, were replaced."""
    whole = net.weights
    flat = np.concatenate([W.ravel() for W in whole])
    spread = np.concatenate([np.full(W.size, W.std()) for W in whole])
    order, noise = rng.permutation(flat.size), rng.normal(0, spread)
    curve = []
    for count in counts:
        changed = flat.copy()
        changed[order[:count]] = noise[order[:count]]
        first, second = np.split(changed, [whole[0].size])
        net.weights = [first.reshape(whole[0].shape), second.reshape(whole[1].shape)]
        curve.append(accuracy(net, data))
    net.weights = whole
    return np.array(curve)


def curves(net: MLP, data: Split, orders: int = ORDERS) -> tuple[np.ndarray, ...]:
    """Replaced weights (counts), curves without units, curves with replaced weights."""
    total = sum(W.size for W in net.weights)
    counts = np.linspace(0, total, 41).astype(int)
    rng = np.random.default_rng(0)
    units = np.array([without_units(net, data, rng) for _ in range(orders)])
    weights = np.array([with_noise(net, data, rng, counts) for _ in range(orders)])
    return counts, units, weights


def draw(plt: Any, counts: np.ndarray, units: np.ndarray, weights: np.ndarray) -> Any:
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    places = (np.arange(units.shape[1]), counts)
    names = (f"hidden units cut off, of {HIDDEN}", f"weights replaced, of {counts[-1]}")
    for axes, along, found, name in zip(panels, places, (units, weights), names, strict=True):
        axes.plot(along, found.T, color="lightsteelblue", linewidth=0.8)
        axes.plot(along, found.mean(axis=0), color="tab:blue", linewidth=2, label="mean")
        axes.axhline(0.1, color="gray", linestyle=":", label="guessing")
        axes.set(xlabel=name, ylim=(0, 1))
        axes.legend()
    panels[0].set_ylabel("test accuracy")
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=30, folder=True).parse_args(arguments)
    data = load_mnist(chosen.folder, "unit") if chosen.folder else digits("unit")
    net = train(data, chosen.epochs, chosen.backend)
    counts, units, weights = curves(net, data, 3 if chosen.quick else ORDERS)
    print("share failed   units: accuracy   weights: accuracy")
    for tenth in range(11):
        by_units = units[:, round(tenth * HIDDEN / 10)].mean()
        print(f"{tenth / 10:>12.0%}   {by_units:>15.1%}   {weights[:, 4 * tenth].mean():>17.1%}")
    show(chosen.save, faults=lambda plt: draw(plt, counts, units, weights))


if __name__ == "__main__":
    main()

"""Memory: with enough hidden units a network learns any set of samples by heart.

The inputs and their classes are drawn at random, so there is nothing to understand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import options, show

from fastmlp import MLP, Adam

ROWS, INPUTS, CLASSES = 100, 8, 4


def random_set(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs with random classes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, INPUTS)), rng.integers(CLASSES, size=ROWS)


def memorized(hidden: int, epochs: int, backend: str = "auto") -> list[float]:
    """Train with so many hidden units; the share that is right, ten times along the way."""
    X, y = random_set()
    net = MLP(
        (INPUTS, hidden, CLASSES), activation="tanh", optimizer=Adam(0.01), backend=backend, seed=0
    )
    shares = []
    for _ in range(10):
        net.fit(X, y, epochs=epochs // 10, batch_size=ROWS)
        shares.append(float(net.evaluate(X, y, metrics=("accuracy",))["accuracy"]))
    return shares


def draw(plt: Any, shares: dict[int, list[float]], epochs: int) -> Any:
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for hidden, line in shares.items():
        along = np.arange(1, 11) * (epochs // 10)
        axes.plot(along, line, marker="o", markersize=3, label=f"{hidden} hidden units")
    axes.axhline(1 / CLASSES, color="lightgray")
    axes.text(epochs, 1 / CLASSES, "guessing", ha="right", va="bottom", color="gray")
    axes.set(xlabel="epoch", ylabel="share learned by heart", ylim=(0, 1.03))
    axes.legend(loc="lower right", ncols=2)
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=3000).parse_args(arguments)
    epochs = max(10, chosen.epochs)
    sizes = (4, 64) if chosen.quick else (1, 2, 4, 8, 16, 32, 64)
    shares = {hidden: memorized(hidden, epochs, chosen.backend) for hidden in sizes}
    print(f"{ROWS} random rows with {CLASSES} random classes")
    for hidden, line in shares.items():
        print(f"{hidden:>3} hidden units: {line[-1]:.0%} right after {epochs // 10 * 10} epochs")
    show(chosen.save, memory=lambda plt: draw(plt, shares, epochs))


if __name__ == "__main__":
    main()

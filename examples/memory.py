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
    """Train with so many hidden units; the share that is right after each epoch."""
    X, y = random_set()
    net = MLP(
        (INPUTS, hidden, CLASSES), activation="tanh", optimizer=Adam(0.01), backend=backend, seed=0
    )
    history = net.fit(X, y, epochs=epochs, batch_size=ROWS, metrics=("accuracy",))
    return history.metrics["accuracy"]


def draw(plt: Any, shares: dict[int, list[float]]) -> Any:
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.9, 0, len(shares)))
    for (hidden, line), colour in zip(shares.items(), colours, strict=True):
        axes.plot(range(1, len(line) + 1), line, color=colour, label=f"{hidden} hidden")
    axes.axhline(1 / CLASSES, color="gray", linestyle=":", label="guessing")
    axes.set(xlabel="epoch", ylabel="share learned by heart", ylim=(0, 1.03), xscale="log")
    axes.legend(loc="upper left")
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=2000).parse_args(arguments)
    sizes = (4, 64) if chosen.quick else (1, 2, 4, 8, 16, 32, 64)
    shares = {hidden: memorized(hidden, chosen.epochs, chosen.backend) for hidden in sizes}
    print(f"{ROWS} random rows with {CLASSES} random classes")
    for hidden, line in shares.items():
        print(f"hidden units {hidden:>2}: {line[-1]:.0%} right after {len(line)} epochs")
    show(chosen.save, memory=lambda plt: draw(plt, shares))


if __name__ == "__main__":
    main()

"""The layered network on MNIST: 784-50-50-10, tanh, tanh, softmax, plain gradient descent.

Cross-entropy, rate 0.001, batches of 64, 50 epochs, float32, inputs centred: minus the mean of each
pixel, divided by one standard deviation. The chapter's random stream can't be repeated, so the
numbers agree within a fraction of a per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import compare, options, show

from fastmlp import MLP, SGD
from fastmlp.datasets import load_mnist


def network(seed: int = 123, backend: str = "auto") -> MLP:
    """The chapter's network."""
    return MLP(
        (784, 50, 50, 10),
        activation="tanh",
        loss="cross_entropy",
        optimizer=SGD(0.001),
        init="glorot_uniform",
        backend=backend,
        seed=seed,
    )


def draw(plt: Any, losses: list[float], X: np.ndarray, P: np.ndarray, y: np.ndarray) -> Any:
    """The loss, and the three least certain test digits with their probabilities."""
    figure = plt.figure(figsize=(11, 4), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=(2.4, 0.3, 1, 1, 1))
    axes = figure.add_subplot(grid[:, 0])
    axes.plot(range(1, len(losses) + 1), losses)
    axes.set(xlabel="epoch", ylabel="mean loss", ylim=0)
    for column, row in enumerate(np.argsort(P.max(axis=1))[:3], start=2):
        image = figure.add_subplot(grid[0, column])
        image.imshow(X[row].reshape(28, 28), cmap="Greys", interpolation="nearest")
        image.set_title(f"true: {y[row]}", fontsize=9)
        image.axis("off")
        bars = figure.add_subplot(grid[1, column])
        bars.bar(range(10), P[row])
        bars.set(xticks=range(10), ylim=(0, 1))
        bars.tick_params(labelsize=7)
        if column == 2:
            bars.set_ylabel("probability")
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=50, folder=True).parse_args(arguments)
    data = load_mnist(chosen.folder, scaling="centred")
    net = network(backend=chosen.backend)
    epochs = min(chosen.epochs, 2) if chosen.quick else chosen.epochs
    history = net.fit(data.X_train, data.y_train, epochs=epochs, batch_size=64)
    for epoch, loss in enumerate(history.loss, start=1):
        print(f"epoch {epoch:>2}  mean loss {loss:.4f}")
    print()
    compare("mean loss of epoch 1", history.loss[0], 1.5573, 4)
    compare("mean loss of the last epoch", history.loss[-1], 0.21, 2)
    scores = net.evaluate(data.X_test, data.y_test, metrics=("accuracy",))
    compare("test accuracy (50 epochs), %", 100 * scores["accuracy"], 93.89, 2)
    found, probabilities = net.predict(data.X_test), net.predict_proba(data.X_test)
    print(f"first test digits {found[:10]}, true {data.y_test[:10]}")
    print(f"the first one's probabilities {probabilities[0].round(3)}")
    show(
        chosen.save,
        layers=lambda plt: draw(plt, history.loss, data.X_test, probabilities, data.y_test),
    )


if __name__ == "__main__":
    main()

"""NeuralNetMLP: 784-100-10, sigmoid everywhere, written by hand in the chapter.

Log loss over the ten outputs, summed over minibatches of 100, l2 0.01, rate 0.0005, 200 epochs; the
first 55,000 rows train, the last 5,000 validate. The random stream is the chapter's, so that in
float64 the costs are the chapter's too. Four figures: sevens, the cost, the accuracies, and 25
digits that it gets wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from common import compare, options, show

from fastmlp import MLP, SGD, Normal
from fastmlp.datasets import load_mnist

L2 = 0.01
TRAINING_ROWS = 55_000
EPOCHS = 200
COSTS = {1: 66739.708810769, 2: 47830.40014376355, 200: 5065.780803021795}


class Run(NamedTuple):
    """The trained network, and one entry an epoch."""

    net: MLP
    cost: list[float]
    training: list[float]
    validation: list[float]


def network(dtype: str = "float64", backend: str = "auto") -> MLP:
    """The chapter's network, drawn from its random stream."""
    return MLP(
        (784, 100, 10),
        activation="sigmoid",
        output_activation="sigmoid",
        loss="binary_cross_entropy",
        optimizer=SGD(0.0005),
        reduction="sum",
        init=Normal(0.1),
        l2=L2,
        penalty_scale="batch",
        dtype=dtype,
        backend=backend,
        seed=np.random.RandomState(1),
    )


def classes(net: MLP, X: np.ndarray) -> np.ndarray:
    """The output with the largest net input."""
    return net.logits(X).argmax(axis=1)


def cost(net: MLP, X: np.ndarray, onehot: np.ndarray) -> float:
    """The chapter reports l2 sum(W^2), without the half that its gradient stands for."""
    penalty = L2 * sum(float(np.square(W).sum(dtype=np.float64)) for W in net.weights)
    return float(net.evaluate(X, onehot)["loss"]) + penalty


def train(net: MLP, X: np.ndarray, y: np.ndarray, epochs: int, report: bool = False) -> Run:
    """Train on the first 55,000 rows and look at cost and accuracies after every epoch."""
    onehot = np.eye(10, dtype=X.dtype)[y[:TRAINING_ROWS]]
    X, held_out = X[:TRAINING_ROWS], X[TRAINING_ROWS:]
    y, held_out_y = y[:TRAINING_ROWS], y[TRAINING_ROWS:]
    run = Run(net, [], [], [])
    for epoch in range(1, epochs + 1):
        net.fit(X, onehot, epochs=1, batch_size=100, shuffle="permutation", drop_last=True)
        run.cost.append(cost(net, X, onehot))
        run.training.append(float((classes(net, X) == y).mean()))
        run.validation.append(float((classes(net, held_out) == held_out_y).mean()))
        if report and (epoch in COSTS or epoch % 10 == 0):
            print(
                f"epoch {epoch:>3}  cost {run.cost[-1]:>18.9f}  "
                f"training {run.training[-1]:.2%}  validation {run.validation[-1]:.2%}"
            )
    return run


def pictures(plt: Any, images: np.ndarray, titles: list[str]) -> Any:
    """A 5x5 grid of digits."""
    figure, grid = plt.subplots(5, 5, figsize=(6.4, 6.8 if titles else 6.4), layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for axes, image in zip(grid.flat, images, strict=False):
        axes.imshow(image.reshape(28, 28), cmap="Greys", interpolation="nearest")
    for axes, title in zip(grid.flat, titles, strict=False):
        axes.set_title(title, fontsize=9)
    return figure


def draw_cost(plt: Any, run: Run) -> Any:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(range(1, len(run.cost) + 1), run.cost)
    axes.set(xlabel="epoch", ylabel="cost", ylim=0)
    return figure


def draw_accuracy(plt: Any, run: Run) -> Any:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    epochs = range(1, len(run.cost) + 1)
    axes.plot(epochs, run.training, label="training")
    axes.plot(epochs, run.validation, "--", label="validation")
    axes.set(xlabel="epoch", ylabel="accuracy")
    axes.legend(loc="lower right")
    return figure


def draw_mistakes(plt: Any, X: np.ndarray, true: np.ndarray, found: np.ndarray) -> Any:
    wrong = np.flatnonzero(true != found)[:25]
    titles = [
        f"{n}) t: {true[row]} p: {found[row]}" for n, row in enumerate(wrong.tolist(), start=1)
    ]
    return pictures(plt, X[wrong], titles)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, epochs=EPOCHS, folder=True)
    parser.add_argument("--dtype", default="float64", help="float64 (default) or float32: faster")
    chosen = parser.parse_args(arguments)
    data = load_mnist(chosen.folder, scaling="signed", dtype=chosen.dtype)
    print(f"rows {data.X_train.shape[0]}, columns {data.X_train.shape[1]} to train and validate")
    print(f"rows {data.X_test.shape[0]}, columns {data.X_test.shape[1]} to test")
    epochs = min(chosen.epochs, 2) if chosen.quick else chosen.epochs
    net = network(chosen.dtype, chosen.backend)
    run = train(net, data.X_train, data.y_train, epochs, report=True)

    print()
    for epoch, wanted in COSTS.items():
        if epoch <= epochs:
            compare(f"cost after epoch {epoch}", run.cost[epoch - 1], wanted)
    found = classes(net, data.X_test)
    compare("training accuracy (200 epochs), %", 100 * run.training[-1], 99.28, 2)
    compare("validation accuracy (200 epochs), %", 100 * run.validation[-1], 97.98, 2)
    compare("test accuracy (200 epochs), %", 100 * float((found == data.y_test).mean()), 97.54, 2)
    sevens = data.X_train[data.y_train == 7][:25]
    show(
        chosen.save,
        sevens=lambda plt: pictures(plt, sevens, []),
        cost=lambda plt: draw_cost(plt, run),
        accuracy=lambda plt: draw_accuracy(plt, run),
        mistakes=lambda plt: draw_mistakes(plt, data.X_test, data.y_test, found),
    )


if __name__ == "__main__":
    main()

"""The 4-3-2 network: four inputs, three hidden units, two outputs; classes, then values.

A network with random weights makes the data, and a network of the same shape learns it back: first
which of two classes a row belongs to, then the two values themselves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from common import options, show

from fastmlp import MLP, Adam, Normal

SIZES = (4, 3, 2)
ROWS = 1000


class Data(NamedTuple):
    """Inputs (rows, 4), a class for each row, and two values for each row."""

    X: np.ndarray
    classes: np.ndarray
    values: np.ndarray


def data(seed: int = 1) -> Data:
    """What a 4-3-2 network with random weights says about random inputs."""
    rng = np.random.default_rng(seed)
    teacher = MLP(SIZES, "tanh", loss="squared_error", init=Normal(1.5), dtype="float64", seed=seed)
    X = rng.uniform(-1, 1, (ROWS, SIZES[0]))
    values = teacher.predict(X)
    margin = values[:, 0] - values[:, 1]
    return Data(X, (margin > np.median(margin)).astype(int), values)


def classifier(epochs: int, backend: str = "auto", sizes: tuple[int, ...] = SIZES) -> MLP:
    """Learn the classes of all but the last 200 rows."""
    net = MLP(sizes, "tanh", optimizer=Adam(0.02), backend=backend, seed=0)
    X, classes, _ = data()
    net.fit(X[:-200], classes[:-200], epochs=epochs, batch_size=50)
    return net


def regressor(epochs: int, backend: str = "auto", sizes: tuple[int, ...] = SIZES) -> MLP:
    """Learn both values of all but the last 200 rows."""
    net = MLP(sizes, "tanh", loss="squared_error", optimizer=Adam(0.02), backend=backend, seed=0)
    X, _, values = data()
    net.fit(X[:-200], values[:-200], epochs=epochs, batch_size=50)
    return net


def scores(chosen: MLP, values: MLP) -> tuple[float, np.ndarray]:
    """Accuracy, and the explained share of each value's variance, on the last 200 rows."""
    X, classes, wanted = (part[-200:] for part in data())
    accuracy = chosen.evaluate(X, classes, metrics=("accuracy",))["accuracy"]
    left = np.square(values.predict(X) - wanted).mean(axis=0)
    return float(accuracy), 1 - left / wanted.var(axis=0)


def draw_network(axes: Any, net: MLP) -> None:
    """Draw the units, and the connections as thick as their weights."""
    places = [[(layer, (n - 1) / 2 - unit) for unit in range(n)] for layer, n in enumerate(SIZES)]
    for layer, weights in enumerate(net.weights):
        for (source, unit), weight in np.ndenumerate(weights):
            ends = zip(places[layer][source], places[layer + 1][unit], strict=True)
            colour = "tab:blue" if weight > 0 else "tab:orange"
            axes.plot(*ends, color=colour, linewidth=min(4, abs(weight)), zorder=1)
    for layer, units in enumerate(places):
        for unit, place in enumerate(units):
            axes.text(
                *place,
                f"{'xho'[layer]}{unit + 1}",
                ha="center",
                va="center",
                bbox={"boxstyle": "circle,pad=0.4", "facecolor": "white"},
            )
    axes.set(xlim=(-0.3, 2.3), ylim=(-1.9, 1.9), title="weights (blue: positive)")
    axes.axis("off")


def draw(plt: Any, chosen: MLP, values: MLP) -> Any:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    X, classes, wanted = (part[-200:] for part in data())
    draw_network(left, values)
    probability = chosen.predict_proba(X)[:, 1]
    for one, colour in ((0, "tab:gray"), (1, "tab:green")):
        middle.hist(
            probability[classes == one],
            np.linspace(0, 1, 21),
            color=colour,
            label=f"class {one}",
            alpha=0.7,
        )
    middle.set(xlabel="predicted probability of class 1", ylabel="test rows")
    middle.legend(loc="upper center")
    right.plot(wanted, values.predict(X), ".", label=["value 1", "value 2"])
    right.axline((0, 0), slope=1, color="lightgray", zorder=0)
    right.set(xlabel="true", ylabel="predicted", aspect="equal")
    right.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=300).parse_args(arguments)
    epochs = min(chosen.epochs, 60) if chosen.quick else chosen.epochs
    nets = classifier(epochs, chosen.backend), regressor(epochs, chosen.backend)
    accuracy, explained = scores(*nets)
    print(f"classes: {accuracy:.1%} of 200 new rows right")
    print(f"values: {explained[0]:.1%} and {explained[1]:.1%} of the variance explained")
    print(nets[1].summary())
    show(chosen.save, network=lambda plt: draw(plt, *nets))


if __name__ == "__main__":
    main()

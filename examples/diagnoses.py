"""Two ill units and a cure: dead ReLU, saturated tanh and sigmoid, batch normalization.

A ReLU unit is dead if it answers 0 to every row: no gradient will ever reach it again. A large step
can do that. A tanh or sigmoid unit is saturated where its answer is almost one of its bounds:
hardly a gradient comes through. Large starting weights do that. Batch normalization, as a part of
the layer, keeps what goes into the activation around 0 with a spread of 1, and so prevents both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import digits, options, show

from fastmlp import MLP, SGD, Normal, properties
from fastmlp.datasets import Split

HIDDEN = 100
RATES = (0.1, 0.5, 1.0, 2.0, 4.0)
SPREADS = (0.05, 0.2, 0.5, 1.0, 2.0)
ACTIVATIONS = ("tanh", "sigmoid")
CURES = (None, "batch")


def network(
    activation: str,
    normalization: str | None,
    rate: float = 0.1,
    init: Any = "auto",
    backend: str = "auto",
) -> MLP:
    """64-100-10 for the 8x8 digits."""
    return MLP(
        (64, HIDDEN, 10),
        activation=activation,
        normalization=normalization,
        optimizer=SGD(rate),
        init=init,
        backend=backend,
        seed=0,
    )


def hidden_outputs(
    net: MLP, activation: str, normalization: str | None, X: np.ndarray
) -> np.ndarray:
    """What the hidden units answer (rows, units): a network that passes them on shows it."""
    probe = MLP(
        (64, HIDDEN, HIDDEN), activation, "identity", "squared_error", normalization=normalization
    )
    own = {name: values for name, values in net.parameters.items() if name.endswith(".0")}
    probe.parameters = own | {"weights.1": np.eye(HIDDEN), "biases.1": np.zeros(HIDDEN)}
    probe.restore(probe.snapshot()._replace(running=net.snapshot().running))
    return probe.forward(X)


def dead(answers: np.ndarray) -> float:
    """Share of the units that answer 0 to every row."""
    return float((answers == 0).all(axis=0).mean())


def saturated(answers: np.ndarray, activation: str) -> float:
    """Share of the answers within 1 % of a bound."""
    low, high = properties(activation).low, properties(activation).high
    margin = 0.01 * (high - low)
    return float(((answers < low + margin) | (answers > high - margin)).mean())


def dead_units(
    rate: float,
    normalization: str | None,
    epochs: int,
    data: Split,
    backend: str = "auto",
    activation: str = "relu",
) -> tuple[float, float]:
    """Train with a rate; return the share of dead units and the test accuracy."""
    net = network(activation, normalization, rate=rate, backend=backend)
    net.fit(data.X_train, data.y_train, epochs=epochs, batch_size=32)
    answers = hidden_outputs(net, activation, normalization, data.X_train)
    return dead(answers), accuracy(net, data)


def saturation(
    activation: str,
    spread: float,
    normalization: str | None,
    epochs: int,
    data: Split,
    backend: str = "auto",
) -> tuple[float, float]:
    """Train from weights with a spread; return the share of saturated answers, the accuracy."""
    net = network(activation, normalization, init=Normal(spread), backend=backend)
    net.fit(data.X_train, data.y_train, epochs=epochs, batch_size=32)
    answers = hidden_outputs(net, activation, normalization, data.X_train)
    return saturated(answers, activation), accuracy(net, data)


def accuracy(net: MLP, data: Split) -> float:
    return float(net.evaluate(data.X_test, data.y_test, metrics=("accuracy",))["accuracy"])


Found = dict[tuple[str, str | None], np.ndarray]


def survey(epochs: int, backend: str = "auto") -> Found:
    """(activation, normalization) -> rows of rate or spread, share of ill units, accuracy."""
    data = digits("signed")
    found: Found = {}
    for cure in CURES:
        found["relu", cure] = np.array(
            [(rate, *dead_units(rate, cure, epochs, data, backend)) for rate in RATES]
        )
        for name in ACTIVATIONS:
            found[name, cure] = np.array(
                [(s, *saturation(name, s, cure, epochs, data, backend)) for s in SPREADS]
            )
    return found


def draw(plt: Any, found: Found) -> Any:
    figure, grid = plt.subplots(
        2, 3, figsize=(11, 6), sharex="col", sharey=True, layout="constrained"
    )
    names = {"relu": "dead relu units", "tanh": "saturated tanh", "sigmoid": "saturated sigmoid"}
    for column, (name, title) in enumerate(names.items()):
        for cure in CURES:
            along, ill, right = found[name, cure].T
            label = "batch normalization" if cure else "without"
            grid[0, column].plot(along, ill, "o-", label=label)
            grid[1, column].plot(along, right, "o-", label=label)
        grid[0, column].set(title=title, ylim=(-0.03, 1.03), xscale="log")
        grid[1, column].set(xlabel="learning rate" if name == "relu" else "spread of the weights")
    grid[0, 0].set_ylabel("share")
    grid[1, 0].set_ylabel("test accuracy")
    grid[0, 0].legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=20).parse_args(arguments)
    epochs = min(chosen.epochs, 5) if chosen.quick else chosen.epochs
    found = survey(epochs, chosen.backend)
    for (name, cure), rows in found.items():
        what = "rate" if name == "relu" else "spread of the starting weights"
        ill = "dead units" if name == "relu" else "saturated answers"
        print(f"\n{name}, {'batch normalization' if cure else 'without normalization'}")
        for along, share, right in rows:
            print(f"  {what} {along:<4g}  {ill} {share:>6.1%}  test accuracy {right:.1%}")
    show(chosen.save, diagnoses=lambda plt: draw(plt, found))


if __name__ == "__main__":
    main()

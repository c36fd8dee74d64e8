"""The perceptron: weighted evidence, three ways to learn, and the gate that it can't learn.

A perceptron weighs its inputs, adds a bias and answers 1 where the sum is above 0 (Rosenblatt
1957). It learns AND and OR by the perceptron rule, by least squares and by gradient descent. XOR
stays out of reach of all three: no straight line has its ones on one side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from common import options, show

from fastmlp import MLP, SGD, Normal


def buy_the_phone(evidence: list[float], weights: list[float], bias: float) -> bool:
    """Weigh the evidence: a perceptron whose weights are a person's taste."""
    buyer = MLP((len(weights), 1), output_activation="step", loss="perceptron", init="zeros")
    buyer.weights, buyer.biases = [np.reshape(weights, (-1, 1))], [np.array([bias])]
    return bool(buyer.forward([evidence])[0, 0])


INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}


class Rule(NamedTuple):
    """A way to learn: a loss, the two target values, a rate and rows per step."""

    loss: str
    low: float
    rate: float
    rows: int


RULES = {
    # The gradient is -t a for a row on the wrong side and 0 for the others: Rosenblatt's rule.
    "perceptron rule": Rule("perceptron", low=-1, rate=1.0, rows=1),
    "least squares": Rule("squared_error", low=-1, rate=0.4, rows=4),
    "gradient descent": Rule("binary_cross_entropy", low=0, rate=4.0, rows=4),
}


class Learned(NamedTuple):
    """A trained perceptron, and how many of the four rows were wrong after each epoch."""

    weights: np.ndarray
    bias: float
    errors: list[int]

    @property
    def epochs(self) -> int | None:
        """Epochs until no row was wrong; None: never."""
        return self.errors.index(0) + 1 if 0 in self.errors else None

    def hyperplane(self) -> str:
        """w a + b = 0 in writing."""
        first, second = self.weights
        return f"{first:+.2f} a1 {second:+.2f} a2 {self.bias:+.2f} = 0"


def learn(rule: str, gate: str, epochs: int = 100, backend: str = "auto", seed: int = 7) -> Learned:
    """Train a perceptron on a gate."""
    loss, low, rate, rows = RULES[rule]
    truth = np.array(GATES[gate])
    targets = np.where(truth == 1, 1, low)
    net = MLP(
        (2, 1),
        loss=loss,
        optimizer=SGD(rate),
        init=Normal(0.5),
        dtype="float64",
        backend=backend,
        seed=seed,
    )
    errors = []
    for _ in range(epochs):
        net.fit(INPUTS, targets, epochs=1, batch_size=rows, shuffle=False)
        errors.append(int(((net.logits(INPUTS)[:, 0] > 0) != truth).sum()))
    return Learned(net.weights[0][:, 0], float(net.biases[0][0]), errors)


def draw(plt: Any, found: dict[tuple[str, str], Learned]) -> Any:
    figure, grid = plt.subplots(
        3, 3, figsize=(8, 8), sharex=True, sharey=True, layout="constrained"
    )
    across = np.linspace(-0.5, 1.5, 201)
    for axes, ((rule, gate), one) in zip(grid.flat, found.items(), strict=True):
        plane = one.weights[0] * across[None, :] + one.weights[1] * across[:, None] + one.bias
        axes.contourf(across, across, plane > 0, levels=[0.5, 1.5], colors=["#dbe9f6"])
        if one.weights.any():
            axes.contour(across, across, plane, levels=[0], colors="tab:blue")
        ones = np.array(GATES[gate]) == 1
        axes.plot(*INPUTS[ones].T, "o", color="tab:orange", markersize=10)
        axes.plot(*INPUTS[~ones].T, "o", color="black", markersize=10, fillstyle="none")
        right = 4 - one.errors[-1]
        axes.set_title(f"{gate}, {rule}: {right} of 4", fontsize=9)
        axes.set(xlim=(-0.5, 1.5), ylim=(-0.5, 1.5), xticks=[0, 1], yticks=[0, 1], aspect="equal")
    figure.supxlabel("$a_1$")
    figure.supylabel("$a_2$")
    figure.suptitle("filled: 1, hollow: 0; blue: where the perceptron answers 1")
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=100).parse_args(arguments)
    # How good the other brands are, how much its own features please, how new it is; from 0 to 1.
    evidence = [0.8, 0.9, 0.6]
    for who, weights in (("a fan", [-0.1, 1.0, 0.3]), ("any buyer", [-1.0, 1.0, 0.3])):
        decision = "buys" if buy_the_phone(evidence, weights, bias=-0.5) else "does not buy"
        print(f"{who:<9} weighs {evidence} by {weights}, bias -0.5: {decision}")

    epochs = min(chosen.epochs, 20) if chosen.quick else chosen.epochs
    found = {
        (rule, gate): learn(rule, gate, epochs, chosen.backend) for rule in RULES for gate in GATES
    }
    print(f"\n{'rule':<17}{'gate':<5}{'right':>6}{'best':>6}  no error after  hyperplane")
    for (rule, gate), one in found.items():
        after = f"epoch {one.epochs}" if one.epochs else "-"
        right, best = 4 - one.errors[-1], 4 - min(one.errors)
        print(f"{rule:<17}{gate:<5}{right:>6}{best:>6}  {after:<14}  {one.hyperplane()}")
    show(chosen.save, perceptron=lambda plt: draw(plt, found))


if __name__ == "__main__":
    main()

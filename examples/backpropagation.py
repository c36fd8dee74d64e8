"""Backpropagation by numbers: one step of a 2-2-2 network, then 10,000.

Two inputs, two hidden units, two outputs, sigmoid everywhere, the loss (t - o)^2/2 summed over the
outputs, rate 0.5. Only the weights are updated; the biases stay.

The chapter prints 0.291027924 as the error after one step. That is a slip: backpropagation as it is
derived there gives 0.291027773694, 2e-7 away. The printed value comes out only where the gradient
of w1..w4 uses the already updated w5..w8, which does not fit the chapter's own w1 = 0.149780716.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from common import compare, options, show

from fastmlp import MLP

INPUTS, TARGETS = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
# Column j belongs to unit j: w1 and w2 feed h1, w3 and w4 feed h2; w5..w8 likewise.
WEIGHTS = [np.array([[0.15, 0.25], [0.20, 0.30]]), np.array([[0.40, 0.50], [0.45, 0.55]])]
BIASES = [np.array([0.35, 0.35]), np.array([0.60, 0.60])]
RATE = 0.5


class State(NamedTuple):
    """Everything that one pass forward and backward computes."""

    weights: list[np.ndarray]
    hidden: np.ndarray
    outputs: np.ndarray
    error: float
    gradients: list[np.ndarray]


def network(backend: str = "auto") -> MLP:
    """The example's network with its starting weights."""
    net = MLP(
        (2, 2, 2),
        activation="sigmoid",
        output_activation="sigmoid",
        loss="half_squared_error",
        dtype="float64",
        backend=backend,
    )
    net.weights, net.biases = WEIGHTS, BIASES
    return net


def look(net: MLP) -> State:
    """Go forward and backward once; nothing is changed."""
    found = net.gradients(INPUTS, TARGETS)
    first = MLP((2, 2), output_activation="sigmoid", loss="half_squared_error", dtype="float64")
    first.weights, first.biases = net.weights[:1], net.biases[:1]
    hidden, outputs = first.forward(INPUTS)[0], net.forward(INPUTS)[0]
    return State(list(net.weights), hidden, outputs, found.loss, list(found.weights))


def step(net: MLP) -> None:
    """Move the weights against their gradients."""
    gradients = net.gradients(INPUTS, TARGETS).weights
    net.weights = [W - RATE * dW for W, dW in zip(net.weights, gradients, strict=True)]


def slip(net: MLP) -> float:
    """Repeat the chapter's slip: w5..w8 first, then w1..w4 with the new w5..w8; the error then."""
    state = look(net)
    new = state.weights[1] - RATE * state.gradients[1]
    delta = (state.outputs - TARGETS[0]) * state.outputs * (1 - state.outputs)
    back = (new @ delta) * state.hidden * (1 - state.hidden)
    wrong = network(net.backend)
    wrong.weights = [state.weights[0] - RATE * np.outer(INPUTS[0], back), new]
    return float(wrong.evaluate(INPUTS, TARGETS)["loss"])


# Places of the drawing: x, y of the inputs, the hidden units and the outputs, and of the biases.
PLACES = [[(0, 2), (0, 0)], [(5, 2), (5, 0)], [(10, 2), (10, 0)]]
BIAS_PLACES = [(3, -1.4), (8, -1.4)]
NAMES = [["i1", "i2"], ["h1", "h2"], ["o1", "o2"]]


def circle(axes: Any, place: tuple[float, float], text: str, colour: str) -> None:
    style = {"boxstyle": "circle,pad=0.5", "facecolor": colour, "edgecolor": "black"}
    axes.text(*place, text, ha="center", va="center", fontsize=9, bbox=style, zorder=3)


def edges(axes: Any, layer: int, state: State) -> None:
    """Draw one layer's connections, each with its weight and its gradient."""
    for unit, end in enumerate(PLACES[layer + 1]):
        axes.plot(*zip(BIAS_PLACES[layer], end, strict=True), color="lightgray", zorder=1)
        for source, start in enumerate(PLACES[layer]):
            axes.plot(*zip(start, end, strict=True), color="gray", zorder=1)
            # Near the start, where the lines do not cross yet.
            where = 0.45 if source == unit else 0.27
            x, y = (a + where * (b - a) for a, b in zip(start, end, strict=True))
            weight, slope = state.weights[layer][source, unit], state.gradients[layer][source, unit]
            name = f"w{4 * layer + 2 * unit + source + 1}"
            text = f"{name} = {weight:.4f}\n$\\partial E$ = {slope:+.6f}"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box, zorder=2)


def draw(plt: Any, state: State, after: float) -> Any:
    figure, axes = plt.subplots(figsize=(11, 5.2), layout="constrained")
    for layer in (0, 1):
        edges(axes, layer, state)
        circle(axes, BIAS_PLACES[layer], f"1\nb = {BIASES[layer][0]:.2f}", "whitesmoke")
    values = [INPUTS[0], state.hidden, state.outputs]
    for places, names, numbers, colour in zip(
        PLACES, NAMES, values, ("#dbe9f6", "#fde5c8", "#d9f0d3"), strict=True
    ):
        for place, name, number in zip(places, names, numbers, strict=True):
            circle(axes, place, f"{name}\n{number:.6f}", colour)
    for place, output, target in zip(PLACES[2], state.outputs, TARGETS[0], strict=True):
        text = f"target {target:.2f}\nerror {(target - output) ** 2 / 2:.9f}"
        axes.text(place[0] + 0.7, place[1], text, va="center", fontsize=9)
    axes.set(xlim=(-0.6, 12.7), ylim=(-2.0, 2.6), aspect="equal")
    title = f"error {state.error:.9f}; after one step with rate {RATE}: {after:.9f}"
    axes.set_title(title, fontsize=11)
    axes.axis("off")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="%(default)s by default")
    chosen = parser.parse_args(arguments)
    net = network(chosen.backend)
    start = look(net)
    for name, found, wanted in zip(
        ("h1", "h2", "o1", "o2"),
        (*start.hidden, *start.outputs),
        (0.593269992107, 0.596884378260, 0.751365069552, 0.772928465321),
        strict=True,
    ):
        compare(name, found, wanted, 12)
    compare("error", start.error, 0.298371109)
    compare("dE/dw5", start.gradients[1][0, 0], 0.082167041)
    compare("dE/dw1", start.gradients[0][0, 0], 0.000438568)
    step(net)
    names = [f"w{number}" for number in range(1, 9)]
    weights = np.concatenate([W.T.ravel() for W in net.weights])
    print("after one step:", ", ".join(f"{n} {w:.9f}" for n, w in zip(names, weights, strict=True)))
    after = float(net.evaluate(INPUTS, TARGETS)["loss"])
    compare("error after one step", after, 0.291027924, 12)
    print(f"{'':<35}(a slip, see above: it needs {slip(network(chosen.backend)):.9f})")

    steps = min(chosen.steps, 100) if chosen.quick else chosen.steps
    for _ in range(steps - 1):
        step(net)
    end = look(net)
    print(f"after {steps:,} steps: error {end.error:.7e}, outputs {end.outputs.round(9)}")
    show(chosen.save, network=lambda plt: draw(plt, start, after))


if __name__ == "__main__":
    main()

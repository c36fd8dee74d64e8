"""The losses: values that can be checked by hand, and a plot of each with its slope.

For a target of +1 and the output 0.3; the 0-1 loss is a metric only, since it has no slope to learn
from.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import compare, options, show

from fastmlp import MLP, kernels
from fastmlp.losses import resolve

OUTPUT = 0.3
WANTED = {
    "hinge": 0.7,
    "exponential": 0.740818220682,
    "squared_error": 0.49,
    "absolute_error": 0.7,
}
LOG_LOSS = 0.127833371510
"""-log(0.88)"""
MARGINS = np.linspace(-2.5, 2.5, 501)
MARGIN_LOSSES = ("hinge", "squared_hinge", "exponential", "perceptron")
ERROR_LOSSES = ("squared_error", "half_squared_error", "absolute_error", "huber", "quantile")


def single(loss: str, reduction: str = "mean", backend: str = "auto") -> MLP:
    """One input, one output that repeats it."""
    net = MLP(
        (1, 1), loss=loss, reduction=reduction, dtype="float64", init="zeros", backend=backend
    )
    net.weights = [np.ones((1, 1))]
    return net


def value(loss: str, backend: str = "auto") -> float:
    """The loss of the output 0.3 where the target is +1."""
    return float(single(loss, backend=backend).evaluate([[OUTPUT]], [1.0])["loss"])


def log_loss(probability: float, backend: str = "auto") -> float:
    """-log(p), from the net input whose sigmoid is p."""
    logit = math.log(probability / (1 - probability))
    net = single("binary_cross_entropy", backend=backend)
    return float(net.evaluate([[logit]], [1])["loss"])


def squared_errors(outputs: list[float], targets: list[float]) -> tuple[list[float], float, float]:
    """Squared error per sample, summed and averaged over the samples."""
    rows, wanted = np.reshape(outputs, (-1, 1)), np.array(targets)
    each = [
        float(single("squared_error").evaluate(rows[n : n + 1], wanted[n : n + 1])["loss"])
        for n in range(len(rows))
    ]
    total, mean = (
        float(single("squared_error", how).evaluate(rows, wanted)["loss"])
        for how in ("sum", "mean")
    )
    return each, total, mean


def curves(loss: str, target: float, backend: str = "numpy") -> tuple[np.ndarray, np.ndarray]:
    """Loss and slope over the outputs `MARGINS`."""
    choice = resolve(loss)
    kernel = kernels.load(backend).LOSSES[choice.name]
    outputs, targets = MARGINS[:, None], np.full((MARGINS.size, 1), target)
    losses, slopes = np.empty(MARGINS.size), np.empty((MARGINS.size, 1))
    kernel.value(losses, outputs, targets, choice.constant)
    kernel.gradient(slopes, outputs, targets, choice.constant)
    return losses, slopes[:, 0]


def draw(plt: Any, backend: str) -> Any:
    figure, (above, below) = plt.subplots(2, 2, figsize=(11, 8), sharex="col", layout="constrained")
    for column, names, target in ((0, MARGIN_LOSSES, 1.0), (1, ERROR_LOSSES, 0.0)):
        for name in names:
            losses, slopes = curves(name, target, backend)
            above[column].plot(MARGINS, losses, label=name)
            below[column].plot(MARGINS, slopes, label=name)
    above[0].step([-2.5, 0, 2.5], [1, 1, 0], ":", color="black", label="0-1 (metric only)")
    above[0].set(title="classes: target +1", ylabel="loss", ylim=(-0.2, 5))
    above[1].set(title="values: target 0", ylim=(-0.2, 5))
    below[0].set(xlabel="output times target", ylabel="slope by the output", ylim=(-5, 1))
    below[1].set(xlabel="output - target", ylim=(-3, 3))
    for axes in (*above, *below):
        axes.axvline(0, color="lightgray", linewidth=0.8)
        axes.grid(alpha=0.2)
    above[0].legend()
    above[1].legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__).parse_args(arguments)
    print("target +1, output 0.3")
    for name, wanted in WANTED.items():
        compare(name, value(name, chosen.backend), wanted, 12)
    compare("log loss of p = 0.88", log_loss(0.88, chosen.backend), LOG_LOSS, 12)
    scores = single("hinge", backend=chosen.backend).evaluate(
        [[0.3], [-0.3]], [1, 1], metrics=("zero_one",)
    )
    print(
        f"0-1 loss of the outputs 0.3 and -0.3 for the target +1: {scores['zero_one']} on average"
    )
    each, total, mean = squared_errors([0.3, -1.0, 2.0], [1.0, -1.0, 1.0])
    print(f"squared error per sample {each}, sum {total}, mean {mean:.6f}")
    backend = "numpy" if chosen.backend == "auto" else chosen.backend
    show(chosen.save, losses=lambda plt: draw(plt, backend))


if __name__ == "__main__":
    main()

"""The activations: formula, derivative, properties, and a plot of each.

A name leads to a pair of kernels, one for the values and one for the derivative, and to a record of
properties: whether it is differentiable, monotone, bounded, zero-centred.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import compare, options, show

from fastmlp import MPELU, kernels, properties
from fastmlp.activations import resolve

CHAPTER = ("sigmoid", "softmax", "tanh", "relu")
NAMED_ONLY = ("leaky_relu", "prelu", "maxout", "elu", "mpelu")
FURTHER = ("selu", "gelu", "silu", "mish", "softplus", "step")
Z = np.linspace(-4, 4, 401)
LINES = {"softmax": ((1, 0, 0), (0, 1, -3)), "maxout": ((1, -0.5), (0, 0))}
"""The activations of several inputs are shown along a line: direction and offset of each input."""


def curves(activation: Any, backend: str = "numpy") -> tuple[np.ndarray, np.ndarray]:
    """Values over Z, and derivatives by z (of the first output, where there are several)."""
    choice = resolve(activation, "activation")
    kernel = kernels.load(backend).ACTIVATIONS[choice.name]
    direction, offset = LINES.get(choice.name, ((1,), (0,)))
    inputs = np.outer(Z, direction) + offset
    values = np.empty((Z.size, len(direction) // choice.pieces))
    learned = tuple(np.array([start]) for start in choice.start.values())
    kernel.forward(values, inputs, learned, choice.constant)
    if kernel.backward is None:
        return values[:, 0], np.zeros(Z.size)
    slopes, spare = np.empty_like(inputs), tuple(map(np.empty_like, learned))
    towards = np.zeros_like(values)
    towards[:, 0] = 1
    kernel.backward(slopes, spare, towards, inputs, values, learned, choice.constant)
    return values[:, 0], slopes @ np.array(direction, float)


def softmax(logits: list[float], backend: str = "numpy") -> np.ndarray:
    """Softmax of one row."""
    out = np.empty((1, len(logits)))
    kernels.load(backend).ACTIVATIONS["softmax"].forward(out, np.array([logits]), (), 0.0)
    return out[0]


def table(names: tuple[str, ...]) -> None:
    """Print formula, derivative and properties."""
    slope = "f'(z), a = f(z)"
    print(f"{'':<11}{'f(z)':<42}{slope:<46}{'range':<14}kinks  monotone  centred")
    for name in names:
        known = properties(name)
        ends = f"{bound(known.low)}..{bound(known.high)}"
        print(
            f"{name:<11}{known.formula:<42}{known.derivative:<46}{ends:<14}"
            f"{'no' if known.differentiable else 'yes':<7}"
            f"{'yes' if known.monotone else 'no':<10}{'yes' if known.zero_centred else 'no'}"
        )


def bound(value: float) -> str:
    return f"{'-' if value < 0 else ''}inf" if math.isinf(value) else f"{value:.3g}"


def draw(plt: Any, backend: str) -> Any:
    figure, grid = plt.subplots(4, 4, figsize=(12, 11), sharex=True, layout="constrained")
    names = {name: name for name in (*CHAPTER, *NAMED_ONLY, *FURTHER)}
    titles = names | {"softmax": "softmax: first of (z, 1, -3)", "maxout": "maxout of (z, -z/2)"}
    shown = [(titles[name], name) for name in names]
    shown.append(("mpelu, alpha 0.25, beta 2", MPELU(0.25, 2.0)))
    for axes, (title, activation) in zip(grid.flat, shown, strict=True):
        values, slopes = curves(activation, backend)
        axes.axhline(0, color="lightgray", linewidth=0.8)
        axes.axvline(0, color="lightgray", linewidth=0.8)
        axes.plot(Z, values, label="f(z)")
        axes.plot(Z, slopes, "--", label="f'(z)")
        formula = properties(activation).formula
        axes.set_title(f"{title}\n{formula}", fontsize=9)
    grid[0, 0].legend(loc="upper left")
    figure.supxlabel("z")
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__).parse_args(arguments)
    backend = "numpy" if chosen.backend == "auto" else chosen.backend
    table((*CHAPTER, *NAMED_ONLY, *FURTHER))
    print()
    wanted = (0.878878242732, 0.118943235911, 0.002178521357)
    for z, value, known in zip((3, 1, -3), softmax([3.0, 1.0, -3.0], backend), wanted, strict=True):
        compare(f"softmax([3, 1, -3]) for {z}", value, known, 12)
    show(chosen.save, activations=lambda plt: draw(plt, backend))


if __name__ == "__main__":
    main()

"""The hinge loss with a linear network and an l2 penalty is a linear support vector machine.

sum max(0, 1 - y f)/N + l2/2 |w|^2 is scikit-learn's objective, divided by C N, where C = 1/(l2 N).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import options, show

from fastmlp import MLP, SGD, InverseScaling

L2 = 0.05


def blobs(seed: int = 0, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping clouds, labelled -1 and +1."""
    rng = np.random.default_rng(seed)
    y = np.repeat([-1.0, 1.0], rows // 2)
    return rng.normal(size=(rows, 2)) + y[:, None] * [1.2, 0.7], y


def train(X: np.ndarray, y: np.ndarray, epochs: int, backend: str = "auto") -> MLP:
    """Subgradient descent on the whole set, with a falling rate."""
    net = MLP(
        (X.shape[1], 1),
        loss="hinge",
        l2=L2,
        optimizer=SGD(InverseScaling(1.0, 0.75)),
        init="zeros",
        dtype="float64",
        backend=backend,
    )
    net.fit(X, y, epochs=epochs, batch_size=len(X))
    return net


def objective(weights: np.ndarray, bias: float, X: np.ndarray, y: np.ndarray) -> float:
    """What both minimise."""
    hinge = np.maximum(0, 1 - y * (X @ weights + bias)).mean()
    return float(hinge + L2 / 2 * (weights @ weights))


def machine(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The same by scikit-learn: weights and bias."""
    from sklearn.svm import SVC

    found = SVC(kernel="linear", C=1 / (L2 * len(X)), tol=1e-8).fit(X, y)
    return found.coef_[0], float(found.intercept_[0])


def draw(plt: Any, net: MLP, X: np.ndarray, y: np.ndarray) -> Any:
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    for label, colour in ((-1, "tab:blue"), (1, "tab:orange")):
        axes.plot(*X[y == label].T, "o", color=colour, markersize=4, label=f"{label:+d}")
    across = np.linspace(-4, 4, 101)
    points = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
    plane = net.logits(points).reshape(101, 101)
    lines = axes.contour(
        across, across, plane, levels=[-1, 0, 1], colors="black", linestyles=["--", "-", "--"]
    )
    axes.clabel(lines)
    inside = np.abs(net.logits(X)[:, 0]) < 1
    axes.plot(*X[inside].T, "o", color="black", markersize=8, fillstyle="none")
    axes.set(xlabel="$x_1$", ylabel="$x_2$", title="the plane, its margin, and who is inside")
    axes.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    chosen = options(__doc__, epochs=20_000).parse_args(arguments)
    X, y = blobs()
    net = train(X, y, min(chosen.epochs, 2000) if chosen.quick else chosen.epochs, chosen.backend)
    weights, bias = net.weights[0][:, 0], float(net.biases[0][0])
    print(
        f"fastmlp       w {weights}, b {bias:.6f}, objective {objective(weights, bias, X, y):.8f}"
    )
    try:
        weights, bias = machine(X, y)
        found = objective(weights, bias, X, y)
        print(f"scikit-learn  w {weights}, b {bias:.6f}, objective {found:.8f}")
    except ImportError:
        print("pip install scikit-learn to compare with its SVC")
    show(chosen.save, machine=lambda plt: draw(plt, net, X, y))


if __name__ == "__main__":
    main()

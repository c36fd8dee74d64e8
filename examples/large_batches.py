"""Large batches on MNIST or Fashion-MNIST: SGD on 128 rows, then LARS and LAMB on thousands.

The same number of epochs for all, 784-100-10. Each rate goes down to 0 in a straight line; those of
LARS and LAMB first go up over a tenth of the updates. ``--quick`` takes the small digits that
ship with the library instead. The rates are those that a search on held-out MNIST rows found.
"""

from __future__ import annotations

import math
from typing import Any

from common import digits, options, show

from fastmlp import LAMB, LARS, MLP, SGD, PolynomialDecay, WarmUp, scaled_rate
from fastmlp.datasets import Split, load_fashion_mnist, load_mnist


def optimizer(name: str, batch: int, updates: int, base: int) -> Any:
    """The optimizer with its schedule; `base` rows are those that the rates were found for."""
    if name == "SGD":
        return SGD(PolynomialDecay(0.05, updates), momentum=0.9)
    rate = scaled_rate({"LARS": 1.0, "LAMB": 0.04}[name], batch, base, power=0.5)
    schedule = WarmUp(PolynomialDecay(rate, updates), max(2, updates // 10))
    return LARS(schedule, trust_coefficient=0.02) if name == "LARS" else LAMB(schedule)


def trained(
    data: Split, name: str, batch: int, epochs: int, base: int, backend: str
) -> list[float]:
    """Test accuracy after each epoch, in per cent."""
    updates = epochs * math.ceil(len(data.X_train) / batch)
    sizes = (data.X_train.shape[1], 100, 10)
    net = MLP(sizes, optimizer=optimizer(name, batch, updates, base), backend=backend, seed=1)
    history = net.fit(
        *(data.X_train, data.y_train),
        epochs=epochs,
        batch_size=batch,
        validation_data=(data.X_test, data.y_test),
        metrics=("accuracy",),
    )
    curve = [100 * score for score in history.metrics["validation_accuracy"]]
    print(f"{name}, {batch:>6,} rows, {updates:>5,} updates: test accuracy {curve[-1]:.2f} %")
    return curve


def draw(plt: Any, curves: dict[str, list[float]]) -> Any:
    """Accuracy over epochs."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, label=label)
    axes.set(xlabel="epoch", ylabel="test accuracy, %")
    axes.legend()
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, epochs=20, folder=True)
    parser.add_argument("--batch", type=int, default=8192, help="%(default)s by default")
    parser.add_argument("--fashion", action="store_true", help="Fashion-MNIST instead of MNIST")
    chosen = parser.parse_args(arguments)
    small, large, base = 128, chosen.batch, 8192
    if chosen.quick:
        data, small, large, base = digits("unit"), 32, 512, 512
    else:
        load = load_fashion_mnist if chosen.fashion else load_mnist
        data = load(chosen.folder, scaling="centred")
    runs = (("SGD", small), ("LARS", large), ("LAMB", large))
    curves = {
        f"{name}, {batch:,} rows": trained(data, name, batch, chosen.epochs, base, chosen.backend)
        for name, batch in runs
    }
    show(chosen.save, accuracy=lambda plt: draw(plt, curves))


if __name__ == "__main__":
    main()

"""How much accuracy large batches cost: SGD, LARS and LAMB on MNIST and Fashion-MNIST.

A 784-100-10 network, the same number of epochs for every batch size, and for the whole set as one
batch more epochs too. Every run takes its rate down to 0 in a straight line. Rates are searched on
10,000 rows held out of the training set; then each chosen setting trains on all of it, from three
other seeds, and meets the test set once. FASTMLP_MNIST and FASTMLP_FASHION_MNIST name the folders.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from common import write

from fastmlp import (
    LAMB,
    LARS,
    MLP,
    SGD,
    DivergenceError,
    PolynomialDecay,
    WarmUp,
    scaled_rate,
    set_num_threads,
)
from fastmlp.datasets import Split, load_fashion_mnist, load_mnist

HELD_OUT, SEARCH_SEED, SEEDS = 10_000, 0, (1, 2, 3)
BASE, EPOCHS = 128, 20
LARGE = ((8_192, EPOCHS), (16_384, EPOCHS), (60_000, EPOCHS), (60_000, 5 * EPOCHS))
WARM_UP = 0.1
"""Part of the updates."""
TRIALS = 7
"""Most runs of a search."""
LOADERS = {"MNIST": load_mnist, "Fashion-MNIST": load_fashion_mnist}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda rate: SGD(rate, momentum=0.9),
    "LARS": lambda rate: LARS(rate, trust_coefficient=0.02),
    "LAMB": LAMB,
}
FIRST_RATES = {"SGD": 0.4, "LARS": 1.0, "LAMB": 0.04}
"""Where a search begins for 8,192 rows; for others by the square-root rule."""


class Setting(NamedTuple):
    """One cell of the table."""

    optimizer: str
    rate: float
    warm: bool
    batch: int
    epochs: int


def network(setting: Setting, rows: int, seed: int) -> MLP:
    """The network with the setting's optimizer and schedule."""
    updates = setting.epochs * math.ceil(rows / setting.batch)
    schedule: Any = PolynomialDecay(setting.rate, updates)
    if setting.warm:
        schedule = WarmUp(schedule, max(2, round(WARM_UP * updates)))
    return MLP((784, 100, 10), optimizer=OPTIMIZERS[setting.optimizer](schedule), seed=seed)


class Trainer:
    """Trains on one data set."""

    def __init__(self, data: Split):
        self.data = data
        self.search = functools.cache(self._searched)

    def _searched(self, setting: Setting) -> list[float]:
        """Accuracy on the rows held out after each epoch; none where the run diverged."""
        X, y = self.data.X_train, self.data.y_train
        net = network(setting, len(X) - HELD_OUT, SEARCH_SEED)
        try:
            history = net.fit(
                *(X[:-HELD_OUT], y[:-HELD_OUT]),
                epochs=setting.epochs,
                batch_size=setting.batch,
                validation_data=(X[-HELD_OUT:], y[-HELD_OUT:]),
                metrics=("accuracy",),
            )
        except DivergenceError:
            return []
        return history.metrics["validation_accuracy"]

    def best(self, first: Setting) -> Setting:
        """Double the rate, else halve it, as long as that is better."""
        best, trials = first, 1
        for factor in (2.0, 0.5):
            while trials < TRIALS:
                other = best._replace(rate=factor * best.rate)
                trials += 1
                if self._score(other) <= self._score(best):
                    break
                best = other
            if best != first:
                break
        return best

    def _score(self, setting: Setting) -> float:
        return self.search(setting)[-1] if self.search(setting) else 0.0

    def tested(self, setting: Setting) -> dict[str, Any]:
        """Train on the whole training set from each seed; the test accuracy, in per cent."""
        accuracies = [self._tested(setting, seed) for seed in SEEDS]
        reached = [accuracy for accuracy in accuracies if accuracy is not None]
        return {
            "rate": setting.rate,
            "updates": setting.epochs * math.ceil(len(self.data.X_train) / setting.batch),
            "test accuracy": float(np.mean(reached)) if reached == accuracies else None,
            "test accuracy by seed": accuracies,
            "held-out accuracy by epoch": [100 * score for score in self.search(setting)],
        }

    def _tested(self, setting: Setting, seed: int) -> float | None:
        X, y = self.data.X_train, self.data.y_train
        net = network(setting, len(X), seed)
        try:
            net.fit(X, y, epochs=setting.epochs, batch_size=setting.batch)
        except DivergenceError:
            return None
        scores = net.evaluate(self.data.X_test, self.data.y_test, metrics=("accuracy",))
        return 100 * scores["accuracy"]


def measure(name: str) -> list[dict[str, Any]]:
    """One record for each batch size and number of epochs."""
    set_num_threads(1)
    trainer = Trainer(LOADERS[name](scaling="centred"))
    small = trainer.best(Setting("SGD", 0.05, False, BASE, EPOCHS))
    found = [{"batch": BASE, "epochs": EPOCHS, "cells": {"SGD": trainer.tested(small)}}]
    for batch, epochs in LARGE:
        linear = Setting("SGD", scaled_rate(small.rate, batch, BASE), False, batch, epochs)
        chosen = {
            "SGD, linear rule": linear,
            "SGD, linear rule, warm-up": linear._replace(warm=True),
        }
        for optimizer, rate in FIRST_RATES.items():
            first = scaled_rate(rate, batch, base=8_192, power=0.5)
            title = f"{optimizer}, warm-up, searched rate"
            chosen[title] = trainer.best(Setting(optimizer, first, True, batch, epochs))
        cells = {title: trainer.tested(setting) for title, setting in chosen.items()}
        found.append({"batch": batch, "epochs": epochs, "cells": cells})
        print(name, batch, epochs, {t: cell["test accuracy"] for t, cell in cells.items()})
    return found


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    # The numbers do not depend on threads, and two data sets at once keep two cores busy.
    with ProcessPoolExecutor(2) as pool:
        found = dict(zip(LOADERS, pool.map(measure, LOADERS), strict=True))
    write(
        "large_batches",
        {"network": [784, 100, 10], "held out": HELD_OUT, "seeds": SEEDS, "data": found},
    )


if __name__ == "__main__":
    main()

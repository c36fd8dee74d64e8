"""AdaBoost: the exponential loss, made smaller by one weak network after another.

Every round trains a network G of two hidden units on weighted rows. Its say is alpha =
log((1 - e)/e)/2, where e is the weight of the rows that it gets wrong; then the weights are
multiplied by exp(-alpha y G). The exponential loss of the vote comes out as the product of
2 sqrt(e (1 - e)) over the rounds (Freund & Schapire 1997; Friedman, Hastie & Tibshirani 2000).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from common import options, show

from fastmlp import MLP, Adam


def ring(seed: int = 0, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A disk (+1) inside a ring (-1): no line parts them."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(rows) % 2 == 0, 1.0, -1.0)
    radius = np.where(y > 0, 1.0, 2.2) + rng.normal(0, 0.3, rows)
    angle = rng.uniform(0, 2 * np.pi, rows)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), y


class WeakNetwork:
    """A 2-2-1 network as a base learner: `fit` with sample weights, and `predict`.

    `get_params` and `set_params` are what scikit-learn's AdaBoostClassifier asks for besides.
    """

    def __init__(self, backend: str = "auto", random_state: int | None = None) -> None:
        self.backend, self.random_state = backend, random_state

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> WeakNetwork:
        """Train on weighted rows of two classes."""
        self.classes_ = np.unique(y)
        self.net_ = MLP(
            (X.shape[1], 2, 1),
            activation="tanh",
            loss="binary_cross_entropy",
            optimizer=Adam(0.1),
            backend=self.backend,
            seed=self.random_state,
        )
        targets = (y == self.classes_[1]).astype(float)
        self.net_.fit(X, targets, epochs=30, batch_size=len(X), sample_weight=sample_weight)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Name the class of each row."""
        return self.classes_[self.net_.predict(X).astype(int)]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Name the constructor's arguments."""
        return {"backend": self.backend, "random_state": self.random_state}

    def set_params(self, **params: Any) -> WeakNetwork:
        """Change the constructor's arguments."""
        self.__dict__.update(params)
        return self


class Boosted(NamedTuple):
    """The learners, their say, and their weighted errors."""

    learners: list[WeakNetwork]
    alphas: list[float]
    errors: list[float]

    def votes(self, X: np.ndarray) -> np.ndarray:
        """The vote after each round: (rounds, rows)."""
        each = [a * one.predict(X) for a, one in zip(self.alphas, self.learners, strict=True)]
        return np.cumsum(each, axis=0)


def boost(X: np.ndarray, y: np.ndarray, rounds: int, backend: str = "auto") -> Boosted:
    """Discrete AdaBoost; labels -1 and +1."""
    found, weights = Boosted([], [], []), np.full(len(X), 1 / len(X))
    for number in range(rounds):
        learner = WeakNetwork(backend, number).fit(X, y, weights)
        guess = learner.predict(X)
        error = float(weights[guess != y].sum())
        alpha = 0.5 * float(np.log((1 - error) / error))
        weights = weights * np.exp(-alpha * y * guess)
        weights /= weights.sum()
        found.learners.append(learner)
        found.alphas.append(alpha)
        found.errors.append(error)
    return found


def exponential_losses(votes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The exponential loss of the vote after each round, by a network that repeats its input."""
    repeat = MLP((1, 1), loss="exponential", init="zeros", dtype="float64")
    repeat.weights = [np.ones((1, 1))]
    return np.array([repeat.evaluate(vote[:, None], y)["loss"] for vote in votes])


def draw(plt: Any, found: Boosted, X: np.ndarray, y: np.ndarray) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    votes = found.votes(X)
    rounds = np.arange(1, len(votes) + 1)
    left.plot(rounds, exponential_losses(votes, y), label="exponential loss")
    left.plot(rounds, (np.sign(votes) != y).mean(axis=1), label="training error")
    left.set(xlabel="round", ylim=0)
    left.legend()
    across = np.linspace(-3.2, 3.2, 161)
    points = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
    surface = found.votes(points)[-1].reshape(161, 161)
    right.contourf(across, across, surface > 0, levels=[0.5, 1.5], colors=["#fde5c8"])
    for label, colour in ((-1, "tab:blue"), (1, "tab:orange")):
        right.plot(*X[y == label].T, "o", color=colour, markersize=3)
    right.set(title=f"the vote of {len(votes)} networks", aspect="equal")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="%(default)s by default")
    chosen = parser.parse_args(arguments)
    X, y = ring()
    found = boost(X, y, min(chosen.rounds, 15) if chosen.quick else chosen.rounds, chosen.backend)
    votes = found.votes(X)
    losses = exponential_losses(votes, y)
    products = np.cumprod([2 * np.sqrt(e * (1 - e)) for e in found.errors])
    print("round   error of the learner   exponential loss   product    training error")
    for n in sorted({0, 1, 2, 4, 9, 19, len(votes) - 1} & set(range(len(votes)))):
        wrong = float((np.sign(votes[n]) != y).mean())
        print(
            f"{n + 1:>5}   {found.errors[n]:>20.4f}   {losses[n]:>16.6f}   {products[n]:.6f}   "
            f"{wrong:.4f}"
        )
    show(chosen.save, adaboost=lambda plt: draw(plt, found, X, y))


if __name__ == "__main__":
    main()

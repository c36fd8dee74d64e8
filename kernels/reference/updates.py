"""Optimizers as arithmetic on flat vectors.

Each rule changes the parameters p (n,) and its slots (S, n) in place by the gradient g (n,) of
update number `step`, counted from 1. Slots start at zero. `constants` are listed per rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np

from ..contract import SMALLEST_SQUARE, Array, UpdateRule

Constants = tuple[float, ...]


def _sgd(p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants) -> None:
    """Gradient descent, p -= rate g; no constants (Robbins & Monro 1951)."""
    p -= rate * g


def _momentum(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = mu v + g, p -= rate v; constants (mu,) (Polyak 1964, as in PyTorch)."""
    (mu,) = constants
    v = slots[0]
    v *= mu
    v += g
    p -= rate * v


def _momentum_with_rate(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = mu v - rate g, p += v; constants (mu,) (Polyak 1964, as in scikit-learn)."""
    (mu,) = constants
    v = slots[0]
    v *= mu
    v -= rate * g
    p += v


def _nesterov(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = mu v + g, p -= rate (g + mu v); constants (mu,) (Sutskever et al. 2013, PyTorch)."""
    (mu,) = constants
    v = slots[0]
    v *= mu
    v += g
    p -= rate * (g + mu * v)


def _nesterov_with_rate(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = mu v - rate g, p += mu v - rate g; constants (mu,) (scikit-learn)."""
    (mu,) = constants
    v = slots[0]
    v *= mu
    v -= rate * g
    p += mu * v - rate * g


def _adam(p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants) -> None:
    """p -= rate m^ / (sqrt(v^) + eps); constants (b1, b2, eps) (Kingma & Ba 2015, algorithm 1).

    m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, m^ = m/(1 - b1^step), v^ = v/(1 - b2^step).
    """
    b1, b2, epsilon = constants
    m, v = _moments(slots, g, b1, b2)
    p -= rate * (m / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + epsilon)


def _adam_epsilon_hat(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """p -= rate sqrt(1 - b2^step)/(1 - b1^step) m / (sqrt(v) + eps); constants (b1, b2, eps).

    The form at the end of section 2 of Kingma & Ba 2015, and scikit-learn's; m and v as in `adam`.
    """
    b1, b2, epsilon = constants
    m, v = _moments(slots, g, b1, b2)
    p -= rate * sqrt(1 - b2**step) / (1 - b1**step) * m / (np.sqrt(v) + epsilon)


def _adamw(p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants) -> None:
    """p -= rate decay p, then `adam`; constants (b1, b2, eps, decay) (Loshchilov & Hutter 2019).

    Decay is meant for weights alone; see `Update.for_vectors`.
    """
    *moments, decay = constants
    p -= rate * decay * p
    _adam(p, slots, g, rate, step, tuple(moments))


def _rmsprop(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = rho v + (1 - rho) g^2, p -= rate g / (sqrt(v) + eps); constants (rho, eps).

    Source: Tieleman & Hinton 2012, lecture 6.5; eps outside the root as in PyTorch.
    """
    rho, epsilon = constants
    v = slots[0]
    v *= rho
    v += (1 - rho) * g * g
    p -= rate * g / (np.sqrt(v) + epsilon)


def _adagrad(
    p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
) -> None:
    """v = v + g^2, p -= rate g / (sqrt(v) + eps); constants (eps,) (Duchi et al. 2011)."""
    (epsilon,) = constants
    v = slots[0]
    v += g * g
    p -= rate * g / (np.sqrt(v) + epsilon)


def _lars(p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants) -> None:
    """v = mu v - rate ratio (g + decay p), p += v; constants (mu, trust, decay).

    ratio = trust |p| / (|g| + decay |p|) with Euclidean norms; 1 where |p| or |g| is 0. For the
    weights of one layer alone; see `Update.for_vectors`.

    Source: You, Gitman & Ginsburg 2017, algorithm 1.
    """
    mu, trust, decay = constants
    squared_p, squared_g = _squared_norm(p), _squared_norm(g)
    ratio = 1.0
    if squared_p > SMALLEST_SQUARE and squared_g > SMALLEST_SQUARE:
        ratio = trust * sqrt(squared_p) / (sqrt(squared_g) + decay * sqrt(squared_p))
    _momentum_with_rate(p, slots, g + decay * p, rate * ratio, step, (mu,))


def _lamb(p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants) -> None:
    """p -= rate ratio r with r = m^ / (sqrt(v^) + eps) + decay p; constants (b1, b2, eps, decay).

    m^ and v^ as in `adam`; ratio = |p| / |r| with Euclidean norms; 1 where one of them is 0. For
    the weights of one layer alone; see `Update.for_vectors`.

    Source: You et al. 2020, algorithm 2.
    """
    b1, b2, epsilon, decay = constants
    m, v = _moments(slots, g, b1, b2)
    r = (m / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + epsilon) + decay * p
    squared_p, squared_r = _squared_norm(p), _squared_norm(r)
    ratio = 1.0
    if squared_p > SMALLEST_SQUARE and squared_r > SMALLEST_SQUARE:
        ratio = sqrt(squared_p) / sqrt(squared_r)
    p -= rate * ratio * r


def _squared_norm(x: Array) -> float:
    wide = x.astype(np.float64)
    return float(wide @ wide)


def _moments(slots: Array, g: Array, b1: float, b2: float) -> tuple[Array, Array]:
    """Move both moments of Adam towards this gradient and return them."""
    m, v = slots
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * g * g
    return m, v


UPDATES: Mapping[str, UpdateRule] = {
    "sgd": UpdateRule(_sgd, 0),
    "momentum": UpdateRule(_momentum, 1),
    "momentum_with_rate": UpdateRule(_momentum_with_rate, 1),
    "nesterov": UpdateRule(_nesterov, 1),
    "nesterov_with_rate": UpdateRule(_nesterov_with_rate, 1),
    "adam": UpdateRule(_adam, 2),
    "adam_epsilon_hat": UpdateRule(_adam_epsilon_hat, 2),
    "adamw": UpdateRule(_adamw, 2),
    "rmsprop": UpdateRule(_rmsprop, 1),
    "adagrad": UpdateRule(_adagrad, 1),
    "lars": UpdateRule(_lars, 1),
    "lamb": UpdateRule(_lamb, 2),
}
"""Name -> rule and number of slots."""

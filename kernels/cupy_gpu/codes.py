"""Numbers that host and device both know: codes of the vocabulary, and places in small arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772

ACTIVATIONS = (
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "mpelu",
    "maxout",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "exp",
    "softmax",
    "step",
)

LOSSES = (
    "cross_entropy",
    "binary_cross_entropy",
    "squared_error",
    "half_squared_error",
    "mean_squared_error",
    "absolute_error",
    "mean_absolute_error",
    "huber",
    "hinge",
    "squared_hinge",
    "exponential",
    "perceptron",
    "poisson",
    "quantile",
)

JOINED = (
    ("cross_entropy", "softmax"),
    ("cross_entropy", "sigmoid"),
    ("binary_cross_entropy", "sigmoid"),
    ("poisson", "exp"),
)

UPDATES = (
    "sgd",
    "momentum",
    "momentum_with_rate",
    "nesterov",
    "nesterov_with_rate",
    "adam",
    "adam_epsilon_hat",
    "adamw",
    "rmsprop",
    "adagrad",
    "lars",
    "lamb",
)

NUMBERS = (
    "LIVE",
    "DATA_SHARE",
    "PENALTY_SHARE",
    "RATE",
    "CONSTANT_0",
    "CONSTANT_1",
    "CONSTANT_2",
    "CONSTANT_3",
    "REST_0",
    "REST_1",
    "FIRST",
    "SECOND",
    "CLIPPED",
    "TRUST",
)
"""Places of the float64 numbers of a batch. LIVE is 0 where the batch makes no update, the shares
multiply its sums, the rest is what an optimizer wants to know of its step."""

CLOCK = ("CLOCK_BATCH", "CLOCK_FIRST", "CLOCK_MADE", "CLOCK_STEP", "CLOCK_KEY", "CLOCK_ORDER")
"""Places of the 64-bit numbers that a call sets and the device moves on: number of the batch in the
epoch, the call's first, updates made in this call, updates made before it, keys of dropout and of
the epoch's order. They are no arguments of kernels: those a graph would keep for ever."""

ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
LOSS_CODES: Mapping[Any, int] = {name: code for code, name in enumerate(LOSSES + JOINED)}
UPDATE_CODES = {name: code for code, name in enumerate(UPDATES)}


def defined() -> dict[str, int]:
    """Each name with its number, as the device code writes it."""
    groups = (ACTIVATIONS, LOSSES + tuple("_".join(pair) for pair in JOINED), UPDATES)
    found = {name.upper(): code for group in groups for code, name in enumerate(group)}
    return found | {name: place for group in (NUMBERS, CLOCK) for place, name in enumerate(group)}

"""Optimizers as arithmetic on flat vectors, by the kernels of ``cuda/updates.cu``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contract import SMALLEST_SQUARE, UpdateRule
from . import sums
from .calls import destination, kernels_for, source
from .codes import NUMBERS, UPDATE_CODES
from .device import DeviceArray, empty
from .launch import Kernels, Launch

Constants = tuple[float, ...]

SLOTS = {
    **dict.fromkeys(("momentum", "momentum_with_rate", "nesterov", "nesterov_with_rate"), 1),
    **dict.fromkeys(("adam", "adam_epsilon_hat", "adamw"), 2),
    **dict.fromkeys(("rmsprop", "adagrad", "lars"), 1),
    "lamb": 2,
    "sgd": 0,
}


def padded(constants: Constants) -> Constants:
    """The constants of a rule, four of them."""
    return (*constants, 0.0, 0.0, 0.0, 0.0)[:4]


def update_launch(
    kernels: Kernels,
    name: str,
    p: DeviceArray,
    slots: DeviceArray,
    g: DeviceArray,
    copy: DeviceArray | None,
    numbers: DeviceArray,
    decays: bool,
    floor: float,
) -> Launch:
    """Move p (n,) and its slots (S, n, or views of it) by the gradient g."""
    first, second = (*slots, None, None)[:2]
    return kernels.launch(
        *("update", p.size, p, first, second, g, copy, numbers),
        *(UPDATE_CODES[name], decays, floor, p.size),
    )


TRUSTING = frozenset({"lars", "lamb"})
"""Rules that ask for the norms of a layer's weights before these move."""


def trust_launches(
    kernels: Kernels,
    name: str,
    p: DeviceArray,
    slots: DeviceArray,
    g: DeviceArray,
    numbers: DeviceArray,
    squares: DeviceArray,
) -> Iterator[Launch]:
    """Write the trust ratio of weights p (n,); squares is room for 2 `sums.PARTS` numbers."""
    parts, (first, second) = sums.parts(p.size), (*slots, None, None)[:2]
    norms = squares[: sums.PARTS], squares[sums.PARTS :]
    code = UPDATE_CODES[name]
    yield kernels.launch(
        *("trust_partials", parts, *norms, p, first, second, g, numbers, code, parts, p.size)
    )
    yield kernels.one_block("trust_ratio", parts, numbers, *norms, code, parts, SMALLEST_SQUARE)


def _rule(name: str) -> UpdateRule:
    def apply(p: Any, slots: Any, g: Any, rate: float, step: int, constants: Constants) -> None:
        kernels = kernels_for(p)
        numbers = empty(len(NUMBERS), "float64")
        kernels.launch(
            "prepare_single", 1, numbers, UPDATE_CODES[name], rate, step, *padded(constants)
        )()
        gradient = source(g, p.dtype)
        with destination(p) as out, destination(slots) as vectors:
            rows = [vectors[i] for i in range(SLOTS[name])]
            if name in TRUSTING:
                squares = empty(2 * sums.PARTS, "float64")
                flat = (out, rows, gradient)
                for launch in trust_launches(kernels, name, *flat, numbers, squares):
                    launch()
            update_launch(kernels, name, out, rows, gradient, None, numbers, True, 0.0)()

    return UpdateRule(apply, SLOTS[name])


UPDATES: Mapping[str, UpdateRule] = {name: _rule(name) for name in UPDATE_CODES}

"""Optimizers as arithmetic on flat vectors, by the kernels of ``cuda/updates.cu``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import UpdateRule
from .calls import destination, kernels_for, source
from .codes import NUMBERS, UPDATE_CODES
from .device import DeviceArray, empty
from .launch import Kernels, Launch

Constants = tuple[float, ...]

SLOTS = {
    **dict.fromkeys(("momentum", "momentum_with_rate", "nesterov", "nesterov_with_rate"), 1),
    **dict.fromkeys(("adam", "adam_epsilon_hat", "adamw"), 2),
    **dict.fromkeys(("rmsprop", "adagrad"), 1),
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
            update_launch(kernels, name, out, rows, gradient, None, numbers, True, 0.0)()

    return UpdateRule(apply, SLOTS[name])


UPDATES: Mapping[str, UpdateRule] = {name: _rule(name) for name in UPDATE_CODES}

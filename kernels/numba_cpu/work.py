"""How long a call may take, by a rule and not by a stopwatch; no bit depends on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Network, Update
from .intrinsics import lane_count
from .updates import CODES, SLOTS

LONG = 5e9
"""Work (rows times `heft`) from which on a call listens for Ctrl-C: 0.5 s at 10 GFLOP/s, which is
slow. On two cores of today it is 30 ms, and listening costs 0.1 ms."""

LONG_ITEMS, MANY_ROWS = 40 * LONG, 256
"""Work of a step, and its rows, from which on the gradient is a pass of its own, before the update:
only then can it be left undone. Up to there updates take 0.7 s at 100 GFLOP/s; the second pass made
784-2048-2048-10 with 4096 rows 3 to 6 % slower."""


def heft(network: Network, dtype: np.dtype[Any]) -> float:
    """A generous count of a row's floating-point operations in a training step.

    A number that a layer is given or makes counts as 100 beside the products.
    """
    lanes = lane_count(dtype.name)
    given = padded(network.layers[0].inputs, lanes)
    made = sum(layer.pieces * padded(layer.units, lanes) for layer in network.layers)
    products = 6 * sum(layer.inputs * layer.columns for layer in network.layers)
    return (products + 100 * (given + made)) * dtype.itemsize / 4


def update_work(rule: Update) -> float:
    """What the update of a parameter counts as beside multiplications and additions of products.

    Square roots and quotients take 3 cycles a number (Zen 3, Adam), in which products do 96 of
    them. With two threads 784-30-10 by single rows takes 13.6 us with Adam instead of 18.0, and
    784-512-512-10 by 8 rows 680 instead of 1040.
    """
    return 64.0 if SLOTS[CODES[rule.name]] else 8.0


def padded(count: int, lanes: int) -> int:
    """Round up to whole panels."""
    return -(-count // lanes) * lanes

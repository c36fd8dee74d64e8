"""How long a call may take, by a rule and not by a stopwatch; no bit depends on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Network
from .intrinsics import lane_count

LONG = 5e9
"""Work (rows times `heft`) from which on a call listens for Ctrl-C: 0.5 s at 10 GFLOP/s, which is
slow. On two cores of today it is 30 ms, and listening costs 0.1 ms."""

LONG_ITEMS, MANY_ROWS = 6 * LONG, 256
"""Work of a step, and its rows, from which on the gradient is a pass of its own, before the update:
only then can it be left undone. The second pass costs what 100 multiply-adds a weight do."""


def heft(network: Network, dtype: np.dtype[Any]) -> float:
    """A generous count of a row's floating-point operations in a training step.

    A number that a layer is given or makes counts as 100 beside the products.
    """
    lanes = lane_count(dtype.name)
    given = padded(network.layers[0].inputs, lanes)
    made = sum(layer.pieces * padded(layer.units, lanes) for layer in network.layers)
    products = 6 * sum(layer.inputs * layer.columns for layer in network.layers)
    return (products + 100 * (given + made)) * dtype.itemsize / 4


def padded(count: int, lanes: int) -> int:
    """Round up to whole panels."""
    return -(-count // lanes) * lanes

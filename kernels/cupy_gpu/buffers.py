"""What a batch needs on the device while it passes through a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import sums
from .device import DeviceArray, empty
from .normalization import Moments

if TYPE_CHECKING:
    from .plan import Plan


class LayerBuffers:
    """One layer's; matrices are flat until `Buffers.matrix` cuts them to a number of rows."""

    def __init__(self, plan: Plan, number: int, rows: int) -> None:
        layer, dtype = plan.network.layers[number], plan.kernels.dtype
        stored = plan.kernels.stored
        last = number == len(plan.network.layers) - 1
        self.Z = empty(rows * layer.columns, stored)
        self.A = empty(rows * layer.units, stored)
        drops = layer.dropout > 0 and not last
        self.dropped = empty(rows * layer.units, stored) if drops else None
        self.hat: DeviceArray = None
        self.spread: DeviceArray = None
        self.moments: Moments | None = None
        if layer.normalization is not None:
            self.hat = empty(rows * layer.columns, stored)
        if layer.normalization == "layer":
            self.spread = empty(rows, dtype)
        if layer.normalization == "batch":
            self.moments = Moments(*(empty(layer.columns, dtype) for _ in range(3)))


class Buffers:
    """All buffers for batches of up to `capacity` rows."""

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.capacity = capacity
        layers, dtype, stored = plan.network.layers, plan.kernels.dtype, plan.kernels.stored
        widest = max(layer.columns for layer in layers)
        self.index = empty(capacity, "int64")
        self.X = empty(capacity * layers[0].inputs, stored)
        self.labels = empty(capacity, "int64")
        self.T = empty(capacity * layers[-1].units, dtype)
        self.w = empty(capacity, dtype)
        self.losses = empty(capacity, dtype)
        self.layers = [LayerBuffers(plan, number, capacity) for number in range(len(layers))]
        self.slopes = [empty(capacity * widest, stored) for _ in range(2)]
        chunks = sums.cut(capacity).chunks
        self.scratch = (empty(chunks * widest, dtype), empty(chunks * widest, dtype))
        self.weight_parts = empty(sums.PARTS, "float64")
        self.loss_parts = empty(sums.PARTS, "float64")
        self.square_parts = empty(2 * sums.PARTS, "float64")
        self.penalty_parts = empty(len(layers) * sums.PARTS, "float64")

    @staticmethod
    def matrix(flat: Any, rows: int, columns: int) -> DeviceArray:
        """The first rows of a flat buffer."""
        return flat[: rows * columns].reshape(rows, columns)

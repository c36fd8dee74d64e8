"""Data sets on the device, and how their rows come into a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..contract import Data, Order
from .device import DeviceArray, is_device, upload
from .plan import Plan, Program
from .random import shuffle_bits

ORDERS = {"sequence": 0, "keyed": 1, "array": 2}


class Resident(NamedTuple):
    """Rows that lie on the device."""

    X: DeviceArray
    T: DeviceArray | None
    w: DeviceArray | None


def resident(plan: Plan, data: Data) -> Resident:
    """Copy to the device what does not lie there."""
    X, T, w = data
    return Resident(
        X if is_device(X) else upload(X, X.dtype),
        _copied(T, "int64" if T is not None and T.ndim == 1 else plan.dtype),
        _copied(w, plan.dtype),
    )


def _copied(array: Any, dtype: Any) -> DeviceArray | None:
    return array if array is None or is_device(array) else upload(array, dtype)


def gather(plan: Plan, data: Resident, order: Order, batch: int, rows: int) -> Program:
    """Bring `rows` rows of the batch that the clock shows into the plan's buffers."""
    buffers, kernels = plan.reserve(rows), plan.kernels
    index = buffers.index[:rows]
    total, inputs = data.X.shape
    listed = None if order.listed is None else upload(order.listed, "int64")
    launches: list[Callable[[], None]] = [
        kernels.launch(
            *("batch_index", rows, index, plan.clock, listed, ORDERS[order.kind]),
            *(total, shuffle_bits(total), order.key, batch, rows),
        ),
        kernels.launch(
            *(f"gather_{data.X.dtype.name}", rows * inputs, buffers.X, data.X),
            *(index, rows, inputs),
        ),
    ]
    if data.T is not None or data.w is not None:
        labels, dense = (data.T, None) if data.T is not None and data.T.ndim == 1 else (None, data.T)
        launches.append(
            kernels.launch(
                *("gather_targets", rows, buffers.labels, buffers.T, buffers.w),
                *(labels, dense, data.w, index, rows, plan.network.layers[-1].units),
            )
        )
    return launches

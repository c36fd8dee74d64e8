"""Data sets on the device, and how their rows come into a batch."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from ..contract import Data, Order
from .device import DeviceArray, is_device, upload
from .plan import Plan, Program
from .random import shuffle_bits
from .streaming import Streamed, too_large

GATHERED = ("uint8", "float16")
"""Names of the dtypes of X that stay as they are: what is wider would take longer to come."""

ORDERS = {"sequence": 0, "keyed": 1, "array": 2}


class Resident(NamedTuple):
    """Rows that lie on the device, but for an X that is streamed there."""

    X: Any
    T: DeviceArray | None
    w: DeviceArray | None


def labelled(T: Any) -> bool:
    """Whether targets are class indices."""
    return T is not None and T.ndim == 1


def resident(plan: Plan, data: Data, streamed: bool = False) -> Resident:
    """Copy to the device what does not lie there; with `streamed`, X only where there is room."""
    X: Any = data.X
    T, w = data.T, data.w
    if streamed and not is_device(X) and too_large(X):
        X = Streamed(X)
    return Resident(
        X if is_device(X) or isinstance(X, Streamed) else upload(X, X.dtype),
        _copied(T, "int64" if labelled(T) else plan.dtype),
        _copied(w, plan.dtype),
    )


def training_rows(plan: Plan, data: Data) -> Resident:
    """As `resident`; the copies stay until other data come, or the caller drops its arrays.

    The slices of an epoch, and the epochs of a fit, come with the same arrays again and again.
    """
    held: Held | None = plan.held
    if held is None or any(
        (kept and kept()) is not array for kept, array in zip(held.given, data, strict=True)
    ):
        plan.release()  # the old rows go first: there may be no room for both
        rows = resident(plan, data, streamed=True)
        held = plan.held = Held(rows, tuple(_reference(plan, array) for array in data))
    return held.rows


class Held(NamedTuple):
    """Rows on the device, and the arrays of which they are copies."""

    rows: Resident
    given: tuple[Any, ...]


def _reference(plan: Plan, array: Any) -> Any:
    """A weak reference: with the caller's array its copy goes."""
    if array is None:
        return None
    owner = weakref.ref(plan)

    def forget(gone: Any) -> None:
        living = owner()
        if living is not None and living.held is not None and gone in living.held.given:
            living.release()

    return weakref.ref(array, forget)


def _copied(array: Any, dtype: Any) -> DeviceArray | None:
    return array if array is None or is_device(array) else upload(array, dtype)


def gather(plan: Plan, data: Resident, order: Order, batch: int, rows: int) -> Program:
    """Bring `rows` rows of the batch that the clock shows into the plan's buffers.

    The clock has the key of a keyed order, `Plan.listing` a listed one. X that is streamed comes by
    `Streamed.batches`.
    """
    buffers, kernels = plan.reserve(rows), plan.kernels
    index = buffers.index[:rows]
    total, inputs = data.X.shape
    listed = None if order.listed is None else plan.listed
    launches: Program = [
        kernels.launch(
            *("batch_index", rows, index, plan.clock, listed, ORDERS[order.kind]),
            *(total, shuffle_bits(total), batch, rows),
        )
    ]
    if not isinstance(data.X, Streamed):
        launches.append(
            kernels.launch(
                *(f"gather_{data.X.dtype.name}", rows * inputs, buffers.X, data.X),
                *(index, rows, inputs),
            )
        )
    if data.T is not None or data.w is not None:
        labels, dense = (data.T, None) if labelled(data.T) else (None, data.T)
        launches.append(
            kernels.launch(
                *("gather_targets", rows, buffers.labels, buffers.T, buffers.w),
                *(labels, dense, data.w, index, rows, plan.network.layers[-1].units),
            )
        )
    return launches

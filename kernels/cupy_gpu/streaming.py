"""Training rows that do not fit the device: slabs of batches, copied while the one before trains.

The host picks a slab's rows in the epoch's order into a page-locked buffer, a stream of its own
copies them, and events keep the two from overtaking one another. Targets and weights stay on the
device. Which rows make a batch is what it is without streaming, to the bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np

from ..contract import Array, Order
from .device import DeviceArray, empty
from .launch import Kernels, Launch
from .random import shuffle_places

SHARE = 0.5
"""Share of the free memory that rows may take; the rest is for what training needs."""

SLAB = 1 << 28
"""Bytes of a slab; there are two."""


def too_large(X: Array) -> bool:
    """Whether rows of the host would take too much of the device's memory."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    # What CuPy's pool keeps is free to us, though not to the driver.
    free += cupy.get_default_memory_pool().free_bytes()
    return bool(X.nbytes > SHARE * free)


class Slab:
    """A buffer on each side, and the events that say when either may be written to again."""

    def __init__(self, rows: int, columns: int, dtype: Any) -> None:
        self.host = cupy.cuda.alloc_pinned_memory(rows * columns * np.dtype(dtype).itemsize)
        flat: Array = np.frombuffer(self.host, dtype, rows * columns)
        self.pinned = flat.reshape(rows, columns)
        self.rows = empty((rows, columns), dtype)
        self.copied, self.trained = cupy.cuda.Event(), cupy.cuda.Event()


class Streamed:
    """The rows of a data set that stays on the host."""

    def __init__(self, X: Array) -> None:
        self.source = weakref.ref(X)
        self.shape, self.dtype = X.shape, X.dtype
        self.copying = cupy.cuda.Stream(non_blocking=True)
        self.slabs: list[Slab] = []
        self.index: DeviceArray = empty(0, "int64")
        self.places: DeviceArray = empty(0, "int64")

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.shape[0])

    def batches(
        self, kernels: Kernels, into: DeviceArray, order: Order, batch: int, first: int, count: int
    ) -> Iterator[Launch]:
        """For each batch, what brings its rows into a plan's buffer; to be run at once."""
        self._prepare(batch)
        per_slab = len(self.slabs[0].rows) // batch
        training = cupy.cuda.get_current_stream()
        for turn, start in enumerate(range(first, first + count, per_slab)):
            slab = self.slabs[turn % 2]
            places = slice(start * batch, min((start + per_slab) * batch, len(self)))
            self._copy(slab, order, places)
            training.wait_event(slab.copied)
            for place in range(min(per_slab, first + count - start)):
                rows = slab.rows[place * batch : (place + 1) * batch]
                rows = rows[: min(batch, len(self) - (start + place) * batch)]
                yield kernels.launch(
                    *(f"gather_{rows.dtype.name}", rows.size, into, rows),
                    *(self.index, len(rows), rows.shape[1]),
                )
            slab.trained.record(training)

    def _prepare(self, batch: int) -> None:
        """Slabs of whole batches, and the numbers 0, 1, ... of the rows in one."""
        if len(self.index) == batch:
            return
        columns = self.shape[1]
        per_slab = max(1, SLAB // (batch * columns * self.dtype.itemsize))
        self.slabs = []
        self.slabs = [Slab(per_slab * batch, columns, self.dtype) for _ in range(2)]
        self.index = empty(batch, "int64")
        self.index.set(np.arange(batch))
        self.places = empty(per_slab * batch, "int64")

    def _copy(self, slab: Slab, order: Order, places: slice) -> None:
        X = self.source()
        assert X is not None  # the caller of the training step holds it
        count = places.stop - places.start
        # The copy out of the page-locked buffer, made two slabs ago, may still be under way.
        slab.copied.synchronize()
        with self.copying:
            if order.kind == "sequence":
                slab.pinned[:count] = X[places]
            else:
                np.take(X, self._rows(order, places), axis=0, out=slab.pinned[:count], mode="clip")
            self.copying.wait_event(slab.trained)
            slab.rows[:count].set(slab.pinned[:count], stream=self.copying)
            slab.copied.record(self.copying)

    def _rows(self, order: Order, places: slice) -> Array:
        if order.listed is not None:
            return order.listed[places]
        # On the copying stream, as the caller has it: reading them does not wait for the training.
        index = self.places[: places.stop - places.start]
        shuffle_places(index, len(self), order.key, places.start)
        host: Array = index.get()
        return host

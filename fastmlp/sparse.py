"""Rows kept sparse: dense only in blocks, where kernels want them.

A `SparseRows` takes the place of X in `Data`. It lives in this package only; whoever makes one has
checked it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .kernels.contract import Array, Data, Order

BLOCK_BYTES = 1 << 22
"""Dense bytes of a block: it should stay in the cache between its making and its use."""


class SparseRows:
    """Rows in CSR form, made dense some at a time."""

    def __init__(self, matrix: Any, dtype: np.dtype[Any]):
        self.matrix = matrix.astype(dtype, copy=False)
        self.shape: tuple[int, int] = matrix.shape
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        """Give the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> SparseRows:
        """Take some rows, still sparse."""
        return SparseRows(self.matrix[rows], self.dtype)

    def dense(self, rows: Any) -> Array:
        """Return some rows, C-contiguous."""
        block: Array = np.ascontiguousarray(self.matrix[rows].toarray())
        return block

    def block_rows(self) -> int:
        """Rows of a block, at least 1."""
        return max(1, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))


def blocks(X: Array | SparseRows) -> Iterator[tuple[slice, Array]]:
    """Give all rows in blocks: one for an array, several for sparse rows."""
    if not isinstance(X, SparseRows):
        yield slice(0, len(X)), X
        return
    size = X.block_rows()
    for start in range(0, len(X), size):
        rows = slice(start, min(start + size, len(X)))
        yield rows, X.dense(rows)


def as_array(X: Any) -> Array:
    """Say that this may stand where the types ask for an array: sparse rows, checked rows."""
    rows: Array = X
    return rows


def dense_batches(data: Data, order: Order, start: int, count: int) -> Data:
    """Make the rows at some places of an order (no keyed one) dense."""
    X: Any = data.X
    listed = np.arange(len(X)) if order.listed is None else order.listed
    rows = listed[start : start + count]
    return Data(X.dense(rows), data.T[rows], None if data.w is None else data.w[rows])

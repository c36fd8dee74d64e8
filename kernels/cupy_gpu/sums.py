"""Launches that sum in a fixed order: partial sums by many threads, then the sum of those.

How many parts there are depends on the number of rows alone, so that bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .device import DeviceArray, empty
from .launch import Kernels, Launch

CHUNK = 32
"""Fewest rows that a thread sums."""

CHUNKS = 256
"""Most partial sums of a column."""

PARTS = 1024
"""Most partial sums of a vector."""


class Cut(NamedTuple):
    """Rows in chunks."""

    chunk: int
    chunks: int


def cut(rows: int) -> Cut:
    """How the rows of a column are divided; no rows are one empty chunk."""
    chunk = max(CHUNK, -(-rows // CHUNKS))
    return Cut(chunk, max(1, -(-rows // chunk)))


def parts(items: int) -> int:
    """How many threads sum a vector."""
    return min(PARTS, max(1, items // CHUNK))


def columns(
    kernels: Kernels, out: DeviceArray, D: DeviceArray, scratch: DeviceArray | None = None
) -> Iterator[Launch]:
    """Sum each column of D (rows, columns) into out (columns,)."""
    (rows, width), (chunk, chunks) = D.shape, cut(D.shape[0])
    partial = _partial(kernels, out, chunks, scratch)
    yield kernels.launch("column_partials", chunks * width, partial, D, rows, width, chunk, chunks)
    yield from finish(kernels, out, partial, chunks)


def column_pair(
    kernels: Kernels,
    products: DeviceArray,
    sums: DeviceArray,
    D: DeviceArray,
    E: DeviceArray,
    scratch: tuple[DeviceArray, DeviceArray] | None = None,
) -> Iterator[Launch]:
    """Sum each column of D E and of D."""
    (rows, width), (chunk, chunks) = D.shape, cut(D.shape[0])
    first, second = scratch or (None, None)
    one = _partial(kernels, products, chunks, first)
    two = _partial(kernels, sums, chunks, second)
    yield kernels.launch(
        "column_pair_partials", chunks * width, one, two, D, E, rows, width, chunk, chunks
    )
    yield from finish(kernels, products, one, chunks)
    yield from finish(kernels, sums, two, chunks)


def finish(
    kernels: Kernels, out: DeviceArray, partial: DeviceArray, chunks: int
) -> Iterator[Launch]:
    """Join the chunks of each column; a single one lies in its place already."""
    if chunks > 1:
        yield kernels.launch("column_finish", out.size, out, partial, chunks, out.size)


def _partial(
    kernels: Kernels, out: DeviceArray, chunks: int, scratch: DeviceArray | None
) -> DeviceArray:
    if chunks == 1:
        return out
    size = chunks * out.size
    return empty(size, kernels.dtype) if scratch is None else scratch[:size]

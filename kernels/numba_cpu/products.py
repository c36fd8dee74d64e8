"""The dense products of a layer, over panels."""

from __future__ import annotations

import numpy as np
from numba.core import types

from ..contract import Array
from .fields import CACHE_LINE
from .gradients import weight_tiles
from .intrinsics import (
    address_of,
    at,
    integers_at,
    lane_count,
    lanes,
    prefetch,
)
from .jit import INTEGER, POINTER, family, inline
from .tiles import (
    HALF_TILES,
    LONE_ROWS,
    ROW_TILES,
    TILE_PANELS,
    TILE_ROWS,
    TILES,
    column_dot,
    column_sum,
    transpose_tile,
)

_tile_1, _tile_2, _tile_3 = TILES[1], TILES[2], TILES[TILE_PANELS]
_half_1, _half_2, _half_3 = HALF_TILES[1], HALF_TILES[2], HALF_TILES[TILE_PANELS]
_row_1, _row_2, _row_4 = ROW_TILES[1], ROW_TILES[2], ROW_TILES[4]

SUMMED = 128
"""Terms that a product adds up at a time: 24 KiB of weights stay in the first-level cache."""

BEYOND_THE_CACHE = 1 << 18
"""Numbers in a layer's weights (1 MiB of float32) from which on they are asked for ahead."""


@inline
def groups_of(panels):
    """How many groups of panels pass through the tiles together."""
    return (panels + TILE_PANELS - 1) // TILE_PANELS


@inline
def next_group(left, groups):
    """How many of `left` panels the next of `groups` groups takes: all as even as they can be.

    Without a division, of which a small network's step made dozens.
    """
    taken = 1
    for more in range(1, TILE_PANELS):
        if left > more * groups:
            taken += 1
    return taken


@inline
def _product_of_a_row(z, z_stride, a, a_stride, w, w_stride, b, k, panels):
    v = lanes(z)
    p = 0
    while p < panels:
        left = panels - p
        out, weights, bias = at(z, p * z_stride), at(w, p * w_stride), at(b, p * v)
        if left >= 4:
            _row_4(out, z_stride, bias, v, 0, a, a_stride, weights, w_stride, k, 0)
        elif left >= 2:
            _row_2(out, z_stride, bias, v, 0, a, a_stride, weights, w_stride, k, 0)
        else:
            _row_1(out, z_stride, bias, v, 0, a, a_stride, weights, w_stride, k, 0)
        p += 4 if left >= 4 else (2 if left >= 2 else 1)


@inline
def _add_products(
    z, z_to, start, start_to, by_row, a, a_to, w, w_to, rows, k, panels, ahead, pace, line
):
    """z = start + A W for a group of panels; ..._to are strides from panel to panel.

    With each tile `pace` rows more of the weights from `ahead` on are asked for, `line` of which
    share a cache line.
    """
    v = lanes(z)
    step = LONE_ROWS if panels == 1 else TILE_ROWS
    for r in range(0, rows, step):
        out, first, x, last = at(z, r * v), at(start, by_row * r * v), at(a, r * v), rows - 1 - r
        for p in range(panels):
            for i in range(0, pace, line):
                prefetch(at(ahead, p * w_to + i * v))
        ahead = at(ahead, pace * v)
        if last < step // 2:
            if panels >= TILE_PANELS:
                _half_3(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)
            elif panels == 2:
                _half_2(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)
            else:
                _half_1(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)
        elif panels >= TILE_PANELS:
            _tile_3(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)
        elif panels == 2:
            _tile_2(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)
        else:
            _tile_1(out, z_to, first, start_to, by_row, x, a_to, w, w_to, k, last)


@family(
    types.void,
    *(POINTER, INTEGER, POINTER, INTEGER, POINTER, INTEGER, POINTER),
    *(INTEGER, INTEGER, INTEGER),
)
def product(z, z_stride, a, a_stride, w, w_stride, b, rows, k, panels):
    """Z = A W + b for a block of rows; strides are from panel to panel, k is the summed length.

    SUMMED rows of weights at a time pass by all rows of A. Where the weights are large, those that
    come next are asked for meanwhile.
    """
    v = lanes(z)
    if rows == 1:
        _product_of_a_row(z, z_stride, a, a_stride, w, w_stride, b, k, panels)
        return
    pace, line = 0, 1
    if k * panels * v >= BEYOND_THE_CACHE:
        tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
        pace = (SUMMED + tiles - 1) // tiles
        line = max(1, CACHE_LINE // (address_of(at(w, v)) - address_of(w)))
    start, start_stride, by_row = b, v, 0
    for first in range(0, max(k, 1), SUMMED):  # a sum of nothing is the bias
        n = min(SUMMED, k - first)
        x, part = at(a, first // v * a_stride), at(w, first * v)
        p = 0
        for groups in range(groups_of(panels), 0, -1):
            stop = p + next_group(panels - p, groups)
            _add_products(
                at(z, p * z_stride),
                z_stride,
                at(start, p * start_stride),
                start_stride,
                by_row,
                x,
                a_stride,
                at(part, p * w_stride),
                w_stride,
                rows,
                n,
                stop - p,
                at(part, stop * w_stride) if stop < panels else at(part, n * v),
                pace,
                line,
            )
            p = stop
        start, start_stride, by_row = z, z_stride, 1


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER)
def transpose_tiles(wt, w, in_panels, out_panels, first, stop):
    """Tiles first ... stop of W, input panels fastest, into its transposed copy."""
    v = lanes(w)
    for tile in range(first, stop):
        out_panel, in_panel = tile // in_panels, tile % in_panels
        transpose_tile(at(wt, (in_panel * out_panels + out_panel) * v * v), at(w, tile * v * v))


@inline
def column_sums(out, x, stride, rows, panels):
    """Sums of each column over the rows; stride is from panel to panel of x."""
    for p in range(0, panels, TILE_PANELS):
        last = min(panels - p, TILE_PANELS) - 1
        run = at(x, p * stride)
        column_sum(at(out, p * lanes(x)), run, run, stride, rows, last)


@inline
def column_products(out, x, y, stride, rows, panels):
    """Sums over the rows of x y in each column; stride is from panel to panel of both."""
    for p in range(0, panels, TILE_PANELS):
        last = min(panels - p, TILE_PANELS) - 1
        column_dot(at(out, p * lanes(x)), at(x, p * stride), at(y, p * stride), stride, rows, last)


@family(types.void, *(POINTER,) * 4, *(INTEGER,) * 4, on_demand=True)
def whole_product(z, a, w, b, rows, k, panels, k_rows):
    """Z = A W + b, for the panels of whole matrices."""
    v = lanes(z)
    product(z, rows * v, a, rows * v, w, k_rows * v, b, rows, k, panels)


@family(types.void, *(POINTER,) * 3, *(INTEGER,) * 3, on_demand=True)
def whole_weight_gradient(g, a, dz, rows, in_panels, out_panels):
    """G = A' dZ, for the panels of whole matrices."""
    v = lanes(g)
    panel = in_panels * v * v
    p, none = 0, integers_at(address_of(g))
    for groups in range(groups_of(out_panels), 0, -1):
        stop = p + next_group(out_panels - p, groups)
        delta = at(dz, p * rows * v)
        tiles = at(g, p * panel)
        weight_tiles(
            tiles,
            panel,
            a,
            rows * v,
            delta,
            rows * v,
            rows,
            in_panels,
            stop - p,
            none,
            0,
            0,
            tiles,
            0,
            0,
            0,
        )
        p = stop


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, on_demand=True)
def whole_column_sums(out, x, rows, panels):
    """The sums of all columns of a whole matrix in panels."""
    column_sums(out, x, rows * lanes(x), rows, panels)


def to_panels(matrix: Array, row_multiple: int = 1) -> Array:
    """A copy of a matrix in panels, padded with zeros to whole panels and a multiple of rows."""
    lane = lane_count(matrix.dtype.name)
    rows, columns = matrix.shape
    padded = np.zeros(
        (-(-rows // row_multiple) * row_multiple, -(-columns // lane) * lane), matrix.dtype
    )
    padded[:rows, :columns] = matrix
    panels = padded.shape[1] // lane
    return np.ascontiguousarray(padded.reshape(len(padded), panels, lane).swapaxes(0, 1))


def from_panels(out: Array, panels: Array) -> None:
    """Fill a matrix from panels, without their padding."""
    rows, columns = out.shape
    wide = panels.swapaxes(0, 1).reshape(panels.shape[1], panels.shape[0] * panels.shape[2])
    out[...] = wide[:rows, :columns]


def affine(Z: Array, X: Array, W: Array, b: Array) -> None:
    """Fill Z (N, columns) with X W + b; X (N, inputs), b (columns,)."""
    x, w, bias = to_panels(X), to_panels(W), to_panels(b[None, :])
    z = np.empty((len(w), len(X), w.shape[2]), Z.dtype)
    whole_product.of(Z.dtype.name)(
        *(m.ctypes.data for m in (z, x, w, bias)),
        len(X),
        len(W),
        len(w),
        len(W),
    )
    from_panels(Z, z)


def weight_gradient(dW: Array, A: Array, dZ: Array) -> None:
    """Fill dW (inputs, columns) with A' dZ; A (N, inputs) is what the layer was given."""
    a, dz = to_panels(A), to_panels(dZ)
    g = np.empty((len(dz), len(a) * a.shape[2], a.shape[2]), dW.dtype)
    addresses = (m.ctypes.data for m in (g, a, dz))
    whole_weight_gradient.of(dW.dtype.name)(*addresses, len(A), len(a), len(dz))
    from_panels(dW, g)


def input_gradient(dA: Array, dZ: Array, W: Array) -> None:
    """Fill dA (N, inputs) with dZ W'."""
    affine(dA, dZ, np.ascontiguousarray(W.T), np.zeros(len(W), W.dtype))


def bias_gradient(db: Array, dZ: Array) -> None:
    """Fill db (columns,) with the sum of dZ (N, columns) over the rows."""
    dz = to_panels(dZ)
    out = np.empty((len(dz), 1, dz.shape[2]), db.dtype)
    whole_column_sums.of(db.dtype.name)(out.ctypes.data, dz.ctypes.data, len(dZ), len(dz))
    from_panels(db[None, :], out)

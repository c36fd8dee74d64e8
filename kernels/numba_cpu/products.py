"""The dense products of a layer, over panels."""

from __future__ import annotations

import numpy as np
from numba.core import types

from ..contract import Array
from .intrinsics import at, lane_count, lanes, pointer_to
from .jit import INTEGER, POINTER, entry, family, inline, prepare
from .tiles import ROW_TILES, TILE_PANELS, TILE_ROWS, TILES, column_sum, transpose_tile, weight_tile

_tile_1, _tile_2 = TILES[1], TILES[2]
_tile_3 = TILES[TILE_PANELS]
_row_1, _row_2, _row_4 = ROW_TILES[1], ROW_TILES[2], ROW_TILES[4]


@inline
def _product_of_a_row(z, z_stride, a, a_stride, w, w_stride, b, k, panels):
    p = 0
    while p < panels:
        left = panels - p
        out, weights, bias = at(z, p * z_stride), at(w, p * w_stride), at(b, p * lanes(z))
        if left >= 4:
            _row_4(out, z_stride, a, a_stride, weights, w_stride, bias, k, 0)
        elif left >= 2:
            _row_2(out, z_stride, a, a_stride, weights, w_stride, bias, k, 0)
        else:
            _row_1(out, z_stride, a, a_stride, weights, w_stride, bias, k, 0)
        p += 4 if left >= 4 else (2 if left >= 2 else 1)


@family(
    types.void,
    *(POINTER, INTEGER, POINTER, INTEGER, POINTER, INTEGER, POINTER, INTEGER, INTEGER, INTEGER),
)
def product(z, z_stride, a, a_stride, w, w_stride, b, rows, k, panels):
    """Z = A W + b for a block of rows; strides are from panel to panel, k is the summed length."""
    v = lanes(z)
    if rows == 1:
        _product_of_a_row(z, z_stride, a, a_stride, w, w_stride, b, k, panels)
        return
    p = 0
    while p < panels:
        out, weights, bias = at(z, p * z_stride), at(w, p * w_stride), at(b, p * v)
        left = panels - p
        for r in range(0, rows, TILE_ROWS):
            at_z, at_a, last = at(out, r * v), at(a, r * v), rows - 1 - r
            if left >= TILE_PANELS:
                _tile_3(at_z, z_stride, at_a, a_stride, weights, w_stride, bias, k, last)
            elif left >= 2:
                _tile_2(at_z, z_stride, at_a, a_stride, weights, w_stride, bias, k, last)
            else:
                _tile_1(at_z, z_stride, at_a, a_stride, weights, w_stride, bias, k, last)
        p += TILE_PANELS if left >= TILE_PANELS else (2 if left >= 2 else 1)


@family(
    types.void,
    *(POINTER, POINTER, INTEGER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER),
)
def weight_tiles(g, a, a_stride, dz, dz_stride, rows, in_panels, first, stop):
    """Tiles first ... stop of A' dZ, input panels fastest; g is the whole layer's gradient."""
    v = lanes(g)
    for tile in range(first, stop):
        out_panel, in_panel = tile // in_panels, tile % in_panels
        weight_tile(
            at(g, tile * v * v),
            at(a, in_panel * a_stride),
            at(dz, out_panel * dz_stride),
            rows,
        )


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER)
def transpose_tiles(wt, w, in_panels, out_panels, first, stop):
    """Tiles first ... stop of W, input panels fastest, into its transposed copy."""
    v = lanes(w)
    for tile in range(first, stop):
        out_panel, in_panel = tile // in_panels, tile % in_panels
        transpose_tile(at(wt, (in_panel * out_panels + out_panel) * v * v), at(w, tile * v * v))


@inline
def column_sums(out, x, stride, rows, panels):
    """Sums of each column over the rows, panel by panel."""
    for p in range(panels):
        run = at(x, p * stride)
        column_sum(at(out, p * lanes(x)), run, run, rows)


@entry
def _product_entry(one, z, a, w, b, rows, k, panels, k_rows):
    Z, A, W, B = (pointer_to(one, z), pointer_to(one, a), pointer_to(one, w), pointer_to(one, b))
    v = lanes(Z)
    product(Z, rows * v, A, rows * v, W, k_rows * v, B, rows, k, panels)


@entry
def _weight_entry(one, g, a, dz, rows, in_panels, out_panels):
    v = lanes(pointer_to(one, g))
    weight_tiles(
        pointer_to(one, g),
        pointer_to(one, a),
        rows * v,
        pointer_to(one, dz),
        rows * v,
        rows,
        in_panels,
        0,
        in_panels * out_panels,
    )


@entry
def _column_entry(one, out, x, rows, panels):
    v = lanes(pointer_to(one, x))
    column_sums(pointer_to(one, out), pointer_to(one, x), rows * v, rows, panels)


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
    prepare(Z.dtype.name)
    x, w, bias = to_panels(X), to_panels(W), to_panels(b[None, :])
    z = np.empty((len(w), len(X), w.shape[2]), Z.dtype)
    _product_entry(
        *(Z.dtype.type(1), *(m.ctypes.data for m in (z, x, w, bias))),
        len(X),
        len(W),
        len(w),
        len(W),
    )
    from_panels(Z, z)


def weight_gradient(dW: Array, A: Array, dZ: Array) -> None:
    """Fill dW (inputs, columns) with A' dZ; A (N, inputs) is what the layer was given."""
    prepare(dW.dtype.name)
    a, dz = to_panels(A), to_panels(dZ)
    g = np.empty((len(dz), len(a) * a.shape[2], a.shape[2]), dW.dtype)
    _weight_entry(dW.dtype.type(1), *(m.ctypes.data for m in (g, a, dz)), len(A), len(a), len(dz))
    from_panels(dW, g)


def input_gradient(dA: Array, dZ: Array, W: Array) -> None:
    """Fill dA (N, inputs) with dZ W'."""
    affine(dA, dZ, np.ascontiguousarray(W.T), np.zeros(len(W), W.dtype))


def bias_gradient(db: Array, dZ: Array) -> None:
    """Fill db (columns,) with the sum of dZ (N, columns) over the rows."""
    prepare(db.dtype.name)
    dz = to_panels(dZ)
    out = np.empty((len(dz), 1, dz.shape[2]), db.dtype)
    _column_entry(db.dtype.type(1), out.ctypes.data, dz.ctypes.data, len(dZ), len(dz))
    from_panels(db[None, :], out)

"""The dense products of a layer, by cuBLAS."""

from __future__ import annotations

from typing import Any

from . import sums
from .calls import destination, kernels_for, source
from .gemm import multiply


def affine(Z: Any, X: Any, W: Any, b: Any) -> None:
    """Fill Z (N, columns) with X W + b."""
    kernels = kernels_for(Z)
    with destination(Z) as out:
        multiply(out, source(X, Z.dtype), source(W, Z.dtype))
        rows, columns = Z.shape
        kernels.launch("add_bias", Z.size, out, source(b, Z.dtype), rows, columns)()


def weight_gradient(dW: Any, A: Any, dZ: Any) -> None:
    """Fill dW (inputs, columns) with A' dZ."""
    with destination(dW) as out:
        multiply(out, source(A, dW.dtype).T, source(dZ, dW.dtype))


def input_gradient(dA: Any, dZ: Any, W: Any) -> None:
    """Fill dA (N, inputs) with dZ W'."""
    with destination(dA) as out:
        multiply(out, source(dZ, dA.dtype), source(W, dA.dtype).T)


def bias_gradient(db: Any, dZ: Any) -> None:
    """Fill db (columns,) with the sum of dZ (N, columns) over the rows."""
    with destination(db) as out:
        for launch in sums.columns(kernels_for(db), out, source(dZ, db.dtype)):
            launch()

"""The dense products of a layer. W is (inputs, columns)."""

from __future__ import annotations

import numpy as np

from ..contract import Array


def affine(Z: Array, X: Array, W: Array, b: Array) -> None:
    """Fill Z (N, columns) with X W + b; X (N, inputs), b (columns,)."""
    np.matmul(X, W, out=Z)
    Z += b


def weight_gradient(dW: Array, A: Array, dZ: Array) -> None:
    """Fill dW (inputs, columns) with A' dZ; A (N, inputs) is what the layer was given."""
    np.matmul(A.T, dZ, out=dW)


def input_gradient(dA: Array, dZ: Array, W: Array) -> None:
    """Fill dA (N, inputs) with dZ W'."""
    np.matmul(dZ, W.T, out=dA)


def bias_gradient(db: Array, dZ: Array) -> None:
    """Fill db (columns,) with the sum of dZ (N, columns) over the rows."""
    np.sum(dZ, axis=0, out=db)

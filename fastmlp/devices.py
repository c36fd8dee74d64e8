"""Arrays that lie on a GPU: where they may be given, and which results stay there."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import kernels
from .kernels.contract import Array
from .sparse import SparseRows, as_array

_CUDA = (2, 13)
"""Device types of DLPack: CUDA's memory, and its managed memory."""
_HERE = (np.ndarray, type(None), list, tuple, SparseRows)


def holds(values: Any) -> bool:
    """Whether an array lies on a GPU; nothing is imported to find out."""
    if isinstance(values, _HERE):
        return False
    ask = getattr(values, "__dlpack_device__", None)
    if ask is not None:
        return int(ask()[0]) in _CUDA
    return hasattr(values, "__cuda_array_interface__")


def single(values: Any) -> bool:
    """Whether an array of any library holds float32."""
    return str(values.dtype).endswith("float32")


def matrix(
    values: Any, name: str, columns: int | None, dtype: np.dtype[Any], backend: str
) -> Array:
    """Return rows of finite numbers on the GPU, not copied where dtype and layout allow it.

    `columns` may be None for any number of them.

    uint8 and float16 stay as they are: kernels convert them where they gather rows.

    Raises
    ------
    TypeError
        The backend computes on the CPU, or the array holds no real numbers.
    ValueError
        No rows, another shape, NaN or infinity.
    """
    if backend != "cupy":
        raise TypeError(
            f"{name} lies on the GPU, this network computes on the CPU (backend {backend!r}): "
            f"net.to('cupy'), or copy {name} to the host first"
        )
    incoming = _incoming()
    if str(getattr(values, "dtype", "")).startswith("complex"):
        raise TypeError(f"{name} must hold real numbers; got dtype {values.dtype}")
    shape = tuple(values.shape)
    if len(shape) != 2 or 0 in shape or shape[1] != (columns or shape[1]):
        wanted = "(rows, columns), both" if columns is None else f"(rows, {columns}), rows"
        raise ValueError(f"{name} must have shape {wanted} >= 1; got shape {shape}")
    array: Array = incoming.adopt(values, dtype)
    if not incoming.all_finite(array):
        raise ValueError(f"{name} must hold finite numbers that fit into {dtype}")
    return array


def on_host(values: Any) -> Any:
    """Copy to the host what lies on a GPU; give everything else back."""
    return _incoming().fetch(values) if holds(values) else values


def room(X: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array for results, where X lies."""
    if isinstance(X, np.ndarray | SparseRows):
        return np.empty(shape, dtype)
    array: Array = _incoming().room(shape, dtype)
    return array


def beside(X: Any, result: Array) -> Array:
    """Bring a result to where X lies."""
    if isinstance(X, np.ndarray | SparseRows):
        return result
    array: Array = _incoming().bring(result)
    return array


def chosen_rows(X: Any, rows: Array) -> Array:
    """The rows of these numbers, where X lies."""
    if isinstance(X, np.ndarray | SparseRows):
        return as_array(X[rows])
    array: Array = _incoming().chosen_rows(X, rows)
    return array


def _incoming() -> Any:
    return kernels.load("cupy").incoming  # type: ignore[attr-defined]

"""Products of matrices by cuBLAS, in the precision of a network and of no other.

float32 and float64 go through ``cupy.matmul``. tf32 and bfloat16 name their arithmetic with each
call (``gemmEx``); CuPy's own switches for them hold for a whole process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import cupy
import numpy as np

from .device import DeviceArray

Product = Callable[[DeviceArray, DeviceArray, DeviceArray], None]

# From library_types.h and cublas_api.h.
R_32F, R_16BF = 0, 14
COMPUTE_32F, COMPUTE_32F_FAST_TF32 = 68, 77
DEFAULT_ALGORITHM = -1
PLAIN, TRANSPOSED = 0, 1

_TYPES: Mapping[str, int] = MappingProxyType({"float32": R_32F, "uint16": R_16BF})
_ONE, _ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


def product(precision: str) -> Product:
    """The function (out, A, B) that fills out with A B; A and B may be transposed views."""
    if precision == "tf32":
        return partial(_named, COMPUTE_32F_FAST_TF32)
    return partial(_named, COMPUTE_32F) if precision == "bfloat16" else multiply


def multiply(out: DeviceArray, A: DeviceArray, B: DeviceArray) -> None:
    """Fill out with A B in the arrays' own precision."""
    if A.shape[1] == 0 or out.size == 0:
        out.fill(0)
    else:
        cupy.matmul(A, B, out=out)


def _named(arithmetic: int, out: DeviceArray, A: DeviceArray, B: DeviceArray) -> None:
    # cuBLAS counts along columns first: to it, each of our matrices is its transpose. So it is
    # asked for out' = B' A', and a view that is transposed here is plain there.
    rows, inner = A.shape
    columns = B.shape[1]
    first, first_step = _operand(B)
    second, second_step = _operand(A)
    cupy.cuda.cublas.gemmEx(
        *(cupy.cuda.get_cublas_handle(), first, second, columns, rows, inner),
        *(_ONE.ctypes.data, B.data.ptr, _TYPES[B.dtype.name], first_step),
        *(A.data.ptr, _TYPES[A.dtype.name], second_step),
        *(_ZERO.ctypes.data, out.data.ptr, _TYPES[out.dtype.name], columns),
        *(arithmetic, DEFAULT_ALGORITHM),
    )


def _operand(matrix: DeviceArray) -> tuple[int, int]:
    """How cuBLAS takes the transpose of a matrix, and how far its columns lie apart."""
    if matrix.flags.c_contiguous:
        return PLAIN, matrix.shape[1]
    return TRANSPOSED, matrix.shape[0]

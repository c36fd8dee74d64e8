"""What cuBLAS does, for the stand-in: products of matrices that lie column after column."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np

from .machine import MACHINE, Host

R_32F, R_64F, R_16BF = 0, 1, 14
COMPUTE_32F, COMPUTE_64F, FAST_TF32 = 68, 70, 77
HANDLE = 4242

_MEMORY = {R_32F: np.dtype(np.float32), R_64F: np.dtype(np.float64), R_16BF: np.dtype(np.uint16)}


class Matrix(NamedTuple):
    """A matrix as cuBLAS is given it."""

    kind: int
    rows: int
    columns: int
    step: int

    @property
    def size(self) -> int:
        """Bytes from its first number to its last."""
        return ((self.columns - 1) * self.step + self.rows) * _MEMORY[self.kind].itemsize

    def at(self, address: int) -> Host:
        """Its numbers where they lie."""
        if self.step < self.rows:
            raise ValueError(f"a leading dimension of {self.step} for {self.rows} rows")
        dtype = _MEMORY[self.kind]
        raw = (ctypes.c_char * self.size).from_address(address)
        strides = (dtype.itemsize, self.step * dtype.itemsize)
        return np.ndarray((self.rows, self.columns), dtype, raw, 0, strides)

    def read(self, address: int, turned: int) -> Host:
        """Its numbers, transposed where `turned` says so; bfloat16 as float32."""
        found = self.at(address)
        if self.kind == R_16BF:
            found = (found.astype(np.uint32) << 16).view(np.float32)
        return found.T if turned else found

    def write(self, address: int, numbers: Host) -> None:
        """Round numbers to its type."""
        if self.kind == R_16BF:
            numbers = (rounded(numbers, 16).view(np.uint32) >> 16).astype(np.uint16)
        self.at(address)[...] = numbers


def rounded(x: Host, bits: int) -> Host:
    """Drop the last bits of float32: to the nearest, to even in a tie."""
    raw = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    raw += (1 << (bits - 1)) - 1 + (raw >> bits & 1)
    kept = (raw >> bits << bits).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), x, kept)


def product(compute: int, a: Host, b: Host) -> Host:
    """A B in an arithmetic."""
    if compute == FAST_TF32:
        a, b = rounded(a, 13), rounded(b, 13)
    with np.errstate(all="ignore"):
        return np.asarray(a @ b)


def gemmEx(
    handle: int,
    transa: int,
    transb: int,
    m: int,
    n: int,
    k: int,
    alpha: int,
    A: int,
    Atype: int,
    lda: int,
    B: int,
    Btype: int,
    ldb: int,
    beta: int,
    C: int,
    Ctype: int,
    ldc: int,
    computeType: int,
    algo: int,
) -> None:
    """C = A B as cuBLAS has it: columns first, pointers, a type for each matrix."""
    MACHINE.refuse("cuBLAS")
    scale, rest = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
    if (handle, scale, rest, algo) != (HANDLE, 1, 0, -1):
        raise ValueError("not what the stand-in knows")
    if computeType not in (COMPUTE_32F, FAST_TF32):
        raise ValueError("not what the stand-in knows")
    a = Matrix(Atype, *((k, m) if transa else (m, k)), lda).read(A, transa)
    b = Matrix(Btype, *((n, k) if transb else (k, n)), ldb).read(B, transb)
    Matrix(Ctype, m, n, ldc).write(C, product(computeType, a, b))

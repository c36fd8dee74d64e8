"""Loops over a row's lanes become vectors: as single numbers they took up to six times as long."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastmlp import kernels

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

import numba
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock

from fastmlp.kernels.numba_cpu import (
    activations,
    forward_rows,
    jit,
    losses,
    narrow,
    native,
    normalization,
)
from fastmlp.kernels.numba_cpu.intrinsics import at, lane_count, pointer_to
from fastmlp.kernels.numba_cpu.vectors import every, load, product_or_zero, square_root, store

ONLY_VECTORS = {
    "normalize_columns": normalization.normalize_columns,
    "normalize_rows": normalization.normalize_rows,
    "batch_gradient": normalization.batch_gradient,
    "layer_gradient": normalization.layer_gradient,
    "loss_block": forward_rows.loss_block,
}
EXPONENTIALS = {
    "softmax_cross_entropy": losses.softmax_cross_entropy,
    "softmax_forward": activations.softmax_forward,
    "train_narrow": narrow.train_narrow,
}


def _optimized(family: jit.Family) -> str:
    """LLVM's last word on a family, compiled without the cache."""
    wanted = family.signature(types.float32)
    with global_compiler_lock:
        library = native.lowered(family.function, wanted.args, wanted.return_type, "function")
        library.finalize()
    return str(library.get_llvm_str())


def _made(pattern: str, text: str) -> int:
    """How many values a pattern makes."""
    return len(re.findall(rf"= (?:tail call \S* ?)?{pattern}", text))


@pytest.mark.parametrize("name", ONLY_VECTORS)
def test_rows_are_vectors(name: str) -> None:
    text = _optimized(ONLY_VECTORS[name])
    assert _made("fmul <", text) > 0
    assert _made("(?:fmul|fdiv) (?:float|double)", text) <= 1  # 1 / rows


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_exponentials_are_vectors(name: str) -> None:
    """exp has 8 multiply-adds. A loop over a row's 8 lanes, unrolled, had 64 of single numbers.

    Some always are: what is left over where rows don't fill a vector.
    """
    text = _optimized(EXPONENTIALS[name])
    # Of whatever width LLVM thinks best: for some processors half of the longest.
    assert len(re.findall(r"@llvm\.fma\.v(?:4|8|16)f32\(", text)) >= 8
    assert len(re.findall(r"@llvm\.fma\.f32\(", text)) < 50


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arithmetic_is_that_of_single_numbers(dtype: str, rng: np.random.Generator) -> None:
    @numba.njit
    def run(one, x, y, out):
        X, Y, OUT = pointer_to(one, x), pointer_to(one, y), pointer_to(one, out)
        a, b = load(X), load(Y)
        store(OUT, (a + b) * (a - b) / (b * b + every(X, 0.5)))
        n = LANES
        store(at(OUT, n), square_root(a * a))
        store(at(OUT, 2 * n), product_or_zero(a, b))

    LANES = lane_count(dtype)
    one = np.dtype(dtype).type(1)
    x, y = rng.normal(size=(2, LANES)).astype(dtype)
    x[0], y[0] = np.nan, 0.0
    out = np.empty((3, LANES), dtype)
    run(one, x.ctypes.data, y.ctypes.data, out.ctypes.data)
    half = np.dtype(dtype).type(0.5)
    np.testing.assert_array_equal(out[0], (x + y) * (x - y) / (y * y + half))
    np.testing.assert_array_equal(out[1], np.sqrt(x * x))
    np.testing.assert_array_equal(out[2], np.where(y == 0, 0, x * y))

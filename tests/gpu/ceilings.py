"""Parts of the first run that measure: copies, products at the benchmark's shapes, epilogues."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from lt_probe import (
    AUX,
    AUX_STEP,
    BIAS,
    DRELU_BGRAD,
    EPILOGUE,
    RELU_AUX_BIAS,
    Library,
    Shape,
    random_matrix,
    seconds,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


def shapes() -> Iterator[tuple[str, str, Shape]]:
    """Products of the benchmark's cases, each once: name, precision, columns first."""
    from gpu_cases import CASES

    seen = set()
    for name, case in CASES.items():
        for precision in case.precisions:
            for inputs, outputs in pairwise(case.layers):
                kinds = {
                    "forward": Shape(outputs, case.batch, inputs),
                    "weights": Shape(outputs, inputs, case.batch, transposed_b=True),
                    "back": Shape(inputs, case.batch, outputs, transposed_a=True),
                }
                for kind, shape in kinds.items():
                    if (precision, shape) not in seen:
                        seen.add((precision, shape))
                        yield f"{name}, {inputs}-{outputs}, {kind}", precision, shape


def ceilings() -> dict[str, Any]:
    """Bytes a second of a copy, and the best algorithm's seconds of every product."""
    import cupy

    copied = _copied(cupy, 1 << 30)
    lt, found = Library(cupy), {}
    for name, precision, shape in shapes():
        found[f"{name}, {precision}"] = _best(cupy, lt, shape, precision)
    return {"copy, bytes per second": copied, "products": found}


def _copied(cupy: Any, size: int) -> float:
    """Bytes read and written a second."""
    source, target = cupy.zeros(size, "uint8"), cupy.empty(size, "uint8")
    return 2 * size / seconds(cupy, lambda: cupy.copyto(target, source))


def _best(cupy: Any, lt: Library, shape: Shape, precision: str) -> dict[str, Any]:
    m, n, k = shape[:3]
    arrays = [random_matrix(cupy, size, precision) for size in (m * k, k * n, m * n)]
    calls = lt.product(shape, precision, tuple(a.data.ptr for a in arrays))  # type: ignore[arg-type]
    times = [seconds(cupy, call, 7) for call in calls]
    if not times:
        return {"failed": "the heuristic offers nothing"}
    return {
        "m, n, k": [m, n, k],
        "first": times[0],
        "best": min(times),
        "operations per second": 2.0 * m * n * k / min(times),
    }


ADD = """
extern "C" __global__ void relu(float *z, const float *b, long long rows, long long all) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < all) { float x = z[i] + b[i % rows]; z[i] = x > 0 ? x : 0; }
}
extern "C" __global__ void relu_bf16(unsigned short *z, const float *b, long long rows,
                                     long long all) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= all) return;
    float x = __uint_as_float((unsigned)z[i] << 16) + b[i % rows];
    z[i] = x > 0 ? __float_as_uint(x) >> 16 : 0;
}
"""


def epilogues() -> dict[str, Any]:
    """Forward products with bias and relu inside, beside a plain one and a kernel; DRELU too."""
    import cupy

    lt, module, found = Library(cupy), cupy.RawModule(code=ADD), {}
    for name, precision, shape in shapes():
        if name.endswith("forward") and shape.m % 8 == 0:
            found[f"{name}, {precision}"] = _epilogue(cupy, lt, module, shape, precision)
    return {"shapes": found}


def _epilogue(cupy: Any, lt: Library, module: Any, shape: Shape, precision: str) -> Any:
    m, n, k = shape[:3]
    a, b, out = (random_matrix(cupy, size, precision) for size in (m * k, k * n, m * n))
    bias = random_matrix(cupy, m, precision)
    wide = random_matrix(cupy, m, "float32")
    step = -(-m // 128) * 128
    mask = cupy.zeros(step * n // 8, "uint8")
    pointers = (a.data.ptr, b.data.ptr, out.data.ptr)
    aux = {
        BIAS: ctypes.c_void_p(bias.data.ptr),
        AUX: ctypes.c_void_p(mask.data.ptr),
        AUX_STEP: ctypes.c_int64(step),
    }
    kernel = module.get_function("relu_bf16" if precision == "bfloat16" else "relu")
    import numpy as np

    arguments = (out, wide, np.int64(m), np.int64(m * n))
    grid = (-(-m * n // 256),)
    plain = lt.product(shape, precision, pointers)[0]

    def separate() -> None:
        plain()
        kernel(grid, (256,), arguments)

    result: dict[str, Any] = {"separate": seconds(cupy, separate, 10)}
    for name, code in (("relu in it", RELU_AUX_BIAS), ("derivative in it", DRELU_BGRAD)):
        try:
            given = {EPILOGUE: ctypes.c_int32(code), **aux}
            calls = lt.product(shape, precision, pointers, given)
            result[name] = min(seconds(cupy, call, 10) for call in calls)
        except (RuntimeError, ValueError) as error:
            result[name] = f"refused: {error}"
    return result

"""cuBLASLt by ctypes, as little of it as tells what it can do on this machine.

It knows nothing of fastmlp: what it shows holds also where the backend is wrong.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

# From library_types.h, cublas_api.h and cublasLt.h.
R_32F, R_16BF = 0, 14
COMPUTE = {"float32": 68, "tf32": 77, "bfloat16": 68}
TYPES = {"float32": R_32F, "tf32": R_32F, "bfloat16": R_16BF}
BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2}
TRANSA, TRANSB, EPILOGUE, BIAS, AUX, AUX_STEP = 3, 4, 7, 8, 11, 12
PLAIN, RELU_AUX_BIAS, DRELU_BGRAD = 1, 134, 152
PREFERENCE_WORKSPACE = 1
WORKSPACE = 64 << 20


class _Found(ctypes.Structure):
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Shape(NamedTuple):
    """A product of matrices, columns first: out (m, n) = A (m, k) B (k, n)."""

    m: int
    n: int
    k: int
    transposed_a: bool = False
    transposed_b: bool = False


def library() -> Any:
    """The library, from where CuPy's own finder has it, or by its name."""
    if find_spec("cuda.pathfinder") is not None:
        from cuda import pathfinder

        path = pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path
        return ctypes.CDLL(path)
    for name in ("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("cublasLt is not found")


class Library:
    """A handle, and products with a workspace of ours."""

    def __init__(self, cupy: Any) -> None:
        self.cupy, self.lt = cupy, library()
        self.lt.cublasLtGetVersion.restype = ctypes.c_size_t
        self.version = int(self.lt.cublasLtGetVersion())
        self.handle = ctypes.c_void_p()
        self._call("cublasLtCreate", ctypes.byref(self.handle))
        self.workspace = cupy.empty(WORKSPACE, "uint8")

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.lt, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} gave status {status}")

    def _layout(self, kind: int, rows: int, columns: int) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        sizes = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows)
        self._call("cublasLtMatrixLayoutCreate", ctypes.byref(made), kind, *sizes)
        return made

    def _description(
        self, shape: Shape, precision: str, attributes: dict[int, Any]
    ) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._call("cublasLtMatmulDescCreate", ctypes.byref(made), COMPUTE[precision], R_32F)
        sides = {
            TRANSA: ctypes.c_int32(shape.transposed_a),
            TRANSB: ctypes.c_int32(shape.transposed_b),
        }
        for name, value in (sides | attributes).items():
            size = ctypes.c_size_t(ctypes.sizeof(value))
            self._call("cublasLtMatmulDescSetAttribute", made, name, ctypes.byref(value), size)
        return made

    def product(
        self,
        shape: Shape,
        precision: str,
        pointers: tuple[int, int, int],
        attributes: dict[int, Any] | None = None,
        wanted: int = 8,
    ) -> list[Callable[[], None]]:
        """Calls of the algorithms that the heuristic offers, the likeliest first."""
        a, b, out = pointers
        kind = TYPES[precision]
        description = self._description(shape, precision, attributes or {})
        first = (shape.k, shape.m) if shape.transposed_a else (shape.m, shape.k)
        second = (shape.n, shape.k) if shape.transposed_b else (shape.k, shape.n)
        layouts = [self._layout(kind, *sides) for sides in (first, second, (shape.m, shape.n))]
        preference, found, count = ctypes.c_void_p(), (_Found * wanted)(), ctypes.c_int(0)
        self._call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        room = ctypes.c_size_t(WORKSPACE)
        self._call(
            "cublasLtMatmulPreferenceSetAttribute",
            *(preference, PREFERENCE_WORKSPACE, ctypes.byref(room), ctypes.c_size_t(8)),
        )
        self._call(
            "cublasLtMatmulAlgoGetHeuristic",
            *(self.handle, description, *layouts, layouts[2], preference, wanted),
            *(found, ctypes.byref(count)),
        )
        one, zero = ctypes.c_float(1), ctypes.c_float(0)

        def call(algorithm: Any) -> Callable[[], None]:
            def run() -> None:
                stream = ctypes.c_void_p(self.cupy.cuda.get_current_stream().ptr)
                self._call(
                    "cublasLtMatmul",
                    *(self.handle, description, ctypes.byref(one)),
                    *(ctypes.c_void_p(a), layouts[0], ctypes.c_void_p(b), layouts[1]),
                    *(ctypes.byref(zero), ctypes.c_void_p(out), layouts[2]),
                    *(ctypes.c_void_p(out), layouts[2], ctypes.byref(algorithm)),
                    *(ctypes.c_void_p(self.workspace.data.ptr), room, stream),
                )

            return run

        return [call(found[i].algorithm) for i in range(count.value) if found[i].state == 0]


def seconds(cupy: Any, run: Callable[[], object], repeats: int = 20) -> float:
    """Median seconds by events, after two calls that do not count."""
    run()
    run()
    stream, times = cupy.cuda.get_current_stream(), []
    for _ in range(repeats):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1000)
    return float(statistics.median(times))


def random_matrix(cupy: Any, size: int, precision: str) -> Any:
    """So many random numbers in a precision's own bits."""
    numbers = cupy.random.standard_normal(size, dtype="float32")
    if precision != "bfloat16":
        return numbers
    return (numbers.view("uint32") >> 16).astype("uint16")

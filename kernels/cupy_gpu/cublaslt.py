"""Products of matrices by cuBLASLt, through ctypes: what a captured step may launch.

CuPy refuses its own products while a stream captures. Here everything that could be looked up or
allocated is done when a program is built, so that running it is one call: descriptors, layouts,
the algorithm and the workspace belong to each product.

The algorithm is the first one of the library's own heuristic, never the winner of a race: the same
library, device and shape take the same one, and so the bits are the same from run to run. Only a
file that somebody made and named (`choices`) says otherwise.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import cupy

from .. import driver
from .device import DeviceArray, empty

# From cublasLt.h, cublas_api.h and library_types.h; tests/data/cublaslt.json is the record.
R_32F, R_64F, R_16BF = 0, 1, 14
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
PLAIN, TRANSPOSED = 0, 1
DESC_TRANSA, DESC_TRANSB, DESC_EPILOGUE, DESC_BIAS_POINTER = 3, 4, 7, 8
PREF_WORKSPACE = 1
PREF_ALIGNMENTS = (5, 6, 7, 8)
"""Of A, B, C and D."""
EPILOGUE_BIAS = 4

STATUSES: Mapping[int, str] = MappingProxyType(
    {
        1: "NOT_INITIALIZED",
        3: "ALLOC_FAILED",
        7: "INVALID_VALUE",
        8: "ARCH_MISMATCH",
        11: "MAPPING_ERROR",
        13: "EXECUTION_FAILED",
        14: "INTERNAL_ERROR",
        15: "NOT_SUPPORTED",
        16: "LICENSE_ERROR",
    }
)

WORKSPACE = 32 << 20
"""Most bytes of scratch memory that an algorithm may want: what NVIDIA advises for Hopper."""

ALIGNED = 256
"""Bytes, the library's own default: a pointer that is a multiple of more counts as this."""


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


_HANDLE, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_ATTRIBUTE = (_HANDLE, _INT, _HANDLE, _SIZE)

SIGNATURES: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "cublasLtGetVersion": (),
        "cublasLtCreate": (_HANDLE,),
        "cublasLtMatmulDescCreate": (_HANDLE, _INT, _INT),
        "cublasLtMatmulDescSetAttribute": _ATTRIBUTE,
        "cublasLtMatmulDescDestroy": (_HANDLE,),
        "cublasLtMatrixLayoutCreate": (
            *(_HANDLE, _INT, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
        ),
        "cublasLtMatrixLayoutDestroy": (_HANDLE,),
        "cublasLtMatmulPreferenceCreate": (_HANDLE,),
        "cublasLtMatmulPreferenceSetAttribute": _ATTRIBUTE,
        "cublasLtMatmulPreferenceDestroy": (_HANDLE,),
        "cublasLtMatmulAlgoGetHeuristic": (*(_HANDLE,) * 7, _INT, _HANDLE, _HANDLE),
        "cublasLtMatmulAlgoCheck": (_HANDLE,) * 8,
        "cublasLtMatmul": (*(_HANDLE,) * 14, _SIZE, _HANDLE),
    }
)
"""Every function that is called -> its arguments; handles and pointers are addresses."""


class Arithmetic(NamedTuple):
    """How products of a precision are computed: type of the sums, type of alpha and beta."""

    compute: int
    scale: int
    number: Any


ARITHMETIC: Mapping[str, Arithmetic] = MappingProxyType(
    {
        "float32": Arithmetic(COMPUTE_32F, R_32F, ctypes.c_float),
        "tf32": Arithmetic(COMPUTE_32F_FAST_TF32, R_32F, ctypes.c_float),
        "bfloat16": Arithmetic(COMPUTE_32F, R_32F, ctypes.c_float),
        "float64": Arithmetic(COMPUTE_64F, R_64F, ctypes.c_double),
    }
)

_TYPES: Mapping[str, int] = MappingProxyType(
    {"float32": R_32F, "float64": R_64F, "uint16": R_16BF},
)


class UnsupportedError(RuntimeError):
    """The library has no algorithm for a product."""


@cache
def library() -> Any:
    """The library, with the types of its functions declared.

    Raises
    ------
    ImportError, OSError, RuntimeError
        It isn't there, or can't be loaded.
    """
    found = driver.library("cublasLt")
    for name, arguments in SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes = arguments
        function.restype = _SIZE if name == "cublasLtGetVersion" else _INT
    return found


_creating = threading.Lock()


def handle() -> int:
    """The library's handle for the current device; any thread may use it."""
    with _creating:
        return _handle(cupy.cuda.runtime.getDevice())


@cache
def _handle(device: int) -> int:
    created = ctypes.c_void_p()
    call("cublasLtCreate", ctypes.byref(created))
    return created.value or 0


def missing() -> str | None:
    """Say why cuBLASLt can't be used on the current device, or None."""
    try:
        handle()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"cuBLASLt can't be used ({error})"
    return None


def call(name: str, *arguments: Any) -> None:
    """Call a function of the library.

    Raises
    ------
    MemoryError, UnsupportedError, RuntimeError
        By the status that it returns.
    """
    check(name, getattr(library(), name)(*arguments))


def check(name: str, status: int) -> None:
    """Turn a status that is not 0 into an error."""
    if status == 0:
        return
    text = f"{name} gave CUBLAS_STATUS_{STATUSES.get(status, status)}"
    kinds: dict[int, type[Exception]] = {3: MemoryError, 15: UnsupportedError}
    raise kinds.get(status, RuntimeError)(text)


def _made(kind: str, *arguments: Any) -> Any:
    """A descriptor, which goes with the object that is returned."""
    address = ctypes.c_void_p()
    call(f"cublasLt{kind}Create", ctypes.byref(address), *arguments)
    owner = _Owned(address)
    destroy = getattr(library(), f"cublasLt{kind}Destroy")
    weakref.finalize(owner, destroy, ctypes.c_void_p(address.value)).atexit = False
    return owner


class _Owned:
    """The address of a descriptor, as ctypes passes it."""

    def __init__(self, address: ctypes.c_void_p) -> None:
        self._as_parameter_ = address


def _set(kind: str, owner: Any, attribute: int, value: Any) -> None:
    size = ctypes.sizeof(value)
    call(f"cublasLt{kind}SetAttribute", owner, attribute, ctypes.byref(value), size)


class Workspace:
    """Scratch memory of one plan, whose products run one after another."""

    def __init__(self) -> None:
        self.array: DeviceArray | None = None

    def of(self, size: int) -> DeviceArray:
        """At least `size` bytes. What was given out before lives as long as its product."""
        if self.array is None or self.array.size < size:
            self.array = empty(1 << max(size - 1, 1).bit_length(), "uint8")
        return self.array


class Products:
    """Makes the products of one plan; `chosen` has algorithms by `Product.key`."""

    def __init__(self, precision: str, chosen: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.arithmetic = ARITHMETIC[precision]
        self.chosen = chosen
        self.workspace = Workspace()

    def __call__(
        self, out: DeviceArray, A: DeviceArray, B: DeviceArray, bias: DeviceArray | None = None
    ) -> Callable[[], None]:
        """What fills out with A B, and bias (columns,) in each row; A and B may be transposed.

        Raises
        ------
        UnsupportedError
            The library has no algorithm for it.
        """
        return partial(_run, Product(self, out, A, B, bias))


class Product:
    """One product: everything that `cublasLtMatmul` is given but the stream.

    The library counts along columns first: to it, each of our matrices is its transpose. So it is
    asked for out' = B' A', and a view that is transposed here is plain there. The bias, one number
    for each of our columns, is one for each of its rows, as its epilogue wants it.
    """

    def __init__(
        self,
        products: Products,
        out: DeviceArray,
        A: DeviceArray,
        B: DeviceArray,
        bias: DeviceArray | None,
    ) -> None:
        kind = products.arithmetic
        self.operation = _made("MatmulDesc", kind.compute, kind.scale)
        for attribute, matrix in ((DESC_TRANSA, B), (DESC_TRANSB, A)):
            turned = PLAIN if matrix.flags.c_contiguous else TRANSPOSED
            _set("MatmulDesc", self.operation, attribute, ctypes.c_int32(turned))
        if bias is not None:
            _set("MatmulDesc", self.operation, DESC_EPILOGUE, ctypes.c_uint32(EPILOGUE_BIAS))
            address = ctypes.c_void_p(bias.data.ptr)
            _set("MatmulDesc", self.operation, DESC_BIAS_POINTER, address)
        self.layouts = [_layout(matrix) for matrix in (B, A, out)]
        self.kept = (out, A, B, bias)
        self.one, self.zero = kind.number(1), kind.number(0)
        self.key = self._key(kind.compute)
        self.workspace = products.workspace
        saved = products.chosen.get(self.key)
        self.use(self.ranked(1)[0] if saved is None else self._checked(saved))

    def _key(self, compute: int) -> str:
        """All that an algorithm depends on, in words."""
        out, A, B, bias = self.kept
        (rows, inner), columns = A.shape, B.shape[1]
        turned = "".join("NT"[not matrix.flags.c_contiguous] for matrix in (A, B))
        types = ",".join(matrix.dtype.name for matrix in (A, B, out))
        aligned = ",".join(str(alignment(matrix.data.ptr)) for matrix in (A, B, out))
        end = "" if bias is None else f" bias {alignment(bias.data.ptr)}"
        return f"{compute} {turned} {rows}x{inner}x{columns} {types} {aligned}{end}"

    def ranked(self, most: int) -> list[Heuristic]:
        """The library's choices for these layouts and alignments, the best first; up to `most`."""
        out, A, B, _ = self.kept
        preference = _made("MatmulPreference")
        _set("MatmulPreference", preference, PREF_WORKSPACE, ctypes.c_uint64(WORKSPACE))
        for attribute, matrix in zip(PREF_ALIGNMENTS, (B, A, out, out), strict=True):
            aligned = ctypes.c_uint32(alignment(matrix.data.ptr))
            _set("MatmulPreference", preference, attribute, aligned)
        first, second, third = self.layouts
        results, count = (Heuristic * most)(), ctypes.c_int()
        call(
            *("cublasLtMatmulAlgoGetHeuristic", handle(), self.operation, first, second),
            *(third, third, preference, most, ctypes.byref(results), ctypes.byref(count)),
        )
        found = [result for result in results[: count.value] if result.state == 0]
        if not found:
            raise UnsupportedError("cuBLASLt has no algorithm for a product")
        return found

    def _checked(self, saved: bytes) -> Heuristic:
        """An algorithm of a file, if the library takes it for this product."""
        algorithm, result = Algorithm.from_buffer_copy(saved), Heuristic()
        first, second, third = self.layouts
        status = library().cublasLtMatmulAlgoCheck(
            *(handle(), self.operation, first, second, third, third),
            *(ctypes.byref(algorithm), ctypes.byref(result)),
        )
        if status != 0 or result.workspace > WORKSPACE:
            raise ValueError(
                f"the file of choices has an algorithm for {self.key} that can't be used"
            )
        result.algorithm = algorithm
        return result

    def use(self, chosen: Heuristic) -> None:
        """Take an algorithm for all runs from now on."""
        size = chosen.workspace
        self.algorithm = chosen.algorithm
        self.scratch = self.workspace.of(size) if size else None
        out, A, B, _ = self.kept
        first, second, third = self.layouts
        a, b, c = (ctypes.c_void_p(matrix.data.ptr) for matrix in (B, A, out))
        scratch = ctypes.c_void_p(None if self.scratch is None else self.scratch.data.ptr)
        self.arguments = (
            *(handle(), self.operation, ctypes.byref(self.one), a, first, b, second),
            *(ctypes.byref(self.zero), c, third, c, third, ctypes.byref(self.algorithm)),
            *(scratch, size),
        )


def _run(product: Product) -> None:
    """Start a product on the current stream."""
    stream = cupy.cuda.get_current_stream().ptr
    check("cublasLtMatmul", library().cublasLtMatmul(*product.arguments, stream))


def _layout(matrix: DeviceArray) -> Any:
    """The layout of a matrix's memory, column by column."""
    rows, columns = matrix.shape if matrix.flags.c_contiguous else matrix.shape[::-1]
    return _made("MatrixLayout", _TYPES[matrix.dtype.name], columns, rows, columns)


def alignment(address: int) -> int:
    """The largest power of two that divides an address, up to `ALIGNED`."""
    return min(ALIGNED, address & -address)

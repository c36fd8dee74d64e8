"""A stand-in for cuBLASLt: functions of C, with the contract of its header.

`library` gives an object with the library's names. Each is a real function pointer, so that what
the backend passes goes through ctypes as it does to the library itself. A call that breaks the
contract returns a status, as there; what was wrong is noted in `TROUBLE`.

The contract: matrices lie column after column, with a leading dimension; types come in the
combinations of the table; an attribute has its own size; an algorithm serves the operation, the
layouts and the alignments that it was chosen for; pointers lie in living memory of the device; and
nothing of it needs more workspace than it was given.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import types
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from .cublas import COMPUTE_32F, COMPUTE_64F, FAST_TF32, R_16BF, R_32F, R_64F, Matrix, product
from .machine import ALIGNMENT, MACHINE, Work, get_current_stream

TROUBLE: list[str] = []

ALLOC_FAILED, INVALID_VALUE, NOT_SUPPORTED = 3, 7, 15

# (compute, scale) -> types of A, B, C and D.
COMBINATIONS = {
    (COMPUTE_32F, R_32F): {(R_32F,) * 4, (R_16BF,) * 4, (R_16BF, R_16BF, R_32F, R_32F)},
    (FAST_TF32, R_32F): {(R_32F,) * 4},
    (COMPUTE_64F, R_64F): {(R_64F,) * 4},
}

# Attribute -> format of its value; those of a pointer and of 64 bits have eight bytes.
OPERATION = {3: "i", 4: "i", 7: "I", 8: "Q"}
PREFERENCE = {1: "Q", 5: "I", 6: "I", 7: "I", 8: "I"}

ALGORITHMS = 3
"""How many the heuristic knows for each product; USED counts their runs."""
USED: Counter[int] = Counter()

EPILOGUES = {1, 4}
"""None, and a bias for each row of D."""

_numbers = itertools.count(1 << 40, 16)
_objects: dict[int, dict[Any, Any]] = {}
_refused: list[Callable[[Matrix, Matrix, Matrix], bool]] = []


class RefusedError(Exception):
    """A call that the library would refuse."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


def _need(fits: bool, what: str, status: int = INVALID_VALUE) -> None:
    if not fits:
        raise RefusedError(status, what)


def _created(where: int, fields: dict[Any, Any]) -> None:
    number = next(_numbers)
    _objects[number] = fields
    ctypes.c_uint64.from_address(where).value = number


def _found(number: int | None, kind: str) -> dict[Any, Any]:
    fields = _objects.get(number or 0, {})
    _need(fields.get("kind") == kind, f"{number} is no {kind}")
    return fields


def living(kind: str) -> int:
    """How many objects of a kind are there."""
    return sum(fields["kind"] == kind for fields in _objects.values())


# The functions


def cublasLtCreate(where: int) -> None:
    _created(where, {"kind": "handle"})


def cublasLtMatmulDescCreate(where: int, compute: int, scale: int) -> None:
    _need((compute, scale) in COMBINATIONS, f"compute type {compute}, scale type {scale}")
    defaults = {3: 0, 4: 0, 7: 1, 8: 0}
    _created(where, {"kind": "operation", "arithmetic": (compute, scale), **defaults})


def cublasLtMatrixLayoutCreate(where: int, kind: int, rows: int, columns: int, step: int) -> None:
    _need(kind in (R_32F, R_64F, R_16BF), f"type {kind}")
    _need(0 < rows <= step and columns > 0, f"{rows} rows, {columns} columns, {step} from each")
    _created(where, {"kind": "layout", "matrix": Matrix(kind, rows, columns, step)})


def cublasLtMatmulPreferenceCreate(where: int) -> None:
    _created(where, {"kind": "preference", 1: 0, 5: 256, 6: 256, 7: 256, 8: 256})


def _set(kind: str, formats: dict[int, str], number: int, name: int, value: int, size: int) -> None:
    fields = _found(number, kind)
    _need(name in formats, f"attribute {name} of a {kind}")
    _need(size == struct.calcsize(formats[name]), f"attribute {name} has not {size} bytes")
    fields[name] = struct.unpack(formats[name], ctypes.string_at(value, size))[0]


def cublasLtMatmulDescSetAttribute(number: int, name: int, value: int, size: int) -> None:
    _set("operation", OPERATION, number, name, value, size)


def cublasLtMatmulPreferenceSetAttribute(number: int, name: int, value: int, size: int) -> None:
    _set("preference", PREFERENCE, number, name, value, size)


def _destroyed(kind: str) -> Callable[[int], None]:
    def destroy(number: int) -> None:
        _found(number, kind)
        del _objects[number]

    return destroy


def cublasLtMatmulAlgoGetHeuristic(
    handle: int,
    operation: int,
    a: int,
    b: int,
    c: int,
    d: int,
    preference: int,
    wanted: int,
    results: int,
    count: int,
) -> None:
    _need(MACHINE.capturing is None, "a heuristic while a stream captures")
    _found(handle, "handle")
    matrices = [_found(layout, "layout")["matrix"] for layout in (a, b, c, d)]
    fields = _found(operation, "operation")
    _fitting(fields, matrices)
    for refused in _refused:
        _need(not refused(*matrices[:3]), "no algorithm", NOT_SUPPORTED)
    wishes = _found(preference, "preference")
    aligned = tuple(wishes[name] for name in (5, 6, 7, 8))
    need = _workspace(matrices)
    _need(need <= wishes[1], f"{need} bytes of workspace, of {wishes[1]}", NOT_SUPPORTED)
    _need(wanted >= 1, "no room for a result")
    given = min(wanted, ALGORITHMS)
    packed = b"".join(
        struct.pack("QIIIIQ", _mark(fields, matrices), *aligned, place).ljust(64, b"\0")
        + struct.pack("Qif4i", need, 0, 1.0, 0, 0, 0, 0)
        for place in range(given)
    )
    ctypes.memmove(results, packed, len(packed))
    ctypes.c_int.from_address(count).value = given


def cublasLtMatmulAlgoCheck(
    handle: int, operation: int, a: int, b: int, c: int, d: int, algorithm: int, result: int
) -> None:
    _found(handle, "handle")
    matrices = [_found(layout, "layout")["matrix"] for layout in (a, b, c, d)]
    fields = _found(operation, "operation")
    _fitting(fields, matrices)
    made = ctypes.string_at(algorithm, 64)
    fits = struct.unpack("Q", made[:8])[0] == _mark(fields, matrices)
    _need(fits, "an algorithm that was chosen for something else", NOT_SUPPORTED)
    packed = made + struct.pack("Qif4i", _workspace(matrices), 0, 1.0, 0, 0, 0, 0)
    ctypes.memmove(result, packed, len(packed))


def _fitting(fields: dict[Any, Any], matrices: list[Matrix]) -> None:
    """Whether types and sizes go together."""
    types_ = tuple(matrix.kind for matrix in matrices)
    known = COMBINATIONS[fields["arithmetic"]]
    _need(types_ in known, f"types {types_} with {fields['arithmetic']}", NOT_SUPPORTED)
    a, b, c, d = matrices
    m, k = (a.columns, a.rows) if fields[3] else (a.rows, a.columns)
    inner, n = (b.columns, b.rows) if fields[4] else (b.rows, b.columns)
    _need(k == inner and (m, n) == (d.rows, d.columns) and c == d, f"{a} times {b} is no {d}")
    _need(fields[7] in EPILOGUES, f"epilogue {fields[7]}", NOT_SUPPORTED)
    _need((fields[7] == 4) == (fields[8] != 0), "a bias without its epilogue, or the other way")


def _workspace(matrices: list[Matrix]) -> int:
    """Where the inner side is long it is cut, and the parts are summed."""
    a, _, _, d = matrices
    inner = a.rows * a.columns // d.rows
    return 0 if inner < 4 * d.rows else 512 * d.rows


def _mark(fields: dict[Any, Any], matrices: list[Matrix]) -> int:
    """What an algorithm was chosen for."""
    shown = repr((fields["arithmetic"], fields[3], fields[4], fields[7], matrices))
    return zlib.crc32(shown.encode())


def cublasLtMatmul(
    handle: int,
    operation: int,
    alpha: int,
    A: int,
    a: int,
    B: int,
    b: int,
    beta: int,
    C: int,
    c: int,
    D: int,
    d: int,
    algorithm: int,
    workspace: int | None,
    size: int,
    stream: int | None,
) -> None:
    _found(handle, "handle")
    fields = dict(_found(operation, "operation"))
    matrices = [_found(layout, "layout")["matrix"] for layout in (a, b, c, d)]
    _fitting(fields, matrices)
    compute, scale = fields["arithmetic"]
    number = ctypes.c_double if scale == R_64F else ctypes.c_float
    factors = [number.from_address(where).value for where in (alpha, beta)]
    _need(factors == [1, 0], f"the stand-in multiplies by 1 and 0, not by {factors}", NOT_SUPPORTED)
    mark, *aligned, place = struct.unpack("QIIIIQ", ctypes.string_at(algorithm, 32))
    _need(mark == _mark(fields, matrices), "an algorithm that was chosen for something else")
    addresses = [A, B, C, D]
    pairs = zip(addresses, matrices, strict=True)
    memories = [MACHINE.holder(address, matrix.size) for address, matrix in pairs]
    for address, least in zip(addresses, aligned, strict=True):
        _need(address % least == 0, f"{address:#x} is not aligned to {least} bytes")
    need = _workspace(matrices)
    _need(need <= size, f"{need} bytes of workspace, not {size}")
    if need:
        _need((workspace or 0) % min(256, ALIGNMENT) == 0, "the workspace is not aligned")
        memories.append(MACHINE.holder(workspace or 0, size))
    _apart(addresses, matrices)
    if fields[7] == 4:
        memories.append(MACHINE.holder(fields[8], _bias(matrices[3]).size))
    _need(stream == (get_current_stream().ptr or None), f"stream {stream} is not the current one")

    def run() -> None:
        USED[place] += 1
        if need:
            ctypes.memset(workspace or 0, 0xFF, need)
        x, y = matrices[0].read(A, fields[3]), matrices[1].read(B, fields[4])
        result = product(compute, x, y)
        if fields[7] == 4:
            result = result + _bias(matrices[3]).read(fields[8], 0)
        matrices[3].write(D, result)

    MACHINE.submit(Work(run, "cublasLtMatmul", tuple(memories)))


def _bias(d: Matrix) -> Matrix:
    """One number of D's type for each of its rows."""
    return Matrix(d.kind, d.rows, 1, d.rows)


def _apart(addresses: list[int], matrices: list[Matrix]) -> None:
    """D is where C is, and touches neither A nor B."""
    _need(addresses[2] == addresses[3], "C is not D")
    start, stop = addresses[3], addresses[3] + matrices[3].size
    for address, matrix in zip(addresses[:2], matrices[:2], strict=True):
        _need(address + matrix.size <= start or stop <= address, "D overlaps a factor")


# Function pointers

_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_ATTRIBUTE = (_POINTER, _INT, _POINTER, _SIZE)
FUNCTIONS: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
    "cublasLtCreate": (cublasLtCreate, (_POINTER,)),
    "cublasLtMatmulDescCreate": (cublasLtMatmulDescCreate, (_POINTER, _INT, _INT)),
    "cublasLtMatmulDescSetAttribute": (cublasLtMatmulDescSetAttribute, _ATTRIBUTE),
    "cublasLtMatmulDescDestroy": (_destroyed("operation"), (_POINTER,)),
    "cublasLtMatrixLayoutCreate": (
        cublasLtMatrixLayoutCreate,
        (_POINTER, _INT, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    ),
    "cublasLtMatrixLayoutDestroy": (_destroyed("layout"), (_POINTER,)),
    "cublasLtMatmulPreferenceCreate": (cublasLtMatmulPreferenceCreate, (_POINTER,)),
    "cublasLtMatmulPreferenceSetAttribute": (cublasLtMatmulPreferenceSetAttribute, _ATTRIBUTE),
    "cublasLtMatmulPreferenceDestroy": (_destroyed("preference"), (_POINTER,)),
    "cublasLtMatmulAlgoGetHeuristic": (
        cublasLtMatmulAlgoGetHeuristic,
        (*(_POINTER,) * 7, _INT, _POINTER, _POINTER),
    ),
    "cublasLtMatmulAlgoCheck": (cublasLtMatmulAlgoCheck, (_POINTER,) * 8),
    "cublasLtMatmul": (cublasLtMatmul, (*(_POINTER,) * 14, _SIZE, _POINTER)),
}


def _pointer(function: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    """A function of C; nothing that is raised in it would reach its caller."""

    def guarded(*given: Any) -> int:
        try:
            function(*given)
        except RefusedError as error:
            TROUBLE.append(str(error))
            return error.status
        except Exception as error:  # noqa: BLE001 - whatever it is, C would not see it
            TROUBLE.append(f"{type(error).__name__}: {error}")
            return INVALID_VALUE
        return 0

    return ctypes.CFUNCTYPE(_INT, *arguments)(guarded)


def library() -> types.SimpleNamespace:
    """The library, as ctypes loads it."""
    made = types.SimpleNamespace(
        **{name: _pointer(*function) for name, function in FUNCTIONS.items()}
    )
    made.cublasLtGetVersion = ctypes.CFUNCTYPE(_SIZE)(lambda: 130000)
    return made

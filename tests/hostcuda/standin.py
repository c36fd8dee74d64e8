"""A module in the place of cupy, as strict as cupy where the backend could go wrong.

Device arrays never turn into NumPy arrays by themselves and never mix with them; fresh memory is
NaN; a launch checks number, types and widths of its arguments; while a stream captures, nothing may
be allocated, multiplied by cuBLAS or read.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import itertools
import sys
import types
from typing import Any, Self

import numpy as np

from fastmlp.kernels import driver

from . import build

Host = np.ndarray[Any, np.dtype[Any]]

ORDERS = 3
"""Forward, backward, by chance: launch after launch takes the next one."""


KEPT = 24
"""Launches whose packed arguments a kernel keeps."""


class OutOfMemoryError(MemoryError):
    """What cupy raises where the device is full."""


class _Machine:
    """What all arrays and streams share."""

    def __init__(self) -> None:
        self.capturing: list[Any] | None = None
        self.total = 1 << 50
        self.used = 0
        self.order: int | None = None
        self.seed = itertools.count(1)
        self.launches = 0
        self.allocations = 0
        self.events: list[tuple[str, int, str]] = []
        self.streams: list[Any] = []

    def allow(self, what: str) -> None:
        if self.capturing is not None:
            raise RuntimeError(f"{what} while a stream captures")


MACHINE = _Machine()


class _Memory:
    """Counts its bytes as used for as long as a view of it is alive."""

    def __init__(self, size: int) -> None:
        self.size = 0
        MACHINE.allow("an allocation")
        if MACHINE.used + size > MACHINE.total:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.size = size
        MACHINE.used += size
        MACHINE.allocations += 1

    def __del__(self) -> None:
        MACHINE.used -= self.size


class ndarray:  # noqa: N801 - cupy's name
    """An array of the device."""

    __array_ufunc__ = None

    def __init__(self, host: Host, memory: _Memory) -> None:
        self._host = host
        self._memory = memory
        self.shape, self.dtype, self.size = host.shape, host.dtype, host.size
        self.ndim, self.nbytes, self.flags = host.ndim, host.nbytes, host.flags

    def __array__(self, *arguments: Any, **named: Any) -> Host:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __len__(self) -> int:
        return len(self._host)

    def __bool__(self) -> bool:
        raise TypeError("the stand-in compares no numbers on the host")

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self._host.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._host.__array_interface__, "version": 3, "stream": None}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def view(self) -> ndarray:
        return ndarray(self._host.view(), self._memory)

    @property
    def T(self) -> ndarray:
        return ndarray(self._host.T, self._memory)

    def __getitem__(self, key: Any) -> ndarray:
        if isinstance(key, ndarray):
            picked = self._host[key._host]
            return ndarray(picked, _Memory(picked.nbytes))
        found = self._host[_no_host(key)]
        return ndarray(np.asarray(found), self._memory)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("a host array is copied by set()")
        self._host[_no_host(key)] = value._host if isinstance(value, ndarray) else value

    def reshape(self, *shape: Any) -> ndarray:
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        view = self._host.reshape(wanted)
        if view.size and not np.shares_memory(view, self._host):
            MACHINE.allow("a copy")
        return ndarray(view, self._memory)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        if self.dtype == dtype and not copy:
            return self
        result = empty(self.shape, dtype)
        result._host[...] = self._host
        return result

    def copy(self) -> ndarray:
        return self.astype(self.dtype)

    def fill(self, value: Any) -> None:
        self._host.fill(value)

    def get(self, out: Host | None = None) -> Host:
        MACHINE.allow("a copy to the host")
        if out is None:
            return self._host.copy()
        if out.dtype != self.dtype or out.shape != self.shape or not out.flags.c_contiguous:
            raise TypeError("out does not fit")
        out[...] = self._host
        return out

    def set(self, host: Host, stream: Any = None) -> None:
        MACHINE.allow("a copy from the host")
        if not isinstance(host, np.ndarray) or host.dtype != self.dtype:
            raise TypeError(f"{self.dtype} array expected")
        if host.shape != self.shape:
            raise ValueError(f"shape {self.shape} expected; got {host.shape}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._host[...] = host


def _no_host(key: Any) -> Any:
    if isinstance(key, np.ndarray):
        raise TypeError("a device array is not indexed by a host array")
    return key


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Memory that shows what was not written."""
    host = np.empty(shape, dtype)
    memory = _Memory(host.nbytes)
    host.reshape(-1).view(np.uint8)[...] = 0xFF
    return ndarray(host, memory)


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    result = empty(shape, dtype)
    result._host[...] = 0
    return result


def asarray(values: Any) -> ndarray:
    """An array that describes itself by ``__cuda_array_interface__``, without a copy."""
    given = dict(values.__cuda_array_interface__)
    given.pop("stream", None)
    seen = np.asarray(types.SimpleNamespace(__array_interface__=given, owner=values))
    return ndarray(seen, _Memory(0))


def from_dlpack(values: Any) -> ndarray:
    """An array of another library, without a copy; here its memory is the host's."""
    return ndarray(np.from_dlpack(values), _Memory(0))


def matmul(a: Any, b: Any, out: Any) -> ndarray:
    """The product of two matrices, by cuBLAS and therefore not while a stream captures."""
    if MACHINE.capturing is not None:
        raise NotImplementedError("cuBLAS while a stream captures")
    for array in (a, b, out):
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)}")
    if not out.flags.c_contiguous or {a.dtype, b.dtype} != {out.dtype}:
        raise TypeError("out makes a hidden temporary")
    if np.shares_memory(out._host, a._host) or np.shares_memory(out._host, b._host):
        raise ValueError("out overlaps an argument")
    with np.errstate(all="ignore"):
        np.matmul(a._host, b._host, out=out._host)
    return out


def _as_read(address: int, kind: int, rows: int, columns: int, step: int) -> Host:
    """A matrix of cuBLAS, column after column, as float32."""
    if step < rows:
        raise ValueError(f"a leading dimension of {step} for {rows} rows")
    wide = {0: 4, 14: 2}[kind]
    raw = (ctypes.c_char * (((columns - 1) * step + rows) * wide)).from_address(address)
    flat = np.frombuffer(raw, np.uint32 if wide == 4 else np.uint16)
    bits = flat if wide == 4 else flat.astype(np.uint32) << 16
    places = np.arange(rows)[:, None] + step * np.arange(columns)
    return np.asarray(bits.view(np.float32)[places])


def _rounded(x: Host, bits: int) -> Host:
    """Drop the last bits of float32: to the nearest, to even in a tie."""
    raw = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    raw += (1 << (bits - 1)) - 1 + (raw >> bits & 1)
    kept = (raw >> bits << bits).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), x, kept)


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
    if MACHINE.capturing is not None:
        raise NotImplementedError("cuBLAS while a stream captures")
    scale, rest = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
    if (handle, scale, rest, algo) != (HANDLE, 1, 0, -1) or computeType not in (68, 77) or ldc < m:
        raise ValueError("not what the stand-in knows")
    a = _as_read(A, Atype, *((k, m) if transa else (m, k)), lda)
    b = _as_read(B, Btype, *((n, k) if transb else (k, n)), ldb)
    a, b = a.T if transa else a, b.T if transb else b
    if computeType == 77:
        a, b = _rounded(a, 13), _rounded(b, 13)
    with np.errstate(all="ignore"):
        result = np.ascontiguousarray((a @ b).T)
    if Ctype == 14:
        result = (_rounded(result, 16).view(np.uint32) >> 16).astype(np.uint16)
    for column, line in enumerate(result):
        ctypes.memmove(C + column * ldc * line.itemsize, line.ctypes.data, line.nbytes)


HANDLE = 4242


class Event:
    """A point in a stream; the stand-in copies at once and keeps what was ordered."""

    def __init__(self) -> None:
        self.stream: Any = None

    def record(self, stream: Any) -> None:
        self.stream = stream
        MACHINE.events.append(("record", id(self), stream.name))

    def synchronize(self) -> None:
        MACHINE.allow("waiting for an event")
        MACHINE.events.append(("synchronize", id(self), ""))


class Graph:
    """Launches that a stream has captured."""

    def __init__(self, launches: list[Any]) -> None:
        self._launches = launches

    def launch(self, stream: Stream) -> None:
        """Run them again with the arguments of the capture."""
        for kernel, grid, block, arguments in self._launches:
            kernel(grid, block, arguments)


class Stream:
    """A queue of work."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.name = "other" if non_blocking else "current"

    def __enter__(self) -> Self:
        MACHINE.streams.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        MACHINE.streams.pop()

    def synchronize(self) -> None:
        MACHINE.allow("waiting for a stream")

    def begin_capture(self) -> None:
        MACHINE.capturing = []

    def end_capture(self) -> Graph:
        captured, MACHINE.capturing = MACHINE.capturing or [], None
        return Graph(captured)

    def wait_event(self, event: Event) -> None:
        MACHINE.events.append(("wait", id(event), self.name))


def get_current_stream() -> Stream:
    return MACHINE.streams[-1] if MACHINE.streams else Stream()


def alloc_pinned_memory(size: int) -> bytearray:
    return bytearray(size)


def memory_info() -> tuple[int, int]:
    return MACHINE.total - MACHINE.used, MACHINE.total


class _Pool:
    @staticmethod
    def free_bytes() -> int:
        return 0


class RawModule:
    """CUDA C++ that the host's compiler builds when its first kernel is asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._code, self.options = code, options

    def get_function(self, name: str) -> RawKernel:
        built = build.library(self._code)
        return RawKernel(name, built.calls[name], built.parameters[name])


class RawKernel:
    """A kernel; a launch runs it at once, or notes it where a stream captures."""

    def __init__(self, name: str, call: Any, declared: list[build.Parameter]) -> None:
        self.name, self._call, self._declared = name, call, declared
        self._packed: dict[int, tuple[Any, Any, Any]] = {}

    def __call__(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        found = self._packed.get(id(args))
        if found is None:
            self._check(grid, block, args)
            cells = [self._cell(*pair) for pair in zip(self._declared, args, strict=True)]
            pointers = (ctypes.c_void_p * len(cells))(*map(ctypes.addressof, cells))
            # Few: whatever is kept here keeps its arrays alive.
            if len(self._packed) >= KEPT:
                self._packed.pop(next(iter(self._packed)))
            found = self._packed[id(args)] = (args, cells, pointers)
        MACHINE.launches += 1
        if MACHINE.capturing is not None:
            MACHINE.capturing.append((self, grid, block, args))
            return
        seed = next(MACHINE.seed)
        order = seed % ORDERS if MACHINE.order is None else MACHINE.order
        trouble = self._call(found[2], grid[0], block[0], order, seed)
        if trouble:
            raise RuntimeError(f"kernel {self.name}: {trouble.decode()}")

    def _check(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        if not 1 <= block[0] <= 1024 or not 1 <= grid[0] < 1 << 31:
            raise ValueError(f"kernel {self.name}: CUDA_ERROR_INVALID_VALUE {grid} {block}")
        if len(args) != len(self._declared):
            raise TypeError(f"kernel {self.name} takes {len(self._declared)} arguments")

    def _cell(self, declared: build.Parameter, value: Any) -> Any:
        if isinstance(value, ndarray):
            if not declared.pointer or value.dtype != declared.dtype:
                raise TypeError(f"{self.name}: {declared.text} was given {value.dtype}")
            return ctypes.c_void_p(value.data.ptr)
        # As cupy passes them: a Python int has 64 bits, a Python float is a double.
        number = np.array(value, {int: np.int64, float: np.float64}.get(type(value)))
        null = declared.pointer and number.dtype.itemsize == 8 and number == 0
        if not null and (declared.pointer or number.dtype != declared.dtype):
            raise TypeError(f"{self.name}: {declared.text} was given {type(value).__name__}")
        cell = (ctypes.c_char * 8)()
        ctypes.memmove(cell, number.ctypes.data, number.dtype.itemsize)
        return cell


def module() -> types.ModuleType:
    """Make the module."""
    made = types.ModuleType("cupy", __doc__)
    made.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    public = (ndarray, empty, zeros, asarray, from_dlpack, matmul, RawModule, RawKernel)
    for entry in public:
        setattr(made, entry.__name__, entry)
    made.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        cublas=types.SimpleNamespace(gemmEx=gemmEx),
        get_cublas_handle=lambda: HANDLE,
        runtime=types.SimpleNamespace(memGetInfo=memory_info),
        Event=Event,
        Stream=Stream,
        get_current_stream=get_current_stream,
        get_elapsed_time=lambda start, end: 1.0,
        alloc_pinned_memory=alloc_pinned_memory,
    )
    made.get_default_memory_pool = _Pool  # type: ignore[attr-defined]
    return made


def install() -> None:
    """Put the module where ``import cupy`` finds it, and a driver where fastmlp asks for one."""
    sys.modules["cupy"] = module()
    driver.missing = lambda: None

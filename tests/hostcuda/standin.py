"""A module in the place of cupy, as strict as cupy where the backend could go wrong.

Device arrays never turn into NumPy arrays by themselves and never mix with them; fresh memory is
NaN; a launch checks number, types and widths of its arguments; while a stream captures, nothing may
be allocated, multiplied by cuBLAS or read.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import math
import sys
import types
from functools import partial
from typing import Any

import numpy as np

from fastmlp.kernels import driver

from . import build, cublas, cublaslt
from .machine import (
    MACHINE,
    Event,
    Host,
    Memory,
    OutOfMemoryError,
    Stream,
    Work,
    get_current_stream,
)

__all__ = ["MACHINE", "OutOfMemoryError"]

ORDERS = 3
"""Forward, backward, by chance: launch after launch takes the next one."""


KEPT = 24
"""Launches whose packed arguments a kernel keeps."""


class ndarray:  # noqa: N801 - cupy's name
    """An array of the device."""

    __array_ufunc__ = None

    def __init__(self, host: Host, memory: Memory) -> None:
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
            result = empty(picked.shape, picked.dtype)
            result._host[...] = picked
            return result
        found = self._host[_no_host(key)]
        return ndarray(np.asarray(found), self._memory)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("a host array is copied by set()")
        place, memories = self._host[_no_host(key)], [self._memory]
        given = value
        if isinstance(value, ndarray):
            given, memories = value._host, [self._memory, value._memory]
        MACHINE.submit(Work(lambda: np.copyto(place, given, "unsafe"), "a copy", tuple(memories)))

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
        host = self._host
        MACHINE.submit(Work(lambda: host.fill(value), "fill", (self._memory,)))

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
    kind, sizes = np.dtype(dtype), (shape,) if isinstance(shape, int | np.integer) else shape
    memory = Memory(math.prod(map(int, sizes)) * kind.itemsize)
    return ndarray(memory.bytes.view(kind).reshape(shape), memory)


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    result = empty(shape, dtype)
    result._host[...] = 0
    return result


def asarray(values: Any) -> ndarray:
    """An array that describes itself by ``__cuda_array_interface__``, without a copy."""
    given = dict(values.__cuda_array_interface__)
    given.pop("stream", None)
    seen = np.asarray(types.SimpleNamespace(__array_interface__=given, owner=values))
    return ndarray(seen, Memory(0))


def from_dlpack(values: Any) -> ndarray:
    """An array of another library, without a copy; here its memory is the host's."""
    return ndarray(np.from_dlpack(values), Memory(0))


def matmul(a: Any, b: Any, out: Any) -> ndarray:
    """The product of two matrices, by cuBLAS and therefore not while a stream captures."""
    MACHINE.refuse("cuBLAS")
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


def random(size: Any) -> ndarray:
    """Uniform numbers, by cuRAND and therefore not while a stream captures."""
    MACHINE.refuse("cuRAND")
    result = empty(size)
    result._host[...] = np.random.default_rng(0).random(size)
    return result


def alloc_pinned_memory(size: int) -> bytearray:
    """Page-locked memory of the host."""
    MACHINE.allow("an allocation of page-locked memory")
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
        _, cells, pointers = found
        memories = tuple(value._memory for value in args if isinstance(value, ndarray))
        # Cells, but not arrays, go into a graph with the work.
        run = partial(self._run, cells, pointers, grid[0], block[0])
        MACHINE.submit(Work(run, f"kernel {self.name}", memories))

    def _run(self, cells: Any, pointers: Any, grid: int, block: int) -> None:
        seed = next(MACHINE.seed)
        order = seed % ORDERS if MACHINE.order is None else MACHINE.order
        trouble = self._call(pointers, grid, block, order, seed)
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
        cublas=types.SimpleNamespace(gemmEx=cublas.gemmEx),
        get_cublas_handle=lambda: cublas.HANDLE,
        runtime=types.SimpleNamespace(
            memGetInfo=memory_info,
            getDevice=lambda: 0,
            getDeviceProperties=lambda device: {"name": b"Stand-in"},
        ),
        Device=lambda: types.SimpleNamespace(id=0, compute_capability="90"),
        Event=Event,
        Stream=Stream,
        get_current_stream=get_current_stream,
        get_elapsed_time=lambda start, end: 1.0,
        alloc_pinned_memory=alloc_pinned_memory,
    )
    made.random = types.SimpleNamespace(random=random)  # type: ignore[attr-defined]
    made.get_default_memory_pool = _Pool  # type: ignore[attr-defined]
    return made


def install() -> None:
    """Put the module where ``import cupy`` finds it, and a driver where fastmlp asks for one."""
    sys.modules["cupy"] = module()
    driver.missing = lambda: None
    driver.library = {"cublasLt": cublaslt.library()}.__getitem__

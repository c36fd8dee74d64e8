"""How kernels are compiled, kept and linked.

Two kinds of function, each with its decorator:

- `inline`: small helpers; numba links them into every caller.
- `family`: a block of loops behind one integer code, compiled on its own and called by name, from
  other kernels or from Python with the GIL released. A nested njit function would be optimised
  again inside each of its callers; this way the whole vocabulary compiles in about half the time,
  and at block granularity the call costs nothing measurable.

`native` makes a family one C function, `objects` keeps it in a file and links it. A process that
finds all files never sets numba's own machinery in motion: a first result takes 0.45 s instead of
0.77 (Zen 3). The folder is named after a hash of all sources that reach compiled code, lies in the
user's cache folder, and what it lacks is compiled anew where it can't be written. At a cold start
two processes fill it (`compiling`).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin

from ..interrupts import deferred
from . import compiling, native, objects

REAL = "real"
POINTER = "real*"
ARRAY = "array"
INTEGER = types.int64
INTEGERS = types.CPointer(types.int64)
DOUBLE = types.float64
DOUBLES = types.CPointer(types.float64)
NOTHING = types.void

PRECISIONS = {"float32": types.float32, "float64": types.float64}

_INNER = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_rewrites": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "forceinline": True,
}
_lock = threading.RLock()


def _hold() -> None:
    """Let no thread be in the middle of compiling when this process forks."""
    _lock.acquire()
    global_compiler_lock.acquire()


def _let_go() -> None:
    global_compiler_lock.release()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)


def cache_folder() -> Path | None:
    """Folder of the compiled kernels, or None where caching is off or nowhere allowed.

    ``FASTMLP_CACHE=0`` turns it off, ``FASTMLP_CACHE_DIR`` moves it.
    """
    if os.environ.get("FASTMLP_CACHE") == "0":
        return None
    try:
        return _user_cache() / f"kernels-{_source_hash()}"
    except (RuntimeError, OSError):  # no home folder
        return None


def _user_cache() -> Path:
    if chosen := os.environ.get("FASTMLP_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "fastmlp" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastmlp"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastmlp"


@cache
def _source_hash() -> str:
    versions = numba.__version__, llvmlite.__version__, platform.python_version()
    # Builds of one version differ in how large an object's head is: kernels look behind it.
    digest = hashlib.sha256(repr((versions, object.__basicsize__)).encode())
    folder = Path(__file__).resolve().parent
    for path in sorted((*folder.parent.glob("*.py"), *folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _machine() -> str:
    """Name of the processor that code is made for, and a hash of what else decides about it."""
    wanted = native.target()
    digest = hashlib.sha256(repr(wanted).encode()).hexdigest()[:8]
    return f"{wanted.processor}-{digest}"


@cache
def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _folder(dtype: str) -> Path | None:
    """Where this machine's kernels of a precision are read from, and written to if possible."""
    folder = cache_folder()
    return folder / dtype / _machine() if folder is not None else None


def inline(function: Callable[..., Any]) -> Any:
    """Compile into each caller."""
    return numba.njit(pipeline_class=native.Lowered, **_INNER)(function)


_CTYPES = {
    types.void: None,
    types.int64: ctypes.c_int64,
    types.float32: ctypes.c_float,
    types.float64: ctypes.c_double,
    ARRAY: ctypes.py_object,
}


class Family:
    """A function of pointers and numbers that is compiled apart, once per precision."""

    def __init__(
        self,
        function: Callable[..., Any],
        result: Any,
        arguments: tuple[Any, ...],
        on_demand: bool,
        early: bool = False,
    ):
        self.on_demand = on_demand
        self.early = early
        self.function = function
        self.result = result
        self.arguments = arguments
        self.compiled: set[str] = set()
        """Precisions for which this process has made the code."""
        self._doors: dict[str, Callable[..., Any]] = {}
        self.__doc__ = function.__doc__
        self.name = function.__name__.strip("_")
        _FAMILIES.append(self)
        _make_callable(self)

    def symbol(self, real: Any) -> str:
        """Name under which the linker finds the compiled function."""
        return f"fastmlp_{self.name}_{real.name}"

    def signature(self, real: Any) -> Any:
        """The numba signature for one precision."""
        table = {REAL: real, POINTER: types.CPointer(real), ARRAY: INTEGER}
        result, *arguments = (table.get(a, a) for a in (self.result, *self.arguments))
        return signature(result, *arguments)

    def obtain(self, dtype: str) -> native.Compiled:
        """Read the code from its file, or compile and keep it."""
        real = PRECISIONS[dtype]
        # Of other modules the folder's name does not know the source.
        ours = self.function.__module__.startswith(f"{__package__}.")
        folder = _folder(dtype) if ours else None
        path = folder / f"{self.symbol(real)}.o" if folder is not None else None
        kept = objects.read(path) if path is not None else None
        if kept is not None:
            return kept
        wanted = self.signature(real)
        with deferred():  # inside of LLVM's callbacks KeyboardInterrupt would be lost
            made = native.compiled(
                self.function,
                wanted.args,
                wanted.return_type,
                self.symbol(real),
                thorough=self.on_demand,
            )
            self.compiled.add(dtype)
            if path is not None:
                objects.write(path, made)
        return made

    def of(self, dtype: str) -> Callable[..., Any]:
        """The compiled function, for calls from Python; pointers are addresses."""
        door = self._doors.get(dtype)
        if door is None:
            prepare(dtype)
            with _lock:
                if dtype not in self._doors:
                    _link([self], dtype)
            door = self._doors[dtype]
        return door

    def found(self, dtype: str, address: int) -> None:
        """Take in where the linker has put the function."""
        kinds = {**_CTYPES, REAL: _CTYPES[PRECISIONS[dtype]]}
        wanted: list[Any] = [kinds.get(a, ctypes.c_void_p) for a in (self.result, *self.arguments)]
        self._doors[dtype] = ctypes.CFUNCTYPE(*wanted)(address)


_FAMILIES: list[Family] = []
_NOTHING_MADE: Mapping[str, native.Compiled] = {}
_ready: set[str] = set()


def family(
    result: Any, *arguments: Any, on_demand: bool = False, early: bool = False
) -> Callable[[Callable[..., Any]], Family]:
    """Compile apart; `REAL` and `POINTER` stand for the precision's number and pointer.

    `ARRAY` is a NumPy array in a call from Python; the kernel gets the address of the object.

    With `on_demand`, it is compiled when it is first called from Python; the others are compiled
    together, those that are `early` first. That is for large ones where two processes would meet:
    one would wait for the other (with shuffles and dropout early, 0.6 to 1.2 s of 12 to 13).
    """

    def decorate(function: Callable[..., Any]) -> Family:
        return Family(function, result, arguments, on_demand, early)

    return decorate


MANY = 6
"""Kernels to compile from which on a second process helps: it starts in about a second."""


def prepare(dtype: str, threads: int = 1) -> None:
    """Compile or load the families of one precision, before any of them is called.

    With `threads` above 1, a second process compiles half of what the cache does not have.
    """
    if dtype in _ready:
        return
    with _lock:
        if dtype in _ready:
            return
        members = [member for member in _FAMILIES if not member.on_demand]
        members.sort(key=lambda member: not member.early)
        folder, made = _folder(dtype), {}
        if threads > 1 and folder is not None and compiling.can_share():
            real = PRECISIONS[dtype]
            left = [m for m in members if not objects.readable(folder / f"{m.symbol(real)}.o")]
            if len(left) >= MANY and _writable(folder):
                made = _compile_half(left, dtype)
        _link(members, dtype, made)
        _ready.add(dtype)


def _link(
    members: Iterable[Family], dtype: str, made: Mapping[str, native.Compiled] = _NOTHING_MADE
) -> None:
    """Make members callable; those that are in `made`, by name, need not be obtained."""
    by_symbol = {member.symbol(PRECISIONS[dtype]): member for member in members}
    code = {s: made.get(m.name) or m.obtain(dtype) for s, m in by_symbol.items()}
    with deferred():  # nobody could tell what half a link has left in memory
        for symbol, address in objects.link(code).items():
            by_symbol[symbol].found(dtype, address)


def _compile_half(members: list[Family], dtype: str) -> dict[str, native.Compiled]:
    """Compile some; another process leaves the others in the cache, if it can."""
    by_name, made = {member.name: member for member in members}, {}
    with suppress(OSError), compiling.share(list(by_name), dtype) as mine:
        for name in mine:
            made[name] = by_name[name].obtain(dtype)
    return made


def compile_from_the_end(dtype: str, names: list[str]) -> None:
    """In the other process: fill the cache; nothing is linked or called here."""
    parent = os.getppid()
    by_name = {member.name: member for member in _FAMILIES}
    for name in reversed(names):
        if os.getppid() != parent or not compiling.take(compiling.STDIN):
            break
        by_name[name].obtain(dtype)
    os._exit(0)  # a regular end takes LLVM a while


def _make_callable(member: Family) -> None:
    """Teach numba that `member`, as a global of jitted code, is a call to an external symbol."""

    class Template(AbstractTemplate):
        key = member

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != len(member.arguments):  # C would take no notice
                return None
            for argument in args:
                if isinstance(argument, types.CPointer) and isinstance(argument.dtype, types.Float):
                    return member.signature(argument.dtype)
            return None

    infer_global(member, types.Function(Template))

    @lower_builtin(member, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        real = next(
            a.dtype
            for a in sig.args
            if isinstance(a, types.CPointer) and isinstance(a.dtype, types.Float)
        )
        kinds = [context.get_value_type(a) for a in sig.args]
        result = context.get_value_type(sig.return_type)
        if sig.return_type == types.void:
            result = ir.VoidType()
        name = member.symbol(real)
        callee = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(result, kinds), name
        )
        value = builder.call(callee, args)
        return context.get_dummy_value() if sig.return_type == types.void else value

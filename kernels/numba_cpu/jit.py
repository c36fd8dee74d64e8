"""How kernels are compiled, cached and linked.

Three kinds of function, each with its decorator:

- `inline`: small helpers; numba links them into every caller.
- `family`: a block of loops behind one integer code, compiled on its own and called by name. A
  nested njit function would be optimised again inside each of its callers; this way the whole
  vocabulary compiles in about half the time, and at block granularity the call costs nothing
  measurable.
- `entry`: what Python calls, with arrays and the GIL released.

The disk cache does not trust file times of single files: its folder is named after a hash of all
sources that reach compiled code, lies in the user's cache folder, and where it can't be written
kernels compile anew. At a cold start two processes fill it (`compiling`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin

from ..interrupts import deferred
from . import compiling
from .lighter import spare_scipy

REAL = "real"
POINTER = "real*"
INTEGER = types.int64
INTEGERS = types.CPointer(types.int64)
DOUBLES = types.CPointer(types.float64)

PRECISIONS = {"float32": types.float32, "float64": types.float64}

_OPTIONS = {"error_model": "numpy", "boundscheck": False, "no_rewrites": True}
_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
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
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()}".encode())
    folder = Path(__file__).resolve().parent
    for path in sorted((*folder.parent.glob("*.py"), *folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = previous


@cache
def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`; else numba would write into the package instead."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _usable_folder(part: str = "") -> Path | None:
    folder = cache_folder()
    return folder / part if folder is not None and _writable(folder / part) else None


def _enable_cache(compiled: Any, part: str = "") -> None:
    folder = _usable_folder(part)
    if folder is None:
        return
    with _lock, _cache_in(folder):
        try:
            compiled.enable_caching()
        except (RuntimeError, OSError):  # no folder that can be written to
            return


def inline(function: Callable[..., Any]) -> Any:
    """Compile into each caller."""
    return numba.njit(**_INNER)(function)


class Entry:
    """A function that Python calls, compiled per argument types, with the GIL released.

    Each precision has its cache for itself: numba keeps a function's code for all types in one
    index, and two processes that add to it at the same moment could swap theirs.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.__doc__ = function.__doc__
        self._compiled: dict[str, Any] = {}

    def of(self, dtype: str) -> Any:
        """What to call with numbers of one precision; "" for functions of integers alone."""
        compiled = self._compiled.get(dtype)
        if compiled is None:
            with _lock:
                spare_scipy()
                compiled = numba.njit(nogil=True, **_OPTIONS)(self.function)
                _enable_cache(compiled, dtype)
                compiled = self._compiled.setdefault(dtype, compiled)
        return compiled

    def __call__(self, *arguments: Any) -> Any:
        """Call for the precision of the first NumPy number."""
        names = (x.dtype.name for x in arguments if isinstance(x, np.floating))
        return self.of(next(names, ""))(*arguments)


def entry(function: Callable[..., Any]) -> Entry:
    """Compile for calls from Python."""
    return Entry(function)


class Family:
    """A function of pointers and numbers that is compiled apart, once per precision."""

    def __init__(
        self,
        function: Callable[..., Any],
        result: Any,
        arguments: tuple[Any, ...],
        on_demand: bool,
    ):
        self.on_demand = on_demand
        self.function = function
        self.result = result
        self.arguments = arguments
        self._compiled: dict[str, CFunc] = {}
        self.__doc__ = function.__doc__
        self.name = function.__name__
        _FAMILIES.append(self)
        _make_callable(self)

    def symbol(self, real: Any) -> str:
        """Name under which the linker finds the compiled function."""
        return f"fastmlp_{self.name}_{real.name}"

    def signature(self, real: Any) -> Any:
        """The numba signature for one precision."""
        table = {REAL: real, POINTER: types.CPointer(real)}
        arguments = [table.get(a, a) if isinstance(a, str) else a for a in self.arguments]
        return signature(
            table.get(self.result, self.result) if isinstance(self.result, str) else self.result,
            *arguments,
        )

    def compile(self, dtype: str) -> None:
        """Compile or load, and tell the linker where the function is."""
        if dtype not in self._compiled:
            with _lock:
                self._compile(dtype)

    def _compile(self, dtype: str) -> None:
        spare_scipy()
        real = PRECISIONS[dtype]
        sig = self.signature(real)
        compiled = CFunc(self.function, (sig.args, sig.return_type), {}, dict(_OPTIONS))
        # Each precision in a folder of its own: of two processes that write to one index at the
        # same time, Numba can leave the code of one of them under the other one's key.
        _enable_cache(compiled, dtype)
        with deferred():  # inside of LLVM's callbacks KeyboardInterrupt would be lost
            compiled.compile()
        llvm.add_symbol(self.symbol(real), compiled.address)
        self._compiled[dtype] = compiled


_FAMILIES: list[Family] = []
_ready: set[str] = set()


def family(
    result: Any, *arguments: Any, on_demand: bool = False
) -> Callable[[Callable[..., Any]], Family]:
    """Compile apart; `REAL` and `POINTER` stand for the precision's number and pointer.

    With `on_demand`, who calls it compiles it first; the others are compiled together.
    """

    def decorate(function: Callable[..., Any]) -> Family:
        return Family(function, result, arguments, on_demand)

    return decorate


def prepare(dtype: str, threads: int = 1) -> None:
    """Compile or load the families of one precision, callees first, before any entry is called.

    With `threads` above 1, a second process compiles half of them where the cache has none.
    """
    if dtype in _ready:
        return
    with _lock:
        members = [member for member in _FAMILIES if not member.on_demand]
        folder = _usable_folder(dtype)
        cold = folder is not None and compiling.is_cold(folder)
        if cold and threads > 1 and compiling.can_share():
            _compile_half(members, dtype)
        for member in members:
            member.compile(dtype)
        if folder is not None and cold:
            compiling.set_warm(folder)
        _ready.add(dtype)


def _compile_half(members: list[Family], dtype: str) -> None:
    """Compile some, callees first; another process leaves the others in the cache, if it can."""
    by_name = {member.name: member for member in members}
    with suppress(OSError), compiling.share(list(by_name), dtype) as mine:
        for name in mine:
            by_name[name].compile(dtype)


def compile_from_the_end(dtype: str, names: list[str]) -> None:
    """In the other process: fill the cache, callers first, for nothing is ever called here.

    The linker wants an address for each callee all the same. It does not reach the cache.
    """
    parent = os.getppid()
    by_name = {member.name: member for member in _FAMILIES}
    for member in _FAMILIES:
        llvm.add_symbol(member.symbol(PRECISIONS[dtype]), 1)
    for name in reversed(names):
        if os.getppid() != parent or not compiling.take(compiling.STDIN):
            break
        by_name[name].compile(dtype)
    os._exit(0)  # a regular end takes LLVM a while


def _make_callable(member: Family) -> None:
    """Teach numba that `member`, as a global of jitted code, is a call to an external symbol."""

    class Template(AbstractTemplate):
        key = member

        def generic(self, args: Any, kws: Any) -> Any:
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

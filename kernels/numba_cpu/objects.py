"""Object code of kernels: kept in files, and linked into this process.

A file holds one kernel. It is written under another name and moved, so that nobody sees half of
one; a digest tells whether it is whole. LLVM ends the process where a name is missing that the code
calls, so each file lists these and they are looked up first.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config
from numba.core.registry import cpu_target

from .native import Compiled

_DIGEST = 16


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def read(path: Path) -> Compiled | None:
    """Read a kernel; None where there is none, or no whole one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:_DIGEST], content[_DIGEST:]
    if _digest(content) != digest:
        return None
    names, _, code = content.partition(b"\n")
    return Compiled(code, tuple(names.decode().split()))


def write(path: Path, kernel: Compiled) -> None:
    """Write a kernel; where that fails, there is none."""
    content = " ".join(kernel.needs).encode() + b"\n" + kernel.code
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(content) + content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


@cache
def _engine() -> Any:
    """LLVM's linker; it has the code for as long as the process lives."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
    nothing = llvm.parse_assembly("")
    return llvm.create_mcjit_compiler(nothing, machine, use_lmm=config.USE_LLVMLITE_MEMORY_MANAGER)


def _missing(kernels: Mapping[str, Compiled]) -> set[str]:
    """Names that kernels need and nobody has."""
    needed = {name for kernel in kernels.values() for name in kernel.needs}
    return {n for n in needed - kernels.keys() if llvm.address_of_symbol(n) is None}


def link(kernels: Mapping[str, Compiled]) -> dict[str, int]:
    """Put kernels, by the names of their functions, into memory; return the functions' addresses.

    Raises
    ------
    RuntimeError
        They call what nobody has defined.
    """
    if _missing(kernels):
        cpu_target.target_context.refresh()  # numba adds what the C library does not show
    if missing := _missing(kernels):
        raise RuntimeError(f"compiled kernels need functions that are not there: {missing}")
    engine = _engine()
    for kernel in kernels.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(kernel.code))
    engine.finalize_object()
    addresses = {name: engine.get_function_address(name) for name in kernels}
    for name, address in addresses.items():
        llvm.add_symbol(name, address)
    return addresses

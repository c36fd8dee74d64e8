"""Object code of kernels: kept in files, and linked into this process.

A file holds one kernel. It is written under another name and moved, so that nobody sees half of
one; a digest tells whether it is whole. LLVM ends the process where a name is missing that the code
calls, so each file lists those of its source (the C library's memset or pow, which LLVM adds, are
always there), and they are looked up first.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import config

from .native import Compiled

_DIGEST = 16


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_DIGEST]


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


def readable(path: Path) -> bool:
    """Whether a file is there and may be read."""
    return os.access(path, os.R_OK)


def write(path: Path, kernel: Compiled) -> None:
    """Write a kernel; where that fails, there is none."""
    content = " ".join(kernel.needs).encode() + b"\n" + kernel.code
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile: its files can be read by their owner only.
        half = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            half.write_bytes(_digest(content) + content)
            half.replace(path)
        except BaseException:
            with suppress(OSError):
                half.unlink(missing_ok=True)
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
    engine = _engine()  # which knows the C library's names
    if missing := _missing(kernels):
        raise RuntimeError(f"compiled kernels need functions that are not there: {missing}")
    for kernel in kernels.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(kernel.code))
    engine.finalize_object()
    addresses = {name: engine.get_function_address(name) for name in kernels}
    for name, address in addresses.items():
        llvm.add_symbol(name, address)
    return addresses

"""NVIDIA's run-time compiler, which needs neither a driver nor a GPU to compile."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .build import KERNEL


class Compiled(NamedTuple):
    """What the compiler said of a module."""

    cubin: bytes
    log: str
    resources: dict[str, dict[str, int]]
    """Kernel -> registers, bytes of shared memory, of stack and of spills."""


@cache
def _library() -> Any | None:
    """The library of the wheel nvidia-cuda-nvrtc, whichever CUDA it is for."""
    places: list[Path] = []
    for package in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = find_spec(package)
        except ModuleNotFoundError:
            continue
        places += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    found = [path for place in places for path in sorted(place.glob("lib/libnvrtc.so.*"))]
    names = [path for path in found if "builtins" not in path.name]
    return ctypes.CDLL(str(names[0])) if names else None


def version() -> str | None:
    """The compiler's version, None where there is no compiler."""
    library = _library()
    if library is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def architectures() -> list[int]:
    """Compute capabilities that the compiler knows."""
    library, count = _library(), ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    return list(known)


def compiled(code: str, options: tuple[str, ...], architecture: int) -> Compiled:
    """Compile to machine code for sm_<architecture>."""
    library, program = _library(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    words = [*options, f"-arch=sm_{architecture}", "--ptxas-options=-v"]
    given = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    status = library.nvrtcCompileProgram(program, len(words), given)
    log = _bytes(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program).decode()
    try:
        if status:
            raise RuntimeError(f"NVRTC refused the kernels for sm_{architecture}:\n{log}")
        cubin = _bytes(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(cubin, log, _resources(log))


def kernels(code: str) -> set[str]:
    """Names of the kernels of a source."""
    return {name for name, _ in KERNEL.findall(code)}


def _bytes(size_of: Any, read: Any, program: Any) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(program, buffer)
    return buffer.raw[: size.value].rstrip(b"\0") if size.value else b""


_FUNCTION = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def _resources(log: str) -> dict[str, dict[str, int]]:
    found = {}
    for name, stack, stores, loads, registers, rest in _FUNCTION.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        found[name] = {
            "registers": int(registers),
            "shared": int(shared.group(1)) if shared else 0,
            "stack": int(stack),
            "spills": int(stores) + int(loads),
        }
    return found

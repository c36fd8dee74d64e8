"""CUDA source built by the host compiler, and its kernels as calls."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SHIM = Path(__file__).with_name("shim.hpp")
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-Wl,-Bsymbolic")

_START = r'^(?:KERNEL|extern "C" __global__ void'
KERNEL = re.compile(_START + r") (\w+)\(([^)]*)\)", re.MULTILINE)
DEFINED = re.compile(_START + r"|inline __device__ [\w ]+) (\w+)\(", re.MULTILINE)
WAITS = ("__syncthreads", "__shfl_xor_sync")

TYPES = {
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "unsigned int": "uint32",
    "whole": "int64",
    "word": "uint64",
    "unsigned char": "uint8",
    "bf16": "uint16",
    "half_bits": "float16",
}


class Parameter(NamedTuple):
    """One parameter of a kernel: how C++ writes it, and what it must be given."""

    text: str
    pointer: bool
    dtype: np.dtype[Any]


class Library(NamedTuple):
    """A built module."""

    calls: dict[str, Any]
    parameters: dict[str, list[Parameter]]


def compiler() -> str | None:
    """The host's C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++"))


def parameters(code: str) -> dict[str, list[Parameter]]:
    """Each kernel with its parameters."""
    pairs = re.findall(r"^typedef ([\w ]+) (\w+);", code, re.MULTILINE)
    known = {alias: kind for kind, alias in pairs}
    return {
        name: [_parameter(text, known) for text in given.split(",")]
        for name, given in KERNEL.findall(code)
    }


def _parameter(text: str, aliases: dict[str, str]) -> Parameter:
    plain = " ".join(text.replace("*", " * ").split()).rpartition(" ")[0]
    kind = plain.replace("const ", "").replace("*", "").strip()
    if kind in aliases and aliases[kind] in TYPES:
        kind = aliases[kind]
    return Parameter(plain, "*" in plain, np.dtype(TYPES[kind]))


def waiting(code: str) -> set[str]:
    """Functions that come to a barrier or a shuffle, by themselves or through others."""
    code = re.sub(r"//.*", "", code)
    places = [(found.start(), found.group(1)) for found in DEFINED.finditer(code)]
    ends = [start for start, _ in places[1:]] + [len(code)]
    bodies: dict[str, str] = {}
    for (start, name), end in zip(places, ends, strict=True):
        bodies[name] = bodies.get(name, "") + code[start:end].partition("{")[2]
    found = set(WAITS)
    while True:
        more = {
            name
            for name, body in bodies.items()
            if name not in found and set(re.findall(r"\b\w+\b", body)) & found
        }
        if not more:
            return found
        found |= more


@cache
def library(code: str) -> Library:
    """Build a module, or take the one that was built from the same source before."""
    declared, slow = parameters(code), waiting(code)
    text = "\n".join(
        [f'#include "{SHIM.name}"', code, *(_entry(n, p, n in slow) for n, p in declared.items())]
    )
    extra = tuple(os.environ.get("FASTMLP_HOSTCUDA_FLAGS", "").split())
    whole = "\n".join([str(compiler()), *FLAGS, *extra, SHIM.read_text(), text])
    digest = hashlib.sha256(whole.encode()).hexdigest()[:20]
    folder = Path(os.environ.get("FASTMLP_CACHE_DIR") or tempfile.gettempdir()) / "hostcuda"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest}.so"
    if not path.exists():
        _compile(text, path, extra)
    # PyDLL: the lock of the interpreter stays, because the shim has one set of threads.
    loaded = ctypes.PyDLL(str(path))
    calls = {name: getattr(loaded, f"start_{name}") for name in declared}
    for call in calls.values():
        call.restype = ctypes.c_char_p
    return Library(calls, declared)


def _compile(text: str, path: Path, extra: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "module.cpp", Path(folder) / "module.so"
        source.write_text(text)
        command = [str(compiler()), *FLAGS, *extra, "-I", str(SHIM.parent)]
        built = subprocess.run(
            [*command, "-o", str(made), str(source)], capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise RuntimeError(f"the host compiler refused the kernels:\n{built.stderr}")
        # A rename in the same folder: processes that build at once see whole files.
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        shutil.copy(made, beside)
        beside.replace(path)


def _entry(name: str, given: list[Parameter], fibered: bool) -> str:
    arguments = ", ".join(f"*({p.text} *)a[{place}]" for place, p in enumerate(given))
    return (
        f'extern "C" const char *start_{name}(void **a, int grid, int block, int order, '
        f"unsigned seed) {{ return host::run([](void **a) {{ {name}({arguments}); }}, a, grid, "
        f"block, {'true' if fibered else 'false'}, order, seed); }}"
    )

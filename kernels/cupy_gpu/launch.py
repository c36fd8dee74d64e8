"""Kernels by name: one module of CUDA C++ for each precision, and launches whose types are checked.

CuPy passes a Python int as 64 bits and a Python float as a double, whatever the kernel's parameter
is: a kernel that takes a float would read garbage. So every launch is made from the parameters that
the source itself declares.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from ..contract import NORMALIZATION_EPSILON
from . import codes
from .device import raw_module

SOURCES = (
    "numbers.cuh",
    "elementary.cuh",
    "random.cu",
    "gather.cu",
    "reductions.cu",
    "products.cu",
    "activations.cu",
    "losses.cu",
    "normalization.cu",
    "updates.cu",
)
"""In this order they make one text."""

BLOCK = 256
"""Most threads of a block; the kernels declare it as their launch bound."""

BLOCKS = 4096
"""Most blocks of a launch; threads walk through what is left."""

SHORT_ROW = 32
"""Longest row that one thread takes alone; longer ones get the 32 threads of a warp."""

OPTIONS = ("-std=c++17",)
"""For NVRTC. Nothing here may trade accuracy: no --use_fast_math."""

_SIGNATURE = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)


class Precision(NamedTuple):
    """How numbers are computed and stored, in C++ and in NumPy's words."""

    real: str
    stored: str
    compute: str
    """NumPy dtype of parameters, losses and all that is not `stored`."""
    memory: str
    """NumPy dtype of the bits of `stored`."""


PRECISIONS = {
    "float32": Precision("float", "float", "float32", "float32"),
    "float64": Precision("double", "double", "float64", "float64"),
    "bfloat16": Precision("float", "bf16", "float32", "uint16"),
}
"""Name of a set of kernels -> its types."""

KERNELS_OF = {"float32": "float32", "tf32": "float32", "float64": "float64", "bfloat16": "bfloat16"}
"""Precision of a network -> its kernels; tf32 is float32 but for the products."""


class Parameter(NamedTuple):
    """What a kernel declares."""

    pointer: bool
    dtype: np.dtype[Any]


class Launch(NamedTuple):
    """A kernel with its arguments, ready to run again and again."""

    kernel: Any
    grid: tuple[int]
    block: tuple[int]
    arguments: tuple[Any, ...]

    def __call__(self) -> None:
        """Start it on the current stream."""
        self.kernel(self.grid, self.block, self.arguments)


class Kernels:
    """The kernels of one precision."""

    def __init__(self, precision: str) -> None:
        self.precision = PRECISIONS[precision]
        self.dtype: np.dtype[Any] = np.dtype(self.precision.compute)
        self.stored: np.dtype[Any] = np.dtype(self.precision.memory)
        code = source(precision)
        self.parameters = {
            name: tuple(_parameter(text, self.precision) for text in _split(given))
            for name, given in _SIGNATURE.findall(code)
        }
        self._module = raw_module(code, OPTIONS)
        self._functions: dict[str, Any] = {}

    def launch(self, name: str, threads: int, *arguments: Any, block: int = 0) -> Launch:
        """Join a kernel, a number of threads and arguments; None is a null pointer.

        Raises
        ------
        TypeError
            An argument is not what the kernel declares.
        """
        wanted = self.parameters[name]
        if len(arguments) != len(wanted):
            raise TypeError(f"{name} takes {len(wanted)} arguments; got {len(arguments)}")
        typed = tuple(
            _argument(name, place, parameter, value)
            for place, (parameter, value) in enumerate(zip(wanted, arguments, strict=True))
        )
        size = block or min(BLOCK, -(-max(threads, 1) // 32) * 32)
        grid = min(BLOCKS, max(1, -(-threads // size)))
        return Launch(self._function(name), (grid,), (size,), typed)

    def one_block(self, name: str, items: int, *arguments: Any) -> Launch:
        """As `launch`, for kernels that sum over their only block."""
        block = 32
        while block < min(items, BLOCK):
            block *= 2
        return self.launch(name, block, *arguments, block=block)

    def by_rows(self, name: str, rows: int, columns: int, *arguments: Any) -> Launch:
        """As `launch`, for kernels that come for short and for long rows."""
        if columns <= SHORT_ROW:
            return self.launch(f"{name}_short", rows, *arguments)
        return self.launch(f"{name}_long", 32 * rows, *arguments)

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return self._functions[name]


def source(precision: str) -> str:
    """The whole text of a precision's module."""
    types = PRECISIONS[precision]
    limits = np.finfo(types.compute)
    lines = [
        f"#define SMALLEST {float(limits.tiny)!r}",
        f"#define EPSILON {float(limits.eps)!r}",
        f"#define VARIANCE_EPSILON {NORMALIZATION_EPSILON!r}",
        f"#define SELU_SCALE {codes.SELU_SCALE!r}",
        f"#define SELU_ALPHA {codes.SELU_ALPHA!r}",
        *(f"#define {name} {code}" for name, code in codes.defined().items()),
        "struct bf16;",
        f"typedef {types.real} real;",
        f"typedef {types.stored} stored;",
    ]
    folder = files(__package__) / "cuda"
    texts = [(folder / name).read_text(encoding="utf-8") for name in SOURCES]
    return "\n".join([*lines, *texts])


_loading = threading.Lock()


def kernels_of(precision: str) -> Kernels:
    """The kernels of a precision, made when first asked for."""
    with _loading:
        return _made(precision)


@cache
def _made(precision: str) -> Kernels:
    return Kernels(precision)


_TYPES = {
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


def _split(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split(",")]


def _parameter(text: str, precision: Precision) -> Parameter:
    declared, _, _ = text.removeprefix("const ").replace("*", " * ").rpartition(" ")
    kind = declared.replace("*", "").strip()
    kind = {"real": precision.real, "stored": precision.stored}.get(kind, kind)
    return Parameter("*" in text, np.dtype(_TYPES[kind]))


_NULL = np.uint64(0)


def _argument(name: str, place: int, wanted: Parameter, value: Any) -> Any:
    if not wanted.pointer:
        return wanted.dtype.type(value)
    if value is None:
        return _NULL
    if value.dtype != wanted.dtype or not value.flags.c_contiguous:
        raise TypeError(
            f"argument {place} of {name} must be a contiguous array of {wanted.dtype}; "
            f"got {value.dtype}"
        )
    return value

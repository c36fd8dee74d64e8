"""Algorithms of products that were chosen by their times: a file of ``benchmarks/tune_gpu.py``.

Without a file the rule of `cublaslt` chooses. With one, bits depend on it; so whoever says how a
network computes names it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import cupy

from .cublaslt import Algorithm, library

VARIABLE = "FASTMLP_GPU_CHOICES"
"""Names the file, for the networks that are built from now on."""


class Choices(NamedTuple):
    """What a file says."""

    name: str
    """Digits of the file's hash; empty where there is no file."""
    algorithms: Mapping[str, bytes]
    """`Product.key` -> the bytes of cublasLtMatmulAlgo_t."""


NONE = Choices("", MappingProxyType({}))


def in_use() -> Choices:
    """The choices that hold for a new plan; errors as `read` has them."""
    path = os.environ.get(VARIABLE)
    if not path:
        return NONE
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: {error}") from error


def read(path: str | os.PathLike[str]) -> Choices:
    """Read a file.

    Raises
    ------
    OSError, ValueError
        It can't be read, or belongs to another device or library.
    """
    raw = Path(path).read_bytes()
    try:
        record = json.loads(raw)
        made = {name: record[name] for name in ("device", "library")}
        algorithms = {str(key): bytes.fromhex(text) for key, text in record["products"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)} holds no choices: {error}") from error
    if {len(algorithm) for algorithm in algorithms.values()} - {ctypes.sizeof(Algorithm)}:
        raise ValueError(f"{os.fspath(path)} holds algorithms of the wrong size")
    if made != here():
        raise ValueError(
            f"{os.fspath(path)} was made for {made}, and this is {here()}: make another one with "
            "benchmarks/tune_gpu.py"
        )
    return Choices(hashlib.sha256(raw).hexdigest()[:8], MappingProxyType(algorithms))


def write(path: str | os.PathLike[str], algorithms: Mapping[str, bytes]) -> None:
    """Write a file for this device and library."""
    products = {key: algorithms[key].hex() for key in sorted(algorithms)}
    Path(path).write_text(json.dumps({**here(), "products": products}, indent=1) + "\n")


def here() -> dict[str, Any]:
    """What a file is made for: the same algorithm may not exist elsewhere."""
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    name = properties["name"]
    return {
        "device": name.decode() if isinstance(name, bytes) else name,
        "library": int(library().cublasLtGetVersion()),
    }

"""What this machine has of NVIDIA's, found out without importing CuPy: a GPU, and libraries."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@cache
def missing() -> str | None:
    """Say what is missing, or None: a driver, or a device that it can use."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"no NVIDIA driver is installed ({_LIBRARY} can't be loaded)"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver finds no GPU that it can use (cuInit gave error {status})"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "the NVIDIA driver finds no GPU"


def library(name: str) -> Any:
    """A library of the CUDA toolkit, found where CuPy finds its own.

    Raises
    ------
    ImportError, OSError, RuntimeError
        It isn't there, or can't be loaded.
    """
    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib(name).abs_path)

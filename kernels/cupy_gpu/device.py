"""The one place that imports CuPy, and what the rest of this backend calls an array."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from ..contract import Array

DeviceArray = Any
"""A cupy.ndarray."""

empty = cupy.empty
zeros = cupy.zeros


def is_device(array: Any) -> bool:
    """Whether an array lies on the device."""
    return isinstance(array, cupy.ndarray)


def as_device(values: Any) -> DeviceArray:
    """An array of another library that lies on the device, as CuPy sees it; nothing is copied."""
    if is_device(values):
        return values
    if hasattr(values, "__cuda_array_interface__"):
        return cupy.asarray(values)
    return cupy.from_dlpack(values)


def upload(array: Array, dtype: Any) -> DeviceArray:
    """Copy a host array to the device, C-contiguous and in `dtype`."""
    host = np.ascontiguousarray(array, dtype)
    result = empty(host.shape, host.dtype)
    if host.size:
        result.set(host)
    return result


def raw_module(code: str, options: tuple[str, ...]) -> Any:
    """CUDA C++ as a module; NVRTC compiles it when its first kernel is asked for."""
    return cupy.RawModule(code=code, options=options)

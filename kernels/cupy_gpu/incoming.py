"""Arrays that lie on the device when they come, and results that stay there."""

from __future__ import annotations

from typing import Any

from ..contract import Array
from .advice import advised
from .device import DeviceArray, as_device, empty, upload, zeros
from .launch import kernels_of
from .rows import GATHERED


@advised
def adopt(values: Any, dtype: Any) -> DeviceArray:
    """Take over an array without a copy where its dtype and layout allow it.

    uint8 and float16 stay as they are: kernels convert them where they gather rows.

    Parameters
    ----------
    values : an array of CuPy, or with ``__cuda_array_interface__`` or ``__dlpack__``.
    dtype : what other dtypes are converted to; numbers wider than it are converted too.
    """
    array = as_device(values)
    kept = array.dtype == dtype or array.dtype.name in GATHERED
    if kept and array.flags.c_contiguous:
        return array
    ready = empty(array.shape, array.dtype if kept else dtype)
    ready[...] = array
    return ready


def all_finite(array: DeviceArray) -> bool:
    """Whether every entry is finite."""
    if array.dtype.kind != "f" or not array.size:
        return True
    found = zeros(1, "int32")
    name = f"odd_{array.dtype.name}"
    kernels_of("float32").launch(name, array.size, found, array, array.size)()
    return int(found.get()[0]) == 0


@advised
def room(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """An array for results."""
    return empty(shape, dtype)


@advised
def bring(array: Array) -> DeviceArray:
    """Copy to the device."""
    return upload(array, array.dtype)


def fetch(values: Any) -> Array:
    """Copy to the host."""
    host: Array = as_device(values).get()
    return host


@advised
def chosen_rows(X: DeviceArray, rows: Array) -> DeviceArray:
    """The rows of these numbers, as a new array."""
    return X[upload(rows, "int64")]

"""How arrays reach a kernel of the vocabulary: on the device, contiguous, in one precision.

Arrays of the host are copied there, and back where they are destinations, so that the vocabulary
can be tried from anywhere; the steps never do that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .device import DeviceArray, empty, is_device, upload
from .launch import Kernels, kernels_of


def kernels_for(array: Any) -> Kernels:
    """The kernels of an array's precision."""
    return kernels_of(array.dtype.name)


def source(array: Any, dtype: Any) -> DeviceArray:
    """The array itself where it is ready for a kernel, else a copy."""
    if not is_device(array):
        return upload(array, dtype)
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    copy = empty(array.shape, dtype)
    copy[...] = array
    return copy


@contextmanager
def destination(array: Any) -> Iterator[DeviceArray]:
    """A device array to write to; what was written reaches `array` in the end."""
    ready = source(array, array.dtype)
    yield ready
    if ready is not array:
        array[...] = ready if is_device(array) else ready.get()

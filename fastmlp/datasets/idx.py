"""IDX files, the format of MNIST.

Big-endian: two zero bytes, a code of the type, the number of dimensions, each size as uint32,
then the numbers, the last index fastest (https://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

CODES: Mapping[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
"""The type of the numbers by its code in the third byte."""

_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_RATIO = 1032
"""Deflate packs at most 1032 bytes into one, so the file's size bounds what it can hold."""
_MOST_DIMENSIONS = 32
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or gzipped (told by its content, not by its name).

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    ndarray
        The numbers in their own type, native byte order, writable.

    Raises
    ------
    ValueError
        Where the file is no IDX file, is truncated or damaged, or has bytes too many.
    OSError
        Where it can't be opened.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        held = os.fstat(file.fileno()).st_size
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not packed:
            return _parse(file, name, held)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(stream, name, held * _DEFLATE_RATIO)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{name}: damaged or truncated gzip data ({error})") from error


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an IDX file, gzipped where the name ends in ``.gz``.

    Parameters
    ----------
    path : path-like
        The file; one that is there is overwritten.
    array : ndarray
        One dimension or more, of one of the types in `CODES`.

    Raises
    ------
    TypeError
        Where IDX has no code for the array's type.
    ValueError
        Where the array has no dimension, or one that a uint32 can't hold.
    """
    codes = {dtype: code for code, dtype in CODES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(dtype) for dtype in codes)
        raise TypeError(f"array: IDX can't hold {array.dtype}; it holds {known}")
    if not 1 <= array.ndim <= _MOST_DIMENSIONS or max(array.shape) >= 1 << 32:
        raise ValueError(f"array: IDX can't hold the shape {array.shape}")
    header = bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    if os.fspath(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    with open(path, "wb") as file:
        file.write(data)


def _parse(stream: BinaryIO, name: str, most: int) -> NDArray[Any]:
    """Read header and numbers; `most` bounds the bytes that `stream` can hold."""
    dtype, shape, header = _header(stream, name)
    count = math.prod(shape)
    needed = count * dtype.itemsize
    if header + needed > most or math.prod(max(size, 1) for size in shape) >= 1 << 60:
        raise ValueError(
            f"{name}: truncated, or its header is wrong: it announces {_times(shape)} {dtype} "
            f"({needed} bytes), the file has at most {max(most - header, 0)} bytes of data"
        )
    data = _read(stream, needed)
    if len(data) < needed:
        raise ValueError(
            f"{name}: truncated: its header announces {_times(shape)} {dtype} ({needed} bytes), "
            f"the file has {len(data)}"
        )
    if stream.read(1):
        raise ValueError(f"{name}: has bytes after the {_times(shape)} {dtype} of its header")
    numbers = np.frombuffer(data, dtype.newbyteorder(">"), count)
    return numbers.astype(dtype, copy=False).reshape(shape)


def _header(stream: BinaryIO, name: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Read the type, the sizes and the header's own length in bytes."""
    magic = bytes(_read(stream, 4))
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"{name}: not an IDX file: it starts with {magic!r}, not two zero bytes")
    code, dimensions = magic[2:]
    if code not in CODES:
        known = ", ".join(f"0x{code:02x} {dtype}" for code, dtype in CODES.items())
        raise ValueError(f"{name}: not an IDX file: type code 0x{code:02x}; known are {known}")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(
            f"{name}: {dimensions} dimensions; this reader wants 1 to {_MOST_DIMENSIONS}"
        )
    sizes = bytes(_read(stream, 4 * dimensions))
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"{name}: truncated inside its header")
    return CODES[code], struct.unpack(f">{dimensions}I", sizes), 4 + len(sizes)


def _read(stream: BinaryIO, count: int) -> bytearray:
    """Read up to `count` bytes, with memory that grows only as bytes arrive."""
    data = bytearray()
    while len(data) < count and (part := stream.read(min(_CHUNK, count - len(data)))):
        data += part
    return data


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)

"""Saved networks: safetensors files with a configuration and a checksum, written atomically.

The layout (https://github.com/huggingface/safetensors): the header's length as 8 bytes,
little-endian; the header, JSON padded with spaces to a multiple of 8; the arrays' bytes,
little-endian, one after the other. ``__metadata__`` holds strings: the format's name and version,
the configuration as JSON and a SHA-256. That covers the whole file with its own 64 digits as zeros,
so every altered byte shows.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PathLike = str | os.PathLike[str]
Arrays = Mapping[str, NDArray[Any]]

FORMAT = "fastmlp"
VERSION = 1

_CODES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("<i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype("?"),
}
_NO_DIGEST = "0" * 64
_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST_HEADER = 100_000_000
"""The limit of the safetensors library."""
_MOST_DIMENSIONS = 32


class FileFormatError(ValueError):
    """A file that isn't a saved network, or not a whole and unaltered one."""


def save(path: PathLike, config: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file that replaces `path` at once or not at all.

    Parameters
    ----------
    path : path-like
        Where to; what was there stays whole until the new file is on the disk. A process that is
        killed meanwhile may leave a hidden ``.fastmlp-*.tmp`` beside it.
    config : mapping
        What JSON can hold, without NaN and infinities; tuples come back as lists.
    arrays : mapping of str to ndarray
        Integers, booleans or floats of 2 to 8 bytes, any shape.

    Raises
    ------
    TypeError, ValueError
        Where `config` or an array can't be stored.
    OSError
        Where the file can't be written.
    """
    ordered = _ordered(arrays)
    header = _header(config, ordered)
    digest = hashlib.sha256(header)
    for array in ordered.values():
        digest.update(_bytes(array))
    header = header.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1)
    with _replacing(path) as file:
        file.write(header)
        for array in ordered.values():
            file.write(_bytes(array))


def load(path: PathLike) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `save` wrote; nothing in a file is ever run.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    config : dict
    arrays : dict of str to ndarray
        In native byte order, writable.

    Raises
    ------
    FileFormatError
        Where the file is truncated, altered, of another kind or of a newer version.
    OSError
        Where it can't be opened.
    """
    with open(path, "rb") as file:
        try:
            return _parse(file, os.fstat(file.fileno()).st_size)
        except FileFormatError as error:
            raise FileFormatError(f"{os.fspath(path)}: {error}") from error.__cause__


# Writing


def _ordered(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """C-contiguous and little-endian; the widest types first, so that each lies aligned."""
    ready: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if name == "__metadata__":
            raise ValueError(f"arrays: {name!r} can't be the name of an array")
        if array.dtype.newbyteorder("<") not in _CODES.values():
            raise TypeError(f"arrays: {name} is of type {array.dtype}, which can't be stored")
        ready[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return dict(sorted(ready.items(), key=lambda item: -item[1].itemsize))


def _header(config: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Length and header, with zeros for the digest, which comes before any text of the user's."""
    codes = {dtype: code for code, dtype in _CODES.items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "sha256": _NO_DIGEST}
    try:
        metadata["config"] = json.dumps(config, allow_nan=False)
        _json(metadata["config"], "config")  # a key 1 beside a key "1" can be written, but not read
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"config: can't be stored as JSON: {error}") from error
    record: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, array in arrays.items():
        offsets = [start, start + array.nbytes]
        record[name] = {
            "dtype": codes[array.dtype],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        start = offsets[1]
    text = json.dumps(record, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"config: the header takes {len(text)} bytes, over {_LONGEST_HEADER}")
    return len(text).to_bytes(8, "little") + text


def _bytes(array: NDArray[Any]) -> memoryview:
    """See a C-contiguous array as bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def _replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """Open a file beside `path` that takes its place when all is written."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".fastmlp-{secrets.token_hex(6)}.tmp")
    try:
        mode = _mode(target)
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    temporary.chmod(mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise type(error)(error.errno, f"can't save: {error.strerror}", str(target)) from error
    _sync_folder(target.parent)


def _mode(target: Path) -> int | None:
    """Permissions of the file to be replaced; None where there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        # Replacing /dev/null would take it away from everybody.
        raise OSError(errno.EINVAL, "not a regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    """Make the new name last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Reading


def _parse(file: IO[bytes], size: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    start = _read(file, 8)
    length = int.from_bytes(start, "little")
    if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
        raise FileFormatError(
            f"not a saved network, or a truncated one: its first 8 bytes announce a header of "
            f"{length} bytes, the file has {size}"
        )
    header = _read(file, length)
    record = _json(_decode(header), "its header")
    metadata = _metadata(record.pop("__metadata__", None))
    layout = _layout(record, size - 8 - length)
    stored = metadata["sha256"].encode()
    if header.count(stored) != 1:
        raise FileFormatError("its checksum isn't where fastmlp writes it")
    digest = hashlib.sha256(start + header.replace(stored, _NO_DIGEST.encode()))
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in layout.items():
        array = np.empty(shape, dtype)
        if array.size and file.readinto(_bytes(array)) != array.nbytes:  # type: ignore[attr-defined]
            raise FileFormatError("truncated while it was read")
        digest.update(_bytes(array))
        arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)
    if digest.hexdigest().encode() != stored:
        raise FileFormatError("its checksum doesn't fit: the file is damaged or was altered")
    return _json(metadata["config"], "its configuration"), arrays


def _read(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise FileFormatError(f"truncated: it has {len(data)} bytes where {count} are wanted")
    return data


def _decode(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"not a saved network: its header isn't UTF-8 ({error})") from error


def _json(text: str, what: str) -> dict[str, Any]:
    """Parse strictly: one object, no key twice, only finite numbers."""
    try:
        record = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except FileFormatError as error:
        raise FileFormatError(f"{what} {error}") from None
    except RecursionError:
        raise FileFormatError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise FileFormatError(f"not a saved network: {what} is no JSON ({error})") from error
    if not isinstance(record, dict) or not text.startswith("{"):
        raise FileFormatError(f"not a saved network: {what} is no JSON object")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in record if counts[key] > 1)
        raise FileFormatError(f"has the key {twice[:60]!r} twice")
    return record


def _refuse(constant: str) -> None:
    raise FileFormatError(f"holds {constant}, which is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise FileFormatError(f"holds the number {text[:40]}, which is too large")
    return value


def _metadata(metadata: Any) -> dict[str, str]:
    """Check that the file is ours and that this version can read it."""
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FileFormatError("a safetensors file, but not a network that fastmlp saved")
    version = metadata.get("version")
    if not isinstance(version, str) or not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise FileFormatError(f"its version is {str(version)[:40]!r}, which is no number")
    if int(version) > VERSION:
        raise FileFormatError(
            f"written by a newer fastmlp: its format is version {version}, this fastmlp reads up "
            f"to {VERSION}; upgrade it (pip install --upgrade fastmlp)"
        )
    if set(metadata) != {"format", "version", "sha256", "config"} or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise FileFormatError("its metadata isn't what fastmlp writes")
    if not _DIGEST.fullmatch(metadata["sha256"]):
        raise FileFormatError("its checksum isn't one")
    return metadata


def _layout(record: dict[str, Any], held: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Types and shapes; all arrays together must fill the `held` bytes without gap or overlap."""
    layout = {}
    end = 0
    for name, entry in record.items():
        dtype, shape, offsets = _entry(name, entry)
        needed = dtype.itemsize * math.prod(shape)
        if offsets != [end, end + needed]:
            raise FileFormatError(
                f"array {name[:60]!r} lies at {offsets}, its type and shape want "
                f"{[end, end + needed]}"
            )
        end += needed
        layout[name] = dtype, shape
    if end != held:
        what = "truncated" if end > held else "extended"
        raise FileFormatError(f"{what}: it has {held} bytes of arrays, its header wants {end}")
    return layout


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], list[int]]:
    """Type, shape and place of one array as the header gives them."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"array {name[:60]!r} lacks a type, a shape or a place")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _CODES:
        raise FileFormatError(f"array {name[:60]!r} is of the unknown type {str(code)[:40]!r}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(
            type(number) is int and 0 <= number < 1 << 60 for number in numbers
        ):
            raise FileFormatError(f"array {name[:60]!r} has a shape or a place that is none")
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= 1 << 60:
        raise FileFormatError(f"array {name[:60]!r} has an impossible shape")
    return _CODES[code], tuple(shape), offsets

"""Tables with a target: CSV and NPZ files."""

from __future__ import annotations

import csv
import itertools
import math
import os
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
_DELIMITERS = ",;\t|"

Lines = Iterator[tuple[int, list[str]]]
"""(line number, cells)"""


class Table(NamedTuple):
    """Rows of features, and what is to be predicted from them."""

    X: NDArray[Any]
    """(rows, features)"""
    y: NDArray[Any] | None
    """(rows,) or (rows, outputs): int64 class indices or whole numbers, else float64."""
    classes: tuple[str, ...] | None = None
    """The names behind the indices in `y` where the file has text there, in sorted order."""
    columns: tuple[str, ...] | None = None
    """Names of the features, where the file has a header."""
    target: str | None = None
    """Name of the target's column, where the file has a header."""
    place: int | None = None
    """Place of the target's column in a CSV file, from 0."""


def load_csv(
    path: str | os.PathLike[str],
    target: int | str | None = -1,
    header: bool | None = None,
    delimiter: str | None = None,
) -> Table:
    """Read a table of numbers from a text file in UTF-8.

    Parameters
    ----------
    path : path-like
        The file: one row a line, cells may be quoted, empty lines don't count.
    target : int or str, optional
        Place or header name of the column that is to be predicted; None: there is none. It may
        hold text: each different text is a class, numbered in sorted order.
    header : bool, optional
        Whether the first line holds names; None: it does where a feature's cell in it is text.
    delimiter : str, optional
        The character between cells; None: whichever of comma, semicolon, tab and bar is the most
        frequent in the first line.

    Returns
    -------
    Table
        X in float64; y in int64 where all targets are whole numbers or text, else float64.

    Raises
    ------
    ValueError
        Where a cell is missing, infinite or no number, or a row has another length: with line and
        column. Where there are no rows, or the target's column isn't there.
    OSError
        Where the file can't be opened.
    """
    name = os.fspath(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            lines = _lines(file, name, delimiter)
            return _read_table(lines, name, target, header)
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not text in UTF-8 ({error})") from error


def first_cells(path: str | os.PathLike[str], delimiter: str | None = None) -> list[str]:
    """Cells of a CSV file's first line, which may be names; none where the file is empty."""
    name = os.fspath(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            _, cells = next(_lines(file, name, delimiter), (0, []))
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not text in UTF-8 ({error})") from error
    return [cell.strip() for cell in cells]


def load_npz(path: str | os.PathLike[str], X: str = "X", y: str | None = "y") -> Table:
    """Read a table from a file of ``numpy.savez``; pickled objects in it are refused.

    Parameters
    ----------
    path : path-like
        The file.
    X : str
        Name of the array of rows; more than two dimensions become (rows, features).
    y : str, optional
        Name of the array of targets, (rows,) or (rows, outputs), numbers or text; None: none.

    Returns
    -------
    Table
        X in the type that is stored; y in int64 or float64.

    Raises
    ------
    ValueError
        Where the file is damaged or lacks an array, an array holds objects, NaN or infinity, or
        the lengths differ.
    OSError
        Where the file can't be opened.
    """
    name = os.fspath(path)
    wanted = [key for key in (X, y) if key is not None]
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{name}: not an .npz file (numpy.savez writes those)")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as stored:
                if absent := [key for key in wanted if key not in stored.files]:
                    held = ", ".join(stored.files) or "none at all"
                    raise ValueError(f"it has no array {absent[0]!r}, but {held}")
                arrays = [np.asarray(stored[key]) for key in wanted]
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{name}: not a readable .npz file of numbers: {error}") from error
    rows = _as_rows(arrays[0], name, X)
    if y is None:
        return Table(rows, None)
    if arrays[1].shape[:1] != rows.shape[:1] or arrays[1].ndim > 2:
        raise ValueError(f"{name}: {y} has the shape {arrays[1].shape}, {X} {len(rows)} rows")
    return _with_targets(rows, arrays[1], name, y)


def _as_rows(stored: NDArray[Any], name: str, key: str) -> NDArray[Any]:
    if stored.ndim < 2 or stored.size == 0:
        raise ValueError(f"{name}: {key} has the shape {stored.shape}, wants (rows, features)")
    _check_numbers(stored, name, key)
    return stored.reshape(len(stored), -1)


def _with_targets(rows: NDArray[Any], stored: NDArray[Any], name: str, key: str) -> Table:
    if stored.dtype.kind == "U" and stored.ndim == 1:
        classes, indices = np.unique(stored, return_inverse=True)
        return Table(rows, indices.astype(np.int64), tuple(classes.tolist()))
    _check_numbers(stored, name, key)
    return Table(rows, stored.astype(np.float64 if stored.dtype.kind == "f" else np.int64))


def _check_numbers(stored: NDArray[Any], name: str, key: str) -> None:
    if stored.dtype.kind not in "biuf":
        raise ValueError(f"{name}: {key} holds {stored.dtype}, wants numbers")
    bad = np.argwhere(~np.isfinite(stored))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name}: {key} holds {stored[place]} at {place}, wants finite numbers")


def _lines(file: Iterator[str], name: str, delimiter: str | None) -> Lines:
    """Cells of each line that isn't empty."""
    first = next(file, "")
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=first.count)
    elif len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"delimiter: got {delimiter!r}, wants one character")
    reader = csv.reader(itertools.chain([first], file), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from error


def _read_table(lines: Lines, name: str, target: int | str | None, header: bool | None) -> Table:
    line, first = next(lines, (0, []))
    if not first:
        raise ValueError(f"{name}: has no rows")
    names = [cell.strip() for cell in first]
    place = _place(target, names, name)
    features = names[:place] + names[place + 1 :] if place is not None else names
    if not features:
        raise ValueError(f"{name}, line {line}: one column only; is the delimiter right?")
    if header is None:
        header = isinstance(target, str) or any(map(_is_text, features))
    if not header:
        lines = itertools.chain([(line, first)], lines)
    X, labels, numbers = _numbers(lines, name, len(first), place)
    if not len(X):
        raise ValueError(f"{name}: has no rows but a header")
    titles = tuple(features) if header else None
    if place is None:
        return Table(X, None, columns=titles)
    y, classes = _targets(labels, numbers, name, place)
    return Table(X, y, classes, titles, names[place] if header else None, place)


def _place(target: int | str | None, names: list[str], name: str) -> int | None:
    """Find the target's column, from 0."""
    if target is None:
        return None
    if isinstance(target, str):
        if names.count(target) != 1:
            shown = ", ".join(names[:20])
            raise ValueError(f"{name}: wants one column named {target!r}, its header has {shown}")
        return names.index(target)
    if not -len(names) <= target < len(names):
        raise ValueError(f"target: got column {target}, {name} has {len(names)} columns")
    return target % len(names)


def _numbers(
    lines: Lines, name: str, width: int, place: int | None
) -> tuple[NDArray[np.float64], list[str], array[int]]:
    """Features, target cells and line numbers of all rows."""
    values, labels, numbers = array("d"), list[str](), array("q")
    for line, cells in lines:
        if len(cells) != width:
            raise ValueError(f"{name}, line {line}: {len(cells)} columns, others have {width}")
        whole = list(cells)
        if place is not None:
            labels.append(cells.pop(place).strip())
        try:
            values.extend(map(float, cells))
        except ValueError:
            raise _bad_cell(name, line, whole, place) from None
        # float takes 1_000 for a number; in a file it is a slip or a name.
        if "_" in "".join(cells):
            raise _bad_cell(name, line, whole, place)
        numbers.append(line)
    X = np.frombuffer(values, np.float64).reshape(len(numbers), -1) if numbers else np.empty((0, 0))
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(X[row])))
        column += place is not None and column >= place
        kind = "missing value (nan)" if np.isnan(X[row]).any() else "infinite value"
        raise ValueError(f"{name}, line {numbers[row]}, column {column + 1}: {kind}")
    return X, labels, numbers


def _bad_cell(name: str, line: int, cells: list[str], place: int | None) -> ValueError:
    """Say which cell of a row is no number."""
    for column, cell in enumerate(cells):
        if column != place and (_is_text(cell) or _is_missing(cell)):
            what = "missing value" if _is_missing(cell) else "not a number:"
            return ValueError(f"{name}, line {line}, column {column + 1}: {what} {cell[:40]!r}")
    return ValueError(f"{name}, line {line}: not a row of numbers")


def _is_missing(cell: str) -> bool:
    return cell.strip().casefold() in _MISSING


def _is_text(cell: str) -> bool:
    return not _is_missing(cell) and _number(cell) is None


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _targets(
    labels: list[str], lines: array[int], name: str, place: int
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Targets as numbers or class indices, and the names of the classes."""
    where = f"column {place + 1} (the target)"
    numbers = {label: _number(label) for label in set(labels)}
    for label, number in numbers.items():
        if _is_missing(label) or (number is not None and not math.isfinite(number)):
            line = lines[labels.index(label)]
            raise ValueError(f"{name}, line {line}, {where}: missing or infinite: {label!r}")
    text = [label for label, number in numbers.items() if number is None]
    if text:
        if any(number is not None and not number.is_integer() for number in numbers.values()):
            line = lines[labels.index(text[0])]
            raise ValueError(f"{name}, line {line}, {where}: not a number: {text[0][:40]!r}")
        classes = sorted(numbers)
        index = {label: place for place, label in enumerate(classes)}
        return np.array([index[label] for label in labels], np.int64), tuple(classes)
    values = np.array([numbers[label] for label in labels], np.float64)
    whole = bool((values == np.round(values)).all() and (abs(values) < 2**53).all())
    return values.astype(np.int64) if whole else values, None

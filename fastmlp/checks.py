"""Checks of what users pass in; every message names the argument, what it got, what it wants."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from . import blocks
from .kernels.contract import Array

_WHOLE_LIMIT = 1 << 62

BOOLEANS = (bool, np.bool_)
SEQUENCES = (tuple, list, Sequence)
_REAL = (float, int, Real)
"""The usual types first: to ask an abstract class takes 10 us after an epoch of other work."""


def number(
    value: object,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return a finite float with ``low <= value <= high`` and ``above < value < below``.

    Raises
    ------
    TypeError
        It is no real number; booleans are none.
    ValueError
        It is not finite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, _REAL):
        raise TypeError(f"{name} must be a number; got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not (math.isfinite(result) and low <= result <= high and above < result < below):
        wanted = _range(low, high, above, below)
        raise ValueError(f"{name} must be a finite number{wanted}; got {shown(value)}")
    return result


def _range(low: float, high: float, above: float, below: float) -> str:
    parts = [f">= {low:g}"] if low > -math.inf else []
    parts += [f"> {above:g}"] if above > -math.inf else []
    parts += [f"<= {high:g}"] if high < math.inf else []
    parts += [f"< {below:g}"] if below < math.inf else []
    return " " + " and ".join(parts) if parts else ""


def whole(value: object, name: str, low: int = 0, high: int = _WHOLE_LIMIT) -> int:
    """Return an int with ``low <= value <= high``; booleans and floats are refused.

    Raises
    ------
    TypeError, ValueError
        It is no integer, or out of range.
    """
    if isinstance(value, BOOLEANS):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    try:
        result = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {shown(value)}") from None
    if not low <= result <= high:
        wanted = f">= {low}" if high == _WHOLE_LIMIT else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {wanted}; got {shown(value)}")
    return result


def flag(value: object, name: str) -> bool:
    """Return True or False; anything else is a TypeError."""
    if not isinstance(value, BOOLEANS):
        raise TypeError(f"{name} must be True or False; got {shown(value)}")
    return bool(value)


def word(value: object, name: str, options: Iterable[str], others: str = "") -> str:
    """Return one of the words in `options`; `others` says what else would have been accepted."""
    known = list(options)
    if isinstance(value, str) and value in known:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be one of {', '.join(known)}{others}; got {shown(value)}")


def shown(value: object) -> str:
    """Show a value in a message, short enough for one line."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of thousands of digits has no repr; others are wrong
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def several(value: object) -> bool:
    """Whether it is a sequence of values: a list, a tuple or an array, but no word."""
    return (
        isinstance(value, Sequence | np.ndarray)
        and not isinstance(value, str | bytes)
        and getattr(value, "ndim", 1) > 0
    )


LARGE = 100_000
"""Numbers in X from which on it is not converted where the kernels' gather can do that.

Smaller rows are converted at once: networks have shortcuts for rows in their own precision.
"""


def matrix(
    X: Any,
    name: str,
    columns: int,
    dtype: np.dtype[Any],
    gathered: Collection[str],
    threads: Callable[[], int],
) -> Array:
    """Return rows of finite numbers: (rows, columns), C-contiguous, aligned, native.

    They are in `dtype`; large ones may be in one of the dtypes `gathered`. An array that is all
    this already comes back itself, without a copy; `threads` says how many may make one.

    Raises
    ------
    TypeError
        X can't be converted without guessing: strings, objects, complex numbers, sparse matrices.
    ValueError
        No rows, another shape, NaN, infinity, or numbers too large for `dtype`.
    """
    raw = real_array(X, name)
    if raw.ndim != 2:
        raise ValueError(_not_two_dimensional(raw, name, columns))
    if raw.shape[0] == 0:
        raise ValueError(f"{name} must have at least one row; got shape {raw.shape}")
    if raw.shape[1] != columns:
        raise ValueError(
            f"{name} must have {columns} columns, one for each input of the network; "
            f"got shape {raw.shape}"
        )
    if is_matrix(raw, columns, dtype, gathered):
        finite(raw, name, dtype)
        return raw
    return converted(raw, name, _smaller(raw, dtype, gathered), dtype, threads)


def is_matrix(X: Any, columns: int, dtype: np.dtype[Any], gathered: Collection[str] = ()) -> bool:
    """Whether kernels can take X as it is; its numbers may still be NaN or infinite."""
    if type(X) is not np.ndarray or X.ndim != 2:
        return False
    (rows, own), flags = X.shape, X.flags
    fits = X.dtype == dtype or (X.size >= LARGE and _native(X.dtype, gathered))
    return fits and own == columns and rows > 0 and flags.c_contiguous and flags.aligned


def _native(dtype: np.dtype[Any], names: Collection[str]) -> bool:
    return bool(names) and dtype.isnative and dtype.name in names


def _smaller(raw: Array, dtype: np.dtype[Any], gathered: Collection[str]) -> np.dtype[Any]:
    """The dtype of a copy: `dtype`, or raw's own where the gather takes that and it is smaller."""
    own = raw.dtype.newbyteorder("=")
    kept = raw.size >= LARGE and own.itemsize < dtype.itemsize and _native(own, gathered)
    return own if kept else dtype


def finite(X: Array, name: str, dtype: np.dtype[Any] | None = None) -> None:
    """Refuse NaN, infinity, and what would be infinite in `dtype` with a ValueError."""
    if not (blocks.all_finite(X) if dtype is None else blocks.fits(X, dtype)):
        raise ValueError(_not_finite(X, name, dtype))


def _not_two_dimensional(raw: Array, name: str, columns: int) -> str:
    remedy = ""
    if raw.ndim == 1 and columns == 1:
        remedy = f"; {name}.reshape(-1, 1) makes each number a row"
    elif raw.ndim == 1:
        remedy = f"; {name}.reshape(1, -1) makes it one row"
    elif raw.ndim > 2:
        remedy = f"; {name}.reshape(len({name}), -1) flattens each row"
    return f"{name} must have shape (rows, {columns}); got shape {raw.shape}{remedy}"


def real_array(values: Any, name: str) -> Array:
    """Return an array of booleans, integers or floats, of any shape, not copied where possible.

    Raises
    ------
    TypeError, ValueError
        It is no array of real numbers; the message says how to make it one.
    """
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(
            f"{name} must be a dense array; got a sparse {type(values).__name__}: "
            f"{name}.toarray() makes it dense"
        )
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{name} must have no masked entries: fill them first, {name}.filled(...)")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} can't be made an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold real numbers; got dtype {array.dtype} "
            f"from a {type(values).__name__}{_REMEDIES.get(array.dtype.kind, '')}"
        )
    return array


_REMEDIES = {
    "O": ": convert its columns to numbers first, for example with .astype('float64')",
    "U": ": encode the strings as numbers first",
    "S": ": encode the strings as numbers first",
    "T": ": encode the strings as numbers first",
    "c": ": split real and imaginary parts into columns",
}


def converted(
    raw: Array,
    name: str,
    dtype: np.dtype[Any],
    limits: np.dtype[Any] | None = None,
    threads: Callable[[], int] | None = None,
) -> Array:
    """Return `raw` (real numbers) C-contiguous, aligned and in `dtype`; finite or a ValueError.

    `limits` is the dtype that the message names, if it is another.
    """
    wanted = raw.dtype == dtype and raw.flags.c_contiguous and raw.flags.aligned
    if raw.ndim == 2 and raw.size >= LARGE and not wanted:
        result, good = blocks.copied(raw, dtype, threads() if threads else 1)
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            result = np.require(raw, dtype, ["C", "A"])
        good = blocks.all_finite(result)
    if not good:
        raise ValueError(_not_finite(raw, name, limits or dtype))
    return result


def _not_finite(raw: Array, name: str, dtype: np.dtype[Any] | None = None) -> str:
    if blocks.all_finite(raw):
        largest = max(raw.max(), -raw.min())
        return (
            f"{name} must fit into {dtype}; got numbers up to {largest:.3g}: "
            f"scale {name}, or use dtype='float64'"
        )
    place, count = blocks.first_odd(raw)
    return (
        f"{name} must hold finite numbers; got {raw[place]} at {place} "
        f"({count} NaN or infinite of {raw.size})"
    )


def same_length(rows: int, values: Array, name: str) -> None:
    """Refuse `values` (n, ...) with another number of rows than X."""
    if values.ndim == 0 or len(values) != rows:
        got = f"shape {values.shape}"
        raise ValueError(f"{name} must have one entry for each of the {rows} rows of X; got {got}")


def row_weights(w: Any, rows: int, dtype: np.dtype[Any]) -> Array | None:
    """Return sample weights (rows,): finite, >= 0 and not all zero; None stays None.

    Raises
    ------
    TypeError, ValueError
        They are anything else.
    """
    if w is None:
        return None
    raw = real_array(w, "sample_weight")
    same_length(rows, raw, "sample_weight")
    if raw.shape != (rows,):
        raise ValueError(f"sample_weight must have shape ({rows},); got {raw.shape}")
    weights = converted(raw, "sample_weight", dtype)
    if (weights < 0).any():
        raise ValueError(f"sample_weight must be >= 0; got {weights.min():g}")
    if not weights.any():
        raise ValueError("sample_weight must not be zero for every row")
    return weights

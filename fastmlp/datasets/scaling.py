"""Scaling of features, fitted on training rows and kept with the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Numbers = NDArray[np.float64]

_CHUNK = 1 << 20
"""Numbers at a time: a copy of 60,000 images in float64 would take 376 MB."""


@dataclass(frozen=True, eq=False)
class Standardize:
    """Feature by feature ``(x / divisor - mean) / scale``.

    Parameters
    ----------
    mean, scale : array-like
        (features,) or a single number each; `scale` finite and not zero.
    divisor : float
        Divides first, so that ``((x/255) - 0.5)*2`` comes out to the last bit.

    Raises
    ------
    ValueError
        Where a number isn't finite, a scale or the divisor is zero, or the lengths differ.
    """

    mean: Numbers = field(default_factory=lambda: np.zeros(()))
    scale: Numbers = field(default_factory=lambda: np.ones(()))
    divisor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.ndim > 1 or not np.isfinite(value).all():
                raise ValueError(f"{name}: wants finite numbers, (features,) or one; got {value}")
            object.__setattr__(self, name, value)
        if self.mean.ndim and self.scale.ndim and self.mean.size != self.scale.size:
            raise ValueError(f"mean, scale: {self.mean.size} and {self.scale.size} features")
        if not self.scale.all() or not np.isfinite(self.divisor) or self.divisor == 0:
            raise ValueError("scale, divisor: want finite numbers other than 0")

    @classmethod
    def fit(cls, X: ArrayLike, how: str = "standard", top: float | None = None) -> Standardize:
        """Fit one of `SCALINGS` on training rows.

        Parameters
        ----------
        X : array-like, (rows, features)
            Training rows, one or more.
        how : str
            ``"none"``; ``"unit"``: to 0..1; ``"signed"``: to -1..1; ``"centred"``: minus each
            feature's mean, divided by one standard deviation of all numbers; ``"standard"``:
            minus each feature's mean, divided by its own standard deviation.
        top : float, optional
            The value that ``"unit"`` and ``"signed"`` map to 1 while 0 goes to the lower end (255
            for images); without it each feature's own least and greatest value.

        Raises
        ------
        ValueError
            Where `how` is unknown, `X` isn't a table of numbers, or a spread overflows.
        """
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.size == 0 or rows.dtype.kind not in "biuf":
            raise ValueError(
                f"X: wants numbers of shape (rows, features), got {rows.dtype} {rows.shape}"
            )
        if how not in SCALINGS:
            raise ValueError(f"how: got {how!r}, wants one of {', '.join(SCALINGS)}")
        return SCALINGS[how](rows, top)

    def apply(self, X: ArrayLike, dtype: DTypeLike = "float32") -> NDArray[Any]:
        """Scale rows; computed in float64, then converted.

        Parameters
        ----------
        X : array-like, (rows, features)
            Rows with the features of the fit.
        dtype : dtype
            Of the result.

        Returns
        -------
        ndarray, (rows, features)
            A new array.

        Raises
        ------
        ValueError
            Where the number of features differs.
        """
        rows = np.asarray(X)
        wanted = next((one.size for one in (self.mean, self.scale) if one.ndim), None)
        if rows.ndim != 2 or (wanted is not None and rows.shape[1] != wanted):
            raise ValueError(f"X: got the shape {rows.shape}, wants (rows, {wanted or 'features'})")
        scaled = np.empty(rows.shape, dtype)
        for part in _parts(rows):
            scaled[part] = (rows[part] / self.divisor - self.mean) / self.scale
        return scaled

    def undo(self, scaled: ArrayLike) -> Numbers:
        """Go back to unscaled rows, in float64."""
        return (np.asarray(scaled, np.float64) * self.scale + self.mean) * self.divisor

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers in a form that JSON can hold."""
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "divisor": float(self.divisor),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Standardize:
        """Take back what `to_dict` gave.

        Raises
        ------
        ValueError
            Where the record isn't one of ours.
        """
        try:
            return cls(record["mean"], record["scale"], float(record["divisor"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored scaling: {record!r}") from error


def _none(_rows: NDArray[Any], _top: float | None) -> Standardize:
    return Standardize()


def _unit(rows: NDArray[Any], top: float | None) -> Standardize:
    if top is not None:
        return Standardize(divisor=top)
    least, width = _range(rows)
    return Standardize(least, width)


def _signed(rows: NDArray[Any], top: float | None) -> Standardize:
    if top is not None:
        return Standardize(np.full((), 0.5), np.full((), 0.5), top)
    least, width = _range(rows)
    return Standardize(least + width / 2, width / 2)


def _centred(rows: NDArray[Any], _top: float | None) -> Standardize:
    spread = np.sqrt(_mean_square(rows, rows.mean(dtype=np.float64)).mean())
    return Standardize(rows.mean(axis=0, dtype=np.float64), spread if spread > 0 else np.ones(()))


def _standard(rows: NDArray[Any], _top: float | None) -> Standardize:
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(_mean_square(rows, mean))
    # A constant column's mean may be a rounding off, its spread 1e-17 instead of 0.
    constant = (rows == rows[0]).all(axis=0) | (spread == 0)
    return Standardize(np.where(constant, rows[0], mean), np.where(constant, 1.0, spread))


SCALINGS: Mapping[str, Callable[[NDArray[Any], float | None], Standardize]] = {
    "none": _none,
    "unit": _unit,
    "signed": _signed,
    "centred": _centred,
    "standard": _standard,
}
"""The words that `Standardize.fit` knows."""


def _parts(rows: NDArray[Any]) -> Iterator[slice]:
    """Slices of whole rows with about `_CHUNK` numbers each."""
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def _mean_square(rows: NDArray[Any], centre: NDArray[Any] | np.float64) -> Numbers:
    """Mean of the squared distance to `centre`, feature by feature."""
    with np.errstate(over="ignore"):
        total = sum(np.square(rows[part] - centre).sum(axis=0) for part in _parts(rows))
    return np.asarray(total / len(rows))


def _range(rows: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Least value and width of each feature; the width of a constant one is 1."""
    least = rows.min(axis=0).astype(np.float64)
    width = rows.max(axis=0) - least
    return least, np.where(width > 0, width, 1.0)

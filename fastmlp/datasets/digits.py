"""Optical digits: 1797 images of 8x8, the data set that ships with the library.

The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, licence CC BY 4.0), the rows and the order of scikit-learn's
``load_digits``; ``tests/make_digits.py`` made the file.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .scaling import Standardize

TOP = 16.0
"""The darkest pixel."""


class Rows(NamedTuple):
    """Rows and their classes."""

    X: NDArray[Any]
    """(rows, features)"""
    y: NDArray[np.int64]
    """(rows,) class indices"""


def load_digits(scaling: str | None = None, dtype: DTypeLike = "float32") -> Rows:
    """Load the 8x8 digits; needs no network and no other package.

    The rows come writer by writer: a test set of the last ones shows hands that the training rows
    don't.

    Parameters
    ----------
    scaling : str, optional
        A word of `Standardize.fit`, fitted on all rows: ``"unit"`` is x/16, ``"signed"``
        ((x/16) - 0.5)*2. None: uint8 from 0 to 16.
    dtype : dtype
        Of the scaled rows.

    Returns
    -------
    Rows
        X (1797, 64) and y (1797,), int64, 0 to 9.

    Raises
    ------
    ValueError
        Where `scaling` is unknown.
    """
    with (
        resources.files(__package__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        X, y = stored["X"], stored["y"].astype(np.int64)
    if scaling is not None:
        X = Standardize.fit(X, scaling, TOP).apply(X, dtype)
    return Rows(X, y)

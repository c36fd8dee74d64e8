"""MNIST and Fashion-MNIST from a folder, or downloaded from OpenML by scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .idx import read_idx
from .scaling import Standardize

TOP = 255.0
"""The whitest pixel."""

_PARTS = (("train", 60_000), ("t10k", 10_000))
_PIXELS = 784


class Split(NamedTuple):
    """Training and test rows of a data set."""

    X_train: NDArray[Any]
    """(60000, 784)"""
    y_train: NDArray[np.int64]
    """(60000,) class indices"""
    X_test: NDArray[Any]
    """(10000, 784)"""
    y_test: NDArray[np.int64]
    """(10000,) class indices"""


def load_mnist(
    folder: str | os.PathLike[str] | None = None,
    scaling: str | None = None,
    dtype: DTypeLike = "float32",
) -> Split:
    """Load MNIST (LeCun, Cortes & Burges): handwritten digits, 28x28.

    Parameters
    ----------
    folder : path-like, optional
        Where the four IDX files lie, gzipped or not; else the folder that the environment variable
        ``FASTMLP_MNIST`` names; else scikit-learn downloads them from OpenML.
    scaling : str, optional
        A word of `Standardize.fit`, fitted on the training rows: ``"unit"`` is x/255, ``"signed"``
        ((x/255) - 0.5)*2, ``"centred"`` minus each pixel's mean, divided by one standard
        deviation. None: uint8 as stored.
    dtype : dtype
        Of the scaled rows.

    Returns
    -------
    Split
        60,000 training and 10,000 test rows of 784 pixels, classes 0 to 9 in int64.

    Raises
    ------
    FileNotFoundError
        Where a file is missing, or nothing was named and nothing can be downloaded.
    ValueError
        Where a file is damaged or isn't of this data set, or `scaling` is unknown.
    """
    return _scaled(_load(folder, "FASTMLP_MNIST", "mnist_784"), scaling, dtype)


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None,
    scaling: str | None = None,
    dtype: DTypeLike = "float32",
) -> Split:
    """Load Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): ten kinds of clothes, 28x28.

    Parameters, result and errors are those of `load_mnist`; the environment variable is
    ``FASTMLP_FASHION_MNIST``.
    """
    return _scaled(_load(folder, "FASTMLP_FASHION_MNIST", "Fashion-MNIST"), scaling, dtype)


def _load(folder: str | os.PathLike[str] | None, variable: str, openml: str) -> Split:
    """Take the first of: the folder, the variable's folder, OpenML."""
    place = folder if folder is not None else os.environ.get(variable) or None
    return _download(openml, variable) if place is None else _read_folder(Path(place))


def _read_folder(folder: Path) -> Split:
    arrays: list[NDArray[Any]] = []
    for part, count in _PARTS:
        images = _read_part(folder, f"{part}-images", "idx3-ubyte", (count, 28, 28))
        labels = _read_part(folder, f"{part}-labels", "idx1-ubyte", (count,))
        arrays += [images.reshape(count, _PIXELS), labels.astype(np.int64)]
    return Split(*arrays)


def _read_part(folder: Path, stem: str, ending: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read one file, under any of its usual names, and check what is in it."""
    names = [f"{stem}{mark}{ending}{packed}" for mark in "-." for packed in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: has none of {', '.join(names)}")
    array = read_idx(path)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path}: holds {array.dtype} {array.shape}, wants uint8 {shape}")
    if len(shape) == 1 and array.max() > 9:
        raise ValueError(f"{path}: has the label {array.max()}, wants 0 to 9")
    return array


def _download(openml: str, variable: str) -> Split:
    try:
        from sklearn.datasets import fetch_openml

        bunch = fetch_openml(openml, version=1, as_frame=False)
    except (ImportError, OSError) as error:
        raise FileNotFoundError(
            f"no folder with {openml}'s IDX files was named, and a download was not possible "
            f"({type(error).__name__}: {error}). Three ways: pass folder=...; set the environment "
            f"variable {variable} to the folder; install scikit-learn and pandas and be online"
        ) from error
    X, y = np.asarray(bunch.data), np.asarray(bunch.target).astype(np.int64)
    if X.shape != (70_000, _PIXELS) or y.shape != (70_000,):
        raise ValueError(f"{openml}: OpenML sent {X.shape} and {y.shape}, wants 70000 images")
    X, first = X.astype(np.uint8), _PARTS[0][1]
    return Split(X[:first], y[:first], X[first:], y[first:])


def _scaled(raw: Split, scaling: str | None, dtype: DTypeLike) -> Split:
    if scaling is None:
        return raw
    scale = Standardize.fit(raw.X_train, scaling, TOP)
    return raw._replace(
        X_train=scale.apply(raw.X_train, dtype), X_test=scale.apply(raw.X_test, dtype)
    )

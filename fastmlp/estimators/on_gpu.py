"""Rows that lie on a GPU: checked there as scikit-learn checks others, and answered there."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_y, validate_data

from .. import choices, devices
from ..kernels.contract import Array


def precision(dtype: Any, X: Any) -> str:
    """Return the precision that an estimator's `dtype` means for these rows."""
    if dtype is not None:
        return choices.precision(dtype)
    return "float32" if devices.single(X) else "float64"


def backend(word: str, X: Any) -> str:
    """Return the backend's word: "auto" goes where the rows are.

    Raises
    ------
    TypeError
        The rows lie on the GPU, and the word is that of a backend of the CPU.
    """
    if not devices.holds(X):
        return word
    if word not in ("auto", "cupy"):
        raise TypeError(
            f"X lies on the GPU, this estimator computes on the CPU (backend {word!r}): "
            "fit with backend='cupy', or copy X to the host first"
        )
    return "cupy"


def checked_rows(estimator: Any, X: Any, dtype: Any, name: str, reset: bool) -> Array:
    """Return rows on the GPU, (rows, columns) of finite numbers; `name` is the backend's word."""
    rows = devices.matrix(X, "X", None, np.dtype(dtype), backend(name, X))
    validate_data(estimator, rows, reset=reset, skip_check_array=True)
    return rows


def checked_targets(
    estimator: Any, X: Any, y: Any, dtype: tuple[Any, ...], reset: bool, numeric: bool
) -> tuple[Array, Array]:
    """Return rows on the GPU, and targets on the host."""
    validate_data(estimator, X, y, reset=False, ensure_2d=False, skip_check_array=True)
    rows = checked_rows(estimator, X, dtype[0], estimator.backend, reset)
    y = _check_y(y, multi_output=True, y_numeric=numeric, estimator=estimator)
    check_consistent_length(rows, y)
    return rows, y


def beside(X: Any, answers: Array) -> Array:
    """Bring answers to where X lies; labels that are no numbers stay on the host."""
    if not devices.holds(X) or answers.dtype.kind not in "biuf":
        return answers
    return devices.beside(X, np.ascontiguousarray(answers))

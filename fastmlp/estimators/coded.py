"""Checked data in the forms that training needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from .. import checks, choices, devices
from ..engine import Engine
from ..kernels.contract import Array
from ..sparse import SparseRows


class Coded(NamedTuple):
    """Targets in the forms that are needed."""

    T: Array
    """As `MLP` takes them."""
    truth: Array
    """As the estimator's answers come."""
    outputs: int
    loss: Any
    """As `MLP` takes it."""
    constants: Array | None = None
    """What the reported loss has for each row beyond `MLP`'s loss."""


class Accepted(NamedTuple):
    """What becomes of rows that scikit-learn has checked."""

    dtype: np.dtype[Any]
    """The network's."""
    gathered: tuple[str, ...]
    """What its kernels convert themselves."""
    threads: Callable[[], int]

    @classmethod
    def by(cls, engine: Engine) -> Accepted:
        """What an engine takes."""
        return cls(engine.dtype, engine.gathered(), engine.most_threads)

    def left_alone(self, X: Any) -> tuple[str, ...]:
        """Names of dtypes that scikit-learn needn't convert, for the rows in X.

        Large arrays of integers and float16, which fit into any network's dtype.
        """
        if type(X) is not np.ndarray or X.size < checks.LARGE:
            return ()
        return tuple(name for name in self.gathered if name not in choices.DTYPES)

    def rows(self, X: Any) -> Any:
        """Return checked X as `MLP` takes it."""
        if issparse(X):
            return SparseRows(X.tocsr(), self.dtype)
        if devices.holds(X) or checks.is_matrix(X, X.shape[1], self.dtype):
            return X
        return checks.matrix(X, "X", X.shape[1], self.dtype, self.gathered, self.threads)

"""Checked data in the forms that training needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from .. import devices
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


def sparse_or_dense(X: Any) -> Any:
    """Return checked X as `MLP` takes it."""
    if issparse(X):
        return SparseRows(X.tocsr(), X.dtype)
    return X if devices.holds(X) else np.require(X, requirements=["C", "A"])

"""Weights of classes, as weights of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from ..kernels.contract import Array


def class_weights(wanted: Any, y: Array, w: Array | None, single: bool) -> Array | None:
    """Return a weight for each row, or None where nothing is wanted.

    Raises
    ------
    ValueError
        "balanced", where `single` says that these are not all rows.
    """
    if wanted is None:
        return None
    if single and wanted == "balanced":
        raise ValueError(
            "class_weight='balanced' needs all rows at once, partial_fit has some of them: give "
            "the weights as a dict, from sklearn.utils.class_weight.compute_class_weight"
        )
    if wanted == "balanced" and y.ndim == 1:
        return balanced(y, w)
    weights: Array = compute_sample_weight(wanted, y)
    return weights


def balanced(y: Array, w: Array | None) -> Array:
    """Return a weight for each row, so that with `w` every class weighs the same in sum.

    A class of which every row weighs nothing has no share to balance; its rows get 0.
    """
    there = np.ones(len(y), np.bool_) if w is None else w > 0
    classes, places = np.unique(y[there], return_inverse=True)
    given = None if w is None else w[there]
    shares = compute_class_weight("balanced", classes=classes, y=y[there], sample_weight=given)
    weights = np.zeros(len(y))
    weights[there] = shares[places]
    return weights

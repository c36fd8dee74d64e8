"""Weights that balance classes."""

from __future__ import annotations

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from ..kernels.contract import Array


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

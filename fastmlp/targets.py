"""Targets: from what users have to what kernels take, and predictions back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import checks
from .kernels.contract import Array
from .kernels.reference.losses import TARGETS

PROBABILITY_SLACK = 1e-3
"""How far a row of probabilities may be from a sum of 1: float16 softmax rows pass."""
_INDICES = np.dtype(np.int64)


class Targets(NamedTuple):
    """What a loss wants of its targets."""

    loss: str
    outputs: int

    @property
    def kind(self) -> str:
        """One of "classes", "binary", "margin", "counts", "real"."""
        return TARGETS[self.loss]

    def encode(self, y: Any, rows: int, dtype: np.dtype[Any]) -> Array:
        """Return (rows,) int64 class indices, or (rows, outputs) finite numbers in `dtype`.

        Raises
        ------
        TypeError, ValueError
            y is of another length or shape, or holds what the loss has no value for.
        """
        raw = checks.real_array(y, "y")
        checks.same_length(rows, raw, "y")
        if self.kind == "classes" and (raw.ndim == 1 or (raw.ndim == 2 and raw.shape[1] == 1)):
            return self._class_indices(raw.reshape(rows))
        T = self._table(raw, dtype)
        if self.kind != "real":
            self._check_values(T)
        return T

    def unchecked(self, y: Any, rows: int) -> Array | None:
        """Return y itself if it is (rows,) class indices as kernels read them, of any value."""
        if self.kind != "classes" or type(y) is not np.ndarray or y.shape != (rows,):
            return None
        fits = y.dtype == _INDICES and y.flags.c_contiguous and y.flags.aligned
        return y if fits else None

    def _class_indices(self, raw: Array) -> Array:
        # A copy of our own: kernels index with these numbers, and a callback may change y later.
        raw, last = raw.copy(), self.outputs - 1
        if raw.dtype == np.int64 and raw.size and raw.view(np.uint64).max() <= last:
            return raw  # one pass: a negative number would count as a huge one
        if raw.dtype.kind == "f" and not (raw == np.floor(raw)).all():
            raise ValueError(
                f"y must hold class indices 0 to {last} for {self.loss}; got {_first_odd(raw)}"
            )
        low, high = raw.min(), raw.max()
        if low < 0 or high > last:
            raise ValueError(
                f"y must hold class indices 0 to {last}, one for each of the {self.outputs} "
                f"outputs; got {low if low < 0 else high}: "
                "np.unique(y, return_inverse=True)[1] numbers any labels"
            )
        return raw.astype(np.int64, copy=False)

    def _table(self, raw: Array, dtype: np.dtype[Any]) -> Array:
        if raw.ndim == 1 and self.outputs == 1:
            raw = raw.reshape(-1, 1)
        if raw.ndim != 2 or raw.shape[1] != self.outputs:
            also = "(rows,) or " if self.outputs == 1 or self.kind == "classes" else ""
            raise ValueError(
                f"y must have shape {also}(rows, {self.outputs}) for {self.loss} with "
                f"{self.outputs} outputs; got {raw.shape}"
            )
        return checks.converted(raw, "y", dtype)

    def _check_values(self, T: Array) -> None:
        """Refuse numbers that the loss has no value for."""
        if self.kind == "margin":
            wrong, wanted = np.abs(T) != 1, "-1 and 1"
        elif self.kind == "counts":
            wrong, wanted = T < 0, "numbers >= 0"
        elif self.kind == "binary":
            wrong, wanted = (T != 0) & (T != 1), "0 and 1"
        else:
            wrong, wanted = (T < 0) | (T > 1), "numbers from 0 to 1"
        if wrong.any():
            raise ValueError(f"y must hold {wanted} for {self.loss}; got {T[wrong][0]:g}")
        if self.kind == "classes":
            sums = T.sum(axis=1, dtype=np.float64)
            row = int(np.argmax(np.abs(sums - 1)))
            if abs(sums[row] - 1) > PROBABILITY_SLACK:
                raise ValueError(
                    f"y must hold rows that are one-hot or probabilities with sum 1 for "
                    f"{self.loss}; row {row} has the sum {sums[row]:g}"
                )

    def decode(self, outputs: Array, threshold: float) -> Array:
        """Turn outputs (rows, O) into predictions: classes, 0/1, -1/+1 or values.

        `threshold` is the output that separates the two answers of a binary or margin loss.
        """
        if self.kind == "classes":
            return np.asarray(outputs.argmax(axis=1))
        if self.kind == "binary":
            answer: Array = (outputs > threshold).astype(np.int64)
        elif self.kind == "margin":
            answer = np.where(outputs > threshold, 1, -1)
        else:
            answer = outputs
        return answer[:, 0] if self.outputs == 1 else answer

    def labels(self, T: Array) -> Array:
        """Turn encoded targets into the form of predictions, to compare them with."""
        if T.ndim == 1:
            return T
        return self.decode(T, 0.5 if self.kind == "binary" else 0.0)


def _first_odd(raw: Array) -> object:
    odd = raw[~(raw == np.floor(raw))]
    return odd[0]

"""The part of `MLP` that predicts and measures."""

from __future__ import annotations

from typing import Any

from . import metrics as metric_module
from .engine import Engine
from .jobs import checked_data, checked_rows
from .kernels.contract import Array, Data


class Predictor:
    """Outputs, predictions and their measures."""

    _engine: Engine

    def logits(self, X: Any) -> Array:
        """Return (rows, outputs) before the output activation."""
        return self._engine.forward(self._rows(X), True)

    def forward(self, X: Any) -> Array:
        """Return (rows, outputs) after the output activation."""
        return self._engine.forward(self._rows(X), False)

    def predict(self, X: Any) -> Array:
        """Return predictions: classes, 0/1, -1/+1 or values, as the loss defines them.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers.

        Returns
        -------
        array
            (rows,) class indices for cross_entropy; else (rows, outputs), or (rows,) where there
            is one output.
        """
        return self._engine.predict(self._rows(X))

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (rows, outputs): of classes, or of each output to be 1.

        Raises
        ------
        ValueError
            The loss is no cross-entropy: its outputs are no probabilities.
        """
        if self._engine.targets.kind not in ("classes", "binary"):
            raise ValueError(
                f"predict_proba needs a loss of probabilities (cross_entropy, "
                f"binary_cross_entropy); this network has {self._engine.network.loss}: use forward"
            )
        return self.forward(X)

    def evaluate(
        self, X: Any, y: Any, metrics: Any = (), sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the data loss, without penalties, and metrics by name.

        Parameters
        ----------
        X : array (rows, inputs)
            Finite numbers.
        y : array
            Targets as in `fit`.
        metrics : sequence of str or callable
            "accuracy", "zero_one", "mse", "mae", "r2", or functions (y, predicted).
        sample_weight : array (rows,), optional
            Counts in the loss, not in the metrics.
        """
        chosen = self._metrics(metrics)
        data = self._data(X, y, sample_weight)
        return {"loss": self._engine.data_loss(data), **self._engine.measured(data, chosen)}

    def _rows(self, X: Any) -> Array:
        return checked_rows(self._engine, X)

    def _data(self, X: Any, y: Any, w: Any) -> Data:
        return checked_data(self._engine, X, y, w)

    def _metrics(self, chosen: Any) -> dict[str, metric_module.Metric]:
        return metric_module.resolve(chosen, self._engine.targets.kind)

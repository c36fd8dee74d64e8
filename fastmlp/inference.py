"""The part of `MLP` that predicts and measures."""

from __future__ import annotations

import copy
from typing import Any

from . import checks
from . import metrics as metric_module
from .architecture import threshold
from .engine import Engine
from .jobs import checked_data, checked_rows, need_no_copy
from .kernels.contract import Array, Data
from .optimizers import SGD


class CompiledPredictor:
    """A network's `predict`, frozen; made by `MLP.compiled_predictor`. Threads may share it."""

    def __init__(self, engine: Engine):
        self._engine = copy.deepcopy(engine)
        self._engine.restart(SGD())  # whose vectors take no room
        self._inputs, self._dtype = engine.network.layers[0].inputs, engine.dtype
        self._classes = engine.targets.kind == "classes"
        self._threshold, self._decode = threshold(engine.network), engine.targets.decode
        self._few, self._plan = self._engine.kernels().predict_few, self._engine.plan()

    def __call__(self, X: Any) -> Array:
        """Return the predictions for rows X (rows, inputs), as `MLP.predict` does."""
        if self._few is not None and checks.is_matrix(X, self._inputs, self._dtype):
            answer = self._few(self._plan, X, self._classes)
            if answer is not None:
                return answer if self._classes else self._decode(answer, self._threshold)
        return _predictions(self._engine, X)


def _predictions(engine: Engine, X: Any) -> Array:
    answer = engine.predict_few(X) if need_no_copy(engine, X) else None
    return engine.predict(checked_rows(engine, X)) if answer is None else answer


class Predictor:
    """Outputs, predictions and their measures."""

    _engine: Engine

    def logits(self, X: Any) -> Array:
        """Return (rows, outputs) before the output activation."""
        return self._engine.forward(self._rows(X), True)

    def forward(self, X: Any) -> Array:
        """Return (rows, outputs) after the output activation."""
        answer = self._engine.few(X) if need_no_copy(self._engine, X) else None
        return self._engine.forward(self._rows(X), False) if answer is None else answer

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
        return _predictions(self._engine, X)

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

    def compiled_predictor(self) -> CompiledPredictor:
        """Return `predict` of this network as it is now, with less between X and the kernels.

        For services that answer row by row: a sixth less time for a row of a small network. It
        keeps a copy of the parameters, so training this network does not change it.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> answer = MLP((3, 4, 2), seed=1).compiled_predictor()
        >>> answer([[0.5, 1.0, -1.0]]).shape
        (1,)
        """
        return CompiledPredictor(self._engine)

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

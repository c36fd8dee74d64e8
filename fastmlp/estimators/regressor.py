"""The regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from ..kernels.contract import Array
from ..losses import Loss
from . import parameters, scores
from .base import BaseMLP, Coded
from .scikit_callbacks import with_callbacks


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """DOCSTRING
    """

    loss: Any

    _parameter_constraints = {
        **parameters.CONSTRAINTS,
        "loss": [StrOptions(set(parameters.REGRESSOR_LOSSES)), Loss],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str = "auto",
        dtype: Any = None,
        dropout: Any = 0.0,
        normalization: Any = None,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        eval_metric: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        coefs_init: Any = None,
        intercepts_init: Any = None,
    ) -> None:
        self._remember(locals())

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> MLPRegressor:
        """Train on all rows until the loss or the validation score stops improving.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array (rows,) or (rows, outputs)
            Numbers; for the Poisson loss at least 0.
        sample_weight : array (rows,), optional
            At least 0, not all 0.
        X_val, y_val : optional
            Rows to validate with, instead of a share of X.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        fitted: MLPRegressor = self._fit(X, y, sample_weight, False, X_val, y_val)
        return fitted

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch, going on from where the latest call has ended.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array (rows,) or (rows, outputs)
            As in `fit`.
        sample_weight : array (rows,), optional
            At least 0, not all 0.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        fitted: MLPRegressor = self._fit(X, y, sample_weight, True)
        return fitted

    def predict(self, X: Any) -> Array:
        """Return predictions.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            (rows,), or (rows, outputs) where y had several columns.
        """
        return self._written(self._outputs(X))

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        X, y = validate_data(self, X, y, y_numeric=True, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _coded(self, y: Array, dtype: np.dtype[Any], first: bool, single: bool) -> Coded:
        T = y.reshape(len(y), -1).astype(dtype)
        loss = parameters.REGRESSOR_LOSSES.get(self.loss, self.loss)
        constants = None
        if loss == "poisson":
            if (T < 0).any():
                raise ValueError(f"y must be >= 0 for loss='poisson'; got {T.min():g}")
            wide = T.astype(np.float64)
            constants = (xlogy(wide, wide) - wide).sum(axis=1)
        return Coded(T, T, T.shape[1], loss, constants)

    def _answers(self, outputs: Array) -> Array:
        return outputs

    def _written(self, answers: Array) -> Array:
        return answers[:, 0] if answers.shape[1] == 1 else answers

    def _metric(self, truth: Array, answers: Array, w: Array | None) -> float:
        return scores.r2(truth, answers, w)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

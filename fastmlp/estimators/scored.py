"""Scores of the estimators, with rows, targets and weights on either side."""

from __future__ import annotations

from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin

from .. import devices


class ScoredClassifier(ClassifierMixin):
    """`score` of a classifier."""

    predict: Any

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows of which every label is right.

        Parameters
        ----------
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array
            True labels, in the form of the y of `fit`.
        sample_weight : array (rows,), optional
            At least 0.

        Returns
        -------
        float
            From 0 to 1.
        """
        from sklearn.metrics import accuracy_score

        answers = devices.on_host(self.predict(X))
        truth, weights = devices.on_host(y), devices.on_host(sample_weight)
        return float(accuracy_score(truth, answers, sample_weight=weights))


class ScoredRegressor(RegressorMixin):
    """`score` of a regressor."""

    predict: Any

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination, the mean of the outputs'.

        Parameters
        ----------
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array
            True values, in the form of the y of `fit`.
        sample_weight : array (rows,), optional
            At least 0.

        Returns
        -------
        float
            1 where every prediction is right; may be below 0.
        """
        from sklearn.metrics import r2_score

        answers = devices.on_host(self.predict(X))
        truth, weights = devices.on_host(y), devices.on_host(sample_weight)
        return float(r2_score(truth, answers, sample_weight=weights))

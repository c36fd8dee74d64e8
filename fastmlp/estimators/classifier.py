"""The classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from ..kernels.contract import Array
from . import parameters, scores
from .base import BaseMLP, Coded
from .scikit_callbacks import with_callbacks


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss != "log_loss":
        raise AttributeError(
            f"loss={estimator.loss!r} gives no probabilities: use decision_function, or "
            "loss='log_loss'"
        )
    return True


def _has_margins(estimator: Any) -> bool:
    if estimator.loss == "log_loss":
        raise AttributeError("loss='log_loss' gives probabilities: use predict_proba")
    return True


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """DOCSTRING
    """

    loss: str
    class_weight: Any

    _parameter_constraints = {
        **parameters.CONSTRAINTS,
        "loss": [StrOptions(set(parameters.CLASSIFIER_LOSSES))],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(
        self,
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
        loss: str = "log_loss",
        backend: str = "auto",
        dtype: Any = None,
        class_weight: Any = None,
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
    ) -> MLPClassifier:
        """Train on all rows until the loss or the validation score stops improving.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array (rows,) or (rows, labels)
            Class labels of any kind; or 0 and 1 in a column for each label.
        sample_weight : array (rows,), optional
            At least 0, not all 0.
        X_val, y_val : optional
            Rows to validate with, instead of a share of X.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        fitted: MLPClassifier = self._fit(X, y, sample_weight, False, X_val, y_val)
        return fitted

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train for one epoch, going on from where the latest call has ended.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.
        y : array (rows,) or (rows, labels)
            As in `fit`; not every class has to be there.
        sample_weight : array (rows,), optional
            At least 0, not all 0.
        classes : array (classes,), optional
            All classes that will ever come; needed in the first call, unless y has a column for
            each label.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        columns = type_of_target(y).startswith("multilabel")
        if columns and classes is None and not hasattr(self, "classes_"):
            classes = np.arange(np.shape(y)[1])
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer().fit(y if columns else classes)
        fitted: MLPClassifier = self._fit(X, y, sample_weight, True)
        return fitted

    def predict(self, X: Any) -> Array:
        """Return the likeliest classes.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            Labels (rows,); or 0 and 1, (rows, labels), where y had a column for each label.
        """
        return self._written(self._answers(self._outputs(X)))

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Return probabilities.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array (rows, classes)
            In the order of ``classes_``.
        """
        outputs = self._outputs(X)
        return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array (rows, classes)
            In the order of ``classes_``.
        """
        chances = self.predict_proba(X)
        return np.log(chances, out=chances)

    @available_if(_has_margins)
    def decision_function(self, X: Any) -> Array:
        """Return the outputs of a margin loss, such as "hinge": above 0 speaks for a class.

        Parameters
        ----------
        X : array, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            (rows,) for two classes, speaking for the second; else (rows, classes).
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        X, y = validate_data(self, X, y, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _coded(self, y: Array, dtype: np.dtype[Any], first: bool, single: bool) -> Coded:
        if not hasattr(self, "classes_") or (first and not single):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_known(unique_labels(y), single)
        table = self._label_binarizer.transform(y)
        truth: Array = (table.toarray() if hasattr(table, "toarray") else table).astype(bool)
        several = self._label_binarizer.y_type_ == "multiclass"
        outputs = truth.shape[1]
        if self.loss != "log_loss":
            T = np.where(truth, 1, -1).astype(dtype)
            return Coded(T, truth.argmax(axis=1) if several else truth, outputs, self.loss)
        if several:
            indices = truth.argmax(axis=1)
            return Coded(indices, indices, outputs, "cross_entropy")
        return Coded(truth.astype(dtype), truth, outputs, "binary_cross_entropy")

    def _check_known(self, classes: Array, single: bool) -> None:
        """Refuse classes that the network has no output for."""
        if self.warm_start and not single and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        unknown = np.setdiff1d(classes, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y must hold classes of the earlier calls, {self.classes_}; got {unknown}"
            )

    def _class_weights(self, y: Array, single: bool) -> Array | None:
        if self.class_weight is None:
            return None
        if single and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows at once, partial_fit has some of them: "
                "give the weights as a dict, from sklearn.utils.class_weight.compute_class_weight"
            )
        weights: Array = compute_sample_weight(self.class_weight, y)
        return weights

    def _answers(self, outputs: Array) -> Array:
        if self._label_binarizer.y_type_ == "multiclass":
            return np.asarray(outputs.argmax(axis=1))
        return np.asarray(outputs > (0.5 if self.out_activation_ == "logistic" else 0.0))

    def _written(self, answers: Array) -> Array:
        if answers.ndim == 1:
            return np.asarray(self.classes_[answers])
        if self._label_binarizer.y_type_ == "binary":
            places = np.minimum(answers[:, 0], len(self.classes_) - 1)
            return np.asarray(self.classes_[places.astype(np.intp)])
        written: Array = self._label_binarizer.inverse_transform(answers.astype(np.float64))
        return written

    def _metric(self, truth: Array, answers: Array, w: Array | None) -> float:
        return scores.accuracy(truth, answers, w)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

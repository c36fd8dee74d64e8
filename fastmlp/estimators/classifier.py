"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from .. import devices
from ..kernels.contract import Array
from . import on_gpu, parameters, scores
from .base import BaseMLP
from .coded import Coded
from .scikit_callbacks import with_callbacks
from .scored import ScoredClassifier
from .weights import class_weights


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


class MLPClassifier(ScoredClassifier, BaseMLP):
    """Multilayer perceptron for classes, with scikit-learn's parameters and results.

    With the parameters of ``sklearn.neural_network.MLPClassifier``, float64 and the same
    ``random_state`` it follows the same trajectory; those from `loss` on are additions.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; an empty sequence makes a linear model.
    activation : str or object, or a sequence of them
        For all hidden layers, or one for each: "identity", "logistic", "tanh", "relu", and every
        other one of `fastmlp.MLP`, such as "gelu" or ``LeakyReLU(0.2)``.
    solver : str or object
        "sgd", "adam", "lbfgs", "adamw", "rmsprop", "adagrad"; or an optimizer such as
        ``RMSprop(0.01, rho=0.9)``, which brings its own numbers.
    alpha : float
        Penalty ``alpha/2 sum W^2``, divided by the rows (or the sum of weights) of the batch.
    batch_size : int or "auto"
        "auto": 200, or all rows where there are fewer. Not for "lbfgs".
    learning_rate : str
        For "sgd": "constant"; "invscaling", ``learning_rate_init/(t_ + 1)**power_t``;
        "adaptive", a fifth after every ``n_iter_no_change`` epochs without improvement.
    learning_rate_init : float
        Learning rate of the first epoch, above 0.
    power_t : float
        For "invscaling".
    max_iter : int
        Most epochs; for "lbfgs" most iterations.
    shuffle : bool
        A new order of the rows in each epoch.
    random_state : int, RandomState or None
        Draws the first weights, the rows that validate, the orders and dropout.
    tol : float
        Least improvement of the loss or of the validation score that counts.
    verbose : bool, int or "progress"
        True prints a line for each epoch; "progress" draws one live line.
    warm_start : bool
        Begin with the weights of the previous fit.
    momentum, nesterovs_momentum : float, bool
        For "sgd".
    early_stopping : bool
        Hold rows out, stop by their score instead of the loss, and restore the best weights.
    validation_fraction : float
        Share of the rows to hold out.
    beta_1, beta_2, epsilon : float
        For "adam" and "adamw"; epsilon also for "rmsprop".
    n_iter_no_change : int or inf
        Epochs without improvement after which to stop.
    max_fun : int
        For "lbfgs": most evaluations of the loss.
    loss : str
        "log_loss"; or a margin loss, "hinge", "squared_hinge", "exponential" or "perceptron", which
        has ``decision_function`` instead of probabilities.
    backend : str
        "numpy", "numba", "cupy", or "auto": cupy where X lies on a GPU; else numba where it is
        installed, else numpy.
    dtype : str or None
        "float32" or "float64"; "tf32" or "bfloat16" on the GPU; None: that of X, float64 where X
        has another one.
    class_weight : dict, "balanced", list of dicts, or None
        Weight of each class, multiplied with ``sample_weight``; a list where y has several columns.
    dropout : float or sequence of float
        Share of a hidden layer's outputs that is dropped in training.
    normalization : str or None, or a sequence of them
        "batch" or "layer", before the activation of hidden layers.
    l1 : float
        Penalty ``l1 sum |W|``, divided as that of `alpha`.
    clip_value, clip_norm : float or None
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    eval_metric : str, callable or None
        Score of the validation rows: None, accuracy; "loss", their loss; a word of
        ``sklearn.metrics.get_scorer_names()``; or a scorer (estimator, X, y). More is better.
    callbacks : sequence of callable, or None
        Functions ``(epoch, history, net)`` or `fastmlp.Callback` objects. Scikit-learn's callbacks
        are set by ``set_callbacks``.
    n_threads : int or None
        Most threads; None: `fastmlp.get_num_threads`, which is 1 inside a worker of joblib.
    coefs_init, intercepts_init : list of array or None
        First weights (inputs, outputs) and biases (outputs,) of all layers.

    Attributes
    ----------
    coefs_, intercepts_ : list of array
        Weights and biases of each layer. The arrays are read-only; assigned ones count from then
        on.
    loss_ : float
        Loss of the latest epoch, penalty in.
    loss_curve_ : list of float
        Loss of each epoch, or of each iteration of "lbfgs".
    best_loss_ : float or None
        Least loss; None with early stopping.
    validation_scores_, validation_loss_curve_ : list of float, or None
        Score and loss of the validation rows after each epoch.
    best_validation_score_ : float or None
        Highest of the scores; its weights are the ones that stay.
    n_iter_, t_ : int
        Epochs of the latest fit, and rows seen in all of them.
    n_features_in_, n_outputs_, n_layers_ : int
        Columns of X, outputs, and layers with the input.
    feature_names_in_ : array of str
        Names of the columns, where X had any.
    out_activation_ : str
        Activation of the output layer.
    classes_ : array, or list of arrays
        Class labels in the order of the outputs.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> X, y = load_digits(scaling="unit")
    >>> model = MLPClassifier(max_iter=300, tol=0.01, random_state=0).fit(X[:1500], y[:1500])
    >>> bool(model.score(X[1500:], y[1500:]) > 0.85)
    True
    """

    loss: str
    class_weight: Any

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
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
        y, classes = devices.on_host(y), devices.on_host(classes)
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            Labels (rows,); or 0 and 1, (rows, labels), where y had a column for each label.
        """
        answers = self._answers(devices.on_host(self._outputs(X)))
        return on_gpu.beside(X, self._written(answers))

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Return probabilities.

        Parameters
        ----------
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array (rows, classes)
            In the order of ``classes_``.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] > 1:
            return outputs
        second = devices.on_host(outputs)
        return on_gpu.beside(X, np.hstack([1 - second, second]))

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities.

        Parameters
        ----------
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array (rows, classes)
            In the order of ``classes_``.
        """
        chances: Array = devices.on_host(self.predict_proba(X))
        return on_gpu.beside(X, np.log(chances, out=chances))

    @available_if(_has_margins)
    def decision_function(self, X: Any) -> Array:
        """Return the outputs of a margin loss, such as "hinge": above 0 speaks for a class.

        Parameters
        ----------
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            (rows,) for two classes, speaking for the second; else (rows, classes).
        """
        outputs = self._outputs(X)
        columns: Array = outputs[:, 0] if outputs.shape[1] == 1 else outputs
        return columns

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        X, y = self._validated(X, y, **options, numeric=False)
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

    def _class_weights(self, y: Array, w: Array | None, single: bool) -> Array | None:
        return class_weights(self.class_weight, y, w, single)

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

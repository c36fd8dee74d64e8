"""The regressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import xlogy
from sklearn.base import _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ..kernels.contract import Array
from ..losses import Loss
from . import parameters, scores
from .base import BaseMLP
from .coded import Coded
from .scikit_callbacks import with_callbacks
from .scored import ScoredRegressor


class MLPRegressor(ScoredRegressor, BaseMLP):
    """Multilayer perceptron for numbers, with scikit-learn's parameters and results.

    With the parameters of ``sklearn.neural_network.MLPRegressor``, float64 and the same
    ``random_state`` it follows the same trajectory; those from `backend` on are additions.

    Parameters
    ----------
    loss : str or object
        "squared_error" and "poisson" as in scikit-learn; "absolute_error", "huber", "quantile",
        or ``Huber(2.0)``, ``Quantile(0.9)``.
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
    backend : str
        "numpy", "numba", "cupy", or "auto": cupy where X lies on a GPU; else numba where it is
        installed, else numpy.
    dtype : str or None
        "float32" or "float64"; "tf32" or "bfloat16" on the GPU; None: that of X, float64 where X
        has another one.
    dropout : float or sequence of float
        Share of a hidden layer's outputs that is dropped in training.
    normalization : str or None, or a sequence of them
        "batch" or "layer", before the activation of hidden layers.
    l1 : float
        Penalty ``l1 sum |W|``, divided as that of `alpha`.
    clip_value, clip_norm : float or None
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    eval_metric : str, callable or None
        Score of the validation rows: None, R^2; "loss", their loss; a word of
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

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> x = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> y = np.sin(2 * x[:, 0])
    >>> model = MLPRegressor(hidden_layer_sizes=20, activation="tanh", solver="lbfgs",
    ...                      max_iter=500, tol=1e-3, random_state=0).fit(x, y)
    >>> bool(model.score(x, y) > 0.99)
    True
    """

    loss: Any

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
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
        X : array, also on a GPU, data frame or CSR matrix (rows, features)
            Finite numbers.

        Returns
        -------
        array
            (rows,), or (rows, outputs) where y had several columns.
        """
        return self._written(self._outputs(X))

    def _checked_targets(self, X: Any, y: Any, **options: Any) -> tuple[Any, Array]:
        X, y = self._validated(X, y, **options, numeric=True)
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

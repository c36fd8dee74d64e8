"""The scikit-learn estimators: one import line changed, the same results.

Both sides train on the digits with the same parameters; their loss curves lie on one another. Then
a grid search over parameters that scikit-learn's estimator does not have.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import sklearn.neural_network
from common import digits, options, show
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp


def trained(X: Any, y: Any, epochs: int, backend: str) -> tuple[Any, Any]:
    """scikit-learn's classifier and ours, trained alike."""
    fastmlp.warmup("float64", backend)
    models = (
        sklearn.neural_network.MLPClassifier(max_iter=epochs, random_state=0),
        fastmlp.MLPClassifier(max_iter=epochs, random_state=0, backend=backend),
    )
    for model in models:
        started = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - started
        print(f"{type(model).__module__:<46} loss {model.loss_:.10f}, {seconds:.2f} s")
    return models


def search(X: Any, y: Any, epochs: int, backend: str) -> Any:
    """Look for the best activation and dropout by three-fold cross-validation."""
    model = fastmlp.MLPClassifier(max_iter=epochs, random_state=0, backend=backend)
    grid = {"mlpclassifier__activation": ["relu", "gelu"], "mlpclassifier__dropout": [0.0, 0.3]}
    return GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=3).fit(X, y)


def main(arguments: list[str] | None = None) -> None:
    args = options(__doc__ or "", epochs=40).parse_args(arguments)
    epochs = 4 if args.quick else args.epochs
    X, y, X_test, y_test = digits("unit")
    X = X.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs, ours = trained(X, y, epochs, args.backend)
        found = search(X, y, epochs, args.backend)
    pairs = zip(theirs.coefs_, ours.coefs_, strict=True)
    largest = max(float(np.abs(a - b).max()) for a, b in pairs)
    print(f"largest difference of two weights: {largest:.1e}")
    print(f"best of {len(found.cv_results_['params'])}: {found.best_params_}")
    print(f"accuracy on the test rows: {found.score(X_test, y_test):.3f}")

    def curves(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        axes.plot(theirs.loss_curve_, linewidth=5, alpha=0.3, label="scikit-learn")
        axes.plot(ours.loss_curve_, linewidth=1, label="fastmlp")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()
        return figure

    show(args.save, curves=curves)


if __name__ == "__main__":
    main()

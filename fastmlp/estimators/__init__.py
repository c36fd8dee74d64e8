"""Scikit-learn estimators over `fastmlp.MLP`: parameters, targets, stopping and scores.

They need scikit-learn, which ``import fastmlp`` alone does not. Training is `MLP.fit`, with what
scikit-learn does after each epoch as a callback; "lbfgs" is SciPy's, over the compiled gradient.
"""

try:
    import sklearn  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError(
        "fastmlp.MLPClassifier and fastmlp.MLPRegressor need scikit-learn: "
        "pip install 'fastmlp[sklearn]'"
    ) from error

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

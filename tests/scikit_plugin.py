"""A pytest plugin: puts our estimators in place of scikit-learn's before its tests are imported."""

from __future__ import annotations

import sklearn.neural_network

import fastmlp

for _name in ("MLPClassifier", "MLPRegressor"):
    setattr(sklearn.neural_network, _name, getattr(fastmlp, _name))

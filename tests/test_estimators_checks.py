"""Scikit-learn's own checks and test file, from the installed package, on our estimators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import MLPClassifier, MLPRegressor

ROOT = Path(__file__).resolve().parents[1]

NOT_RUN = {"test_gradient": "calls a private method, _loss_grad_lbfgs, with buffers of its own"}
"""Tests of scikit-learn's file that are left out, and why."""

MODELS = [
    MLPClassifier(max_iter=50),
    MLPClassifier(max_iter=50, solver="lbfgs"),
    MLPClassifier(max_iter=50, solver="sgd", early_stopping=False, shuffle=False),
    MLPClassifier(max_iter=50, loss="hinge"),
    MLPClassifier(max_iter=50, class_weight="balanced", solver="lbfgs"),
    MLPRegressor(max_iter=50),
    MLPRegressor(max_iter=50, solver="lbfgs", loss="huber"),
    MLPRegressor(max_iter=50, solver="sgd", batch_size=1000),
    MLPRegressor(max_iter=50, backend="numpy", activation="gelu"),
]


def _no_failures(estimator: Any) -> dict[str, str]:
    """The checks that an estimator may fail."""
    return {}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore:.*batch_size.*is more than:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@parametrize_with_checks(MODELS, expected_failed_checks=_no_failures, xfail_strict=True)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def _pytest(*arguments: str, **environment: str) -> str:
    """Run pytest in a process of its own, without the settings of this project."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    return result.stdout


def test_scikit_learns_own_test_file() -> None:
    import sklearn

    file = Path(sklearn.__file__).parent / "neural_network" / "tests" / "test_mlp.py"
    left_out = [f"--deselect={file.name}::{name}" for name in NOT_RUN]
    output = _pytest(
        "-p", "scikit_plugin", "-c", os.devnull, f"--rootdir={file.parent}", str(file), *left_out
    )
    assert f"{len(NOT_RUN)} deselected" in output
    assert int(output.splitlines()[-1].split(" passed")[0].split()[-1]) > 50
    assert "skipped" not in output


def test_the_plugin_really_puts_ours_in_place() -> None:
    code = (
        "import scikit_plugin, sklearn.neural_network.tests.test_mlp as theirs, fastmlp;"
        "assert theirs.MLPClassifier is fastmlp.MLPClassifier;"
        "assert theirs.MLPRegressor is fastmlp.MLPRegressor"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=True
    )


def test_array_api_and_pandas_checks_run() -> None:
    """SciPy looks at SCIPY_ARRAY_API when it is imported, so the checks have their own process."""
    pytest.importorskip("pandas")
    pytest.importorskip("array_api_strict")
    # The checks without a word in their names that says "array_api" run above.
    output = _pytest(
        f"{Path(__file__)}::test_scikit_learns_checks",
        "-c",
        str(ROOT / "pyproject.toml"),
        "-k",
        "array_api or pandas or dataframe or series",
        SCIPY_ARRAY_API="1",
    )
    assert "SCIPY_ARRAY_API" not in output
    assert "pandas" not in output.lower()
    assert " passed" in output
    assert "skipped" not in output

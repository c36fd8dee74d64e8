"""What a first result leaves unimported, and that numba still finds it."""

from __future__ import annotations

import importlib.util

import pytest

from fastmlp import kernels

from .processes import run

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

FIRST_RESULT = """
import sys
import numpy as np
import fastmlp

net = fastmlp.MLP((4, 5, 3), backend="numba", seed=0)
net.fit(np.zeros((20, 4)), np.zeros(20, int), epochs=1)
from fastmlp.kernels.numba_cpu.lighter import spare_scipy
spare_scipy()  # kernels out of the cache do without all of it
print("numba.np.arraymath" in sys.modules, "scipy.linalg" in sys.modules)
"""

LINEAR_ALGEBRA = """
import numba
from numba.np import arraymath, linalg

@numba.njit
def multiplied(a):
    return np.dot(a, a), np.linalg.inv(a)

try:
    square, inverse = multiplied(2.0 * np.eye(3))
    print(square.trace(), inverse.trace())
except (ImportError, numba.core.errors.NumbaError):
    print("refused")
print(arraymath._HAVE_BLAS, arraymath.ensure_blas is linalg.ensure_blas)
"""

WITHOUT = "import sys; sys.modules['scipy'] = None\n"


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="SciPy is not installed")
def test_scipy_is_imported_by_those_who_use_it() -> None:
    printed = run(FIRST_RESULT + LINEAR_ALGEBRA).split()
    assert printed == ["True", "False", "12.0", "1.5", "True", "True"]


def test_without_scipy_numba_still_says_so() -> None:
    printed = run(WITHOUT + FIRST_RESULT + LINEAR_ALGEBRA).split()
    assert printed == ["True", "False", "refused", "False", "True"]

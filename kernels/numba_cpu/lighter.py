"""What numba would import before it compiles although nothing here needs it."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec


@cache
def spare_scipy() -> None:
    """Let numba load its array functions without a look at SciPy's BLAS.

    `numba.np.arraymath` imports `scipy.linalg`, only to know whether it is there: 0.35 s in both
    processes of a cold start (Zen 3). No kernel calls BLAS. Who compiles `np.dot` has numba import
    it then, with the check that is left out here.
    """
    if "scipy.linalg" in sys.modules or "numba.np.arraymath" in sys.modules:
        return
    from numba.np import linalg

    ensured = getattr(linalg, "ensure_blas", None)
    if ensured is None:  # another numba, which may look in another way
        return
    linalg.ensure_blas = _found
    try:
        from numba.np import arraymath
    finally:
        linalg.ensure_blas = ensured
    arraymath.ensure_blas = ensured


def _found() -> None:
    """For the import alone: whether SciPy could be imported."""
    if find_spec("scipy") is None:
        raise ImportError

"""What numba would do at a cold start although nothing here needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

from numba.core.types.functions import BaseFunction


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


_known: dict[Any, Any] = {}
"""(function, types of its arguments) -> signature."""


@contextmanager
def remembered_types() -> Iterator[None]:
    """Let numba find out once what an operation of some types gives.

    Each sum of two integers goes through all that can be added in Python and NumPy. Of 11,300
    operations in the kernels 415 differ; to look for the others again was 7 % of a cold start.
    In the block only, and with numba's lock: other people's functions may be taught new types.
    """
    found = BaseFunction.get_call_type

    def get_call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
        if kws:
            return found(self, context, args, kws)
        key = self, tuple(args)
        signature = _known.get(key)
        if signature is None:
            signature = _known[key] = found(self, context, args, kws)
        return signature

    BaseFunction.get_call_type = get_call_type
    try:
        yield
    finally:
        BaseFunction.get_call_type = found

"""Which way a network's steps take on a device: tiers, from the plainest to the fastest.

``generic`` multiplies by CuPy and starts every launch by itself; it runs on any GPU. ``lt``
multiplies by cuBLASLt, so that a whole training step is captured in a graph and started at once.

The rule: ``lt`` on GPUs of compute capability 8.0 and up where cuBLASLt can be loaded, else
``generic``. It looks at nothing that changes from run to run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cupy

from . import choices, cublaslt, gemm
from .device import DeviceArray

VARIABLE = "FASTMLP_GPU_TIER"
"""Names the tier of the networks that are built from now on."""

TIERS = ("lt", "generic")

CAPABILITY = 80
"""Oldest GPU of ``lt``, times ten: the first with tf32 and bfloat16."""

JOINING: frozenset[str] = frozenset()
"""Precisions in which ``lt`` adds a bias within its product where a launch of its own would.

None: a fused bias saves one pass over Z before normalization and in the last layer, but such
products have fewer algorithms, and others have measured a loss. A precision belongs here when on
wide layers (784-4096-4096-10, 65,536 rows, batch normalization) the step with it is faster by more
than 1%. bfloat16 can't come: its biases would be rounded.
"""

Maker = Callable[..., Callable[[], None]]
"""(out, A, B, bias=None) -> what fills out with A B; A and B may be transposed views."""


class Way(NamedTuple):
    """How a plan computes."""

    tier: str
    choices: choices.Choices

    def __str__(self) -> str:
        """As a network's summary says it."""
        return f"tier {self.tier}" + (f", choices {self.choices.name}" if self.choices.name else "")


def chosen() -> Way:
    """The way of a new plan on the current device.

    Raises
    ------
    OSError, ValueError
        `VARIABLE` names no tier, or one that is not to be had here; or `choices.VARIABLE` a file
        that can't be used.
    """
    tier = _tier()
    return Way(tier, choices.in_use() if tier == "lt" else choices.NONE)


def _tier() -> str:
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", *TIERS):
        raise ValueError(f"{VARIABLE} must be one of {', '.join(TIERS)}; got {wanted!r}")
    reason = None if wanted == "generic" else _unfit()
    if wanted == "lt" and reason is not None:
        raise ValueError(f"{VARIABLE} is 'lt', which can't be used here: {reason}")
    return wanted or ("generic" if reason else "lt")


def _unfit() -> str | None:
    """Why the current device has no ``lt``."""
    capability = int(cupy.cuda.Device().compute_capability)
    if capability < CAPABILITY:
        return f"the GPU has compute capability {capability / 10}, which is below 8.0"
    return cublaslt.missing()


def products(way: Way, precision: str) -> Maker:
    """What makes the products of a plan."""
    return _plain(precision) if way.tier == "generic" else _own(precision, way.choices)


def _plain(precision: str) -> Maker:
    multiply = gemm.product(precision)

    def make(
        out: DeviceArray, A: DeviceArray, B: DeviceArray, bias: None = None
    ) -> Callable[[], None]:
        return partial(multiply, out, A, B)

    return make


def _own(precision: str, made: choices.Choices) -> Maker:
    own, plain = cublaslt.Products(precision, made.algorithms), _plain(precision)

    def make(
        out: DeviceArray, A: DeviceArray, B: DeviceArray, bias: DeviceArray | None = None
    ) -> Callable[[], None]:
        try:
            return own(out, A, B, bias)
        except cublaslt.UnsupportedError:
            if bias is not None:
                raise
            # Of a shape that cuBLASLt refuses; it can't be captured, but it runs.
            return plain(out, A, B)

    return make

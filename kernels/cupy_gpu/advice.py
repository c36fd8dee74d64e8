"""What to do where the device's memory is full."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

ADVICE = (
    "the GPU's memory is full: take smaller batches, dtype='float32', fewer rows in one call or "
    "smaller layers; del of arrays that other code keeps there helps too. The network is as it was"
)

FULL = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")
"""What CUDA calls a full memory, the page-locked one of the host among them."""


def advised(step: Callable[P, R]) -> Callable[P, R]:
    """Turn an error of the device's memory into one that says what helps."""

    @wraps(step)
    def guarded(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return step(*arguments, **named)
        except MemoryError as error:
            raise MemoryError(f"{ADVICE} ({error})") from error
        except RuntimeError as error:
            # Of the runtime, the driver and cuBLAS: their errors share nothing but their words.
            if any(word in str(error) for word in FULL):
                raise MemoryError(f"{ADVICE} ({error})") from error
            raise

    return guarded

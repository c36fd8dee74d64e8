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


def advised(step: Callable[P, R]) -> Callable[P, R]:
    """Turn an error of the device's memory into one that says what helps."""

    @wraps(step)
    def guarded(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return step(*arguments, **named)
        except MemoryError as error:
            raise MemoryError(f"{ADVICE} ({error})") from error

    return guarded

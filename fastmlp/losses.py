"""Losses as users name them: a word, or an object where there is a number to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from . import checks
from .kernels.reference.losses import LOSS_CONSTANTS, LOSSES


class Choice(NamedTuple):
    """A loss as the kernels take it."""

    name: str
    constant: float = 0.0


class Loss:
    """Base of the loss objects; `name` is the kernel's."""

    name: ClassVar[str]

    def choice(self) -> Choice:
        """Give the kernel's name and number."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Huber(Loss):
    """d^2/2 where abs(d) <= delta, else delta (abs(d) - delta/2), d = output - target.

    Source: Huber 1964.

    Parameters
    ----------
    delta : float
        Above 0, in the units of the target.
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", checks.number(self.delta, "delta", above=0))

    def choice(self) -> Choice:
        """Give the kernel's name and number."""
        return Choice(self.name, self.delta)


@dataclasses.dataclass(frozen=True)
class Quantile(Loss):
    """max(q d, (q - 1) d), d = target - output: the output learns the q-quantile.

    Source: Koenker & Bassett 1978.

    Parameters
    ----------
    q : float
        Between 0 and 1, for example 0.9.
    """

    q: float = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", checks.number(self.q, "q", above=0, below=1))

    def choice(self) -> Choice:
        """Give the kernel's name and number."""
        return Choice(self.name, self.q)


OBJECTS: Mapping[str, type[Loss]] = {kind.name: kind for kind in (Huber, Quantile)}
"""Word -> class of the losses that have a number to choose."""

ALIASES: Mapping[str, str] = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}


def resolve(loss: object) -> Choice:
    """Return the kernel's name and number for a word or an object.

    Raises
    ------
    TypeError, ValueError
        It is neither.
    """
    if isinstance(loss, Loss):
        return loss.choice()
    classes = ", ".join(kind.__name__ for kind in OBJECTS.values())
    others = f" or an object such as Huber(2.0) ({classes})"
    known = checks.word(loss, "loss", [*LOSSES, *ALIASES], others)
    known = ALIASES.get(known, known)
    return Choice(known, LOSS_CONSTANTS.get(known, 0.0))

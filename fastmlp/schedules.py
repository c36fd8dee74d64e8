"""Learning rates that change with the optimizer's updates or epochs.

A schedule is a callable of the number of updates and of whole epochs made so far; both count from
0 and go on from one fit to the next. The ones here are plain records, so files hold them. One with
a true attribute ``by_epoch`` is asked once for many updates of an epoch, others for each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from . import checks
from .kernels.contract import Array


@runtime_checkable
class Schedule(Protocol):
    """Anything that can be called like this can be a learning rate."""

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""


@dataclasses.dataclass(frozen=True)
class ExponentialDecay:
    """initial * decay**epoch.

    Parameters
    ----------
    initial : float
        Rate of the first epoch.
    decay : float
        Factor from one epoch to the next, above 0 and at most 1.
    """

    initial: float
    decay: float
    by_epoch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self, "initial")
        object.__setattr__(self, "decay", checks.number(self.decay, "decay", above=0, high=1))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        return self.initial * float(self.decay**epoch)


@dataclasses.dataclass(frozen=True)
class StepDecay:
    """initial * factor**(epoch // every).

    Parameters
    ----------
    initial : float
        Rate of the first epochs.
    factor : float
        Above 0 and at most 1.
    every : int
        Epochs from one drop to the next.
    """

    initial: float
    factor: float = 0.1
    every: int = 10
    by_epoch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self, "initial")
        object.__setattr__(self, "factor", checks.number(self.factor, "factor", above=0, high=1))
        object.__setattr__(self, "every", checks.whole(self.every, "every", 1))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        return self.initial * float(self.factor ** (epoch // self.every))


@dataclasses.dataclass(frozen=True)
class InverseScaling:
    """initial / (1 + scale n)**power, n counting updates or epochs.

    ``InverseScaling(0.1, scale=rows, count="epoch")`` is scikit-learn's "invscaling", which goes by
    the rows seen; ``power=1`` with ``count="epoch"`` is Robbins and Monro's (1951).

    Parameters
    ----------
    initial : float
        Rate of the first update.
    power : float
        At least 0.
    scale : float
        At least 0.
    count : str
        "step" or "epoch".
    """

    initial: float
    power: float = 0.5
    scale: float = 1.0
    count: str = "step"

    def __post_init__(self) -> None:
        _positive(self, "initial")
        object.__setattr__(self, "power", checks.number(self.power, "power", low=0))
        object.__setattr__(self, "scale", checks.number(self.scale, "scale", low=0))
        checks.word(self.count, "count", ("step", "epoch"))

    @property
    def by_epoch(self) -> bool:
        """Whether the rate stays the same within an epoch."""
        return self.count == "epoch"

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        made = epoch if self.by_epoch else step
        try:
            return self.initial / float((1 + self.scale * made) ** self.power)
        except OverflowError:
            return 0.0


@dataclasses.dataclass(frozen=True)
class Cosine:
    """From `initial` down to `final` along half a cosine (Loshchilov & Hutter 2017, equation 5).

    Parameters
    ----------
    initial : float
        Rate of the first update.
    steps : int
        Updates until the rate is `final`, where it stays.
    final : float
        At least 0.
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "initial")
        object.__setattr__(self, "steps", checks.whole(self.steps, "steps", 1))
        object.__setattr__(self, "final", checks.number(self.final, "final", low=0))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        return _half_cosine(self.initial, self.final, step / self.steps)


@dataclasses.dataclass(frozen=True)
class PolynomialDecay:
    """final + (initial - final) (1 - n/steps)**power, n counting updates.

    Source: You, Gitman & Ginsburg 2017 with ``power=2``; You et al. 2020 with ``power=1``.

    Parameters
    ----------
    initial : float
        Rate of the first update.
    steps : int
        Updates until the rate is `final`, where it stays.
    power : float
        Above 0; 1 is a straight line.
    final : float
        At least 0.
    """

    initial: float
    steps: int
    power: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "initial")
        object.__setattr__(self, "steps", checks.whole(self.steps, "steps", 1))
        _positive(self, "power")
        object.__setattr__(self, "final", checks.number(self.final, "final", low=0))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        left = max(0.0, 1 - step / self.steps)
        return self.final + (self.initial - self.final) * float(left**self.power)


@dataclasses.dataclass(frozen=True)
class OneCycle:
    """Up to `highest` and down again along cosines (Smith & Topin 2018).

    Parameters
    ----------
    highest : float
        Rate at the peak.
    steps : int
        Updates of the whole cycle.
    rise : float
        Share of the updates before the peak.
    start, final : float
        First and last rate as parts of the highest.
    """

    highest: float
    steps: int
    rise: float = 0.3
    start: float = 0.04
    final: float = 1e-4

    def __post_init__(self) -> None:
        _positive(self, "highest")
        object.__setattr__(self, "steps", checks.whole(self.steps, "steps", 1))
        for name in ("rise", "start", "final"):
            object.__setattr__(self, name, checks.number(getattr(self, name), name, low=0, high=1))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        peak = self.rise * self.steps
        if step < peak:
            return _half_cosine(self.start * self.highest, self.highest, step / peak)
        way = (step - peak) / (self.steps - peak) if self.steps > peak else 1.0
        return _half_cosine(self.highest, self.final * self.highest, way)


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """A rate that rises in a straight line over the first updates, then goes on as it would.

    Source: Goyal et al. 2017, section 2.2.

    Parameters
    ----------
    rate : float or schedule
        What comes after, and what the rise is a part of; a schedule keeps its own count.
    steps : int
        Updates of the rise.
    """

    rate: float | Schedule
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", checked_rate(self.rate, "rate"))
        object.__setattr__(self, "steps", checks.whole(self.steps, "steps", 1))

    def __call__(self, step: int, epoch: int) -> float:
        """Return the learning rate for the next update."""
        return rate_at(self.rate, step, epoch) * min(1.0, (step + 1) / self.steps)


SCHEDULES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        ExponentialDecay,
        StepDecay,
        InverseScaling,
        Cosine,
        PolynomialDecay,
        OneCycle,
        WarmUp,
    )
}
"""The schedules that a file can hold."""


def scaled_rate(rate: float, batch_size: int, base: int, power: float = 1.0) -> float:
    """Return rate * (batch_size / base)**power, the rate for another batch size.

    A rule of thumb for where to begin a search. Power 1 is the linear scaling rule of SGD (Goyal
    et al. 2017, section 2.1), meant together with `WarmUp`; power 0.5 is the square-root rule of
    Adam and LAMB (Krizhevsky 2014; You et al. 2020).

    Parameters
    ----------
    rate : float
        A rate that is good for batches of `base` rows.
    batch_size, base : int
        At least 1.
    power : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        An argument is something else.
    """
    rows = checks.whole(batch_size, "batch_size", 1) / checks.whole(base, "base", 1)
    share = rows ** checks.number(power, "power", low=0, high=1)
    return checks.number(rate, "rate", above=0) * float(share)


def checked_rate(rate: object, name: str) -> float | Schedule:
    """Return a learning rate: a number above 0, or a schedule.

    Raises
    ------
    TypeError, ValueError
        It is neither.
    """
    if isinstance(rate, Schedule) and not isinstance(rate, type):
        return rate
    return checks.number(rate, name, above=0)


def rate_at(rate: float | Schedule, step: int, epoch: int) -> float:
    """Return the learning rate for the next update.

    Raises
    ------
    TypeError, ValueError
        A schedule of the user's own returns something that is no rate.
    """
    if not callable(rate):
        return rate
    return checks.number(rate(step, epoch), "learning_rate at this step", low=0)


class ComingRates:
    """The rates of the next updates; where they are all the same, they are kept for the next call.

    To fill 20,000 numbers anew for each epoch of 12 ms took 0.3 % of that.
    """

    def __init__(self) -> None:
        self._same = np.zeros(0)

    def take(self, rate: float | Schedule, count: int, step: int, epoch: int) -> Array:
        """Return `count` rates from update number `step` on; nobody may change them."""
        if callable(rate) and not getattr(rate, "by_epoch", False):
            return np.array([rate_at(rate, step + i, epoch) for i in range(count)])
        value = rate_at(rate, step, epoch)
        if len(self._same) < count or self._same[0] != value:
            self._same = np.full(count, value)
        return self._same[:count]


def _positive(record: object, name: str) -> None:
    object.__setattr__(record, name, checks.number(getattr(record, name), name, above=0))


def _half_cosine(start: float, stop: float, way: float) -> float:
    return stop + (start - stop) * 0.5 * (1 + math.cos(math.pi * min(1.0, way)))

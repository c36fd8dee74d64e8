"""Activations as users name them: a word, or an object where there are numbers to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from . import checks
from .kernels.layout import FLOORS
from .kernels.reference.activations import ACTIVATION_CONSTANTS, ACTIVATIONS, PROPERTIES, Properties


class Choice(NamedTuple):
    """An activation as the kernels take it."""

    name: str
    constant: float = 0.0
    pieces: int = 1
    start: Mapping[str, float] = {}
    """Starting values of the learned parameters, the same for every unit."""


class Activation:
    """Base of the activation objects; `name` is the kernel's."""

    name: ClassVar[str]

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LeakyReLU(Activation):
    """z where z > 0, else slope z (Maas, Hannun & Ng 2013).

    Parameters
    ----------
    slope : float
        From 0 to 1.
    """

    slope: float = 0.01
    name: ClassVar[str] = "leaky_relu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", checks.number(self.slope, "slope", low=0, high=1))

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        return Choice(self.name, self.slope)


@dataclasses.dataclass(frozen=True)
class ELU(Activation):
    """z where z > 0, else alpha (exp(z) - 1) (Clevert, Unterthiner & Hochreiter 2016).

    Parameters
    ----------
    alpha : float
        At least 0.
    """

    alpha: float = 1.0
    name: ClassVar[str] = "elu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.number(self.alpha, "alpha", low=0))

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        return Choice(self.name, self.alpha)


@dataclasses.dataclass(frozen=True)
class PReLU(Activation):
    """z where z > 0, else slope z; one learned slope a unit (He, Zhang, Ren & Sun 2015).

    Parameters
    ----------
    initial : float
        The slopes' starting value.
    """

    initial: float = 0.25
    name: ClassVar[str] = "prelu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial", checks.number(self.initial, "initial"))

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        return Choice(self.name, start={"slope": self.initial})


@dataclasses.dataclass(frozen=True)
class MPELU(Activation):
    """z where z > 0, else alpha (exp(beta z) - 1); alpha and beta learned per unit.

    Source: Li, Fan, Li, Wu & Ming 2018, equation 5.

    Parameters
    ----------
    alpha : float
        Starting value; the paper uses 1 or 0.25.
    beta : float
        Starting value, at least 0.001, where training keeps it.
    """

    alpha: float = 1.0
    beta: float = 1.0
    name: ClassVar[str] = "mpelu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.number(self.alpha, "alpha"))
        object.__setattr__(self, "beta", checks.number(self.beta, "beta", low=FLOORS["beta"]))

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        return Choice(self.name, start={"alpha": self.alpha, "beta": self.beta})


@dataclasses.dataclass(frozen=True)
class Maxout(Activation):
    """The largest of k linear pieces (Goodfellow et al. 2013).

    Parameters
    ----------
    pieces : int
        k, at least 2; the layer's weights are (inputs, k units).
    """

    pieces: int = 2
    name: ClassVar[str] = "maxout"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", checks.whole(self.pieces, "pieces", 2, 1 << 16))

    def choice(self) -> Choice:
        """Give the kernel's name and numbers."""
        return Choice(self.name, float(self.pieces), self.pieces)


OBJECTS: Mapping[str, type[Activation]] = {
    kind.name: kind for kind in (LeakyReLU, ELU, PReLU, MPELU, Maxout)
}
"""Word -> class of the activations that have numbers to choose."""


def resolve(activation: object, name: str) -> Choice:
    """Return the kernel's name and numbers for a word or an object.

    Raises
    ------
    TypeError, ValueError
        It is neither; `name` is the argument to blame.
    """
    if isinstance(activation, Activation):
        return activation.choice()
    others = f" or an object such as LeakyReLU(0.2) ({', '.join(_classes())})"
    known = checks.word(activation, name, ACTIVATIONS, others)
    if known in OBJECTS:
        return OBJECTS[known]().choice()
    return Choice(known, ACTIVATION_CONSTANTS.get(known, 0.0))


def _classes() -> list[str]:
    return [kind.__name__ for kind in OBJECTS.values()]


def properties(activation: str | Activation) -> Properties:
    """Look up an activation: formula, derivative, range, monotone, zero-centred and so on.

    Parameters
    ----------
    activation : str or object
        For example ``"tanh"``.

    Returns
    -------
    Properties
        Named tuple of formula, derivative, low, high, source, monotone, zero_centred,
        differentiable, output_only, trainable; for the default numbers of the activation.

    Examples
    --------
    >>> from fastmlp import properties
    >>> properties("tanh").low, properties("tanh").high
    (-1, 1)
    """
    return PROPERTIES[resolve(activation, "activation").name]

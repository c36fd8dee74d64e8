"""Initial weights, drawn in float64 from a NumPy Generator or RandomState."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from . import checks
from .kernels.contract import Array
from .kernels.reference.activations import ACTIVATIONS

Random = np.random.Generator | np.random.RandomState


@runtime_checkable
class Initializer(Protocol):
    """Anything with this method can draw a layer's weights."""

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        """Return weights (inputs, outputs) and biases (outputs,) of a layer.

        `activation` is the word of the layer's activation; for maxout, `outputs` counts all
        pieces. Draw the weights before the biases, so that a seed means one network.
        """


@dataclasses.dataclass(frozen=True)
class Normal:
    """Weights from a normal distribution with mean 0; biases 0.

    Parameters
    ----------
    std : float
        Standard deviation, at least 0.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", checks.number(self.std, "std", low=0))

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        """Draw ``rng.normal(0, std, (inputs, outputs))``."""
        return rng.normal(0.0, self.std, (inputs, outputs)), np.zeros(outputs)


@dataclasses.dataclass(frozen=True)
class TruncatedNormal:
    """Weights from a normal distribution cut at two standard deviations; biases 0.

    Entries outside are drawn again, all of them together in their order, until none is left.

    Parameters
    ----------
    std : float
        Standard deviation before cutting, at least 0.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", checks.number(self.std, "std", low=0))

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        """Draw ``rng.normal(0, std, (inputs, outputs))``, then replacements."""
        weights = np.asarray(rng.normal(0.0, self.std, (inputs, outputs)))
        outside = np.abs(weights) > 2 * self.std
        while outside.any():
            weights[outside] = rng.normal(0.0, self.std, int(outside.sum()))
            outside = np.abs(weights) > 2 * self.std
        return weights, np.zeros(outputs)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Weights from a uniform distribution on [-bound, bound); biases 0.

    Parameters
    ----------
    bound : float
        At least 0.
    """

    bound: float

    def __post_init__(self) -> None:
        widest = np.finfo(np.float64).max / 2  # NumPy draws from a finite range
        bound = checks.number(self.bound, "bound", low=0, high=float(widest))
        object.__setattr__(self, "bound", bound)

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        """Draw ``rng.uniform(-bound, bound, (inputs, outputs))``."""
        return rng.uniform(-self.bound, self.bound, (inputs, outputs)), np.zeros(outputs)


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """Variance gain/fan; the fan is the inputs, or their mean with the outputs; biases 0."""

    gain: float
    both: bool
    uniform: bool
    source: str

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        variance = self.gain / ((inputs + outputs) / 2 if self.both else inputs)
        if self.uniform:  # on [-b, b) the variance is b^2/3
            return Uniform(math.sqrt(3 * variance)).draw(rng, inputs, outputs, activation)
        return Normal(math.sqrt(variance)).draw(rng, inputs, outputs, activation)


@dataclasses.dataclass(frozen=True)
class _Auto:
    """What goes with the layer's activation."""

    source: ClassVar[str] = "the one that AUTO names for the layer's activation"

    def draw(self, rng: Random, inputs: int, outputs: int, activation: str) -> tuple[Array, Array]:
        return WORDS[AUTO[activation]].draw(rng, inputs, outputs, activation)


_GLOROT = "Glorot & Bengio 2010"
_HE = "He, Zhang, Ren & Sun 2015"
_LECUN = "LeCun, Bottou, Orr & Müller 1998"

WORDS: Mapping[str, Initializer] = {
    "auto": _Auto(),
    "glorot_uniform": _Scaled(1.0, both=True, uniform=True, source=f"{_GLOROT}, equation 16"),
    "glorot_normal": _Scaled(1.0, both=True, uniform=False, source=f"{_GLOROT}, equation 12"),
    "he_uniform": _Scaled(2.0, both=False, uniform=True, source=f"{_HE}, equation 10"),
    "he_normal": _Scaled(2.0, both=False, uniform=False, source=f"{_HE}, equation 10"),
    "lecun_uniform": _Scaled(1.0, both=False, uniform=True, source=f"{_LECUN}, equation 16"),
    "lecun_normal": _Scaled(1.0, both=False, uniform=False, source=f"{_LECUN}, equation 16"),
    "zeros": Uniform(0.0),
}
"""Word -> initializer. For I inputs and O outputs (all pieces of maxout together):

glorot_uniform on [-b, b), b = sqrt(6/(I + O)); glorot_normal std sqrt(2/(I + O));
he_uniform b = sqrt(6/I); he_normal std sqrt(2/I); lecun_uniform b = sqrt(3/I);
lecun_normal std sqrt(1/I). Biases are zero.
"""

_RELU_FAMILY = (
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "mpelu",
    "maxout",
    "gelu",
    "silu",
    "mish",
    "softplus",
)
AUTO: Mapping[str, str] = {
    **dict.fromkeys(ACTIVATIONS, "glorot_uniform"),
    **dict.fromkeys(_RELU_FAMILY, "he_normal"),
    "selu": "lecun_normal",
}
"""Activation -> the initializer that ``init="auto"`` takes for its layer."""


def resolve(init: object) -> Initializer:
    """Return the initializer for a word or an object with `draw`.

    Raises
    ------
    TypeError, ValueError
        It is neither.
    """
    if isinstance(init, str):
        return WORDS[checks.word(init, "init", WORDS)]
    if not isinstance(init, Initializer) or isinstance(init, type):
        options = ", ".join(WORDS)
        raise TypeError(
            f"init must be one of {options} or an object with a method draw, such as Normal(0.1); "
            f"got {checks.shown(init)}"
        )
    return init


def draw_layer(
    init: Initializer, rng: Random, inputs: int, outputs: int, activation: str
) -> tuple[Array, Array]:
    """Draw one layer and check what came: shapes, real and finite numbers.

    Raises
    ------
    TypeError, ValueError
        The initializer returned something else.
    """
    drawn: Any = init.draw(rng, inputs, outputs, activation)
    if not isinstance(drawn, tuple | list) or len(drawn) != 2:
        raise TypeError(f"init.draw must return (weights, biases); got {checks.shown(drawn)}")
    weights = checks.real_array(drawn[0], "weights of init.draw")
    biases = checks.real_array(drawn[1], "biases of init.draw")
    if weights.shape != (inputs, outputs) or biases.shape != (outputs,):
        raise ValueError(
            f"init.draw must return shapes {(inputs, outputs)} and {(outputs,)}; "
            f"got {weights.shape} and {biases.shape}"
        )
    return weights, biases

"""Optimizers as users name them: a word, or an object with its numbers.

An object holds numbers only; the state (velocities, moments, counts) belongs to the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from . import checks
from .kernels.contract import Update
from .schedules import Schedule, checked_rate


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Base of the optimizers: a learning rate, and clipping of the gradient."""

    learning_rate: float | Schedule
    clip_value: float | None = dataclasses.field(default=None, kw_only=True)
    clip_norm: float | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", checked_rate(self.learning_rate, "learning_rate"))
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                _set(self, name, above=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        raise NotImplementedError

    def _update(self, name: str, *constants: float) -> Update:
        return Update(name, constants, self.clip_value or 0.0, self.clip_norm or 0.0)


def _set(record: Any, name: str, **limits: float) -> None:
    object.__setattr__(record, name, checks.number(getattr(record, name), name, **limits))


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    Without `rate_in_velocity`, v = momentum v + g and p -= rate v; Nesterov takes
    p -= rate (g + momentum v). This is PyTorch's form. With it, v = momentum v - rate g and
    p += v; Nesterov takes p += momentum v - rate g. This is scikit-learn's. They differ when the
    rate changes.

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0.
    momentum : float
        From 0 to 1.
    nesterov : bool
        Needs a momentum.
    rate_in_velocity : bool
        Which form.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    rate_in_velocity: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "momentum", low=0, high=1)
        object.__setattr__(self, "nesterov", checks.flag(self.nesterov, "nesterov"))
        form = checks.flag(self.rate_in_velocity, "rate_in_velocity")
        object.__setattr__(self, "rate_in_velocity", form)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0, for example momentum=0.9")

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        if self.momentum == 0:
            return self._update("sgd")
        name = "nesterov" if self.nesterov else "momentum"
        return self._update(name + "_with_rate" * self.rate_in_velocity, self.momentum)


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015).

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0.
    beta1, beta2 : float
        Decay of the first and second moment, from 0 to below 1.
    epsilon : float
        Above 0.
    epsilon_hat : bool
        False: algorithm 1, as in PyTorch: m/(1 - beta1^t) over sqrt(v/(1 - beta2^t)) + epsilon.
        True: the form at the end of section 2, as in scikit-learn, where epsilon meets the
        uncorrected sqrt(v).
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "beta1", low=0, below=1)
        _set(self, "beta2", low=0, below=1)
        _set(self, "epsilon", above=0)
        object.__setattr__(self, "epsilon_hat", checks.flag(self.epsilon_hat, "epsilon_hat"))

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        name = "adam_epsilon_hat" if self.epsilon_hat else "adam"
        return self._update(name, self.beta1, self.beta2, self.epsilon)


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with weight decay beside the gradient (Loshchilov & Hutter 2019); weights only.

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0.
    beta1, beta2 : float
        Decay of the first and second moment, from 0 to below 1.
    epsilon : float
        Above 0.
    weight_decay : float
        Each update first takes rate * weight_decay of the weights away; at least 0.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "beta1", low=0, below=1)
        _set(self, "beta2", low=0, below=1)
        _set(self, "epsilon", above=0)
        _set(self, "weight_decay", low=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        return self._update("adamw", self.beta1, self.beta2, self.epsilon, self.weight_decay)


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), epsilon outside the root as in PyTorch.

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0.
    rho : float
        Decay of the mean square, from 0 to below 1.
    epsilon : float
        Above 0.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.01
    rho: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "rho", low=0, below=1)
        _set(self, "epsilon", above=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        return self._update("rmsprop", self.rho, self.epsilon)


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011).

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0.
    epsilon : float
        Above 0.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "epsilon", above=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        return self._update("adagrad", self.epsilon)


@dataclasses.dataclass(frozen=True)
class LARS(Optimizer):
    """Layer-wise adaptive rates for large batches (You, Gitman & Ginsburg 2017, algorithm 1).

    For the weights w of each layer and their gradient g: v = momentum v - rate ratio
    (g + weight_decay w) and w += v. The ratio is trust_coefficient times the Euclidean norm of w,
    over the norm of g plus weight_decay times that of w; 1 where one is zero. All other parameters
    (biases, slopes, scales and shifts) take plain momentum at the full rate,
    v = momentum v - rate g, without decay.

    An update without momentum changes a layer by about rate * trust_coefficient of its length.

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0. Papers take it up from 0 over some epochs, then down: see `WarmUp` and
        `PolynomialDecay`.
    momentum : float
        From 0 to 1.
    trust_coefficient : float
        Above 0.
    weight_decay : float
        At least 0; weights only.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 1.0
    momentum: float = 0.9
    trust_coefficient: float = 0.001
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "momentum", low=0, high=1)
        _set(self, "trust_coefficient", above=0)
        _set(self, "weight_decay", low=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        return self._update("lars", self.momentum, self.trust_coefficient, self.weight_decay)


@dataclasses.dataclass(frozen=True)
class LAMB(Optimizer):
    """Adam with layer-wise adaptive rates for large batches (You et al. 2020, algorithm 2).

    For the weights w of each layer, with Adam's m^ and v^: r = m^ / (sqrt(v^) + epsilon) +
    weight_decay w and w -= rate ratio r. The ratio is the Euclidean norm of w over that of r; 1
    where one of them is zero. All other parameters (biases, slopes, scales and shifts) take
    Adam's step, without ratio and decay, as the paper's experiments do.

    An update changes the weights of a layer by the part `rate` of their length.

    Parameters
    ----------
    learning_rate : float or schedule
        Above 0. Papers take it up from 0 over some epochs, then down: see `WarmUp` and
        `PolynomialDecay`.
    beta1, beta2 : float
        Decay of the first and second moment, from 0 to below 1.
    epsilon : float
        Above 0.
    weight_decay : float
        At least 0; weights only.
    clip_value, clip_norm : float, optional
        Cut each entry of the gradient; then scale the whole gradient down to this length.
    """

    learning_rate: float | Schedule = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, "beta1", low=0, below=1)
        _set(self, "beta2", low=0, below=1)
        _set(self, "epsilon", above=0)
        _set(self, "weight_decay", low=0)

    def rule(self) -> Update:
        """Give the kernels' name of the rule and its constants."""
        return self._update("lamb", self.beta1, self.beta2, self.epsilon, self.weight_decay)


WORDS: Mapping[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
    "lars": LARS(),
    "lamb": LAMB(),
}
"""Word -> optimizer with its default numbers."""

CLASSES: Mapping[str, type] = {
    kind.__name__: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, LARS, LAMB)
}
"""The optimizers that a file can hold."""


def resolve(optimizer: object) -> Optimizer:
    """Return the optimizer for a word or an object.

    Raises
    ------
    TypeError, ValueError
        It is neither.
    """
    if isinstance(optimizer, Optimizer) and type(optimizer) is not Optimizer:
        return optimizer
    classes = ", ".join(CLASSES)
    return WORDS[
        checks.word(optimizer, "optimizer", WORDS, f" or an object such as SGD(0.1) ({classes})")
    ]

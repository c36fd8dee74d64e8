"""fastmlp: multilayer perceptrons, trained fast.

One class, `MLP`, over interchangeable kernels: a NumPy reference and Numba kernels for the CPU.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not (Path(__file__).parent / "kernels").is_dir():
    raise ImportError(
        "fastmlp/kernels must be a symbolic link to the folder kernels/, but this checkout has "
        "none. With git: run 'git config core.symlinks true' and 'git checkout -- fastmlp/kernels'"
        " (on Windows in developer mode); or replace the file by a copy of the folder"
    )

if TYPE_CHECKING:
    from .activations import ELU, MPELU, LeakyReLU, Maxout, PReLU, properties
    from .callbacks import (
        Callback,
        Checkpoint,
        CSVLogger,
        EarlyStopping,
        ReduceOnPlateau,
        TimeLimit,
    )
    from .estimators import MLPClassifier, MLPRegressor
    from .files import FileFormatError
    from .history import History
    from .initializers import Normal, TruncatedNormal, Uniform
    from .losses import Huber, Quantile
    from .network import MLP, Gradients, warmup
    from .optimizers import LAMB, LARS, SGD, Adagrad, Adam, AdamW, RMSprop
    from .schedules import (
        Cosine,
        ExponentialDecay,
        InverseScaling,
        OneCycle,
        PolynomialDecay,
        StepDecay,
        WarmUp,
        scaled_rate,
    )
    from .threads import get_num_threads, set_num_threads
    from .training import DivergenceError

__version__ = "0.1.0"

_HOMES = {
    "activations": ("ELU", "MPELU", "LeakyReLU", "Maxout", "PReLU", "properties"),
    "callbacks": (
        "CSVLogger",
        "Callback",
        "Checkpoint",
        "EarlyStopping",
        "ReduceOnPlateau",
        "TimeLimit",
    ),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "files": ("FileFormatError",),
    "history": ("History",),
    "initializers": ("Normal", "TruncatedNormal", "Uniform"),
    "losses": ("Huber", "Quantile"),
    "network": ("MLP", "Gradients", "warmup"),
    "optimizers": ("LAMB", "LARS", "SGD", "Adagrad", "Adam", "AdamW", "RMSprop"),
    "schedules": (
        "Cosine",
        "ExponentialDecay",
        "InverseScaling",
        "OneCycle",
        "PolynomialDecay",
        "StepDecay",
        "WarmUp",
        "scaled_rate",
    ),
    "threads": ("get_num_threads", "set_num_threads"),
    "training": ("DivergenceError",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ELU",
    "LAMB",
    "LARS",
    "MLP",
    "MPELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Cosine",
    "DivergenceError",
    "EarlyStopping",
    "ExponentialDecay",
    "FileFormatError",
    "Gradients",
    "History",
    "Huber",
    "InverseScaling",
    "LeakyReLU",
    "MLPClassifier",
    "MLPRegressor",
    "Maxout",
    "Normal",
    "OneCycle",
    "PReLU",
    "PolynomialDecay",
    "Quantile",
    "RMSprop",
    "ReduceOnPlateau",
    "StepDecay",
    "TimeLimit",
    "TruncatedNormal",
    "Uniform",
    "WarmUp",
    "available_backends",
    "get_num_threads",
    "properties",
    "scaled_rate",
    "set_num_threads",
    "warmup",
]


def available_backends() -> dict[str, str | None]:
    """Return each backend's name with None, or with the reason why it can't be used here."""
    from . import kernels

    return kernels.available()


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Who takes part in the GPU benchmark, library by library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from gpu_cases import Case, Given

Builder = Callable[[Case, Given, str], Any]


class Task(NamedTuple):
    """A contender in a case."""

    case: str
    precision: str
    name: str
    build: Builder

    @property
    def key(self) -> str:
        """What its results are kept under."""
        return f"{self.case}, {self.precision}: {self.name}"


def contenders(library: str) -> dict[str, Builder]:
    """Name -> builder; nothing else of a library is imported before."""
    return LIBRARIES[library]()


def _fastmlp() -> dict[str, Builder]:
    import gpu_ours

    found: dict[str, Builder] = {"products, fastmlp": gpu_ours.Products}
    if "lt" in gpu_ours.tiers():
        found["products, fastmlp lt"] = gpu_ours.GraphedProducts
    for tier in gpu_ours.tiers():
        found[f"fastmlp, {tier}"] = partial(gpu_ours.in_tier, tier)
    return found


def _torch() -> dict[str, Builder]:
    import gpu_torch

    return {
        "products, PyTorch": gpu_torch.Products,
        "PyTorch": gpu_torch.Eager,
        "PyTorch, CUDA graph": gpu_torch.Graphed,
    }


def _compiled() -> dict[str, Builder]:
    import gpu_torch

    return {"PyTorch, compiled": gpu_torch.Compiled}


def _jax() -> dict[str, Builder]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import gpu_jax

    return {"JAX scan": gpu_jax.Scanned, "JAX": gpu_jax.Jitted}


def _cpu() -> dict[str, Builder]:
    import gpu_cpu

    return {
        "fastmlp on the CPU, float32": gpu_cpu.OnCpu,
        "NumPy, tuned, float32": gpu_cpu.Tuned,
    }


def _naive() -> dict[str, Builder]:
    import gpu_naive

    return {"CuPy, naive, float32": gpu_naive.Naive}


LIBRARIES: Mapping[str, Callable[[], dict[str, Builder]]] = {
    "fastmlp": _fastmlp,
    "torch": _torch,
    "jax": _jax,
    "cpu": _cpu,
    "naive": _naive,
    "compiled": _compiled,
}
"""In the order in which they run; what compiles for long comes last."""

FLOAT32_ONLY = ("fastmlp on the CPU, float32", "NumPy, tuned, float32", "CuPy, naive, float32")
RUNNERS = ("fastmlp", "PyTorch, CUDA graph", "JAX scan")
"""Who trains to an accuracy; beginnings of names."""


def tasks(library: str, chosen: Mapping[str, Case]) -> Iterator[Task]:
    """A library's contenders, case by case."""
    builders = contenders(library)
    for name, case in chosen.items():
        for precision in case.precisions:
            for who, build in builders.items():
                # What has float32 alone runs once, beside the last precision of a case.
                alone = who in FLOAT32_ONLY and precision != case.precisions[-1]
                if not alone:
                    yield Task(name, precision, who, build)

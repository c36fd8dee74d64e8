"""Activations and their derivatives, by the kernels of ``cuda/activations.cu``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from ..contract import Activation
from . import sums
from .calls import destination, kernels_for, source
from .codes import ACTIVATION_CODES
from .device import DeviceArray, empty
from .launch import Kernels, Launch

Learned = tuple[Any, ...]

LEARNS = ("prelu", "mpelu")
"""Activations with learned numbers, one or two."""

_UNTRAINABLE = ("step",)


def forward_launches(
    kernels: Kernels,
    name: str,
    A: DeviceArray,
    Y: DeviceArray | None,
    Z: DeviceArray,
    b: DeviceArray | None,
    learned: Learned,
    constant: float,
) -> Iterator[Launch]:
    """A = f(Z + b); Y, which may be Z, gets Z + b where it is given, b where it is not None."""
    rows, units = A.shape
    if name in ("softmax", "maxout"):
        given = Z
        if b is not None:
            yield kernels.launch("add_bias", Z.size, Z, b, rows, Z.shape[1])
        if name == "maxout":
            pieces = Z.shape[1] // units
            yield kernels.launch("maxout_forward", A.size, A, given, rows, units, pieces)
        else:
            yield kernels.by_rows("softmax_forward", rows, units, A, given, rows, units)
        return
    u, v = (*learned, None, None)[:2]
    code = ACTIVATION_CODES[name]
    yield kernels.launch(
        "activation_forward", A.size, A, Y, Z, b, u, v, constant, code, rows, units
    )


def backward_launch(
    kernels: Kernels,
    name: str,
    dZ: DeviceArray,
    dA: DeviceArray,
    Z: DeviceArray,
    A: DeviceArray,
    learned: Learned,
    constant: float,
) -> Launch:
    """Fill dZ from dA; they may be one array, but not for maxout."""
    rows, units = dA.shape
    if name == "maxout":
        pieces = Z.shape[1] // units
        return kernels.launch("maxout_backward", dA.size, dZ, dA, Z, rows, units, pieces)
    if name == "softmax":
        return kernels.by_rows("softmax_backward", rows, units, dZ, dA, A, rows, units)
    u, v = (*learned, None, None)[:2]
    code = ACTIVATION_CODES[name]
    return kernels.launch(
        "activation_backward", dA.size, dZ, dA, Z, A, u, v, constant, code, rows, units
    )


def learned_launches(
    kernels: Kernels,
    name: str,
    dlearned: Learned,
    dA: DeviceArray,
    Z: DeviceArray,
    learned: Learned,
    scratch: tuple[DeviceArray, DeviceArray],
) -> Iterator[Launch]:
    """Fill the gradients of the learned numbers."""
    (rows, units), (chunk, chunks) = dA.shape, sums.cut(dA.shape[0])
    partial = [
        out if chunks == 1 else part[: chunks * units]
        for out, part in zip(dlearned, scratch, strict=False)
    ]
    yield kernels.launch(
        "learned_partials",
        chunks * units,
        *(*partial, None)[:2],
        dA,
        Z,
        *(*learned, None)[:2],
        ACTIVATION_CODES[name],
        rows,
        units,
        chunk,
        chunks,
    )
    for out, part in zip(dlearned, partial, strict=True):
        yield from sums.finish(kernels, out, part, chunks)


def _pair(name: str) -> Activation:
    def forward(A: Any, Z: Any, learned: Learned, constant: float) -> None:
        kernels = kernels_for(A)
        given = tuple(source(p, A.dtype) for p in learned)
        with destination(A) as out:
            for launch in forward_launches(
                kernels, name, out, None, source(Z, A.dtype), None, given, constant
            ):
                launch()

    def backward(
        dZ: Any, dlearned: Learned, dA: Any, Z: Any, A: Any, learned: Learned, constant: float
    ) -> None:
        kernels = kernels_for(dZ)
        da, z, a = (source(array, dZ.dtype) for array in (dA, Z, A))
        given = tuple(source(p, dZ.dtype) for p in learned)
        with ExitStack() as stack:
            out = stack.enter_context(destination(dZ))
            slopes = tuple(stack.enter_context(destination(d)) for d in dlearned)
            backward_launch(kernels, name, out, da, z, a, given, constant)()
            if slopes:
                size = sums.cut(len(da)).chunks * da.shape[1]
                scratch = (empty(size, dZ.dtype), empty(size, dZ.dtype))
                for launch in learned_launches(kernels, name, slopes, da, z, given, scratch):
                    launch()

    return Activation(forward, None if name in _UNTRAINABLE else backward)


ACTIVATIONS: Mapping[str, Activation] = {name: _pair(name) for name in ACTIVATION_CODES}

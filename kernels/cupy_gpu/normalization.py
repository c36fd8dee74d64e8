"""Normalization, by the kernels of ``cuda/normalization.cu``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..contract import RUNNING_MOMENTUM, Normalization
from . import sums
from .calls import destination, kernels_for, source
from .device import DeviceArray, empty
from .launch import Kernels, Launch


class Moments(NamedTuple):
    """What batch normalization finds out about its columns, (columns,) each."""

    mean: DeviceArray
    variance: DeviceArray
    spread: DeviceArray


Scratch = tuple[DeviceArray, DeviceArray]


def moment_launches(
    kernels: Kernels, moments: Moments, Z: DeviceArray, scratch: Scratch
) -> Iterator[Launch]:
    """Mean, variance and spread of each column of Z."""
    (rows, columns), (chunk, chunks) = Z.shape, sums.cut(Z.shape[0])
    means, squares = (part[: chunks * columns] for part in scratch)
    yield kernels.launch(
        *("moment_partials", chunks * columns, means, squares),
        *(Z, rows, columns, chunk, chunks),
    )
    yield kernels.launch(
        *("moment_finish", columns, *moments, means, squares, rows, columns, chunk, chunks)
    )


def spread_launch(kernels: Kernels, spread: DeviceArray, variance: DeviceArray) -> Launch:
    """1/sqrt(variance + epsilon) of a variance that is given."""
    return kernels.launch("spread_of", spread.size, spread, variance, spread.size)


def columns_launch(
    kernels: Kernels,
    Y: DeviceArray,
    hat: DeviceArray,
    Z: DeviceArray,
    mean: DeviceArray,
    spread: DeviceArray,
    scale: DeviceArray,
    shift: DeviceArray,
) -> Launch:
    """Fill hat and Y by a mean and a spread of each column."""
    rows, columns = Z.shape
    return kernels.launch(
        *("normalize_columns", Z.size, Y, hat, Z, mean, spread, scale, shift, rows, columns)
    )


def move_launch(
    kernels: Kernels,
    mean: DeviceArray,
    variance: DeviceArray,
    moments: Moments,
    numbers: DeviceArray | None,
    rows: int,
) -> Launch:
    """Move running statistics towards those of a batch of `rows` rows."""
    unbiased = rows / max(rows - 1, 1)
    return kernels.launch(
        *("move_running", mean.size, mean, variance, moments.mean, moments.variance),
        *(numbers, RUNNING_MOMENTUM, unbiased, mean.size),
    )


def layer_launch(
    kernels: Kernels,
    Y: DeviceArray,
    hat: DeviceArray,
    spread: DeviceArray,
    Z: DeviceArray,
    scale: DeviceArray,
    shift: DeviceArray,
) -> Launch:
    """Normalize each row."""
    rows, columns = Z.shape
    return kernels.by_rows(
        *("layer_forward", rows, columns, Y, hat, spread, Z, scale, shift, rows, columns)
    )


def backward_launches(
    kernels: Kernels,
    kind: str,
    dZ: DeviceArray,
    dscale: DeviceArray,
    dshift: DeviceArray,
    dY: DeviceArray,
    hat: DeviceArray,
    spread: DeviceArray,
    scale: DeviceArray,
    scratch: Scratch,
) -> Iterator[Launch]:
    """Gradients of "batch", of "layer" and of "running" statistics; dZ may be dY."""
    rows, columns = dY.shape
    yield from sums.column_pair(kernels, dscale, dshift, dY, hat, scratch)
    if kind == "layer":
        yield kernels.by_rows(
            *("layer_backward", rows, columns, dZ, dY, hat, spread, scale, rows, columns)
        )
    else:
        yield kernels.launch(
            *("batch_backward", dY.size, dZ, dY, hat, spread, scale, dscale, dshift),
            *(kind == "running", rows, columns),
        )


def _scratch(kernels: Kernels, Z: DeviceArray) -> Scratch:
    size = sums.cut(Z.shape[0]).chunks * Z.shape[1]
    return empty(size, kernels.dtype), empty(size, kernels.dtype)


def _batch_forward(Y: Any, hat: Any, spread: Any, Z: Any, scale: Any, shift: Any) -> None:
    kernels, dtype = kernels_for(Y), Y.dtype
    z, factor, offset = (source(array, dtype) for array in (Z, scale, shift))
    with ExitStack() as stack:
        out, centred, wide = (stack.enter_context(destination(a)) for a in (Y, hat, spread))
        moments = Moments(empty(wide.size, dtype), empty(wide.size, dtype), wide)
        for launch in moment_launches(kernels, moments, z, _scratch(kernels, z)):
            launch()
        columns_launch(kernels, out, centred, z, moments.mean, wide, factor, offset)()


def _layer_forward(Y: Any, hat: Any, spread: Any, Z: Any, scale: Any, shift: Any) -> None:
    z, factor, offset = (source(array, Y.dtype) for array in (Z, scale, shift))
    with ExitStack() as stack:
        out, centred, wide = (stack.enter_context(destination(a)) for a in (Y, hat, spread))
        layer_launch(kernels_for(Y), out, centred, wide, z, factor, offset)()


def _normalization(kind: str, forward: Any) -> Normalization:
    def backward(
        dZ: Any, dscale: Any, dshift: Any, dY: Any, hat: Any, spread: Any, scale: Any
    ) -> None:
        kernels = kernels_for(dZ)
        dy, centred, wide, factor = (source(a, dZ.dtype) for a in (dY, hat, spread, scale))
        with ExitStack() as stack:
            dz, by_scale, by_shift = (
                stack.enter_context(destination(a)) for a in (dZ, dscale, dshift)
            )
            for launch in backward_launches(
                *(kernels, kind, dz, by_scale, by_shift, dy, centred, wide, factor),
                _scratch(kernels, dy),
            ):
                launch()

    return Normalization(forward, backward)


NORMALIZATIONS: Mapping[str, Normalization] = {
    "batch": _normalization("batch", _batch_forward),
    "layer": _normalization("layer", _layer_forward),
}

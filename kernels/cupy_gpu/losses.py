"""Losses and their gradients, by the kernels of ``cuda/losses.cu``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import LogitLoss, Loss
from .calls import destination, kernels_for, source
from .codes import JOINED, LOSS_CODES
from .codes import LOSSES as NAMES
from .device import DeviceArray
from .launch import Kernels, Launch


def loss_launch(
    kernels: Kernels,
    code: int,
    constant: float,
    losses: DeviceArray | None,
    D: DeviceArray | None,
    A: DeviceArray,
    T: DeviceArray,
    w: DeviceArray | None,
    numbers: DeviceArray | None,
) -> Launch:
    """Row losses, and the gradient D by A; T holds class indices (N,) or targets (N, O).

    With `numbers` of a batch, D is multiplied by its share and by the weights w.
    """
    rows, outputs = A.shape
    labels, dense = (T, None) if T.ndim == 1 else (None, T)
    return kernels.by_rows(
        *("loss", rows, outputs, losses, D, A, labels, dense, w, numbers),
        *(code, constant, rows, outputs),
    )


def _value(code: int, losses: Any, A: Any, T: Any, constant: float) -> None:
    kernels, dtype = kernels_for(losses), losses.dtype
    with destination(losses) as out:
        given = source(A, dtype), source(T, dtype)
        loss_launch(kernels, code, constant, out, None, *given, None, None)()


def _gradient(code: int, dA: Any, A: Any, T: Any, constant: float) -> None:
    kernels, dtype = kernels_for(dA), dA.dtype
    with destination(dA) as out:
        given = source(A, dtype), source(T, dtype)
        loss_launch(kernels, code, constant, None, out, *given, None, None)()


def _of_outputs(code: int) -> Loss:
    def value(losses: Any, A: Any, T: Any, constant: float) -> None:
        _value(code, losses, A, T, constant)

    def gradient(dA: Any, A: Any, T: Any, constant: float) -> None:
        _gradient(code, dA, A, T, constant)

    return Loss(value, gradient)


def _of_logits(code: int) -> LogitLoss:
    def value(losses: Any, Z: Any, T: Any) -> None:
        _value(code, losses, Z, T, 0.0)

    def gradient(dZ: Any, Z: Any, T: Any) -> None:
        _gradient(code, dZ, Z, T, 0.0)

    return LogitLoss(value, gradient)


LOSSES: Mapping[str, Loss] = {name: _of_outputs(LOSS_CODES[name]) for name in NAMES}

LOGIT_LOSSES: Mapping[tuple[str, str], LogitLoss] = {
    pair: _of_logits(LOSS_CODES[pair]) for pair in JOINED
}

"""Losses, by an integer code: each number's term and its derivative in one pass.

A joined loss (`LOGIT_LOSSES`) is a code of its own that reads Z instead of A. Softmax with
cross-entropy needs whole rows and has its own family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba.core import types

from ..contract import Array, LogitLoss, Loss
from .calls import destination, source
from .elementary import exp, log, log1p_unit, sigmoid, softplus
from .intrinsics import at, choose, fma, lanes, like
from .jit import INTEGER, POINTER, REAL, family, inline

NAMES = (
    "cross_entropy",
    "binary_cross_entropy",
    "squared_error",
    "half_squared_error",
    "mean_squared_error",
    "absolute_error",
    "mean_absolute_error",
    "huber",
    "hinge",
    "squared_hinge",
    "exponential",
    "perceptron",
    "poisson",
    "quantile",
)
JOINED = (
    ("cross_entropy", "softmax"),
    ("cross_entropy", "sigmoid"),
    ("binary_cross_entropy", "sigmoid"),
    ("poisson", "exp"),
)
CODES: Mapping[Any, int] = {name: code for code, name in enumerate(NAMES + JOINED)}
(
    CROSS_ENTROPY,
    BINARY_CROSS_ENTROPY,
    SQUARED_ERROR,
    HALF_SQUARED_ERROR,
    MEAN_SQUARED_ERROR,
    ABSOLUTE_ERROR,
    MEAN_ABSOLUTE_ERROR,
    HUBER,
    HINGE,
    SQUARED_HINGE,
    EXPONENTIAL,
    PERCEPTRON,
    POISSON,
    QUANTILE,
    CROSS_ENTROPY_SOFTMAX,
    CROSS_ENTROPY_SIGMOID,
    BINARY_CROSS_ENTROPY_SIGMOID,
    POISSON_EXP,
) = range(len(NAMES) + len(JOINED))


_TERMS = (types.void, INTEGER, *(REAL,) * 3, *(POINTER,) * 4, INTEGER, INTEGER)


@inline
def _at_least(a, low):
    """a, or `low` where a is lower; NaN stays."""
    return choose(a < low, low, a)


@inline
def _sign(x):
    zero, one = like(x, 0.0), like(x, 1.0)
    return choose(x > zero, one, choose(x < zero, -one, x))


@family(*_TERMS)
def probability_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs):
    """Losses of probabilities and counts, as a function of the output."""
    one = like(a, 1.0)
    if code == CROSS_ENTROPY:
        for i in range(n):
            p = _at_least(a[i], tiny)
            terms[i] = -t[i] * log(p)
            da[i] = -t[i] / p
    elif code == BINARY_CROSS_ENTROPY:
        for i in range(n):
            p = _at_least(a[i], epsilon)
            p = choose(p > one - epsilon, one - epsilon, p)
            terms[i] = -(t[i] * log(p) + (one - t[i]) * log(one - p))
            da[i] = (p - t[i]) / (p * (one - p))
    elif code == POISSON:
        for i in range(n):
            p = _at_least(a[i], tiny)
            terms[i] = a[i] - t[i] * log(p)
            da[i] = one - t[i] / p


@family(*_TERMS)
def joined_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs):
    """Losses joined with their output activation; a is Z."""
    zero, one = like(a, 0.0), like(a, 1.0)
    if code == CROSS_ENTROPY_SIGMOID:
        for i in range(n):
            terms[i] = t[i] * softplus(-a[i])
            da[i] = t[i] * (sigmoid(a[i]) - one)
    elif code == BINARY_CROSS_ENTROPY_SIGMOID:
        for i in range(n):
            z = a[i]
            linear = choose(z > zero, z, zero) - z * t[i]
            terms[i] = linear + log1p_unit(exp(-abs(z)))
            da[i] = sigmoid(z) - t[i]
    elif code == POISSON_EXP:
        for i in range(n):
            e = exp(a[i])
            terms[i] = e - t[i] * a[i]
            da[i] = e - t[i]


@family(*_TERMS)
def distance_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs):
    """Losses of the difference of output and target."""
    zero, half, one, two = like(a, 0.0), like(a, 0.5), like(a, 1.0), like(a, 2.0)
    if code == SQUARED_ERROR:
        for i in range(n):
            d = a[i] - t[i]
            terms[i] = d * d
            da[i] = two * d
    elif code == HALF_SQUARED_ERROR:
        for i in range(n):
            d = a[i] - t[i]
            terms[i] = half * d * d
            da[i] = d
    elif code == MEAN_SQUARED_ERROR:
        share = one / like(a, outputs)
        for i in range(n):
            d = a[i] - t[i]
            terms[i] = share * (d * d)
            da[i] = two * share * d
    elif code == ABSOLUTE_ERROR:
        for i in range(n):
            d = a[i] - t[i]
            terms[i] = abs(d)
            da[i] = _sign(d)
    elif code == MEAN_ABSOLUTE_ERROR:
        share = one / like(a, outputs)
        for i in range(n):
            d = a[i] - t[i]
            terms[i] = share * abs(d)
            da[i] = share * _sign(d)
    elif code == HUBER:
        for i in range(n):
            d = a[i] - t[i]
            inside = abs(d) <= constant
            terms[i] = choose(inside, half * d * d, constant * (abs(d) - half * constant))
            da[i] = choose(inside, d, constant * _sign(d))
    elif code == QUANTILE:
        for i in range(n):
            d = t[i] - a[i]
            terms[i] = choose(d > zero, constant * d, (constant - one) * d)
            da[i] = choose(d > zero, -constant, choose(d < zero, one - constant, d))


@family(*_TERMS)
def margin_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs):
    """Losses of the product of output and target."""
    zero, one, two = like(a, 0.0), like(a, 1.0), like(a, 2.0)
    if code == HINGE:
        for i in range(n):
            gap = one - t[i] * a[i]
            terms[i] = choose(gap <= zero, zero, gap)
            da[i] = choose(gap <= zero, zero, choose(gap > zero, -t[i], gap))
    elif code == SQUARED_HINGE:
        for i in range(n):
            gap = one - t[i] * a[i]
            gap = choose(gap <= zero, zero, gap)
            terms[i] = gap * gap
            da[i] = -two * t[i] * gap
    elif code == EXPONENTIAL:
        for i in range(n):
            e = exp(-t[i] * a[i])
            terms[i] = e
            da[i] = -t[i] * e
    elif code == PERCEPTRON:
        for i in range(n):
            gap = -t[i] * a[i]
            terms[i] = choose(gap <= zero, zero, gap)
            da[i] = choose(gap < zero, zero, choose(gap >= zero, -t[i], gap))


@inline
def loss_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs):
    """terms and da = d terms / d a over a run; a is Z for a joined loss.

    tiny is the smallest normal number and epsilon the spacing at 1: probabilities stay that far
    from where a logarithm has no value. `outputs` is the divisor of the mean losses.
    """
    if code in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON):
        probability_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs)
    elif code in (HINGE, SQUARED_HINGE, EXPONENTIAL, PERCEPTRON):
        margin_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs)
    elif code > CROSS_ENTROPY_SOFTMAX:
        joined_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs)
    else:
        distance_terms(code, constant, tiny, epsilon, terms, da, a, t, n, outputs)


@inline
def _softmax_rows(losses, totals, dz, z, rows, places, units, width, dz_stride, stride):
    """dz = exp(z - largest), totals = 1 / its row sums, losses = the logarithm of sum exp(z).

    In passes over all rows: exp and log run in vectors, and rows don't wait for one another (32
    rows of 2 classes: 0.25 us, row by row 0.97). Losses and totals are written up to `places`, so
    that few rows make a vector too.
    """
    for r in range(rows):
        largest = z[r * width]
        for start in range(0, units, width):
            run = at(z, (start // width) * stride + r * width)
            for j in range(min(width, units - start)):
                largest = run[j] if not (run[j] <= largest) else largest
        losses[r] = largest
    for start in range(0, units, width):
        run, out = at(z, (start // width) * stride), at(dz, (start // width) * dz_stride)
        for r in range(rows):
            largest = losses[r]
            for j in range(width):
                out[r * width + j] = run[r * width + j] - largest
        # Not in the loop above: a short one of fixed length is unrolled instead of made of vectors
        # (2-2-2 with 4 rows: 0.46 us instead of 0.32).
        for i in range(rows * width):
            out[i] = exp(out[i])
    for r in range(rows):
        total = like(z, 0.0)
        for start in range(0, units, width):
            out = at(dz, (start // width) * dz_stride + r * width)
            for j in range(min(width, units - start)):
                total += out[j]
        totals[r] = total
    for r in range(places):
        losses[r] = losses[r] + log(totals[r])
        totals[r] = like(z, 1.0) / totals[r]


@inline
def softmax_cross_entropy_rows(
    losses, totals, dz, z, t, rows, places, units, width, dz_stride, stride
):
    _softmax_rows(losses, totals, dz, z, rows, places, units, width, dz_stride, stride)
    for r in range(rows):
        above, share, loss = losses[r], totals[r], like(z, 0.0)
        for start in range(0, units, width):
            run = at(z, (start // width) * stride + r * width)
            out = at(dz, (start // width) * dz_stride + r * width)
            target = at(t, (start // width) * stride + r * width)
            for j in range(min(width, units - start)):
                loss += target[j] * (above - run[j])
            for j in range(width):
                out[j] = fma(out[j], share, -target[j])
        losses[r] = loss


@family(types.void, *(POINTER,) * 5, INTEGER, INTEGER, INTEGER, INTEGER)
def softmax_cross_entropy(losses, totals, dz, z, t, rows, units, dz_stride, stride):
    """Each row's loss and dz = softmax(z) - t, over panels; z and t lie `stride` apart.

    totals is room for a number per row.
    """
    softmax_cross_entropy_rows(
        losses, totals, dz, z, t, rows, rows, units, lanes(z), dz_stride, stride
    )


@inline
def row_sum_rows(losses, terms, rows, units, width, stride):
    for r in range(rows):
        total = like(losses, 0.0)
        for start in range(0, units, width):
            run = at(terms, (start // width) * stride + r * width)
            for j in range(min(width, units - start)):
                total += run[j]
        losses[r] = total


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, INTEGER)
def row_sums(losses, terms, rows, units, stride):
    """losses = the sum of each row's terms, from the first output to the last."""
    row_sum_rows(losses, terms, rows, units, lanes(losses), stride)


@family(types.void, INTEGER, *(REAL,) * 3, *(POINTER,) * 5, INTEGER, INTEGER, on_demand=True)
def loss_rows(code, constant, tiny, epsilon, losses, terms, da, a, t, rows, units):
    """The losses of whole rows, and their gradient dA, for arrays (rows, units)."""
    if code == CROSS_ENTROPY_SOFTMAX:
        softmax_cross_entropy_rows(losses, terms, da, a, t, rows, rows, units, units, 0, 0)
    else:
        loss_terms(code, constant, tiny, epsilon, terms, da, a, t, rows * units, units)
        row_sum_rows(losses, terms, rows, units, units, 0)


def _run(code: int, losses: Array, dA: Array, A: Array, T: Array, constant: float) -> None:
    """Both results at once; whoever wants one gives a scratch array for the other."""
    dtype = A.dtype
    a, t = source(A, dtype), source(T, dtype)
    terms = np.empty(A.shape, dtype)
    limits = np.finfo(dtype)
    with destination(losses) as out, destination(dA) as gradient:
        loss_rows.of(dtype.name)(
            code,
            *(float(x) for x in (constant, limits.tiny, limits.eps)),
            *(x.ctypes.data for x in (out, terms, gradient, a, t)),
            len(A),
            A.shape[1],
        )


def _loss(code: int) -> Loss:
    def value(losses: Array, A: Array, T: Array, constant: float) -> None:
        _run(code, losses, np.empty(A.shape, A.dtype), A, T, constant)

    def gradient(dA: Array, A: Array, T: Array, constant: float) -> None:
        _run(code, np.empty(len(A), A.dtype), dA, A, T, constant)

    return Loss(value, gradient)


def _logit_loss(code: int) -> LogitLoss:
    def value(losses: Array, Z: Array, T: Array) -> None:
        _run(code, losses, np.empty(Z.shape, Z.dtype), Z, T, 0.0)

    def gradient(dZ: Array, Z: Array, T: Array) -> None:
        _run(code, np.empty(len(Z), Z.dtype), dZ, Z, T, 0.0)

    return LogitLoss(value, gradient)


LOSSES: Mapping[str, Loss] = {name: _loss(CODES[name]) for name in NAMES}
LOGIT_LOSSES: Mapping[tuple[str, str], LogitLoss] = {
    pair: _logit_loss(CODES[pair]) for pair in JOINED
}

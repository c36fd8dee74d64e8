"""Activations and their derivatives, chosen by an integer code.

A block is a contiguous run of n numbers; `period` is the length after which learned parameters
repeat (one vector in a panel, the units of a row in an array).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba.core import types

from ..contract import Activation, Array
from .calls import destination, leading, source
from .elementary import exp, expm1_negative, normal_distribution, sigmoid, softplus, tanh
from .intrinsics import at, choose, fma, lanes, like
from .jit import INTEGER, POINTER, REAL, family, inline

Learned = tuple[Array, ...]

NAMES = (
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "mpelu",
    "maxout",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "exp",
    "softmax",
    "step",
)
CODES = {name: code for code, name in enumerate(NAMES)}
(
    IDENTITY,
    SIGMOID,
    TANH,
    RELU,
    LEAKY_RELU,
    PRELU,
    ELU,
    SELU,
    MPELU,
    MAXOUT,
    GELU,
    SILU,
    MISH,
    SOFTPLUS,
    EXP,
    SOFTMAX,
    STEP,
) = range(len(NAMES))

READS_INPUT = frozenset({PRELU, MPELU, MAXOUT, GELU, SILU, MISH, SOFTPLUS})
"""Codes whose derivative is taken from Z, which must then be kept; the others read A."""

WHOLE_PANELS = frozenset({PRELU, MPELU, MAXOUT, SOFTMAX})
"""Codes with learned parameters, or that need more than one number at a time."""

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772
_ROOT_TAU = 2.5066282746310002


@inline
def _elu(z, alpha):
    zero = like(z, 0.0)
    return choose(z > zero, z, alpha * expm1_negative(z))


@inline
def _tanh_softplus(z):
    """t = tanh(log(1 + e^z)) and 1 - t, from one exponential that can't overflow."""
    one, two = like(z, 1.0), like(z, 2.0)
    e = exp(-abs(z))
    positive = z > like(z, 0.0)
    above = choose(positive, fma(two, e, one), fma(e, e, two * e))
    rest = choose(positive, two * e * e, two)
    total = above + rest
    return above / total, rest / total


@family(types.void, INTEGER, REAL, POINTER, POINTER, POINTER, POINTER, INTEGER, INTEGER)
def activation_forward(code, constant, u, v, a, z, n, period):
    """a = f(z) over a run; u and v are the learned parameters."""
    zero, one = like(a, 0.0), like(a, 1.0)
    if code == IDENTITY:
        for i in range(n):
            a[i] = z[i]
    elif code == SIGMOID:
        for i in range(n):
            a[i] = sigmoid(z[i])
    elif code == TANH:
        for i in range(n):
            a[i] = tanh(z[i])
    elif code == RELU:
        for i in range(n):
            a[i] = zero if z[i] <= zero else z[i]
    elif code == LEAKY_RELU:
        for i in range(n):
            a[i] = choose(z[i] > zero, z[i], constant * z[i])
    elif code == PRELU:
        for start in range(0, n, period):
            for j in range(period):
                x = z[start + j]
                a[start + j] = choose(x > zero, x, u[j] * x)
    elif code == ELU:
        for i in range(n):
            a[i] = _elu(z[i], constant)
    elif code == SELU:
        for i in range(n):
            a[i] = like(a, _SELU_SCALE) * _elu(z[i], like(a, _SELU_ALPHA))
    elif code == MPELU:
        for start in range(0, n, period):
            for j in range(period):
                x = z[start + j]
                a[start + j] = choose(x > zero, x, u[j] * expm1_negative(v[j] * x))
    elif code == GELU:
        for i in range(n):
            a[i] = z[i] * normal_distribution(z[i])
    elif code == SILU:
        for i in range(n):
            a[i] = z[i] * sigmoid(z[i])
    elif code == MISH:
        for i in range(n):
            a[i] = z[i] * _tanh_softplus(z[i])[0]
    elif code == SOFTPLUS:
        for i in range(n):
            a[i] = softplus(z[i])
    elif code == EXP:
        for i in range(n):
            a[i] = exp(z[i])
    elif code == STEP:
        for i in range(n):
            a[i] = choose(z[i] > zero, one, choose(z[i] <= zero, zero, z[i]))


@family(
    types.void,
    *(INTEGER, REAL, POINTER, POINTER, POINTER, POINTER, POINTER),
    *(POINTER, POINTER, POINTER, INTEGER, INTEGER),
)
def activation_backward(code, constant, u, v, dz, du, dv, da, z, a, n, period):
    """dz = da f'(z) over a run; du and dv get each number's share of the learned gradients."""
    zero, one = like(a, 0.0), like(a, 1.0)
    if code == IDENTITY:
        for i in range(n):
            dz[i] = da[i]
    elif code == SIGMOID:
        for i in range(n):
            dz[i] = da[i] * (a[i] * (one - a[i]))
    elif code == TANH:
        for i in range(n):
            dz[i] = da[i] * (one - a[i] * a[i])
    elif code == RELU:
        for i in range(n):
            dz[i] = choose(a[i] > zero, da[i], _nan_or_zero(a[i]))
    elif code == LEAKY_RELU:
        for i in range(n):
            dz[i] = da[i] * choose(a[i] > zero, one, constant + _nan_or_zero(a[i]))
    elif code == PRELU:
        for start in range(0, n, period):
            for j in range(period):
                i = start + j
                dz[i] = da[i] * choose(z[i] > zero, one, u[j] + _nan_or_zero(z[i]))
                du[i] = da[i] * choose(z[i] > zero, zero, z[i])
    elif code == ELU:
        for i in range(n):
            dz[i] = da[i] * choose(a[i] > zero, one, a[i] + constant)
    elif code == SELU:
        scale = like(a, _SELU_SCALE)
        for i in range(n):
            dz[i] = da[i] * choose(a[i] > zero, scale, a[i] + like(a, _SELU_SCALE * _SELU_ALPHA))
    elif code == MPELU:
        for start in range(0, n, period):
            for j in range(period):
                i = start + j
                x = z[i]
                bend = expm1_negative(v[j] * x)
                slope = u[j] * (bend + one)
                dz[i] = da[i] * choose(x > zero, one, slope * v[j])
                du[i] = da[i] * choose(x > zero, zero, bend)
                dv[i] = da[i] * choose(x > zero, zero, slope * x)
    elif code == GELU:
        for i in range(n):
            x = z[i]
            density = exp(like(a, -0.5) * x * x) / like(a, _ROOT_TAU)
            dz[i] = da[i] * fma(x, density, normal_distribution(x))
    elif code == SILU:
        for i in range(n):
            s = sigmoid(z[i])
            dz[i] = da[i] * (s * fma(z[i], one - s, one))
    elif code == MISH:
        for i in range(n):
            t, rest = _tanh_softplus(z[i])
            dz[i] = da[i] * fma(z[i] * sigmoid(z[i]), rest * (one + t), t)
    elif code == SOFTPLUS:
        for i in range(n):
            dz[i] = da[i] * sigmoid(z[i])
    elif code == EXP:
        for i in range(n):
            dz[i] = da[i] * a[i]


@inline
def _nan_or_zero(x):
    """NaN where x is NaN, else 0."""
    return choose(abs(x) >= like(x, 0.0), like(x, 0.0), x)


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, INTEGER)
def maxout_forward(a, z, n, pieces, stride):
    """a = the largest of `pieces` runs of z that lie `stride` apart; NaN counts as largest."""
    for i in range(n):
        a[i] = z[i]
    for k in range(1, pieces):
        piece = at(z, k * stride)
        for i in range(n):
            a[i] = choose(a[i] >= piece[i], a[i], choose(a[i] == a[i], piece[i], a[i]))


@family(types.void, POINTER, POINTER, POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER)
def maxout_backward(dz, da, z, a, n, pieces, dz_stride, stride):
    """The gradient goes to the first piece that is the largest."""
    zero = like(a, 0.0)
    for i in range(n):
        taken = False
        for k in range(pieces):
            x = z[k * stride + i]
            won = (not taken) and (x == a[i])
            dz[k * dz_stride + i] = da[i] if won else (zero if a[i] == a[i] else a[i])
            taken = taken or won


@inline
def _softmax_rows(a, z, rows, units, width, stride):
    """Rows of `units` numbers, `width` of them together, the next `width` at `stride`.

    exp runs over all rows at once: a loop over `width` numbers would be unrolled, not vectorized.
    """
    for r in range(0, rows * width, width):
        largest = z[r]
        for start in range(0, units, width):
            run = at(z, (start // width) * stride + r)
            for j in range(min(width, units - start)):
                largest = run[j] if not (run[j] <= largest) else largest
        for start in range(0, units, width):
            place = (start // width) * stride + r
            for j in range(place, place + width):
                a[j] = z[j] - largest
    for start in range(0, units, width):
        out = at(a, (start // width) * stride)
        for i in range(rows * width):
            out[i] = exp(out[i])
    for r in range(0, rows * width, width):
        total = like(a, 0.0)
        for start in range(0, units, width):
            out = at(a, (start // width) * stride + r)
            for j in range(min(width, units - start)):
                total += out[j]
        for start in range(0, units, width):
            place = (start // width) * stride + r
            for j in range(place, place + width):
                a[j] = a[j] / total


@family(types.void, POINTER, POINTER, INTEGER, INTEGER, INTEGER)
def softmax_forward(a, z, rows, units, stride):
    """exp(z) over its sum in each row of panels that lie `stride` apart."""
    _softmax_rows(a, z, rows, units, lanes(a), stride)


@inline
def _softmax_backward_rows(dz, da, a, rows, units, width, dz_stride, stride):
    for r in range(rows):
        base = r * width
        total = like(a, 0.0)
        for c in range(units):
            total = fma(
                da[(c // width) * dz_stride + base + c % width],
                a[(c // width) * stride + base + c % width],
                total,
            )
        for c in range(units):
            i = (c // width) * dz_stride + base + c % width
            k = (c // width) * stride + base + c % width
            dz[k] = a[k] * (da[i] - total)


@family(types.void, POINTER, POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER)
def softmax_backward(dz, da, a, rows, units, da_stride, stride):
    """dz = a (da - sum of a da); dz and a lie `stride` apart, da `da_stride`."""
    _softmax_backward_rows(dz, da, a, rows, units, lanes(a), da_stride, stride)


@family(types.void, INTEGER, REAL, *(POINTER,) * 4, *(INTEGER,) * 3, on_demand=True)
def activation_forward_rows(code, constant, u, v, a, z, rows, units, pieces):
    """A = f(Z), for whole arrays (rows, units)."""
    if code == SOFTMAX:
        _softmax_rows(a, z, rows, units, units, 0)
    elif code == MAXOUT:
        for r in range(rows):
            maxout_forward(at(a, r * units), at(z, r * units * pieces), units, pieces, units)
    else:
        activation_forward(code, constant, u, v, a, z, rows * units, units)


@family(types.void, INTEGER, REAL, *(POINTER,) * 8, *(INTEGER,) * 3, on_demand=True)
def activation_backward_rows(code, constant, u, v, dz, du, dv, da, z, a, rows, units, pieces):
    """dZ from dA, for whole arrays (rows, units)."""
    if code == SOFTMAX:
        _softmax_backward_rows(dz, da, a, rows, units, units, 0, 0)
    elif code == MAXOUT:
        for r in range(rows):
            wide, narrow = r * units * pieces, r * units
            maxout_backward(
                at(dz, wide),
                at(da, narrow),
                at(z, wide),
                at(a, narrow),
                units,
                pieces,
                units,
                units,
            )
    else:
        activation_backward(code, constant, u, v, dz, du, dv, da, z, a, rows * units, units)


def _pair(name: str) -> Activation:
    code = CODES[name]

    def forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
        z = source(Z, A.dtype)
        parameters = [source(p, A.dtype) for p in learned]
        with destination(A) as a:
            activation_forward_rows.of(A.dtype.name)(
                code,
                float(constant),
                leading(parameters, 0),
                leading(parameters, 1),
                a.ctypes.data,
                z.ctypes.data,
                len(A),
                A.shape[1],
                _pieces(Z, A),
            )

    def backward(
        dZ: Array,
        dlearned: Learned,
        dA: Array,
        Z: Array,
        A: Array,
        learned: Learned,
        constant: float,
    ) -> None:
        inputs = [source(x, A.dtype) for x in (dA, Z, A)]
        parameters = [source(p, A.dtype) for p in learned]
        shares = [np.zeros(A.shape, A.dtype) for _ in learned]
        with destination(dZ) as dz:
            activation_backward_rows.of(A.dtype.name)(
                code,
                float(constant),
                leading(parameters, 0),
                leading(parameters, 1),
                dz.ctypes.data,
                leading(shares, 0),
                leading(shares, 1),
                *(x.ctypes.data for x in inputs),
                len(A),
                A.shape[1],
                _pieces(Z, A),
            )
        for gradient, share in zip(dlearned, shares, strict=True):
            share.sum(axis=0, out=gradient)

    return Activation(forward, None if code == STEP else backward)


def _pieces(Z: Array, A: Array) -> int:
    return Z.shape[1] // A.shape[1] if A.shape[1] else 1


ACTIVATIONS: Mapping[str, Activation] = {name: _pair(name) for name in NAMES}

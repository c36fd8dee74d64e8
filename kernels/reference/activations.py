"""Activations and their derivatives.

Forward fills A (N, units) from Z (N, units). Backward fills dZ from dA, the loss's gradient by A,
and each array of dlearned (units,) with the gradient of a learned parameter, summed over the rows.
`constant` is the number named in the formula, unused where there is none. NaN stays NaN.
At a kink the derivative is that of the negative branch, and 0 for relu.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..contract import Activation, Array
from .elementary import sigmoid, softplus

Learned = tuple[Array, ...]

_INF = math.inf
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772
_erfc = np.frompyfunc(math.erfc, 1, 1)


class Properties(NamedTuple):
    """What can be looked up about an activation, for its default constant and starting values."""

    formula: str
    derivative: str
    low: float
    high: float
    """Every value lies in [low, high]."""
    source: str
    monotone: bool = True
    """Never falls (softmax: in its own input; maxout: in every piece)."""
    zero_centred: bool = False
    """Odd, f(-z) = -f(z), so that inputs around zero give outputs around zero."""
    differentiable: bool = True
    """False where there is a kink or a jump, or where learned parameters can make one."""
    output_only: bool = False
    trainable: bool = True


def _identity_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z."""
    A[...] = Z


def _identity_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA."""
    dZ[...] = dA


def _sigmoid_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = 1/(1 + exp(-Z))."""
    A[...] = sigmoid(Z)


def _sigmoid_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA A (1 - A)."""
    dZ[...] = dA * A * (1 - A)


def _tanh_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = tanh(Z)."""
    A[...] = np.tanh(Z)


def _tanh_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA (1 - A^2)."""
    dZ[...] = dA * (1 - A * A)


def _relu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = max(Z, 0) (Nair & Hinton 2010)."""
    A[...] = np.maximum(Z, 0)


def _relu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA where Z > 0, else 0."""
    dZ[...] = np.where(Z > 0, dA, 0)


def _leaky_relu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z where Z > 0, else constant Z (Maas, Hannun & Ng 2013)."""
    A[...] = np.where(Z > 0, Z, constant * Z)


def _leaky_relu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA where Z > 0, else constant dA."""
    dZ[...] = np.where(Z > 0, dA, constant * dA)


def _prelu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z where Z > 0, else slope Z; learned (slope,) (He et al. 2015, equation 1)."""
    (slope,) = learned
    A[...] = np.where(Z > 0, Z, slope * Z)


def _prelu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA where Z > 0, else slope dA; dslope sums dA Z where Z <= 0 (equation 4)."""
    (slope,) = learned
    dZ[...] = np.where(Z > 0, dA, slope * dA)
    np.sum(np.where(Z > 0, 0, dA * Z), axis=0, out=dlearned[0])


def _elu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z where Z > 0, else constant (exp(Z) - 1) (Clevert et al. 2016, equation 15)."""
    A[...] = np.where(Z > 0, Z, constant * np.expm1(np.minimum(Z, 0)))


def _elu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA where Z > 0, else dA constant exp(Z)."""
    dZ[...] = np.where(Z > 0, dA, dA * constant * np.exp(np.minimum(Z, 0)))


def _selu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = scale Z where Z > 0, else scale alpha (exp(Z) - 1) (Klambauer et al. 2017, equation 2).

    scale = 1.0507009873554805, alpha = 1.6732632423543772.
    """
    A[...] = _SELU_SCALE * np.where(Z > 0, Z, _SELU_ALPHA * np.expm1(np.minimum(Z, 0)))


def _selu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = scale dA where Z > 0, else dA scale alpha exp(Z)."""
    dZ[...] = _SELU_SCALE * np.where(Z > 0, dA, dA * _SELU_ALPHA * np.exp(np.minimum(Z, 0)))


def _mpelu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z where Z > 0, else alpha (exp(beta Z) - 1); learned (alpha, beta), beta > 0.

    Source: Li et al. 2018, "Improving deep neural network with multiple parametric exponential
    linear units", equation 5.
    """
    alpha, beta = learned
    A[...] = np.where(Z > 0, Z, alpha * np.expm1(beta * np.minimum(Z, 0)))


def _mpelu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """Where Z > 0, dZ = dA; else dZ = dA alpha beta exp(beta Z).

    dalpha sums dA (exp(beta Z) - 1), dbeta sums dA alpha Z exp(beta Z), where Z <= 0.
    """
    alpha, beta = learned
    below = np.minimum(Z, 0)
    powers = np.exp(beta * below)
    dZ[...] = np.where(Z > 0, dA, dA * alpha * beta * powers)
    np.sum(dA * np.expm1(beta * below), axis=0, out=dlearned[0])
    np.sum(dA * alpha * below * powers, axis=0, out=dlearned[1])


def _maxout_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A (N, units) = the largest piece of Z (N, k units), k = constant (Goodfellow et al. 2013).

    Piece j of unit u is column j units + u.
    """
    A[...] = _pieces(Z, A).max(axis=1)


def _maxout_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA for the first of the largest pieces, 0 for the others."""
    largest = _pieces(Z, A).argmax(axis=1)[:, None, :]
    dZ[...] = 0
    np.put_along_axis(_pieces(dZ, A), largest, dA[:, None, :], axis=1)


def _pieces(Z: Array, A: Array) -> Array:
    """View Z (N, k units) as (N, k, units)."""
    rows, units = A.shape
    return Z.reshape(rows, Z.shape[1] // units, units)


def _gelu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z Phi(Z), Phi the normal distribution itself (Hendrycks & Gimpel 2016)."""
    A[...] = Z * _normal(Z)


def _gelu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA (Phi(Z) + Z phi(Z)) with phi the normal density."""
    density = np.exp(-0.5 * Z * Z) / math.sqrt(2 * math.pi)
    dZ[...] = dA * (_normal(Z) + Z * density)


def _normal(Z: Array) -> Array:
    """Phi(Z) = erfc(-Z/sqrt(2))/2, which unlike 1 + erf keeps its digits for negative Z."""
    values = np.asarray(_erfc(Z.astype(np.float64) * -math.sqrt(0.5)))
    return 0.5 * values.astype(Z.dtype)


def _silu_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z sigmoid(Z) (Elfwing, Uchibe & Doya 2018)."""
    A[...] = Z * sigmoid(Z)


def _silu_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA s (1 + Z (1 - s)) with s = sigmoid(Z)."""
    s = sigmoid(Z)
    dZ[...] = dA * s * (1 + Z * (1 - s))


def _mish_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = Z tanh(softplus(Z)) (Misra 2020)."""
    A[...] = Z * np.tanh(softplus(Z))


def _mish_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA (t + Z (1 - t^2) sigmoid(Z)) with t = tanh(softplus(Z))."""
    t = np.tanh(softplus(Z))
    dZ[...] = dA * (t + Z * (1 - t * t) * sigmoid(Z))


def _softplus_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = log(1 + exp(Z)) (Dugas et al. 2001)."""
    A[...] = softplus(Z)


def _softplus_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA sigmoid(Z)."""
    dZ[...] = dA * sigmoid(Z)


def _exp_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = exp(Z)."""
    A[...] = np.exp(Z)


def _exp_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = dA A."""
    dZ[...] = dA * A


def _softmax_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = exp(Z) over its sum in each row (Bridle 1990)."""
    powers = np.exp(Z - Z.max(axis=1, keepdims=True))
    A[...] = powers / powers.sum(axis=1, keepdims=True)


def _softmax_backward(
    dZ: Array, dlearned: Learned, dA: Array, Z: Array, A: Array, learned: Learned, constant: float
) -> None:
    """dZ = A (dA - sum(dA A)), sums over a row."""
    dZ[...] = A * (dA - (dA * A).sum(axis=1, keepdims=True))


def _step_forward(A: Array, Z: Array, learned: Learned, constant: float) -> None:
    """A = 1 where Z > 0, else 0 (Rosenblatt 1957)."""
    A[...] = np.heaviside(Z, 0)


ACTIVATIONS: Mapping[str, Activation] = {
    "identity": Activation(_identity_forward, _identity_backward),
    "sigmoid": Activation(_sigmoid_forward, _sigmoid_backward),
    "tanh": Activation(_tanh_forward, _tanh_backward),
    "relu": Activation(_relu_forward, _relu_backward),
    "leaky_relu": Activation(_leaky_relu_forward, _leaky_relu_backward),
    "prelu": Activation(_prelu_forward, _prelu_backward),
    "elu": Activation(_elu_forward, _elu_backward),
    "selu": Activation(_selu_forward, _selu_backward),
    "mpelu": Activation(_mpelu_forward, _mpelu_backward),
    "maxout": Activation(_maxout_forward, _maxout_backward),
    "gelu": Activation(_gelu_forward, _gelu_backward),
    "silu": Activation(_silu_forward, _silu_backward),
    "mish": Activation(_mish_forward, _mish_backward),
    "softplus": Activation(_softplus_forward, _softplus_backward),
    "exp": Activation(_exp_forward, _exp_backward),
    "softmax": Activation(_softmax_forward, _softmax_backward),
    "step": Activation(_step_forward, None),
}

ACTIVATION_CONSTANTS: Mapping[str, float] = {"leaky_relu": 0.01, "elu": 1.0, "maxout": 2.0}
"""Default constant of the activations that have one."""

_KINK = "z > 0 ? 1 : "
PROPERTIES: Mapping[str, Properties] = {
    "identity": Properties("z", "1", -_INF, _INF, "-", zero_centred=True),
    "sigmoid": Properties("1/(1 + exp(-z))", "a (1 - a)", 0, 1, "Rumelhart et al. 1986"),
    "tanh": Properties("tanh(z)", "1 - a^2", -1, 1, "-", zero_centred=True),
    "relu": Properties(
        "max(z, 0)", _KINK + "0", 0, _INF, "Nair & Hinton 2010", differentiable=False
    ),
    "leaky_relu": Properties(
        "z > 0 ? z : c z", _KINK + "c", -_INF, _INF, "Maas et al. 2013", differentiable=False
    ),
    "prelu": Properties(
        "z > 0 ? z : slope z", _KINK + "slope", -_INF, _INF, "He et al. 2015", differentiable=False
    ),
    "elu": Properties(
        "z > 0 ? z : c (exp(z) - 1)", _KINK + "a + c", -1, _INF, "Clevert et al. 2016"
    ),
    "selu": Properties(
        "1.0507 (z > 0 ? z : 1.6733 (exp(z) - 1))",
        "1.0507 (z > 0 ? 1 : 1.6733 exp(z))",
        -_SELU_SCALE * _SELU_ALPHA,
        _INF,
        "Klambauer et al. 2017",
        differentiable=False,
    ),
    "mpelu": Properties(
        "z > 0 ? z : alpha (exp(beta z) - 1)",
        _KINK + "alpha beta exp(beta z)",
        -1,
        _INF,
        "Li et al. 2018",
        differentiable=False,
    ),
    "maxout": Properties(
        "max(z_1, ..., z_k)",
        "1 for the first largest z_i, 0 for the others",
        -_INF,
        _INF,
        "Goodfellow et al. 2013",
        differentiable=False,
    ),
    "gelu": Properties(
        "z Phi(z)",
        "Phi(z) + z phi(z)",
        -0.16997120747990369,
        _INF,
        "Hendrycks & Gimpel 2016",
        monotone=False,
    ),
    "silu": Properties(
        "z s, s = 1/(1 + exp(-z))",
        "s (1 + z (1 - s))",
        -0.2784645427610738,
        _INF,
        "Elfwing et al. 2018",
        monotone=False,
    ),
    "mish": Properties(
        "z t, t = tanh(log(1 + exp(z)))",
        "t + z (1 - t^2)/(1 + exp(-z))",
        -0.3088434130172504,
        _INF,
        "Misra 2020",
        monotone=False,
    ),
    "softplus": Properties("log(1 + exp(z))", "1/(1 + exp(-z))", 0, _INF, "Dugas et al. 2001"),
    "exp": Properties("exp(z)", "a", 0, _INF, "-", output_only=True),
    "softmax": Properties(
        "exp(z_i)/sum_j exp(z_j)", "a_i (1[i = j] - a_j)", 0, 1, "Bridle 1990", output_only=True
    ),
    "step": Properties(
        "z > 0 ? 1 : 0", "-", 0, 1, "Rosenblatt 1957", differentiable=False, trainable=False
    ),
}
"""Name -> what it is like; a is the activation's value, c its constant."""

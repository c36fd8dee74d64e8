"""The optimizers' arithmetic on a run of parameters, by an integer code."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt as real_root

import numpy as np
from numba.core import types

from ..contract import SMALLEST_SQUARE, Array, UpdateRule
from .calls import destination, source
from .intrinsics import at, fma, like
from .jit import DOUBLE, DOUBLES, INTEGER, POINTER, REAL, family, inline

Constants = tuple[float, ...]

NAMES = (
    "sgd",
    "momentum",
    "momentum_with_rate",
    "nesterov",
    "nesterov_with_rate",
    "adam",
    "adam_epsilon_hat",
    "adamw",
    "rmsprop",
    "adagrad",
    "lars",
    "lamb",
)
SLOTS = (0, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 2)
CODES = {name: code for code, name in enumerate(NAMES)}
(
    SGD,
    MOMENTUM,
    MOMENTUM_WITH_RATE,
    NESTEROV,
    NESTEROV_WITH_RATE,
    ADAM,
    ADAM_EPSILON_HAT,
    ADAMW,
    RMSPROP,
    ADAGRAD,
    LARS,
    LAMB,
) = range(len(NAMES))

CONSTANTS = 4
"""Most constants that a rule has."""
NUMBERS = 10
"""What `fill_numbers` writes."""
TRUST = 9
"""Where the trust ratio of LARS and LAMB stands in it."""


@inline
def trusts(code):
    """Whether a rule asks for the norms of whole layers before it moves anything."""
    return code in (LARS, LAMB)


@inline
def root(x):
    return like(x, real_root(x))


@inline
def _moments(m, v, g, b1, b2, rest1, rest2, i):
    m[i] = fma(b1, m[i], rest1 * g[i])
    v[i] = fma(b2, v[i], rest2 * g[i] * g[i])


@family(types.void, INTEGER, POINTER, POINTER, POINTER, POINTER, DOUBLES, INTEGER)
def update_run(code, p, u, v, g, numbers, n):
    """Update n parameters p and their slots u and v by the gradient g.

    numbers holds what `fill_numbers` writes: the rate, the constants c of the rule, 1 - c^step of
    the first two for Adam and its kin, 1 - c of the first two, which single precision could not
    make of c itself, and the trust ratio. LAMB's moments are those that `trust_run` has moved.
    """
    rate = like(p, numbers[0])
    c0, c1, c2 = like(p, numbers[1]), like(p, numbers[2]), like(p, numbers[3])
    rest0, rest1 = like(p, numbers[7]), like(p, numbers[8])
    if code == SGD:
        for i in range(n):
            p[i] = fma(-rate, g[i], p[i])
    elif code == MOMENTUM:
        for i in range(n):
            u[i] = fma(c0, u[i], g[i])
            p[i] = fma(-rate, u[i], p[i])
    elif code == MOMENTUM_WITH_RATE:
        for i in range(n):
            u[i] = fma(c0, u[i], -rate * g[i])
            p[i] = p[i] + u[i]
    elif code == NESTEROV:
        for i in range(n):
            u[i] = fma(c0, u[i], g[i])
            p[i] = fma(-rate, fma(c0, u[i], g[i]), p[i])
    elif code == NESTEROV_WITH_RATE:
        for i in range(n):
            u[i] = fma(c0, u[i], -rate * g[i])
            p[i] = p[i] + fma(c0, u[i], -rate * g[i])
    elif code in (ADAM, ADAMW):
        shrink = -rate * like(p, numbers[4]) if code == ADAMW else like(p, 0.0)
        # One division an element instead of three: they take longer than all the rest.
        scaled, share = like(p, numbers[0] / numbers[5]), like(p, 1.0 / numbers[6])
        for i in range(n):
            _moments(u, v, g, c0, c1, rest0, rest1, i)
            p[i] = fma(shrink, p[i], p[i]) - scaled * u[i] / (root(v[i] * share) + c2)
    elif code == ADAM_EPSILON_HAT:
        scaled = like(p, numbers[0] * real_root(numbers[6]) / numbers[5])
        for i in range(n):
            _moments(u, v, g, c0, c1, rest0, rest1, i)
            p[i] = p[i] - scaled * u[i] / (root(v[i]) + c2)
    elif code == RMSPROP:
        for i in range(n):
            u[i] = fma(c0, u[i], rest0 * g[i] * g[i])
            p[i] = p[i] - rate * g[i] / (root(u[i]) + c1)
    elif code == ADAGRAD:
        for i in range(n):
            u[i] = fma(g[i], g[i], u[i])
            p[i] = p[i] - rate * g[i] / (root(u[i]) + c0)
    elif code == LARS:
        trusted = like(p, numbers[0] * numbers[TRUST])
        for i in range(n):
            u[i] = fma(c0, u[i], -trusted * fma(c2, p[i], g[i]))
            p[i] = p[i] + u[i]
    elif code == LAMB:
        trusted = like(p, numbers[0] * numbers[TRUST])
        scaled, share = like(p, 1.0 / numbers[5]), like(p, 1.0 / numbers[6])
        for i in range(n):
            p[i] = fma(
                -trusted, _lamb_way(p, u, v, scaled, share, c2, like(p, numbers[4]), i), p[i]
            )


@family(types.void, INTEGER, *(POINTER,) * 4, REAL, DOUBLES, DOUBLES, INTEGER, INTEGER)
def trust_run(code, p, u, v, g, factor, numbers, squares, rows, columns):
    """What LARS and LAMB must know of weights (rows, columns) before `update_run`.

    squares gets two numbers a column: the sums of p^2 and of g^2 (LARS) or of LAMB's way squared,
    for which its moments are moved. In float64 and down the rows, so that no bit depends on how
    columns are shared out. The gradient is g times `factor`.
    """
    c0, c1, c2 = like(p, numbers[1]), like(p, numbers[2]), like(p, numbers[3])
    rest0, rest1 = like(p, numbers[7]), like(p, numbers[8])
    scaled, share = like(p, 1.0 / numbers[5]), like(p, 1.0 / numbers[6])
    for j in range(2 * columns):
        squares[j] = 0.0
    for r in range(rows):
        for j in range(columns):
            i = r * columns + j
            way = g[i] * factor
            if code == LAMB:
                u[i] = fma(c0, u[i], rest0 * way)
                v[i] = fma(c1, v[i], rest1 * way * way)
                way = _lamb_way(p, u, v, scaled, share, c2, like(p, numbers[4]), i)
            wide, along = np.float64(p[i]), np.float64(way)
            squares[j] += wide * wide
            squares[columns + j] += along * along


@inline
def _lamb_way(p, u, v, scaled, share, epsilon, decay, i):
    return fma(decay, p[i], scaled * u[i] / (root(v[i] * share) + epsilon))


@inline
def trust_ratio(code, numbers, squared_p, squared_way):
    """The trust ratio from the two sums of `trust_run`."""
    if not (squared_p > SMALLEST_SQUARE and squared_way > SMALLEST_SQUARE):
        return 1.0
    p, way = real_root(squared_p), real_root(squared_way)
    return p / way if code == LAMB else numbers[2] * p / (way + numbers[3] * p)


@inline
def fill_numbers(numbers, code, constants, rate, step):
    """What `update_run` wants to know of a step; powers only for who uses them (40 ns)."""
    numbers[0] = rate
    for i in range(CONSTANTS):
        numbers[1 + i] = constants[i]
    corrected = code in (ADAM, ADAM_EPSILON_HAT, ADAMW, LAMB)
    numbers[5] = 1.0 - constants[0] ** float(step) if corrected else 1.0
    numbers[6] = 1.0 - constants[1] ** float(step) if corrected else 1.0
    numbers[7] = 1.0 - constants[0]
    numbers[8] = 1.0 - constants[1]
    numbers[TRUST] = 1.0


@family(
    *(types.void, INTEGER, *(POINTER,) * 4, DOUBLES, DOUBLES, DOUBLE, INTEGER, INTEGER),
    on_demand=True,
)
def update_vector(code, p, u, v, g, numbers, constants, rate, step, n):
    """One update of n parameters and their slots."""
    fill_numbers(numbers, code, constants, rate, step)
    if trusts(code):
        squares = at(numbers, NUMBERS)
        trust_run(code, p, u, v, g, like(p, 1.0), numbers, squares, n, 1)
        numbers[TRUST] = trust_ratio(code, numbers, squares[0], squares[1])
    update_run(code, p, u, v, g, numbers, n)


def padded(constants: Constants) -> Array:
    """The constants of a rule as an array of fixed length."""
    return np.array([*constants, *[0.0] * (CONSTANTS - len(constants))], np.float64)


def _rule(code: int) -> UpdateRule:
    def apply(
        p: Array, slots: Array, g: Array, rate: float, step: int, constants: Constants
    ) -> None:
        numbers, given = np.zeros(NUMBERS + 2), padded(constants)
        gradient = source(g, p.dtype)
        with destination(p) as out, destination(slots) as vectors:
            addresses = [vectors[i].ctypes.data if i < SLOTS[code] else 0 for i in range(2)]
            update_vector.of(p.dtype.name)(
                *(code, out.ctypes.data, *addresses, gradient.ctypes.data),
                *(numbers.ctypes.data, given.ctypes.data, float(rate), step, p.size),
            )

    return UpdateRule(apply, SLOTS[code])


UPDATES: Mapping[str, UpdateRule] = {name: _rule(CODES[name]) for name in NAMES}

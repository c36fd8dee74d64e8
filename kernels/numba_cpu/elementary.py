"""exp, log, tanh, sigmoid, softplus and the normal distribution as branch-free polynomials.

Numba calls the C library for these, one number at a time (2.5 ns an element against 0.4 ns for a
polynomial that the compiler can vectorize). All are written with explicit fused multiply-adds and
without fast-math, so that a result does not depend on how wide the vectors are. NaN stays NaN.
The polynomials are Taylor series, cut where the next term is below half a unit in the last place,
but for
erfc, which is exp(-x^2) times a Chebyshev fit in (x - 2)/(x + 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from .intrinsics import call_llvm, choose, copysign, fma, like, llvm_real
from .jit import inline


def polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """An intrinsic that evaluates a polynomial, lowest coefficient first, by Horner's rule."""

    @intrinsic
    def evaluate(typingctx, x):
        coefficients = single if x.bitwidth == 32 else double

        def codegen(context, builder, sig, args):
            kind = llvm_real(x)
            total = ir.Constant(kind, coefficients[-1])
            for coefficient in reversed(coefficients[:-1]):
                constant = ir.Constant(kind, coefficient)
                total = call_llvm(builder, "fma", kind, [total, args[0], constant])
            return total

        return x(x), codegen

    return evaluate


def per_precision(single: float, double: float) -> Any:
    """An intrinsic that gives a constant in the precision of its argument."""

    @intrinsic
    def constant(typingctx, x):
        def codegen(context, builder, sig, args):
            return ir.Constant(llvm_real(x), single if x.bitwidth == 32 else double)

        return x(x), codegen

    return constant


# ln 2 as a sum: the first part has few enough bits that its product with an exponent is exact.
_ln2_high = per_precision(0.693359375, 0.6931471803691238)
_ln2_low = per_precision(-2.1219444005469057e-4, 1.9082149292705877e-10)
_round_magic = per_precision(12582912.0, 6755399441055744.0)  # 1.5 * 2**23, 1.5 * 2**52
_exp_lowest = per_precision(-104.0, -746.0)
_exp_highest = per_precision(89.0, 710.0)
_expm1_lowest = per_precision(-20.0, -40.0)
_infinity = per_precision(math.inf, math.inf)
_exp_tail = polynomial(
    [1 / math.factorial(k) for k in range(2, 8)], [1 / math.factorial(k) for k in range(2, 14)]
)
_log_tail = polynomial(
    [2 / (2 * k + 1) for k in range(1, 6)], [2 / (2 * k + 1) for k in range(1, 12)]
)
_erf_inner = polynomial(
    [2 / math.sqrt(math.pi) * (-1) ** k / math.factorial(k) / (2 * k + 1) for k in range(10)],
    [2 / math.sqrt(math.pi) * (-1) ** k / math.factorial(k) / (2 * k + 1) for k in range(19)],
)
_erfc_outer = polynomial(
    [
        0.2553956763,
        -0.4271859893,
        0.2416582112,
        -0.07896832394,
        0.003732138369,
        0.00681126824,
        -0.0008365721271,
    ],
    [
        0.255395676310505744,
        -0.427185847413958485,
        0.241658194242465955,
        -0.0789785810157063847,
        0.00373289240438418282,
        0.00699746173699877841,
        -0.000847143252351356647,
        -0.000981976942410114585,
        0.0000435555726513668946,
        0.000174359506903467015,
        0.0000275273326468642695,
        -0.0000275626467369191372,
        -0.0000139990457692094967,
        1.3087583516199974e-6,
        4.01213377891066497e-6,
        1.26502724343394963e-6,
        -1.12933627505024909e-6,
    ],
)
_erf_edge = per_precision(4.0, 6.0)


@intrinsic
def _times_power_of_two(typingctx, p, shifted):
    """p * 2**n in two steps, so that subnormal results and overflow come out right.

    n sits in the low bits of `shifted`, the sum of n and the rounding constant.
    """

    def codegen(context, builder, sig, args):
        kind = ir.IntType(p.bitwidth)
        n = builder.sub(builder.bitcast(args[1], kind), _magic_bits(p))
        half = builder.ashr(n, kind(1))
        for step in (half, builder.sub(n, half)):
            args = [builder.fmul(args[0], _power_of_two(builder, p, step))]
        return args[0]

    return p(p, p), codegen


@intrinsic
def _power_of_two_at(typingctx, shifted):
    """2**n for the n in the low bits of `shifted`, where it is a normal number."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(shifted.bitwidth))
        return _power_of_two(builder, shifted, builder.sub(bits, _magic_bits(shifted)))

    return shifted(shifted), codegen


def _magic_bits(real: Any) -> Any:
    return ir.IntType(real.bitwidth)(0x4B400000 if real.bitwidth == 32 else 0x4338000000000000)


def _power_of_two(builder: Any, real: Any, n: Any) -> Any:
    kind = ir.IntType(real.bitwidth)
    bias, shift = (127, 23) if real.bitwidth == 32 else (1023, 52)
    return builder.bitcast(builder.shl(builder.add(n, kind(bias)), kind(shift)), llvm_real(real))


@inline
def _reduced(x):
    """x = n ln 2 + r + c: n hidden in the first value, r rounded, c what the rounding lost."""
    shifted = fma(x, like(x, 1.4426950408889634), _round_magic(x))
    n = shifted - _round_magic(x)
    exact = fma(n, -_ln2_high(x), x)
    low = n * _ln2_low(x)
    r = exact - low
    return shifted, r, (exact - r) - low


@inline
def exp(x):
    """e**x; overflows to infinity, underflows through the subnormals to 0."""
    low, high = _exp_lowest(x), _exp_highest(x)
    x = choose(x < low, low, x)
    x = choose(x > high, high, x)
    shifted, r, c = _reduced(x)
    p = like(x, 1.0) + (r + fma(r * r, _exp_tail(r), c))
    return _times_power_of_two(p, shifted)


@inline
def expm1_negative(x):
    """e**x - 1 for x <= 0, without cancellation near 0; positive x counts as 0."""
    low, zero = _expm1_lowest(x), like(x, 0.0)
    x = choose(x < low, low, x)
    x = choose(x > zero, zero, x)
    shifted, r, c = _reduced(x)
    p = r + fma(r * r, _exp_tail(r), c)
    scale = _power_of_two_at(shifted)
    return fma(scale, p, scale - like(x, 1.0))


@intrinsic
def _exponent(typingctx, x):
    """The n of x = m 2**n with sqrt(1/2) <= m < sqrt(2), as a float."""

    def codegen(context, builder, sig, args):
        return builder.sitofp(_exponent_bits(builder, x, args[0]), llvm_real(x))

    return x(x), codegen


@intrinsic
def _mantissa(typingctx, x):
    """The m of x = m 2**n with sqrt(1/2) <= m < sqrt(2)."""

    def codegen(context, builder, sig, args):
        kind = ir.IntType(x.bitwidth)
        shift = kind(23 if x.bitwidth == 32 else 52)
        n = builder.shl(_exponent_bits(builder, x, args[0]), shift)
        return builder.bitcast(builder.sub(builder.bitcast(args[0], kind), n), llvm_real(x))

    return x(x), codegen


def _exponent_bits(builder: Any, real: Any, x: Any) -> Any:
    kind = ir.IntType(real.bitwidth)
    root, shift = (0x3F3504F3, 23) if real.bitwidth == 32 else (0x3FE6A09E667F3BCD, 52)
    return builder.ashr(builder.sub(builder.bitcast(x, kind), kind(root)), kind(shift))


@inline
def log(x):
    """Natural logarithm of a positive normal number; infinity and NaN stay.

    With f = m - 1, s = f / (2 + f): log m = f - (f^2/2 - s (f^2/2 + R(s^2))), where
    R(z) = 2z/3 + 2z^2/5 + ... is the rest of 2 atanh(s).
    """
    n = _exponent(x)
    f = _mantissa(x) - like(x, 1.0)
    s = f / (like(x, 2.0) + f)
    z = s * s
    square = like(x, 0.5) * f * f
    small = fma(s, fma(z, _log_tail(z), square), n * _ln2_low(x))
    value = fma(n, _ln2_high(x), f - (square - small))
    return choose(x < _infinity(x), value, x)


@inline
def log1p_unit(x):
    """log(1 + x) for 0 <= x <= 1; the rounding of 1 + x is put back."""
    u = like(x, 1.0) + x
    return log(u) + (x - (u - like(x, 1.0))) / u


@inline
def tanh(x):
    """(1 - e**-2|x|) / (1 + e**-2|x|) with the sign of x; what the sum lost is put back.

    By the reciprocal, with what is left over divided in the same way: one division, not two.
    """
    two = like(x, 2.0)
    t = expm1_negative(-two * abs(x))
    d = two + t
    reciprocal = like(x, 1.0) / d
    quotient = -t * reciprocal
    rest = fma(-quotient, d, -t) - quotient * (t - (d - two))
    return copysign(fma(rest, reciprocal, quotient), x)


@inline
def sigmoid(x):
    """1 / (1 + e**-x), without overflow for either sign."""
    one = like(x, 1.0)
    e = exp(-abs(x))
    return choose(x < like(x, 0.0), e, one) / (one + e)


@inline
def softplus(x):
    """log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)."""
    zero = like(x, 0.0)
    return choose(x > zero, x, zero) + log1p_unit(exp(-abs(x)))


@inline
def normal_distribution(x):
    """(1 + erf(x / sqrt 2)) / 2: by the Taylor series of erf near 0, else by erfc.

    For x < 0 the small value comes from erfc itself and keeps its digits; beyond the edge it is 0.
    """
    zero, half, one, two = like(x, 0.0), like(x, 0.5), like(x, 1.0), like(x, 2.0)
    scaled = x * like(x, 0.7071067811865476)
    a = abs(scaled)
    near = choose(a > one, one, a)
    inner = fma(half * scaled, _erf_inner(near * near), half)
    b = choose(a > _erf_edge(x), _erf_edge(x), a)
    tail = half * exp(-b * b) * _erfc_outer((b - two) / (b + two))
    tail = choose(a > _erf_edge(x), zero, tail)
    outer = choose(scaled < zero, tail, one - tail)
    return choose(a < one, inner, choose(a >= one, outer, x))

"""Rows of other dtypes than the plan's: converted where they are gathered.

A dtype is an integer code. Conversions round as NumPy's do, and a number's bits do not depend on
the lane that it stands in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import fields
from .intrinsics import VECTOR_BITS, integers_at, llvm_vector, store_vector
from .jit import INTEGER, POINTER, family, inline

GATHERED = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64"),
)
"""Names of the dtypes; the code is the place here, counted from 1."""

OWN = 0
"""The code of rows in the plan's dtype."""


def kind_of(dtype: np.dtype[Any], own: np.dtype[Any]) -> int:
    """The code of rows for a plan in the dtype `own`."""
    return OWN if dtype == own else GATHERED.index(dtype.name) + 1


@inline
def row_at(t, place):
    """The row at a place of the order; `order_rows` has listed it."""
    if t[fields.ORDER] == fields.SEQUENCE:
        return place
    return integers_at(t[fields.LISTED_ROWS])[place & (t[fields.RING] - 1)]


@inline
def row_address(t, row):
    """Where a row of X begins."""
    return t[fields.X] + row * t[fields.ROW_BYTES]


def _converted(builder: Any, real: Any, name: str, address: Any, lanes: int) -> Any:
    """Emit the load of `lanes` numbers of a dtype, and their conversion."""
    given = np.dtype(name)
    stored = {"float32": ir.FloatType(), "float64": ir.DoubleType()}.get(name)
    kind = ir.VectorType(stored or ir.IntType(8 * given.itemsize), lanes)
    numbers = builder.load(builder.inttoptr(address, kind.as_pointer()), align=given.itemsize)
    wanted = llvm_vector(real, lanes)
    if name == "float16":
        return _from_half(builder, numbers, wanted)
    if name == "bool":  # NumPy takes any byte but 0 for True
        zero = ir.Constant(kind, [0] * lanes)
        return builder.uitofp(builder.icmp_unsigned("!=", numbers, zero), wanted)
    if given.kind == "f":
        return (builder.fpext if given.itemsize == 4 else builder.fptrunc)(numbers, wanted)
    return (builder.sitofp if given.kind == "i" else builder.uitofp)(numbers, wanted)


def _from_half(builder: Any, halves: Any, wanted: Any) -> Any:
    """Emit the conversion of float16 by integers: not every processor has an instruction for it.

    No step makes a subnormal number, so it is right where these are flushed to zero, too.
    """
    lanes = wanted.count
    word, single = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.FloatType(), lanes)

    def all_lanes(number: int) -> Any:
        return ir.Constant(word, [number] * lanes)

    bits = builder.zext(halves, word)
    rest = builder.and_(bits, all_lanes(0x7FFF))
    moved = builder.shl(rest, all_lanes(13))
    usual = builder.add(moved, all_lanes((127 - 15) << 23))
    odd = builder.or_(moved, all_lanes(0x7F800000))
    step = ir.Constant(single, [2.0**-24] * lanes)
    small = builder.bitcast(builder.fmul(builder.uitofp(rest, single), step), word)
    size = builder.select(builder.icmp_unsigned(">=", rest, all_lanes(0x7C00)), odd, usual)
    size = builder.select(builder.icmp_unsigned("<", rest, all_lanes(0x0400)), small, size)
    sign = builder.shl(builder.and_(bits, all_lanes(0x8000)), all_lanes(16))
    number = builder.bitcast(builder.or_(size, sign), single)
    return number if number.type == wanted else builder.fpext(number, wanted)


@intrinsic
def _convert(typingctx, target, stride, source, count, kind):
    """Two loops for each dtype: over whole vectors, and over the numbers that are left."""
    real = target.dtype
    width = VECTOR_BITS // real.bitwidth

    def codegen(context, builder, sig, args):
        target, stride, source, count, kind = args
        panels = builder.sdiv(count, count.type(width))
        begun = builder.mul(panels, count.type(width))
        rest = builder.gep(target, [builder.mul(panels, stride)])

        def run(name, lanes, first, number, to, apart):
            size = np.dtype(name).itemsize
            start = builder.add(source, builder.mul(first, first.type(size)))
            with cgutils.for_range(builder, number) as loop:
                address = builder.add(start, builder.mul(loop.index, first.type(lanes * size)))
                value = _converted(builder, real, name, address, lanes)
                place = builder.gep(to, [builder.mul(loop.index, apart)])
                store_vector(builder, real, value, place)

        for code, name in enumerate(GATHERED, OWN + 1):
            if name != real.name:
                with builder.if_then(builder.icmp_signed("==", kind, kind.type(code))):
                    run(name, width, begun.type(0), panels, target, stride)
                    run(name, 1, begun, builder.sub(count, begun), rest, begun.type(1))
        return context.get_dummy_value()

    return types.void(target, *(types.int64,) * 4), codegen


@family(types.void, POINTER, INTEGER, INTEGER, INTEGER, INTEGER)
def convert_row(target, stride, source, count, kind):
    """Convert `count` numbers at the address `source` to panels that are `stride` apart."""
    _convert(target, stride, source, count, kind)

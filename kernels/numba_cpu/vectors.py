"""Vectors as values in jitted code: one row of a panel, all its lanes at once.

A loop over the lanes of a row has a fixed, short length, and LLVM unrolls it into single numbers
before it looks for vectors: layer normalization took 5.7 ns a number that way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.datamodel import models, register_default
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin

from .intrinsics import (
    VECTOR_BITS,
    call_llvm,
    llvm_vector,
    load_vector,
    splat,
    store_vector,
)


class Vector(types.Type):
    """`lanes` numbers of one precision."""

    def __init__(self, real: Any, lanes: int):
        self.real, self.lanes = real, lanes
        super().__init__(name=f"vector({real}, {lanes})")


@register_default(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector):
        super().__init__(manager, kind, llvm_vector(kind.real, kind.lanes))


def _define(operation: Any, emit: Callable[..., Any]) -> None:
    """Teach numba an operator of two vectors."""

    class Template(AbstractTemplate):
        key = operation

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(operation)(Template)

    @lower_builtin(operation, Vector, Vector)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_define(operator.add, lambda builder, x, y: builder.fadd(x, y))
_define(operator.sub, lambda builder, x, y: builder.fsub(x, y))
_define(operator.mul, lambda builder, x, y: builder.fmul(x, y))
_define(operator.truediv, lambda builder, x, y: builder.fdiv(x, y))


def loader(width: int = 0) -> Any:
    """An intrinsic load(pointer) for rows of `width` numbers; those of panels if 0."""

    @intrinsic
    def load_row(typingctx, pointer):
        real = pointer.dtype
        kind = Vector(real, width or VECTOR_BITS // real.bitwidth)

        def codegen(context, builder, sig, args):
            return load_vector(builder, real, args[0], kind.lanes)

        return kind(pointer), codegen

    return load_row


load = loader()


@intrinsic
def store(typingctx, pointer, x):
    """Write a vector."""

    def codegen(context, builder, sig, args):
        store_vector(builder, x.real, args[1], args[0])
        return context.get_dummy_value()

    return types.void(pointer, x), codegen


def filler(width: int = 0) -> Any:
    """An intrinsic every(pointer, x): a row of `width` numbers x, like those at `pointer`."""

    @intrinsic
    def fill_row(typingctx, pointer, x):
        real = pointer.dtype
        kind = Vector(real, width or VECTOR_BITS // real.bitwidth)

        def codegen(context, builder, sig, args):
            number = context.cast(builder, args[1], x, real)
            return splat(builder, real, number, kind.lanes)

        return kind(pointer, x), codegen

    return fill_row


every = filler()


@intrinsic
def square_root(typingctx, x):
    """The square root of each lane."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, "sqrt", args[0].type, list(args))

    return x(x), codegen


@intrinsic
def product_or_zero(typingctx, x, factors):
    """x times the factors; 0 where a factor is 0, whatever x is."""

    def codegen(context, builder, sig, args):
        x, factors = args
        zero = factors.type(None)
        padding = builder.fcmp_ordered("==", factors, zero)
        return builder.select(padding, zero, builder.fmul(x, factors))

    return x(x, x), codegen

"""The machine below the loops: pointers, vectors, fused multiply-add, atomics.

Everything here is one instruction or an address computation; numba has no word for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _vector_bits() -> int:
    features = numba.config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return 512
    return 256 if "+avx2" in features and "+fma" in features else 128


VECTOR_BITS = _vector_bits()
"""Width of the machine's vectors; results do not depend on it."""

REGISTERS = 32 if VECTOR_BITS == 512 or platform.machine() in ("arm64", "aarch64") else 16


def lane_count(dtype: str) -> int:
    """Numbers in one vector: the width of a panel."""
    return VECTOR_BITS // (32 if dtype == "float32" else 64)


def llvm_real(real: Any) -> ir.Type:
    """The LLVM type of a numba float."""
    return ir.FloatType() if real.bitwidth == 32 else ir.DoubleType()


def llvm_vector(real: Any, lanes: int = 0) -> ir.Type:
    """The LLVM type of one panel row, or of a vector of `lanes` numbers."""
    return ir.VectorType(llvm_real(real), lanes or VECTOR_BITS // real.bitwidth)


def call_llvm(builder: Any, name: str, kind: ir.Type, args: list[Any]) -> Any:
    """Call the LLVM intrinsic ``llvm.<name>.<kind>`` whose operands all have one type."""
    suffix = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}
    if isinstance(kind, ir.VectorType):
        full = f"llvm.{name}.v{kind.count}{suffix[kind.element]}"
    else:
        full = f"llvm.{name}.{suffix[kind]}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(args)), full
    )
    return builder.call(function, args)


@intrinsic
def lanes(typingctx, pointer):
    """Numbers in one vector of the pointer's precision, a constant."""

    def codegen(context, builder, sig, args):
        return context.get_constant(types.int64, VECTOR_BITS // pointer.dtype.bitwidth)

    return types.int64(pointer), codegen


@intrinsic
def like(typingctx, x, value):
    """`value` in the precision of the number or pointer `x`."""
    real = x.dtype if isinstance(x, types.CPointer) else x

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[1], value, real)

    return real(x, value), codegen


@intrinsic
def at(typingctx, pointer, offset):
    """The pointer `offset` numbers further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def pointer_to(typingctx, kind, address):
    """The memory address `address` as a pointer to numbers of the precision of `kind`.

    Tables hold addresses as integers.
    """
    pointer = types.CPointer(kind)

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[1], llvm_real(kind).as_pointer())

    return pointer(kind, types.int64), codegen


@intrinsic
def address_of(typingctx, pointer):
    """The memory address that a pointer holds."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), codegen


@intrinsic
def integers_at(typingctx, address):
    """The memory address `address` as a pointer to 64-bit integers."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen


def own_integers(count: int) -> Any:
    """An intrinsic that gives room on the stack for `count` 64-bit integers."""

    @intrinsic
    def room(typingctx):
        def codegen(context, builder, sig, args):
            integer = ir.IntType(64)
            block = cgutils.alloca_once(builder, ir.ArrayType(integer, count))
            return builder.bitcast(block, integer.as_pointer())

        return types.CPointer(types.int64)(), codegen

    return room


def own_numbers(count: int) -> Any:
    """An intrinsic that gives room on the stack for `count` numbers like those at its argument.

    Of such room LLVM knows that no other pointer leads there.
    """

    @intrinsic
    def room(typingctx, pointer):
        def codegen(context, builder, sig, args):
            real = llvm_real(pointer.dtype)
            block = cgutils.alloca_once(builder, ir.ArrayType(real, count))
            return builder.bitcast(block, real.as_pointer())

        return pointer(pointer), codegen

    return room


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once: the same bits on every machine and at every vector width."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, "fma", args[0].type, list(args))

    return a(a, a, a), codegen


@intrinsic
def choose(typingctx, condition, a, b):
    """a where the condition holds, else b; both are computed, so that a loop can be vectorized."""

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return a(types.boolean, a, a), codegen


@intrinsic
def copysign(typingctx, magnitude, sign):
    """`magnitude` with the sign of `sign`."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, "copysign", args[0].type, list(args))

    return magnitude(magnitude, magnitude), codegen


@intrinsic
def copy_vector(typingctx, target, source):
    """Copy one vector."""

    def codegen(context, builder, sig, args):
        store_vector(builder, target.dtype, load_vector(builder, target.dtype, args[1]), args[0])
        return context.get_dummy_value()

    return types.void(target, target), codegen


def ask_for(builder: Any, pointer: Any, to_write: bool = False) -> None:
    """Emit a prefetch of the cache line at `pointer` into the second level."""
    word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    ask = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
        "llvm.prefetch.p0i8",
    )
    intent, second_level, data = word(int(to_write)), word(2), word(1)
    builder.call(ask, [builder.bitcast(pointer, byte), intent, second_level, data])


@intrinsic
def prefetch(typingctx, pointer):
    """Ask for the cache line at `pointer`, to be read later; any address is allowed."""

    def codegen(context, builder, sig, args):
        ask_for(builder, args[0])
        return context.get_dummy_value()

    return types.void(pointer), codegen


@intrinsic
def prefetch_to_write(typingctx, pointer):
    """Ask for the cache line at `pointer` to be this core's alone, for it will be written to."""

    def codegen(context, builder, sig, args):
        ask_for(builder, args[0], to_write=True)
        return context.get_dummy_value()

    return types.void(pointer), codegen


def load_vector(builder: Any, real: Any, pointer: Any, lanes: int = 0) -> Any:
    """Emit the load of one vector that need not be aligned."""
    typed = builder.bitcast(pointer, llvm_vector(real, lanes).as_pointer())
    return builder.load(typed, align=real.bitwidth // 8)


def store_vector(builder: Any, real: Any, value: Any, pointer: Any) -> None:
    """Emit the store of one vector that need not be aligned."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), real.bitwidth // 8)


def splat(builder: Any, real: Any, number: Any, lanes: int = 0) -> Any:
    """Emit a vector whose lanes all hold `number`."""
    kind = llvm_vector(real, lanes)
    index = ir.VectorType(ir.IntType(32), kind.count)(None)
    first = builder.insert_element(
        ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), index)


@intrinsic
def load_acquire(typingctx, pointer):
    """Read an integer that another thread has written with `store_release`."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(args[0], "acquire", 8)

    return types.int64(pointer), codegen


@intrinsic
def store_release(typingctx, pointer, value):
    """Write an integer after everything written before."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], args[0], "release", 8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


@intrinsic
def fetch_add(typingctx, pointer, number):
    """Add to an integer that several threads count with; returns what it was."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", *args, "monotonic")

    return types.int64(pointer, types.int64), codegen


@intrinsic
def relax(typingctx):
    """Tell the core that this is a waiting loop."""

    def codegen(context, builder, sig, args):
        if platform.machine() in ("x86_64", "AMD64"):
            pause = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), codegen


_TO_ZERO = 0x8040
"""The bits of MXCSR that make numbers below the smallest normal one zeros, given and made."""


def _control_word(builder: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def tiny_to_zero(typingctx):
    """From now on numbers below the smallest normal one are zeros; returns what to restore.

    Moments of Adam decay into that range, where x86 takes a hundred times as long for each. Other
    processors don't, and stay as they are.
    """

    def codegen(context, builder, sig, args):
        if platform.machine() not in ("x86_64", "AMD64"):
            return context.get_constant(types.int32, 0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _control_word(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.Constant(ir.IntType(32), _TO_ZERO)), place)
        _control_word(builder, "ldmxcsr", place)
        return before

    return types.int32(), codegen


@intrinsic
def restore_tiny(typingctx, before):
    """Go back to what `tiny_to_zero` has found."""

    def codegen(context, builder, sig, args):
        if platform.machine() in ("x86_64", "AMD64"):
            place = cgutils.alloca_once_value(builder, args[0])
            _control_word(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


COUNTERS = {"x86_64": "cycle", "AMD64": "cycle", "arm64": "steady", "aarch64": "steady"}
"""LLVM's name of a counter of time that programs may read, by machine."""


@intrinsic
def cycles(typingctx):
    """A counter that runs at a steady 1e7 to 5e9 a second; always 0 on processors without one."""

    def codegen(context, builder, sig, args):
        counter = COUNTERS.get(platform.machine())
        if counter is None:
            return context.get_constant(types.int64, 0)
        read = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(64), []), f"llvm.read{counter}counter"
        )
        return builder.call(read, [])

    return types.int64(), codegen


def _yield_address() -> int:
    if os.name == "nt":
        function = ctypes.windll.kernel32.SwitchToThread  # type: ignore[attr-defined]
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


llvm.add_symbol("fastmlp_yield", _yield_address())
give_way = types.ExternalFunction("fastmlp_yield", types.int32())
"""Offer the core to another thread of the system."""

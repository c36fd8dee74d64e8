"""Register tiles: the four places where the compiler has to be told what to keep in registers.

A panel holds one vector width of columns, row after row: matrices are ``[panel][row][lane]``.
All streams are then contiguous and nothing is packed. The tiles know no activation and no loss:
they sum with `fma` along one index, in its order, so that a sum's bits depend neither on the
width of the vectors nor on the number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .intrinsics import (
    REGISTERS,
    VECTOR_BITS,
    ask_for,
    call_llvm,
    llvm_vector,
    load_vector,
    splat,
    store_vector,
)

TILE_ROWS, TILE_PANELS = (8 if REGISTERS == 32 else 4), 3
"""Accumulators of a product: 8 x 3 of 32 registers, 4 x 3 of 16.

14 x 2 and 6 x 2 were slower. On a Zen 3 core (AVX2, at most 100 GFLOP/s) 4 x 2 reaches 88, 4 x 3
reaches 95.
"""

UNROLLED = 8
"""Terms that a product adds without a branch, at most: a vector's numbers of a row."""

LONE_ROWS = 8
"""Of a tile with one panel: with 4, each sum would wait for the one before it."""

_INT = ir.IntType(64)


def _offset(builder: Any, pointer: Any, *factors: Any) -> Any:
    """pointer + the product of the factors, integers or values."""
    total = factors[0]
    for factor in factors[1:]:
        total = builder.mul(total, _INT(factor) if isinstance(factor, int) else factor)
    return builder.gep(pointer, [total])


def _fma(builder: Any, variable: Any, a: Any, b: Any) -> None:
    total = call_llvm(builder, "fma", a.type, [a, b, builder.load(variable)])
    builder.store(total, variable)


def _accumulators(builder: Any, real: Any, count: int, lanes: int = 0) -> list[Any]:
    return [cgutils.alloca_once(builder, llvm_vector(real, lanes)) for _ in range(count)]


def product_tile(rows: int, panels: int, width: int = 0) -> Any:
    """An intrinsic for `rows` x `panels` vectors of Z = A W + b; `width` lanes instead of all.

    tile(z, z_to, start, start_to, by_row, a, a_to, w, w_to, k, last): ..._to are strides from panel
    to panel, k is the summed length. The sums begin with `start`: the bias (`by_row` 0) or what z
    holds already (1). Rows beyond `last` repeat that row and write the same values again.
    """

    @intrinsic
    def tile(typingctx, z, z_to, start, start_to, by_row, a, a_to, w, w_to, k, last):
        real = z.dtype
        lanes = width or VECTOR_BITS // real.bitwidth
        run = min(lanes, UNROLLED)

        def codegen(context, builder, sig, args):
            z, z_to, start, start_to, by_row, a, a_to, w, w_to, k, last = args
            offsets = []
            for row in range(rows):
                within = builder.icmp_signed("<", _INT(row), last)
                offsets.append(builder.mul(builder.select(within, _INT(row), last), _INT(lanes)))
            sums = _accumulators(builder, real, rows * panels, lanes)

            def add_term(numbers, weights, lane):
                line = _offset(builder, weights, lane, lanes)
                columns = [
                    load_vector(builder, real, _offset(builder, line, w_to, v), lanes)
                    for v in range(panels)
                ]
                for row in range(rows):
                    place = builder.gep(numbers, [builder.add(offsets[row], lane)])
                    number = splat(builder, real, builder.load(place), lanes)
                    for v in range(panels):
                        _fma(builder, sums[row * panels + v], number, columns[v])

            def run_at(index):
                panel = _offset(builder, a, builder.udiv(index, _INT(lanes // run)), a_to)
                within = builder.urem(index, _INT(lanes // run))
                return _offset(builder, panel, within, run), _offset(builder, w, index, run * lanes)

            for v in range(panels):
                column = _offset(builder, start, start_to, v)
                for row in range(rows):
                    place = _offset(builder, column, offsets[row], by_row)
                    builder.store(load_vector(builder, real, place, lanes), sums[row * panels + v])
            runs = builder.udiv(k, _INT(run))
            with cgutils.for_range(builder, runs) as loop:
                numbers, weights = run_at(loop.index)
                for lane in range(run):
                    add_term(numbers, weights, _INT(lane))
            numbers, weights = run_at(runs)
            with cgutils.for_range(builder, builder.urem(k, _INT(run))) as loop:
                add_term(numbers, weights, loop.index)
            for v in range(panels):
                out = _offset(builder, z, z_to, v)
                for row in range(rows):
                    target = builder.gep(out, [offsets[row]])
                    store_vector(builder, real, builder.load(sums[row * panels + v]), target)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            *(z, integer, w, integer, integer, a, integer, w, integer, integer, integer)
        ), codegen

    return tile


def weight_tile_of(inputs: int, panels: int, width: int = 0, asking: bool = True) -> Any:
    """An intrinsic for `inputs` x `panels` vectors of A' dZ; `width` lanes instead of all.

    tile(g, g_stride, a, dz, dz_stride, rows, more, ahead, pace, apart): strides are from panel to
    panel; g[i] = sum over rows of a[row][i] dz[row], in row order, on top of what g holds if `more`
    is not 0. A panel has at most as many inputs as lanes. If `asking`, each row asks for the memory
    `pace` bytes further on from the address `ahead`, every other row `apart` bytes beyond that: to
    ask twice a row took 2 to 4 % of small networks.
    """

    @intrinsic
    def tile(typingctx, g, g_stride, a, dz, dz_stride, rows, more, ahead, pace, apart):
        real = g.dtype
        lanes = width or VECTOR_BITS // real.bitwidth
        own = min(inputs or lanes, lanes)

        def codegen(context, builder, sig, args):
            g, g_stride, a, dz, dz_stride, rows, more, ahead, pace, apart = args
            goals = [
                _offset(builder, _offset(builder, g, g_stride, v), _INT(i * lanes))
                for i in range(own)
                for v in range(panels)
            ]
            sums = _accumulators(builder, real, own * panels, lanes)
            zero = ir.Constant(llvm_vector(real, lanes), None)
            fresh = builder.icmp_signed("==", more, _INT(0))
            for total, goal in zip(sums, goals, strict=True):
                held = load_vector(builder, real, goal, lanes)
                builder.store(builder.select(fresh, zero, held), total)
            with cgutils.for_range(builder, rows) as row:
                line = _offset(builder, a, row.index, lanes)
                place = _offset(builder, dz, row.index, lanes)
                if asking:
                    odd = builder.and_(row.index, _INT(1))
                    wanted = builder.add(ahead, builder.mul(row.index, pace))
                    wanted = builder.add(wanted, builder.mul(odd, apart))
                    ask_for(builder, builder.inttoptr(wanted, g.type))
                deltas = [
                    load_vector(builder, real, _offset(builder, place, dz_stride, v), lanes)
                    for v in range(panels)
                ]
                for i in range(own):
                    number = splat(builder, real, builder.load(builder.gep(line, [_INT(i)])), lanes)
                    for v in range(panels):
                        _fma(builder, sums[i * panels + v], number, deltas[v])
            for total, goal in zip(sums, goals, strict=True):
                store_vector(builder, real, builder.load(total), goal)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(g, integer, a, dz, *(integer,) * 6), codegen

    return tile


def _transposed(builder: Any, out: Any, lines: list[Any], real: Any) -> None:
    """Store a square of vectors transposed, in log2(lanes) rounds of shuffles."""
    distance = 1
    while distance < len(lines):
        lines = _exchanged(builder, lines, distance)
        distance *= 2
    for i, line in enumerate(lines):
        store_vector(builder, real, line, _offset(builder, out, _INT(i * len(lines))))


@intrinsic
def transpose_tile(typingctx, out, x):
    """Transpose one square tile."""
    real = x.dtype
    lanes = VECTOR_BITS // real.bitwidth

    def codegen(context, builder, sig, args):
        out, x = args
        lines = [
            load_vector(builder, real, _offset(builder, x, _INT(i * lanes))) for i in range(lanes)
        ]
        _transposed(builder, out, lines, real)
        return context.get_dummy_value()

    return types.void(out, x), codegen


@intrinsic
def turn_rows(typingctx, out, x, last):
    """Transpose as many rows of a panel as it has lanes; those beyond `last` repeat that row."""
    real = x.dtype
    lanes = VECTOR_BITS // real.bitwidth

    def codegen(context, builder, sig, args):
        out, x, last = args
        lines = []
        for i in range(lanes):
            within = builder.icmp_signed("<", _INT(i), last)
            row = builder.mul(builder.select(within, _INT(i), last), _INT(lanes))
            lines.append(load_vector(builder, real, builder.gep(x, [row])))
        _transposed(builder, out, lines, real)
        return context.get_dummy_value()

    return types.void(out, x, types.int64), codegen


def _exchanged(builder: Any, lines: list[Any], distance: int) -> list[Any]:
    """Swap bit `distance` of the row number with the same bit of the lane number."""
    lanes = len(lines)
    result = list(lines)
    for i in range(lanes):
        if i & distance:
            continue
        low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
        high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
        for target, picks in ((i, low), (i + distance, high)):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), picks)
            result[target] = builder.shuffle_vector(lines[i], lines[i + distance], mask)
    return result


def column_tile(term: Any) -> Any:
    """An intrinsic that sums a term of each row for a few panels, lane by lane, in row order.

    columns(out, x, y, stride, rows, last): term(builder, real, total, x row, y row) gives the new
    total. The panels, `stride` apart in x and y, go side by side: alone, each addition would wait
    for the one before it. Those beyond `last` repeat that one and write the same values again.
    """

    @intrinsic
    def columns(typingctx, out, x, y, stride, rows, last):
        real = out.dtype
        lanes = VECTOR_BITS // real.bitwidth

        def codegen(context, builder, sig, args):
            out, x, y, stride, rows, last = args
            sums = _accumulators(builder, real, TILE_PANELS)
            panels = []
            for v, total in enumerate(sums):
                builder.store(ir.Constant(llvm_vector(real), None), total)
                within = builder.icmp_signed("<", _INT(v), last)
                panels.append(builder.select(within, _INT(v), last))
            runs = [[_offset(builder, p, stride, panel) for p in (x, y)] for panel in panels]
            with cgutils.for_range(builder, rows) as row:
                for total, pair in zip(sums, runs, strict=True):
                    lines = [
                        load_vector(builder, real, _offset(builder, run, row.index, lanes))
                        for run in pair
                    ]
                    builder.store(term(builder, real, builder.load(total), *lines), total)
            for total, panel in zip(sums, panels, strict=True):
                target = _offset(builder, out, panel, lanes)
                store_vector(builder, real, builder.load(total), target)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(out, x, x, integer, integer, integer), codegen

    return columns


def _sum(builder: Any, real: Any, total: Any, x: Any, y: Any) -> Any:
    return builder.fadd(total, x)


def _dot(builder: Any, real: Any, total: Any, x: Any, y: Any) -> Any:
    return call_llvm(builder, "fma", llvm_vector(real), [x, y, total])


def _absolute(builder: Any, real: Any, total: Any, x: Any, y: Any) -> Any:
    return builder.fadd(total, call_llvm(builder, "fabs", llvm_vector(real), [x]))


column_sum = column_tile(_sum)
"""Sum of x; y is not used."""
column_dot = column_tile(_dot)
"""Sum of x y."""
column_absolute = column_tile(_absolute)
"""Sum of |x|; y is not used."""


def revisiting_tile(panels: int) -> Any:
    """An intrinsic for one row's update of weights by plain descent and the next row's product.

    tile(z, z_stride, w, w_stride, b, dz, dz_stride, x, following, rate, k): w -= rate x' dz, then
    z = following w + b. One pass over the weights instead of three.
    """

    @intrinsic
    def tile(typingctx, z, z_stride, w, w_stride, b, dz, dz_stride, x, following, rate, k):
        real = z.dtype
        lanes = VECTOR_BITS // real.bitwidth

        def codegen(context, builder, sig, args):
            z, z_stride, w, w_stride, b, dz, dz_stride, x, following, rate, k = args
            zero = ir.Constant(llvm_vector(real), None)
            step = splat(builder, real, builder.fneg(rate))
            deltas = [
                load_vector(builder, real, _offset(builder, dz, dz_stride, v))
                for v in range(panels)
            ]
            sums = _accumulators(builder, real, panels)
            for v in range(panels):
                bias = load_vector(builder, real, _offset(builder, b, _INT(v * lanes)))
                builder.store(bias, sums[v])
            with cgutils.for_range(builder, k) as i:
                old, new = (
                    splat(builder, real, builder.load(builder.gep(row, [i.index])))
                    for row in (x, following)
                )
                line = _offset(builder, w, i.index, lanes)
                for v in range(panels):
                    place = _offset(builder, line, w_stride, v)
                    gradient = call_llvm(builder, "fma", old.type, [old, deltas[v], zero])
                    weights = load_vector(builder, real, place)
                    weights = call_llvm(builder, "fma", old.type, [step, gradient, weights])
                    store_vector(builder, real, weights, place)
                    _fma(builder, sums[v], new, weights)
            for v in range(panels):
                target = _offset(builder, z, z_stride, v)
                store_vector(builder, real, builder.load(sums[v]), target)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(z, integer, w, integer, w, w, integer, w, w, real, integer), codegen

    return tile


ROWS = {panels: LONE_ROWS if panels == 1 else TILE_ROWS for panels in range(1, TILE_PANELS + 1)}
TILES = {panels: product_tile(rows, panels) for panels, rows in ROWS.items()}
HALF_TILES = {panels: product_tile(rows // 2, panels) for panels, rows in ROWS.items()}
"""For the last rows (784-100-10, 100 rows: 2 to 3 % faster)."""
ROW_TILES = {panels: product_tile(1, panels) for panels in (1, 2, 4)}
"""For a single row: each panel is one chain of additions, and several run side by side."""

WEIGHT_TILES = {
    panels: weight_tile_of(TILE_ROWS if panels > 1 else 0, panels)
    for panels in range(1, TILE_PANELS + 1)
}
"""By panels of dZ; with one of them as many inputs as there are lanes, to fill the registers."""

REVISITING_TILES = {panels: revisiting_tile(panels) for panels in (1, 2, 4)}

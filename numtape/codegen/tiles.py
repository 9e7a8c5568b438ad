"""Numba intrinsics for small matrix products, by tiles of the result that stay in registers while they add up.

A tile is some rows by two vectors of columns. Where the columns do not come out even, the last vectors overlap those
before. Where the second matrix is transposed, or has fewer columns than a vector, a tile's columns are copied into a
panel first; where it has fewer columns, the results go to an edge as wide as a tile, and from there to their place.
Written with LLVM's builder, as Numba would take longer to type these loops than LLVM to compile them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numtape.codegen.matmul import VECTOR

ROWS = 4
"""Rows of a tile. With two vectors in each, sums and factors fit into the 16 registers of AVX2."""

i32, i64 = ir.IntType(32), ir.IntType(64)
FUSE = ["contract"]


def _product(element: Any, native: ir.Type, size: int) -> Any:
    """The product of two matrices stored by rows, each transposed first where its flag is not 0."""
    lanes = VECTOR // size
    vector, everywhere = ir.VectorType(native, lanes), ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
    zero, one, width, halves = i64(0), i64(1), i64(2 * lanes), (i64(0), i64(lanes))

    @intrinsic  # type: ignore[untyped-decorator]
    def call(
        typing_context: Any, c: Any, start_c: Any, a: Any, start_a: Any, b: Any, start_b: Any, panel: Any, edge: Any,
        rows: Any, columns: Any, inner: Any, transpose_a: Any, transpose_b: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            c, start_c, a, start_a, b, start_b, panel, edge, rows, columns, inner, transpose_a, transpose_b = args
            # Otherwise LLVM writes out each combination of the flags, and takes ten times as long.
            builder.function.attributes.add("optsize")

            def at(matrix: Any, row: Any, down: Any, column: Any = zero, along: Any = one) -> Any:
                return builder.gep(matrix, [builder.add(builder.mul(row, down), builder.mul(column, along))])

            def least(x: Any, y: Any) -> Any:
                return builder.select(builder.icmp_signed("<", x, y), x, y)

            def vector_at(*place: Any) -> Any:
                return builder.bitcast(at(*place), vector.as_pointer())

            def tile(i: Any, height: int, from_b: list[Any], to_c: list[Any]) -> None:
                """Rows from `i` on of the result's two vectors."""
                each = [builder.add(i, i64(r)) for r in range(height)]
                starts = [at(a, r, down_a) for r in each]
                zeros = [ir.Constant(vector, [0.0] * lanes)] * (2 * height)
                with _turns(builder, inner, zeros) as (k, totals, following):
                    factors = [builder.load(vector_at(p, k, next_b), align=size) for p in from_b]
                    for start in starts:
                        x = builder.load(at(start, k, along_a))
                        x = builder.insert_element(ir.Constant(vector, ir.Undefined), x, i32(0))
                        x = builder.shuffle_vector(x, x, everywhere)
                        for factor in factors:
                            product = builder.fmul(x, factor, flags=FUSE)
                            following.append(builder.fadd(totals[len(following)], product, flags=FUSE))
                places = [vector_at(p, r, next_c) for r in each for p in to_c]
                for sum, place in zip(following, places, strict=True):
                    builder.store(sum, place, align=size)

            a, b, c = at(a, start_a, one), at(b, start_b, one), at(c, start_c, one)
            narrow = builder.icmp_signed("<", columns, i64(lanes))
            turned_a, turned_b = (builder.icmp_signed("!=", flag, i64(0)) for flag in (transpose_a, transpose_b))
            packed = builder.or_(narrow, turned_b)
            down_a, along_a = builder.select(turned_a, one, inner), builder.select(turned_a, rows, one)
            down_b, along_b = builder.select(turned_b, one, columns), builder.select(turned_b, inner, one)
            next_b, next_c = builder.select(packed, width, columns), builder.select(narrow, width, columns)
            last = builder.select(narrow, zero, builder.sub(columns, i64(lanes)))
            rest = builder.and_(rows, i64(-ROWS))
            with cgutils.for_range_slice(builder, zero, columns, width) as (j, _):
                starts = [least(builder.add(j, half), last) for half in halves]
                with builder.if_then(packed), cgutils.for_range(builder, inner) as k:
                    for start, half in zip(starts, halves, strict=True):
                        with cgutils.for_range(builder, i64(lanes)) as lane:
                            column = least(builder.add(start, lane.index), builder.sub(columns, one))
                            x = builder.load(at(b, k.index, down_b, column, along_b))
                            builder.store(x, at(panel, k.index, width, builder.add(half, lane.index)))
                from_b, to_c = (
                    [
                        builder.select(inside, builder.gep(room, [half]), builder.gep(matrix, [start]))
                        for start, half in zip(starts, halves, strict=True)
                    ]
                    for inside, room, matrix in ((packed, panel, b), (narrow, edge, c))
                )
                for first, end, height in ((zero, rest, ROWS), (rest, rows, 1)):
                    with cgutils.for_range_slice(builder, first, end, i64(height)) as (i, _):
                        tile(i, height, from_b, to_c)
            rows = builder.select(narrow, rows, zero)
            with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
                builder.store(builder.load(at(edge, i.index, width, j.index)), at(c, i.index, columns, j.index))
            return context.get_dummy_value()

        pointer, n = types.CPointer(element), types.int64
        return types.void(*[pointer, n] * 3, pointer, pointer, *[n] * 5), codegen

    return call


@contextmanager
def _turns(builder: Any, count: Any, first: list[Any]) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """A loop of one turn or more: its counter, the values that it carries, and the list for what they become."""
    before, body, after = builder.block, *map(builder.append_basic_block, ("turn", "turned"))
    builder.branch(body)
    builder.position_at_end(body)
    k, carried = builder.phi(i64), [builder.phi(x.type) for x in first]
    following: list[Any] = []
    yield k, carried, following
    plus = builder.add(k, i64(1))
    for phi, start, next in zip((k, *carried), (i64(0), *first), (plus, *following), strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(next, builder.block)
    builder.cbranch(builder.icmp_signed("<", plus, count), body, after)
    builder.position_at_end(after)


PRODUCTS = {
    "product_f32": _product(types.float32, ir.FloatType(), 4),
    "product_f64": _product(types.float64, ir.DoubleType(), 8),
}
"""By element type."""

globals().update(PRODUCTS)
__all__ = [*PRODUCTS]  # noqa: PLE0604

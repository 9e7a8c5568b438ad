"""Numba intrinsics for what generated code calls by address: kernels and BLAS."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def words(typing_context: Any, address: Any) -> Any:
    """An address as a pointer to int64: index it, and never do arithmetic on the address (LLVM 22 miscompiled that)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_entry(typing_context: Any, entry: Any, block: Any) -> Any:
    """Call a kernel's entry with the address of its argument block."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _gemm(element: Any, native: ir.Type, bits: int) -> Any:
    """Matrix product of matrices stored by rows, by a `gemm` with the Fortran interface and integers of `bits`.

    Fortran stores by columns and so sees every matrix transposed; hence it is asked for the transposed product.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def call(
        typing_context: Any, gemm: Any, transpose_a: Any, transpose_b: Any, rows: Any, columns: Any, inner: Any,
        a: Any, start_a: Any, b: Any, start_b: Any, c: Any, start_c: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            gemm, transpose_a, transpose_b, rows, columns, inner, a, start_a, b, start_b, c, start_c = args

            def reference(value: Any) -> Any:
                slot = cgutils.alloca_once(builder, value.type)
                builder.store(value, slot)
                return slot

            def extent(value: Any) -> Any:
                return reference(value if bits == 64 else builder.trunc(value, ir.IntType(bits)))

            def choice(flag: Any, yes: Any, no: Any) -> Any:
                return builder.select(builder.icmp_signed("!=", flag, flag.type(0)), yes, no)

            def letter(flag: Any) -> Any:
                return reference(choice(flag, ir.IntType(8)(ord("T")), ir.IntType(8)(ord("N"))))

            def start(matrix: Any, index: Any) -> Any:
                return builder.gep(matrix, [index])

            arguments = [
                letter(transpose_b), letter(transpose_a), extent(columns), extent(rows), extent(inner),
                reference(native(1.0)),
                start(b, start_b), extent(choice(transpose_b, inner, columns)),
                start(a, start_a), extent(choice(transpose_a, rows, inner)),
                reference(native(0.0)),
                start(c, start_c), extent(columns),
            ]  # fmt: skip
            kind = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
            builder.call(builder.inttoptr(gemm, kind.as_pointer()), arguments)
            return context.get_dummy_value()

        pointer = types.CPointer(element)
        return types.void(*[types.int64] * 6, *[pointer, types.int64] * 3), codegen

    return call


GEMM = {
    f"gemm_{code}_{bits}": _gemm(element, native, bits)
    for code, element, native in (
        ("f32", types.float32, ir.FloatType()), ("f64", types.float64, ir.DoubleType()),
    )
    for bits in (32, 64)
}  # fmt: skip
"""By element type and width of the library's integers."""

globals().update(GEMM)
__all__ = ["call_entry", "words", *GEMM]  # noqa: PLE0604

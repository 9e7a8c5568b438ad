"""How a matrix product is computed: by a BLAS where it is large, by tiles in registers where it is small.

A call of a BLAS costs up to a microsecond before the first multiplication, and copies both matrices into blocks of
its own first. Up to `OWN` multiplications the kernel here is faster: it holds a tile of the result in registers while
it goes along the inner axis. Vectors, integers and tiny matrices are left to the plain loops of
`numtape.ops.contraction`.
"""

from __future__ import annotations

import math

from numtape.codegen import blas
from numtape.ir.kernel import Argument, Kernel, Native, Pointer, Scratch, Step
from numtape.ir.program import Program
from numtape.ops.contraction import product
from numtape.passes.layout import root

TINY = 256
"""Multiplications up to which plain loops are faster: matrices of about 6 by 6."""

OWN = 1 << 18
"""Multiplications up to which tiles are faster than BLAS, 64 by 64 by 64; beyond, blocks and threads pay."""

VECTOR = 32
"""Bytes of a vector in a tile; narrower machines take it in parts."""

_SOURCE = """\
def kernel(out, a, b, panel, edge, gemm, batch, rows, columns, inner, step_a, step_b, transpose_a, transpose_b):
    for t in range(batch):
        if rows * columns * inner <= {own}:
            product_{T}(out, t * rows * columns, a, t * step_a, b, t * step_b, panel, edge,
                        rows, columns, inner, transpose_a, transpose_b)
        else:
            gemm_{T}_{bits}(gemm, transpose_a, transpose_b, rows, columns, inner,
                            a, t * step_a, b, t * step_b, out, t * rows * columns)
"""


def step(program: Program, index: int) -> Step | None:
    """The call for a product of floats that is neither tiny nor of a vector, or None."""
    i = program.instructions[index]
    code = i.type.dtype.code
    if i.op.name != "matmul" or not i.type.dtype.is_floating:
        return None
    p = product(i.type, [program.type(k) for k in i.operands], *i.attributes)
    extents = (p.rows, p.columns, p.inner)
    if min(extents) == 1 or math.prod(extents) <= TINY:
        return None
    found = blas.library()
    bits, limit = (found.bits, OWN) if found and max(extents) < 1 << found.bits - 1 else (64, 1 << 62)
    text = _SOURCE.format(T=code, bits=bits, own=limit)
    narrow, is_small = p.columns * i.type.dtype.itemsize < VECTOR, math.prod(extents) <= limit
    panel = 2 * VECTOR * p.inner * (is_small and (narrow or i.attributes[1]))
    edge = 2 * VECTOR * p.rows * (is_small and narrow)
    arguments: tuple[Argument, ...] = (
        Pointer(index), *(Pointer(root(program, k)) for k in i.operands),
        Scratch(panel), Scratch(edge), Native(code) if limit == OWN else 0,
        p.batch, *extents, p.step_a, p.step_b, *map(int, i.attributes),
    )  # fmt: skip
    return Step(Kernel(f"gemm_{code}", text, (f"{code}*",) * 5 + ("i64",) * 9), arguments, (index,))

"""Einstein summation: any product of several tensors, summed over any axes.

The equation becomes a label for each axis. An operand first loses what it can lose alone: axes with a label twice
become their diagonal, axes that nobody else has are summed. Then the operands are contracted in pairs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import prod
from typing import Any, NoReturn

import numpy as np

from numtape.dtypes import TensorType, tensor_type
from numtape.ir.op import Example, Kind, Op, register
from numtape.ops.contraction import Labeled, contract
from numtape.ops.core import apply, check_group, check_kind, describe, operand_list, public
from numtape.ops.diagonal import diagonal_of
from numtape.ops.movement import reshape_to

Label = str | int
"""A letter, or for an axis under an ellipsis its place from the right: -1, -2, ..."""

_TERM = re.compile(r"([A-Za-z]*)(\.\.\.)?([A-Za-z]*)")


def _expand(values: Sequence[Any], attributes: tuple[Any, ...]) -> Any:
    (equation,) = attributes
    types = [x.type for x in values]
    check_kind("einsum", tensor_type(check_group("einsum", types), ()), "number")
    terms, output = read_equation(equation, types)
    extents = _extents(equation, types, terms)
    operands = [_operand(x, term, extents) for x, term in zip(values, terms, strict=True)]
    for k, x in enumerate(operands):
        elsewhere = {*output, *(label for other in operands[:k] + operands[k + 1 :] for label in other.labels)}
        operands[k] = x.summed([label for label in x.labels if label not in elsewhere])
    while len(operands) > 1:
        a, b = _next_pair(operands, output, extents)
        operands = [x for x in operands if x is not a and x is not b]
        kept = {*output, *(label for x in operands for label in x.labels)}
        if output and output[-1] in a.labels and output[-1] not in b.labels:
            a, b = b, a  # What is last in the product is last in the output.
        operands.append(contract(a, b, kept))
    found = operands[0].ordered(output)
    return reshape_to(found, found.shape) if any(found is x for x in values) else found


def read_equation(equation: str, types: Sequence[TensorType]) -> tuple[list[list[Label]], list[Label]]:
    """The label of each axis of each operand, and of the result."""

    def refuse(why: str) -> NoReturn:
        raise ValueError(f"einsum {equation!r} of {describe(types)}: {why}")

    def split(term: str) -> tuple[str, bool, str]:
        match = _TERM.fullmatch(term)
        if match is None:
            refuse(f"{term!r} is no list of axes; write letters, and at most one '...', as in '...ij'")
        return match[1], match[2] is not None, match[3]

    left, arrow, right = "".join(equation.split()).partition("->")
    parts = [split(term) for term in left.split(",")]
    if len(parts) != len(types):
        refuse(f"the equation has {len(parts)} operands, but {len(types)} are given")
    terms: list[list[Label]] = []
    for number, ((before, dots, after), type) in enumerate(zip(parts, types, strict=True)):
        hidden = type.rank - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            term = f"{before}{'...' if dots else ''}{after}"
            refuse(f"operand {number} has {type.rank} axes, which {term!r} does not fit")
        terms.append([*before, *range(-hidden, 0), *after])
    count = Counter(label for term in terms for label in term)
    ellipsis = sorted(label for label in count if isinstance(label, int))
    if not arrow:
        once = sorted(label for label, n in count.items() if isinstance(label, str) and n == 1)
        return terms, [*ellipsis, *once]
    before, dots, after = split(right)
    if ellipsis and not dots:
        refuse("the axes under '...' have to stand in the output")
    output: list[Label] = [*before, *(ellipsis if dots else []), *after]
    for label, n in Counter(output).items():
        if label not in count:
            refuse(f"{label!r} of the output is in no operand")
        if n > 1:
            refuse(f"{label!r} stands twice in the output; nt.linalg.diag makes diagonal matrices")
    return terms, output


def _extents(equation: str, types: Sequence[TensorType], terms: Sequence[Sequence[Label]]) -> dict[Label, int]:
    """The length of each label's axes; under an ellipsis those of length 1 broadcast."""
    found: dict[Label, int] = {}
    for type, term in zip(types, terms, strict=True):
        for label, n in zip(term, type.shape, strict=True):
            known = found.setdefault(label, n)
            if known != n:
                if isinstance(label, str) or 1 not in (known, n):
                    where = f"axis {label!r}" if isinstance(label, str) else "an axis under '...'"
                    raise ValueError(f"einsum {equation!r} of {describe(types)}: {where} is both {known} and {n} long")
                found[label] = n if known == 1 else known
    return found


def _operand(value: Any, term: Sequence[Label], extents: dict[Label, int]) -> Labeled:
    """The value with each label once, and without axes that broadcast."""
    kept = [k for k, label in enumerate(term) if value.shape[k] == extents[label]]
    if len(kept) < len(term):
        value = reshape_to(value, tuple(value.shape[k] for k in kept))
    labels = [term[k] for k in kept]
    for label, n in Counter(labels).items():
        for _ in range(n - 1):
            first = labels.index(label)
            second = labels.index(label, first + 1)
            rest = [k for k in range(len(labels)) if k not in (first, second)]
            by_place = Labeled(value, tuple(range(len(labels))))
            value = diagonal_of(by_place.ordered([*rest, first, second]))
            labels = [*(labels[k] for k in rest), label]
    return Labeled(value, tuple(labels))


def _next_pair(
    operands: Sequence[Labeled], output: Sequence[Label], extents: dict[Label, int]
) -> tuple[Labeled, Labeled]:
    """The two whose product is the smallest, compared with themselves."""

    def growth(pair: tuple[Labeled, Labeled]) -> int:
        a, b = pair
        others = {*output, *(label for x in operands if x is not a and x is not b for label in x.labels)}
        size = prod(extents[label] for label in {*a.labels, *b.labels} & others)
        return size - a.extent(a.labels) - b.extent(b.labels)

    return min(combinations(operands, 2), key=growth)


_EXAMPLES: tuple[Any, ...] = (
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,kj->ki", (2, 3), (4, 3)),
    ("ji,jk->ki", (3, 2), (3, 4)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 4)), ("bij,kj->bik", (2, 2, 3), (4, 3)), ("jbi,bjk->bik", (3, 2, 2), (2, 3, 4)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 2, 4)), ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 2, 2, 4)),
    ("i,j->ij", (2,), (3,)), ("i,j->ji", (2,), (3,)), ("i,i", (3,), (3,)), ("i,i->i", (3,), (3,)),
    ("ij,ji->", (2, 3), (3, 2)), ("ij,j", (2, 3), (3,)), ("ij,j->", (2, 3), (3,)), ("bi,bi->b", (2, 3), (2, 3)),
    ("bij,bj->bi", (2, 3, 4), (2, 4)), ("bi,bij,bj->b", (2, 3), (2, 3, 4), (2, 4)),
    ("ij->ji", (2, 3)), ("ji", (2, 3)), ("ij->", (2, 3)), ("ijk->j", (2, 3, 4)), ("ij->ij", (2, 3)), ("", ()),
    ("ii", (3, 3)), ("ii->i", (3, 3)), ("iji->j", (3, 2, 3)), ("iii->i", (3, 3, 3)), ("ijij->ij", (2, 3, 2, 3)),
    ("ii,ij->j", (3, 3), (3, 2)), ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 2), (2, 3)),
    ("ab,bc,ca->", (2, 3), (3, 4), (4, 2)), ("a,b,c->cab", (2,), (3,), (4,)), (",ij->ij", (), (2, 3)),
    ("...ij,...jk->...ik", (2, 2, 3), (1, 3, 4)), ("...ij,jk", (4, 2, 3), (3, 2)), ("...,...", (2, 3), (3,)),
    ("...i,...i->...", (3, 1, 4), (2, 4)), ("i...->...", (2, 3, 4)), ("i...j->j...i", (2, 3, 4, 5)),
    ("...ii->...i", (2, 3, 3)), (" i j , j k -> i k ", (2, 3), (3, 4)), ("Ab,bA->A", (2, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 3)), ("ij,jk->ik", (0, 2), (2, 3)), ("ii->i", (0, 0)),
)  # fmt: skip

EINSUM = register(
    Op(
        "nt.einsum",
        Kind.COMPOSITE,
        ("inputs",),
        ("equation",),
        expand=_expand,
        groups=("T",),
        reference=lambda inputs, equation: np.einsum(equation, *(inputs if isinstance(inputs, list) else [inputs])),
        examples=tuple(Example(tuple(shapes), {"equation": equation}) for equation, *shapes in _EXAMPLES),
        doc="See nt.einsum.",
    )
)


@public(EINSUM, "einsum", "linalg.einsum")
def einsum(equation: str, *inputs: Any, name: str | None = None) -> Any:
    """Products of tensors summed over axes, as an equation says: "ij,jk->ik" is a matrix product.

    Each operand has a letter for each axis; equal letters are the same axis, and a letter twice in one operand is its
    diagonal. After "->" stand the axes of the result, the others are summed. Without "->" the result has the letters
    that stand once, in alphabetical order. "..." stands for further axes, which broadcast. Numbers of one dtype.
    Raises ValueError where the equation does not fit the operands.

    >>> x = nt.constant([[1., 2.], [3., 4.]])
    >>> nt.einsum("ij,jk->ik", x, x).numpy()
    array([[ 7., 10.],
           [15., 22.]], dtype=float32)
    >>> nt.einsum("ii", x).numpy(), nt.einsum("ij->j", x).numpy()
    (np.float32(5.0), array([4., 6.], dtype=float32))
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: the equation comes first, as text such as 'ij,jk->ik'; got {type(equation).__name__}")
    return apply(EINSUM, operand_list(inputs), (equation,))

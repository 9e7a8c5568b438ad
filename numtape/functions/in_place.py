"""A program that writes what it assigns over the old values, for callers that stay with where a Variable is.

What comes in is a lowered program and what it assigns without taking over the old value's memory: it does not read the
old value, or does so afterwards, or computes the new one by a routine. What goes out ends by copying each of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numtape.ir.program import INPUT, Builder
from numtape.ops.scatter import overwrite
from numtape.passes.layout import root
from numtape.tape.lower import Lowered


def in_place(lowered: Lowered, changes: Sequence[tuple[int, int]]) -> Lowered:
    """The same, with one more output for each of the changes: an output's position, and the number of the old value.

    Numbers from `len(lowered.arrays)` on are arrays that the program does not take yet.
    """
    program, count = lowered.program, len(lowered.arrays)
    added = len({number for _, number in changes if number >= count})
    builder = Builder()
    for i in program.instructions:
        is_later = i.op is INPUT and i.attributes[0] >= count
        builder.append(replace(i, attributes=(i.attributes[0] + added,)) if is_later else i)
    builder.origins = [*program.origins]
    olds = {i.attributes[0]: builder.value(k) for k, i in enumerate(builder.instructions) if i.op is INPUT}
    outputs = [*program.outputs]
    written = {number for _, number in (*program.donations, *changes)}
    for position, value in enumerate(outputs):
        i = program.instructions[root(program, value)]
        if i.op is INPUT and i.attributes[0] in written:  # the result is what the old value was
            outputs[position] = overwrite(builder.constant(0, i.type.dtype, i.type.shape), builder.value(value)).index
    news = [builder.value(outputs[position]) for position, _ in changes]
    for new, (_, number) in zip(news, changes, strict=True):
        if number not in olds:
            olds[number] = builder.input(new.type, number)
    outputs += [overwrite(olds[number], new).index for new, (_, number) in zip(news, changes, strict=True)]
    changed = {position for position, _ in changes}
    donations = [(position, number) for position, number in program.donations if position not in changed]
    donations += [(len(program.outputs) + k, number) for k, (_, number) in enumerate(changes)]
    return replace(
        lowered,
        program=replace(
            program, instructions=tuple(builder.instructions), origins=tuple(builder.origins),
            outputs=tuple(outputs), donations=tuple(donations),
        ),
        takes_all=False, executable=None,
    )  # fmt: skip

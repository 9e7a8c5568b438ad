"""Why two groups of a schedule are not one: for people who ask, after the fact.

Fusion is greedy and keeps no minutes. What stood in the way of a pair is found by asking the same questions about the
two groups as they have become.
"""

from __future__ import annotations

from numtape.passes.fuse import MAX_MEMBERS, MAX_NUMBERS, MAX_POINTERS, Group, Schedule
from numtape.passes.layout import lay_out, root


def why_apart(schedule: Schedule, first: int, second: int) -> str:
    """Why a group, and a later one that reads what it computes, did not become one."""
    program, groups = schedule.program, schedule.groups
    a, b = groups[first], groups[second]
    for group in (a, b):
        if group.layout is None:
            return f"{program.instructions[group.members[0]].op.name} is a routine of its own"
    assert a.layout is not None
    assert b.layout is not None
    numbers = a.layout.size == b.layout.size == 1
    count, most = len(a.members) + len(b.members), MAX_NUMBERS if numbers else MAX_MEMBERS
    if count > most:
        return f"together they have {count} instructions, and a kernel has at most {most}"
    between = _between(schedule, first, second)
    if between:
        return f"{between}, in a kernel between them, needs the one and is needed by the other"
    if lay_out(program, sorted(a.members + b.members), a.layout, b.layout) is None:
        shapes = [" ".join(str(group.layout).split()) for group in (a, b)]
        if shapes[0] != shapes[1]:
            return f"no loop nest holds both: {shapes[0]} and {shapes[1]}"
        return f"the one needs what the other has only when its loops are through: {shapes[0]}"
    if numbers:
        return "a loop that was written out begins again between them"
    return f"they would take more than {MAX_POINTERS} arrays, or were not tried together"


def _between(schedule: Schedule, first: int, second: int) -> str:
    """An op, if there is one, through which a way leads from one group to another by way of a third."""
    program = schedule.program

    def operands(group: Group) -> list[int]:
        return [root(program, k) for m in group.members for k in program.instructions[m].operands]

    start, after = set(schedule.groups[first].members), set[int]()
    for group in schedule.groups[first + 1 : second]:
        if not (start | after).isdisjoint(operands(group)):
            after.update(group.members)
    found = after.intersection(operands(schedule.groups[second]))
    return program.instructions[min(found)].op.name if found else ""

"""What numtape makes of a step, seen from inside: the only module here that knows more than the public interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple
from unittest import mock

from numtape.backends.native import Executable
from numtape.codegen.plan import Plan, plan
from numtape.functions import direct
from numtape.tape import trace
from numtape.tape.lower import Lowered, lower

from .steps import STEPS, Step


class Lowering(NamedTuple):
    """A call of `lower`, and what it returned."""

    path: list[trace.Node]
    wanted: tuple[int, ...]
    known: frozenset[int]
    lowered: Lowered


def start_afresh() -> None:
    """What this thread records from now on starts at the beginning; what nobody can see any more never runs."""
    trace.STATE.step_boundary()


def forget() -> None:
    """Nothing has ever been recorded; compiled kernels stay."""
    trace.forget()
    start_afresh()


def lowerings(step: Step, times: int) -> list[Lowering]:
    """Every program that is made while a new step runs so often."""
    made = []

    def watched(path, wanted, known):
        path = list(path)
        made.append(Lowering(path, wanted, known, lower(path, wanted, known)))
        return made[-1].lowered

    forget()
    with mock.patch.object(trace, "lower", watched), mock.patch.object(direct, "lower", watched):
        for _ in range(times):
            result = step()
        float(result)
    return made


@cache
def lowering_of(name: str) -> Lowering:
    """The program that does a step's work: the largest that three steps of this name make."""
    return max(lowerings(STEPS[name](), 3), key=lambda made: len(made.lowered.program.instructions))


@cache
def plan_of(name: str) -> Plan:
    """The plan of that program."""
    return plan(lowering_of(name).lowered.program)


@cache
def native_call(name: str) -> Callable[[], Any]:
    """The native part of a step alone, with the memory that its third call had."""
    calls = []
    prepare = Executable.prepare

    def watched(executable, arrays, scalars):
        calls[:] = [partial(executable, list(arrays), list(scalars))]
        return prepare(executable, arrays, scalars)

    with mock.patch.object(Executable, "prepare", watched):
        lowerings(STEPS[name](), 3)
    return calls.pop()

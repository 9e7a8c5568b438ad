"""`explain`: gathers what is known of a function's recordings, or of the last program, into a `Report`."""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Sequence
from typing import Any

from numtape.cache.kernels import LOADINGS
from numtape.codegen.plan import all_steps
from numtape.dtypes import TensorType
from numtape.explaining.cost import kernel_costs
from numtape.explaining.places import Places
from numtape.explaining.report import CompiledKernel, ProgramReport, Report, SignatureReport
from numtape.functions.function import ConcreteFunction, Function, Method
from numtape.functions.recording import Provenance, Segment
from numtape.functions.signature import leaves
from numtape.functions.ways import Ways
from numtape.ir.program import INPUT, Program
from numtape.passes.unrolled import why_not_rolled
from numtape.tape import trace
from numtape.tape.explain import line_of
from numtape.tape.lower import Lowered
from numtape.tape.trace import RAN, Node

MAX_PROGRAMS = 4
"""So many programs are listed of a signature whose recordings ran as a part of something else."""


def explain(fn: Any = None, *args: Any, **kwargs: Any) -> Report:
    """What a function, or the step that ran last, was compiled to, and what that costs: prints as text.

    `fn` is an `nt.function`; with arguments it is called with them first. For each signature there is how often it was
    recorded and why, which ways Python took (where it looked at a value, what it saw), and each program: its text, its
    kernels with the lines of code that they come from, measured times, bytes, flops, why it was not fused with what
    comes before; what was compiled, and what was found on disk or in memory. Without `fn` all that for the program that
    ran last, in whatever thread, such as a step of a plain loop. Bound functions do not count as run.

    The report says how its numbers are made; to measure takes some milliseconds a kernel, and changes nothing that
    anybody holds. TypeError for what is no `nt.function`, ValueError if there is nothing to explain yet.

    >>> import numtape as nt
    >>> @nt.function
    ... def f(x):
    ...     return nt.reduce_sum(x * x)
    >>> report = nt.explain(f, nt.constant([1.0, 2.0, 3.0]))
    >>> kernel = report.signatures[0].programs[0].kernels[0]
    >>> kernel.loop, kernel.bytes_read, kernel.flops
    ('flat 3', 12, 6)
    >>> for text, place in kernel.instructions:
    ...     print(text, "line", place.line)
    %1 = multiply(%0, %0) : f32[3] line 3
    %2 = sum(%1) {axes=(0,)} : f32[1] line 3
    """
    if fn is None:
        if RAN[0] is None:
            raise ValueError("nothing has run yet that could be explained")
        lowered, *provenance = RAN[0]
        report = _program(lowered, Places(*provenance))
        return Report("The program that ran last", (SignatureReport("", "", 0, "", (), (report,)),))
    if isinstance(fn, ConcreteFunction | Method):
        fn = fn._owner if isinstance(fn, ConcreteFunction) else fn.__func__
    if not isinstance(fn, Function):
        raise TypeError(f"an nt.function is explained, or without arguments what ran last; not {type(fn).__name__}")
    if args or kwargs:
        fn(*args, **kwargs)
    if not fn._recordings:
        raise ValueError(f"{fn.__name__} was not called yet; give arguments to call it with: nt.explain(fn, x)")
    found: list[SignatureReport] = []
    last: Any = None
    for key, recording in list(fn._recordings.items()):
        found.append(_signature(recording, key, last))
        last = key
    code = getattr(fn.python_function, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return Report(f"nt.function {fn.__name__}{place}: recorded {_times(fn.experimental_get_tracing_count())}, "
                  f"{len(found)} {'signature' if len(found) == 1 else 'signatures'}", tuple(found))  # fmt: skip


def _signature(recording: Ways, key: Any, last: Any) -> SignatureReport:
    arguments = ", ".join(str(leaf) for _, leaf in leaves(key))
    cause = "the first signature" if last is None else f"differs from the last one in {difference(last, key)}"
    direct, root = recording.direct(), recording._root
    programs = [
        _program(segment.program, Places(*segment.provenance), "") for segment in _segments(root if direct else None)
        if segment.program is not None and segment.provenance is not None
    ]  # fmt: skip
    own = {program.text for program in programs}
    within = sorted((entry for entry in _running(root) if _text(entry) not in own), key=_made)
    for node, lowered in within[-MAX_PROGRAMS:]:
        programs.append(_program(lowered, Places(node, _sites(node)), "run as a part of the caller's step"))
    if recording._plain:
        state = "runs as plain Python"
    elif direct is not None:
        state = f"outside of tapes a call is one native call{' for each look, and one more' if direct.look else ''}"
    else:
        state = "a call replays what was recorded"
    state = f"recorded {_times(recording.count)}; {state}"
    ways = () if root is None else tuple(_ways(root))
    ways += tuple(f"the loop at {f}:{line} was recorded turn by turn: {why}" for (f, line), why in
                  sorted(recording.unrolled.items()))  # fmt: skip
    return SignatureReport(f"({arguments})", cause, recording.count, state, ways, tuple(programs),
                           max(0, len(within) - MAX_PROGRAMS))  # fmt: skip


def difference(last: Any, key: Any) -> str:
    """Where a signature differs from another, in words."""
    old, new = leaves(last), leaves(key)
    for (path, was), (other, now) in zip(old, new, strict=False):
        if path != other:
            return f"the arguments' structure: {path} -> {other}"
        if isinstance(was, TensorType) and isinstance(now, TensorType) and was is not now:
            if was.dtype is not now.dtype:
                return f"{path}: dtype {was.dtype.name} -> {now.dtype.name}"
            return f"{path}: shape {was.shape} -> {now.shape}"
        if was != now:
            return f"{path}: {was} -> {now}"
    if len(old) != len(new):
        return f"the number of arguments: {len(old)} -> {len(new)}"
    return "the identity of an object, or the kind of a container"


def _ways(segment: Segment, depth: int = 0) -> Iterator[str]:
    """The tree from a segment on."""
    look = segment.look
    if look is None:
        return
    filename, line = line_of(look.code, look.lasti)
    text = linecache.getline(filename, line).strip()
    yield f"{'  ' * depth}Python looks at a value at {filename}:{line}" + (f"  {text}" if text else "")
    for seen, following in list(segment.following.items()):
        what = f"{len(seen)} bytes" if isinstance(seen, bytes) and len(seen) > 8 else repr(seen)
        yield f"{'  ' * depth}  saw {what}: {_times(following.count)}"
        yield from _ways(following, depth + 2)


def _segments(root: Segment | None) -> Iterator[Segment]:
    waiting = [] if root is None else [root]
    while waiting:
        segment = waiting.pop()
        yield segment
        waiting += segment.following.values()


# ---- programs ----------------------------------------------------------------------------------------------------


def _running(root: Segment | None) -> list[tuple[Node, Lowered]]:
    """Programs that were run with a replay of the recording in them."""
    mine = {id(segment.provenance) for segment in _segments(root)}
    return [
        (node, lowered) for node, lowered in programs()
        if any(n.extra and isinstance(n.extra[-1], Provenance) and id(n.extra[-1]) in mine for n in node.path())
    ]  # fmt: skip


def programs() -> Iterator[tuple[Node, Lowered]]:
    """Every program that ran, with its node."""
    waiting = [trace._root]
    while waiting:
        node = waiting.pop()
        waiting += list(node.edges.values())
        for lowered in list(node.programs.values()):
            if lowered.executable is not None or lowered.interpreted:
                yield node, lowered


def _made(entry: tuple[Node, Lowered]) -> float:
    return entry[1].made


def _text(entry: tuple[Node, Lowered]) -> str:
    executable = entry[1].executable
    return str(executable.plan.program) if executable else ""


def _sites(node: Node) -> Sequence[Any]:
    """The sites of the run before, if it was this one."""
    return RAN[0][2] if RAN[0] is not None and RAN[0][1] is node else ()


def _program(lowered: Lowered, places: Places, cause: str | None = None) -> ProgramReport:
    tier = _tier(lowered)
    executable = lowered.executable or lowered.compile()
    kernels, whole = kernel_costs(executable, places)
    loadings: dict[str, CompiledKernel] = {}
    for step in all_steps(executable.plan.steps):
        key = step.kernel.key
        known = LOADINGS.get(key)
        if known is None or known.when < executable.made:
            loadings[key] = CompiledKernel(step.kernel.name, key, "memory", executable.made, 0.0)
        else:
            source = "compiled" if known.compiled else "disk"
            loadings[key] = CompiledKernel(step.kernel.name, key, source, known.when, known.seconds)
    plan = executable.plan
    return ProgramReport(
        str(plan.program), _cause(lowered) if cause is None else cause, executable.made, plan.arena, kernels,
        tuple(loadings.values()), whole,
        tuple(dict.fromkeys((str(x), places.of(x.origin)) for x in why_not_rolled(lowered.program))),
        tier,
    )  # fmt: skip


def _tier(lowered: Lowered) -> str:
    """What is to be said of how a program ran, unless it always was native code."""
    if not lowered.interpreted:
        return ""
    otherwise = "compiled for this report" if lowered.executable is None else "otherwise it is native code"
    return f"interpreted {_times(lowered.interpreted)} with NumPy; {otherwise}"


def _cause(lowered: Lowered) -> str:
    """Why a program was made although others were there."""
    made = _made((trace._root, lowered))
    earlier = [entry for entry in programs() if entry[1] is not lowered and _made(entry) <= made]
    ops = [i.op for i in lowered.program.instructions]
    alike = [entry for entry in earlier if [i.op for i in entry[1].program.instructions] == ops]
    if not earlier:
        return "the first program"
    if not alike:
        return "no program before it has the same operations"
    return f"differs from an earlier program in {_difference(max(alike, key=_made)[1].program, lowered.program)}"


def _difference(old: Program, new: Program) -> str:
    """Where a program differs from another that has the same ops."""
    for k, (was, now) in enumerate(zip(old.instructions, new.instructions, strict=True)):
        what = "an input" if now.op is INPUT else now.op.name
        if was.type is not now.type:
            return f"the type of %{k}, {what}: {was.type} -> {now.type}"
        if (was.operands, was.attributes) != (now.operands, now.attributes):
            return f"what %{k} is: {what} with other operands or attributes"
    return "which results are kept"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")

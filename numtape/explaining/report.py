"""What `nt.explain` gives: plain data about signatures, programs and kernels, and its text."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from numtape.explaining.cost import KernelCost
from numtape.explaining.places import Place

LINES_OF_TIME = (
    "Times: each kernel alone, many times in a row on made-up numbers, the median of 5, of long ones the shorter of 2;",
    "in one call: all of them so.",
    "Bytes: each array once and in whole. Flops: 1 for each element of an op or fold of floats, 2 for each product in",
    "a matmul. Lines of code: a kernel's time split by the elements that its instructions go over, an estimate.",
)


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """How a kernel came into this process.

    `source` is "compiled", "disk" or "memory" (it was there before the program); `when` is in seconds since 1970.
    """

    name: str
    key: str
    source: str
    when: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """One program: its text, why and when it was made, and its kernels."""

    text: str
    cause: str
    made: float
    arena: int
    """Bytes of memory for what is between kernels."""
    kernels: tuple[KernelCost, ...]
    loadings: tuple[CompiledKernel, ...]
    seconds: float
    """Of all kernels in one native call."""
    unrolled: tuple[tuple[str, Place], ...] = ()
    """What repeats and is no loop: how often, and why, with the line that stands in the way."""
    tier: str = ""
    """How often it was interpreted with NumPy, and whether it was compiled before; empty if it never was interpreted.
    Times are of the compiled program."""

    def lines(self) -> list[tuple[Place, float]]:
        """The user's lines with an estimate of their seconds, the most expensive first."""
        found: dict[Place, float] = {}
        for kernel, took in _parts(self.kernels):
            total = sum(kernel.weights) or 1
            for (_, place), weight in zip(kernel.instructions, kernel.weights, strict=True):
                line = replace(place, op="" if place.filename else place.op)
                found[line] = found.get(line, 0.0) + took * weight / total
        return sorted(found.items(), key=lambda item: -item[1])


def _parts(kernels: Iterable[KernelCost], scale: float = 1.0) -> Iterator[tuple[KernelCost, float]]:
    """The kernels that have instructions, with their seconds; a loop's own are shared out among those inside."""
    for kernel in kernels:
        yield kernel, kernel.seconds * scale
        inside = sum(k.seconds for k in kernel.inside if k.instructions or k.inside)
        yield from _parts(kernel.inside, kernel.seconds * scale / inside if inside else 0.0)


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """What was recorded for one kind of arguments.

    `ways` is the tree of what Python saw, as lines of text; `state` says how a call is run.
    """

    arguments: str
    cause: str
    count: int
    state: str
    ways: tuple[str, ...]
    programs: tuple[ProgramReport, ...]
    left_out: int = 0
    """Earlier programs that are not listed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `nt.explain` found out: prints as text; `to_html` makes a page."""

    title: str
    signatures: tuple[SignatureReport, ...]

    def __str__(self) -> str:
        return "\n".join(_text(self))

    __repr__ = __str__

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """The same as one page of HTML that needs nothing else, also written to `path` if there is one."""
        from numtape.explaining.page import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


# ---- words -------------------------------------------------------------------------------------------------------


def seconds(x: float) -> str:
    """A duration in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x * 1e9:.3g} ns"


def amount(x: int, unit: str, base: int = 1000) -> str:
    """A number with a prefix: `amount(2048, "B", 1024)` is "2 KiB"."""
    value, step = float(x), 0
    while value >= base and step < 4:
        value, step = value / base, step + 1
    prefix = ("", "K", "M", "G", "T")[step] + ("i" if base == 1024 and step else "")
    return f"{value:.3g} {prefix}{unit}"


def clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when))


def costs(kernel: KernelCost) -> str:
    """A kernel's numbers in one line."""
    flops = "flops not counted" if kernel.flops is None else amount(kernel.flops, "flops")
    read, written = amount(kernel.bytes_read, "B", 1024), amount(kernel.bytes_written, "B", 1024)
    return f"{seconds(kernel.seconds)} ({kernel.share:.0%}), reads {read}, writes {written}, {flops}"


def loading(x: CompiledKernel) -> str:
    """How one kernel came in."""
    if x.source == "memory":
        return f"{x.name} {x.key[:12]}: in memory already"
    what = "compiled" if x.source == "compiled" else "found on disk, loaded"
    return f"{x.name} {x.key[:12]}: {what} in {seconds(x.seconds)} at {clock(x.when)}"


def summary(program: ProgramReport) -> str:
    count = len(program.kernels)
    return (
        f"{count} {'kernel' if count == 1 else 'kernels'}, {seconds(program.seconds)} in one call, "
        f"{amount(program.arena, 'B', 1024)} between kernels; made at {clock(program.made)}"
    )


def _text(report: Report) -> Iterator[str]:
    yield report.title
    for n, signature in enumerate(report.signatures):
        if signature.arguments:
            yield f"\nSignature {n + 1}: {signature.arguments}"
            yield f"  {signature.state}\n  cause: {signature.cause}"
        yield from _indented(signature.ways)
        for program in signature.programs:
            yield ""
            yield from _indented(_program(program))
        if signature.left_out:
            yield f"  and {signature.left_out} earlier programs"
    yield ""
    yield from LINES_OF_TIME


def _program(program: ProgramReport) -> Iterator[str]:
    yield f"Program: {summary(program)}"
    if program.cause:
        yield f"cause: {program.cause}"
    if program.tier:
        yield f"tier: {program.tier}"
    yield from _indented(program.text.splitlines())
    for n, kernel in enumerate(program.kernels):
        yield from _kernel(str(n + 1), kernel)
    if program.unrolled:
        yield "No loop:"
        yield from _indented(unrolled(program))
    if program.loadings:
        yield "Machine code:"
        yield from _indented(map(loading, program.loadings))
    lines = program.lines()
    if lines:
        yield "Lines of code:"
        yield from (f"  {seconds(took):>8}  {place}  {place.code}".rstrip() for place, took in lines)


def unrolled(program: ProgramReport) -> list[str]:
    """What repeats and is no loop, with the lines of code."""
    return [f"{place}: {reason}" for reason, place in program.unrolled]


def _kernel(number: str, kernel: KernelCost) -> Iterator[str]:
    yield f"Kernel {number}: {kernel.name}, {kernel.loop}"
    yield f"  {costs(kernel)}"
    yield from (f"    {line}" for line in listing(kernel))
    yield from (f"  apart from {reason}" for reason in kernel.apart)
    for n, inner in enumerate(kernel.inside):
        yield from _indented(_kernel(f"{number}.{n + 1}", inner))


def listing(kernel: KernelCost) -> list[str]:
    """A kernel's instructions and where they come from."""
    width = max((len(text) for text, _ in kernel.instructions), default=0)
    return [f"{text:{min(width, 70)}}  # {place}" for text, place in kernel.instructions]


def _indented(lines: Iterable[str] | Sequence[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)

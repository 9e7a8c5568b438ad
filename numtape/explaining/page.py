"""A report as one page of HTML: bars for the kernels, their instructions folded away, costs beside the user's code.

Everything is in the page: no script, no network. It is dark where the reader's system is.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from html import escape

from numtape.explaining.cost import KernelCost
from numtape.explaining.report import (
    LINES_OF_TIME,
    ProgramReport,
    Report,
    SignatureReport,
    costs,
    listing,
    loading,
    seconds,
    unrolled,
)
from numtape.explaining.report import summary as summary_of

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fbfaf7; --faint: #6a7280; --line: #dcd9d0; --bar: #3d7ea6;
        --back: #b5651d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e2dc; --paper: #16191e; --faint: #98a0ab; --line: #2e343d; --bar: #5fa8d3; --back: #e0995a; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
p, li { color: var(--faint); margin: .2rem 0; }
code, pre, td { font: 13px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; margin: .4rem 0 .6rem 1.2rem; }
details { border-top: 1px solid var(--line); padding: .25rem 0; } summary { cursor: pointer; }
details details { margin-left: 1.2rem; }
.bar { display: block; height: .5rem; margin-top: .15rem; min-width: 1px; background: var(--bar); border-radius: 2px; }
.time { float: right; color: var(--faint); font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td { padding: 0 .6rem 0 0; white-space: pre; vertical-align: top; }
td.number { color: var(--faint); text-align: right; width: 1%; } td.cost { width: 9rem; }
.forward, .backward { display: inline-block; height: .55rem; } .forward { background: var(--bar); }
.backward { background: var(--back); } .key { width: .8rem; margin: 0 .2rem 0 .8rem; }
"""
CONTEXT = 2
"""So many lines of code around those that cost something."""


def page(report: Report) -> str:
    """The report as HTML."""
    title = escape(report.title)
    body = "\n".join(part for n, s in enumerate(report.signatures) for part in _signature(n, s))
    notes = "".join(f"<p>{escape(line)}</p>\n" for line in LINES_OF_TIME)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width"/>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n{body}\n<h2>How it was measured</h2>\n{notes}</body>\n</html>\n"
    )


def _signature(n: int, signature: SignatureReport) -> Iterator[str]:
    if signature.arguments:
        yield f"<h2>Signature {n + 1}: <code>{escape(signature.arguments)}</code></h2>"
        yield f"<p>{escape(signature.state)}; {escape(signature.cause)}</p>"
    if signature.ways:
        yield f"<pre>{escape(chr(10).join(signature.ways))}</pre>"
    for program in signature.programs:
        yield from _program(program)
    if signature.left_out:
        yield f"<p>and {signature.left_out} earlier programs</p>"


def _program(program: ProgramReport) -> Iterator[str]:
    cause = f": {escape(program.cause)}" if program.cause else ""
    yield f"<h3>Program{cause}</h3>\n<p>{escape(summary_of(program))}</p>"
    if program.tier:
        yield f"<p>{escape(program.tier)}</p>"
    most = max((kernel.share for kernel in program.kernels), default=1.0) or 1.0
    for n, kernel in enumerate(program.kernels):
        yield _kernel(str(n + 1), kernel, most)
    if program.unrolled:
        reasons = escape("\n".join(unrolled(program)))
        yield f"<details><summary>What repeats and is no loop</summary><pre>{reasons}</pre></details>"
    yield f"<details><summary>The program</summary><pre>{escape(program.text)}</pre></details>"
    loadings = escape("\n".join(map(loading, program.loadings)))
    yield f"<details><summary>Where machine code came from</summary><pre>{loadings}</pre></details>"
    yield from _code(program)


def _kernel(number: str, kernel: KernelCost, most: float) -> str:
    lines = [*listing(kernel), "", costs(kernel), *(f"apart from {reason}" for reason in kernel.apart)]
    inside = "".join(_kernel(f"{number}.{n + 1}", inner, most) for n, inner in enumerate(kernel.inside))
    return (
        f"<details><summary>{number}. <code>{escape(kernel.name)}</code> {escape(kernel.loop)}"
        f'<span class="time">{seconds(kernel.seconds)} ({kernel.share:.0%})</span>'
        f'<span class="bar" style="width: {100 * kernel.share / most:.1f}%"></span></summary>'
        f"<pre>{escape(chr(10).join(lines).lstrip())}</pre>{inside}</details>"
    )


def _code(program: ProgramReport) -> Iterator[str]:
    """The user's files, around the lines that cost something, with bars beside them."""
    took: dict[str, dict[int, dict[str, float]]] = {}
    for place, cost in program.lines():
        if place.filename:
            role = "forward" if place.role == "forward" else "backward"
            costs = took.setdefault(place.filename, {}).setdefault(place.line, {})
            costs[role] = costs.get(role, 0.0) + cost
    most = max((sum(costs.values()) for lines in took.values() for costs in lines.values()), default=0.0) or 1.0
    for filename, lines in took.items():
        yield (
            f'<h3>{escape(filename)}<span class="key forward"></span>forward'
            '<span class="key backward"></span>backward, or tangents</h3>\n<table>'
        )
        text = linecache.getlines(filename)
        shown = {k for line in lines for k in range(line - CONTEXT, line + CONTEXT + 1) if 1 <= k <= len(text)}
        last = 0
        for k in sorted(shown | set(lines)):
            if last and k > last + 1:
                yield '<tr><td class="number">⋮</td><td></td><td></td></tr>'
            last = k
            own = lines.get(k, {})
            bars = "".join(
                f'<span class="{role}" style="width: {8 * own[role] / most:.2f}rem"></span>'
                for role in ("forward", "backward")
                if role in own
            )
            source = escape(text[k - 1].rstrip()) if k <= len(text) else ""
            total = seconds(sum(own.values())) if own else ""
            yield (
                f'<tr><td class="number">{k}</td><td class="number">{total}</td><td class="cost">{bars}</td>'
                f"<td>{source}</td></tr>"
            )
        yield "</table>"

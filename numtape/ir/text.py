"""The text form of a program: what `print` shows, and what reads back to an equal program.

One line for each instruction, then the outputs::

    %0 = input() {index=0} : f32[2,3]
    %1 = sum(%0) {axes=(0, 1)} : f32[1,1]
    return %1

A donation stands behind its output, `%1 <- 0`: it may take over the memory of input 0. The body of a loop follows its
line, in the same form::

    %2 = loop(%1) {body=..., count=9, windows=()} : b1[]
      %0 = input() {index=0} : f32[]
      %1 = sin(%0) : f32[]
      return %1
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any

from numtape.dtypes import BY_CODE, DType, parse_type
from numtape.ir.op import REGISTRY
from numtape.ir.program import Instruction, Program

_LINE = re.compile(r"%(\d+) = ([\w.]+)\(([^)]*)\)(?: \{(.*)\})? : (\S+)")
_NAMES = {"inf": math.inf, "nan": math.nan}


def write(program: Program) -> str:
    """The program as text."""
    return "\n".join(_lines(program))


def _lines(program: Program) -> Iterator[str]:
    for k, i in enumerate(program.instructions):
        yield write_line(k, i)
        for value in i.attributes:
            if isinstance(value, Program):
                yield from (f"  {line}" for line in _lines(value))
    donations = dict(program.donations)
    outputs = [f"%{o} <- {donations[n]}" if n in donations else f"%{o}" for n, o in enumerate(program.outputs)]
    yield f"return {', '.join(outputs)}".rstrip()


def write_line(k: int, i: Instruction) -> str:
    """Instruction k as text, without the lines of its body if it has one."""
    operands = ", ".join(f"%{o}" for o in i.operands)
    pairs = zip(i.op.attributes, i.attributes, strict=True)
    attributes = ", ".join(f"{name}={_value(value)}" for name, value in pairs)
    return f"%{k} = {i.op.name}({operands}){f' {{{attributes}}}' if attributes else ''} : {i.type}"


def read(text: str) -> Program:
    """The program that a text describes; ValueError names the line that is none."""
    lines = iter([line.strip() for line in text.strip().splitlines() if line.strip()])
    program = _read(lines)
    for line in lines:
        raise ValueError(f"a program ends with its `return`, and not with {line!r}")
    return program


def _read(lines: Iterator[str]) -> Program:
    """The program that ends with the next `return`."""
    instructions: list[Instruction] = []
    for line in lines:
        if line.startswith("return"):
            break
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) != len(instructions) or match[2] not in REGISTRY:
            raise ValueError(f"not instruction %{len(instructions)} of a program: {line!r}")
        op = REGISTRY[match[2]]
        operands = tuple(int(o.strip().removeprefix("%")) for o in match[3].split(",") if o.strip())
        attributes = _read_attributes(match[4] or "")
        if "body" in attributes:
            attributes["body"] = _read(lines)
        if tuple(attributes) != op.attributes:
            raise ValueError(f"{op.name} has attributes {op.attributes}, not {tuple(attributes)}: {line!r}")
        instructions.append(Instruction(op, operands, tuple(attributes.values()), parse_type(match[5])))
    else:
        raise ValueError("a program ends with a line `return %a, %b, ...`")
    outputs: list[int] = []
    donations: list[tuple[int, int]] = []
    for n, part in enumerate(p for p in line.removeprefix("return").split(",") if p.strip()):
        value, _, old = part.strip().removeprefix("%").partition(" <- ")
        outputs.append(int(value))
        if old:
            donations.append((n, int(old)))
    return Program(tuple(instructions), tuple(outputs), tuple(donations))


def _value(value: Any) -> str:
    if isinstance(value, DType):
        return value.code
    if isinstance(value, Program):
        return "..."
    if isinstance(value, tuple):
        return f"({', '.join(_value(v) for v in value)}{',' if len(value) == 1 else ''})"
    return repr(value)


def _read_attributes(text: str) -> dict[str, Any]:
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(k.arg): _read_value(k.value) for k in call.keywords}


def _read_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_read_value(n) for n in node.elts)
    if isinstance(node, ast.Name):
        return BY_CODE[node.id] if node.id in BY_CODE else _NAMES[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_read_value(node.operand)
    return ast.literal_eval(node)

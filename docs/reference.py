"""The pages that are written by the package itself: the reference of each namespace, the ops, TensorFlow's names.

In goes numtape as it is imported, and `tensorflow_names.txt`; out come the texts of pages in reStructuredText, by
their file names. What is public is what `dir` says of a module: nothing is listed here.
"""

from __future__ import annotations

import enum
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numtape as nt

HERE = Path(__file__).parent


def pages() -> dict[str, str]:
    """Every generated page, by the name of its file."""
    spaces = namespaces()
    found = {f"{name}.rst": _namespace(name, module) for name, module in spaces.items()}
    found["index.rst"] = _index(spaces)
    found["ops.rst"] = _ops()
    found["tensorflow.rst"] = _tensorflow()
    return found


# ---- what is public ----------------------------------------------------------------------------------------------


def namespaces() -> dict[str, ModuleType]:
    """The public modules by dotted name, `nt` first."""
    found = {"nt": nt}
    for name in found.copy():
        _collect(name, found)
    return found


def _collect(space: str, found: dict[str, ModuleType]) -> None:
    for name, member in members(found[space]).items():
        if isinstance(member, ModuleType):
            found[f"{space}.{name}"] = member
            _collect(f"{space}.{name}", found)


def members(module: ModuleType) -> dict[str, Any]:
    """What is public in a namespace, by name: classes first, then the rest, modules last."""
    found = {name: getattr(module, name) for name in sorted(dir(module), key=lambda name: (name.lower(), name))}

    def order(name: str) -> int:
        return 2 if isinstance(found[name], ModuleType) else 0 if inspect.isclass(found[name]) else 1

    return {name: found[name] for name in sorted(found, key=order)}


def public_names() -> dict[str, Any]:
    """Everything that is public, methods included, by dotted name."""
    found: dict[str, Any] = {}
    for space, module in namespaces().items():
        for name, member in members(module).items():
            found[f"{space}.{name}"] = member
            if inspect.isclass(member):
                found |= {f"{space}.{name}.{method}": value for method, value in _attributes(member).items()}
    return found


def _attributes(kind: type) -> dict[str, Any]:
    """The public attributes of a class, inherited ones included where numtape defined them."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] == "numtape":
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    return found


# ---- pages of the reference --------------------------------------------------------------------------------------


def _index(spaces: dict[str, ModuleType]) -> str:
    rows = [(f":doc:`{name}`", summary(module)) for name, module in spaces.items()]
    return "\n".join(
        [
            *title("Reference"),
            "What is public, by namespace, with the examples that the tests run. :doc:`ops` says which ops have a",
            "gradient, and :doc:`tensorflow` which of TensorFlow's names there are.",
            "",
            *listed(rows),
            ".. toctree::",
            "   :hidden:",
            "",
            *(f"   {name}" for name in spaces),
            "   ops",
            "   tensorflow",
            "",
        ]
    )


def _namespace(space: str, module: ModuleType) -> str:
    found = members(module)
    # Names are written in full, so the module is only named and not entered.
    lines = [*title(space), f".. py:module:: {space}", "", ".. py:currentmodule:: None", "", *documentation(module), ""]
    lines += listed([(f"`{space}.{name}`", summary(member)) for name, member in found.items()])
    for name, member in found.items():
        if not isinstance(member, ModuleType):
            lines += entry(f"{space}.{name}", member)
    return "\n".join(lines)


def entry(name: str, member: Any) -> list[str]:
    """A public name with its signature, documentation and, for a class, methods."""
    if not callable(member):
        return directive("data", name, [summary(member)])
    if not inspect.isclass(member):
        return directive("function", f"{name}{signature(member)}", documentation(member))
    body = documentation(member)
    for attribute, value in _attributes(member).items():
        body += ["", *_attribute(member, attribute, value)]
    return directive("class", f"{name}{'' if issubclass(member, enum.Enum) else signature(member)}", body)


def _attribute(kind: type, name: str, value: Any) -> list[str]:
    if isinstance(value, classmethod | staticmethod):
        option = type(value).__name__
        return directive("method", f"{name}{signature(getattr(kind, name))}", documentation(value), f":{option}:")
    if inspect.isfunction(value):
        return directive("method", f"{name}{signature(value, bound=True)}", documentation(value))
    described = documentation(value) if isinstance(value, property) or inspect.isroutine(value) else []
    return directive("attribute", name, described)


def directive(kind: str, head: str, body: list[str], *options: str) -> list[str]:
    return [f".. py:{kind}:: {head}", *(f"   {option}" for option in options), "", *indented(body), ""]


def documentation(member: Any) -> list[str]:
    """A docstring's lines; what means nothing in it but would in reStructuredText is escaped."""
    paragraphs = (inspect.getdoc(member) or "").split("\n\n")
    return "\n\n".join(p if p.lstrip().startswith(">>>") else _escaped(p) for p in paragraphs).splitlines()


def _escaped(paragraph: str) -> str:
    parts = paragraph.split("`")
    parts[::2] = [re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def summary(member: Any) -> str:
    """The first paragraph of the documentation, on one line."""
    if isinstance(member, nt.DType):
        return f"The element type {member.name}."
    if member is None:
        return "A new axis of length 1, in an index."
    return " ".join("\n".join(documentation(member)).split("\n\n")[0].split())


def signature(function: Any, bound: bool = False) -> str:
    """The parameters as one writes them in a call: names and defaults."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[bound:]
    except ValueError:  # what is written in C has none
        return "(...)"
    bare = [p.replace(annotation=p.empty, default=_Written.of(p.default)) for p in parameters]
    return str(inspect.Signature(bare))


class _Written:
    """A default that prints as it is written in code."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    @classmethod
    def of(cls, default: Any) -> Any:
        if isinstance(default, enum.Enum):
            return cls(f"nt.{type(default).__name__}.{default.name}")
        return default if default is inspect.Parameter.empty else cls(repr(default).split(" at 0x")[0])


# ---- all ops -----------------------------------------------------------------------------------------------------


GRADIENTS = {"yes": "yes", "none": "not differentiable", "missing": "**missing**"}


def _ops() -> str:
    rows = nt.list_ops()
    counts = {word: sum(row.gradient == word for row in rows) for word in GRADIENTS}
    cells = [
        (_escaped(row.name), ", ".join(f"`{name}`" for name in row.public), row.kind, GRADIENTS[row.gradient])
        for row in rows
    ]
    return "\n".join(
        [
            *title("All ops"),
            f"There are {len(rows)} ops: gradients pass through {counts['yes']} of them, {counts['none']} are not",
            f"differentiable by nature (the gradient is ``None``), and for {counts['missing']} the rule is missing",
            "(asking for the gradient is a ``LookupError``). The same table is printed by",
            "``python -m numtape ops``, with ``--without-gradient`` only the last two sorts, and `nt.list_ops` gives",
            "it to programs.",
            "",
            "The first column is an op's name in programs and messages. One without public names is what others are",
            "made of. The kinds: a *map* computes each element by itself and a *reduce* folds along axes, and both",
            "are fused with their neighbours; an *alias* is the same elements under another shape; a *call* is a",
            "routine of its own, and an *update* one that changes an operand in places; a *formula* and a",
            "*composite* are written with other ops. What draws random numbers has no gradient, but gradients flow",
            "to the mean and the standard deviation, which other ops apply.",
            "",
            *listed(cells, ("op", "public names", "kind", "gradient"), "25 45 12 18"),
        ]
    )


# ---- TensorFlow's names ------------------------------------------------------------------------------------------


def tensorflow_names() -> dict[str, tuple[str, ...] | None]:
    """TensorFlow's public names, without `tf.`, and the parameters that each takes; None for what is not called."""
    found: dict[str, tuple[str, ...] | None] = {}
    for line in (HERE / "tensorflow_names.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, called, parameters = line.partition("(")
            found[name] = tuple(filter(None, parameters.rstrip(")").split(", "))) if called else None
    return found


IGNORED = {"name", "layout", "use_locking", "parallel_iterations", "experimental_use_pfor", "validate_indices"}
"""Parameters that change no result."""


def lacking(name: str, parameters: tuple[str, ...] | None) -> list[str] | None:
    """The parameters of a TensorFlow name that numtape's does not take; None if there is no such name."""
    found: Any = nt
    for part in name.split("."):
        if not hasattr(found, part):
            return None
        found = getattr(found, part)
    taken = _taken(found)
    if parameters is None or taken is None:
        return []
    return [p for p in parameters if not p.startswith("*") and p not in taken | IGNORED]


def _taken(function: Any) -> set[str] | None:
    """The names of parameters, those included that a class passes on to its base; None if it is not known."""
    try:
        own = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    taken = {p.name for p in own}
    if inspect.isclass(function) and any(p.kind is p.VAR_KEYWORD for p in own):
        taken |= _taken(function.__base__) or set()
    return taken


def _tensorflow() -> str:
    same, partly, missing = [], [], []
    for name, parameters in tensorflow_names().items():
        without = lacking(name, parameters)
        if without is None:
            missing.append(name)
        elif without:
            partly.append((f"`nt.{name}`", ", ".join(f"``{p}``" for p in without)))
        else:
            same.append(name)
    return "\n".join(
        [
            *title("TensorFlow's names"),
            "Drawn from TensorFlow 2.21's own modules and compared with numtape's when this page was built: names and",
            "parameters only. :doc:`../coming_from_tensorflow` says what behaves differently.",
            "",
            *title("The same", "-"),
            f"{len(same)} names, under ``nt`` for ``tf``, with all parameters that change a result:",
            "",
            *by_space([f"nt.{name}" for name in same], "`"),
            *title("With fewer parameters", "-"),
            f"{len(partly)} names:",
            "",
            *listed(partly, ("name", "what it does not take, or under another name"), "40 60"),
            *title("Missing", "-"),
            f"{len(missing)} names:",
            "",
            *by_space([f"tf.{name}" for name in missing], "``"),
        ]
    )


def by_space(names: list[str], quote: str) -> list[str]:
    """Names as a definition list, one entry for each namespace."""
    spaces: dict[str, list[str]] = {}
    for name in names:
        spaces.setdefault(name.rpartition(".")[0], []).append(name)
    lines: list[str] = []
    for space, inside in spaces.items():
        lines += [f"``{space}``", f"   {', '.join(f'{quote}{name}{quote}' for name in inside)}", ""]
    return lines


# ---- reStructuredText --------------------------------------------------------------------------------------------


def title(text: str, underline: str = "=") -> list[str]:
    return [text, underline * len(text), ""]


def listed(rows: list[tuple[str, ...]], heading: tuple[str, ...] = (), widths: str = "40 60") -> list[str]:
    """A table, one line of text for each cell."""
    lines = [".. list-table::", f"   :widths: {widths}", *(["   :header-rows: 1"] if heading else []), ""]
    for row in [heading, *rows] if heading else rows:
        lines += [f"   {'*' if not k else ' '} - {cell}" for k, cell in enumerate(row)]
    return [*lines, ""] if rows else []


def indented(lines: list[str]) -> list[str]:
    return [f"   {line}" if line else "" for line in lines]

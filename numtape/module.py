"""`Module`: an object whose Variables are found by looking through its attributes.

Lists, tuples and dicts in attributes are searched; nothing is registered, so that whatever holds a Variable when it is
asked for counts. As a loop asks twice a step, an answer is kept for as long as it holds: until an attribute of any
Module takes or gives up something that is searched, or a list or dict has other items. `children` gives the same one
level at a time, under the names that stand in a checkpoint.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import is_, itemgetter
from typing import Any, TypeVar

from numtape.tape import scope
from numtape.tape.variable import Variable

_WORDS = re.compile(r"(?<=[a-z0-9])[A-Z]|(?!^)[A-Z](?=[a-z])")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Method = TypeVar("_Method", bound=Callable[..., Any])


class Module:
    """What keeps Variables and other Modules in its attributes.

    `name` is an identifier (ValueError), by default the class's in snake case. Variables are found when they are asked
    for: those in the attributes in the order of their names, then those of the Modules there, each once. Lists,
    tuples and dicts in attributes are searched, too.

    >>> import numtape as nt
    >>> class Line(nt.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = nt.Variable(2.0, name="slope")
    ...         self.offset = nt.Variable(1.0, name="offset")
    ...
    ...     def __call__(self, x):
    ...         return self.slope * x + self.offset
    >>> line = Line()
    >>> line.name, [v.name for v in line.trainable_variables]
    ('line', ['offset:0', 'slope:0'])
    """

    _listing: type[list[Any]] | type[tuple[Any, ...]] = tuple
    """What `variables` and its like are."""
    _trainable = True
    """Whether training changes any Variable here."""
    _awaiting: Any = None
    """The `Restoration` of `numtape.train` that has values for Variables which are attached later."""

    def __init__(self, name: str | None = None) -> None:
        if name is None:
            name = _WORDS.sub(r"_\g<0>", type(self).__name__).lower()
        elif not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"{name!r} is not a name for a Module: it has to be an identifier, such as 'my_module'")
        self._name = name
        self._scope = f"{scope.SCOPE.prefix}{name}/"

    @property
    def name(self) -> str:
        """The name, with which those of Variables made within `name_scope` begin."""
        return self._name

    @property
    def name_scope(self) -> scope.name_scope:
        """A context in which the names of new Variables begin with this Module's.

        >>> import numtape as nt
        >>> module = nt.Module(name="encoder")
        >>> with module.name_scope:
        ...     v = nt.Variable(1.0, name="v")
        >>> v.name
        'encoder/v:0'
        """
        return scope.name_scope(self._scope)

    @classmethod
    def with_name_scope(cls, method: _Method) -> _Method:
        """Decorate a method, so that its body runs within `name_scope`."""

        @functools.wraps(method)
        def within(self: Module, *args: Any, **options: Any) -> Any:
            with self.name_scope:
                return method(self, *args, **options)

        return within  # type: ignore[return-value]

    @property
    def variables(self) -> Sequence[Variable]:
        """All Variables of this Module and of those within it."""
        return self._listing(self._searched().variables)

    @property
    def trainable_variables(self) -> Sequence[Variable]:
        """The Variables that training changes."""
        return self._listing(self._searched().trained)

    @property
    def non_trainable_variables(self) -> Sequence[Variable]:
        """The Variables that training leaves alone."""
        return self._listing(self._searched().others)

    @property
    def submodules(self) -> Sequence[Module]:
        """All Modules within this one, but not itself."""
        return tuple(self._submodules({id(self)}))

    # ---- how they are found ----------------------------------------------------------------------------------------

    def _named(self) -> list[tuple[str, Any]]:
        """The attributes in the order of their names."""
        return sorted(vars(self).items(), key=itemgetter(0))

    def _leaves(self, containers: list[Any]) -> list[Any]:
        """Variables and Modules that are directly in the attributes, in the order in which they are found."""
        return leaves((value for _, value in self._named()), containers)

    def _searched(self) -> _Search:
        search = vars(self).get("_search")
        if search is None or not search.holds():
            search = vars(self)["_search"] = _Search(self)
        return search

    def _submodules(self, seen: set[int]) -> Iterator[Module]:
        fresh = []
        for leaf in self._leaves([]):
            if isinstance(leaf, Module) and id(leaf) not in seen:
                seen.add(id(leaf))
                fresh.append(leaf)
        yield from fresh
        for module in fresh:
            yield from module._submodules(seen)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, _SEARCHED) or isinstance(vars(self).get(name), _SEARCHED):
            changed()
        object.__setattr__(self, name, value)
        if self._awaiting is not None:
            self._awaiting.attach(self)
        if self._awaiting is not None:
            self._awaiting.attach(self)

    def __delattr__(self, name: str) -> None:
        changed()
        object.__delattr__(self, name)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_search"}

    def __repr__(self) -> str:
        name = repr(self._name) if hasattr(self, "_name") else "without a name"
        return f"<{type(self).__name__} {name}: {len(self.variables)} variables>"


_LEAVES = (Variable, Module)
_SEARCHED = (*_LEAVES, list, tuple, dict)
_version = [object()]


def changed() -> None:
    """Say that Modules may have other Variables than before, or other trainable ones."""
    _version[0] = object()


class _Search:
    """The Variables of a Module and of those within it, and what tells whether that still holds."""

    __slots__ = ("_contents", "_version", "others", "trained", "variables")

    def __init__(self, module: Module) -> None:
        self._version = _version[0]
        self.variables: list[Variable] = []
        self.trained: list[Variable] = []
        self.others: list[Variable] = []
        containers: list[Any] = []
        self._visit(module, True, {id(module)}, containers)
        self._contents = [(container, [*_contents(container)]) for container in containers]

    def _visit(self, module: Module, trained: bool, seen: set[int], containers: list[Any]) -> None:
        modules = []
        trained = trained and module._trainable
        for leaf in module._leaves(containers):
            if id(leaf) in seen:
                continue
            seen.add(id(leaf))
            if isinstance(leaf, Module):
                modules.append(leaf)
            else:
                self.variables.append(leaf)
                (self.trained if trained and leaf.trainable else self.others).append(leaf)
        for within in modules:
            self._visit(within, trained, seen, containers)

    def holds(self) -> bool:
        return self._version is _version[0] and all(
            len(found := _contents(container)) == len(known) and all(map(is_, found, known))
            for container, known in self._contents
        )


def _contents(container: Any) -> Any:
    return [*container, *container.values()] if isinstance(container, dict) else container


def leaves(values: Iterable[Any], containers: list[Any]) -> list[Any]:
    """Variables and Modules among values and in containers there; adds the lists and dicts that were searched.

    Dicts are searched in the order of their keys, if they sort.
    """
    found: list[Any] = []
    for value in values:
        if isinstance(value, _SEARCHED):
            _collect(value, found, containers, ())
    return found


def _collect(value: Any, found: list[Any], containers: list[Any], within: tuple[int, ...]) -> None:
    if isinstance(value, _LEAVES):
        found.append(value)
    elif id(value) not in within:
        items = value
        if not isinstance(value, tuple):
            containers.append(value)
        if isinstance(value, dict):
            try:
                items = [value[key] for key in sorted(value)]
            except TypeError:
                items = value.values()
        for item in items:
            if isinstance(item, _SEARCHED):
                _collect(item, found, containers, (*within, id(value)))


CHILDREN: dict[type, Callable[[Any], Iterator[tuple[str, Any]]]] = {}
"""Further classes whose objects have children, each with the function that names them."""


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """What state is kept in, one level down and by name: Variables, Modules, containers and objects of `CHILDREN`.

    Also what gives its state away itself, see `numtape.train.restoration`. A Module's are its attributes in the order
    of their names, a list's are called "0", "1" and so on, a dict's by their keys. Empty containers are left out;
    nothing else has children.
    """
    named: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Module):
        named = iter(value._named())
    elif isinstance(value, list | tuple):
        named = enumerate(value)
    elif isinstance(value, dict):
        named = iter(value.items())
    else:
        for kind, named_children in CHILDREN.items():
            if isinstance(value, kind):
                named = named_children(value)
    kept = (*_SEARCHED, *CHILDREN)
    for name, child in named:
        empty = isinstance(child, list | tuple | dict) and not child
        if not empty and (isinstance(child, kept) or hasattr(child, "_checkpoint_state")):
            yield str(name), child

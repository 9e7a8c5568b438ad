"""Objects and the paths to their state: `survey` for saving, `Restoration` for bringing values back.

The state of an object graph are its leaves: Variables, and *groups*, which are objects with methods
`_checkpoint_state() -> dict[str, array]` and `_restore_state(dict)`. A leaf's key is the path of attribute names,
indices and dict keys that leads to it, the shortest one first; other paths to the same object are its aliases. An
optimizer's slots stand under the path of the Variable that they belong to.

A `Restoration` walks through the objects and the keys of a file at the same time. Keys that find nothing wait: the
objects on the way to them know the Restoration, and tell it when something is attached to them. Always holds: each key
is given to one leaf, each leaf takes one value, and a pass through the objects assigns all that it found, or nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from numtape.keras.optimizers import Optimizer
from numtape.module import CHILDREN, children
from numtape.tape.tensor import EPOCH, from_numpy
from numtape.tape.tiers import ASSIGNED
from numtape.tape.variable import Variable
from numtape.train.files import CheckpointFile


def _state_of_optimizer(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    yield "iterations", optimizer.iterations
    yield "learning_rate", optimizer.learning_rate


CHILDREN[Optimizer] = _state_of_optimizer


def join(path: str, name: str) -> str:
    """The path of a child."""
    name = name.replace("%", "%25").replace("/", "%2F")
    return f"{path}/{name}" if path else name


def unescape(name: str) -> str:
    """The name of a child, as it was before `join`."""
    return name.replace("%2F", "/").replace("%25", "%")


def is_group(value: Any) -> bool:
    return hasattr(value, "_checkpoint_state")


def slots_of(optimizer: Optimizer) -> Iterator[tuple[Variable, str, Variable]]:
    """Each slot, after the Variable that it belongs to and its name."""
    for variable, slots in optimizer._slots.values():
        for name, slot in zip(optimizer.slots, slots, strict=True):
            yield variable, name, slot


def slot_key(node: str, path: str, name: str) -> str:
    """Under which key a slot stands: optimizer, Variable, name."""
    return f"{join(node, 'slots')}/{path}/{name}"


@dataclass(slots=True)
class Survey:
    """What state there is: Variables and groups by key, the aliases of paths, slots of Variables that have no path."""

    leaves: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    strays: list[tuple[str, Variable, Variable]] = field(default_factory=list)


def survey(roots: Iterable[Any]) -> Survey:
    """Walk through all objects, breadth first; ValueError if two have the same path."""
    found = Survey()
    queue: deque[tuple[str, Any]] = deque(("", root) for root in roots)
    objects: dict[str, Any] = {}
    paths = {id(root): "" for _, root in queue}
    optimizers: list[tuple[str, Optimizer]] = []
    while queue:
        path, parent = queue.popleft()
        if isinstance(parent, Optimizer):
            optimizers.append((path, parent))
        for name, child in children(parent):
            at = join(path, name)
            if at in objects:
                if objects[at] is not child:
                    raise ValueError(f"Checkpoint: two different objects are called {at}; rename one")
                continue
            objects[at] = child
            if id(child) in paths:
                found.aliases[at] = paths[id(child)]
                continue
            paths[id(child)] = at
            if isinstance(child, Variable) or is_group(child):
                found.leaves[at] = child
            else:
                queue.append((at, child))
    for node, optimizer in optimizers:
        for variable, name, slot in slots_of(optimizer):
            path_of = paths.get(id(variable))
            if path_of is None:
                found.strays.append((node, variable, slot))
            else:
                found.leaves[slot_key(node, path_of, name)] = slot
    found.aliases = _of_state(found.aliases, found.leaves)
    return found


def _of_state(aliases: dict[str, str], leaves: Iterable[str]) -> dict[str, str]:
    """Those aliases that lead to a leaf: tuples of numbers are often the same object, too."""
    places = {place for key in leaves for place in (key, *_parents(key))}
    kept: dict[str, str] = {}
    while more := {alias: at for alias, at in aliases.items() if at in places and alias not in kept}:
        kept |= more
        places.update(place for alias in more for place in _parents(alias))
    return kept


class Restoration:
    """A file, and which of its keys have found their place among some objects."""

    def __init__(self, file: CheckpointFile, roots: list[Any], ignored: frozenset[str]) -> None:
        self.file: CheckpointFile | None = file
        self.path, self.aliases = file.path, file.aliases
        self.roots = [("", root) for root in roots]
        self.left = set(file.keys - ignored)
        """Keys that have found nothing yet, but may."""
        self.lost: set[str] = set()
        """Keys that will find nothing: of another shape, or overtaken by a later Restoration."""
        self.bound: dict[int, tuple[Any, str]] = {}
        """Leaves that have taken a value, by identity, with their keys."""
        self._below: Counter[str] = Counter()
        """How many keys are left below a path."""
        for key in self.left:
            self._below.update(_parents(key))
        self._passages = {parent for alias in self.aliases for parent in _parents(alias)}
        """Paths on the way to an alias."""
        self._optimizers: dict[int, tuple[str, Optimizer]] = {}
        self._waiting: dict[int, tuple[str, Any]] = {}
        """Objects that tell when something is attached to them, by identity, with their paths."""

    def __reduce__(self) -> Any:
        return type(None), ()  # a copy of an object does not wait for values

    def attach(self, parent: Any) -> None:
        """Give their values to what was attached to an object that waits."""
        place = self._waiting.get(id(parent))
        if place is not None:  # else it is a copy of one that waits
            self.resolve(self.roots if isinstance(parent, Optimizer) else [place])

    def gave(self, leaf: Any) -> bool:
        """Whether a leaf has its value from the file."""
        return id(leaf) in self.bound

    def resolve(self, starts: list[tuple[str, Any]]) -> None:
        """Give their values to the leaves that are found from some objects on."""
        if not self.left:
            return
        taken: dict[str, Any] = {}
        fresh: dict[int, tuple[Any, str]] = {}
        visited: list[tuple[str, Any]] = []

        def take(key: str, leaf: Any, keys: Iterable[str]) -> None:
            wanted = [k for k in keys if k in self.left and k not in taken]
            if wanted and id(leaf) not in self.bound and id(leaf) not in fresh:
                fresh[id(leaf)] = leaf, key
            taken.update(dict.fromkeys(wanted))

        queue, seen = deque(starts), set()
        while queue:
            node, parent = queue.popleft()
            if (node, id(parent)) in seen:
                continue
            seen.add((node, id(parent)))
            earlier = getattr(parent, "_awaiting", None)
            if earlier is not None and earlier is not self:
                earlier.attach(parent)  # what it still finds comes before what is found here
            visited.append((node, parent))
            if isinstance(parent, Optimizer):
                self._optimizers[id(parent)] = node, parent
            for name, child in children(parent):
                at = join(node, name)
                at = self.aliases.get(at, at)
                if isinstance(child, Variable):
                    take(at, child, [at])
                elif not self._leads_on(at):
                    continue
                elif is_group(child):
                    take(at, child, [key for key in self.left if key.startswith(f"{at}/")])
                else:
                    queue.append((at, child))
        for node, optimizer in self._optimizers.values():
            for variable, name, slot in slots_of(optimizer):
                place = self.bound.get(id(variable)) or fresh.get(id(variable))
                if place is not None:
                    key = slot_key(node, place[1], name)
                    take(key, slot, [key])
        self._assign([(key, leaf) for leaf, key in fresh.values()])
        self.bound.update(fresh)
        self._drop(taken)
        for node, parent in visited:
            if self._leads_on(node) and hasattr(parent, "_awaiting"):
                if parent._awaiting not in (None, self):
                    parent._awaiting._lose(parent)
                object.__setattr__(parent, "_awaiting", self)
                self._waiting[id(parent)] = node, parent

    def _leads_on(self, node: str) -> bool:
        """Whether something is left that may be found from there."""
        return bool(self._below[node] or (self.left and node in self._passages))

    def _lose(self, parent: Any) -> None:
        """Leave an object to a later Restoration."""
        node, _ = self._waiting.get(id(parent), (None, None))
        if node is not None:
            keys = [key for key in self.left if not node or key.startswith(f"{node}/")]
            self.lost.update(keys)
            self._drop(keys)

    def _assign(self, places: list[tuple[str, Any]]) -> None:
        """Check all, then read all, then assign all."""
        file = self.file
        assert file is not None
        variables = [(key, leaf) for key, leaf in places if isinstance(leaf, Variable)]
        for key, variable in variables:
            dtype, shape = file.types[key]
            if (dtype, shape) != (variable.dtype.name, variable.shape):
                self.lost.add(key)
                self._drop([key])  # else it would be an error at each further attribute
                kind = ValueError if shape != variable.shape else TypeError
                raise kind(
                    f"{self.path}: {key} has shape {shape} and dtype {dtype}, but the Variable there, {variable.name}, "
                    f"has shape {variable.shape} and dtype {variable.dtype.name}"
                )
        values = [from_numpy(file.read(key)) for key, _ in variables]
        states = []
        for at, leaf in places:
            if is_group(leaf):
                names = [key.removeprefix(f"{at}/") for key in file.keys if key.startswith(f"{at}/")]
                states.append((leaf, {unescape(name): file.read(f"{at}/{name}") for name in names}))
        changed: list[tuple[Any, dict[str, Any]]] = []
        try:
            for group, state in states:
                before = group._checkpoint_state()
                group._restore_state(state)
                changed.append((group, before))
        except BaseException:
            for group, before in changed:
                group._restore_state(before)
            raise
        ASSIGNED[0] = True
        for (_, variable), value in zip(variables, values, strict=True):
            variable._value = value
            EPOCH[0] += 1

    def _drop(self, keys: Iterable[str]) -> None:
        """Wait no more for these keys."""
        for key in keys:
            self.left.discard(key)
            self._below.subtract(_parents(key))
        for node, parent in list(self._waiting.values()):
            if not self._leads_on(node):
                del self._waiting[id(parent)]
                if parent._awaiting is self:
                    object.__setattr__(parent, "_awaiting", None)
        if not self.left:
            self.file = None


def _parents(key: str) -> list[str]:
    """The paths above a key, and that of all."""
    parts = key.split("/")
    return ["/".join(parts[:k]) for k in range(len(parts))]

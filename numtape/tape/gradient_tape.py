"""`GradientTape`: what is watched in the part of a trace that it records, and gradients of it.

A tape holds no operations: it remembers ranges of its trace's instructions, and which slots are watched from where.
A gradient is recorded like any op: its instructions are derived once for each distinct path and appended to the trace,
so that an outer tape can differentiate them again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sys import _getframe
from typing import Any
from weakref import ref

import numpy as np

from numtape import nest
from numtape.dtypes import Shape, TensorType
from numtape.ir.program import Builder, Value
from numtape.passes.differentiate import differentiate
from numtape.tape.detour import GRADIENT, pairs, pull_back_around
from numtape.tape.explain import Record, record_of
from numtape.tape.indexed_slices import IndexedSlices, joined, split
from numtape.tape.jacobian import batch_jacobian, jacobian
from numtape.tape.operands import as_tensor
from numtape.tape.recording import Recording
from numtape.tape.tensor import Tensor, from_numpy
from numtape.tape.trace import STATE, Node, Trace, caller
from numtape.tape.variable import Variable

_warnings_left = 5


class UnconnectedGradients(enum.Enum):
    """What a gradient is where no path leads from the target to the source.

    >>> import numtape as nt
    >>> nt.UnconnectedGradients("zero")
    <UnconnectedGradients.ZERO: 'zero'>
    """

    NONE = "none"
    ZERO = "zero"


class GradientTape(Recording):
    """Record operations, and compute gradients of what they gave.

    With `persistent` any number of gradients, else one. Trainable Variables are watched when they are read, unless
    `watch_accessed_variables` is False; tensors by `watch`.

    >>> import numtape as nt
    >>> x = nt.Variable(3.0)
    >>> with nt.GradientTape() as tape:
    ...     y = x**2
    >>> tape.gradient(y, x).numpy()
    np.float32(6.0)
    """

    _kind = "tape"
    _unanswered: Record | None = None
    """What explains the last gradients that were None."""

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._variables: dict[int, Variable] = {}
        self._reads: dict[int, tuple[int, ...]] = {}
        """For each watched Variable: from which instruction on, then the slots that its reads gave."""
        self._watched: list[tuple[Tensor, int]] = []

    def _forget(self) -> None:
        super()._forget()
        self._variables = {}
        self._reads = {}
        self._watched = []

    # ---- recording -------------------------------------------------------------------------------------------------

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Leave out of the record what runs in this block; RuntimeError unless the tape is recording.

        >>> import numtape as nt
        >>> x = nt.Variable(3.0)
        >>> with nt.GradientTape() as tape:
        ...     y = x * x
        ...     with tape.stop_recording():
        ...         norm = y * x
        >>> tape.gradient(y + norm, x) is None
        True
        """
        if not self._active:
            raise RuntimeError("the tape is not recording, so recording cannot be stopped")
        self._pause()
        try:
            yield
        finally:
            self.__enter__()

    def reset(self) -> None:
        """Forget everything recorded and watched so far; ValueError outside of the tape's block."""
        if not self._active:
            raise ValueError("reset is for a tape that is recording; call it within the tape's block")
        self._pause()
        self._forget()
        self.__enter__()

    def watch(self, tensor: Any) -> None:
        """Follow tensors or Variables, in any nesting, from here on.

        ValueError for anything else. Integer and bool tensors carry no gradient, and are only warned about.

        >>> import numtape as nt
        >>> x = nt.constant(3.0)
        >>> with nt.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.gradient(y, x).numpy()
        np.float32(6.0)
        """
        leaves = _flatten(tensor)
        for leaf in leaves:
            if not isinstance(leaf, Tensor | Variable):
                raise ValueError(
                    f"only tensors and Variables are watched, not {type(leaf).__name__}; make it one with nt.constant"
                )
        if self._active:
            self._push_within()
        for leaf in leaves:
            check_floating(leaf, "watched")
            if isinstance(leaf, Variable):
                if id(leaf) not in self._reads:
                    self._variables[id(leaf)] = leaf
                    self._reads[id(leaf)] = (self._trace.node.length if self._trace else 0,)
            else:
                self._watched.append((leaf, self._trace.node.length if self._trace else 0))

    def watched_variables(self) -> tuple[Variable, ...]:
        """The Variables that are watched, in the order of their construction."""
        return tuple(sorted(self._variables.values(), key=lambda variable: variable._order))

    def _note_read(self, variable: Variable, slot: int, now: int) -> None:
        """A Variable was read, before instruction `now`."""
        key = id(variable)
        entry = self._reads.get(key)
        if entry is None:
            if variable._trainable and self._watch_accessed:
                self._variables[key] = variable
                self._reads[key] = (now, slot)
        elif slot not in entry[1:]:
            self._reads[key] = (*entry, slot)

    def _forget_reads(self, end: int) -> None:
        """A call failed: the slots from `end` on that its reads gave will be others'."""
        for key, (start, *slots) in self._reads.items():
            self._reads[key] = (start, *[slot for slot in slots if slot < end])

    # ---- gradients -------------------------------------------------------------------------------------------------

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
    ) -> Any:
        """The gradient of the sum of all elements of the target with respect to each source.

        Target and sources are tensors or Variables in any nesting of lists, tuples and dicts; the result has the
        nesting of the sources, and each gradient its source's shape and dtype. `output_gradients` weighs the elements
        of the target, one tensor of its shape (or None, for ones) for each. Where no path leads from target to source
        the gradient is None, or zeros with `UnconnectedGradients.ZERO`. The gradient of a source from which rows are
        gathered, and which is used for nothing else, is an `nt.IndexedSlices`: it costs as much as these rows.

        RuntimeError if the tape is not persistent and has been used; TypeError for what is no tensor; ValueError for
        weights of another shape; LookupError if an op on the path has no gradient rule.

        >>> import numtape as nt
        >>> x, y = nt.Variable(2.0), nt.Variable([1.0, 2.0])
        >>> with nt.GradientTape() as tape:
        ...     z = x * y
        >>> tape.gradient(z, {"x": x, "y": y})["y"].numpy()
        array([2., 2.], dtype=float32)
        """
        if self._spent:
            raise RuntimeError(
                "a tape that is not persistent gives one set of gradients, and has given it; "
                "use nt.GradientTape(persistent=True)"
            )
        unconnected = unconnected_option(unconnected_gradients)
        state = STATE
        if self._active and not self._persistent:
            self._pause()
        targets = _leaves(target, "target")
        flat = _leaves(sources, "source")
        seeds = None if output_gradients is None else _seeds(output_gradients, targets)
        trace = self._trace
        if trace is None:
            found = _of_themselves(flat, targets, seeds)
        else:
            if trace is not state.trace:
                trace = self._bring(trace)
            found = self._record(trace, targets, flat, seeds)
        if unconnected is UnconnectedGradients.ZERO:
            found = [zeros(s) if g is None else g for g, s in zip(found, flat, strict=True)]
        if not self._persistent:
            self._release()
        kind = type(sources)
        if kind is Variable or kind is Tensor:
            return found[0]
        if flat is sources:
            return found
        return nest.pack_sequence_as(sources, found)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivative of each element of the target with respect to each element of each source.

        The target is one tensor or Variable, the sources are tensors or Variables in any nesting; the result has that
        nesting, and each jacobian the shape `target.shape + source.shape` and is dense. Where no path leads from target
        to source it is None, or zeros with `UnconnectedGradients.ZERO`.

        All elements are computed at once, so that what is in between takes its memory once for each of them; with
        `parallel_iterations` so many at once. With `experimental_use_pfor=False` a gradient is taken for one element
        after another, which only a persistent tape can do (else RuntimeError): for custom gradients that look at
        elements, for which the other way raises a ValueError. Other errors are those of `gradient`, and for a plain
        tape it is its one gradient.

        >>> import numtape as nt
        >>> x = nt.Variable([1.0, 2.0])
        >>> with nt.GradientTape() as tape:
        ...     y = nt.stack([x[0] * x[1], x[0] ** 2, x[1]])
        >>> tape.jacobian(y, x).numpy()
        array([[2., 1.],
               [2., 0.],
               [0., 1.]], dtype=float32)
        """
        zero = unconnected_option(unconnected_gradients) is UnconnectedGradients.ZERO
        return jacobian(self, target, sources, zero, parallel_iterations, experimental_use_pfor)

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: Any = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The jacobian of each example of a batch: that of `target[k]` with respect to `source[k]`, for all k.

        Shapes (batch, outs) and (batch, ins) give (batch, outs, ins); outs and ins are one or more axes each. Each
        example of the target has to depend on the same example of the source alone, since what crosses over is added
        in. That takes a gradient for each element of one example, where `jacobian` takes one for each of all. Without
        a path from target to source the result is zeros, whatever `unconnected_gradients` is. ValueError if the two
        differ in the first axis, or have no other; the other options are those of `jacobian`.

        >>> import numtape as nt
        >>> x = nt.Variable([[1.0, 2.0], [3.0, 4.0]])
        >>> with nt.GradientTape() as tape:
        ...     y = x * x
        >>> tape.batch_jacobian(y, x).numpy()
        array([[[2., 0.],
                [0., 4.]],
        <BLANKLINE>
               [[6., 0.],
                [0., 8.]]], dtype=float32)
        """
        unconnected_option(unconnected_gradients)
        return batch_jacobian(self, target, source, parallel_iterations, experimental_use_pfor)

    def _record(self, trace: Trace, targets: list[Any], sources: list[Any], seeds: list[Any] | None) -> list[Any]:
        found: list[Any]
        if self._detours:
            found = pull_back_around(self, trace, targets, sources, seeds)
            if any(g is None for g in found):
                self._unanswered = record_of(self, trace, targets, sources, self._asked(trace, targets, sources))
            return found
        try:
            outputs = targets if _all_tensors(targets) else [_value_at(t) for t in targets]
            weights = [s for s in seeds if s is not None] if seeds else []
            words = trace.key(GRADIENT, [*outputs, *weights], [], ())
            groups, ranges, watched = self._asked(trace, targets, sources)
            pattern = tuple([s is not None for s in seeds]) if seeds else len(outputs)
            key = (GRADIENT, pattern, ranges, groups, tuple(self._reads.values()), watched, words)
            node = trace.node.edges.get(key)
            if node is None:
                node = self._derive(trace, key)
        except BaseException:
            trace.retract()
            raise
        trace.node = node
        trace.next_slot = trace.tape_end = node.length
        if STATE.tapes:
            frame = caller(_getframe(2))
            trace.sites.append((node.length, frame.f_code, frame.f_lasti))
        results = node.results
        if None in results:
            found = []
            for at in results:
                found.append(None if at is None else trace.result(at))
            self._unanswered = record_of(self, trace, targets, sources, (groups, ranges, watched))
        else:
            found = trace.handles(results)
            live = trace.live
            for tensor in found:
                live.append(ref(tensor))
        return joined(found, node.extra) if node.extra else found

    def _derive(self, trace: Trace, key: tuple[Any, ...]) -> Node:
        """A new node with the gradient that a key asks for."""
        _, pattern, ranges, groups, _, watched, words = key
        has_weight = [False] * pattern if type(pattern) is int else pattern
        count = len(has_weight)
        slices: list[tuple[int, Shape]] = []

        def grow(builder: Builder, values: list[Value]) -> list[Value | None]:
            start = len(builder.instructions)
            given = iter(values[count:])
            cotangents = differentiate(
                builder,
                [v.index for v in values[:count]],
                [slots for _, *slots in groups],
                [next(given) if has else None for has in has_weight],
                pairs(ranges),
                self._starts(watched),
            )
            return split(cotangents, [slots for _, *slots in groups], start, slices)

        def finish(node: Node) -> None:
            node.extra = tuple(slices)

        return trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow, finish)

    def _asked(self, trace: Trace, targets: list[Any], sources: list[Any]) -> tuple[Any, Any, Any]:
        """What a gradient depends on: an entry of reads for each source, ranges, and what is watched."""
        reads = self._reads
        # A Variable stands for all the slots that its reads gave: behind the first of its entry.
        groups: list[tuple[int, ...]] = []
        for x in sources:
            if type(x) is Tensor:
                slot = trace.slot(x)
                groups.append(_UNREAD if slot is None else (0, slot))
            else:
                groups.append(reads.get(id(x)) or _UNREAD)
        if not _all_tensors(targets):
            for k, source in enumerate(sources):
                for t in targets:
                    if t is source:
                        slot = trace.slot(_value_at(source))
                        if slot is not None and slot not in groups[k][1:]:
                            groups[k] = (*groups[k], slot)
        ranges = (*self._ranges, self._start, trace.node.length) if self._active else self._ranges
        watched = []
        for t, n in self._watched:
            slot = trace.slot(t)
            if slot is not None:
                watched.append((n, slot))
        return tuple(groups), ranges, tuple(watched)

    def _starts(self, watched: Sequence[tuple[int, int]]) -> dict[int, int]:
        """From which instruction on each watched value counts as watched."""
        starts: dict[int, int] = {}
        for start, *slots in [*self._reads.values(), *watched]:
            for slot in slots:
                starts[slot] = min(start, starts.get(slot, start))
        return starts

    def _release(self) -> None:
        """Give up the record."""
        self._spent = True
        trace = self._trace
        if trace is not None:
            self._trace = None
            trace.holders -= 1
            self._watched = []
            self._detours = ()

    def __repr__(self) -> str:
        state = "recording" if self._active else "used" if self._spent else "ready"
        kind = "persistent" if self._persistent else "for one gradient"
        return f"<nt.GradientTape: {kind}, {state}, {len(self._variables)} Variables watched>"


_UNREAD = (0,)


def _value_at(x: Any) -> Tensor:
    return x if type(x) is Tensor else x._value


def _all_tensors(leaves: list[Any]) -> bool:
    for x in leaves:  # noqa: SIM110  much faster than `all`
        if type(x) is not Tensor:
            return False
    return True


def _flatten(structure: Any) -> list[Any]:
    """The leaves of a structure; what is differentiable in indexed slices are their values."""
    return [leaf.values if type(leaf) is IndexedSlices else leaf for leaf in nest.flatten(structure)]


def _leaves(structure: Any, role: str) -> list[Any]:
    kind = type(structure)
    leaves = structure if kind is list else [structure]
    for leaf in leaves:
        kind = type(leaf)
        if (kind is not Variable and kind is not Tensor) or not leaf._type.dtype.is_floating:
            break
    else:  # as usual
        return leaves
    leaves = _flatten(structure)
    for leaf in leaves:
        if not isinstance(leaf, Tensor | Variable):
            hint = "; a tape follows tensors, so convert it before the computation" if role == "source" else ""
            raise TypeError(f"the {role} of a gradient is a tensor or Variable, not {type(leaf).__name__}{hint}")
    for leaf in leaves:
        check_floating(leaf, role, " when calling GradientTape.gradient")
    return leaves


def check_floating(leaf: Any, role: str, when: str = "") -> None:
    global _warnings_left
    if not leaf.dtype.is_floating and _warnings_left > 0:
        import logging

        _warnings_left -= 1
        logging.getLogger("numtape").warning(
            "The dtype of the %s tensor must be floating (e.g. nt.float32)%s, got nt.%s", role, when, leaf.dtype.name
        )


def _seeds(output_gradients: Any, targets: list[Any]) -> list[Any]:
    given = nest.flatten(output_gradients)
    if len(targets) == 1 and not (len(given) == 1 and _is_tensor(given[0])):
        given = [output_gradients]  # numbers, in lists or not
    if len(given) != len(targets):
        raise ValueError(f"{len(given)} output_gradients were given for {len(targets)} targets")
    seeds = []
    for weight, target in zip(given, targets, strict=True):
        read = weight.value() if isinstance(weight, Variable) else weight  # as any other read
        seed = None if read is None else as_tensor(read, target.dtype)
        if seed is not None and seed._type is not target._type:
            raise ValueError(f"output_gradients: {seed._type.text} was given for a target of type {target._type.text}")
        seeds.append(seed)
    return seeds


def _is_tensor(x: Any) -> bool:
    return x is None or isinstance(x, Tensor | Variable | IndexedSlices | np.ndarray)


def _of_themselves(sources: list[Any], targets: list[Any], seeds: list[Any] | None) -> list[Any]:
    """The gradients on a tape without a record: only a target that is the source itself is connected."""
    found: list[Any] = [None] * len(sources)
    for k, source in enumerate(sources):
        for target, seed in zip(targets, seeds or [None] * len(targets), strict=True):
            if target is source and target.dtype.is_floating:
                part = from_numpy(np.ones(target.shape, target.dtype.dtype)) if seed is None else seed
                found[k] = part if found[k] is None else found[k] + part
    return found


def unconnected_option(option: Any) -> UnconnectedGradients:
    if type(option) is UnconnectedGradients:
        return option
    try:
        return UnconnectedGradients(option)
    except ValueError:
        raise ValueError(f"unknown value for unconnected_gradients: {option!r}; use 'none' or 'zero'") from None


def zeros(source: Any) -> Tensor:
    type: TensorType = source._type
    return from_numpy(np.zeros(type.shape, type.dtype.dtype))

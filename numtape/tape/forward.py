"""`ForwardAccumulator`: products of Jacobians with vectors, as if computed along with the values themselves.

An accumulator remembers which ranges of its trace's instructions it has yet to go through. It goes through them when a
tangent is asked for within its block, at the end of the block, and before a recording around it begins, stops or
watches: so that those which recorded an instruction record its tangent, too. Each time is one entry of the trie.
Recordings within leave the tangents out, and an accumulator its own.
"""

from __future__ import annotations

from typing import Any

from numtape import nest
from numtape.ir.program import Builder, Value
from numtape.ops.movement import same
from numtape.passes.forward import push_forward
from numtape.tape.detour import pairs
from numtape.tape.gradient_tape import UnconnectedGradients, check_floating, unconnected_option, zeros
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import as_tensor
from numtape.tape.recording import Recording
from numtape.tape.tensor import Tensor
from numtape.tape.trace import STATE, Node, Trace
from numtape.tape.variable import Variable


class _Forward:
    """Stands in keys, and in errors, where an op would."""

    name = "forward"
    groups = ("T",)


_FORWARD: Any = _Forward()


class ForwardAccumulator(Recording):
    """Compute Jacobian-vector products, by forward-mode differentiation.

    `primals` are tensors or Variables in any nesting, and `tangents`, in the same nesting, the vectors: a tensor, array
    or number for each, of its shape and dtype. What is computed from primals within the block has a tangent, the
    product of its Jacobian with the vectors. Each read of a Variable has the Variable's tangent, whatever was assigned.

    Accumulators and tapes nest. Those around an accumulator see how it computes tangents, and can differentiate that
    again; those within do not, nor does it itself. Functions with an `nt.custom_gradient` are followed through their
    operations.

    ValueError if a primal is listed twice, or if a tangent has another shape or dtype; TypeError for a primal that is
    neither a tensor nor a Variable.

    >>> import numtape as nt
    >>> x = nt.constant([1.0, 2.0])
    >>> with nt.autodiff.ForwardAccumulator(x, nt.constant([1.0, 10.0])) as acc:
    ...     y = x * x
    >>> acc.jvp(y).numpy()
    array([ 2., 40.], dtype=float32)

    The product of a Hessian with a vector, forward over reverse:

    >>> v = nt.Variable([1.0, 2.0])
    >>> with nt.autodiff.ForwardAccumulator(v, nt.constant([1.0, 0.0])) as acc:
    ...     with nt.GradientTape() as tape:
    ...         y = nt.reduce_sum(v**3.0)
    ...     backward = tape.gradient(y, v)
    >>> acc.jvp(backward).numpy()
    array([6., 0.], dtype=float32)
    """

    _kind = "accumulator"
    _pushed: tuple[Node, ...] = ()
    """Entries of the trie whose results are tangents by the slot of what they belong to."""
    _within: tuple[Node, ...] = ()
    """Such entries of the accumulators within, as far as they have not been gone through."""

    def __init__(self, primals: Any, tangents: Any) -> None:
        self._primals: dict[int, tuple[Any, Tensor]] = {}
        """By identity: a primal and its tangent."""
        self._reads: dict[int, tuple[int, ...]] = {}
        """For each primal that is a Variable: the slots that its reads gave."""
        leaves = nest.flatten(primals)
        for primal in leaves:
            if not isinstance(primal, Tensor | Variable):
                raise TypeError(f"a primal is a tensor or Variable, not {type(primal).__name__}")
        if len(set(map(id, leaves))) < len(leaves):
            raise ValueError("a primal is listed twice; list it once, with the sum of its tangents")
        nest.assert_same_structure(primals, tangents)
        for primal, tangent in zip(leaves, nest.flatten(tangents), strict=True):
            check_floating(primal, "primal")
            self._primals[id(primal)] = primal, _tangent(primal, tangent)
            if isinstance(primal, Variable):
                self._reads[id(primal)] = ()

    def jvp(self, primals: Any, unconnected_gradients: Any = UnconnectedGradients.NONE) -> Any:
        """The tangent of each tensor, within the block or after it: a tensor of its shape and dtype.

        Tensors are in any nesting, and so are the results. None for what does not depend on the accumulator's primals
        or was computed outside of its block, or zeros with `UnconnectedGradients.ZERO`. The tangent of an
        `nt.IndexedSlices` is one, too. LookupError if an op on the way has no gradient rule, or a `nt.primitive`
        without a kernel stands there; TypeError for what is neither a tensor nor a Variable; RuntimeError on another
        thread while the block runs.

        >>> import numtape as nt
        >>> x = nt.constant(3.0)
        >>> with nt.autodiff.ForwardAccumulator(x, nt.constant(1.0)) as acc:
        ...     y = {"square": x * x, "two": nt.constant(2.0)}
        >>> acc.jvp(y, unconnected_gradients="zero")["square"].numpy()
        np.float32(6.0)
        """
        unconnected = unconnected_option(unconnected_gradients)
        leaves = nest.flatten(primals)
        for leaf in leaves:
            if not isinstance(leaf, Tensor | Variable | IndexedSlices):
                raise TypeError(f"a tangent is that of a tensor or Variable, not of {type(leaf).__name__}")
        trace = self._trace
        if trace is not None:
            if self._active and self not in STATE.tapes and self._due(trace):
                raise RuntimeError("the accumulator is recording, but not here; ask it after its block")
            if trace.owner == STATE.trace.owner:
                self._push()
            else:
                trace = trace.fork()

        def tangent(x: Any) -> Any:
            if isinstance(x, IndexedSlices):
                values = tangent(x.values)
                return None if values is None else IndexedSlices(values, x.indices, x.shape)
            found = self._look_up(trace, x)
            return zeros(x) if found is None and unconnected is UnconnectedGradients.ZERO else found

        return nest.pack_sequence_as(primals, [tangent(leaf) for leaf in leaves])

    def _look_up(self, trace: Trace | None, x: Any) -> Tensor | None:
        if id(x) in self._primals:
            return self._primals[id(x)][1]
        if trace is None or type(x) is not Tensor:
            return None
        slot = trace.slot(x)
        for node in self._pushed:
            at = node.results.get(slot)
            if isinstance(at, LookupError):
                raise LookupError(*at.args)
            if at is not None:
                return trace.result(at)
        return None

    # ---- going through what was recorded ---------------------------------------------------------------------------

    def _pause(self) -> None:
        try:
            self._push_within()
            self._push()
        finally:
            super()._pause()

    def _due(self, trace: Trace) -> tuple[tuple[int, int], ...]:
        """The ranges of instructions that have not been gone through."""
        ranges = (*self._ranges, self._start, trace.node.length) if self._active else self._ranges
        return tuple([(start, stop) for start, stop in pairs(ranges) if start < stop])

    def _push(self) -> None:
        trace = self._trace
        assert trace is not None
        ranges = self._due(trace)
        if not ranges:
            return
        primals = [(self._slots(trace, primal), tangent) for primal, tangent in self._primals.values()]
        primals = [(slots, tangent) for slots, tangent in primals if slots]
        start = trace.node.length
        try:
            words = trace.key(_FORWARD, [tangent for _, tangent in primals], [], ())
            groups = tuple([slots for slots, _ in primals])
            detours = {out: (d.inputs, d.hidden) for d in self._detours if d.hidden for out in d.outputs}
            key = (_FORWARD, ranges, groups, self._pushed[-1:], self._within, tuple(detours.items()), words)
            node = trace.node.edges.get(key)
            if node is None:

                def grow(builder: Builder, seeds: list[Value]) -> dict[int, Any]:
                    earlier = [entry for n in self._pushed for entry in n.results.items()]
                    known = {s: t if isinstance(t, LookupError) else builder.value(t[0]) for s, t in earlier}
                    # A tangent is a value of its own, which is no primal even if the seed is.
                    given = {s: t for slots, t in zip(groups, map(same, seeds), strict=True) for s in slots}
                    within = [entry for n in self._within for entry in n.results.items()]
                    tangent_of = {t[0]: s for s, t in within if not isinstance(t, LookupError)}
                    found = given | push_forward(builder, ranges, known | given, detours, tangent_of)
                    return {s: t if isinstance(t, LookupError) else (t.index, t.type) for s, t in found.items()}

                edges = trace.node.edges
                node = trace.extend(key, None, words, [f"operand{k}" for k in range(len(words))], grow)
                if any(isinstance(t, LookupError) for t in node.results.values()):
                    edges.pop(key, None)  # the op may get its rule
        except BaseException:
            trace.retract()
            raise
        trace.node = node
        trace.next_slot = trace.tape_end = node.length
        self._pushed = (*self._pushed, node)
        self._ranges, self._start, self._within = (), node.length, ()
        tapes = STATE.tapes
        here = tapes.index(self) if self in tapes else len(tapes)
        for outer in tapes[:here]:
            if isinstance(outer, ForwardAccumulator):
                outer._within = (*outer._within, node)
        for inner in tapes[here + 1 :]:
            if isinstance(inner, Recording):
                inner._leave_out(start, node.length)

    def _slots(self, trace: Trace, primal: Any) -> tuple[int, ...]:
        """What of the trace has the primal's tangent."""
        if not primal.dtype.is_floating:
            return ()
        if isinstance(primal, Variable):
            return self._reads[id(primal)]
        slot = trace.slot(primal)
        return () if slot is None else (slot,)

    def _note_read(self, variable: Variable, slot: int, now: int) -> None:
        slots = self._reads.get(id(variable))
        if slots is not None and slot not in slots:
            self._reads[id(variable)] = (*slots, slot)

    def _forget_reads(self, end: int) -> None:
        for key, slots in self._reads.items():
            self._reads[key] = tuple([slot for slot in slots if slot < end])

    def __repr__(self) -> str:
        state = "recording" if self._active else "ready"
        return f"<nt.autodiff.ForwardAccumulator: {state}, {len(self._primals)} primals>"


def _tangent(primal: Any, given: Any) -> Tensor:
    if given is None:
        raise ValueError("None is no tangent; a primal without one is not listed")
    read = given.value() if isinstance(given, Variable) else given  # as any other read
    tangent = as_tensor(read, primal.dtype)
    if tangent._type is not primal._type:
        raise ValueError(f"a tangent of type {tangent._type.text} was given for a primal of type {primal._type.text}")
    return tangent

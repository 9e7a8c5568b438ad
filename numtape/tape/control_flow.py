"""TensorFlow's functions for branches and loops, on top of Python's own.

What comes in are functions and tensors in any nesting; what goes out is what the functions gave. A tape records the
calls as they happen, so that gradients flow as through an `if` or a `for`. In a function that is recorded a few turns
of a fold or a map stand for all that are like them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numtape import nest
from numtape.ops.core import PUBLIC
from numtape.tape.convert import convert_to_tensor
from numtape.tape.trace import STATE

__all__ = ["cond", "foldl", "foldr", "map_fn", "scan", "vectorized_map", "while_loop"]


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any], name: str | None = None) -> Any:
    """What one of two functions gives: `true_fn()` if `pred` holds, else `false_fn()`.

    `pred` is a bool or a tensor with a single one, which is computed now. The other function is not called. TypeError
    for what is no function.

    >>> import numtape as nt
    >>> x = nt.Variable(3.0)
    >>> with nt.GradientTape() as tape:
    ...     y = nt.cond(x > 0, lambda: x * x, lambda: -x)
    >>> tape.gradient(y, x).numpy()
    np.float32(6.0)
    """
    for which, given in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(given):
            raise TypeError(f"cond: {which} has to be a function, not {type(given).__name__}; write `lambda: ...`")
    return true_fn() if pred else false_fn()


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Sequence[Any],
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    maximum_iterations: int | None = None,
    name: str | None = None,
) -> Any:
    """The loop variables after `loop_vars = body(*loop_vars)` for as long as `cond(*loop_vars)` holds.

    At most `maximum_iterations` times, if given; of the other options none changes anything. Variables are tensors in
    any nesting, and keep their structure (else ValueError or TypeError), though not their shapes.

    >>> import numtape as nt
    >>> x = nt.Variable(3.0)
    >>> with nt.GradientTape() as tape:
    ...     _, y = nt.while_loop(lambda n, y: n < 3, lambda n, y: (n + 1, y * x), [0, 1.0])
    >>> tape.gradient(y, x).numpy()
    np.float32(27.0)
    """
    found, count = loop_vars, 0
    while (maximum_iterations is None or count < maximum_iterations) and cond(*found):
        given = body(*found)
        found = given if isinstance(given, list | tuple) else [given]
        try:
            nest.assert_same_structure(list(loop_vars), list(found))
        except (ValueError, TypeError) as error:
            raise type(error)(f"while_loop: the body has to give as many loop variables as it got; {error}") from None
        count += 1
    return nest.map_structure(convert_to_tensor, found)


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
    fn_output_signature: Any = None,
) -> Any:
    """What `fn` gives for each element along the first axis, stacked.

    `elems` is a tensor, or several in any nesting, which `fn` is given an element of each in the same nesting; what it
    gives may be nested as well. The options change nothing, since dtypes are those of the results. ValueError without
    an element, or if first axes differ.

    >>> import numtape as nt
    >>> nt.map_fn(lambda x: x * x, nt.constant([1.0, 2.0, 3.0])).numpy()
    array([1., 4., 9.], dtype=float32)
    """
    return _mapped("map_fn", fn, elems)


def vectorized_map(fn: Callable[[Any], Any], elems: Any, fallback_to_while_loop: bool = True) -> Any:
    """The same as `nt.map_fn`.

    >>> import numtape as nt
    >>> nt.vectorized_map(lambda x: x[0] * x[1], (nt.constant([1.0, 2.0]), nt.constant([3.0, 4.0]))).numpy()
    array([3., 8.], dtype=float32)
    """
    return _mapped("vectorized_map", fn, elems)


def foldl(fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, *args: Any, **options: Any) -> Any:
    """`fn(fn(fn(initializer, first), second), third)`, and so on along the first axis.

    Without `initializer` the first element is in its place. Further arguments are TensorFlow's and change nothing.

    >>> import numtape as nt
    >>> nt.foldl(lambda total, x: 10 * total + x, nt.constant([1, 2, 3])).numpy()
    np.int32(123)
    """
    return _folded("foldl", fn, elems, initializer, reverse=False, keeps=False)


def foldr(fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, *args: Any, **options: Any) -> Any:
    """`nt.foldl` from the last element on.

    >>> import numtape as nt
    >>> nt.foldr(lambda total, x: 10 * total + x, nt.constant([1, 2, 3])).numpy()
    np.int32(321)
    """
    return _folded("foldr", fn, elems, initializer, reverse=True, keeps=False)


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """All that `nt.foldl` has on its way, stacked; with `reverse` that of `nt.foldr`, from the last element on.

    The results stand at the places of their elements. ValueError if `fn` gives more or fewer tensors than it got, or
    other shapes or dtypes from turn to turn.

    >>> import numtape as nt
    >>> nt.scan(lambda total, x: total + x, nt.constant([1, 2, 3])).numpy()
    array([1, 3, 6], dtype=int32)
    """
    return _folded("scan", fn, elems, initializer, reverse, keeps=True)


class _Turns:
    """A loop that runs now, turn by turn."""

    def __init__(self, count: int, element: Callable[[int], Any]) -> None:
        self._elements = map(element, range(count))
        self._kept: list[list[Any]] = []

    def __iter__(self) -> Iterator[Any]:
        return self._elements

    def keep(self, tensors: list[Any]) -> None:
        """What this turn leaves behind."""
        self._kept.append(tensors)

    def stacked(self) -> list[Any]:
        """What all turns have left behind, each along a new first axis."""
        return [PUBLIC["stack"](list(column)) for column in zip(*self._kept, strict=True)]


def _turns(count: int, element: Callable[[int], Any]) -> Any:
    recorder = STATE.trace.recorder
    return _Turns(count, element) if recorder is None else recorder.turns(count, element)


def _mapped(name: str, fn: Callable[[Any], Any], elems: Any) -> Any:
    """What a function gives for each element, stacked."""
    count, row = _rows(name, elems)
    turns, found = _turns(count, row), None
    for element in turns:
        found = fn(element)
        turns.keep([convert_to_tensor(leaf) for leaf in nest.flatten(found)])
    return nest.pack_sequence_as(found, turns.stacked())


def _folded(name: str, fn: Callable[[Any, Any], Any], elems: Any, initializer: Any, reverse: bool, keeps: bool) -> Any:
    """The last state of a fold, or all of them stacked at the places of their elements."""
    count, row = _rows(name, elems)

    def element(k: int) -> Any:
        return row(count - 1 - k if reverse else k)

    if initializer is None:
        state, first = element(0), 1
    else:
        state, first = nest.map_structure(convert_to_tensor, initializer), 0
    start = [nest.map_structure(convert_to_tensor, state)] if first and keeps else []
    turns = _turns(count - first, lambda k: element(k + first))
    given, types = len(nest.flatten(state)), list[Any]()
    for x in turns:
        state = fn(state, x)
        if keeps:
            leaves = [convert_to_tensor(leaf) for leaf in nest.flatten(state)]
            types = _alike(name, given, types, [leaf._type for leaf in leaves])
            turns.keep(leaves)
            del leaves  # for the loop to see that nobody has those of turns before
    if not keeps:
        return state
    columns = turns.stacked()
    if start:
        firsts = [PUBLIC["expand_dims"](leaf, 0) for leaf in nest.flatten(start[0])]
        rests = columns or [None] * len(firsts)
        columns = [a if b is None else PUBLIC["concat"]([a, b], 0) for a, b in zip(firsts, rests, strict=True)]
    return nest.pack_sequence_as(state, [PUBLIC["reverse"](c, [0]) if reverse else c for c in columns])


def _alike(name: str, count: int, types_before: list[Any], types: list[Any]) -> list[Any]:
    """The types of a state of so many tensors; ValueError if they are not those of the turn before, if any."""
    if count != len(types):
        raise ValueError(
            f"{name}: the function was given {count} tensors of the turn before, and gave {len(types)} for the next; "
            "they have to be as many"
        )
    if types_before and types != types_before:
        now, then = ", ".join(map(str, types)), ", ".join(map(str, types_before))
        raise ValueError(f"{name}: the function gave {then} in one turn and {now} in the next")
    return types


def _rows(name: str, elems: Any) -> tuple[int, Callable[[int], Any]]:
    """How many elements there are along the first axes, and what gives one, in the nesting of `elems`."""
    leaves = [convert_to_tensor(leaf) for leaf in nest.flatten(elems)]
    lengths = {leaf.shape[0] if leaf.shape else 0 for leaf in leaves}
    if len(lengths) != 1 or not all(lengths):
        shapes = [leaf.shape for leaf in leaves]
        raise ValueError(f"{name}: tensors of shapes {shapes} do not have the same number of elements, 1 or more")
    return lengths.pop(), lambda k: nest.pack_sequence_as(elems, [leaf[k] for leaf in leaves])

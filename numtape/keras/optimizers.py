"""Optimizers: rules that turn gradients into new values of Variables, written with ops that fuse into the step.

One call of `apply_gradients` is one recorded entry for all Variables of a dtype. The hyperparameters are run-time
numbers: changing the learning rate compiles and records nothing new. The rules and their defaults are those of Keras.

Where a gradient is `IndexedSlices` the same rule runs on rows: those of the Variable and its slots that the indices
name are looked up, and replaced in place, so that a step costs what was gathered and not the table.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numtape._front import front
from numtape.dtypes import DType
from numtape.ir.op import Kind, Op
from numtape.ops.core import apply
from numtape.ops.elementwise import convert, maximum, minimum, pow_, sqrt
from numtape.ops.gather import look_up
from numtape.ops.movement import reshape_to
from numtape.ops.reduction import sum_
from numtape.ops.scatter import MERGE, merge, replace
from numtape.tape.gradient_tape import GradientTape
from numtape.tape.indexed_slices import IndexedSlices
from numtape.tape.operands import as_tensor
from numtape.tape.pack import Pack
from numtape.tape.tensor import EPOCH, Tensor
from numtape.tape.trace import STATE, Announced, assign, refuse_recording, unseen
from numtape.tape.variable import COPIED, PackedVariable, Variable

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]
__getattr__, __dir__ = front(__name__, __all__)

Number = Any
"""A Python number for users, a `Value` of rank 0 in a rule."""


class Optimizer:
    """What all optimizers share: the learning rate, decay of weights, and clipping of gradients.

    `learning_rate` is a finite number from 0, a scalar Variable, or a function of nothing or else of the step's number
    that returns one; it may be assigned at any time. `weight_decay` shrinks each Variable by that part times the
    learning rate before a step. At most one of `clipnorm` (the norm of each gradient), `global_clipnorm` (the norm of
    all together) and `clipvalue` (each element) bounds the gradients. A Variable that is given several times changes
    several times.

    Where a gradient is an `nt.IndexedSlices`, as that of a table from which rows were gathered, a step costs as much as
    these rows: rows of one index are added up, and then clipping, decay and the rule see them and nothing else. Plain
    `SGD` gives what it gives for the dense gradient. Whatever has slots or a `weight_decay` is *lazy*, as is
    torch.optim.SparseAdam: rows that were not gathered keep their value and their slots, where Keras moves them on at
    the cost of the whole table. To have that, give `nt.convert_to_tensor(gradient)`.

    A copy, or what is pickled and loaded again, has a state of its own, equal to this one's. One that is copied or
    pickled together with its model belongs to the model's copy; `copy.deepcopy` of it alone to the same Variables.
    """

    slots: tuple[str, ...] = ()
    """Names of what is kept for each Variable."""
    _awaiting: Any = None
    """The `Restoration` of `numtape.train` that has values for slots which are created later."""

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        self.name = name or type(self).__name__
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: there is no option {', '.join(unknown)}; "
                + ("write learning_rate" if "lr" in unknown else f"there are {', '.join(_defaults(type(self)))}")
            )
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else check(self.name, "weight_decay", weight_decay)
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {key: check(self.name, key, limit) for key, limit in limits.items() if limit is not None}
        if 0.0 in given.values():
            raise ValueError(f"{self.name}: {', '.join(given)} must be positive, got 0")
        if len(given) > 1:
            raise ValueError(f"{self.name}: only one of {', '.join(given)} can bound the gradients")
        self._clip: str = next(iter(given), "")
        self._limit: float = given.get(self._clip, 0.0)
        self._start(np.int64(0))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        EPOCH[0] += 1  # it may be a number that replays take

    @property
    def learning_rate(self) -> Any:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        if hasattr(self, "_learning_rate"):
            refuse_recording()  # a replay asks for the rate that there is when it begins
        if not callable(rate):
            check(self.name, "learning_rate", rate)
        self._learning_rate, self._rate_takes_step = rate, callable(rate) and not _takes_nothing(rate)

    @property
    def variables(self) -> list[Variable]:
        """The optimizer's own state: the step counter, then the slots of each Variable."""
        return [self.iterations, *(slot for _, slots in self._slots.values() for slot in slots)]

    def build(self, var_list: Iterable[Variable]) -> None:
        """Create the slots of Variables, which the first `apply_gradients` otherwise does."""
        for variable in var_list:
            if id(variable) not in self._slots:
                start = np.zeros(variable.shape, variable.dtype.dtype)
                self._add_slots(variable, [start] * len(self.slots))
        if self._awaiting is not None:
            self._awaiting.attach(self)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Change each Variable by its gradient; returns the step counter.

        Pairs whose gradient is None are left out with a warning; ValueError if all are. TypeError or ValueError if a
        gradient has another dtype or shape than its Variable: then nothing is changed.

        >>> import numtape as nt
        >>> x = nt.Variable(1.0)
        >>> optimizer = nt.keras.optimizers.SGD(0.1)
        >>> with nt.GradientTape() as tape:
        ...     loss = x * x
        >>> optimizer.apply_gradients([(tape.gradient(loss, x), x)])
        <nt.Variable 'iterations:0' shape=() dtype=int64, numpy=1>
        >>> x.numpy()
        np.float32(0.8)
        """
        pairs = list(grads_and_vars)
        gradients, variables, rows = _usual(pairs) or self._checked(pairs)
        groups = self._groups.get(key := tuple(map(id, variables)))
        if groups is None:
            groups = self._groups[key] = self._grouped(variables)
        rate = self._rate()
        numbers = list(self._numbers())
        if self.weight_decay is not None:
            numbers.append(self.weight_decay)
        clip = self._clip
        if clip == "global_clipnorm" and len(groups) > 1:
            gradients = list(gradients)
            for k in rows:
                gradients[k], rows[k] = apply(MERGE, [gradients[k], rows[k]], variables[k].shape[:1])
            gradients, clip = _clipped(gradients, clip, self._limit), ""
        if clip:
            numbers.append(self._limit)
        options = self._options(), self.weight_decay is not None, clip
        for group in groups:
            given = gradients if len(groups) == 1 else [*map(gradients.__getitem__, group.members)]
            own = rate if type(rate) is float else convert(rate, given[0].dtype)
            by_rows, indices = group.by_rows(rows) if rows else ((), ())
            attributes = (len(given), 1 + len(numbers), by_rows, *group.places, *options)
            live = None
            if STATE.trace.recorder is not None:
                kind = partial if callable(self._learning_rate) else Announced
                live = kind(self._live, type(rate) is float, self.weight_decay is not None, bool(clip))
            operands = [*given, own, *numbers]
            assign(group.variables, self._op, operands, indices, attributes, pack=self._pack, live=live)
        return self.iterations

    def minimize(self, loss: Any, var_list: Sequence[Variable], tape: Any = None) -> Variable:
        """Compute gradients and apply them: `loss` is a function, or a tensor recorded on `tape`.

        >>> import numtape as nt
        >>> x = nt.Variable(1.0)
        >>> _ = nt.keras.optimizers.SGD(0.25).minimize(lambda: x * x, [x])
        >>> x.numpy()
        np.float32(0.5)
        """
        if callable(loss):
            with GradientTape() as tape:
                loss = loss()
        elif tape is None:
            raise ValueError("minimize needs the tape on which the loss was recorded, or a function that computes it")
        return self.apply_gradients(zip(tape.gradient(loss, var_list), var_list, strict=True))

    # ---- what a rule says ------------------------------------------------------------------------------------------

    def _numbers(self) -> tuple[Number, ...]:
        """Hyperparameters after the learning rate, as the rule takes them."""
        return ()

    def _options(self) -> tuple[Any, ...]:
        """What changes the rule's ops, as the rule takes it."""
        return ()

    @staticmethod
    def _rule(
        g: Any, w: Any, slots: Sequence[Any], rate: Any, step: Any, numbers: Sequence[Any], options: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The new value and the new slots of one Variable; `step` counts from 1, as a float."""
        raise NotImplementedError

    # ---- how it is recorded ----------------------------------------------------------------------------------------

    def _checked(self, pairs: list[tuple[Any, Variable]]) -> tuple[Any, Any, dict[int, Any]]:
        """Gradients, Variables, and by number the indices of those gradients that are rows."""
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:  # type: ignore[redundant-expr]
                raise TypeError(f"{self.name}: apply_gradients takes pairs (gradient, Variable), not {pair!r:.60}")
            if not isinstance(pair[1], Variable):
                raise TypeError(f"{self.name}: a gradient is applied to a Variable, not {type(pair[1]).__name__}")
        kept: list[tuple[Any, Variable]] = []
        rows: dict[int, Any] = {}
        for g, variable in pairs:
            if g is None:
                continue
            if type(g) is IndexedSlices:
                self._check_rows(g, variable)
                rows[len(kept)] = g.indices
                kept.append((g.values, variable))
                continue
            gradient = g if type(g) is Tensor else as_tensor(g, variable.dtype)
            if gradient._type is not variable._type:
                kind = ValueError if gradient.shape != variable.shape else TypeError
                raise kind(
                    f"{self.name}: the gradient is {gradient._type.text}, but {variable.name} is "
                    f"{variable._type.text}; check the order of the pairs"
                )
            kept.append((gradient, variable))
        if len(kept) < len(pairs) or not pairs:
            missing = ", ".join(variable.name for g, variable in pairs if g is None)
            if not kept:
                raise ValueError(f"{self.name}: no gradients provided for any variable: {missing or 'no pairs given'}")
            warnings.warn(f"{self.name}: no gradient for {missing}; they stay as they are", stacklevel=3)
        gradients, variables = zip(*kept, strict=True)
        return gradients, variables, rows

    def _check_rows(self, g: IndexedSlices, variable: Variable) -> None:
        if g.dtype is not variable.dtype or g.shape not in (None, variable.shape):
            kind = TypeError if g.dtype is not variable.dtype else ValueError
            raise kind(
                f"{self.name}: the gradient is IndexedSlices of {g.dtype.name} for shape {g.shape}, but "
                f"{variable.name} is {variable._type.text}; check the order of the pairs"
            )
        if not variable.shape or g.indices.ndim != 1 or g.values.shape != (*g.indices.shape, *variable.shape[1:]):
            raise ValueError(
                f"{self.name}: IndexedSlices of values {g.values._type.text} and indices {g.indices._type.text} are no "
                f"rows of {variable.name}, whose shape is {variable.shape}: each index stands for one row"
            )

    def _rate(self) -> Any:
        rate = self._learning_rate
        if callable(rate):
            with unseen():  # a replay asks again
                rate = rate(self.iterations) if self._rate_takes_step else rate()
        if type(rate) is float:
            if not 0.0 <= rate < math.inf:
                check(self.name, "learning_rate", rate)
        else:
            rate = check(self.name, "learning_rate", rate)
        return rate

    def _live(self, with_rate: bool, decays: bool, clips: bool) -> list[Any]:
        """The Python numbers that a step takes, as they are now, for the replay of a function."""
        numbers = [*self._numbers(), *([self.weight_decay or 0.0] if decays else []), *([self._limit] if clips else [])]
        return [float(self._rate()), *numbers] if with_rate else numbers

    def _grouped(self, variables: Sequence[Variable]) -> list[_Group]:
        """What is assigned at once: Variables of one dtype, each once. The last group also counts the step."""
        if not variables:
            raise ValueError(f"{self.name}: no gradients provided for any variable: no pairs given")
        self.build(variables)
        times: dict[int, int] = {}
        together: dict[tuple[int, DType], list[int]] = {}
        for k, variable in enumerate(variables):
            times[id(variable)] = turn = times.get(id(variable), 0) + 1
            together.setdefault((turn, variable.dtype), []).append(k)
        groups: list[_Group] = []
        for members in together.values():
            own = [variables[k] for k in members]
            numbers = tuple(slot._number for variable in own for slot in self._slots[id(variable)][1])
            groups.append(_Group(members, own, (numbers, len(groups) == len(together) - 1)))
        return groups

    def __repr__(self) -> str:
        usual = _defaults(type(self)) | {"learning_rate": None, "name": type(self).__name__}
        held = usual | vars(self) | {"learning_rate": self._learning_rate, self._clip: self._limit}
        shown = [f"{key}={held[key]!r}" for key, default in usual.items() if repr(held[key]) != repr(default)]
        return f"<nt.keras.optimizers.{type(self).__name__}: {', '.join(shown)}>"

    # ---- copies ----------------------------------------------------------------------------------------------------

    def _start(self, iterations: Any) -> None:
        """Be without slots, after so many steps."""
        self._pack = Pack()
        """The step counter, then the slots of each Variable."""
        self.iterations = PackedVariable(self._pack, iterations, "iterations")
        self._slots: dict[int, tuple[Variable, list[PackedVariable]]] = {}
        """For each Variable itself and its slots."""
        self._groups: dict[tuple[int, ...], list[_Group]] = {}
        self._op = _update_op(type(self))

    def _add_slots(self, variable: Variable, values: Sequence[Any]) -> None:
        named = zip(self.slots, values, strict=True)
        slots = [PackedVariable(self._pack, value, f"{variable._name}/{slot}") for slot, value in named]
        self._slots[id(variable)] = variable, slots

    def __getstate__(self) -> dict[str, Any]:
        refuse_recording()  # the copy's numbers are those of this very moment
        self._pack.wait()  # else each slot would become one more result of what is pending
        kept = {name: value for name, value in vars(self).items() if name not in _STATE}
        slots = [(variable, [slot.numpy() for slot in slots]) for variable, slots in self._slots.values()]
        return kept | {"iterations": self.iterations.numpy(), "_slots": slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: value for name, value in state.items() if name not in _STATE})
        self._start(state["iterations"])
        for variable, values in state["_slots"]:
            self._add_slots(variable, values)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Optimizer:
        twin = memo[id(self)] = type(self).__new__(type(self))
        state = self.__getstate__()
        slots = [(memo.get(id(variable), variable), values) for variable, values in state.pop("_slots")]
        twin.__setstate__(copy.deepcopy(state, memo) | {"_slots": slots})
        memo.setdefault(COPIED, []).append(twin._follow)  # the model may be copied after its optimizer
        return twin

    def _follow(self, variable: Variable, copied: Variable) -> None:
        """Belong to the copy of a Variable."""
        found = self._slots.values()
        if id(variable) in self._slots:
            self._slots = {id(v): (v, slots) for own, slots in found for v in [copied if own is variable else own]}


_STATE = frozenset({"_pack", "iterations", "_slots", "_groups", "_op", "_awaiting"})
"""Attributes that a copy makes anew."""


def _defaults(kind: type[Optimizer]) -> dict[str, Any]:
    """The options that an optimizer's constructor takes, with their defaults."""
    found: dict[str, Any] = {}
    for constructor in (kind, Optimizer):
        for p in inspect.signature(constructor).parameters.values():
            if p.kind is not p.VAR_KEYWORD:
                found.setdefault(p.name, p.default)
    return found


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without an argument."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _usual(pairs: list[Any]) -> tuple[Any, Any, dict[int, Any]] | None:
    """What `_checked` gives, if each pair is a tensor and a Variable of one type: then nothing needs a closer look."""
    gradients, variables = [], []
    try:
        for g, variable in pairs:
            if type(g) is not Tensor or type(variable) is not Variable or g._type is not variable._type:
                return None
            gradients.append(g)
            variables.append(variable)
    except (TypeError, ValueError):  # no pair
        return None
    return (gradients, variables, {}) if pairs else None


@dataclass(slots=True)
class _Group:
    """Pairs, by number, that one assignment handles; `places`: the pack's numbers, and whether it counts the step."""

    members: list[int]
    variables: list[Variable]
    places: tuple[tuple[int, ...], bool]

    def by_rows(self, rows: dict[int, Any]) -> tuple[tuple[int, ...], Sequence[Any]]:
        """Which of the members are rows, by number within the group, and their indices."""
        found = [k for k, member in enumerate(self.members) if member in rows]
        return tuple(found), [rows[self.members[k]] for k in found]


_ops: dict[type[Optimizer], Op] = {}


def _update_op(kind: type[Optimizer]) -> Op:
    """The op of an optimizer's update, for any number of Variables."""
    found = _ops.get(kind)
    if found is None:
        expand: Callable[..., Any] = lambda values, attributes: _expand(kind, values, *attributes)
        found = _ops[kind] = Op(kind.__name__, Kind.COMPOSITE, ("operands",), expand=expand, groups=("T",))
    return found


def _expand(
    kind: type[Optimizer], values: Sequence[Any], count: int, number_count: int, by_rows: tuple[int, ...],
    places: tuple[int, ...], counts: bool, options: tuple[Any, ...], decays: bool, clip: str,
) -> list[Any]:  # fmt: skip
    """Operands: gradients, numbers, Variables, indices of those gradients that are rows, and the optimizer's pack."""
    gradients = list(values[:count])
    rate, *numbers = values[count : count + number_count]
    limit = numbers.pop() if clip else None
    decay = numbers.pop() if decays else None
    end = 2 * count + number_count
    variables, packed = values[end - count : end], list(values[end + len(by_rows) :])
    rows: dict[int, Any] = {}
    for k, indices in zip(by_rows, values[end:], strict=False):
        gradients[k], rows[k] = merge(gradients[k], indices, variables[k].shape[0])
    each = len(places) // count
    step = convert(packed[0] + 1, rate.dtype)
    news = []
    for k, (g, w) in enumerate(zip(_clipped(gradients, clip, limit), variables, strict=True)):
        own = places[k * each : (k + 1) * each]
        tables = [w, *(packed[n] for n in own)]
        part, *slots = [look_up(x, rows[k]) for x in tables] if k in rows else tables
        shrunk = part - part * decay * rate if decays else part
        changed = kind._rule(g, shrunk, slots, rate, step, numbers, options)
        if k in rows:
            changed = tuple([replace(x, rows[k], new) for x, new in zip(tables, changed, strict=True)])
        news.append(changed[0])
        for n, slot in zip(own, changed[1:], strict=True):
            packed[n] = slot
    if counts:
        packed[0] = packed[0] + 1
    return [*news, *packed]


def _clipped(gradients: list[Any], clip: str, limit: Any) -> list[Any]:
    if clip == "clipvalue":
        return [minimum(maximum(g, -limit), limit) for g in gradients]
    if not clip:
        return gradients
    if clip == "global_clipnorm":
        widest = max((g.dtype for g in gradients), key=lambda dtype: dtype.itemsize)
        total, *others = [_squares(convert(g, widest)) for g in gradients]
        for s in others:
            total = total + s
        squares = [convert(total, g.dtype) for g in gradients]
    else:
        squares = [_squares(g) for g in gradients]
    # Gradients within the limit stay bit for bit what they are: the factor is then exactly 1.
    return [g * (limit / maximum(sqrt(s), limit)) for g, s in zip(gradients, squares, strict=True)]


def _squares(g: Any) -> Any:
    """The sum of the squares of all elements."""
    return reshape_to(sum_(g * g, tuple(range(len(g.shape)))), ())


def check(name: str, option: str, number: Any) -> Any:
    """The number, if it is finite and not negative; tensors and Variables pass if they hold one float."""
    if isinstance(number, Tensor | Variable):
        if number.shape or not number.dtype.is_floating:
            raise ValueError(f"{name}: {option} is a single float, got {number.dtype.name}{list(number.shape)}")
        return number
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: {option} is a number, got {number!r}")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: {option} must be finite and not negative, got {number}")
    return float(number)


def fraction(name: str, option: str, number: Any) -> float:
    """The number, if it is from 0 to below 1."""
    found = float(check(name, option, number))
    if found >= 1:
        raise ValueError(f"{name}: {option} must be at least 0 and below 1, got {number}")
    return found


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    With `momentum` m and rate r: velocity = m * velocity - r * g, and w + velocity; with `nesterov`
    w + m * velocity - r * g (Sutskever et al. 2013).

    `options` are those of all optimizers: `weight_decay`, `clipnorm`, `global_clipnorm` or `clipvalue`, and `name`; see
    `nt.keras.optimizers.Optimizer`.

    >>> import numtape as nt
    >>> nt.keras.optimizers.SGD(0.1, momentum=0.9)
    <nt.keras.optimizers.SGD: learning_rate=0.1, momentum=0.9>
    """

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = check(self.name, "momentum", momentum)
        if self.momentum > 1:
            raise ValueError(f"{self.name}: momentum must be from 0 to 1, got {momentum}")
        self.nesterov = bool(nesterov)
        self.slots = ("momentum",) if self.momentum else ()

    def _numbers(self) -> tuple[Number, ...]:
        return (self.momentum,)

    def _options(self) -> tuple[Any, ...]:
        return (self.nesterov,)

    @staticmethod
    def _rule(
        g: Any, w: Any, slots: Sequence[Any], rate: Any, step: Any, numbers: Sequence[Any], options: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        if not slots:
            return (w - rate * g,)
        (momentum,), (nesterov,) = numbers, options
        velocity = momentum * slots[0] - rate * g
        return (w + momentum * velocity - rate * g if nesterov else w + velocity), velocity


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): running means of gradients and of their squares, corrected for their start.

    The correction is in the learning rate, and `epsilon` is added after it, as in section 2 of the paper.
    `amsgrad` divides by the largest second moment so far (Reddi et al. 2018).

    `options` are those of all optimizers: `weight_decay`, `clipnorm`, `global_clipnorm` or `clipvalue`, and `name`; see
    `nt.keras.optimizers.Optimizer`.

    >>> import numtape as nt
    >>> x = nt.Variable(1.0)
    >>> _ = nt.keras.optimizers.Adam(0.1).apply_gradients([(nt.constant(3.0), x)])
    >>> x.numpy().round(3)
    np.float32(0.9)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = fraction(self.name, "beta_1", beta_1)
        self.beta_2 = fraction(self.name, "beta_2", beta_2)
        self.epsilon = check(self.name, "epsilon", epsilon)
        self.amsgrad = bool(amsgrad)
        self.slots = ("m", "v", "v_hat") if self.amsgrad else ("m", "v")

    def _numbers(self) -> tuple[Number, ...]:
        return self.beta_1, self.beta_2, self.epsilon

    @staticmethod
    def _rule(
        g: Any, w: Any, slots: Sequence[Any], rate: Any, step: Any, numbers: Sequence[Any], options: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        beta_1, beta_2, epsilon = numbers
        m, v, *largest = slots
        m = m + (g - m) * (1 - beta_1)
        v = v + (g * g - v) * (1 - beta_2)
        largest = [maximum(largest[0], v)] if largest else []
        corrected = rate * (sqrt(1 - pow_(beta_2, step)) / (1 - pow_(beta_1, step)))
        return w - m * corrected / (sqrt(largest[0] if largest else v) + epsilon), m, v, *largest


class AdamW(Adam):
    """Adam with weights that decay apart from the gradient (Loshchilov and Hutter, 2019).

    `options` are those of all optimizers: `clipnorm`, `global_clipnorm` or `clipvalue`, and `name`; see
    `nt.keras.optimizers.Optimizer`.

    >>> import numtape as nt
    >>> nt.keras.optimizers.AdamW(weight_decay=0.01).weight_decay
    0.01
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class RMSprop(Optimizer):
    """Gradients divided by the root of a running mean of their squares (Hinton, 2012).

    `rho` is the mean's decay; `centered` subtracts the square of the gradients' mean; `momentum` as for SGD.

    `options` are those of all optimizers: `weight_decay`, `clipnorm`, `global_clipnorm` or `clipvalue`, and `name`; see
    `nt.keras.optimizers.Optimizer`.

    >>> import numtape as nt
    >>> x = nt.Variable(1.0)
    >>> _ = nt.keras.optimizers.RMSprop(0.1).apply_gradients([(nt.constant(3.0), x)])
    >>> x.numpy().round(4)
    np.float32(0.6838)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = fraction(self.name, "rho", rho)
        self.momentum = check(self.name, "momentum", momentum)
        self.epsilon = check(self.name, "epsilon", epsilon)
        self.centered = bool(centered)
        kept = {"velocity": True, "momentum": bool(self.momentum), "average_gradient": self.centered}
        self.slots = tuple(name for name, wanted in kept.items() if wanted)

    def _numbers(self) -> tuple[Number, ...]:
        return self.rho, self.momentum, self.epsilon

    def _options(self) -> tuple[Any, ...]:
        return self.slots

    @staticmethod
    def _rule(
        g: Any, w: Any, slots: Sequence[Any], rate: Any, step: Any, numbers: Sequence[Any], options: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        rho, momentum, epsilon = numbers
        kept = dict(zip(options, slots, strict=True))
        kept["velocity"] = velocity = kept["velocity"] * rho + g * g * (1 - rho)
        if "average_gradient" in kept:
            kept["average_gradient"] = mean = kept["average_gradient"] * rho + g * (1 - rho)
            velocity = velocity - mean * mean
        change = rate * g / sqrt(velocity + epsilon)
        if "momentum" in kept:
            kept["momentum"] = change = momentum * kept["momentum"] + change
        return (w - change, *kept.values())

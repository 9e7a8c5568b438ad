"""Functions for nopython code and for C: a program called by its address, with no Python around it.

In comes a function recorded for arguments of one kind; out comes a `NopythonFunction`, which code compiled by Numba
calls like one of its own. What the two share is an address: neither sees how the other was compiled.

A call finds all it needs in a block of words, the *control*. It claims one of the function's *slots*, each of which has
memory for one call under way; writes the addresses of arguments and results into the slot's row; and runs the program.
So any number of threads may call at once; a function that changes Variables has a single slot, and its calls wait for
each other. Where else the program reads, the values of Variables above all, stands in the row since the slot was
*refreshed*. If `EPOCH` has moved since, the call has Python refresh the slot before it goes on: it never sees an older
value than Python would. A slot holds on to the memory it reads.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir
import numba
import numpy as np
from numba import extending, types
from numba.core import cgutils
from numba.core.errors import TypingError

from numtape import nest
from numtape.backends.buffer import Buffer
from numtape.backends.native import runner
from numtape.codegen.native_calls import call_entry, words
from numtape.dtypes import TensorType
from numtape.functions.derivatives import named, value_and_gradients
from numtape.functions.direct import Direct
from numtape.functions.recording import Output
from numtape.tape.tensor import EPOCH, Tensor
from numtape.tape.trace import STATE

if TYPE_CHECKING:
    from numtape.functions.function import Function


class NopythonFunction:
    """A function that code compiled by `numba.njit` calls; made by `nt.function`'s `njit`.

    Python calls it as well, with arrays.
    """

    def __init__(self, function: Function, derived: Callable[..., Any], kinds: Sequence[TensorType]) -> None:
        """What is derived of the function, for arguments of these kinds."""
        self.__name__ = function.__name__
        self._function = function
        self._kinds = tuple(kinds)
        recorded = type(function)(named(derived, self.__name__))
        direct, _ = recorded._direct([np.zeros(kind.shape, kind.dtype.dtype) for kind in kinds])
        outputs: list[Output] = [leaf for leaf in nest.flatten(direct.result) if leaf is not None]
        self._memory = _Memory(direct, outputs, self._kinds)
        _KEPT.append(self)
        self._dispatcher = _dispatcher(self.__name__, self._memory.address, kinds, outputs, direct.result)

    def __call__(self, *arguments: Any) -> Any:
        return self._dispatcher(*arguments)

    @cached_property
    def value_and_gradient(self) -> NopythonFunction:
        """The same with its gradient: a function that gives (value, gradient).

        The value has to be a single float (ValueError). The gradient is with respect to the float arguments: an array
        or number like the argument, or a tuple of those for several; zeros for one that does not matter.
        """
        floats = [k for k, kind in enumerate(self._kinds) if kind.dtype.is_floating]
        both = value_and_gradients(self._function._plain, self.__name__, floats)

        def derived(*arguments: Any) -> Any:
            value, gradients = both(*arguments)
            return value, gradients if len(floats) > 1 else gradients[0]

        return NopythonFunction(self._function, derived, self._kinds)

    @cached_property
    def _pointer(self) -> Any:
        control = self._memory.address

        def pointer(arguments: int, results: int) -> int:
            return _call(control, arguments, results)  # type: ignore[no-any-return]

        return numba.cfunc(types.int32(types.int64, types.int64))(pointer)

    @property
    def address(self) -> int:
        """The address of a C function `int32_t f(const void *const *arguments, void *const *results)`.

        It reads each argument's elements, in C order, and writes those of each result, the value before the gradients.
        Shapes and dtypes are those it was made for; results overlap neither each other nor the arguments. It returns 0,
        or 1 if Variables could not be read. Any thread may call it, with Python's lock or without; it takes the lock
        where it has to read Variables anew, so nobody who has the lock may wait for a thread that calls.
        """
        return self._pointer.address  # type: ignore[no-any-return]

    @property
    def ctypes(self) -> Any:
        """The same for `ctypes`, which checks the arguments' types."""
        pointers = ctypes.POINTER(ctypes.c_void_p)
        return ctypes.CFUNCTYPE(ctypes.c_int32, pointers, pointers)(self.address)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.__name__}: what njit made is an address in this process; it is not pickled, and code that calls it "
            "not cached"
        )

    def __repr__(self) -> str:
        return f"<nt.function {self.__name__}, for nopython code: {', '.join(map(str, self._kinds))}>"


@extending.typeof_impl.register(NopythonFunction)  # type: ignore[untyped-decorator]
def _typeof(function: NopythonFunction, context: Any) -> Any:
    return types.Dispatcher(function._dispatcher)


_KEPT: list[NopythonFunction] = []
"""Compiled code may know the addresses for as long as the process lives, so what is there lives as long."""


# ---- memory ----------------------------------------------------------------------------------------------------------

SLOT = 8
"""Words of a slot: a cache line."""
BUSY, SEEN, READY, HEADER, ROW = range(5)
"""In a slot: whether a call is under way, the epoch of its row, whether Python could refresh it, addresses."""
SLOTS, COUNT, LIVE, NOW, ENTRY, REFRESH, PAUSE, ARGUMENTS, RESULTS, COPIES = range(10)
"""In a control: the slots' address and number; whether rows grow old, and where the epoch stands; functions; tables, of
which the first word is the length: (word of the row, argument), (word, result), (word, result, bytes)."""


class _Memory:
    """What a function's calls read and write, beside arguments and results."""

    def __init__(self, direct: Direct, outputs: Sequence[Output], kinds: Sequence[TensorType]) -> None:
        self._direct = direct
        self._arguments = [Tensor(kind, Buffer(np.empty(0))) for kind in kinds]
        self._asks = direct.has_live_numbers or direct.copies_arrays
        live = self._asks or bool(direct.variables or direct.packs)
        executable = direct.executable
        changes = bool(direct.assigned or direct.packed)
        count = 1 if changes else numba.config.NUMBA_NUM_THREADS
        self._bindings = [executable.bind() for _ in range(count)]
        self._held: list[Any] = [None] * count
        # Functions that Python's lock is taken for.
        self._refresh, self._pause = _CALLBACK(self.refresh), _CALLBACK(lambda _: time.sleep(0))
        raw = np.zeros((count + 1) * SLOT, np.int64)
        self._slots = raw[-raw.ctypes.data // 8 % SLOT :][: count * SLOT].reshape(count, SLOT)
        for slot, binding in zip(self._slots, self._bindings, strict=True):
            slot[HEADER], slot[ROW] = binding.header_address, binding.row.ctypes.data
        for k in range(count):
            self.refresh(k)
        self._tables = [np.array([len(t), *(n for row in t for n in row)], np.int64) for t in _moves(direct, outputs)]
        self._control = np.array([
            self._slots.ctypes.data, count, live, EPOCH.buffer_info()[0],
            *map(_address_of, (runner(), self._refresh, self._pause)),
            *(table.ctypes.data for table in self._tables),
        ], np.int64)  # fmt: skip
        self.address: int = self._control.ctypes.data

    def refresh(self, k: int) -> None:
        """Write into a slot's row where everything is now; the slot is not in use."""
        slot, binding, direct = self._slots[k], self._bindings[k], self._direct
        self._held[k] = None  # what only this slot held may be changed in place
        STATE.trace.materialize()
        now = EPOCH[0]
        inputs, numbers = direct.gather(self._arguments, bound=True)
        direct.keep(inputs)
        direct.executable.write(binding, [*inputs, *binding.results], numbers)
        self._held[k] = inputs
        slot[SEEN] = -1 if self._asks else now
        slot[READY] = 1


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int64)


def _address_of(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _moves(direct: Direct, outputs: Sequence[Output]) -> tuple[Any, Any, Any]:
    """Which words of the row are addresses of arguments and of results, and what is to be copied into results: from
    where a word says, or from a word itself, whose complement is given."""
    executable = direct.executable
    arguments = [(k, direct.arguments[at]) for k, at in enumerate(direct.sources) if at < len(direct.arguments)]
    news = range(executable.array_count, executable.array_count + len(executable.new))
    results: dict[int, int] = {}
    copies = []
    for k, output in enumerate(outputs):
        word = direct.words[direct.place[output.slot]]
        if word in news and word not in results:
            results[word] = k
        else:
            copies.append((word if word < news.stop else ~word, k, output.type.nbytes))
    return arguments, results.items(), copies


# ---- in nopython code ------------------------------------------------------------------------------------------------


@extending.intrinsic  # type: ignore[untyped-decorator]
def _claim(context: Any, pointer: Any, k: Any) -> Any:
    """Make a word 1; whether it was 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero, one = ir.Constant(_WORD, 0), ir.Constant(_WORD, 1)
        found = builder.cmpxchg(builder.gep(arguments[0], [arguments[1]]), zero, one, "acquire", "monotonic")
        return builder.extract_value(found, 1)

    return types.boolean(_POINTER, types.int64), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _release(context: Any, pointer: Any, k: Any) -> Any:
    """Make a word 0 again, behind all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(ir.Constant(_WORD, 0), builder.gep(arguments[0], [arguments[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(_POINTER, types.int64), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _copy(context: Any, to: Any, source: Any, nbytes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, source = (builder.inttoptr(a, cgutils.voidptr_t) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _cell(context: Any, value: Any) -> Any:
    """The address of memory on the stack that holds a value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.get_value_as_data(builder, signature.args[0], arguments[0])
        return builder.ptrtoint(cgutils.alloca_once_value(builder, data), _WORD)

    return types.int64(value), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _fetch(context: Any, address: Any, like: Any) -> Any:
    """What the memory at an address holds, of the type of another value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.return_type
        pointer = builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer())
        return context.unpack_value(builder, kind, pointer)

    return like(types.int64, like), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _data(context: Any, array: Any) -> Any:
    """The address of an array's elements."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(struct.data, _WORD)

    return types.int64(array), generate


@extending.intrinsic  # type: ignore[untyped-decorator]
def _hold(context: Any, values: Any) -> Any:
    """Nothing; but values live up to here."""
    return types.void(values), lambda context, builder, signature, arguments: context.get_dummy_value()


@extending.intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _known(context: Any, address: Any) -> Any:
    """An address of this process, so that Numba refuses to cache what uses it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.add_dynamic_addr(builder, signature.args[0].literal_value, info="numtape")
        return builder.ptrtoint(found, _WORD)

    return types.int64(address), generate


_WORD, _POINTER = ir.IntType(64), types.CPointer(types.int64)


@numba.njit(types.int32(types.int64, types.int64, types.int64))  # type: ignore[untyped-decorator]
def _call(control_address: int, argument_addresses: int, result_addresses: int) -> int:
    """Run a function on arguments and results whose addresses stand at these addresses; 0, or 1 if it cannot."""
    control, arguments, results = words(control_address), words(argument_addresses), words(result_addresses)
    slots, count = words(control[SLOTS]), control[COUNT]
    tries = slot = 0
    while not _claim(slots, slot + BUSY):
        tries += 1
        slot = SLOT * (tries % count)
        if tries % 4096 == 0:  # whoever is at work may be waiting for Python's lock, which this thread may have
            call_entry(control[PAUSE], 0)
    slots[slot + READY] = 1
    if control[LIVE] and slots[slot + SEEN] != words(control[NOW])[0]:
        slots[slot + READY] = 0
        call_entry(control[REFRESH], slot // SLOT)
    ready: int = slots[slot + READY]
    if ready:
        row = words(slots[slot + ROW])
        table = words(control[ARGUMENTS])
        for k in range(table[0]):
            row[table[2 * k + 1]] = arguments[table[2 * k + 2]]
        table = words(control[RESULTS])
        for k in range(table[0]):
            row[table[2 * k + 1]] = results[table[2 * k + 2]]
        call_entry(control[ENTRY], slots[slot + HEADER])
        table = words(control[COPIES])
        for k in range(table[0]):
            word = table[3 * k + 1]
            source = row[word] if word >= 0 else _cell(row[~word])
            _copy(results[table[3 * k + 2]], source, table[3 * k + 3])
    _release(slots, slot + BUSY)
    return 1 - ready


# ---- what Numba calls ------------------------------------------------------------------------------------------------


def _dispatcher(name: str, control: int, kinds: Sequence[TensorType], outputs: Sequence[Output], structure: Any) -> Any:
    """The function for Numba."""
    parameters = ", ".join(f"x{k}" for k in range(len(kinds)))

    def stub(*arguments: Any) -> Any:
        raise NotImplementedError

    def choose(*given: Any) -> Any:
        lines = [f"def implementation({parameters}):"]
        for k, (kind, x) in enumerate(zip(kinds, given, strict=True)):
            lines += _take(name, k, kind, x)
        for k, output in enumerate(outputs):
            lines += _give(k, output.type)
        arguments = "_cell(({},))".format(", ".join(f"p{k}" for k in range(len(kinds)))) if kinds else "0"
        results = "_cell(({},))".format(", ".join(f"q{k}" for k in range(len(outputs)))) if outputs else "0"
        texts = iter([
            f"r{k}" if output.type.rank else f"_fetch(q{k}, {_constructor(output.type)}(0))"
            for k, output in enumerate(outputs)
        ])  # fmt: skip
        found = ["None" if leaf is None else next(texts) for leaf in nest.flatten(structure)]
        lines += [
            f"    status = _call(_known({control}), {arguments}, {results})",
            *[f"    _hold(a{k})" for k in range(len(kinds))],
            f'    if status: raise RuntimeError("{name}: its Variables could not be read; see what Python printed")',
            f"    return {_nested(nest.pack_sequence_as(structure, found))}",
        ]
        return _defined("\n".join(lines), "implementation")

    namespace = {"choose": choose, "stub": stub}
    head = f"def {name if name.isidentifier() else 'function'}({parameters}):\n    return stub({parameters})\n"
    extending.overload(stub, strict=False)(
        _defined(f"def typed({parameters}): return choose({parameters})", "typed", namespace)
    )
    made = _defined(head, name if name.isidentifier() else "function", namespace)
    return numba.njit(nogil=True)(made)


def _take(name: str, k: int, kind: TensorType, given: Any) -> list[str]:
    """The address p of an argument's elements, and what holds them, a."""
    number = _NUMBERS[kind.dtype.code]
    shape = repr(tuple(kind.shape))
    if isinstance(given, types.Array) and (given.dtype, given.ndim) == (number, kind.rank):
        lines = [] if given.layout == "C" else [f"    x{k} = x{k}.copy()"]
        if kind.rank:
            text = f"{name}: argument {k} has another shape than {shape}, for which the function was made"
            lines = [f'    if x{k}.shape != {shape}: raise ValueError("{text}")', *lines]
        return [*lines, f"    a{k}, p{k} = x{k}, _data(x{k})"]
    is_number = isinstance(given, types.Number | types.Boolean) and not isinstance(given, types.Complex)
    if not kind.rank and is_number and _KINDS.index(_kind(given)) <= _KINDS.index(_kind(number)):
        lines = [f"    a{k} = {_constructor(kind)}(x{k})"]
        if kind.dtype.is_integer:
            lines.append(f'    if a{k} != x{k}: raise ValueError("{name}: argument {k} is out of range for {number}")')
        return [*lines, f"    p{k} = _cell(a{k})"]
    raise TypingError(f"{name}: argument {k} has to be {kind.dtype.name} of shape {shape}, not {given}")


def _give(k: int, kind: TensorType) -> list[str]:
    """The address q of memory for a result, and the result, r."""
    if kind.rank:
        return [f"    r{k} = np.empty({kind.shape}, np.{kind.dtype.dtype.name})", f"    q{k} = _data(r{k})"]
    return [f"    q{k} = _cell({_constructor(kind)}(0))"]


def _nested(structure: Any) -> str:
    """Texts in any nesting as the text of tuples."""
    if isinstance(structure, str):
        return structure
    items = structure.values() if isinstance(structure, Mapping) else structure
    return "({})".format("".join(f"{_nested(item)}, " for item in items))


def _constructor(kind: TensorType) -> str:
    return f"np.{kind.dtype.dtype.type.__name__}"


def _defined(source: str, name: str, namespace: dict[str, Any] | None = None) -> Any:
    scope = globals() | (namespace or {})
    exec(compile(source, f"<nt.function {name}>", "exec"), scope)
    return scope[name]


_NUMBERS = {
    "f32": types.float32, "f64": types.float64, "i8": types.int8, "i16": types.int16, "i32": types.int32,
    "i64": types.int64, "u8": types.uint8, "u16": types.uint16, "u32": types.uint32, "u64": types.uint64,
    "b1": types.boolean,
}  # fmt: skip
_KINDS = (types.Boolean, types.Integer, types.Float)
"""A number becomes one of a later kind, and none of an earlier."""


def _kind(number: Any) -> Any:
    return next(kind for kind in _KINDS if isinstance(number, kind))

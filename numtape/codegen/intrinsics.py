"""What a generated kernel may call, as Numba intrinsics that write LLVM instructions into the kernel itself.

The functions of `numtape.codegen.vector_math` are evaluated here with LLVM values, so that compiled and plain
kernels share one algorithm; the other names complete them (`numtape.codegen.plain` has the counterparts for
plain Python, and states what each does). Arguments of one call have one type; nothing is promoted. An algorithm
becomes one function of the kernel's module, however often it is called.

Numba gives its own fast-math flags to every floating-point instruction that carries none, and those would
break argument reductions and signed zeros. Hence every instruction here carries a flag: `contract` where a
product and a sum may fuse, and elsewhere one that means nothing to the instruction (`arcp` only concerns
divisions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numtape.codegen.threefry import mixed
from numtape.codegen.vector_math import ALGORITHMS

_EXACT, _EXACT_DIVISION, _FUSE, _REORDER = (
    ("arcp",),
    ("contract",),
    ("contract",),
    ("reassoc", "nsz", "contract"),
)


class LlvmNumber:
    """An LLVM value with Python's operators; Python numbers beside it become constants of its type."""

    __slots__ = ("builder", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def is_real(self) -> bool:
        return not isinstance(self.value.type, ir.IntType)

    def like(self, other: Any) -> ir.Value:
        """The other operand as an LLVM value of this type."""
        return other.value if isinstance(other, LlvmNumber) else ir.Constant(self.value.type, other)

    def _binary(self, name: str, other: Any, swap: bool = False) -> LlvmNumber:
        a, b = self.value, self.like(other)
        if swap:
            a, b = b, a
        if self.is_real:
            flags = _EXACT_DIVISION if name == "div" else _EXACT
            return LlvmNumber(self.builder, getattr(self.builder, f"f{name}")(a, b, flags=flags))
        return LlvmNumber(self.builder, getattr(self.builder, name)(a, b))

    def __add__(self, other: Any) -> LlvmNumber:
        return self._binary("add", other)

    def __sub__(self, other: Any) -> LlvmNumber:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> LlvmNumber:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Any) -> LlvmNumber:
        return self._binary("mul", other)

    def __truediv__(self, other: Any) -> LlvmNumber:
        return self._binary("div", other)

    def __rtruediv__(self, other: Any) -> LlvmNumber:
        return self._binary("div", other, swap=True)

    def __and__(self, other: Any) -> LlvmNumber:
        return self._binary("and_", other)

    def __or__(self, other: Any) -> LlvmNumber:
        return self._binary("or_", other)

    def __xor__(self, other: Any) -> LlvmNumber:
        return self._binary("xor", other)

    def __lshift__(self, other: int) -> LlvmNumber:
        return self._binary("shl", other)

    def __rshift__(self, other: int) -> LlvmNumber:
        return self._binary("lshr", other)

    def __neg__(self) -> LlvmNumber:
        return LlvmNumber(self.builder, self.builder.fneg(self.value))

    def _compare(self, operator: str, other: Any) -> LlvmNumber:
        b = self.builder
        if not self.is_real:
            return LlvmNumber(b, b.icmp_signed(operator, self.value, self.like(other)))
        compare = b.fcmp_unordered if operator == "!=" else b.fcmp_ordered
        return LlvmNumber(b, compare(operator, self.value, self.like(other), flags=_EXACT))

    def __lt__(self, other: Any) -> LlvmNumber:
        return self._compare("<", other)

    def __gt__(self, other: Any) -> LlvmNumber:
        return self._compare(">", other)

    def __le__(self, other: Any) -> LlvmNumber:
        return self._compare("<=", other)

    def __ge__(self, other: Any) -> LlvmNumber:
        return self._compare(">=", other)

    def __eq__(self, other: object) -> LlvmNumber:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> LlvmNumber:  # type: ignore[override]
        return self._compare("!=", other)


class LlvmArithmetic:
    """The interpreter that writes instructions: `multiply_add` fuses where the machine can."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder = builder
        self.width = width
        self.mantissa, self.bias = (23, 127) if width == 32 else (52, 1023)
        self.magic = 1.5 * 2.0**self.mantissa
        self._real = ir.FloatType() if width == 32 else ir.DoubleType()
        self._integer = ir.IntType(width)

    def number(self, value: ir.Value) -> LlvmNumber:
        return LlvmNumber(self.builder, value)

    def _value(self, x: Any) -> ir.Value:
        return x.value if isinstance(x, LlvmNumber) else ir.Constant(self._real, x)

    def bits(self, x: LlvmNumber) -> LlvmNumber:
        return self.number(self.builder.bitcast(x.value, self._integer))

    def real(self, i: LlvmNumber) -> LlvmNumber:
        return self.number(self.builder.bitcast(i.value, self._real))

    def select(self, condition: LlvmNumber, a: Any, b: Any) -> LlvmNumber:
        return self.number(self.builder.select(condition.value, self._value(a), self._value(b)))

    def multiply_add(self, a: Any, b: Any, c: Any) -> LlvmNumber:
        product = self.builder.fmul(self._value(a), self._value(b), flags=_FUSE)
        return self.number(self.builder.fadd(product, self._value(c), flags=_FUSE))

    def absolute(self, x: LlvmNumber) -> LlvmNumber:
        return self.real(self.bits(x) & ((1 << (self.width - 1)) - 1))

    def copy_sign(self, magnitude: LlvmNumber, sign: LlvmNumber) -> LlvmNumber:
        return self.real(self.bits(self.absolute(magnitude)) | (self.bits(sign) & -(1 << (self.width - 1))))

    def square_root(self, x: LlvmNumber) -> LlvmNumber:
        return self.number(_call(self.builder, "llvm.sqrt", x.value))

    def double(self) -> LlvmArithmetic:
        return LlvmArithmetic(self.builder, 64)

    def widen(self, x: LlvmNumber) -> LlvmNumber:
        return self.number(self.builder.fpext(x.value, ir.DoubleType()))

    def narrow(self, x: LlvmNumber) -> LlvmNumber:
        if x.is_real:
            return self.number(self.builder.fptrunc(x.value, self._real))
        return self.number(self.builder.trunc(x.value, self._integer))


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    """A call of an LLVM intrinsic on operands of one type."""
    t = arguments[0].type
    kind = ir.FunctionType(t, [t] * len(arguments))
    return builder.call(builder.module.declare_intrinsic(name, [t], kind), arguments)


# ---- from an emitter to an intrinsic -----------------------------------------------------------------------

NumbaType = Any
Emitter = Callable[..., ir.Value]
"""Takes the builder, the Numba type of the last argument, and the arguments; gives the result."""

INTRINSICS: dict[str, Any] = {}
"""Every intrinsic by name: the globals of a generated kernel."""


def _is_real(t: NumbaType) -> bool:
    return t in (types.float32, types.float64)


def _is_integer(t: NumbaType) -> bool:
    return isinstance(t, types.Integer)


def _is_number(t: NumbaType) -> bool:
    return _is_real(t) or _is_integer(t)


def _is_element(t: NumbaType) -> bool:
    return _is_number(t) or t == types.boolean


def _define(
    name: str,
    arity: int,
    accepts: Callable[[NumbaType], bool],
    emit: Emitter,
    result: NumbaType | None = None,
) -> None:
    """Add an intrinsic of `arity` arguments of one type that `accepts` takes."""

    def resolve(*given: NumbaType) -> Any:
        t = given[-1]
        operands = given[1:] if name == "select" else given
        if any(other != t for other in operands) or not accepts(t):
            return None

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            return emit(builder, t, *values)

        return signature(result or t, *given), generate

    # Numba reads the number of arguments from the signature.
    typed = (
        lambda typing_context, x: resolve(x),
        lambda typing_context, x, y: resolve(x, y),
        lambda typing_context, x, y, z: resolve(x, y, z),
    )[arity - 1]
    typed.__name__ = typed.__qualname__ = name
    INTRINSICS[name] = intrinsic(typed)


PREFIX = "nt."
"""What the names of functions that algorithms become begin with."""


def _define_algorithm(name: str) -> None:
    def emit(builder: ir.IRBuilder, t: NumbaType, *values: ir.Value) -> ir.Value:
        module, symbol = builder.module, f"{PREFIX}{name}.{t}"
        function = module.globals.get(symbol)
        if function is None:
            kind = values[0].type
            function = ir.Function(module, ir.FunctionType(kind, [kind] * len(values)), symbol)
            function.linkage = "internal"
            inner = ir.IRBuilder(function.append_basic_block())
            m = LlvmArithmetic(inner, t.bitwidth)
            inner.ret(ALGORITHMS[name].text(m, *map(m.number, function.args)).value)
        return builder.call(function, values)

    _define(name, ALGORITHMS[name].arity, _is_real, emit)


for _name in ALGORITHMS:
    _define_algorithm(_name)


# ---- rounding, classes, signs ------------------------------------------------------------------------------

for _name, _llvm in (
    ("sqrt", "llvm.sqrt"), ("floor", "llvm.floor"), ("ceil", "llvm.ceil"), ("rint", "llvm.rint"),
):  # fmt: skip
    _define(_name, 1, _is_real, lambda b, t, x, llvm=_llvm: _call(b, llvm, x))


def _fabs(b: ir.IRBuilder, t: NumbaType, x: ir.Value) -> ir.Value:
    if _is_real(t):
        m = LlvmArithmetic(b, t.bitwidth)
        return m.absolute(m.number(x)).value
    if not t.signed:
        return x
    return b.select(b.icmp_signed("<", x, x.type(0)), b.neg(x), x)


def _copysign(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> ir.Value:
    m = LlvmArithmetic(b, t.bitwidth)
    return m.copy_sign(m.number(x), m.number(y)).value


def _is_nan(b: ir.IRBuilder, t: NumbaType, x: ir.Value) -> ir.Value:
    return b.fcmp_unordered("uno", x, x, flags=_EXACT) if _is_real(t) else _TRUTH(0)


def _is_infinite(b: ir.IRBuilder, t: NumbaType, x: ir.Value) -> ir.Value:
    if not _is_real(t):
        return _TRUTH(0)
    return b.fcmp_ordered("==", _fabs(b, t, x), x.type(float("inf")), flags=_EXACT)


def _is_finite(b: ir.IRBuilder, t: NumbaType, x: ir.Value) -> ir.Value:
    if not _is_real(t):
        return _TRUTH(1)
    return b.fcmp_ordered("<", _fabs(b, t, x), x.type(float("inf")), flags=_EXACT)


_TRUTH = ir.IntType(1)

_define("fabs", 1, _is_number, _fabs)
_define("copysign", 2, _is_real, _copysign)
_define("isnan", 1, _is_element, _is_nan, types.boolean)
_define("isinf", 1, _is_element, _is_infinite, types.boolean)
_define("isfinite", 1, _is_element, _is_finite, types.boolean)

# ---- choice and accumulation -------------------------------------------------------------------------------


def _extreme(real: str, signed: str, unsigned: str) -> Emitter:
    def emit(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> ir.Value:
        return _call(b, real if _is_real(t) else signed if _is_integer(t) and t.signed else unsigned, x, y)

    return emit


def _accumulate(operation: str) -> Emitter:
    def emit(b: ir.IRBuilder, t: NumbaType, accumulator: ir.Value, x: ir.Value) -> ir.Value:
        if _is_real(t):
            return getattr(b, f"f{operation}")(accumulator, x, flags=_REORDER)
        return getattr(b, operation)(accumulator, x)

    return emit


_define("maximum", 2, _is_element, _extreme("llvm.maximum", "llvm.smax", "llvm.umax"))
_define("minimum", 2, _is_element, _extreme("llvm.minimum", "llvm.smin", "llvm.umin"))
_define("add_reassoc", 2, _is_number, _accumulate("add"))
_define("mul_reassoc", 2, _is_number, _accumulate("mul"))
_define("select", 3, _is_element, lambda b, t, condition, x, y: b.select(condition, x, y))

# ---- division and powers -----------------------------------------------------------------------------------


def _divide(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quotient rounded down, remainder with the divisor's sign; integers by zero give 0, 0 as in NumPy."""
    if _is_real(t):
        return _divide_reals(b, t, x, y)
    zero, one = x.type(0), x.type(1)
    by_zero = b.icmp_unsigned("==", y, zero)
    if not t.signed:
        divisor = b.select(by_zero, one, y)
        return b.select(by_zero, zero, b.udiv(x, divisor)), b.urem(x, divisor)
    # The least integer divided by -1 overflows, and traps on x86: NumPy wraps around, as division by 1 does.
    least = b.icmp_signed("==", x, x.type(-(1 << (t.bitwidth - 1))))
    overflows = b.and_(least, b.icmp_signed("==", y, x.type(-1)))
    divisor = b.select(b.or_(by_zero, overflows), one, y)
    quotient, remainder = b.sdiv(x, divisor), b.srem(x, divisor)
    inexact = b.icmp_signed("!=", remainder, zero)
    down = b.and_(inexact, b.icmp_signed("<", b.xor(remainder, divisor), zero))
    quotient = b.select(down, b.sub(quotient, one), quotient)
    return b.select(by_zero, zero, quotient), b.select(down, b.add(remainder, divisor), remainder)


def _divide_reals(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    m = LlvmArithmetic(b, t.bitwidth)
    a, d = m.number(x), m.number(y)
    r = m.number(b.frem(x, y, flags=_EXACT_DIVISION))
    opposite = (r != 0.0) & ((r < 0.0) ^ (d < 0.0))
    whole = (a - r) / d
    whole = m.select(opposite, whole - 1.0, whole)
    down = m.number(_call(b, "llvm.floor", whole.value))
    near = m.select(whole - down > 0.5, down + 1.0, down)
    quotient = m.select(whole == 0.0, m.copy_sign(whole, a / d), near)
    remainder = m.select(opposite, r + d, m.select(r == 0.0, m.copy_sign(r, d), r))
    return m.select(d == 0.0, a / d, quotient).value, remainder.value


def _power(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> ir.Value:
    return _call(b, "llvm.pow", x, y) if _is_real(t) else _integer_power(b, t, x, y)


def _integer_power(b: ir.IRBuilder, t: NumbaType, x: ir.Value, y: ir.Value) -> ir.Value:
    """By squaring, modulo 2**width."""
    zero, one = x.type(0), x.type(1)
    entry = b.block
    loop, done = b.append_basic_block("power"), b.append_basic_block("power.done")
    b.branch(loop)
    b.position_at_end(loop)
    exponent, square, product = b.phi(x.type), b.phi(x.type), b.phi(x.type)
    odd = b.trunc(exponent, _TRUTH)
    next_product = b.select(odd, b.mul(product, square), product)
    next_exponent = b.lshr(exponent, one)
    for phi, start, following in (
        (exponent, y, next_exponent), (square, x, b.mul(square, square)), (product, one, next_product),
    ):  # fmt: skip
        phi.add_incoming(start, entry)
        phi.add_incoming(following, loop)
    b.cbranch(b.icmp_unsigned("!=", next_exponent, zero), loop, done)
    b.position_at_end(done)
    if not t.signed:
        return next_product
    # The reciprocal of an integer, rounded towards zero: 1 and -1 are their own, all others have none.
    unit = b.or_(b.icmp_signed("==", x, one), b.icmp_signed("==", x, x.type(-1)))
    reciprocal = b.select(unit, b.select(b.trunc(y, _TRUTH), x, one), zero)
    return b.select(b.icmp_signed("<", y, zero), reciprocal, next_product)


_define("floordiv", 2, _is_number, lambda b, t, x, y: _divide(b, t, x, y)[0])
_define("floormod", 2, _is_number, lambda b, t, x, y: _divide(b, t, x, y)[1])
_define("pow", 2, _is_number, _power)

# ---- random numbers ----------------------------------------------------------------------------------------


def _random_bits(b: ir.IRBuilder, t: NumbaType, stream: ir.Value, call: ir.Value, index: ir.Value) -> ir.Value:
    """64 bits, as `numtape.codegen.threefry.random_bits` has them."""
    word = ir.IntType(32)

    def split(x: ir.Value) -> tuple[LlvmNumber, LlvmNumber]:
        return LlvmNumber(b, b.trunc(x, word)), LlvmNumber(b, b.trunc(b.lshr(x, x.type(32)), word))

    low, high = mixed(split, stream, call, index)
    return b.or_(b.shl(b.zext(high.value, index.type), index.type(32)), b.zext(low.value, index.type))


_define("random_bits", 3, lambda t: t == types.uint64, _random_bits)

globals().update(INTRINSICS)
__all__ = list(INTRINSICS)

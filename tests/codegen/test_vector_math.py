"""The elementary functions against mpmath, as NumPy computes them and as a vectorized kernel does."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numba.core import compiler, types
from numba.core.cpu_options import FastMathOptions
from numba.core.registry import cpu_target

from numtape.codegen import intrinsics, vector_math
from numtape.codegen.plain import PLAIN

REALS = (np.float32, np.float64)

REFERENCES: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "erfc": lambda x: mpmath.erfc(max(min(x, 200), -200)),  # mpmath overflows beyond
}
BOUNDS = {
    "exp": 1.1, "exp2": 1.2, "expm1": 1.6, "log": 0.9, "log2": 1.8, "log1p": 0.9, "tanh": 1.5, "sinh": 1.7,
    "cosh": 1.5, "sigmoid": 1.9, "softplus": 1.6, "asinh": 1.7, "acosh": 2.1, "atanh": 1.7, "erf": 1.5,
    "erfc": 3.0, "sin": 0.9, "cos": 0.9, "tan": 2.3, "atan": 1.9, "asin": 2.0, "acos": 1.2,
}  # fmt: skip
"""The worst error allowed, in units in the last place."""
DOMAINS = {
    "log": (0, np.inf), "log2": (0, np.inf), "log1p": (-1, np.inf), "acosh": (1, np.inf), "asin": (-1, 1),
    "acos": (-1, 1), "atanh": (-1, 1),
}  # fmt: skip
CIRCULAR = {real: vector_math.CIRCULAR_LIMIT[8 * real().itemsize] for real in REALS}
INF, NAN = np.inf, np.nan
# Results at the infinities, -0.0 and outside of the domain.
SPECIAL = {
    "exp": [(INF, INF), (-INF, 0.0), (1000.0, INF), (-1000.0, 0.0), (0.0, 1.0)],
    "expm1": [(INF, INF), (-INF, -1.0), (1000.0, INF), (-1000.0, -1.0), (-0.0, -0.0)],
    "log": [(INF, INF), (-INF, NAN), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (1.0, 0.0)],
    "log1p": [(INF, INF), (-INF, NAN), (-1.0, -INF), (-2.0, NAN), (-0.0, -0.0)],
    "tanh": [(INF, 1.0), (-INF, -1.0), (-0.0, -0.0), (1000.0, 1.0)],
    "sigmoid": [(INF, 1.0), (-INF, 0.0), (1000.0, 1.0), (-1000.0, 0.0), (0.0, 0.5)],
    "softplus": [(INF, INF), (-INF, 0.0), (1000.0, 1000.0), (-1000.0, 0.0)],
    "erf": [(INF, 1.0), (-INF, -1.0), (-0.0, -0.0)],
    "sin": [(INF, NAN), (-INF, NAN), (-0.0, -0.0)],
    "cos": [(INF, NAN), (-INF, NAN), (0.0, 1.0), (-0.0, 1.0)],
    "tan": [(INF, NAN), (-INF, NAN), (-0.0, -0.0)],
    "exp2": [(INF, INF), (-INF, 0.0), (10.0, 1024.0), (-1e9, 0.0), (1e9, INF), (-0.0, 1.0)],
    "log2": [(INF, INF), (-INF, NAN), (0.0, -INF), (-1.0, NAN), (8.0, 3.0), (2.0**-140, -140.0)],
    "sinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0), (1000.0, INF), (-1000.0, -INF)],
    "cosh": [(INF, INF), (-INF, INF), (0.0, 1.0), (-0.0, 1.0), (-1000.0, INF)],
    "asinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0)],
    "acosh": [(INF, INF), (-INF, NAN), (1.0, 0.0), (0.5, NAN), (-2.0, NAN), (-1e30, NAN)],
    "atanh": [(1.0, INF), (-1.0, -INF), (1.5, NAN), (-1.5, NAN), (1e30, NAN), (INF, NAN), (-0.0, -0.0)],
    "erfc": [(INF, 0.0), (-INF, 2.0), (0.0, 1.0), (-0.0, 1.0), (1000.0, 0.0), (-1000.0, 2.0)],
    "atan": [(INF, np.pi / 2), (-INF, -np.pi / 2), (-0.0, -0.0), (1.0, np.pi / 4)],
    "asin": [(1.0, np.pi / 2), (-1.0, -np.pi / 2), (1.5, NAN), (-INF, NAN), (-0.0, -0.0)],
    "acos": [(1.0, 0.0), (-1.0, np.pi), (1.5, NAN), (-INF, NAN), (0.0, np.pi / 2)],
}

unary = pytest.mark.parametrize("name", [n for n, f in vector_math.ALGORITHMS.items() if f.arity == 1])
real = pytest.mark.parametrize("real", REALS)


def native_code(source: str, pointers: tuple[Any, ...]) -> Any:
    """What Numba makes of a kernel over pointers and an extent, with the flags of the project's kernels."""
    scope = dict(intrinsics.INTRINSICS)
    exec(source, scope)
    flags = compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.noalias = True
    flags.error_model, flags.fastmath = "numpy", FastMathOptions({"contract", "nsz"})
    return compiler.compile_extra(
        cpu_target.typing_context, cpu_target.target_context, scope["kernel"], (*pointers, types.int64),
        types.void, flags, {},
    )  # fmt: skip


def compiled(expression: str, arguments: tuple[Any, ...], result: Any) -> tuple[Any, str]:
    """A loop that fills `out`: its callable and its LLVM text."""
    names = ", ".join(f"x{k}" for k in range(len(arguments)))
    pointers = tuple(types.CPointer(t) for t in (result, *arguments))
    source = f"def kernel(out, {names}, n):\n    for i in range(n):\n        out[i] = {expression}"
    done = native_code(source, pointers)
    address = done.library.get_pointer_to_function(done.fndesc.llvm_func_name)
    pointer = ctypes.c_void_p
    native = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer, *[pointer] * len(pointers), ctypes.c_int64)(
        address
    )
    status = (ctypes.c_byte * 64)()

    def run(*arrays: Any) -> Any:
        out = np.empty(arrays[0].shape, str(result))
        native(
            ctypes.addressof(status), ctypes.addressof(status) + 32, out.ctypes.data,
            *(a.ctypes.data for a in arrays), out.size,
        )  # fmt: skip
        return out

    run.keep = done  # type: ignore[attr-defined]
    return run, done.library.get_llvm_str()


def samples(name: str, real: Any, count: int = 60) -> Any:
    """Arguments of all magnitudes inside the domain; the same ones each time."""
    random = np.random.default_rng(7)
    low, high = DOMAINS.get(name, (-np.inf, np.inf))
    if name in ("sin", "cos", "tan"):
        low, high = -CIRCULAR[real], CIRCULAR[real]
    least, greatest = (-45, 38) if real == np.float32 else (-323, 308)
    powers = 10.0 ** random.uniform(least, greatest, 2 * count)
    x = np.concatenate(
        [random.uniform(-s, s, 2 * count) for s in (1, 10, 100, 750, 1e5, 1e9)]
        + [powers, -powers, 1 + random.normal(size=count) * 1e-3, 1 + random.normal(size=count) * 0.1]
    ).astype(real)
    return x[(x > low) & (x < high)]


def worst_error(name: str, x: Any, y: Any) -> float:
    """The largest distance from the true values, in units in the last place of those."""
    info = np.finfo(x.dtype)
    reference = REFERENCES.get(name) or getattr(mpmath, name)
    worst = 0.0
    with mpmath.workdps(40):
        for argument, value in zip(x, y, strict=True):
            truth = reference(mpmath.mpf(float(argument)))
            if abs(truth) >= mpmath.mpf(2) ** info.maxexp * (1 - mpmath.mpf(2) ** (-info.nmant - 2)):
                assert value == np.copysign(np.inf, float(mpmath.sign(truth))), (name, argument)
                continue
            exponent = max(mpmath.frexp(truth)[1] - 1 if truth else info.minexp, info.minexp)
            assert np.isfinite(value), (name, argument, value)
            worst = max(worst, float(abs(float(value) - truth) / mpmath.mpf(2) ** (exponent - info.nmant)))
    return worst


def same(a: Any, b: Any) -> Any:
    """Equal elements, signs of zero included; nan equals nan."""
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


def numba_type(real: Any) -> Any:
    return types.float32 if real == np.float32 else types.float64


def llvm_name(real: Any) -> str:
    return "float" if real == np.float32 else "double"


@unary
@real
def test_is_accurate(name: str, real: Any) -> None:
    x = samples(name, real)
    run, _ = compiled(f"{name}(x0[i])", (numba_type(real),), numba_type(real))
    assert worst_error(name, x, PLAIN[name](x)) <= BOUNDS[name]
    assert worst_error(name, x, run(x)) <= BOUNDS[name]


@unary
def test_float32_agrees_with_float64_all_over(name: str) -> None:
    """Every 8009th bit pattern, in the domain or not."""
    x = np.arange(-(2**31), 2**31, 8009).astype(np.int32).view(np.float32)
    if name in ("sin", "cos", "tan"):
        x = x[~(np.abs(x) > CIRCULAR[np.float32])]
    run, _ = compiled(f"{name}(x0[i])", (types.float32,), types.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        y, truth = run(x), PLAIN[name](x.astype(np.float64))
        rounded = truth.astype(np.float32)
    finite = np.isfinite(rounded)
    assert same(y, rounded)[~finite].all()
    error = np.abs(y[finite] - truth[finite]) / np.spacing(np.abs(rounded[finite]))
    assert error.max() <= BOUNDS[name], x[finite][error.argmax()]


@unary
@real
def test_special_values(name: str, real: Any) -> None:
    x, expected = np.array([*SPECIAL[name], (NAN, NAN)], real).T.copy()
    run, _ = compiled(f"{name}(x0[i])", (numba_type(real),), numba_type(real))
    for y in (PLAIN[name](x), run(x)):
        assert same(y, expected).all(), (name, x, y)


@unary
@real
def test_the_bits_are_those_of_numpy_where_nothing_fuses(
    name: str, real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intrinsics, "_FUSE", intrinsics._EXACT)
    run, _ = compiled(f"{name}(x0[i])", (numba_type(real),), numba_type(real))
    x = np.concatenate([samples(name, real), np.array([*SPECIAL[name], (NAN, NAN)], real)[:, 0]])
    assert same(run(x), PLAIN[name](x)).all()


@unary
@real
def test_loops_are_vectorized(name: str, real: Any) -> None:
    _, text = compiled(f"{name}(x0[i])", (numba_type(real),), numba_type(real))
    assert re.search(rf"<\d+ x {llvm_name(real)}>", text)
    assert not re.search(r"call \w+ @", text.replace("@llvm.", "")), "a scalar call is left"


@unary
@real
def test_numpy_scalars_keep_their_dtype(name: str, real: Any) -> None:
    y = PLAIN[name](real(0.5))
    assert type(y) is real
    assert same(y, PLAIN[name](np.array([0.5], real))[0])


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="exp takes float32 or float64 of one width, not int64"):
        vector_math.exp(np.arange(3))


# ---- the small intrinsics ----------------------------------------------------------------------------------


def arguments(dtype: Any) -> Any:
    if dtype.kind == "f":
        tiny = np.finfo(dtype).smallest_subnormal
        positive = [0.0, tiny, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.0, 1e30, INF]
        return np.array([*positive, *(-x for x in positive), NAN], dtype)
    limits = np.iinfo(dtype)
    values = {0, 1, 2, 3, 5, 7, 100, limits.max, limits.max // 2}
    return np.array(
        sorted(values | ({-v for v in values} | {limits.min} if dtype.kind == "i" else set())), dtype
    )


CLASSES = ("isnan", "isinf", "isfinite")
REAL_ONLY = ("sqrt", "floor", "ceil", "rint", "copysign")
ONE_ARGUMENT = (*CLASSES, "sqrt", "floor", "ceil", "rint", "fabs")
SMALL = sorted(set(PLAIN) - set(vector_math.ALGORITHMS) - {"select", "random_bits"})
ALL_NUMBERS = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint64")


def test_plain_and_compiled_names_agree() -> None:
    assert set(PLAIN) == set(intrinsics.INTRINSICS) == set(intrinsics.__all__)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, d) for n in SMALL for d in ALL_NUMBERS if d.startswith("float") or n not in REAL_ONLY],
)
def test_small_intrinsics_agree_with_numpy(name: str, dtype: str) -> None:
    t = getattr(types, dtype)
    arity = 1 if name in ONE_ARGUMENT else 2
    grid = [g.ravel().copy() for g in np.meshgrid(*[arguments(np.dtype(dtype))] * arity)]
    call = f"{name}({', '.join(f'x{k}[i]' for k in range(arity))})"
    run, _ = compiled(call, (t,) * arity, types.uint8 if name in CLASSES else t)
    y, expected = run(*grid), PLAIN[name](*grid)
    if name == "pow" and dtype.startswith("float"):
        exact = ~np.isfinite(expected) | (expected == 0)
        assert same(y, expected)[exact].all()
        np.testing.assert_array_max_ulp(y[~exact], expected[~exact], maxulp=2)
    else:
        assert expected.dtype == (bool if name in CLASSES else dtype)
        assert same(y, expected.astype(y.dtype)).all()


@pytest.mark.parametrize("dtype", ALL_NUMBERS)
def test_select(dtype: str) -> None:
    t = getattr(types, dtype)
    run, _ = compiled("select(x0[i] > x1[i], x0[i], x1[i])", (t, t), t)
    x, y = (g.ravel().copy() for g in np.meshgrid(*[arguments(np.dtype(dtype))] * 2))
    assert same(run(x, y), PLAIN["select"](x > y, x, y)).all()


@pytest.mark.parametrize("name", ["add_reassoc", "mul_reassoc", "maximum", "minimum"])
@real
def test_reductions_are_vectorized(name: str, real: Any) -> None:
    loop = f"    for i in range(n):\n        a = {name}(a, x[i])\n"
    source = f"def kernel(out, x, n):\n    a = x[0]\n{loop}    out[0] = a"
    text = native_code(source, (types.CPointer(numba_type(real)),) * 2).library.get_llvm_str()
    assert re.search(rf"phi <\d+ x {llvm_name(real)}>", text)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@real
def test_circular_functions_are_nan_rather_than_wrong_far_out(name: str, real: Any) -> None:
    limit = real(CIRCULAR[real])
    x = np.array([limit, np.nextafter(limit, real(INF)), np.finfo(real).max], real)
    run, _ = compiled(f"{name}(x0[i])", (numba_type(real),), numba_type(real))
    for y in (run(x), PLAIN[name](x)):
        assert np.isnan(y).tolist() == [False, True, True]
        assert worst_error(name, x[:1], y[:1]) <= BOUNDS[name]


@real
def test_atan2(real: Any) -> None:
    special = arguments(np.dtype(real))
    y, x = (g.ravel().copy() for g in np.meshgrid(special, special))
    random = np.random.default_rng(3)
    y = np.concatenate([y, (random.normal(size=400) * 10.0 ** random.uniform(-20, 20, 400)).astype(real)])
    x = np.concatenate([x, (random.normal(size=400) * 10.0 ** random.uniform(-20, 20, 400)).astype(real)])
    run, _ = compiled("atan2(x0[i], x1[i])", (numba_type(real),) * 2, numba_type(real))
    expected = np.arctan2(y, x)
    ordinary = np.abs(expected) > np.finfo(real).tiny
    for result in (PLAIN["atan2"](y, x), run(y, x)):
        assert (np.isnan(result) == np.isnan(expected)).all()
        assert same(np.sign(result), np.sign(expected)).all()
        np.testing.assert_array_max_ulp(result[ordinary], expected[ordinary], maxulp=2)


LOADER = """
import sys
import llvmlite.binding as llvm
assert "numba" not in sys.modules
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
text = "declare {type} @{name}({type}, {type})"
text += "define {type} @f({type} %x, {type} %y) {{"
text += "%z = call {type} @{name}({type} %x, {type} %y) ret {type} %z }}"
names = [("pow", "double"), ("powf", "float"), ("fmod", "double"), ("fmodf", "float")]
for name, type in names:
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text.format(name=name, type=type)), machine)
    engine.finalize_object()
    assert engine.get_function_address("f")
"""


def test_symbols_resolve_without_numba() -> None:
    """Machine code may name these functions of libm; a process that has llvmlite alone must find them."""
    subprocess.run([sys.executable, "-c", LOADER], check=True)

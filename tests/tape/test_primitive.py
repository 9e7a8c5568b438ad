"""Ops that users make, and gradients for ops that have none: rows K17, E06, E14 and E15 of the semantics."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import same


def squash() -> Any:
    return nt.primitive(
        lambda x: x / np.sqrt(1 + x * x),
        gradient=lambda g, x: g * (1 + x * x) ** -1.5,
        kernel="x / sqrt(T(1) + x * x)",
        name="squash",
    )


def hypot(**options: Any) -> Any:
    @nt.primitive(**options)
    def hypot(x: Any, y: Any = 1.0) -> Any:
        """Length of a hypotenuse."""
        return np.hypot(x, y)

    @hypot.gradient
    def rule(g: Any, out: Any, x: Any, y: Any) -> Any:
        return g * x / out, g * y / out

    return hypot


@pytest.mark.parametrize("kernel", [None, "sqrt(x * x + y * y)"], ids=["called", "fused"])
def test_values_and_gradients_of_several_orders(kernel: str | None) -> None:
    made = hypot(kernel=kernel)
    nt.testing.check_gradient(made, [3.0, -1.0], [0.5, 2.0], order=3)
    nt.testing.check_gradient(lambda x, y: nt.sin(made(x * 2.0, y)) * x, [0.3, 0.7], [0.5, 2.0], order=2)
    assert made.__doc__ == "Length of a hypotenuse."
    assert ("fused" in repr(made)) == (kernel is not None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_broadcasts_and_keeps_the_dtype(dtype: Any) -> None:
    made = hypot(kernel="sqrt(x * x + y * y)")
    x, y = np.arange(3, dtype=dtype)[:, None], np.ones(2, dtype)
    x, y = nt.Variable(x), nt.Variable(y)
    with nt.GradientTape() as tape:
        z = made(x, y)
    assert z.dtype == dtype
    same(z, np.hypot(x.numpy(), y.numpy()), 1e-6)
    gx, gy = tape.gradient(z, [x, y])
    assert (gx.shape, gy.shape) == ((3, 1), (2,))
    same(made(nt.constant([3.0]), 4.0), [5.0])


def test_a_kernel_fuses() -> None:
    made = squash()
    x = nt.Variable(np.linspace(-1, 1, 50))

    def step() -> Any:
        with nt.GradientTape() as tape:
            y = nt.exp(made(x * 2.0) + 1.0)
        return tape.gradient(y, x).numpy()

    step()
    before = nt.cache.stats()
    step()
    assert nt.cache.stats().compilations == before.compilations


@pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "njit"])
def test_functions_of_arrays_with_several_results(compiled: bool) -> None:
    def mean_and_spread(x: Any) -> Any:
        mean = x.mean()
        return mean, np.sqrt(((x - mean) ** 2).sum())

    made = nt.primitive(numba.njit(mean_and_spread) if compiled else mean_and_spread)

    @made.gradient
    def rule(g: Any, out: Any, x: Any) -> Any:
        (g_mean, g_spread), (mean, spread) = g, out
        return g_mean / x.shape[0] + g_spread * (x - mean) / spread

    nt.testing.check_gradient(made, [1.0, 4.0, 2.0], order=2)
    assert made.__name__ == "mean_and_spread"


def test_errors_come_at_the_line_and_the_tape_goes_on() -> None:
    made = nt.primitive(np.linalg.inv, gradient=lambda g, out: -nt.transpose(out) @ g @ nt.transpose(out))
    v = nt.Variable(np.zeros((2, 2)))
    with nt.GradientTape() as tape:
        with pytest.raises(np.linalg.LinAlgError):
            made(v)
        y = v * v
    same(tape.gradient(y, v), np.zeros((2, 2)))
    nt.testing.check_gradient(made, [[2.0, 0.5], [0.1, 1.0]], order=2)


def test_a_rule_sees_the_values_of_its_own_call() -> None:
    made = hypot()
    v = nt.Variable(np.array(3.0))
    with nt.GradientTape() as tape:
        y = made(v, 4.0)
        v.assign(100.0)
    same(tape.gradient(y, v), 0.6)


def test_numbers_and_lists_become_arrays() -> None:
    seen: list[Any] = []

    @nt.primitive
    def made(x: Any, y: Any = None, *, flag: Any = "text") -> Any:
        seen[:] = [x, y, flag]
        return x * 2.0 if y is None else x * y

    @made.gradient
    def rule(g: Any, x: Any, y: Any) -> Any:
        return g * y, None

    made([1.0, 2.0])
    assert type(seen[0]) is np.ndarray and seen[0].dtype == "float32" and seen[1:] == [None, "text"]
    made([[1, 2], [3, 4]], 3, flag=True)
    assert seen[0].dtype == "int32" and seen[0].shape == (2, 2) and seen[1] is not True and seen[2] is True
    assert type(seen[1]) is int  # an axis, or a count
    made(2.0)
    assert type(seen[0]) is np.float32
    x = nt.Variable(np.ones(2))
    with nt.GradientTape() as tape:
        y = made(x, 0.1)
        z = nt.reduce_sum(y) + nt.reduce_sum(made(x, [3.0, 4.0]))
    assert seen[1].dtype == "float64"
    same(y, [0.1, 0.1], 1e-15)
    same(tape.gradient(z, x), [3.1, 4.1], 1e-15)


def test_nothing_is_said_at_exit() -> None:
    program = """
import numba, numtape as nt
@nt.primitive
@numba.njit
def f(x): return x * 2.0
x = nt.constant([1.0, 2.0])
with nt.autodiff.ForwardAccumulator(x, nt.ones([2])) as acc:
    y = f(x)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")


def test_nested_arguments() -> None:
    made = nt.primitive(lambda pair, scale=2.0: pair["a"] * pair["b"] * scale)

    @made.gradient
    def rule(g: Any, pair: Any, scale: Any) -> Any:
        return {"a": g * pair["b"] * scale, "b": g * pair["a"] * scale}

    a, b = nt.Variable(3.0), nt.Variable(5.0)
    with nt.GradientTape(persistent=True) as tape:
        y = made({"b": b, "a": a})
    same(tape.gradient(y, [a, b]), [10.0, 6.0])


def test_methods() -> None:
    class Scaled:
        @nt.primitive
        def double(self, x: Any) -> Any:
            return 2.0 * x

        @double.gradient
        def double_gradient(self, g: Any) -> Any:
            return None, g * 2.0

    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = Scaled().double(x)
    same([y, tape.gradient(y, x)], [6.0, 2.0])


@pytest.mark.parametrize("kernel", [None, "x * x"])
def test_E06_without_a_gradient(kernel: str | None) -> None:
    made = nt.primitive(lambda x: x * x, kernel=kernel, name="Squared")
    x, v = nt.Variable(3.0), nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as tape:
        y = made(x)
        z = v * v
    same([y, tape.gradient(z, v)], [9.0, 4.0])
    with pytest.raises(LookupError, match="^gradient registry has no entry for: Squared$"):
        tape.gradient(y, x)


def test_another_number_of_gradients() -> None:
    made = nt.primitive(lambda x, y: np.hypot(x, y), gradient=lambda g: g)
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = made(x, x)
    with pytest.raises(ValueError, match="returned 1 gradients for 2 arguments"):
        tape.gradient(y, x)


def test_E14_a_fused_rule_with_too_few_results() -> None:
    made = nt.primitive(lambda x, y: x * y, kernel="x * y", gradient=lambda g: g, name="product")
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = made(x, x)
    with pytest.raises(ValueError, match="the gradient of product gave 1 cotangents for 2 operands"):
        tape.gradient(y, x)


@pytest.mark.parametrize("rule", [lambda g, z: g, lambda h: h])
@pytest.mark.parametrize("kernel", [None, "x * x"])
def test_a_rule_that_asks_for_what_is_not_there(rule: Any, kernel: str | None) -> None:
    with pytest.raises(ValueError, match="asks for"):
        nt.primitive(lambda x: x * x, gradient=rule, kernel=kernel)


def test_a_kernel_with_other_names() -> None:
    with pytest.raises(ValueError, match=r"uses np, sinc; it knows x, T, R and .*tanh"):
        nt.primitive(lambda x: x, kernel="np.sinc(x)")


def test_check_gradient_compares_kernel_and_function() -> None:
    made = nt.primitive(lambda x: x * x, kernel="x * x * T(2)", gradient=lambda g, x: 4 * x * g)
    with pytest.raises(AssertionError, match="kernel of"):
        nt.testing.check_gradient(made, 2.0)


def test_check_gradient_finds_a_wrong_second_order() -> None:
    @nt.custom_gradient
    def f(x: Any) -> Any:
        return x**3, lambda g: g * nt.stop_gradient(3.0 * x * x)

    nt.testing.check_gradient(f, 2.0)
    with pytest.raises(AssertionError, match="order 2"):
        nt.testing.check_gradient(f, 2.0, order=2)
    with pytest.raises(ValueError, match="nothing to differentiate"):
        nt.testing.check_gradient(nt.identity, 1)
    with pytest.raises(ValueError, match="nothing to differentiate"):
        nt.testing.check_gradient(lambda x: nt.cast(x, nt.int32), 1.0)


@pytest.fixture
def registry() -> Any:
    """Puts back what a test registers."""
    from numtape.ir.op import REGISTRY
    from numtape.tape import registration

    kept = {op: (op.gradient, op.rule_needs) for op in REGISTRY.values()}
    announced = dict(registration.ANNOUNCED)
    yield
    for op, (gradient, needs) in kept.items():
        object.__setattr__(op, "gradient", gradient)
        object.__setattr__(op, "rule_needs", needs)
    registration.ANNOUNCED.clear()
    registration.ANNOUNCED.update(announced)


@pytest.mark.usefixtures("registry")
def test_K17_a_gradient_registered_for_an_op_of_the_library() -> None:
    image, factor = nt.Variable([[[0.5, 0.0, 0.25]], [[1.0, 0.5, 0.75]]]), nt.Variable(2.0)

    def gradient() -> Any:
        with nt.GradientTape() as tape:
            y = nt.image.adjust_contrast(image, factor)
        return tape.gradient(y, [image, factor])

    with pytest.raises(LookupError, match="^gradient registry has no entry for: AdjustContrastv2$"):
        gradient()

    @nt.RegisterGradient("AdjustContrastv2")
    def rule(op: Any, grad: Any) -> Any:
        assert (op.type, len(op.inputs), len(op.outputs)) == ("AdjustContrastv2", 2, 1)
        with pytest.raises(ValueError, match="no attribute 'T'"):
            op.get_attr("T")
        x, factor = op.inputs
        centered = x - nt.reduce_mean(x, axis=(-3, -2), keepdims=True)
        mean = nt.reduce_mean(grad, axis=(-3, -2), keepdims=True)
        return factor * (grad - mean) + mean, nt.reduce_sum(grad * centered)

    same(gradient()[0], np.ones((2, 1, 3)))
    nt.testing.check_gradient(nt.image.adjust_contrast, image, 2.0, order=2)


@pytest.mark.usefixtures("registry")
def test_E15_registering_twice() -> None:
    nt.RegisterGradient("SomethingOfMine")(lambda op, grad: grad)
    for name in ("SomethingOfMine", "Sin", "MatMul", "tanh"):
        with pytest.raises(KeyError, match="registered already"):
            nt.RegisterGradient(name)
        with pytest.raises(KeyError, match="registered already"):
            nt.no_gradient(name)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kernel", [None, "x * y"])
def test_a_rule_announced_for_a_primitive(kernel: str | None) -> None:
    @nt.RegisterGradient("MyProduct")
    def rule(op: Any, grad: Any) -> Any:
        x, y = op.inputs
        return grad * y, grad * x

    made = nt.primitive(lambda x, y: x * y, name="MyProduct", kernel=kernel)
    nt.testing.check_gradient(made, [1.0, 2.0], [3.0, 4.0], order=2)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kernel", [None, "x * x"])
def test_no_gradient(kernel: str | None) -> None:
    nt.no_gradient("MyStep")
    made = nt.primitive(lambda x: x * x, name="MyStep", kernel=kernel)
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = made(x) + 2.0 * x
        z = made(x)
    same(tape.gradient([y, z], x), 2.0)
    with nt.GradientTape() as tape:
        z = made(x)
    assert tape.gradient(z, x) is None


@pytest.mark.usefixtures("registry")
def test_no_gradient_for_an_op_of_the_library() -> None:
    nt.no_gradient("AdjustContrastv2")
    image = nt.Variable([[[0.5, 0.0, 0.0]]])
    with nt.GradientTape() as tape:
        y = nt.image.adjust_contrast(image, 2.0)
    assert tape.gradient(y, image) is None

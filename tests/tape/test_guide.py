"""The cells of TensorFlow's guide to automatic differentiation, in order, with only the name of the library changed.

Left out are cells about layers, data sets and images.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest

import numtape as nt


def printed(capsys: pytest.CaptureFixture[str], *lines: str) -> None:
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in lines)


def test_gradient_tapes() -> None:
    x = nt.Variable(3.0)

    with nt.GradientTape() as tape:
        y = x**2

    dy_dx = tape.gradient(y, x)
    assert dy_dx.numpy() == 6.0


def test_tensors_and_structures(capsys: pytest.CaptureFixture[str]) -> None:
    w = nt.Variable(nt.random.normal((3, 2)), name="w")
    b = nt.Variable(nt.zeros(2, dtype=nt.float32), name="b")
    x = [[1.0, 2.0, 3.0]]

    with nt.GradientTape(persistent=True) as tape:
        y = x @ w + b
        loss = nt.reduce_mean(y**2)

    [dl_dw, dl_db] = tape.gradient(loss, [w, b])
    print(w.shape)
    print(dl_dw.shape)
    printed(capsys, "(3, 2)", "(3, 2)")
    out = np.array(x, np.float32) @ w.numpy()
    np.testing.assert_allclose(dl_db.numpy(), out[0], rtol=1e-5)
    np.testing.assert_allclose(dl_dw.numpy(), np.array(x).T @ out, rtol=1e-5)

    my_vars = {"w": w, "b": b}
    grad = tape.gradient(loss, my_vars)
    assert list(grad) == ["w", "b"]
    text = repr(grad["b"])
    assert text.startswith("<nt.Tensor: shape=(2,), dtype=float32, numpy=array([")
    assert text.endswith("], dtype=float32)>")


def test_what_the_tape_watches(capsys: pytest.CaptureFixture[str]) -> None:
    # A trainable variable
    x0 = nt.Variable(3.0, name="x0")
    # Not trainable
    x1 = nt.Variable(3.0, name="x1", trainable=False)
    # Not a Variable: A variable + tensor returns a tensor.
    x2 = nt.Variable(2.0, name="x2") + 1.0
    # Not a variable
    x3 = nt.constant(3.0, name="x3")

    with nt.GradientTape() as tape:
        y = (x0**2) + (x1**2) + (x2**2)

    grad = tape.gradient(y, [x0, x1, x2, x3])

    for g in grad:
        print(g)
    printed(capsys, "nt.Tensor(6.0, shape=(), dtype=float32)", "None", "None", "None")

    assert [var.name for var in tape.watched_variables()] == ["x0:0"]


def test_watch_a_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.constant(3.0)
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x**2

    # dy = 2x * dx
    dy_dx = tape.gradient(y, x)
    print(dy_dx.numpy())
    printed(capsys, "6.0")


def test_watch_only_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    x0 = nt.Variable(0.0)
    x1 = nt.Variable(10.0)

    with nt.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x1)
        y0 = nt.math.sin(x0)
        y1 = nt.nn.softplus(x1)
        y = y0 + y1
        ys = nt.reduce_sum(y)

    # dys/dx1 = exp(x1) / (1 + exp(x1)) = sigmoid(x1)
    grad = tape.gradient(ys, {"x0": x0, "x1": x1})

    print("dy/dx0:", grad["x0"])
    print("dy/dx1:", grad["x1"].numpy())
    printed(capsys, "dy/dx0: None", "dy/dx1: 0.9999546")


def test_intermediate_results(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.constant(3.0)

    with nt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        z = y * y

    # Use the tape to compute the gradient of z with respect to the
    # intermediate value y.
    # dz_dy = 2 * y and y = x ** 2 = 9
    print(tape.gradient(z, y).numpy())
    printed(capsys, "18.0")

    x = nt.constant([1, 3.0])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * y

    print(tape.gradient(z, x).numpy())  # [4.0, 108.0] (4 * x**3 at x = [1.0, 3.0])
    print(tape.gradient(y, x).numpy())  # [2.0, 6.0] (2 * x at x = [1.0, 3.0])
    printed(capsys, "[  4. 108.]", "[2. 6.]")
    del tape  # Drop the reference to the tape


def test_targets_that_are_no_scalars(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as tape:
        y0 = x**2
        y1 = 1 / x

    print(tape.gradient(y0, x).numpy())
    print(tape.gradient(y1, x).numpy())
    printed(capsys, "4.0", "-0.25")

    x = nt.Variable(2.0)
    with nt.GradientTape() as tape:
        y0 = x**2
        y1 = 1 / x

    print(tape.gradient({"y0": y0, "y1": y1}, x).numpy())
    printed(capsys, "3.75")

    x = nt.Variable(2.0)

    with nt.GradientTape() as tape:
        y = x * [3.0, 4.0]

    print(tape.gradient(y, x).numpy())
    printed(capsys, "7.0")


def test_one_derivative_for_each_element() -> None:
    x = nt.linspace(-10.0, 10.0, 200 + 1)

    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.nn.sigmoid(x)

    dy_dx = tape.gradient(y, x)
    # What pyplot.plot does with its arguments.
    at, value, slope = np.asarray(x), np.asarray(y, float), np.asarray(dy_dx, float)
    np.testing.assert_array_equal(at, np.linspace(-10, 10, 201, dtype=np.float32))
    np.testing.assert_allclose(value, 1 / (1 + np.exp(-at.astype(float))), rtol=2e-6)
    np.testing.assert_allclose(slope, value * (1 - value), rtol=1e-5, atol=1e-9)


def test_control_flow(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.constant(1.0)

    v0 = nt.Variable(2.0)
    v1 = nt.Variable(2.0)

    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        if x > 0.0:
            result = v0
        else:
            result = v1**2

    dv0, dv1 = tape.gradient(result, [v0, v1])

    print(dv0)
    print(dv1)
    printed(capsys, "nt.Tensor(1.0, shape=(), dtype=float32)", "None")

    dx = tape.gradient(result, x)
    print(dx)
    printed(capsys, "None")


def test_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.Variable(2.0)
    y = nt.Variable(3.0)

    with nt.GradientTape() as tape:
        z = y * y
    print(tape.gradient(z, x))
    printed(capsys, "None")


def test_a_variable_replaced_by_a_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.Variable(2.0)

    for _epoch in range(2):
        with nt.GradientTape() as tape:
            y = x + 1

        print(type(x).__name__, ":", tape.gradient(y, x))
        x = x + 1  # This should be `x.assign_add(1)`
    printed(capsys, "Variable : nt.Tensor(1.0, shape=(), dtype=float32)", "Tensor : None")


def test_computed_outside(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.Variable([[1.0, 2.0], [3.0, 4.0]], dtype=nt.float32)

    with nt.GradientTape() as tape:
        x2 = x**2

        # This step is calculated with NumPy
        y = np.mean(x2, axis=0)

        # Like most ops, reduce_mean will cast the NumPy array to a constant tensor
        # using `nt.convert_to_tensor`.
        y = nt.reduce_mean(y, axis=0)

    print(tape.gradient(y, x))
    printed(capsys, "None")
    assert y.numpy() == 7.5


def test_integers(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numtape.tape.gradient_tape._warnings_left", 5)
    x = nt.constant(10)

    with caplog.at_level(logging.WARNING), nt.GradientTape() as g:
        g.watch(x)
        y = x * x

    print(g.gradient(y, x))
    printed(capsys, "None")
    assert caplog.messages == [
        "The dtype of the watched tensor must be floating (e.g. nt.float32), got nt.int32",
        "The dtype of the target tensor must be floating (e.g. nt.float32) when calling GradientTape.gradient, "
        "got nt.int32",
        "The dtype of the source tensor must be floating (e.g. nt.float32) when calling GradientTape.gradient, "
        "got nt.int32",
    ]


def test_state(capsys: pytest.CaptureFixture[str]) -> None:
    x0 = nt.Variable(3.0)
    x1 = nt.Variable(0.0)

    with nt.GradientTape() as tape:
        # Update x1 = x1 + x0.
        x1.assign_add(x0)
        # The tape starts recording from x1.
        y = x1**2  # y = (x1 + x0)**2

    # This doesn't work.
    print(tape.gradient(y, x0))  # dy/dx0 = 2*(x1 + x0)
    printed(capsys, "None")
    assert y.numpy() == 9.0


def test_zeros_instead_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    x = nt.Variable([2.0, 2.0])
    y = nt.Variable(3.0)

    with nt.GradientTape() as tape:
        z = y**2
    print(tape.gradient(z, x, unconnected_gradients=nt.UnconnectedGradients.ZERO))
    printed(capsys, "nt.Tensor([0. 0.], shape=(2,), dtype=float32)")

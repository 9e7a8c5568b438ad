"""nt.debug.check_numerics names the line that made a nan; nt.debugging checks elements."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

import numtape as nt
from numtape.tape.trace import WATCHES

HERE = Path(__file__)


def line_of(mark):
    """The number of the line in this file that ends with a comment."""
    (found,) = [n for n, text in enumerate(HERE.read_text().splitlines(), 1) if text.endswith(f"# {mark}")]
    return found


def fails(call):
    """The message of the FloatingPointError that a call raises while numbers are checked."""
    with nt.debug.check_numerics(), pytest.raises(FloatingPointError) as caught:
        call()
    return str(caught.value)


def at(mark):
    return f"{HERE}:{line_of(mark)}\n"


@pytest.fixture(autouse=True)
def _nobody_watches():
    yield
    assert not WATCHES


# ---- what is named -----------------------------------------------------------------------------------------------


def test_a_forward_line_is_named_with_its_operands():
    p = nt.Variable([0.5, 0.0, 0.25])

    def step():
        with nt.GradientTape() as tape:
            logs = nt.math.log(p)  # forward line
            loss = nt.reduce_sum(logs * 2.0)
        return float(loss), tape

    message = fails(step)
    assert message.startswith("forward: log gave -inf in 1 of 3 elements, the first at [1]\n")
    assert at("forward line") in message
    assert "    logs = nt.math.log(p)" in message
    assert message.endswith("  x: float32[3], from 0.0 to 0.5")


def test_a_line_outside_of_tapes_is_named_too():
    x = nt.constant([[1.0, 0.0], [2.0, 3.0]])
    message = fails(lambda: (3.0 / x).numpy())  # outside line
    assert "divide gave inf in 1 of 4 elements, the first at [0, 1]" in message
    assert at("outside line") in message
    assert "x: float32[], 3.0" in message
    assert "y: float32[2, 2], from 0.0 to 3.0" in message


def test_a_gradient_is_named_backward_with_the_line_it_is_a_gradient_of():
    v = nt.Variable([4.0, 0.0])

    def step():
        with nt.GradientTape() as tape:
            y = nt.sqrt(v)  # root line
            loss = nt.reduce_sum(y)
        return tape.gradient(loss, v).numpy()

    message = fails(step)
    assert message.startswith("backward of sqrt: divide gave inf")
    assert at("root line") in message


def test_the_trap_of_where_leads_to_the_division():
    v = nt.Variable([4.0, 0.0])

    def step():
        with nt.GradientTape() as tape:
            safe = nt.where(v > 0, nt.math.log(v), nt.zeros_like(v))  # trap line
            loss = nt.reduce_sum(safe)
        assert np.isfinite(float(loss))
        return tape.gradient(loss, v).numpy()

    message = fails(step)
    assert message.startswith("backward of log: ")
    assert at("trap line") in message


def test_what_comes_to_nothing_is_no_error():
    x = nt.constant([1.0, 0.0])
    with nt.debug.check_numerics():
        masked = nt.where(x > 0, nt.math.log(x), 0.0).numpy()
        weights = nt.nn.softmax([0.0, -np.inf]).numpy()
        none = nt.math.log(nt.constant([], nt.float32)).numpy()
        whole = (nt.constant([1, 2]) // 2).numpy()
    assert masked.tolist() == [0.0, 0.0]
    assert weights.tolist() == [1.0, 0.0]
    assert none.shape == (0,)
    assert whole.tolist() == [0, 1]


def test_a_tensor_that_is_held_is_a_result():
    x = nt.constant([1.0, 0.0])

    def held():
        logs = nt.math.log(x)
        return nt.where(x > 0, logs, 0.0).numpy()

    assert fails(held).startswith("forward: log gave -inf")


def test_a_second_derivative_and_a_jacobian_lead_to_the_line():
    v = nt.Variable([1.0, 0.0])

    def second():
        with nt.GradientTape() as outer:
            with nt.GradientTape() as inner:
                y = nt.reduce_sum(v**1.5)  # second line
            g = inner.gradient(y, v)
        return outer.gradient(g, v).numpy()

    message = fails(second)
    assert message.startswith("backward of ")
    assert at("second line") in message

    def rows():
        with nt.GradientTape() as tape:
            y = nt.sqrt(v)  # jacobian line
        return tape.jacobian(y, v).numpy()

    message = fails(rows)
    assert message.startswith("backward of sqrt: ")
    assert at("jacobian line") in message


def test_a_tangent_is_called_one():
    x = nt.constant([1.0, 0.0])

    def push():
        with nt.autodiff.ForwardAccumulator(x, nt.ones_like(x)) as forward:
            y = nt.sqrt(x)  # tangent line
        return forward.jvp(y).numpy()

    message = fails(push)
    assert message.startswith("tangent of sqrt: ")
    assert at("tangent line") in message


def test_overflow_in_an_optimizer_is_its_line():
    v = nt.Variable([1.0])
    optimizer = nt.keras.optimizers.SGD(1e30)

    def step():
        for _ in range(2):
            with nt.GradientTape() as tape:
                loss = nt.reduce_sum(v * 1e30)
            gradient = tape.gradient(loss, v)
            optimizer.apply_gradients([(gradient, v)])  # update line
        return v.numpy()

    message = fails(step)
    assert at("update line") in message
    assert message.startswith("forward: multiply gave inf")


def test_an_input_that_was_bad_is_named_as_such():
    x = nt.constant([1.0, np.nan])
    message = fails(lambda: (x * 2.0).numpy())  # input line
    assert message.startswith("an input, f32[2], was not finite before the step: nan in 1 of 2 elements")
    assert at("input line") in message
    message = fails(lambda: (nt.constant(1.0) * np.inf).numpy())
    assert "was not finite before the step: inf" in message


def test_a_loop_names_the_turn():
    def powers(x):
        for _ in range(100):
            x = nt.square(x) * 0.5 + nt.tanh(x)  # power line
        return x

    for f in (powers, nt.function(powers)):
        message = fails(lambda f=f: f(nt.constant(4.0)).numpy())
        assert message.startswith("forward: square gave inf\n")
        assert at("power line") in message
        x, turn = np.float32(4.0), 0
        with np.errstate(over="ignore"):
            while np.isfinite(x):
                x, turn = x * x * np.float32(0.5) + np.tanh(x), turn + 1
        assert f"  run {turn} of this line within the step\n" in message


def test_a_backward_loop_names_the_turn_of_the_line():
    def step(v):
        with nt.GradientTape() as tape:
            tape.watch(v)
            y = nt.reduce_sum(v)
            for k in range(64):
                y = y + nt.where(v[k] > 0, nt.math.log(v[k]), 0.0) * y * 0.1  # backward line
        return tape.gradient(y, v)

    x = np.ones(64, np.float32)
    x[12] = 0.0
    message = fails(lambda: nt.function(step)(nt.constant(x)).numpy())
    assert message.startswith("backward of log: divide gave nan")
    assert at("backward line") + "    y = y" in message
    assert "  run 13 of this line within the step\n" in message


@pytest.mark.parametrize("where", [2, 50, 99])
def test_a_loop_over_a_tensor_names_the_turn(where):
    @nt.function
    def running(rows):
        state = nt.constant(0.5)
        for row in rows:
            state = nt.sqrt(state + row) * 0.5  # row line
        return state

    x = np.ones(100, np.float32)
    x[where] = -5.0
    message = fails(lambda: running(nt.constant(x)).numpy())
    assert message.startswith("forward: sqrt gave nan\n")
    assert at("row line") in message
    assert f"  run {where + 1} of this line within the step\n" in message
    x[where] = np.nan
    message = fails(lambda: running(nt.constant(x)).numpy())
    assert message.startswith("argument 0, f32[100], was not finite before the step")


@pytest.mark.parametrize("within", [False, True])
def test_a_backward_loop_over_a_tensor_names_the_turn_of_the_line(within):
    v = nt.Variable([1.0, 1.0])

    def gradient(function, rows):
        with nt.GradientTape() as tape:
            total = function(rows)
        return tape.gradient(total, v)

    def roots(rows):
        total = nt.constant(0.0)
        for row in rows:
            total = total + nt.reduce_sum(nt.sqrt(row * v))  # roots line
        return total

    rows = np.ones((50, 2), np.float32)
    rows[30, 1] = 0.0
    if within:
        message = fails(lambda: nt.function(lambda rows: gradient(roots, rows))(nt.constant(rows)).numpy())
    else:
        message = fails(lambda: gradient(nt.function(roots), nt.constant(rows)).numpy())
    assert message.startswith("backward of sqrt: divide gave inf")
    assert at("roots line") in message
    assert "  run 31 of this line within the step\n" in message


def test_a_loop_in_a_loop_names_both_turns():
    @nt.function
    def running(table):
        state = nt.constant(0.5)
        for row in table:
            inner = row[0]
            for x in row:
                inner = nt.math.log(inner + x) + 2.0  # inner line
            state = nt.tanh(state + inner)
        return state

    table = np.ones((100, 30), np.float32)
    table[77, 20] = -50.0
    message = fails(lambda: running(nt.constant(table)).numpy())
    assert message.startswith("forward: log gave nan\n")
    assert at("inner line") in message
    assert "  turn 74 of 95, in it turn 17 of 25\n" in message


# ---- where it works ----------------------------------------------------------------------------------------------


def recorded_step():
    v = nt.Variable([1.0, 0.5], name="weights")

    @nt.function
    def step(x):
        with nt.GradientTape() as tape:
            y = nt.sqrt(v * x)  # function line
            loss = nt.reduce_sum(y)
        v.assign_sub(0.01 * tape.gradient(loss, v))
        return loss

    return step, v


def test_functions_recorded_before_or_within_name_their_own_lines():
    for before in (True, False):
        step, v = recorded_step()
        if before:
            step(nt.constant([1.0, 1.0]))
        message = fails(lambda step=step: step(nt.constant([1.0, 0.0])).numpy())
        assert message.startswith("backward of sqrt: divide gave inf")
        assert at("function line") in message
        v.assign([1.0, 1.0])
        message = fails(lambda step=step: step(nt.constant([1.0, np.inf])).numpy())
        assert message.startswith("argument 0, f32[2], was not finite before the step: inf")
        v.assign([np.nan, 1.0])
        message = fails(lambda step=step: step(nt.constant([1.0, 1.0])).numpy())
        assert message.startswith("weights:0, f32[2], was not finite before the step: nan")


def test_functions_that_look_at_values_and_functions_under_a_tape():
    v = nt.Variable([4.0, 0.0])

    @nt.function
    def branch(x):
        if nt.reduce_sum(x) > 0:
            return nt.reduce_sum(nt.math.log(x))  # branch line
        return nt.reduce_sum(x)

    assert at("branch line") in fails(lambda: branch(v).numpy())

    def outer():
        with nt.GradientTape() as tape:
            y = branch(v * 1.0)
        return tape.gradient(y, v).numpy()

    assert at("branch line") in fails(outer)


def test_bound_functions_are_checked_from_their_next_call_on():
    step, v = recorded_step()
    x = np.ones(2, np.float32)
    bound = step.bind(x)
    bound()
    with nt.debug.check_numerics():
        good = float(bound())
        x[1] = 0.0
        with pytest.raises(FloatingPointError, match=r"(?s)backward of sqrt.*" + re.escape(at("function line"))):
            bound()
    assert np.isfinite(good)
    v.assign([1.0, 0.0])
    bound()  # nobody looks any more
    assert np.isnan(v.numpy()[1]) or np.isinf(v.numpy()[1])


def test_checks_change_no_bit_of_what_is_computed():
    def run(checked):
        v = nt.Variable(np.linspace(-1, 1, 40).reshape(8, 5).astype(np.float32))
        optimizer = nt.keras.optimizers.Adam(0.1)

        def steps():
            for _ in range(4):
                with nt.GradientTape() as tape:
                    loss = nt.reduce_mean(nt.nn.softmax(v) ** 2)
                optimizer.apply_gradients([(tape.gradient(loss, v), v)])
            return v.numpy().tobytes()

        if not checked:
            return steps()
        with nt.debug.check_numerics():
            return steps()

    assert run(True) == run(False)


def test_what_is_pending_belongs_to_the_block_it_was_recorded_in():
    with pytest.raises(FloatingPointError, match="log gave -inf"), nt.debug.check_numerics():
        y = nt.math.log(nt.constant(0.0))
    assert np.isneginf(y.numpy())  # the step has run
    z = nt.math.log(nt.constant(0.0))
    with nt.debug.check_numerics():
        pass
    assert np.isneginf(z.numpy())


def test_after_an_error_the_next_step_runs():
    v = nt.Variable([0.0, 1.0])
    with nt.debug.check_numerics():
        with pytest.raises(FloatingPointError):
            v.assign(nt.math.log(v)).numpy()
        assert v.numpy().tolist() == [-np.inf, 0.0]
        v.assign([1.0, 1.0])
        with nt.GradientTape(persistent=True) as tape:
            y = nt.math.log(v)
            with pytest.raises(FloatingPointError):
                (y / 0.0).numpy()
            z = nt.reduce_sum(y * 2.0)
        assert tape.gradient(z, v).numpy().tolist() == [2.0, 2.0]
        del tape


def test_it_holds_for_its_thread_and_nests():
    seen = []

    def other():
        seen.append(float(nt.constant(1.0) / 0.0))

    with nt.debug.check_numerics():
        with nt.debug.check_numerics():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        with pytest.raises(FloatingPointError):
            float(nt.constant(1.0) / 0.0)
    assert seen == [np.inf]
    assert float(nt.constant(1.0) / 0.0) == np.inf


def test_enable_twice_disable_once():
    nt.debug.enable_check_numerics()
    nt.debugging.enable_check_numerics()
    try:
        with pytest.raises(FloatingPointError):
            float(nt.constant(1.0) / 0.0)
    finally:
        nt.debugging.disable_check_numerics()
    assert float(nt.constant(1.0) / 0.0) == np.inf
    nt.debug.disable_check_numerics()


# ---- nt.debugging ------------------------------------------------------------------------------------------------


def test_check_numerics_of_a_tensor_lets_gradients_through():
    v = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as tape:
        y = nt.reduce_sum(nt.debugging.check_numerics(v * v, "squares"))
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]
    with pytest.raises(nt.errors.InvalidArgumentError, match="^squares: Tensor had NaN and Inf values"):
        nt.debugging.check_numerics([np.nan, np.inf], "squares")
    with pytest.raises(nt.errors.InvalidArgumentError, match="int32"):
        nt.debugging.check_numerics([1, 2], "squares")


def test_checks_in_a_function_are_made_at_each_call():
    @nt.function
    def root(x):
        nt.debugging.assert_non_negative(x, "x")
        return nt.debugging.check_numerics(nt.sqrt(x), "root")

    assert root(nt.constant(4.0)).numpy() == 2.0
    with pytest.raises(nt.errors.InvalidArgumentError, match=r"^x: x >= y did not hold for 1 of 1 elements"):
        root(nt.constant(-4.0))
    assert root(nt.constant(9.0)).numpy() == 3.0
    with pytest.raises(nt.errors.InvalidArgumentError, match="root: Tensor had Inf"):
        root(nt.constant(np.inf))


ASSERTIONS = {
    "assert_equal": np.equal,
    "assert_none_equal": np.not_equal,
    "assert_less": np.less,
    "assert_less_equal": np.less_equal,
    "assert_greater": np.greater,
    "assert_greater_equal": np.greater_equal,
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_comparisons_against_numpy(name):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 3, (2, 1)), rng.integers(0, 3, (1, 2))
        if ASSERTIONS[name](x, y).all():
            assert getattr(nt.debugging, name)(x, y) is None
        else:
            with pytest.raises(nt.errors.InvalidArgumentError, match="did not hold"):
                getattr(nt.debugging, name)(x, y)
    getattr(nt.debugging, name)(nt.constant([], nt.float32), 1.0)


def test_signs_and_nearness():
    nt.debugging.assert_positive([1, 2])
    nt.debugging.assert_negative(nt.Variable([-1.0]))
    nt.debugging.assert_non_positive([0, -1])
    bad = {"positive": 0.0, "negative": 0, "non_positive": 1, "non_negative": np.nan}
    for check, x in bad.items():
        with pytest.raises(nt.errors.InvalidArgumentError):
            getattr(nt.debugging, f"assert_{check}")(x)
    nt.debugging.assert_near([1.0, 2.0], [1.0, 2.000001])
    with pytest.raises(nt.errors.InvalidArgumentError, match="near"):
        nt.debugging.assert_near([1.0, 2.0], [1.0, 2.1])
    with pytest.raises(ValueError, match="assert_equal"):
        nt.debugging.assert_near([1], [1])
    with pytest.raises(ValueError, match="shape"):
        nt.debugging.assert_equal([1, 2], [1, 2, 3])

"""Which tier a trace runs on, and that nobody can tell but by the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import numtape as nt
from numtape.tape.tiers import ASSIGNED, MAX_BYTES


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """As in a new process, which has seen no program yet."""
    nt.cache.clear()
    yield
    nt.config.set_tier("auto")


def interpreted(run: Callable[[], object]) -> int:
    """How many programs the interpreter runs."""
    before = nt.cache.stats().interpreted
    run()
    return nt.cache.stats().interpreted - before


def slope(n: int = 3) -> np.ndarray:
    x = nt.constant(np.linspace(0.1, 1, n, dtype=np.float32))
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = nt.reduce_sum(nt.sin(x) * nt.exp(x))
    return tape.gradient(y, x).numpy()  # type: ignore[no-any-return]


def test_the_first_run_is_interpreted_and_the_second_compiled() -> None:
    found: list[np.ndarray] = []
    compiled = nt.cache.stats().compilations
    assert interpreted(lambda: found.append(slope())) == 1
    assert nt.cache.stats().compilations == compiled
    assert interpreted(lambda: found.append(slope())) == 0
    assert nt.cache.stats().compilations > compiled
    assert interpreted(lambda: found.append(slope())) == 0
    np.testing.assert_allclose(found[0], found[1], rtol=2e-6)
    np.testing.assert_array_equal(found[1], found[2])


def test_the_setting_forces_either() -> None:
    nt.config.set_tier("native")
    assert interpreted(slope) == 0
    nt.config.set_tier("reference")
    assert nt.config.get_tier() == "reference"
    assert [interpreted(slope) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="no tier 'fast'; there are auto, reference, native"):
        nt.config.set_tier("fast")
    assert nt.config.get_tier() == "reference"


def test_after_an_assignment_all_is_compiled() -> None:
    v = nt.Variable([1.0, 2.0])
    assert interpreted(lambda: (v * 2.0).numpy()) == 1
    v.assign_add([1.0, 1.0])
    assert interpreted(lambda: v.numpy()) == 0
    assert interpreted(lambda: (v * 3.0 + 1.0).numpy()) == 0
    ASSIGNED[0] = False
    v.assign([3.0, 4.0])
    assert interpreted(lambda: (v * 4.0 - 1.0).numpy()) == 0


def test_after_a_checkpoint_all_is_compiled(tmp_path: Path) -> None:
    v = nt.Variable([1.0, 2.0])
    path = nt.train.Checkpoint(v=v).write(tmp_path / "v")
    assert interpreted(lambda: (v * 2.0 + 1.0).numpy()) == 0
    ASSIGNED[0] = False
    nt.train.Checkpoint(v=v).read(path)
    assert interpreted(lambda: (v * 3.0 + 1.0).numpy()) == 0


@nt.primitive(kernel="x / sqrt(T(1) + x * x)")
def squash(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(1 + x * x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("run", [
    lambda: nt.random.normal([3], seed=1).numpy(),
    lambda: nt.random.shuffle(nt.range(5)).numpy(),
    lambda: squash(nt.constant([1.0, 2.0])).numpy(),
    lambda: nt.linalg.inv([[2.0, 1.0], [1.0, 2.0]]).numpy(),
    lambda: (nt.zeros(MAX_BYTES // 4) + 1.0).numpy(),
    lambda: nt.function(lambda x: nt.sin(x) + 1.0)(nt.constant(1.0)).numpy(),
    lambda: nt.function(lambda x: x if nt.sin(x) > 0 else -x)(nt.constant(1.0)).numpy(),
    lambda: nt.function(lambda x: nt.sin(x) + 1.0).bind(np.ones(3)),
], ids=["normal", "shuffle", "kernel", "linalg", "large", "function", "look", "bind"])  # fmt: skip
def test_is_compiled_at_once(run: Callable[[], object]) -> None:
    assert interpreted(run) == 0


def test_a_function_within_a_tape_is_compiled_at_once() -> None:
    f = nt.function(lambda x: nt.sin(x) + 1.0)
    x = nt.constant([1.0, 2.0])

    def run() -> None:
        with nt.GradientTape() as tape:
            tape.watch(x)
            y = f(x) * x
        tape.gradient(y, x).numpy()

    assert interpreted(run) == 0


def test_other_threads_compile() -> None:
    def run() -> None:
        thread = threading.Thread(target=slope)
        thread.start()
        thread.join()

    assert interpreted(run) == 0


def test_results_share_no_memory_with_what_they_come_from() -> None:
    v = nt.Variable([1.0, 2.0, 3.0, 4.0])
    y = nt.reshape(v, (2, 2))
    z = nt.identity(v)
    assert interpreted(lambda: y.numpy()) == 1
    v.assign_add([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(v, [2, 3, 4, 5])
    np.testing.assert_array_equal(y, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(z, [1, 2, 3, 4])


def test_results_lie_in_order() -> None:
    x = nt.constant(np.arange(6.0).reshape(2, 3))
    y = nt.transpose(x)
    assert interpreted(lambda: y.numpy()) == 1
    np.testing.assert_array_equal(nt.reshape(y, (6,)), [0, 3, 1, 4, 2, 5])


def test_what_a_tape_holds_goes_on() -> None:
    x = nt.constant([1.0, 2.0])
    with nt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        assert interpreted(lambda: y.numpy()) == 1
        z = nt.reduce_sum(y * x)
    assert interpreted(lambda: tape.gradient(z, x).numpy()) == 1
    np.testing.assert_array_equal(tape.gradient(z, x), [3, 12])
    np.testing.assert_array_equal(tape.gradient(y, x), [2, 4])


def test_an_interrupt_leaves_the_trace_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from numtape.backends import reference

    y = nt.constant([1.0, 2.0]) * 3.0

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reference, "interpret", interrupted)
        with pytest.raises(KeyboardInterrupt):
            y.numpy()
    assert interpreted(lambda: y.numpy()) == 1
    np.testing.assert_array_equal(y, [3, 6])


def trained(tier: str) -> np.ndarray:
    """What some steps of training come to."""
    nt.config.set_tier(tier)
    x = np.linspace(-1, 1, 20).reshape(10, 2)
    w = nt.Variable([0.5, -0.2], dtype=nt.float64)
    optimizer = nt.keras.optimizers.Adam(0.1)
    for _ in range(5):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean((nt.linalg.matvec(x, w) - 1.0) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])
    return np.array([*w.numpy(), float(loss)])


def test_training_is_the_same_on_each_tier() -> None:
    native = trained("native")
    np.testing.assert_array_equal(trained("auto"), native)
    assert interpreted(lambda: np.testing.assert_allclose(trained("reference"), native, rtol=1e-9)) >= 5


@pytest.mark.parametrize("f", [
    lambda x: nt.reduce_sum(nt.sin(x) * x), lambda x: x * 2.0 if nt.reduce_sum(x) > 1.0 else -x,
], ids=["straight", "look"])  # fmt: skip
def test_functions_can_be_interpreted(f: Callable[[nt.Tensor], nt.Tensor]) -> None:
    g = nt.function(f)
    x = nt.constant([0.5, 1.5])
    right = g(x).numpy()
    nt.config.set_tier("reference")
    assert interpreted(lambda: np.testing.assert_allclose(g(x), right, rtol=1e-6)) >= 1
    nt.config.set_tier("auto")
    assert interpreted(lambda: np.testing.assert_array_equal(g(x), right)) == 0


def test_a_bound_function_is_interpreted_in_place() -> None:
    v = nt.Variable([0.0, 0.0])
    x = np.array([1.0, 2.0], np.float32)

    @nt.function
    def step(x: nt.Tensor) -> tuple[nt.Tensor, nt.Tensor, nt.Tensor]:
        v.assign_add(x)
        return nt.reduce_sum(v), x, v * 2.0

    bound = step.bind(x)
    bound()
    nt.config.set_tier("reference")
    for k in (2, 3):
        assert interpreted(lambda: bound()) == 1
        total, same, double = bound.result
        assert total == 3 * k
        np.testing.assert_array_equal(same, x)
        np.testing.assert_array_equal(double, 2 * k * x)
        np.testing.assert_array_equal(v, k * x)
    nt.config.set_tier("auto")
    assert interpreted(lambda: bound()) == 0
    assert bound.result[0] == 12


def test_explain_says_what_was_interpreted() -> None:
    slope()
    program = nt.explain().signatures[0].programs[0]
    assert program.tier == "interpreted once with NumPy; compiled for this report"
    assert program.kernels
    slope()
    report = nt.explain()
    assert report.signatures[0].programs[0].tier == "interpreted once with NumPy; otherwise it is native code"
    assert "tier: interpreted once" in str(report)
    assert "interpreted once" in report.to_html()
    nt.config.set_tier("native")
    slope(5)
    assert "interpreted" not in str(nt.explain())


def test_a_nan_is_found_where_nothing_is_compiled() -> None:
    def step() -> None:
        with nt.debug.check_numerics():
            float(nt.math.log(nt.constant(-2.0) * 3.0))

    def failing() -> None:
        with pytest.raises(FloatingPointError, match="forward: log gave nan"):
            step()

    assert [interpreted(failing) for _ in range(2)] == [1, 0]


ONCE = """
import sys
import numpy as np
import numtape as nt
x = nt.Variable(np.linspace(0, 1, 5))
with nt.GradientTape() as tape:
    y = nt.reduce_sum(nt.nn.softmax(nt.tanh(x)) * x)
print(tape.gradient(y, x).numpy().tobytes().hex())
print(*(name for name in ("numba", "llvmlite", "numtape.codegen.plan") if name in sys.modules))
"""


def test_a_gradient_that_is_taken_once_imports_no_compiler(tmp_path: Path) -> None:
    env = {**os.environ, "NUMTAPE_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", ONCE], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[1] == ""
    assert not list(tmp_path.iterdir())


REPEATED = """
import numpy as np
import numtape as nt
x = nt.Variable(np.linspace(0, 1, 50, dtype=np.float32))
for _ in range(3):
    with nt.GradientTape() as tape:
        y = nt.reduce_sum(nt.nn.softmax(nt.tanh(x)) * nt.sin(x))
    print(tape.gradient(y, x).numpy().tobytes().hex())
    print(nt.cache.stats().interpreted)
"""


def test_what_is_on_disk_does_not_decide(tmp_path: Path) -> None:
    env = {**os.environ, "NUMTAPE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", REPEATED]
    cold, warm = (subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(2))
    assert cold.stdout == warm.stdout
    assert cold.stdout.splitlines()[1::2] == ["1", "1", "1"]

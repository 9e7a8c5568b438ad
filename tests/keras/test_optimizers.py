"""Optimizers against Keras's rules, written anew with NumPy, over many steps."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt

STEPS = 20
SHAPES = ((3, 2), (4,), ())
TOLERANCE = {np.dtype("float32"): 2e-5, np.dtype("float64"): 1e-12}
optimizers = nt.keras.optimizers

# ---- the rules -----------------------------------------------------------------------------------------------------
# Each takes a Variable's value, gradient and state, the number of the step from 1, and the options.


def sgd(w: Any, g: Any, s: dict[str, Any], t: int, rate: float, momentum: float = 0.0, nesterov: bool = False) -> Any:
    if not momentum:
        return w - rate * g
    s["m"] = m = momentum * s.get("m", 0.0) - rate * g
    return w + momentum * m - rate * g if nesterov else w + m


def adam(
    w: Any, g: Any, s: dict[str, Any], t: int, rate: float, beta_1: float = 0.9, beta_2: float = 0.999,
    epsilon: float = 1e-7, amsgrad: bool = False,
) -> Any:  # fmt: skip
    alpha = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    s["m"] = m = beta_1 * s.get("m", 0.0) + (1 - beta_1) * g
    s["v"] = v = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    if amsgrad:
        s["max"] = v = np.maximum(s.get("max", 0.0), v)
    return w - alpha * m / (np.sqrt(v) + epsilon)


def rmsprop(
    w: Any, g: Any, s: dict[str, Any], t: int, rate: float, rho: float = 0.9, momentum: float = 0.0,
    epsilon: float = 1e-7, centered: bool = False,
) -> Any:  # fmt: skip
    s["v"] = v = rho * s.get("v", 0.0) + (1 - rho) * g * g
    if centered:
        s["mean"] = mean = rho * s.get("mean", 0.0) + (1 - rho) * g
        v = v - mean * mean
    change = rate * g / np.sqrt(v + epsilon)
    if momentum:
        s["m"] = change = momentum * s.get("m", 0.0) + change
    return w - change


RULES: dict[str, tuple[Callable[..., Any], Any, dict[str, Any]]] = {
    "SGD": (sgd, optimizers.SGD, {}),
    "momentum": (sgd, optimizers.SGD, {"momentum": 0.9}),
    "nesterov": (sgd, optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (adam, optimizers.Adam, {}),
    "Adam, other betas": (adam, optimizers.Adam, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "amsgrad": (adam, optimizers.Adam, {"amsgrad": True}),
    "AdamW": (adam, optimizers.AdamW, {}),
    "AdamW, amsgrad": (adam, optimizers.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    "RMSprop": (rmsprop, optimizers.RMSprop, {}),
    "RMSprop, momentum": (rmsprop, optimizers.RMSprop, {"momentum": 0.7, "rho": 0.8}),
    "RMSprop, centered": (rmsprop, optimizers.RMSprop, {"centered": True, "epsilon": 1e-4}),
    "RMSprop, both": (rmsprop, optimizers.RMSprop, {"centered": True, "momentum": 0.7, "epsilon": 1e-4}),
}
COMMON: list[dict[str, Any]] = [
    {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"clipvalue": 0.2}, {"global_clipnorm": 1.0},
    {"weight_decay": 0.05, "global_clipnorm": 0.3},
]  # fmt: skip


def clipped(gs: list[Any], clipnorm: float = 0, clipvalue: float = 0, global_clipnorm: float = 0) -> list[Any]:
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gs]
    if clipnorm:
        return [g * min(1.0, clipnorm / np.sqrt(np.sum(g * g))) for g in gs]
    if global_clipnorm:
        norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gs))
        return [g * min(1.0, global_clipnorm / norm) for g in gs]
    return gs


def expected(
    rule: Callable[..., Any], ws: list[Any], gradients: list[list[Any]], rates: list[float], options: dict[str, Any]
) -> list[Any]:
    """Where the Variables are in the end, in float64."""
    options = dict(options)
    decay = options.pop("weight_decay", 0.004 if options.pop("_decoupled", False) else 0.0)
    clip = {key: options.pop(key) for key in ("clipnorm", "clipvalue", "global_clipnorm") if key in options}
    ws = [w.astype(np.float64) for w in ws]
    states: list[dict[str, Any]] = [{} for _ in ws]
    for t, (gs, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        gs = clipped([g.astype(np.float64) for g in gs], **clip)
        for k, g in enumerate(gs):
            ws[k] = rule(ws[k] - ws[k] * decay * rate, g, states[k], t, rate, **options)
    return ws


def setting(dtypes: list[str], seed: int = 0) -> tuple[list[Any], list[list[Any]]]:
    rng = np.random.default_rng(seed)
    pairs = [(shape, dtype) for dtype in dtypes for shape in SHAPES]
    ws = [np.asarray(rng.normal(size=shape)).astype(dtype) for shape, dtype in pairs]
    return ws, [[np.asarray(rng.normal(size=shape)).astype(dtype) for shape, dtype in pairs] for _ in range(STEPS)]


def check(name: str, more: dict[str, Any], dtypes: list[str]) -> None:
    rule, kind, options = RULES[name]
    options = options | more
    ws, gradients = setting(dtypes)
    rates = [0.05 / (1 + t % 4) for t in range(STEPS)]
    right = expected(rule, ws, gradients, rates, options | {"_decoupled": kind is optimizers.AdamW})
    variables = [nt.Variable(w) for w in ws]
    optimizer = kind(learning_rate=rates[0], **options)
    for t, (gs, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        optimizer.learning_rate = rate
        found = optimizer.apply_gradients(zip(map(nt.constant, gs), variables, strict=True))
        assert found is optimizer.iterations
        if t % 3 == 0:
            assert int(found) == t
    for variable, w in zip(variables, right, strict=True):
        tolerance = TOLERANCE[variable.numpy().dtype]
        np.testing.assert_allclose(variable.numpy(), w, rtol=10 * tolerance, atol=10 * tolerance)
    assert optimizer.iterations.numpy() == STEPS


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str) -> None:
    check(name, {}, ["float64"])


@pytest.mark.parametrize("name", ["momentum", "Adam", "AdamW", "RMSprop, both"])
def test_float32(name: str) -> None:
    check(name, {}, ["float32"])


@pytest.mark.parametrize("more", COMMON, ids=str)
@pytest.mark.parametrize("name", ["nesterov", "Adam"])
def test_common_options(name: str, more: dict[str, Any]) -> None:
    check(name, more, ["float64"])


@pytest.mark.parametrize("more", [{}, {"global_clipnorm": 1.0}, {"clipnorm": 0.5, "weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_dtypes_mixed(name: str, more: dict[str, Any]) -> None:
    check(name, more, ["float32", "float64"])


def test_a_gradient_within_the_limit_is_not_touched() -> None:
    for option in ("clipnorm", "global_clipnorm"):
        v = nt.Variable([0.1, 0.2])
        optimizers.SGD(1.0, **{option: 7.0}).apply_gradients([(nt.constant([1 / 3, 1 / 7]), v)])
        w = nt.Variable([0.1, 0.2])
        optimizers.SGD(1.0).apply_gradients([(nt.constant([1 / 3, 1 / 7]), w)])
        np.testing.assert_array_equal(v.numpy(), w.numpy())


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_a_gradient_of_zeros_is_not_touched(option: str) -> None:
    v = nt.Variable([0.5, 0.25])
    optimizers.SGD(1.0, **{option: 0.5}).apply_gradients([(nt.zeros(2), v)])
    np.testing.assert_array_equal(v.numpy(), [0.5, 0.25])


def test_empty_variables() -> None:
    v, w = nt.Variable(np.ones((0, 3))), nt.Variable(np.ones(2))
    for kind in (optimizers.SGD, optimizers.Adam, optimizers.RMSprop):
        kind(0.5, global_clipnorm=1.0).apply_gradients([(nt.zeros((0, 3), nt.float64), v), (np.ones(2), w)])
    assert v.numpy().shape == (0, 3)


# ---- training ------------------------------------------------------------------------------------------------------


def test_training_on_a_tape() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 1))
    w, b = nt.Variable(np.zeros((3, 1))), nt.Variable(np.zeros(1))
    optimizer = optimizers.Adam(0.1)
    right = [np.zeros((3, 1)), np.zeros(1)]
    states: list[dict[str, Any]] = [{}, {}]
    for t in range(1, 41):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean((x @ w + b - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b], strict=True))
        error = 2 * (x @ right[0] + right[1] - y) / 30
        gs = [x.T @ error, error.sum(0)]
        right = [adam(w, g, s, t, 0.1) for w, g, s in zip(right, gs, states, strict=True)]
    np.testing.assert_allclose(w.numpy(), right[0], rtol=1e-9)
    np.testing.assert_allclose(b.numpy(), right[1], rtol=1e-9)


def test_minimize() -> None:
    x = nt.Variable(1.0)
    optimizer = optimizers.SGD(0.25)
    optimizer.minimize(lambda: x * x, [x])
    assert x.numpy() == 0.5
    with nt.GradientTape() as tape:
        loss = x * x
    optimizer.minimize(loss, [x], tape=tape)
    assert x.numpy() == 0.25
    with pytest.raises(ValueError, match="tape"):
        optimizer.minimize(loss, [x])
    with pytest.raises(ValueError, match="no gradients"):
        optimizer.minimize(lambda: nt.constant(1.0), [x])
    assert optimizer.iterations.numpy() == 2


def test_gradients_of_any_kind() -> None:
    v = nt.Variable([1.0, 2.0])
    optimizer = optimizers.SGD(1.0)
    for g in ([0.5, 0.5], (0.5, 0.5), np.array([0.5, 0.5]), nt.constant([0.5, 0.5]), nt.Variable([0.5, 0.5])):
        v.assign([1.0, 2.0])
        optimizer.apply_gradients([[g, v]])
        np.testing.assert_array_equal(v.numpy(), [0.5, 1.5])


def test_other_variables_later_and_not_always() -> None:
    v, w = nt.Variable(1.0), nt.Variable(1.0)
    optimizer = optimizers.SGD(0.5, momentum=0.5)
    one = nt.constant(1.0)
    optimizer.apply_gradients([(one, v)])
    optimizer.apply_gradients([(one, w), (one, v)])
    with pytest.warns(UserWarning, match="no gradient for"):
        optimizer.apply_gradients([(one, v), (None, w)])
    optimizer.apply_gradients([(one, w)])
    # velocities of v: -.5, -.75, -.875; of w: -.5, -.75
    np.testing.assert_array_equal([v.numpy(), w.numpy()], [1 - 2.125, 1 - 1.25])
    assert optimizer.iterations.numpy() == 4


def test_a_variable_given_twice_changes_twice() -> None:
    v, w = nt.Variable(1.0), nt.Variable(1.0)
    a = optimizers.SGD(0.5, momentum=0.5)
    a.apply_gradients([(nt.constant(1.0), v), (nt.constant(3.0), v), (nt.constant(1.0), w)])
    # velocities -.5, then -.25 - 1.5
    np.testing.assert_array_equal([v.numpy(), w.numpy()], [1 - 0.5 - 1.75, 0.5])
    assert a.iterations.numpy() == 1


def test_state() -> None:
    v = nt.Variable([1.0, 2.0], name="v")
    optimizer = optimizers.Adam(0.1)
    assert [x.name for x in optimizer.variables] == ["iterations:0"]
    optimizer.build([v])
    assert [x.name for x in optimizer.variables] == ["iterations:0", "v/m:0", "v/v:0"]
    assert not any(x.trainable for x in optimizer.variables)
    optimizer.apply_gradients([(nt.constant([1.0, 2.0]), v)])
    np.testing.assert_allclose(optimizer.variables[1].numpy(), [0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(optimizer.variables[2].numpy(), [0.001, 0.004], rtol=1e-4)
    taken = [x.numpy() for x in optimizer.variables], v.numpy()
    optimizer.apply_gradients([(nt.constant([1.0, 2.0]), v)])
    once = v.numpy()
    # Back to what it was: the state is what the user says.
    for variable, value in zip(optimizer.variables, taken[0], strict=True):
        variable.assign(value)
    v.assign(taken[1])
    optimizer.apply_gradients([(nt.constant([1.0, 2.0]), v)])
    np.testing.assert_array_equal(v.numpy(), once)
    assert int(optimizer.iterations) == 2


def test_state_read_before_and_after_a_step() -> None:
    v = nt.Variable([1.0, 2.0])
    optimizer = optimizers.SGD(0.5, momentum=0.5)
    optimizer.build([v])
    momentum = optimizer.variables[1]
    found = []
    for _ in range(3):
        found.append((momentum.read_value(), momentum * 2.0, optimizer.iterations.value()))
        optimizer.apply_gradients([(nt.constant([1.0, 2.0]), v)])
    for k, (value, double, count) in enumerate(found):
        right = -np.array([1.0, 2.0]) * (1 - 0.5**k)
        np.testing.assert_array_equal(value.numpy(), right)
        np.testing.assert_array_equal(double.numpy(), 2 * right)
        assert count.numpy() == k


def test_two_optimizers_of_one_variable() -> None:
    v = nt.Variable(1.0)
    a, b = optimizers.SGD(0.5), optimizers.SGD(0.25, momentum=0.5)
    for _ in range(2):
        a.apply_gradients([(nt.constant(1.0), v)])
        b.apply_gradients([(nt.constant(1.0), v)])
    assert v.numpy() == 1 - 0.5 - 0.25 - 0.5 - 0.375
    assert (a.iterations.numpy(), b.iterations.numpy()) == (2, 2)


def test_one_optimizer_in_several_threads_in_turn() -> None:
    v = nt.Variable(np.zeros(3))
    optimizer = optimizers.SGD(1.0, momentum=0.5)
    turn = threading.Semaphore(1)
    failures = []

    def work() -> None:
        try:
            for _ in range(20):
                with turn:
                    optimizer.apply_gradients([(nt.constant(np.ones(3)), v)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    w, m = 0.0, 0.0
    for _ in range(60):
        m = 0.5 * m - 1.0
        w += m
    np.testing.assert_allclose(v.numpy(), np.full(3, w))
    assert optimizer.iterations.numpy() == 60


def test_work_of_one_thread_still_pending_when_another_goes_on() -> None:
    v = nt.Variable(np.zeros(3))
    optimizer = optimizers.SGD(1.0, momentum=0.5)
    optimizer.apply_gradients([(nt.constant(np.ones(3)), v)])

    def work() -> None:
        optimizer.apply_gradients([(nt.constant(np.ones(3)), v)])
        assert v.numpy()[0] == -2.5

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (nt.constant(1.0) + 1.0).numpy()  # runs what was pending here
    optimizer.apply_gradients([(nt.constant(np.ones(3)), v)])
    np.testing.assert_array_equal(v.numpy(), [-4.25] * 3)
    assert optimizer.iterations.numpy() == 3


# ---- the learning rate ---------------------------------------------------------------------------------------------


def rates_of() -> list[Any]:
    return [0.5, np.float32(0.5), nt.Variable(0.5), nt.constant(0.5), nt.Variable(np.float64(0.5)), lambda step: 0.5,
            lambda step: 0.25 + 0.25 * float(step == 0), lambda step: nt.constant(0.5), lambda: 0.5,
            lambda rate=0.5: rate]  # fmt: skip


@pytest.mark.parametrize("which", range(10))
def test_learning_rates_of_any_kind(which: int) -> None:
    a, b = nt.Variable([1.0, 2.0]), nt.Variable(np.array([1.0, 2.0]))
    optimizer = optimizers.SGD(rates_of()[which])
    optimizer.apply_gradients([(np.ones(2), a), (np.ones(2), b)])
    np.testing.assert_array_equal(a.numpy(), [0.5, 1.5])
    np.testing.assert_array_equal(b.numpy(), [0.5, 1.5])


def test_a_rate_that_is_a_variable_is_read_at_each_step() -> None:
    rate, v = nt.Variable(0.5), nt.Variable(1.0)
    optimizer = optimizers.SGD(rate)
    optimizer.apply_gradients([(1.0, v)])
    rate.assign(0.25)
    optimizer.apply_gradients([(1.0, v)])
    assert v.numpy() == 0.25


def test_a_schedule_sees_the_step() -> None:
    v = nt.Variable(0.0)
    optimizer = optimizers.SGD(lambda step: 1.0 / (1.0 + float(step)))
    for _ in range(3):
        optimizer.apply_gradients([(1.0, v)])
    np.testing.assert_allclose(v.numpy(), -(1 + 1 / 2 + 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "momentum", "Adam", "AdamW", "RMSprop, both"])
def test_a_new_rate_records_and_compiles_nothing(name: str) -> None:
    _, kind, options = RULES[name]
    v, w = nt.Variable([1.0, 2.0]), nt.Variable(3.0)
    optimizer = kind(0.1, **options)

    def step() -> None:
        with nt.GradientTape() as tape:
            y = nt.reduce_sum(v * w)
        optimizer.apply_gradients(zip(tape.gradient(y, [v, w]), [v, w], strict=True))
        v.numpy()

    for _ in range(3):
        step()
    before = nt.cache.stats()
    for k in range(50):
        optimizer.learning_rate = 0.1 / (k + 1)
        step()
    after = nt.cache.stats()
    assert (after.programs, after.compilations) == (before.programs, before.compilations)
    assert after.memory_hits - before.memory_hits >= 50


# ---- errors --------------------------------------------------------------------------------------------------------

BAD_RATES = [-0.1, float("nan"), float("inf"), np.float32(-1), "fast", None, True, [0.1]]


@pytest.mark.parametrize("rate", BAD_RATES, ids=str)
@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.RMSprop])
def test_bad_learning_rates(kind: Any, rate: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: learning_rate"):
        kind(rate)
    optimizer = kind(0.5)
    with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: learning_rate"):
        optimizer.learning_rate = rate
    assert optimizer.learning_rate == 0.5
    v = nt.Variable(1.0)
    optimizer.learning_rate = lambda step: rate
    with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: learning_rate"):
        optimizer.apply_gradients([(1.0, v)])
    assert (v.numpy(), optimizer.iterations.numpy()) == (1.0, 0)


@pytest.mark.parametrize("rate", [nt.constant([0.1, 0.2]), nt.constant(1), nt.Variable([0.1])], ids=repr)
def test_rates_that_are_tensors_but_no_single_float(rate: Any) -> None:
    with pytest.raises(ValueError, match="SGD: learning_rate is a single float"):
        optimizers.SGD(rate)
    a, b = nt.Variable([1.0, 2.0]), nt.Variable(np.float64(1.0))
    optimizer = optimizers.SGD(lambda step: rate)
    with pytest.raises(ValueError, match="SGD: learning_rate is a single float"):
        optimizer.apply_gradients([(np.ones(2), a), (1.0, b)])
    np.testing.assert_array_equal(a.numpy(), [1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: optimizers.SGD(momentum=-0.1), "momentum"),
        (lambda: optimizers.SGD(momentum=1.5), "momentum"),
        (lambda: optimizers.Adam(beta_1=1.0), "beta_1"),
        (lambda: optimizers.Adam(beta_2=-0.1), "beta_2"),
        (lambda: optimizers.Adam(epsilon=float("nan")), "epsilon"),
        (lambda: optimizers.RMSprop(rho=1.0), "rho"),
        (lambda: optimizers.AdamW(weight_decay=-1), "weight_decay"),
        (lambda: optimizers.SGD(clipnorm=-1.0), "clipnorm"),
        (lambda: optimizers.SGD(clipnorm=0), "clipnorm"),
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0), "only one of clipnorm, clipvalue"),
    ],
)
def test_bad_options(make: Callable[[], Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()
    with pytest.raises(TypeError):
        optimizers.SGD(momentun=0.5)


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam])
def test_nothing_is_half_assigned(kind: Any) -> None:
    v, w = nt.Variable([1.0, 2.0], name="v"), nt.Variable(np.ones(3), name="w")
    optimizer = kind(0.5)
    good = nt.constant([1.0, 1.0])
    cases: list[tuple[Any, type[Exception], str]] = [
        ([(good, v), (nt.ones(2, nt.float64), w)], ValueError, r"w:0.*\[3\]|float64\[2\].*w:0"),
        ([(good, v), (nt.ones(3), w)], TypeError, "w:0"),
        ([(good, v), (nt.constant([1, 2, 3]), w)], TypeError, "w:0"),
        ([(good, v), ("text", w)], TypeError, "text"),
        ([(good, v), (np.ones(3), np.ones(3))], TypeError, "ndarray"),
        ([(good, v), (w, np.ones(3))], TypeError, "ndarray"),
        ([(good, v), w], TypeError, "pairs"),
        ([(good, v), (np.ones(3), w, 1)], TypeError, "pairs"),
        ([good, v], TypeError, "pairs"),
    ]
    for pairs, error, text in cases:
        with pytest.raises(error, match=text):
            optimizer.apply_gradients(pairs)
        np.testing.assert_array_equal(v.numpy(), [1.0, 2.0])
        np.testing.assert_array_equal(w.numpy(), np.ones(3))
        assert optimizer.iterations.numpy() == 0
    optimizer.apply_gradients([(good, v), (np.ones(3), w)])
    assert optimizer.iterations.numpy() == 1
    assert (v.numpy() < [1.0, 2.0]).all()


def test_integer_variables_are_refused() -> None:
    n = nt.Variable([1, 2])
    with pytest.raises(TypeError):
        optimizers.SGD(0.5).apply_gradients([([1, 2], n)])
    np.testing.assert_array_equal(n.numpy(), [1, 2])


# ---- copies --------------------------------------------------------------------------------------------------------

KINDS: list[Callable[[], Any]] = [
    lambda: optimizers.SGD(0.1, momentum=0.5),
    lambda: optimizers.Adam(nt.Variable(0.1), clipvalue=0.5),
    lambda: optimizers.RMSprop(0.1, centered=True),
]
COPIES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "copied": lambda v, o: copy.deepcopy((v, o)),
    "copied, optimizer first": lambda v, o: copy.deepcopy((o, v))[::-1],  # type: ignore[return-value]
    "pickled": lambda v, o: pickle.loads(pickle.dumps((v, o))),
    "pickled, optimizer first": lambda v, o: pickle.loads(pickle.dumps((o, v)))[::-1],
}


def take_step(variables: list[Any], optimizer: Any) -> list[Any]:
    optimizer.apply_gradients([(2.0 * v, v) for v in variables])
    return [v.numpy() for v in [*variables, *optimizer.variables]]


def some_variables() -> list[Any]:
    return [nt.Variable([1.0, 2.0]), nt.Variable(np.ones((2, 1)))]


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", KINDS, ids=[kind().name for kind in KINDS])
def test_copies_go_on_on_their_own(kind: Callable[[], Any], way: str, steps: int) -> None:
    variables, optimizer = some_variables(), kind()
    for _ in range(steps):
        take_step(variables, optimizer)
    others, twin = COPIES[way](variables, optimizer)
    assert repr(twin) == repr(optimizer)
    assert [v.name for v in twin.variables] == [v.name for v in optimizer.variables]
    before = [v.numpy() for v in [*others, *twin.variables]]
    first = [take_step(variables, optimizer), take_step(variables, optimizer)]
    for old, v in zip(before, [*others, *twin.variables], strict=True):
        np.testing.assert_array_equal(old, v.numpy())
    for expected in first:
        for x, y in zip(expected, take_step(others, twin), strict=True):
            np.testing.assert_array_equal(x, y)
    assert len(twin.variables) == len(optimizer.variables)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", KINDS, ids=[kind().name for kind in KINDS])
def test_a_copy_alone_is_for_the_same_variables(kind: Callable[[], Any], duplicate: Callable[[Any], Any]) -> None:
    variables, optimizer = some_variables(), kind()
    take_step(variables, optimizer)
    twin = duplicate(optimizer)
    values = [v.numpy() for v in variables]
    expected = take_step(variables, optimizer)
    for v, value in zip(variables, values, strict=True):
        v.assign(value)
    for x, y in zip(expected, take_step(variables, twin), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_copy_that_a_function_makes_is_made_at_each_call() -> None:
    v, optimizer = nt.Variable(1.0), optimizers.SGD(0.5, momentum=0.5)
    copies = []

    @nt.function
    def step() -> Any:
        optimizer.apply_gradients([(nt.identity(v), v)])
        copies.append(copy.deepcopy(optimizer))
        return nt.identity(v)

    values = [float(step()) for _ in range(3)]
    assert values == [0.5, 0.0, -0.25]
    assert [[float(x) for x in twin.variables] for twin in copies] == [[1.0, -0.5], [2.0, -0.5], [3.0, -0.25]]


def test_a_schedule_is_copied_though_not_pickled() -> None:
    twin = copy.deepcopy(optimizers.SGD(lambda: 0.5))
    v = nt.Variable(1.0)
    twin.apply_gradients([(1.0, v)])
    assert v.numpy() == 0.5


# ---- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (optimizers.Adam(0.25), "learning_rate=0.25"),
        (optimizers.Adam(beta_1=0.8, clipnorm=1), "learning_rate=0.001, beta_1=0.8, clipnorm=1.0"),
        (optimizers.SGD(momentum=0.5, name="a"), "learning_rate=0.01, momentum=0.5, name='a'"),
        (optimizers.AdamW(), "learning_rate=0.001"),
        (optimizers.AdamW(weight_decay=0.5), "learning_rate=0.001, weight_decay=0.5"),
        (optimizers.RMSprop(centered=True), "learning_rate=0.001, centered=True"),
    ],
    ids=str,
)
def test_what_is_unusual_is_shown(optimizer: Any, options: str) -> None:
    assert repr(optimizer) == f"<nt.keras.optimizers.{type(optimizer).__name__}: {options}>"


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.RMSprop])
def test_unknown_options(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}: there is no option lr; write learning_rate"):
        kind(lr=0.1)
    with pytest.raises(TypeError, match=f"{kind.__name__}: there is no option use_ema; there are learning_rate"):
        kind(use_ema=True)


def test_names() -> None:
    assert optimizers.Adam(name="mine").name == "mine"
    with pytest.raises(ValueError, match="mine: learning_rate"):
        optimizers.Adam(-1.0, name="mine")

"""Optimizers on indexed slices: the rules of `test_optimizers`, on the rows that were gathered and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.backends import native
from numtape.codegen.plan import Plan, plan
from tests.keras.test_optimizers import RULES, TOLERANCE, clipped

STEPS = 8
optimizers = nt.keras.optimizers
COMMON: list[dict[str, Any]] = [
    {}, {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"clipvalue": 0.2}, {"global_clipnorm": 1.0},
    {"weight_decay": 0.05, "global_clipnorm": 0.3},
]  # fmt: skip


def summed(g: Any) -> tuple[Any, Any]:
    """The rows that a gradient is for, each once, and what is to be added up in each."""
    if isinstance(g, np.ndarray):
        return slice(None), g.astype(np.float64)
    values, indices = g
    rows = np.unique(indices)
    out = np.zeros((len(rows), *values.shape[1:]), values.dtype)
    np.add.at(out, np.searchsorted(rows, indices), values)
    return rows, out.astype(np.float64)


def expected(rule: Any, ws: list[Any], steps: list[list[Any]], rate: float, options: dict[str, Any]) -> list[Any]:
    """Where the Variables are in the end: gradients are arrays, or pairs of values and indices."""
    options = dict(options)
    decay = options.pop("weight_decay", 0.0)
    clip = {key: options.pop(key) for key in ("clipnorm", "clipvalue", "global_clipnorm") if key in options}
    ws = [w.astype(np.float64) for w in ws]
    states: list[dict[str, Any]] = [{} for _ in ws]
    for t, gs in enumerate(steps, 1):
        parts = [summed(g) for g in gs]
        for k, (g, (rows, _)) in enumerate(zip(clipped([g for _, g in parts], **clip), parts, strict=True)):
            own = {name: slot[rows] for name, slot in states[k].items()}
            w = ws[k][rows]
            ws[k][rows] = rule(w - w * decay * rate, g, own, t, rate, **options)
            for name, slot in own.items():
                states[k].setdefault(name, np.zeros_like(ws[k]))[rows] = slot
    return ws


def setting(dtypes: list[str]) -> tuple[list[Any], list[list[Any]]]:
    """Tables and a dense weight, and for each step their gradients."""
    rng = np.random.default_rng(1)
    ws, steps = [], [[] for _ in range(STEPS)]
    for dtype in dtypes:
        for shape, count in (((6, 3), 5), ((4,), 3), ((3, 2, 2), 1), ((3, 2), None)):
            ws.append(rng.normal(size=shape).astype(dtype))
            for gs in steps:
                g = rng.normal(size=shape if count is None else (count, *shape[1:])).astype(dtype)
                gs.append(g if count is None else (g, rng.integers(0, shape[0], count)))
    return ws, steps


def check(name: str, more: dict[str, Any], dtypes: list[str]) -> None:
    rule, kind, options = RULES[name]
    options = options | more
    ws, steps = setting(dtypes)
    decoupled = {"weight_decay": 0.004} if kind is optimizers.AdamW else {}
    right = expected(rule, ws, steps, 0.05, decoupled | options)
    variables = [nt.Variable(w) for w in ws]
    optimizer = kind(learning_rate=0.05, **options)
    for gs in steps:
        given = [nt.constant(g) if isinstance(g, np.ndarray) else nt.IndexedSlices(*g) for g in gs]
        optimizer.apply_gradients(zip(given, variables, strict=True))
    for variable, w in zip(variables, right, strict=True):
        tolerance = 10 * TOLERANCE[variable.numpy().dtype]
        np.testing.assert_allclose(variable.numpy(), w, rtol=tolerance, atol=tolerance)
    assert int(optimizer.iterations) == STEPS


@pytest.mark.parametrize("name", RULES)
def test_the_rule_sees_the_rows(name: str) -> None:
    check(name, {}, ["float32"])
    check(name, {}, ["float64"])


@pytest.mark.parametrize("more", COMMON, ids=lambda more: " ".join(more) or "none")
def test_clipping_and_decay_act_on_the_rows(more: dict[str, Any]) -> None:
    check("Adam", more, ["float64"])
    check("SGD", more, ["float32", "float64"])


def test_gradient_descent_is_what_it_is_for_the_dense_gradient() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3))
    at = rng.integers(0, 5, (6, 4))
    found = []
    for dense in (False, True):
        v = nt.Variable(start)
        optimizer = optimizers.SGD(0.1)
        for k in range(6):
            with nt.GradientTape() as tape:
                loss = nt.reduce_sum(nt.gather(v, at[k]) ** 2)
            g = tape.gradient(loss, v)
            assert type(g) is nt.IndexedSlices
            optimizer.apply_gradients([(nt.convert_to_tensor(g) if dense else g, v)])
        found.append(v.numpy())
    np.testing.assert_allclose(*found, rtol=1e-13)


def test_minimize_and_a_rate_that_changes() -> None:
    v = nt.Variable(np.ones((4, 2)))
    optimizer = optimizers.SGD(lambda step: 0.25)
    optimizer.minimize(lambda: nt.reduce_sum(nt.nn.embedding_lookup(v, [1, 1])), [v])
    optimizer.learning_rate = 0.5
    optimizer.minimize(lambda: nt.reduce_sum(nt.nn.embedding_lookup(v, [3])), [v])
    np.testing.assert_array_equal(v, [[1, 1], [0.5, 0.5], [1, 1], [0.5, 0.5]])


def test_indices_that_name_no_row_and_no_indices() -> None:
    v = nt.Variable(np.ones((3, 2)))
    optimizer = optimizers.Adam(0.1, global_clipnorm=1.0)
    optimizer.apply_gradients([(nt.IndexedSlices(np.ones((2, 2)), [-1, 3]), v)])
    optimizer.apply_gradients([(nt.IndexedSlices(np.ones((0, 2)), np.zeros(0, np.int64)), v)])
    np.testing.assert_array_equal(v, np.ones((3, 2)))
    assert int(optimizer.iterations) == 2


def test_a_variable_given_twice_changes_twice() -> None:
    v = nt.Variable(np.zeros((3, 2)))
    ones = nt.IndexedSlices(np.ones((1, 2)), [1])
    optimizers.SGD(0.5).apply_gradients([(ones, v), (nt.constant(np.ones((3, 2))), v), (ones, v)])
    np.testing.assert_array_equal(v, [[-0.5] * 2, [-1.5] * 2, [-0.5] * 2])


@pytest.mark.parametrize(
    ("values", "indices", "shape", "error"),
    [
        (np.ones((1, 2), np.float32), [0], (3, 2), TypeError),
        (np.ones((1, 2)), [0], (2, 2), ValueError),
        (np.ones((2, 2)), [0], None, ValueError),
        (np.ones((1, 3)), [0], None, ValueError),
        (np.ones((1, 1, 2)), [[0]], None, ValueError),
    ],
)
def test_rows_that_do_not_fit_change_nothing(values: Any, indices: Any, shape: Any, error: type[Exception]) -> None:
    v, w = nt.Variable(np.zeros((3, 2))), nt.Variable(1.0)
    optimizer = optimizers.Adam()
    with pytest.raises(error, match="Adam"):
        optimizer.apply_gradients([(nt.constant(1.0), w), (nt.IndexedSlices(values, indices, shape), v)])
    assert (float(w), int(optimizer.iterations)) == (1.0, 0)
    np.testing.assert_array_equal(v, np.zeros((3, 2)))


@pytest.mark.parametrize("name", RULES)
def test_a_step_touches_rows_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Plan] = []

    def noted(program: Any) -> Plan:
        made.append(plan(program))
        return made[-1]

    monkeypatch.setattr(native, "plan", noted)
    _, kind, options = RULES[name]
    length = 1021 + list(RULES).index(name)
    v = nt.Variable(np.ones((length, 3), np.float32))
    optimizer = kind(0.1, global_clipnorm=1.0, **options)
    for k in range(3):
        with nt.GradientTape() as tape:
            loss = nt.reduce_sum(nt.gather(v, [k, k, 5]) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, v), v)])
    np.testing.assert_array_equal(v[6], [1, 1, 1])
    steps = [p for p in made if len(p.steps) > 3]
    assert steps
    for p in steps:
        assert [kind for kind, _ in p.results if kind != "new"] == ["donated"] * (2 + len(optimizer.slots))
        assert not [step.kernel.name for step in p.steps if 3 * length in step.arguments]
        assert p.arena < 4 * 3 * length

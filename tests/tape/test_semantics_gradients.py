"""Targets, sources, structures and None: rows G, S and N of the semantics."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import numtape as nt
from tests.tape.checks import difference, gradient, same

ZERO = nt.UnconnectedGradients.ZERO


def tape_of(*xs: object, persistent: bool = False) -> nt.GradientTape:
    tape = nt.GradientTape(persistent)
    tape.watch(list(xs))
    return tape


# ---- G -------------------------------------------------------------------------------------------------------------


def test_G01_shape_of_the_source() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    found = gradient(lambda w, b: nt.reduce_mean((x @ w + b) ** 2), w, b)
    same(found, difference(lambda w, b: np.mean((x @ w + b) ** 2), w, b), 1e-6)


def test_G02_scalar() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v**2
    same(t.gradient(y, v), 6.0)


@pytest.mark.parametrize("pack", [lambda a, b: [a, b], lambda a, b: {"a": a, "b": b}, lambda a, b: ((a,), {"k": [b]})])
def test_G03_targets_are_summed(pack: object) -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape() as t:
        y0, y1 = x**2, 1 / x
    same(t.gradient(pack(y0, y1), x), 3.75)  # type: ignore[operator]


def test_G03_targets_of_different_shapes_and_dtypes() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as t:
        y0, y1 = x * x, nt.reduce_sum(nt.cast(x, "float64"))
    same(t.gradient([y0, y1], x), [3.0, 5.0])


def test_G04_sum_of_elements() -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape() as t:
        y = x * [3.0, 4.0]
    same(t.gradient(y, x), 7.0)


@pytest.mark.parametrize("watched", [True, False])
def test_G05_the_target_itself(watched: bool) -> None:
    x = nt.constant([2.0, 3.0])
    with nt.GradientTape(persistent=True) as t:
        if watched:
            t.watch(x)
    same(t.gradient(x, x), [1.0, 1.0])
    same(t.gradient(x, x, output_gradients=nt.constant([5.0, 6.0])), [5.0, 6.0])
    same(t.gradient([x, x], [x]), [[2.0, 2.0]])


def test_G05_on_a_tape_that_never_recorded() -> None:
    x, y = nt.constant([2.0, 3.0]), nt.constant(1.0)
    t = nt.GradientTape(persistent=True)
    same(t.gradient(x, x), [1.0, 1.0])
    same(t.gradient([x, x, y], [x, y]), [[2.0, 2.0], 1.0])
    same(t.gradient(x, y), None)
    same(t.gradient(x, y, unconnected_gradients=ZERO), 0.0)


def test_G06_a_repeated_target() -> None:
    x = nt.constant(2.0)
    with tape_of(x) as t:
        y = x * x
    same(t.gradient([x, y, y], x), 9.0)


def test_G07_a_repeated_source() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        z = x * x
    same(t.gradient(z, [x, x]), [6.0, 6.0])


def test_G08_an_intermediate_does_not_cut_the_path() -> None:
    x = nt.constant(3.0)
    with tape_of(x, persistent=True) as t:
        y = x * x
        z = y * y
    same(t.gradient(z, [x, y]), [108.0, 18.0])
    same(t.gradient(z, [y, x, z]), [18.0, 108.0, 1.0])


def test_G09_an_intermediate_is_a_source() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        y = x * x
        z = y * y
    same(t.gradient(z, y), 18.0)


def test_G10_output_gradients() -> None:
    x = nt.constant([1.0, 2.0, 3.0])
    with tape_of(x, persistent=True) as t:
        y = x**2
    w = np.array([0.5, -1.0, 2.0], np.float32)
    for seed in (nt.constant(w), w, w.tolist(), nt.Variable(w), [nt.constant(w)]):
        same(t.gradient(y, x, output_gradients=seed), [1.0, -4.0, 12.0])


def test_G10_one_for_each_flattened_target() -> None:
    x = nt.constant(2.0)
    with tape_of(x, persistent=True) as t:
        y, z = x * x, x * x * x
    seeds = [nt.constant(10.0), nt.constant(100.0)]
    same(t.gradient([y, z], x, output_gradients=seeds), 40.0 + 1200.0)
    same(t.gradient((y, [z]), x, output_gradients=(seeds[0], [seeds[1]])), 1240.0)
    same(t.gradient({"b": y, "a": z}, x, output_gradients={"a": seeds[1], "b": seeds[0]}), 1240.0)
    same(t.gradient([y], [x], output_gradients=[seeds[0]]), [40.0])
    same(t.gradient({"k": y}, x, output_gradients={"k": seeds[0]}), 40.0)
    same(t.gradient([[y]], x, output_gradients=[[seeds[0]]]), 40.0)


def test_G11_none_means_ones() -> None:
    x = nt.constant(2.0)
    with tape_of(x, persistent=True) as t:
        y, z = x * x, x * x * x
    same(t.gradient([y, z], x, output_gradients=[None, nt.constant(10.0)]), 4.0 + 120.0)
    same(t.gradient([y, z], x, output_gradients=[nt.constant(10.0), None]), 40.0 + 12.0)
    same(t.gradient(y, x, output_gradients=[None]), 4.0)
    same(t.gradient(y, x, output_gradients=None), 4.0)


def test_G12_seed_and_upstream_add() -> None:
    x = nt.constant(2.0)
    with tape_of(x) as t:
        y = x * x
        z = 3.0 * y
    same(t.gradient([z, y], x, output_gradients=[nt.constant(1.0), nt.constant(10.0)]), 52.0)


def test_G13_a_variable_as_target() -> None:
    v0, v1 = nt.Variable([2.0, 5.0]), nt.Variable(2.0)
    with nt.GradientTape(persistent=True) as t:
        result = v0
    same(t.gradient(result, [v0, v1]), [[1.0, 1.0], None])
    same(t.gradient(result, v0, output_gradients=[3.0, 4.0]), [3.0, 4.0])
    u = nt.Variable(1.0, trainable=False)
    same(t.gradient(u, u), 1.0)


def test_G13_a_variable_and_a_source_as_targets() -> None:
    v = nt.Variable(2.0)
    with nt.GradientTape() as t:
        y = v * 3.0
    same(t.gradient([v, y], [y]), [1.0])
    with nt.GradientTape() as t:
        y = v * 3.0
    same(t.gradient([v, y], [y, v]), [1.0, 4.0])


def test_G13_a_variable_that_was_also_read() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v * v
    same(t.gradient([y, v], v), 7.0)


def test_G13_a_variable_assigned_since_it_was_read() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = v * v
        v.assign(5.0)
    same(t.gradient([y, v], v), 7.0)
    same(t.gradient(v, v), 1.0)


def test_G14_python_chooses() -> None:
    v2, v5, v3 = nt.Variable(2.0), nt.Variable(5.0), nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        y = max([v2, v5, v3])
        z = sorted([v2, v5, v3])[1]
    same(t.gradient(y, [v2, v5, v3]), [None, 1.0, None])
    same(t.gradient(z, [v2, v5, v3]), [None, None, 1.0])


def test_G15_broadcast_operands() -> None:
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 1)), rng.normal(size=4), rng.normal(size=())
    found = gradient(lambda a, b, c: nt.sin(a * b + c) * b, a, b, c)
    same(found, difference(lambda a, b, c: np.sum(np.sin(a * b + c) * b), a, b, c), 1e-6)


def test_G16_elementwise() -> None:
    x = nt.linspace(-10.0, 10.0, 201)
    with tape_of(x) as t:
        y = nt.sigmoid(x)
    s = 1 / (1 + np.exp(-np.linspace(-10, 10, 201)))
    same(t.gradient(y, x), s * (1 - s), 1e-5, 1e-7)


def test_G18_only_what_leads_to_the_target() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        y = x * x
        _ = nt.math.log(x - 10.0) / 0.0
    same(t.gradient(y, x), 6.0)


def test_G19_an_op_with_several_results() -> None:
    x = nt.constant([1.0, 2.0, 3.0, 4.0])
    with tape_of(x, persistent=True) as t:
        a, b = nt.split(x, 2)
        y = nt.reduce_sum(a * a)
    same(t.gradient(y, x), [2.0, 4.0, 0.0, 0.0])
    same(t.gradient(y, b), None)


def test_G20_downstream_of_the_target() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        y = x * x
        z = y * y
    same(t.gradient(y, z), None)


def test_G21_every_read_is_the_same_source() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y = v.read_value() * nt.convert_to_tensor(v) * v
    same(t.gradient(y, v), 27.0)


def test_G22_nothing_is_added_into_what_is_shared() -> None:
    a, b = nt.constant([1.0, 2.0]), nt.constant([3.0, 4.0])
    seed = nt.constant([1.0, 10.0])
    with tape_of(a, b, persistent=True) as t:
        y = (a + b) + 5.0 * a + a
    first = t.gradient(y, [a, b], output_gradients=seed)
    same(first, [[7.0, 70.0], [1.0, 10.0]])
    t.gradient([y, a, b], [a, b], output_gradients=[seed, seed, seed])
    same(seed, [1.0, 10.0])
    same(first, [[7.0, 70.0], [1.0, 10.0]])


# ---- S -------------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", ["left", "right"])


def structures() -> tuple[nt.GradientTape, nt.Tensor, nt.Variable, nt.Variable]:
    x, y = nt.Variable(2.0), nt.Variable(5.0)
    with nt.GradientTape(persistent=True) as t:
        z = x * y
    return t, z, x, y


def test_S01_nesting_of_the_sources() -> None:
    t, z, x, y = structures()
    same(t.gradient(z, {"w": x, "b": y}), {"w": 5.0, "b": 2.0})


def test_S02_container_types() -> None:
    t, z, x, y = structures()
    found = t.gradient(z, {"b": [x, (y,)]})
    assert type(found["b"]) is list
    assert type(found["b"][1]) is tuple
    same(found, {"b": [5.0, (2.0,)]})


def test_S02_as_many_containers_as_leaves() -> None:
    t, z, x, y = structures()
    found = t.gradient(z, [[x], [y]])
    assert [type(g) for g in found] == [list, list]
    same(found, [[5.0], [2.0]])
    found = t.gradient(z, [[x, y], []])
    assert [len(g) for g in found] == [2, 0]
    found = t.gradient(z, [{"k": x}, (y,)])
    assert [type(g) for g in found] == [dict, tuple]


def test_S03_namedtuples() -> None:
    t, z, x, y = structures()
    found = t.gradient(z, Pair(x, y))
    assert type(found) is Pair
    same(found.right, 2.0)


def test_S04_a_bare_source() -> None:
    t, z, x, _ = structures()
    same(t.gradient(z, x), 5.0)
    same(t.gradient(z, [x]), [5.0])
    found = t.gradient(z, (x,))
    assert type(found) is tuple
    same(found, (5.0,))


@pytest.mark.parametrize("empty", [[], (), {}, [[], {}]])
def test_S05_no_sources(empty: object) -> None:
    t, z, _, _ = structures()
    assert t.gradient(z, empty) == empty


@pytest.mark.parametrize("kind", [dict, OrderedDict, lambda pairs: defaultdict(list, pairs)])
def test_S06_dicts(kind: object) -> None:
    xs = [nt.Variable(float(k)) for k in (2, 3, 5)]
    with nt.GradientTape() as t:
        z = xs[0] + 10.0 * xs[1] + 100.0 * xs[2]
    sources = kind([("z", xs[0]), ("m", xs[1]), ("a", xs[2])])  # type: ignore[operator]
    found = t.gradient(z, sources)
    assert type(found) is type(sources)
    assert list(found) == ["z", "m", "a"]
    same({**found}, {"z": 1.0, "m": 10.0, "a": 100.0})
    assert nt.nest.flatten(kind([("z", 1), ("m", 2), ("a", 3)])) == [3, 2, 1]  # type: ignore[operator]


def test_S07_arrays_and_strings_are_leaves() -> None:
    array = np.ones(2)
    assert nt.nest.flatten([array, "text"])[0] is array
    assert nt.nest.flatten([array, "text"])[1] == "text"


def test_S08_dict_targets_pair_by_sorted_key() -> None:
    x = nt.Variable(2.0)
    with nt.GradientTape() as t:
        a, b = x * x, x * x * x
    same(t.gradient({"b": b, "a": a}, x, output_gradients=[nt.constant(1.0), nt.constant(100.0)]), 4.0 + 1200.0)


def test_S09_keys_that_do_not_sort() -> None:
    t, z, x, y = structures()
    with pytest.raises(TypeError, match="keys"):
        t.gradient(z, {1: x, "a": y})


# ---- N -------------------------------------------------------------------------------------------------------------


def test_N01_no_path() -> None:
    x, y = nt.Variable(2.0), nt.Variable(3.0)
    with nt.GradientTape() as t:
        z = y * y
    same(t.gradient(z, x), None)


def test_N02_zeros_in_the_source_s_shape() -> None:
    x, y = nt.Variable([2.0, 2.0]), nt.Variable(3.0)
    with nt.GradientTape() as t:
        z = y**2
    same(t.gradient(z, [x, y], unconnected_gradients=ZERO), [[0.0, 0.0], 6.0])


@pytest.mark.parametrize("option", ["none", "zero", nt.UnconnectedGradients.NONE, ZERO])
def test_N03_names_and_dtype(option: object) -> None:
    x, y = nt.Variable(np.ones(2)), nt.Variable(3.0)
    with nt.GradientTape() as t:
        z = y**2
    found = t.gradient(z, x, unconnected_gradients=option)
    if option in ("none", nt.UnconnectedGradients.NONE):
        same(found, None)
    else:
        same(found, [0.0, 0.0])
        assert found.dtype is nt.float64


def test_N06_through_numpy() -> None:
    x = nt.Variable([1.0, 2.0])
    with nt.GradientTape() as t:
        y = nt.reduce_sum(x**2) + nt.constant(np.mean(x.numpy() ** 2).astype(np.float32))
    same(t.gradient(y, x), [2.0, 4.0])


def test_N07_stop_gradient_blocks_one_use() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        y = x * nt.stop_gradient(x)
    same(y, 9.0)
    same(t.gradient(y, x), 3.0)


def test_N08_reachable_only_through_stop_gradient() -> None:
    y = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        z = nt.stop_gradient(y * y)
        w = z * 2.0
    same(t.gradient(w, y), None)
    same(t.gradient(w, y, unconnected_gradients=ZERO), 0.0)
    same(t.gradient(w, z), None)


def test_N09_integers_carry_no_gradient() -> None:
    x = nt.constant(10)
    b = nt.constant(True)
    with tape_of(x, b) as t:
        y = x * x
        z = nt.logical_not(b)
    same(t.gradient([y, z], [x, b]), [None, None])


def test_N10_ops_that_do_not_differentiate() -> None:
    x = nt.constant([1.0, 3.0, 2.0])
    with tape_of(x, persistent=True) as t:
        ys = [nt.argmax(x), x > 1.5, nt.equal(x, x), nt.round(x), nt.floor(x), nt.math.ceil(x), x // 2.0]
        picked = nt.where(x > 1.5, 10.0, 20.0)
        both = nt.where(x > 1.5, x, 20.0)
    for y in ys:
        same(t.gradient(y, x), None)
    same(t.gradient(picked, x), None)
    same(t.gradient(both, x), [0.0, 1.0, 1.0])


def test_N11_a_branch_test() -> None:
    x = nt.constant(3.0)
    with tape_of(x) as t:
        y = nt.constant(1.0) * 2.0 if x > 0 else x
    same(t.gradient(y, x), None)


def test_N12_connected_with_derivative_zero() -> None:
    v = nt.Variable(-1.0)
    with nt.GradientTape(persistent=True) as t:
        ys = [nt.nn.relu(v), v * 0.0, v - v, v * nt.zeros([]), nt.sign(v), nt.clip_by_value(v, 0.0, 1.0)]
    for y in ys:
        same(t.gradient(y, v), 0.0)


def test_N13_sign_and_floordiv() -> None:
    v = nt.Variable(3.0)
    with nt.GradientTape(persistent=True) as t:
        s, q = nt.sign(v), v // 2.0
    same(t.gradient(s, v), 0.0)
    same(t.gradient(q, v), None)


def test_N15_integer_targets_beside_floats() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as t:
        y, n = x * x, nt.cast(x, nt.int32)
    same(t.gradient([n, y], x), 6.0)

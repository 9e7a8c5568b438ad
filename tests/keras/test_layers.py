"""Layers against NumPy in float64, and what they do with weights, inputs and training."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.module import children

layers, initializers, activations = nt.keras.layers, nt.keras.initializers, nt.keras.activations


@pytest.fixture
def fresh_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has made no layer."""
    monkeypatch.setattr("numtape.keras.layers._names", Counter())


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def same(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    actual = np.asarray(actual)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    assert actual.shape == np.shape(expected)


# ---- Dense ---------------------------------------------------------------------------------------------------------


def test_m05_the_guides_cell(fresh_names: None, capsys: pytest.CaptureFixture[str]) -> None:
    layer = nt.keras.layers.Dense(2, activation="relu")
    x = nt.constant([[1.0, 2.0, 3.0]])

    with nt.GradientTape() as tape:
        # Forward pass
        y = layer(x)
        loss = nt.reduce_mean(y**2)

    # Calculate gradients with respect to every trainable variable
    grad = tape.gradient(loss, layer.trainable_variables)

    for var, g in zip(layer.trainable_variables, grad, strict=True):
        print(f"{var.name}, shape: {g.shape}")
    assert capsys.readouterr().out == "dense/kernel:0, shape: (3, 2)\ndense/bias:0, shape: (2,)\n"


def test_m06_weights_come_with_the_first_call() -> None:
    layer = layers.Dense(2)
    assert layer.variables == layer.trainable_variables == layer.weights == []
    layer(nt.ones([1, 3]))
    assert [v.shape for v in layer.variables] == [(3, 2), (2,)]
    assert layer.variables == [layer.kernel, layer.bias] or layer.variables[0] is layer.kernel


def test_m07_watching_an_unbuilt_layer_watches_nothing() -> None:
    layer = layers.Dense(2)
    with nt.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(layer.trainable_variables)
        y = layer(nt.ones([1, 3]))
    assert tape.gradient(y, layer.trainable_variables) == [None, None]


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "exponential": np.exp,
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + abs(x)),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(x),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(axis=-1, keepdims=True)),
}


def test_every_activation_is_compared() -> None:
    assert set(ACTIVATIONS) == set(activations.__all__) - {"get"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dense_with_each_activation(name: str) -> None:
    """By name within the layer's own entry, by function behind it: the same values and gradients."""
    x = normal(5, 3)
    layer = layers.Dense(4, activation=name, dtype="float64", bias_initializer=initializers.RandomNormal(stddev=1.0))
    layer.build((None, 3))
    other = layers.Dense(4, activation=lambda x: activations.get(name)(x), dtype="float64")
    other.build((None, 3))
    other.set_weights(layer.get_weights())
    found = []
    for each in (layer, other):
        with nt.GradientTape() as tape:
            y = each(x)
            loss = nt.reduce_sum(y * normal(5, 4, seed=1))
        found.append([y, *tape.gradient(loss, each.trainable_variables)])
    kernel, bias = layer.get_weights()
    same(found[0][0], ACTIVATIONS[name](x @ kernel + bias))
    for a, b in zip(*found, strict=True):
        same(a, b)
    for k, step in ((0, np.eye(3, 4)), (1, np.eye(1, 4)[0])):
        ends = []
        for sign in (1e-6, -1e-6):
            weights = [kernel, bias]
            weights[k] = weights[k] + sign * step
            ends.append(np.sum(ACTIVATIONS[name](x @ weights[0] + weights[1]) * normal(5, 4, seed=1)))
        same(np.sum(found[0][1 + k] * step), (ends[0] - ends[1]) / 2e-6, 1e-7)


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 4, 5, 3), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_of_any_rank(shape: tuple[int, ...], use_bias: bool) -> None:
    layer = layers.Dense(4, use_bias=use_bias, dtype=nt.float64)
    x = normal(*shape)
    out = layer(x)
    same(out, x @ layer.get_weights()[0])
    assert len(layer.variables) == 1 + use_bias
    assert (layer.bias is None) is not use_bias


def test_dense_is_one_entry() -> None:
    layer = layers.Dense(4, activation="tanh")
    x = nt.ones([2, 3])
    layer(x).numpy()
    seen: list[Any] = []
    recorded = pytest.MonkeyPatch()
    original = nt.keras.layers.record
    recorded.setattr("numtape.keras.layers.record", lambda *given: seen.append(given[0]) or original(*given))
    with recorded.context():
        layer(x)
    recorded.undo()
    assert [op.name for op in seen] == ["Dense"]


def test_dense_in_second_order() -> None:
    layer = layers.Dense(1, activation="tanh", dtype="float64")
    x = nt.constant(normal(1, 2))
    layer(x)
    with nt.GradientTape() as outer:
        outer.watch(x)
        with nt.GradientTape() as inner:
            inner.watch(x)
            y = layer(x)
        g = inner.gradient(y, x)
    h = outer.gradient(g, x)
    kernel, bias = layer.get_weights()
    t = np.tanh(x.numpy() @ kernel + bias)
    same(g, (1 - t * t) * kernel.T)
    same(h, -2 * t * (1 - t * t) * kernel.sum() * kernel.T)


def test_dense_wrong_input() -> None:
    layer = layers.Dense(2, name="narrow")
    with pytest.raises(ValueError, match=r"narrow: inputs have rank 2 or more, got shape \(3,\)"):
        layer(nt.ones([3]))
    assert not layer.built
    assert not layer.variables
    layer(nt.ones([1, 3]))
    with pytest.raises(ValueError, match=r"3 elements along the last axis.*got \(1, 4\)"):
        layer(nt.ones([1, 4]))
    with pytest.raises(ValueError, match="rank 2 or more"):
        layer(nt.ones([3]))
    for units in (0, -1, 2.5, "2", True):
        with pytest.raises(ValueError, match="units must be a positive integer"):
            layers.Dense(units)
    with pytest.raises(ValueError, match="'foo' is no activation"):
        layers.Dense(2, activation="foo")
    with pytest.raises(ValueError, match="'foo' is no initializer"):
        layers.Dense(2, kernel_initializer="foo")
    with pytest.raises(TypeError, match="foo"):
        layers.Dense(2, foo=1)


# ---- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [
    [[1.0, 2.0, 3.0]], [[1, 2, 3]], np.array([[1.0, 2.0, 3.0]]), np.array([[1, 2, 3]]), np.array([[1, 2, 3]], np.int8),
    nt.constant([[1, 2, 3]]), nt.constant([[1.0, 2.0, 3.0]], nt.float64), nt.constant([[1.0, 2.0, 3.0]]),
])  # fmt: skip
def test_inputs_become_tensors_of_the_layers_dtype(inputs: Any) -> None:
    layer = layers.Dense(2, kernel_initializer="ones")
    for _ in range(2):
        out = layer(inputs)
        assert out.dtype is nt.float32
        same(out, [[6.0, 6.0]])


def test_a_variable_as_input_is_watched() -> None:
    layer, v = layers.Dense(1, kernel_initializer="ones"), nt.Variable([[1.0, 2.0]])
    wide = nt.Variable([[1.0, 2.0]], dtype=nt.float64)
    with nt.GradientTape() as tape:
        y = layer(v) + layer(wide)
    same(tape.gradient(y, v), [[1.0, 1.0]])
    with nt.GradientTape() as tape:
        y = layer(wide)
    assert tape.gradient(y, wide).dtype is nt.float64


def test_structures_and_further_arguments() -> None:
    class Mixed(layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.shapes = input_shape

        def call(self, inputs: Any, factor: Any, *, offset: Any = None, shape: Any = None) -> Any:
            assert shape == [1, 2]
            assert factor.dtype is offset["by"].dtype is inputs["a"].dtype is nt.float32
            return inputs["a"] * factor + offset["by"] + inputs["b"][0]

    layer = Mixed()
    for _ in range(2):
        out = layer(
            {"a": np.ones(2), "b": [nt.constant(1.0)]}, np.full(2, 3.0), offset={"by": np.ones(2)}, shape=[1, 2]
        )
        same(out, [5.0, 5.0])
    assert layer.shapes == {"a": (2,), "b": [()]}


# ---- weights of a layer --------------------------------------------------------------------------------------------


class Own(layers.Layer):
    """Weights in all the ways that there are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sub = layers.Dense(1, name="sub")
        self.early = self.add_weight(name="early", shape=(2,))

    def build(self, input_shape: Any) -> None:
        self.counter = self.add_weight("counter", shape=(), trainable=False, initializer="zeros", dtype="int64")
        self.z = self.add_weight((input_shape[-1],), "ones", name="z")
        self.a = self.add_weight("a", (input_shape[-1],), initializer=lambda shape, dtype=None: 2.0 * nt.ones(shape))
        self.v = nt.Variable(1.0, name="v")
        self.listed = [self.add_weight(shape=(1,)), self.add_weight(shape=[np.int64(1)])]
        hidden = self.add_weight(name="hidden", initializer="zeros")
        self.use = lambda: hidden
        self.sub.build(input_shape)

    def call(self, inputs: Any) -> Any:
        self.counter.assign_add(1)
        return inputs * self.z * self.a + self.sub(inputs) + self.use()


def test_variables_as_they_were_made_trainable_first_then_sublayers(fresh_names: None) -> None:
    layer = Own()
    assert [v.name for v in layer.variables] == ["own/early:0"]
    layer(nt.ones([1, 3]))
    own = ["early", "z", "a", "variable_4", "variable_5", "hidden"]
    assert [v.name for v in layer.variables] == [
        *(f"own/{n}:0" for n in own), "v:0", "own/counter:0", "sub/kernel:0", "sub/bias:0",
    ]  # fmt: skip
    assert [v.name for v in layer.non_trainable_variables] == ["own/counter:0"]
    assert layer.count_params() == 2 + 3 + 3 + 1 + 1 + 1 + 1 + 1 + 3 + 1
    assert layer.counter.dtype is nt.int64
    same(layer.a, [2.0, 2.0, 2.0])


def test_the_children_of_a_layer_are_its_attributes_and_what_else_it_has() -> None:
    layer = Own()
    layer(nt.ones([1, 3]))
    found = [name for name, child in children(layer) if isinstance(child, nt.Variable | nt.Module)]
    assert found == ["a", "counter", "early", "sub", "v", "z", "hidden:0"]


def test_a_failed_build_leaves_nothing_and_may_be_repeated() -> None:
    class Failing(layers.Layer):
        fails = True

        def build(self, input_shape: Any) -> None:
            self.first = self.add_weight(name="first", shape=(2,))
            if self.fails:
                raise RuntimeError("not now")
            self.second = self.add_weight(name="second", shape=(2,))

        def call(self, inputs: Any) -> Any:
            return inputs

    layer = Failing()
    with pytest.raises(RuntimeError, match="not now"):
        layer(nt.ones([1]))
    assert not layer.built
    with nt.GradientTape() as tape:
        x = nt.Variable(1.0)
        y = x * x
    same(tape.gradient(y, x), 2.0)
    layer.fails = False
    layer(nt.ones([1]))
    assert [v.name.partition("/")[2] for v in layer.variables] == ["first:0", "second:0"]


def test_built_again_it_has_new_weights_only() -> None:
    layer = layers.Dense(2)
    layer.build((None, 3))
    layer.build((None, 4))
    assert [v.shape for v in layer.variables] == [(4, 2), (2,)]


def test_build_of_a_subclass_that_calls_its_parents() -> None:
    class Double(layers.Dense):
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            self.extra = self.add_weight(name="extra", shape=(self.units,), initializer="ones")

        def call(self, inputs: Any) -> Any:
            return super().call(inputs) + self.extra

    layer = Double(2, kernel_initializer="ones")
    same(layer([[1.0, 2.0]]), [[4.0, 4.0]])
    assert len(layer.variables) == 3


def test_an_initializer_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"w:0: the initializer gave shape \(3,\) in place of \(2,\)"):
        layers.Layer().add_weight(name="w", shape=(2,), initializer=lambda shape, dtype=None: nt.ones([3]))
    with pytest.raises(ValueError, match="has to be known"):
        layers.Layer().add_weight(name="w", shape=(None, 2))


def test_names(fresh_names: None) -> None:
    class Conv2DThing(layers.Layer):
        pass

    class MLP(nt.keras.Model):
        pass

    made = [
        layers.Dense(1),
        layers.Dense(1),
        layers.Dense(1, name="mine"),
        layers.Dense(1),
        Conv2DThing(),
        MLP(),
        MLP(),
    ]
    assert [m.name for m in made] == ["dense", "dense_1", "mine", "dense_2", "conv2d_thing", "mlp", "mlp_1"]
    assert layers.BatchNormalization().name == "batch_normalization"
    for name in ("a/b", 3):
        with pytest.raises(ValueError, match="without slashes"):
            layers.Dense(1, name=name)
    spaced = layers.Dense(1, name="my layer")
    spaced.build((1, 1))
    assert spaced.kernel.name == "my layer/kernel:0"
    with nt.name_scope("outer"):
        layer = layers.Dense(1, name="d")
    layer.build((1, 1))
    assert layer.kernel.name == "outer/d/kernel:0"


def test_trainable() -> None:
    layer = Own()
    layer(nt.ones([1, 3]))
    every = layer.variables
    trained = layer.trainable_variables
    layer.sub.trainable = False
    assert [id(v) for v in layer.trainable_variables] == [id(v) for v in trained[:-2]]
    layer.trainable = False
    assert layer.trainable_variables == []
    assert len(layer.non_trainable_variables) == len(every)
    assert [id(v) for v in layer.variables] == [id(v) for v in every]
    holder = nt.Module()
    holder.layer = layer
    assert holder.trainable_variables == ()
    layer.trainable = True
    assert layer.sub.trainable
    assert [id(v) for v in layer.trainable_variables] == [id(v) for v in trained]
    assert len(layers.Dense(1, trainable=False).trainable_variables) == 0


def test_weights_in_and_out() -> None:
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="no weights to count yet"):
        layer.count_params()
    assert layers.Flatten().count_params() == 0
    layer.build((None, 3))
    kernel, bias = normal(3, 2), np.array([1, 2])
    layer.set_weights([kernel, bias])
    same(layer.get_weights()[0], kernel.astype(np.float32))
    with pytest.raises(ValueError, match="takes 2 values"):
        layer.set_weights([kernel])
    with pytest.raises(ValueError, match=r"bias:0 has shape \(2,\), but the value \(3,\)"):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    same(layer.get_weights()[0], kernel.astype(np.float32))


def test_without_super_and_without_call() -> None:
    class Careless(layers.Layer):
        def __init__(self) -> None:
            self.units = 3

        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(RuntimeError, match=r"Careless.__init__ has to call super\(\).__init__\(\) first"):
        Careless()(nt.ones([1]))
    assert Careless().variables == []
    with pytest.raises(NotImplementedError, match="write `call"):
        layers.Layer()(nt.ones([1]))


def test_copies() -> None:
    layer = layers.Dense(2, activation="relu", name="d")
    x = nt.constant(normal(4, 3).astype(np.float32))
    y = layer(x).numpy()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        same(twin(x), y)
        assert twin.activation is nt.nn.relu
        assert [v.name for v in twin.variables] == ["d/kernel:0", "d/bias:0"]
        twin.kernel.assign(nt.zeros([3, 2]))
        same(layer(x), y)
        same(twin.variables[0], np.zeros((3, 2)))
    unbuilt = copy.deepcopy(layers.Dense(2, kernel_initializer="ones"))
    same(unbuilt([[1.0, 2.0]]), [[3.0, 3.0]])


def test_a_first_call_within_a_tape_leaves_the_tape_alone() -> None:
    """The second step records what the first did: initial values are no part of it."""
    layer = layers.Dense(3, activation="tanh")
    x = nt.constant(normal(4, 2).astype(np.float32))

    def step() -> Any:
        with nt.GradientTape() as tape:
            y = nt.reduce_sum(layer(x))
        return tape.gradient(y, layer.trainable_variables)

    first = [g.numpy() for g in step()]
    before = nt.cache.stats().programs
    for g, h in zip(first, step(), strict=True):
        same(h, g)
    assert nt.cache.stats().programs == before


# ---- training ------------------------------------------------------------------------------------------------------


class Sees(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = "nothing"

    def call(self, inputs: Any, training: Any = "default") -> Any:
        self.seen = training
        return inputs


def test_training_holds_for_the_layers_within() -> None:
    class Plain(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sees()

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    class Silent(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.told = Plain(), Sees()

        def call(self, inputs: Any, training: Any = False) -> Any:
            return self.told(self.plain(inputs), training=False)

    x = nt.ones([1])
    layer = Silent()
    for _ in range(2):
        for given, seen in (({}, "default"), ({"training": True}, True), ({"training": False}, False)):
            layer(x, **given)
            assert (layer.plain.inner.seen, layer.told.seen) == (seen, False)
    layer(x, True)
    assert layer.plain.inner.seen is True
    told = Sees()
    outer = nt.keras.Sequential([layers.Lambda(lambda x: told(x, training=None))])
    outer(x, training=True)
    assert told.seen is True
    layer.plain(x, training=True)
    assert layer.plain.inner.seen is True
    layer.plain(x)
    assert layer.plain.inner.seen == "default"
    with pytest.raises(TypeError):
        layer.plain(x, foo=1)
    layers.Dense(1)(nt.ones([1, 1]), training=True)


def test_training_ends_with_an_exception() -> None:
    class Failing(layers.Layer):
        def call(self, inputs: Any, training: Any = None) -> Any:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Failing()(nt.ones([1]), training=True)
    after = Sees()
    after(nt.ones([1]))
    assert after.seen == "default"


def test_keyword_arguments_take_training() -> None:
    class Any_(layers.Layer):
        def call(self, inputs: Any, **options: Any) -> Any:
            self.seen = options
            return inputs

    layer = Any_()
    layer(nt.ones([1]), training=True)
    assert layer.seen == {"training": True}


# ---- the others ----------------------------------------------------------------------------------------------------


def test_dropout() -> None:
    x = nt.ones([1000])
    layer = layers.Dropout(0.25, seed=3)
    assert layer(x) is x
    out = layer(x, training=True).numpy()
    assert np.unique(out).round(4).tolist() == np.array([0.0, 4 / 3], np.float32).round(4).tolist()
    assert abs((out == 0).mean() - 0.25) < 0.06
    assert not np.array_equal(out, layer(x, training=True).numpy())
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    same(tape.gradient(y, x), y.numpy(), 1e-6)
    assert layers.Dropout(0)(x, training=True) is x
    with nt.GradientTape() as tape:
        tape.watch(x)
        y = layers.Dropout(1.0)(x, training=True)
    same(y, np.zeros(1000))
    same(tape.gradient(y, x), np.zeros(1000))
    rows = layers.Dropout(0.5, noise_shape=(None, 1))(nt.ones([64, 3]), training=True).numpy()
    assert (rows == rows[:, :1]).all()
    for rate in (-0.1, 1.5):
        with pytest.raises(ValueError, match="rate"):
            layers.Dropout(rate)


def test_embedding() -> None:
    layer = layers.Embedding(5, 2)
    for ids in (np.array([[0, 4, 0]]), nt.constant([[0, 4, 0]]), [[0.0, 4.0, 0.0]]):
        out = layer(ids)
        same(out, layer.embeddings.numpy()[[[0, 4, 0]]])
    with nt.GradientTape() as tape:
        y = layer(nt.constant([[0, 4, 0]]))
    g = nt.convert_to_tensor(tape.gradient(y, layer.embeddings))
    same(g, [[2.0, 2.0], [0, 0], [0, 0], [0, 0], [1, 1]])
    assert abs(layers.Embedding(1000, 2)(nt.constant([1])).numpy()).max() <= 0.05
    with pytest.raises(ValueError, match="input_dim"):
        layers.Embedding(0, 2)


def reference_norm(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize(("axis", "scale", "center"), [
    (-1, True, True), (1, True, False), ([1, 2], True, True), ((-1, 1), False, True), (0, False, False),
])  # fmt: skip
def test_layer_normalization(axis: Any, scale: bool, center: bool) -> None:
    x = normal(4, 3, 5)
    draw = initializers.RandomNormal(mean=1.0, stddev=0.5)
    layer = layers.LayerNormalization(
        axis, 1e-2, center, scale, beta_initializer=draw, gamma_initializer=draw, dtype="float64"
    )
    out = layer(x)
    axes = tuple(sorted(a % 3 for a in (axis if isinstance(axis, list | tuple) else [axis])))
    shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    expected = reference_norm(x, axes, 1e-2)
    expected = expected * (layer.gamma.numpy().reshape(shape) if scale else 1)
    same(out, expected + (layer.beta.numpy().reshape(shape) if center else 0))
    assert [v.name.partition("/")[2] for v in layer.variables] == ["gamma:0"] * scale + ["beta:0"] * center


@pytest.mark.parametrize(("axis", "scale", "center"), [
    (-1, True, True), (1, True, False), (-1, False, True), (1, False, False),
])  # fmt: skip
def test_batch_normalization(axis: int, scale: bool, center: bool) -> None:
    draw = initializers.RandomNormal(mean=1.0, stddev=0.5)
    layer = layers.BatchNormalization(
        axis, 0.9, 1e-2, center, scale, beta_initializer=draw, gamma_initializer=draw, dtype="float64"
    )
    mean, variance = 0.0, 1.0
    axes = tuple(a for a in range(3) if a != axis % 3)
    for seed in range(3):
        x = normal(4, 3, 5, seed=seed) + seed
        out = layer(x, training=True)
        shape = [1 if a in axes else n for a, n in enumerate(x.shape)]
        gamma = layer.gamma.numpy().reshape(shape) if scale else 1
        beta = layer.beta.numpy().reshape(shape) if center else 0
        same(out, reference_norm(x, axes, 1e-2) * gamma + beta)
        mean, variance = 0.9 * mean + 0.1 * x.mean(axes), 0.9 * variance + 0.1 * x.var(axes)
        same(layer.moving_mean, mean)
        same(layer.moving_variance, variance)
    for given in ({}, {"training": False}):
        expected = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-2) * gamma + beta
        same(layer(x, **given), expected)
    layer.trainable = False
    same(layer(x, training=True), expected)
    same(layer.moving_mean, mean)
    layer.trainable = True
    assert [v.name.partition("/")[2] for v in layer.trainable_variables] == ["gamma:0"] * scale + ["beta:0"] * center
    assert len(layer.non_trainable_variables) == 2


def test_batch_normalization_within_a_tape() -> None:
    x = normal(6, 2)
    layer = layers.BatchNormalization(epsilon=1e-3, dtype="float64")
    weights = normal(6, 2, seed=1)
    for _ in range(2):
        with nt.GradientTape() as tape:
            v = nt.constant(x)
            tape.watch(v)
            loss = nt.reduce_sum(layer(v, training=True) * weights)
        g = tape.gradient(loss, [v, *layer.trainable_variables])
    step = normal(6, 2, seed=2)
    ends = [np.sum(reference_norm(x + s * step, (0,), 1e-3) * weights) for s in (1e-6, -1e-6)]
    same(np.sum(g[0] * step), (ends[0] - ends[1]) / 2e-6, 1e-6)
    same(g[1], np.sum(reference_norm(x, (0,), 1e-3) * weights, axis=0))
    same(g[2], weights.sum(axis=0))


def test_normalizations_check_what_they_are_given() -> None:
    for kind in (layers.BatchNormalization, layers.LayerNormalization):
        layer = kind()
        layer(nt.ones([2, 1]))
        with pytest.raises(ValueError, match=r"weights of shape \(1,\) do not fit"):
            layer(nt.ones([2, 3]))
        with pytest.raises(ValueError, match="axis 2 is out of range"):
            kind(axis=2)(nt.ones([2, 3]))
        assert layer(nt.constant([[1], [2]])).dtype is nt.float32


def test_shapes() -> None:
    for shape, flat in (((2,), (2, 1)), ((2, 3), (2, 3)), ((2, 3, 4), (2, 12)), ((0, 3, 4), (0, 12))):
        assert layers.Flatten()(nt.ones(shape)).shape == flat
    with pytest.raises(ValueError, match="rank 1"):
        layers.Flatten()(nt.constant(1.0))
    x = normal(2, 6, 2)
    same(layers.Reshape((3, -1), dtype="float64")(x), x.reshape(2, 3, 4))
    assert layers.Reshape(())(nt.ones([2, 1])).shape == (2,)
    assert layers.Reshape((3, -1))(nt.ones([0, 6])).shape == (0, 3, 2)
    for target in ((5,), (-1, 4), (-1, -1)):
        with pytest.raises(ValueError, match="do not become"):
            layers.Reshape(target)(nt.ones([2, 6]))


def test_simple_layers() -> None:
    same(layers.Rescaling(1 / 127.5, -1)(np.array([[0, 255]], np.uint8)), [[-1.0, 1.0]], 1e-6)
    same(layers.Rescaling([1.0, 2.0])([[1.0, 1.0]]), [[1.0, 2.0]])
    same(layers.Activation(None)([-1.0]), [-1.0])
    same(layers.Activation(nt.square)([-2.0]), [4.0])
    same(layers.Lambda(nt.square)([-2.0]), [4.0])
    parts = [np.ones((2, 3)), np.zeros((2, 1))]
    same(layers.Concatenate()(parts), np.concatenate(parts, -1))
    same(layers.Add()([*parts, nt.ones([2, 3])]), [[2.0] * 3] * 2)
    with pytest.raises(ValueError, match="broadcast"):
        layers.Add()([nt.ones([2, 3]), nt.ones([2, 4])])


# ---- initializers --------------------------------------------------------------------------------------------------

SCALED = {
    "glorot_uniform": ((2 / 300) ** 0.5, 3**0.5), "glorot_normal": ((2 / 300) ** 0.5, 2 / 0.8796),
    "he_uniform": ((2 / 100) ** 0.5, 3**0.5), "he_normal": ((2 / 100) ** 0.5, 2 / 0.8796),
    "lecun_uniform": ((1 / 100) ** 0.5, 3**0.5), "lecun_normal": ((1 / 100) ** 0.5, 2 / 0.8796),
    "variance_scaling": ((1 / 100) ** 0.5, 2 / 0.8796), "random_normal": (0.05, 5.5),
    "truncated_normal": (0.05 * 0.8796, 2 / 0.8796), "random_uniform": (0.05 / 3**0.5, 3**0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_values_are_spread_as_they_should(name: str, dtype: str) -> None:
    nt.random.set_seed(5)
    x = np.asarray(initializers.get(name)((100, 200), dtype=dtype))
    deviation, widest = SCALED[name]
    assert x.dtype == dtype
    assert abs(x.mean()) < 4 * deviation / 100
    assert abs(x.std() / deviation - 1) < 0.02
    assert 0.9 * min(widest, 3) < abs(x).max() / deviation <= widest * 1.001


def test_fans() -> None:
    for shape, limit in (((), 3.0), ((7,), 6 / 14), ((3, 2), 6 / 5), ((2, 3, 4, 5), 6 / (6 * 9)), ((0, 3), 6 / 3)):
        drawn = np.asarray(initializers.GlorotUniform(seed=1)(shape))
        assert drawn.shape == shape
        assert (abs(drawn) <= math.sqrt(limit)).all()
    wide = np.asarray(initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=1)((5, 4, 400)))
    assert abs(wide.std() / math.sqrt(2 / 2000) - 1) < 0.05


def test_seeds() -> None:
    def drawn() -> Any:
        return [layers.Dense(3) for _ in range(2)]

    def made() -> list[Any]:
        found = []
        for layer in drawn():
            layer.build((None, 4))
            found.append(layer.kernel.numpy())
        return found

    nt.random.set_seed(1)
    first = made()
    nt.random.set_seed(1)
    again = made()
    assert [np.array_equal(a, b) for a, b in zip(first, again, strict=True)] == [True, True]
    assert not np.array_equal(*first)
    assert not np.array_equal(first[0], made()[0])
    seeded = initializers.HeNormal(seed=3)
    assert np.array_equal(seeded((3, 2)), seeded((3, 2)))
    assert np.array_equal(seeded((3, 2)), initializers.HeNormal(seed=3)((3, 2)))
    assert not np.array_equal(seeded((3, 2)), initializers.HeNormal(seed=4)((3, 2)))
    free = initializers.HeNormal()
    assert not np.array_equal(free((3, 2)), free((3, 2)))


def test_initializers_by_name_class_and_instance() -> None:
    ones = initializers.Ones()
    assert initializers.get(ones) is ones
    assert isinstance(initializers.get("Ones"), initializers.Ones)
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    assert initializers.get(None) is None
    for wrong in ("foo", 3):
        with pytest.raises(ValueError, match="is no initializer"):
            initializers.get(wrong)
    same(initializers.Constant([1, 2])((2,)), [1.0, 2.0])
    assert initializers.Zeros()((2,), "int32").dtype is nt.int32
    with pytest.raises(ValueError, match="broadcast"):
        initializers.Constant([1, 2])((3,))
    with pytest.raises(TypeError, match="floating"):
        initializers.RandomNormal()((2,), "int32")
    for wrong in ({"scale": 0}, {"mode": "foo"}, {"distribution": "foo"}):
        with pytest.raises(ValueError, match=f"VarianceScaling: {next(iter(wrong))}"):
            initializers.VarianceScaling(**wrong)
    twin = pickle.loads(pickle.dumps(initializers.HeNormal(seed=3)))
    assert np.array_equal(twin((3,)), initializers.HeNormal(seed=3)((3,)))
    assert repr(twin).startswith("<nt.keras.initializers.HeNormal: scale=2.0")

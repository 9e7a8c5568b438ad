"""Models: layers one after the other, and subclasses."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

import numtape as nt

layers = nt.keras.layers


def same(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=tolerance, atol=tolerance)


class Network(nt.keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.out = layers.Dense(1)
        self.blocks = [layers.Dense(2), layers.Dense(3, activation="relu")]
        self.named = {"drop": layers.Dropout(0.5)}
        self.bias = nt.Variable(1.0, name="bias")
        self.nested = [[layers.BatchNormalization()]]

    def call(self, x: Any, training: Any = False) -> Any:
        for block in self.blocks:
            x = block(x)
        x = self.nested[0][0](x, training=training)
        return self.out(self.named["drop"](x, training=training)) + self.bias


def test_a_model_of_its_own() -> None:
    net = Network()
    assert [v.name for v in net.variables] == ["bias:0"]
    x = np.ones((4, 3))
    assert net(x).shape == (4, 1)
    out, first, second, drop, norm = net.out, *net.blocks, net.named["drop"], net.nested[0][0]
    assert net.layers == [out, first, second, drop, norm]
    every = [net.bias, *out.weights, *first.weights, *second.weights, *norm.weights]
    assert [id(v) for v in net.variables] == [id(v) for v in every]
    assert len(net.trainable_variables) == 9
    assert net.count_params() == 1 + 4 + 8 + 9 + 12
    net.blocks.append(layers.Dense(3))
    net(x)
    assert len(net.trainable_variables) == 11


def test_training_a_model() -> None:
    nt.random.set_seed(4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2)).astype(np.float32)
    y = np.sin(x[:, :1]) + x[:, 1:] ** 2
    hidden = [layers.Dense(32, activation="tanh") for _ in range(2)]
    model = nt.keras.Sequential([*hidden, layers.Dense(1)])
    optimizer = nt.keras.optimizers.Adam(0.01)
    losses = []
    before = None
    for step in range(200):
        with nt.GradientTape() as tape:
            loss = nt.reduce_mean(nt.square(model(x) - y))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        losses.append(float(loss))
        if step == 2:
            before = nt.cache.stats().programs
    assert losses[-1] < 0.02 * losses[0]
    assert nt.cache.stats().programs == before


def test_gradients_of_a_model_are_those_of_its_formula() -> None:
    x = np.random.default_rng(1).normal(size=(5, 3))
    model = nt.keras.Sequential([
        layers.Dense(4, activation="tanh", dtype="float64"), layers.Dense(1, dtype="float64"),
    ])  # fmt: skip
    model.build((None, 3))
    with nt.GradientTape() as tape:
        loss = nt.reduce_sum(model(x))
    found = tape.gradient(loss, model.trainable_variables)
    w, b, v, _ = model.get_weights()
    h = np.tanh(x @ w + b)
    back = (1 - h * h) * v.T
    for actual, expected in zip(found, [x.T @ back, back.sum(0), h.sum(0)[:, None], [5.0]], strict=True):
        same(actual, expected, 1e-12)


# ---- Sequential ----------------------------------------------------------------------------------------------------


def test_sequential_makes_its_weights_when_it_can() -> None:
    model = nt.keras.Sequential([layers.Dense(4), layers.Dense(2)])
    assert model.variables == []
    assert not model.built
    with pytest.raises(ValueError, match="no weights to count"):
        model.count_params()
    model.build((None, 3))
    assert model.built
    assert [v.shape for v in model.variables] == [(3, 4), (4,), (4, 2), (2,)]
    for first in (nt.keras.Input((3,)), layers.InputLayer(shape=(3,), batch_size=2), layers.Dense(4, input_shape=(3,))):
        model = nt.keras.Sequential([first])
        model.add(layers.Dense(2))
        kernel = model.layers[-1].kernel
        assert len(model.layers) == 1 + isinstance(first, layers.Dense)
        model.add(layers.Dense(5))
        assert model.layers[-2].kernel is kernel
        assert model(nt.ones([7, 3])).shape == (7, 5)


def test_sequential_of_an_embedding() -> None:
    model = nt.keras.Sequential([
        nt.keras.Input((4,), dtype="int32"), layers.Embedding(10, 3), layers.Flatten(), layers.Dense(2),
    ])  # fmt: skip
    assert model.count_params() == 30 + 26
    assert model(np.zeros((2, 4), np.int64)).shape == (2, 2)


def test_sequential_takes_functions_and_models() -> None:
    inner = nt.keras.Sequential([layers.Dense(2, kernel_initializer="ones")])
    model = nt.keras.Sequential()
    model.add(nt.square)
    model.add(inner)
    model.add(lambda x: x + 1.0)
    same(model([[1.0, 2.0]]), [[6.0, 6.0]])
    assert [id(v) for v in model.variables] == [id(v) for v in inner.variables]
    shared = layers.Dense(2, kernel_initializer="ones")
    same(nt.keras.Sequential([shared, shared])([[1.0, 2.0]]), [[6.0, 6.0]])
    assert len(nt.keras.Sequential([shared, shared]).variables) == 2


def test_sequential_add_and_pop() -> None:
    model = nt.keras.Sequential([layers.Dense(2, kernel_initializer="ones")], name="stack")
    for wrong in (3, layers.Dense, "relu", None):
        with pytest.raises(ValueError, match="a layer or a function can be added"):
            model.add(wrong)
    with pytest.raises(ValueError, match="comes before"):
        model.add(nt.keras.Input((3,)))
    last = layers.Dense(3)
    model.add(last)
    model(nt.ones([1, 2]))
    assert len(model.variables) == 4
    assert model.pop() is last
    assert len(model.variables) == 2
    same(model([[1.0, 2.0]]), [[3.0, 3.0]])
    model.layers.clear()
    assert len(model.layers) == 1
    model.pop()
    with pytest.raises(ValueError, match="stack: there are no layers"):
        model([[1.0]])
    with pytest.raises(ValueError, match="there is no layer to take away"):
        model.pop()


def test_a_layer_that_does_not_fit_is_not_added() -> None:
    model = nt.keras.Sequential([nt.keras.Input((3,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="do not become"):
        model.add(layers.Reshape((5,)))
    assert len(model.layers) == 1
    assert model(nt.ones([1, 3])).shape == (1, 4)


def test_sequential_passes_training_on() -> None:
    model = nt.keras.Sequential([layers.Dropout(0.5), nt.keras.Sequential([layers.BatchNormalization()])])
    x = nt.ones([100, 2])
    same(model(x), np.ones((100, 2)) / np.sqrt(1.001))
    out = model(x, training=True).numpy()
    assert len(np.unique(out.round(3))) > 1
    norm = model.layers[1].layers[0]
    assert not np.array_equal(norm.moving_mean.numpy(), np.zeros(2))


# ---- all models ----------------------------------------------------------------------------------------------------


def test_building_computes_nothing() -> None:
    class Sensitive(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return nt.math.log(inputs)

    class Net(nt.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(2), layers.Dense(3)

        def call(self, inputs: Any) -> Any:
            x, y = inputs
            return self.a(x) + nt.reduce_sum(self.b(y["k"]))

    model = nt.keras.Sequential([Sensitive(), layers.Dense(2)])
    runs = nt.cache.stats().programs
    model.build([None, 3])
    assert nt.cache.stats().programs == runs
    net = Net()
    net.build([(None, 3), {"k": (2, 4)}])
    assert [v.shape for v in net.variables] == [(3, 2), (2,), (4, 3), (3,)]
    with pytest.raises(ValueError, match="rank 2"):
        Net().build([(3,), {"k": (2, 4)}])


def test_a_model_that_builds_itself() -> None:
    class Net(nt.keras.Model):
        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(name="w", shape=(input_shape[-1],), initializer="ones")
            self.dense = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs * self.w)

    net = Net(name="net")
    x = nt.ones([1, 3])
    with nt.GradientTape() as tape:
        y = net(x)
    assert all(g is not None for g in tape.gradient(y, net.trainable_variables))
    assert [v.name.rpartition("/")[2] for v in net.variables] == ["w:0", "kernel:0", "bias:0"]


def test_summary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("numtape.keras.layers._names", Counter())
    model = nt.keras.Sequential([layers.Dense(4, activation="relu"), layers.Flatten(), layers.BatchNormalization()])
    model.summary()
    assert (
        capsys.readouterr().out
        == """\
Model: "sequential"
-----------------------------------------------------------------
Layer (type)                              Output shape  Params
-----------------------------------------------------------------
dense (Dense)                             ?             not made yet
flatten (Flatten)                         ?             0
batch_normalization (BatchNormalization)  ?             not made yet
-----------------------------------------------------------------
Params: 0, of which training changes 0
""".replace("-" * 65, "-" * 68)
    )
    model.build((None, 3))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert (
        "\n".join(lines)
        == """\
Model: "sequential"
--------------------------------------------------------------
Layer (type)                              Output shape  Params
--------------------------------------------------------------
dense (Dense)                             (None, 4)     16
flatten (Flatten)                         (None, 4)     0
batch_normalization (BatchNormalization)  (None, 4)     16
--------------------------------------------------------------
Params: 32, of which training changes 24"""
    )


def test_copies_of_models() -> None:
    x = np.ones((2, 3))
    model = nt.keras.Sequential([layers.Dense(4, activation="gelu"), layers.BatchNormalization(), layers.Dense(2)])
    y = model(x).numpy()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(twin(x), y, 0)
        twin.set_weights([np.zeros(v.shape) for v in twin.weights])
        same(twin(x), np.zeros((2, 2)))
        same(model(x), y, 0)
    other = nt.keras.models.Sequential([layers.Dense(4, "gelu"), layers.BatchNormalization(), layers.Dense(2)])
    other.build((None, 3))
    other.set_weights(model.get_weights())
    same(other(x), y, 0)


# ---- what there is not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: nt.keras.layers.Dense(2)(nt.keras.Input([3])),
        lambda: nt.keras.layers.Add()([nt.keras.Input([3]), nt.keras.Input([3])]),
        lambda: nt.keras.Sequential([nt.keras.layers.Dense(2)])(nt.keras.Input([3])),
        lambda: nt.keras.Model(nt.keras.Input([3]), nt.keras.Input([3])),
        lambda: nt.keras.Model(inputs=nt.keras.Input([3]), outputs=[]),
    ],
)
def test_functional_models_are_refused(make):
    with pytest.raises(TypeError, match=r"no functional models.*; use nt\.keras\.Sequential, or write a subclass"):
        make()

"""Checkpoints: what is found again, what is refused, and what a crash leaves behind."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import numtape as nt
from numtape.train.files import CheckpointFile

Checkpoint, CheckpointManager = nt.train.Checkpoint, nt.train.CheckpointManager
optimizers = nt.keras.optimizers


class Linear(nt.Module):
    """Makes its Variables when it first sees an input, other ones each time."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.kernel: Any = None

    def __call__(self, x: Any) -> Any:
        if self.kernel is None:
            self.kernel = nt.Variable(nt.random.normal((x.shape[-1], self.units), seed=1), name="w")
            self.bias = nt.Variable(np.zeros(self.units, np.float32), name="w")
        return x @ self.kernel + self.bias


class Net(nt.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [Linear(4), Linear(2)]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = nt.tanh(layer(x))
        return x


class Counter:
    """What an iterator of a dataset looks like."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def __next__(self) -> int:
        self.at += 1
        return self.at

    def _checkpoint_state(self) -> dict[str, np.ndarray]:
        return {"at": np.array(self.at), "a/b%": np.arange(3)[::-1].astype(">i4")}

    def _restore_state(self, state: dict[str, np.ndarray]) -> None:
        np.testing.assert_array_equal(state["a/b%"], [2, 1, 0])
        self.at = int(state["at"])


def keys_of(path: str) -> list[str]:
    return sorted(CheckpointFile(path).keys)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ---- the file ------------------------------------------------------------------------------------------------------


def test_the_file_is_a_safetensors_file_whose_keys_are_paths(tmp_path: Path) -> None:
    net = Net()
    net(np.ones((1, 3), np.float32))
    optimizer = optimizers.Adam(nt.Variable(0.5))
    optimizer.build(net.variables)
    path = Checkpoint(net=net, optimizer=optimizer, at={"a/b": [nt.Variable(1)], "c%": Counter(5)}).save(tmp_path / "c")
    assert path == str(tmp_path / "c-1")
    assert names_in(tmp_path) == ["c-1.safetensors"]
    weights = [f"net/layers/{k}/{name}" for k in range(2) for name in ("bias", "kernel")]
    slots = [f"optimizer/slots/{w}/{slot}" for w in weights for slot in "mv"]
    with safe_open(f"{path}.safetensors", framework="np") as file:
        assert sorted(file.keys()) == sorted([
            *weights, *slots, "optimizer/iterations", "optimizer/learning_rate", "save_counter",
            "at/a%2Fb/0", "at/c%25/at", "at/c%25/a%2Fb%25",
        ])  # fmt: skip
        metadata = file.metadata()
        np.testing.assert_array_equal(file.get_tensor("net/layers/1/kernel"), net.layers[1].kernel.numpy())
    assert metadata["format"] == "numtape.train.Checkpoint"
    assert (metadata["version"], metadata["numtape"]) == ("1", nt.__version__)


@pytest.mark.parametrize("dtype", [d for d in vars(nt).values() if isinstance(d, nt.DType)], ids=str)
def test_all_dtypes_and_shapes_come_back(tmp_path: Path, dtype: nt.DType) -> None:
    values = [np.ones(shape, dtype.dtype) for shape in [(), (0,), (3, 0, 2), (2, 3)]]
    if dtype.is_floating:
        values.append(np.array([np.nan, np.inf, -0.0, 1e-40], dtype.dtype))
    path = Checkpoint(v=[nt.Variable(v) for v in values]).write(tmp_path / "c")
    found = [nt.Variable(np.zeros_like(v)) for v in values]
    Checkpoint(v=found).read(path).assert_consumed()
    for v, f in zip(values, found, strict=True):
        assert (np.asarray(f).dtype, f.shape, np.asarray(f).tobytes()) == (v.dtype, v.shape, v.tobytes())


def test_paths_with_and_without_the_ending(tmp_path: Path) -> None:
    v = nt.Variable(1.0)
    checkpoint = Checkpoint(v=v)
    assert checkpoint.write(tmp_path / "a" / "b.safetensors") == str(tmp_path / "a" / "b")
    for path in (str(tmp_path / "a" / "b"), tmp_path / "a" / "b.safetensors"):
        v.assign(2.0)
        checkpoint.read(path).assert_consumed()
        assert v.numpy() == 1.0


def test_others_get_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = Checkpoint(v=nt.Variable(1.0)).write(tmp_path / "c")
    assert os.stat(f"{path}.safetensors").st_mode == os.stat(tmp_path / "plain").st_mode
    assert stat.S_ISREG(os.stat(f"{path}.safetensors").st_mode)


def test_values_are_those_of_the_line(tmp_path: Path) -> None:
    v, optimizer = nt.Variable([1.0, 2.0]), optimizers.SGD(0.5, momentum=0.5)
    checkpoint = Checkpoint(v=v, optimizer=optimizer)
    with nt.GradientTape() as tape:
        y = nt.reduce_sum(v * v)
        optimizer.apply_gradients([(nt.constant([1.0, 1.0]), v)])  # pending
        checkpoint.write(tmp_path / "c")
        v.assign_add([1.0, 1.0])
        z = nt.reduce_sum(v * v)
    checkpoint.write(tmp_path / "d")
    np.testing.assert_array_equal(tape.gradient([y, z], v).numpy(), [5.0, 9.0])  # 2 * [1, 2] + 2 * [1.5, 2.5]
    for name, right in (("c", [0.5, 1.5]), ("d", [1.5, 2.5])):
        checkpoint.read(tmp_path / name).assert_consumed()
        np.testing.assert_array_equal(v.numpy(), right)
    np.testing.assert_array_equal(optimizer.variables[1].numpy(), [-0.5, -0.5])


def test_restoring_on_a_tape_is_an_assignment(tmp_path: Path) -> None:
    v = nt.Variable([1.0, 2.0])
    path = Checkpoint(v=v).write(tmp_path / "c")
    v.assign([3.0, 4.0])
    with nt.GradientTape() as tape:
        y = v * v
        Checkpoint(v=v).read(path).assert_consumed()
        z = v * v * v
    np.testing.assert_array_equal(y.numpy(), [9.0, 16.0])
    np.testing.assert_array_equal(z.numpy(), [1.0, 8.0])
    np.testing.assert_array_equal(tape.gradient([y, z], v).numpy(), [6.0 + 3.0, 8.0 + 12.0])


# ---- matching ------------------------------------------------------------------------------------------------------


def test_m10_matching_by_path_and_not_by_name(tmp_path: Path) -> None:
    path = Checkpoint(a=nt.Variable(1.0, name="b"), b=nt.Variable(2.0, name="a")).save(tmp_path / "c")
    a, b = nt.Variable(0.0, name="x"), nt.Variable(0.0, name="x")
    Checkpoint(a=a, b=b).restore(path).assert_consumed()
    assert (a.numpy(), b.numpy()) == (1.0, 2.0)


def saved_net(tmp_path: Path) -> tuple[Net, str]:
    net = Net()
    net(np.ones((1, 3), np.float32))
    return net, Checkpoint(net=net).save(tmp_path / "net")


def same_weights(a: nt.Module, b: nt.Module) -> None:
    assert len(a.variables) == len(b.variables)
    for v, w in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(v.numpy(), w.numpy())


def test_m11_values_arrive_when_variables_are_made(tmp_path: Path) -> None:
    net, path = saved_net(tmp_path)
    other = Net()
    status = Checkpoint(net=other).restore(path)  # nobody holds the Checkpoint
    with pytest.raises(AssertionError, match="net/layers/0/bias"):
        status.assert_consumed()
    status.assert_existing_objects_matched().expect_partial()
    with nt.GradientTape() as tape:
        y = other(np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(y.numpy(), net(np.ones((1, 3), np.float32)).numpy())
    assert all(g is not None for g in tape.gradient(y, other.variables))
    same_weights(net, other)
    status.assert_consumed()
    assert all(layer._awaiting is None for layer in [other, *other.layers])
    other.layers[0].kernel.assign(np.zeros((3, 4)))
    other.layers[0].units = 4  # nothing arrives twice
    assert not other.layers[0].kernel.numpy().any()


def test_m11_attributes_of_the_checkpoint_and_of_the_root(tmp_path: Path) -> None:
    path = Checkpoint(a=nt.Variable(1.0), b=[nt.Variable(2.0), nt.Variable(3.0)]).save(tmp_path / "c")
    checkpoint = Checkpoint()
    checkpoint.restore(path)
    checkpoint.a = nt.Variable(0.0)
    assert checkpoint.a.numpy() == 1.0
    root = nt.Module()
    status = Checkpoint(root).restore(path)
    root.a = nt.Variable(0.0)
    root.b = [nt.Variable(0.0)]
    assert (root.a.numpy(), root.b[0].numpy()) == (1.0, 2.0)
    root.b.append(nt.Variable(0.0))
    status.assert_consumed()
    assert root.b[1].numpy() == 3.0


def test_m11_keras_models(tmp_path: Path) -> None:
    layers = nt.keras.layers
    nets = [
        nt.keras.Sequential([layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dense(2)])
        for _ in range(2)
    ]
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    nets[0](x, training=True)
    path = Checkpoint(model=nets[0]).write(tmp_path / "c")
    assert keys_of(path) == [
        "model/layers/0/bias", "model/layers/0/kernel",
        *(f"model/layers/1/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")),
        "model/layers/2/bias", "model/layers/2/kernel",
    ]  # fmt: skip
    assert CheckpointFile(path).aliases == {}
    status = Checkpoint(model=nets[1]).read(path)
    np.testing.assert_array_equal(nets[1](x).numpy(), nets[0](x).numpy())
    status.assert_consumed()


def test_m11_weights_without_an_attribute(tmp_path: Path) -> None:
    class Scale(nt.keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.add_weight(name="hidden", shape=(), initializer="ones")
            self.parts = []
            for k in range(2):
                self.parts.append(self.add_weight(name=f"part{k}", shape=(), initializer="ones"))

        def call(self, x: Any) -> Any:
            return x * self._weights[0] * self.parts[1]

    a, b = Scale(), Scale()
    a([1.0])
    for k, weight in enumerate(a.weights):
        weight.assign(k + 2.0)
    path = Checkpoint(layer=a).save(tmp_path / "c")
    status = Checkpoint(layer=b).restore(path)
    np.testing.assert_array_equal(b([1.0]).numpy(), a([1.0]).numpy())
    status.assert_consumed()
    assert [w.numpy() for w in b.weights] == [w.numpy() for w in a.weights]


def test_m12_leftovers(tmp_path: Path) -> None:
    path = Checkpoint(a=nt.Variable(1.0), b=nt.Variable(2.0)).save(tmp_path / "c")
    less = Checkpoint(a=nt.Variable(0.0)).restore(path)
    less.assert_existing_objects_matched()
    with pytest.raises(AssertionError, match=r"c-1.safetensors: nothing was found to take b$"):
        less.assert_consumed()
    for check in ("assert_consumed", "assert_existing_objects_matched"):
        more = Checkpoint(a=nt.Variable(0.0), b=nt.Variable(0.0), d=nt.Variable(0.0)).restore(path)
        with pytest.raises(AssertionError, match="no values for d$"):
            getattr(more, check)()
        nothing = Checkpoint(a=nt.Variable(0.0)).restore(None)
        with pytest.raises(AssertionError, match="None"):
            getattr(nothing, check)()
    assert nothing.expect_partial() is nothing


def test_what_was_restored_is_shown(tmp_path: Path) -> None:
    path = Checkpoint(v=nt.Variable(1.0), w=nt.Variable(2.0), random=nt.train.RandomState()).write(tmp_path / "c")
    status = Checkpoint(v=nt.Variable(0.0), random=nt.train.RandomState()).read(path)
    assert repr(status) == f"<RestoreStatus of {path}.safetensors: restored 2, waiting 1, unused 0>"
    assert repr(Checkpoint().restore(None)) == "<RestoreStatus: nothing was restored>"


def test_m13_containers_are_searched_when_saved(tmp_path: Path) -> None:
    module = nt.Module()
    module.parts = []
    checkpoint = Checkpoint(module=module)
    module.parts.append({"x": (nt.Variable(1.0), 7, None)})
    assert keys_of(checkpoint.write(tmp_path / "c")) == ["module/parts/0/x/0"]


def test_m15_another_shape_or_dtype_changes_nothing(tmp_path: Path) -> None:
    right = {"a": nt.Variable(1.0), "b": nt.Variable([1.0, 2.0]), "z": nt.Variable(3.0), "g": Counter(4)}
    path = Checkpoint(**right).save(tmp_path / "c")
    a, z, g = nt.Variable(0.0), nt.Variable(0.0), Counter()
    checkpoint = Checkpoint(a=a, b=nt.Variable([[0.0]], name="mine"), z=z, g=g)
    with pytest.raises(ValueError, match=r"c-1.safetensors: b has shape \(2,\) .*mine:0, has shape \(1, 1\)"):
        checkpoint.restore(path)
    checkpoint.b = nt.Variable([0, 0])
    with pytest.raises(TypeError, match="b has shape .* dtype float32.* dtype int32"):
        checkpoint.restore(path)
    assert (a.numpy(), z.numpy(), g.at, checkpoint.save_counter.numpy()) == (0.0, 0.0, 0, 0)


def test_m15_another_shape_of_what_is_made_later(tmp_path: Path) -> None:
    _, path = saved_net(tmp_path)
    other = Net()
    status = Checkpoint(net=other).restore(path)
    with pytest.raises(ValueError, match=r"net/layers/0/kernel has shape \(3, 4\).* shape \(5, 4\)"):
        other(np.ones((1, 5), np.float32))
    other.layers[0].units = 4  # told once
    with pytest.raises(AssertionError, match="no values for net/layers/0/kernel"):
        status.assert_consumed()


def test_q05_state_that_is_no_variable(tmp_path: Path) -> None:
    iterator = Counter()
    for _ in range(3):
        next(iterator)
    path = Checkpoint(iterator=iterator).save(tmp_path / "c")
    assert next(iterator) == 4
    other = Counter()
    Checkpoint(iterator=other).restore(path).assert_consumed()
    assert next(other) == 4


def test_q05_iterators_of_datasets(tmp_path: Path) -> None:
    dataset = nt.data.Dataset.range(20).shuffle(5, seed=1).batch(3)
    iterator = iter(dataset)
    first = [next(iterator) for _ in range(2)]
    path = Checkpoint(iterator=iterator).save(tmp_path / "c")
    rest = [x.numpy().tolist() for x in iterator]
    assert len(first + rest) == 7
    other = iter(dataset)
    Checkpoint(iterator=other).restore(path).assert_consumed()
    assert [x.numpy().tolist() for x in other] == rest


def test_groups_change_all_or_none(tmp_path: Path) -> None:
    class Picky(Counter):
        def _restore_state(self, state: dict[str, np.ndarray]) -> None:
            raise RuntimeError("I do not like it")

    v = nt.Variable(1.0)
    path = Checkpoint(a=Counter(5), b=Counter(6), v=v).save(tmp_path / "c")
    v.assign(2.0)
    a = Counter(1)
    with pytest.raises(RuntimeError, match="do not like"):
        Checkpoint(a=a, b=Picky(), v=v).restore(path)
    assert (a.at, v.numpy()) == (1, 2.0)


def test_one_variable_under_two_names(tmp_path: Path) -> None:
    v = nt.Variable([1.0, 2.0])
    path = Checkpoint(a=v, b=v, c={"d": v}).save(tmp_path / "c")
    assert keys_of(path) == ["a", "save_counter"]
    w = nt.Variable([0.0, 0.0])
    Checkpoint(a=w, b=w, c={"d": w}).restore(path).assert_consumed()
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])
    w = nt.Variable([0.0, 0.0])
    Checkpoint(c={"d": w}).restore(path).assert_consumed()  # the other names are gone
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])
    with pytest.raises(AssertionError, match="no values for b"):  # now two Variables
        Checkpoint(a=nt.Variable([0.0, 0.0]), b=nt.Variable([0.0, 0.0])).restore(path).assert_consumed()


def test_an_alias_within_an_alias_and_none_without_state(tmp_path: Path) -> None:
    v, pair, numbers = nt.Variable(1.0), [nt.Module()], (1, 2)
    pair[0].w = v
    path = Checkpoint(a=v, b=pair, c={"d": pair}, x=[numbers], y=[numbers]).write(tmp_path / "c")
    assert CheckpointFile(path).aliases == {"b/0/w": "a", "c/d": "b"}
    w = nt.Module()
    status = Checkpoint(c={"d": [w]}).read(path)
    w.w = nt.Variable(0.0)
    status.assert_consumed()
    assert w.w.numpy() == 1.0


def test_two_variables_become_one(tmp_path: Path) -> None:
    path = Checkpoint(a=nt.Variable(1.0), b=nt.Variable(2.0)).save(tmp_path / "c")
    w = nt.Variable(0.0)
    Checkpoint(a=w, b=w).restore(path).assert_consumed()
    assert w.numpy() == 1.0


def test_shared_modules_and_cycles(tmp_path: Path) -> None:
    def tree() -> nt.Module:
        root, part = nt.Module(), nt.Module()
        root.left = root.right = part
        part.parent = root
        part.v = nt.Variable([0.0, 0.0])
        root.itself = [root]
        return root

    a, b = tree(), tree()
    a.left.v.assign([1.0, 2.0])
    path = Checkpoint(a, again=a).save(tmp_path / "c")
    assert keys_of(path) == ["left/v", "save_counter"]
    Checkpoint(b, again=b).restore(path).assert_consumed()
    np.testing.assert_array_equal(b.left.v.numpy(), [1.0, 2.0])
    bare = nt.Module()
    status = Checkpoint(again=bare).restore(path)
    bare.right = nt.Module()
    bare.right.v = nt.Variable([0.0, 0.0])
    status.assert_consumed()
    np.testing.assert_array_equal(bare.right.v.numpy(), [1.0, 2.0])


def test_the_later_restoration_wins(tmp_path: Path) -> None:
    net, whole = saved_net(tmp_path)
    part = Linear(4)
    part(np.ones((1, 3), np.float32))
    path = Checkpoint(part).write(tmp_path / "part")
    other = Net()
    first = Checkpoint(net=other).restore(whole)
    second = Checkpoint(other.layers[0]).read(path)
    other(np.ones((1, 3), np.float32))
    with pytest.raises(AssertionError, match="no values for net/layers/0/bias, net/layers/0/kernel$"):
        first.assert_existing_objects_matched()
    second.assert_consumed()
    same_weights(other.layers[0], part)
    same_weights(other.layers[1], net.layers[1])


def test_copies_do_not_wait(tmp_path: Path) -> None:
    _, path = saved_net(tmp_path)
    other = Linear(4)
    Checkpoint(net={"layers": [other]}).restore(path)
    x = np.ones((1, 3), np.float32)
    for twin in (copy.deepcopy(other), pickle.loads(pickle.dumps(other)), copy.copy(other)):
        twin(x)
    assert other.kernel is None
    assert not hasattr(other, "bias")


def test_a_checkpoint_that_is_waited_for_may_be_removed(tmp_path: Path) -> None:
    net, path = saved_net(tmp_path)
    other = Net()
    status = Checkpoint(net=other).restore(path)
    os.remove(f"{path}.safetensors")
    other(np.ones((1, 3), np.float32))
    status.assert_consumed()
    same_weights(net, other)


# ---- going on with training ----------------------------------------------------------------------------------------

RULES: list[Callable[[], Any]] = [
    lambda: optimizers.SGD(0.1),
    lambda: optimizers.SGD(0.1, momentum=0.9),
    lambda: optimizers.Adam(nt.Variable(0.01), amsgrad=True),
    lambda: optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5),
    lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
]


class Run:
    """A training run with random data; its state is in one checkpoint."""

    def __init__(self, optimizer: Any) -> None:
        self.net, self.optimizer, self.step = Net(), optimizer, nt.Variable(0, trainable=False)
        self.checkpoint = Checkpoint(
            net=self.net, optimizer=self.optimizer, step=self.step, random=nt.train.RandomState()
        )

    def train(self, steps: int) -> list[bytes]:
        for _ in range(steps):
            x = nt.random.normal((5, 3)) + nt.random.uniform((5, 3), seed=7)
            with nt.GradientTape() as tape:
                loss = nt.reduce_mean(nt.square(self.net(x) - 1.0))
            variables = self.net.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            self.step.assign_add(1)
        return [np.asarray(v).tobytes() for v in [*self.net.variables, *self.optimizer.variables, self.step]]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rule", RULES, ids=[rule().__class__.__name__ + str(k) for k, rule in enumerate(RULES)])
def test_training_goes_on_with_the_same_bits(tmp_path: Path, rule: Callable[[], Any], seed: int | None) -> None:
    if seed is not None:
        nt.random.set_seed(seed)
    run = Run(rule())
    run.train(3)
    path = run.checkpoint.save(tmp_path / "c")
    straight = run.train(4)
    run.checkpoint.restore(path).assert_consumed()
    assert run.train(4) == straight  # the same objects again
    fresh = Run(rule())
    status = fresh.checkpoint.restore(path)  # neither the net nor the optimizer is built
    assert fresh.train(4) == straight
    status.assert_consumed()
    built = Run(rule())
    built.train(1)
    built.checkpoint.restore(path).assert_consumed()
    assert built.train(4) == straight


def test_slots_follow_their_variables_and_not_their_order(tmp_path: Path) -> None:
    def make(names: str) -> tuple[dict[str, Any], Any]:
        variables = {name: nt.Variable([0.0, 0.0]) for name in "ab"}
        optimizer = optimizers.SGD(0.5, momentum=0.5)
        optimizer.build([variables[name] for name in names])
        return variables, optimizer

    variables, optimizer = make("ab")
    optimizer.apply_gradients([([1.0, 2.0], variables["a"]), ([3.0, 4.0], variables["b"])])
    path = Checkpoint(v=variables, optimizer=optimizer).save(tmp_path / "c")
    others, twin = make("ba")
    Checkpoint(v=others, optimizer=twin).restore(path).assert_consumed()
    momenta = [v.numpy().tolist() for v in twin.variables[1:]]
    assert momenta == [[-1.5, -2.0], [-0.5, -1.0]]


def test_another_optimizer_is_told_apart(tmp_path: Path) -> None:
    v, optimizer = nt.Variable(1.0), optimizers.Adam(0.1)
    optimizer.build([v])
    path = Checkpoint(v=v, optimizer=optimizer).save(tmp_path / "c")
    other = optimizers.SGD(0.1, momentum=0.5)
    other.build([v])
    with pytest.raises(AssertionError, match="no values for optimizer/slots/v/momentum"):
        Checkpoint(v=v, optimizer=other).restore(path).assert_existing_objects_matched()


def test_slots_of_a_variable_that_is_not_in_the_checkpoint(tmp_path: Path) -> None:
    v, optimizer = nt.Variable(1.0, name="mine"), optimizers.Adam(0.1)
    optimizer.build([v])
    with pytest.raises(ValueError, match="optimizer keeps state for mine:0, which is not in the checkpoint"):
        Checkpoint(optimizer=optimizer).save(tmp_path / "c")
    assert names_in(tmp_path) == []
    path = Checkpoint(v=v, optimizer=optimizer).save(tmp_path / "c")
    with pytest.raises(AssertionError, match="mine/m:0, mine/v:0"):
        Checkpoint(optimizer=optimizer).restore(path).assert_existing_objects_matched()


def test_saving_compiles_and_records_nothing_new(tmp_path: Path) -> None:
    run = Run(optimizers.Adam(0.01))
    for _ in range(3):
        run.train(1)
        run.checkpoint.save(tmp_path / "c")
    before = nt.cache.stats()
    for _ in range(3):
        run.train(1)
        run.checkpoint.save(tmp_path / "c")
    after = nt.cache.stats()
    assert (after.programs, after.compilations) == (before.programs, before.compilations)


# ---- random numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 0, -1, 1 << 70])
def test_random_numbers_go_on(tmp_path: Path, seed: int | None) -> None:
    nt.random.set_seed(5)
    if seed is not None:
        nt.random.set_seed(seed)
    nt.random.normal([2]), nt.random.normal([2], seed=seed)
    checkpoint = Checkpoint(random=nt.train.RandomState())
    path = checkpoint.write(tmp_path / "c")
    draw = lambda: [nt.random.normal([2], seed=s).numpy() for s in (None, seed, 9)]
    first = draw()
    nt.random.set_seed(6)
    checkpoint.read(path).assert_consumed()
    np.testing.assert_array_equal(first, draw())


class Deep(nt.keras.Model):
    """Makes one of its layers when it is built, and draws numbers of its own there and in its calls."""

    def __init__(self) -> None:
        super().__init__()
        dropout = nt.keras.layers.Dropout
        self.parts = nt.keras.Sequential([nt.keras.layers.Dense(4), dropout(0.5), nt.keras.layers.Dense(3)])

    def build(self, input_shape: Any) -> None:
        self.scale = nt.Variable(nt.random.normal([input_shape[-1]]))
        self.last = nt.keras.layers.Dense(2)
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = False) -> Any:
        return self.last(self.parts(inputs * self.scale + nt.random.normal([]), training=training))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("build", [False, True])
def test_a_model_that_is_built_after_it_was_restored_draws_nothing(
    tmp_path: Path, seed: int | None, build: bool
) -> None:
    def start() -> tuple[Any, Any, Any]:
        model, optimizer = Deep(), optimizers.Adam(0.01)
        return model, optimizer, Checkpoint(model=model, optimizer=optimizer, random=nt.train.RandomState())

    def train(model: Any, optimizer: Any) -> list[bytes]:
        for _ in range(3):
            with nt.GradientTape() as tape:
                loss = nt.reduce_mean(nt.square(model(nt.random.uniform([5, 3]), training=True)))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return [np.asarray(v).tobytes() for v in [*model.variables, *optimizer.variables, nt.random.normal([2])]]

    nt.random.set_seed(5)
    if seed is not None:
        nt.random.set_seed(seed)
    *run, checkpoint = start()
    train(*run)
    path = checkpoint.save(tmp_path / "c")
    straight = train(*run)
    nt.random.set_seed(6)
    *again, checkpoint = start()
    status = checkpoint.restore(path)
    if build:
        again[0].build((None, 3))
    assert train(*again) == straight
    status.assert_consumed()


def test_weights_that_a_checkpoint_lacks_are_drawn(tmp_path: Path) -> None:
    nt.random.set_seed(1)
    path = Checkpoint(layer=nt.Module(), n=nt.Variable(1), r=nt.train.RandomState()).write(tmp_path / "c")
    first = nt.random.normal([2]).numpy()
    layer = nt.keras.layers.Dense(2)
    Checkpoint(layer=layer, r=nt.train.RandomState()).read(path)
    layer(nt.ones([1, 2]))
    assert not np.array_equal(nt.random.normal([2]), first)


def test_a_function_that_builds_a_layer_draws_on() -> None:
    found = []
    for way in (lambda layer: layer, lambda layer: nt.function(lambda x: layer(x))):
        nt.random.set_seed(1)
        layer = nt.keras.layers.Dense(2)
        way(layer)(nt.ones([1, 2]))
        found.append([*layer.get_weights(), nt.random.uniform([2]).numpy()])
    for eager, recorded in zip(*found, strict=True):
        np.testing.assert_array_equal(eager, recorded)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 2.5, True, np.float32(1), np.zeros(2), nt.constant(1.0)], ids=repr)
def test_numbers_are_refused_with_a_hint(value: Any) -> None:
    with pytest.raises(ValueError, match=r"step is the .*nt.Variable\("):
        Checkpoint(step=value)
    checkpoint = Checkpoint()
    with pytest.raises(ValueError, match=r"step is the .*nt.Variable\("):
        checkpoint.step = value


@pytest.mark.parametrize("value", [None, "text", object(), len, Checkpoint()], ids=repr)
def test_what_has_no_state_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="x is of type"):
        Checkpoint(x=value)


def test_names_and_roots(tmp_path: Path) -> None:
    v = nt.Variable(1.0)
    for name in ("save_counter", "save", "_root", "_objects"):
        with pytest.raises(AttributeError, match=name):
            Checkpoint(**{name: v})
    with pytest.raises(AttributeError, match="'w'; it has v"):
        Checkpoint(v=v).w
    for root in (v, Counter(), 3):
        with pytest.raises(ValueError, match="root"):
            Checkpoint(root)
    module = nt.Module()
    module.v = v
    Checkpoint(module, v=v)
    with pytest.raises(ValueError, match="two different objects are called v"):
        Checkpoint(module, v=nt.Variable(1.0))
    checkpoint = Checkpoint(d={})
    checkpoint.d.update({1: nt.Variable(1.0), "1": nt.Variable(1.0)})
    with pytest.raises(ValueError, match="two different objects are called d/1"):
        checkpoint.save(tmp_path / "c")
    assert checkpoint.save_counter.numpy() == 0
    assert "of d" in repr(checkpoint)


def test_there_is_no_such_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    path = checkpoint.save(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match=rf"no checkpoint {tmp_path}/c.safetensors; there is {path}$"):
        checkpoint.restore(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.restore(tmp_path / "nowhere" / "c")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        checkpoint.restore(tmp_path / "d")


def test_files_of_others_and_of_the_future(tmp_path: Path) -> None:
    v = nt.Variable(1.0)
    path = Checkpoint(v=v).write(tmp_path / "c") + ".safetensors"
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    cases = [
        (None, "no checkpoint that nt.train.Checkpoint wrote"),
        ({"format": "pt"}, "no checkpoint that nt.train.Checkpoint wrote"),
        (metadata | {"version": "2", "numtape": "9.0"}, "numtape 9.0 in version 2 of the format"),
        (metadata | {"version": "one"}, "damaged"),
        (metadata | {"version": "0"}, "damaged"),
        (metadata | {"aliases": "[1]"}, "its aliases cannot be read"),
        (metadata | {"checksums": "["}, "its checksums cannot be read"),
        (metadata | {"checksums": "{}"}, "its keys are not"),
        (metadata, "elements of v do not have their checksum"),
    ]
    for case, text in cases:
        save_file({"v": np.array(2.0, np.float32)}, path, case)
        with pytest.raises(ValueError, match=f"c.safetensors .*{text}"):
            Checkpoint(v=v).read(path)
        assert v.numpy() == 1.0


def example() -> tuple[Any, list[Any]]:
    variables = [nt.Variable([1.0, 2.0, 3.0]), nt.Variable(7), nt.Variable(np.ones((2, 2)))]
    return Checkpoint(v=variables, w=variables[0], g=Counter(3)), variables


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "c"
    example()[0].save(path)
    file = Path(f"{path}-1.safetensors")
    return file, file.read_bytes()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_an_error_or_harmless(whole: tuple[Path, bytes], data: st.DataObject) -> None:
    file, right = whole
    at = data.draw(st.integers(0, len(right) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "insert", "drop", "zeros"]))
    new = data.draw(st.binary(min_size=1, max_size=9))
    damaged = {
        "change": right[:at] + new[:1] + right[at + 1 :],
        "cut": right[:at],
        "insert": right[:at] + new + right[at:],
        "drop": right[:at] + right[at + len(new) :],
        "zeros": right[:at] + bytes(min(len(new), len(right) - at)) + right[at + len(new) :],
    }[kind]
    file.write_bytes(damaged)
    checkpoint, variables = example()
    variables[0].assign([5.0, 5.0, 5.0])
    before = [v.numpy().tolist() for v in variables]
    said = ""
    try:
        checkpoint.restore(file).assert_consumed()
    except ValueError as error:
        said = str(error)
    if said:
        assert str(file) in said
        assert [v.numpy().tolist() for v in variables] == before
    else:
        assert variables[0].numpy().tolist() == [1.0, 2.0, 3.0]


# ---- crashes -------------------------------------------------------------------------------------------------------

SAVER = """
import sys
import numpy as np
import numtape as nt
v = [nt.Variable(np.full(400_000, 0.0)) for _ in range(4)]
checkpoint = nt.train.Checkpoint(v=v)
print("ready", flush=True)
k = 0
while True:
    k += 1
    for variable in v:
        variable.assign(np.full(400_000, float(k)))
    checkpoint.write(sys.argv[1])
    print(k, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    process = subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        last = process.stdout.readline()
    time.sleep(0.011)
    process.send_signal(signal.SIGKILL)
    told = [last, *process.stdout]
    process.stdout.close()
    process.wait()
    v = [nt.Variable(np.zeros(400_000)) for _ in range(4)]
    checkpoint = Checkpoint(v=v)
    checkpoint.read(path).assert_consumed()
    values = {float(x) for variable in v for x in np.unique(variable.numpy())}
    assert len(values) == 1
    assert min(values) >= int(told[-1])  # what it said was written, is there


def test_what_dead_processes_left_is_removed_in_time(tmp_path: Path) -> None:
    old, young = tmp_path / ".checkpoint-x.tmp", tmp_path / ".checkpoint-y.tmp"
    for folder in (old, young):
        folder.mkdir()
        (folder / "c.safetensors").write_bytes(b"a part")
    for place in (old / "c.safetensors", old):
        os.utime(place, (1e9, 1e9))
    Checkpoint(v=nt.Variable(1.0)).write(tmp_path / "c")
    assert names_in(tmp_path) == [".checkpoint-y.tmp", "c.safetensors"]


FULL = """
import resource, signal, sys
import numpy as np
import numtape as nt
v = nt.Variable(np.zeros(100_000))
checkpoint = nt.train.Checkpoint(v=v)
path = checkpoint.save(sys.argv[1])
v.assign(np.ones(100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for write in (checkpoint.save, lambda prefix: checkpoint.write(prefix + "-1")):
    try:
        write(sys.argv[1])
    except OSError as error:
        print(error)
print(checkpoint.save_counter.numpy())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "c")], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines[0] == f"[Errno 27] File too large: '{tmp_path}/c-2.safetensors'"
    assert lines[1] == f"[Errno 27] File too large: '{tmp_path}/c-1.safetensors'"
    assert lines[2] == "1"
    assert names_in(tmp_path) == ["c-1.safetensors"]
    v = nt.Variable(np.ones(100_000))
    Checkpoint(v=v).restore(tmp_path / "c-1").assert_consumed()
    assert not v.numpy().any()


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    with pytest.raises(OSError, match="file"):
        checkpoint.save(tmp_path / "file" / "c")
    assert checkpoint.save_counter.numpy() == 0
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("stage", ["os.replace", "os.fsync", "safetensors.numpy.save_file"])
def test_an_error_at_any_stage(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    v = nt.Variable(1.0)
    checkpoint = Checkpoint(v=v)
    path = checkpoint.write(tmp_path / "c")
    v.assign(2.0)

    def fail(*args: Any, **options: Any) -> None:
        raise OSError(5, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(stage, fail)
        with pytest.raises(OSError, match="broken"):
            checkpoint.write(tmp_path / "c")
    assert names_in(tmp_path) == ["c.safetensors"]
    checkpoint.read(path).assert_consumed()
    assert v.numpy() == 1.0


# ---- numbered saves ------------------------------------------------------------------------------------------------


def numbers(paths: list[str]) -> list[int]:
    return [int(path.rpartition("-")[2]) for path in paths]


def test_save_counts_and_restore_counts_on(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    paths = [checkpoint.save(tmp_path / "c") for _ in range(11)]
    assert numbers(paths) == [*range(1, 12)]
    assert nt.train.latest_checkpoint(tmp_path) == paths[-1]
    other = Checkpoint(v=nt.Variable(0.0))
    other.restore(paths[4]).assert_consumed()
    assert other.save_counter.numpy() == 5
    assert other.save(tmp_path / "c") == paths[5]
    assert nt.train.latest_checkpoint(tmp_path) == paths[5]  # not the eleventh, which another run wrote before
    other.read(paths[0]).assert_consumed()
    assert other.save_counter.numpy() == 6
    written = other.write(tmp_path / "d")
    other.restore(written).assert_consumed()
    assert other.save_counter.numpy() == 6
    assert nt.train.latest_checkpoint(tmp_path) == paths[5]


def test_latest_checkpoint_of_odd_folders(tmp_path: Path) -> None:
    assert nt.train.latest_checkpoint(tmp_path) is None
    assert nt.train.latest_checkpoint(tmp_path / "nowhere") is None
    save_file({"v": np.zeros(2)}, tmp_path / "foreign-9.safetensors")
    (tmp_path / "text-9.safetensors").mkdir()
    (tmp_path / "c-5.txt").touch()
    assert nt.train.latest_checkpoint(tmp_path) is None
    path = Checkpoint(v=nt.Variable(1.0)).save(tmp_path / "c")
    assert nt.train.latest_checkpoint(str(tmp_path)) == path
    time.sleep(0.01)
    (tmp_path / "c-2.safetensors").write_bytes(b"garbage")
    assert nt.train.latest_checkpoint(tmp_path) == str(tmp_path / "c-2")  # not passed over: restoring says what it is
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint(v=nt.Variable(1.0)).restore(tmp_path / "c-2")


def test_the_order_survives_copying_and_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v = nt.Variable(0.0)
    checkpoint = Checkpoint(v=v)
    first = checkpoint.save(tmp_path / "c")
    monkeypatch.setattr(time, "time_ns", lambda: 5)  # the clock was set back
    second = checkpoint.save(tmp_path / "c")
    third = checkpoint.save(tmp_path / "other")
    for k, path in enumerate((third, second, first)):
        os.utime(f"{path}.safetensors", (2e9 + k, 2e9 + k))
    assert nt.train.latest_checkpoint(tmp_path) == third
    os.remove(f"{third}.safetensors")
    assert nt.train.latest_checkpoint(tmp_path) == second


def test_m14_the_newest_stay(tmp_path: Path) -> None:
    v = nt.Variable(0.0)
    manager = CheckpointManager(Checkpoint(v=v), tmp_path / "m", max_to_keep=3)
    assert (manager.checkpoints, manager.latest_checkpoint, manager.restore_or_initialize()) == ([], None, None)
    for k in range(12):
        v.assign(k)
        path = manager.save()
        assert manager.latest_checkpoint == path
    assert numbers(manager.checkpoints) == [10, 11, 12]
    assert names_in(tmp_path / "m") == [f"ckpt-{k}.safetensors" for k in (10, 11, 12)]
    # Another process goes on.
    w = nt.Variable(0.0)
    again = CheckpointManager(Checkpoint(v=w), str(tmp_path / "m"), max_to_keep=2)
    assert numbers(again.checkpoints) == [10, 11, 12]
    assert again.restore_or_initialize() == path
    assert w.numpy() == 11.0
    assert numbers([again.save()]) == [13]
    assert numbers(again.checkpoints) == [12, 13]
    os.remove(f"{again.checkpoints[1]}.safetensors")
    assert numbers(again.checkpoints) == [12]


def test_managers_leave_other_files_alone(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    checkpoint.write(tmp_path / "best-1")
    checkpoint.save(tmp_path / "ckpt-old")
    checkpoint.save(tmp_path / "x.ckpt")
    best = CheckpointManager(checkpoint, tmp_path, max_to_keep=1, checkpoint_name="best")
    both = CheckpointManager(checkpoint, tmp_path, max_to_keep=1)
    for manager in (both, best, both, best):
        manager.save()
    assert names_in(tmp_path) == [
        "best-1.safetensors", "best-6.safetensors", "ckpt-5.safetensors", "ckpt-old-1.safetensors",
        "x.ckpt-2.safetensors",
    ]  # fmt: skip
    assert nt.train.latest_checkpoint(tmp_path) == best.latest_checkpoint


def test_numbers_of_the_users(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    manager = CheckpointManager(checkpoint, tmp_path, max_to_keep=2)
    for number in (500, nt.Variable(1000), np.int64(600)):
        manager.save(checkpoint_number=number)
    assert numbers(manager.checkpoints) == [1000, 600]  # in the order of saving, as after going back to an earlier one
    assert checkpoint.save_counter.numpy() == 3


def test_one_every_so_many_hours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000 * 10**9
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    for k in range(10):
        monkeypatch.setattr(time, "time_ns", lambda k=k: now + k * 1800 * 10**9)
        CheckpointManager(checkpoint, tmp_path, max_to_keep=2, keep_checkpoint_every_n_hours=1.5).save()
    assert numbers(CheckpointManager(checkpoint, tmp_path, max_to_keep=2).checkpoints) == [1, 4, 7, 9, 10]


def test_managers_options(tmp_path: Path) -> None:
    checkpoint = Checkpoint(v=nt.Variable(1.0))
    for bad in (0, -1):
        with pytest.raises(ValueError, match=f"max_to_keep .* {bad}"):
            CheckpointManager(checkpoint, tmp_path, max_to_keep=bad)
    called: list[int] = []
    manager = CheckpointManager(checkpoint, tmp_path, max_to_keep=None, init_fn=lambda: called.append(1))
    assert manager.restore_or_initialize() is None
    for _ in range(3):
        manager.save()
    assert numbers(manager.checkpoints) == [1, 2, 3]
    assert manager.restore_or_initialize() == manager.latest_checkpoint
    assert called == [1]

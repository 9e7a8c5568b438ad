"""Modules: which Variables they have, in which order, and what they are called; rows M of the semantics."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import numtape as nt
from numtape.module import children


class Leaf(nt.Module):
    def __init__(self, tag: str) -> None:
        super().__init__()
        self.w = nt.Variable(1.0, name=f"{tag}.w")


class Middle(nt.Module):
    def __init__(self, tag: str) -> None:
        super().__init__()
        self.z = nt.Variable(1.0, name=f"{tag}.z")
        self.inner = Leaf(f"{tag}.inner")


class Top(nt.Module):
    def __init__(self) -> None:
        super().__init__()
        self.zeta = nt.Variable(1.0, name="zeta")
        self.b = Middle("b")
        self.a = Middle("a")
        self.alpha = nt.Variable(1.0, name="alpha")


def names(variables: Any) -> list[str]:
    return [v.name.removesuffix(":0") for v in variables]


# ---- which and in which order --------------------------------------------------------------------------------------


def test_m01_own_attributes_by_name_then_submodules() -> None:
    top = Top()
    assert names(top.variables) == ["alpha", "zeta", "a.z", "a.inner.w", "b.z", "b.inner.w"]
    assert isinstance(top.variables, tuple)


def test_m02_each_once_at_its_first_position() -> None:
    top = Top()
    top.again = top.zeta
    assert names(top.variables)[:2] == ["zeta", "alpha"]
    # A Module that two others share comes where the level that is higher has it.
    top.shared = top.a.inner
    assert names(top.variables) == ["zeta", "alpha", "a.z", "b.z", "b.inner.w", "a.inner.w"]


def test_m03_containers_are_searched_and_non_trainable_left_out() -> None:
    module = nt.Module()
    v, u, m = nt.Variable(1.0, name="v"), nt.Variable(1.0, name="u", trainable=False), Leaf("m")
    x, y = nt.Variable(1.0, name="x"), nt.Variable(1.0, name="y")
    module.things = [v, ({"k": m, "a": u},)]
    module.zoo = {2: x, 1: [y], "s": 3}  # keys that do not sort keep their order
    assert names(module.variables) == ["v", "u", "x", "y", "m.w"]
    assert names(module.trainable_variables) == ["v", "x", "y", "m.w"]
    assert names(module.non_trainable_variables) == ["u"]


def test_m04_as_sources() -> None:
    top = Top()
    with nt.GradientTape() as tape:
        y = top.alpha * 2.0 + top.zeta * 3.0 + top.b.inner.w * 4.0
    grads = tape.gradient(y, top.trainable_variables)
    assert [g if g is None else float(g) for g in grads] == [2.0, 3.0, None, None, None, 4.0]


def test_m09_submodules_without_repeats_and_cycles() -> None:
    a, b, c = nt.Module("a"), nt.Module("b"), nt.Module("c")
    a.child, b.child, c.child = b, c, a
    c.v = nt.Variable(1.0, name="v")
    b.loop = [b, a]
    b.loop.append(b.loop)
    assert a.submodules == (b, c)
    assert names(a.variables) == ["v"]
    top = Top()
    assert top.submodules == (top.a, top.b, top.a.inner, top.b.inner)


# ---- what is kept, and for how long --------------------------------------------------------------------------------


def test_m13_whatever_changes_is_seen() -> None:
    top = Top()
    inner = top.b.inner
    new = [nt.Variable(float(k), name=f"new{k}") for k in range(8)]

    def found() -> set[str]:
        return {n for n in names(top.variables) if n.startswith("new")}

    assert not found()
    inner.x = new[0]
    assert found() == {"new0"}
    inner.x = new[1]
    assert found() == {"new1"}
    inner.x = 3
    assert not found()
    inner.items = []
    assert not found()
    inner.items.append({"k": (3, [])})
    assert not found()
    inner.items[0]["k"][1].append(new[2])
    assert found() == {"new2"}
    inner.items[0]["k"][1][0] = new[3]
    assert found() == {"new3"}
    inner.items[0]["z"] = new[4]
    assert found() == {"new3", "new4"}
    del inner.items[0]["k"]
    assert found() == {"new4"}
    inner.items[:] = [Leaf("new5")]
    assert found() == {"new5.w"}
    del inner.items
    assert not found()
    inner.pair = (new[6], 1)
    inner.deep = Middle("new7")
    assert found() == {"new6", "new7.z", "new7.inner.w"}


def test_answers_are_the_users_to_change() -> None:
    layer = nt.keras.layers.Dense(2)
    layer.build((None, 3))
    layer.variables.clear()
    layer.trainable_variables.pop()
    assert len(layer.variables) == len(layer.trainable_variables) == 2


def test_a_dict_with_its_keys_in_another_order() -> None:
    module = nt.Module()
    u, v = nt.Variable(1.0, name="u"), nt.Variable(1.0, name="v")
    module.d = {"a": u, "b": v}
    assert names(module.variables) == ["u", "v"]
    module.d["c"] = module.d.pop("a")
    assert names(module.variables) == ["v", "u"]


# ---- names ---------------------------------------------------------------------------------------------------------


def test_m08_names() -> None:
    class ABCNet2D(nt.Module):
        pass

    class MyMLP(nt.Module):
        pass

    assert (ABCNet2D().name, MyMLP().name, nt.Module().name) == ("abc_net2_d", "my_mlp", "module")
    for name in ("a b", "1a", "", "a/b", "a-b", "ä"):
        with pytest.raises(ValueError, match="identifier"):
            nt.Module(name)
    with pytest.raises(TypeError):
        nt.Module(3)
    assert nt.Module(name="_a1").name == "_a1"


def test_without_the_constructor_of_module() -> None:
    class Careless(nt.Module):
        def __init__(self) -> None:
            self.w = nt.Variable(1.0)

    careless = Careless()
    assert len(careless.variables) == 1
    assert "1 variables" in repr(careless)
    with pytest.raises(AttributeError, match="_name"):
        _ = careless.name


def test_name_scopes() -> None:
    class Scoped(nt.Module):
        @nt.Module.with_name_scope
        def __call__(self, x: Any) -> Any:
            """What it does."""
            if not hasattr(self, "w"):
                self.w = nt.Variable(nt.ones([x.shape[-1], 2]), name="w")
                self.u = nt.Variable(1.0)
            return x @ self.w

    module = Scoped()
    assert module(nt.ones([1, 3])).shape == (1, 2)
    assert names(module.variables) == ["scoped/Variable", "scoped/w"]
    assert module.__call__.__doc__ == "What it does."
    with module.name_scope as prefix:
        assert (prefix, nt.Variable(1.0, name="q").name) == ("scoped/", "scoped/q:0")
    with nt.name_scope("outer"):
        late = Scoped(name="late")
        with nt.name_scope("in"):
            assert nt.Variable(1.0, name="x").name == "outer/in/x:0"
            with nt.name_scope(""):
                assert nt.Variable(1.0, name="x").name == "x:0"
            with late.name_scope:
                assert nt.Variable(1.0, name="x").name == "outer/late/x:0"
        assert nt.Variable(1.0, name="x").name == "outer/x:0"
    late(nt.ones([1, 3]))
    assert late.w.name == "outer/late/w:0"
    assert nt.Variable(1.0, name="x").name == "x:0"


def test_a_scope_ends_with_an_exception_and_may_be_entered_again() -> None:
    scope = nt.name_scope("s")
    with pytest.raises(ZeroDivisionError), scope:
        _ = 1 / 0
    with scope, scope:
        assert nt.Variable(1.0, name="x").name == "s/s/x:0"
    with scope:
        others: list[str] = []
        thread = threading.Thread(target=lambda: others.append(nt.Variable(1.0, name="x").name))
        thread.start()
        thread.join()
        assert others == ["x:0"]
    assert nt.Variable(1.0, name="x").name == "x:0"
    with pytest.raises(ValueError, match="string"):
        nt.name_scope(3)


# ---- init_scope ----------------------------------------------------------------------------------------------------


def test_init_scope_is_apart_from_tapes() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        y = x * x
        with nt.init_scope():
            z = x * y
            with nt.GradientTape() as inner:
                w = x * x * x
            own = inner.gradient(w, x)
            x.assign(5.0)
        u = y * z + x
    assert (float(z), float(own), float(u)) == (27.0, 27.0, 9.0 * 27.0 + 5.0)
    assert tape.watched_variables() == (x,)
    assert float(tape.gradient(u, x)) == 27.0 * 2 * 3.0 + 1


def test_init_scope_ends_with_an_exception() -> None:
    x = nt.Variable(3.0)
    with nt.GradientTape() as tape:
        with pytest.raises(ZeroDivisionError), nt.init_scope():
            _ = 1 / 0
        y = x * x
    assert float(tape.gradient(y, x)) == 6.0


# ---- copies --------------------------------------------------------------------------------------------------------


def changed_apart(twin: Top, top: Top) -> None:
    assert names(twin.variables) == names(top.variables)
    assert not {id(v) for v in twin.variables} & {id(v) for v in top.variables}
    twin.a.inner.w.assign(7.0)
    assert (float(top.a.inner.w), float(twin.variables[3])) == (1.0, 7.0)
    twin.more = nt.Variable(1.0, name="more")
    assert len(twin.variables) == len(top.variables) + 1


def test_copies_have_variables_of_their_own() -> None:
    top = Top()
    top.same = top.a
    _ = top.variables
    with nt.name_scope("elsewhere"):
        deep, loaded = copy.deepcopy(top), pickle.loads(pickle.dumps(top))
    for twin in (deep, loaded):
        assert twin.same is twin.a
        changed_apart(twin, top)
    shallow = copy.copy(top)
    assert [id(v) for v in shallow.variables] == [id(v) for v in top.variables]
    shallow.more = nt.Variable(1.0)
    assert (len(shallow.variables), len(top.variables)) == (7, 6)


def test_m13_children_one_level_down() -> None:
    module = Top()
    module.things = [nt.Variable(1.0), 3, [], (module.a,)]
    module.table = {"x": module.alpha, "n": 1}
    module.none = []
    _ = module.variables
    found = dict(children(module))
    assert list(found) == ["a", "alpha", "b", "table", "things", "zeta"]
    assert found["a"] is module.a
    assert [name for name, _ in children(found["things"])] == ["0", "3"]
    assert [name for name, _ in children(found["table"])] == ["x"]
    assert not [*children(module.alpha), *children(3), *children("text"), *children(np.ones(3))]

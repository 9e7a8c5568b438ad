"""The documentation keeps up with the package: all that is public is in the reference, and tables tell what there is.

The site itself is built by `make docs`, which checks every link.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import numtape as nt
from numtape.__main__ import _size as size_text
from numtape.__main__ import main
from numtape._absent import HINTS
from numtape.dtypes import float32, float64
from numtape.ir.op import REGISTRY, Gradient, Kind, Op
from numtape.ops import listing
from numtape.ops.core import PUBLIC
from tests.programs import attributes, gradient_of, operands, program_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
NAME = re.compile(r"`(nt(?:\.\w+)+)(?:\([^`]*\))?`")


def load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


reference = load(DOCS / "reference.py")
NAMES = reference.public_names()


# ---- the reference -----------------------------------------------------------------------------------------------


def test_every_public_name_has_an_entry():
    text = "\n".join(reference.pages().values())
    entries = set(re.findall(r"^\.\. py:(?:function|class|data|module):: ([\w.]+)", text, re.MULTILINE))
    assert {f"nt.{name}" for name in PUBLIC} <= entries
    for name in dir(nt):
        found = getattr(nt, name)
        if not name.startswith("_") and not isinstance(found, ModuleType):
            assert f"nt.{name}" in entries


def test_internal_modules_are_not_in_the_reference():
    assert not {"nt.tape", "nt.ir", "nt.passes", "nt.codegen", "nt.dtypes"} & set(NAMES)
    assert {"nt.math", "nt.keras", "nt.keras.optimizers", "nt.nest", "nt.cache"} <= set(NAMES)


def test_every_public_function_is_documented():
    without = [
        name
        for name, found in NAMES.items()
        if (inspect.isclass(found) or inspect.isfunction(found)) and name.count(".") == 1 and not inspect.getdoc(found)
    ]
    assert not without


def test_signatures_are_as_one_writes_them():
    assert reference.signature(nt.random.normal).endswith("dtype=nt.float32, seed=None, name=None)")
    assert "unconnected_gradients=nt.UnconnectedGradients.NONE" in reference.signature(nt.GradientTape.gradient)


def test_what_would_be_markup_is_escaped():
    def function():
        r"""|x| for *args, and `a|b` as it is, x_ too.

        >>> 2 * 3 | 1
        7
        """

    assert reference.documentation(function) == [
        r"\|x\| for \*args, and `a|b` as it is, x\_ too.", "", ">>> 2 * 3 | 1", "7",
    ]  # fmt: skip


# ---- the pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_names_and_links_of_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    assert {name for name in NAME.findall(text) if name not in NAMES} == set()
    generated = {f"reference/{name}" for name in reference.pages()}
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        inside = (page.parent / target).resolve()
        assert inside.exists() or inside.relative_to(DOCS).as_posix() in generated, target


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES} - {"index"} == {
        name for name in listed if not name.startswith("reference/")
    }


# ---- the list of ops ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", nt.list_ops(), ids=lambda row: row.name)
def test_listed_gradients_are_what_differentiating_gives(row):
    op = REGISTRY[row.name]
    if op.gradient is Gradient.BY_PASS:  # tests/passes/test_differentiate_loop.py shows it
        assert row.gradient == "yes"
        return
    found = {"none"}
    for example in op.examples:
        for dtype in (float32, float64):
            try:
                program = program_of(op, operands(op, example, dtype), attributes(op, example))
                found |= {"yes"} if gradient_of(program).outputs else set()
            except TypeError:
                continue
            except LookupError:
                found.add("missing")
    assert row.gradient == next(word for word in ("missing", "yes", "none") if word in found)
    assert row.kind == op.kind.value


def test_all_ops_are_listed_under_all_their_names():
    rows = nt.list_ops()
    assert {row.name for row in rows} == set(REGISTRY)
    published = {f"nt.{name}" for name, function in PUBLIC.items() if hasattr(function, "op")}
    assert {name for row in rows for name in row.public} == published
    assert [row for row in rows if row.gradient != "yes"] == nt.list_ops(without_gradient=True)


def test_a_missing_rule_shows_in_what_is_made_of_it():
    tanh = REGISTRY["tanh"]
    missing = replace(tanh, gradient=Gradient.MISSING)
    assert listing.gradient_of(missing) == "missing"

    def expand(values, attributes):
        return values[0] * 2, values[0].builder.emit(missing, [values[0] + 1])

    composite = Op("twice", Kind.COMPOSITE, ("x",), expand=expand, examples=tanh.examples, groups=("T",))
    assert listing.gradient_of(composite) == "missing"


def test_the_command_prints_the_list(capsys):
    assert main(["ops", "--without-gradient"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "public", "names", "kind", "gradient"]
    assert len(lines) == 1 + len(nt.list_ops(without_gradient=True))
    assert next(line for line in lines if line.startswith("less_equal")).split() == [
        "less_equal", "nt.less_equal,", "nt.math.less_equal", "map", "none",
    ]  # fmt: skip


def test_the_command_lists_public_names_first(capsys):
    assert main(["ops"]) == 0
    hidden = [line.split()[1] == "-" for line in capsys.readouterr().out.splitlines()[1:]]
    assert any(hidden)
    assert hidden == sorted(hidden)


def test_whoever_reads_the_list_may_stop():
    command = [sys.executable, "-m", "numtape", "ops"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before it begins
        assert not process.stderr.read()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (128_400, "128 kB"), (999_700, "1 MB"), (1 << 30, "1.07 GB")],
)
def test_sizes_are_readable(count, text):
    assert size_text(count) == text


# ---- what modules show -------------------------------------------------------------------------------------------


def test_modules_list_what_is_public():
    spaces = reference.namespaces()
    for name, module in spaces.items():
        assert dir(module), name
        assert not [hidden for hidden in dir(module) if hidden.startswith("_")], name
        published = {dotted.rpartition(".")[2] for dotted in PUBLIC if f"nt.{dotted}".rpartition(".")[0] == name}
        assert published <= set(dir(module)), name
    assert set(dir(nt.keras.optimizers)) == {"Adam", "AdamW", "Optimizer", "RMSprop", "SGD"}
    modules = {name for name in dir(nt) if isinstance(getattr(nt, name), ModuleType)}
    assert all(hasattr(getattr(nt, name), "__getattr__") for name in modules), "an internal package shows"


@pytest.mark.parametrize("name", HINTS)
def test_hints_are_for_names_that_are_missing(name):
    *path, last = name.split(".")
    found = nt
    for part in path:
        found = getattr(found, part)
    with pytest.raises(AttributeError, match=f"has no attribute '{last}'; ") as caught:
        getattr(found, last)
    assert HINTS[name] in str(caught.value)
    assert {mentioned for mentioned in NAME.findall(HINTS[name]) if mentioned not in NAMES} == set()


def test_names_without_a_hint():
    with pytest.raises(AttributeError, match=r"^module 'numtape\.keras' has no attribute 'tensro'$"):
        nt.keras.tensro
    with pytest.raises(AttributeError, match=r"^module 'numtape' has no attribute 'Tensro'$"):
        nt.Tensro
    assert getattr(nt.math, "real", None) is None


# ---- TensorFlow's names ------------------------------------------------------------------------------------------


def test_tensorflows_names_are_told_apart():
    names = reference.tensorflow_names()
    assert len(names) > 900
    lacking = {name: reference.lacking(name, parameters) for name, parameters in names.items()}
    assert lacking["tanh"] == lacking["GradientTape.gradient"] == lacking["newaxis"] == lacking["float32"] == []
    assert lacking["string"] is None
    for name, without in lacking.items():
        if without is not None:
            assert f"nt.{name}" in NAMES, f"nt.{name} is there, but not public"


def test_parameters_that_are_not_taken_are_found(monkeypatch):
    monkeypatch.setattr(nt, "tanh", lambda x: x)
    assert reference.lacking("tanh", ("x", "name")) == []
    assert reference.lacking("tanh", ("x", "axis", "name")) == ["axis"]
    assert "use_ema" in reference.lacking("keras.optimizers.Adam", ("learning_rate", "clipnorm", "use_ema"))
    assert reference.lacking("keras.optimizers.Adam", ("learning_rate", "clipnorm")) == []


def test_the_loops_of_the_readme_train():
    """Its blocks of Python, one after another, on batches that can be told apart."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    numbers = np.random.default_rng(0)
    batches = [(numbers.normal(size=(32, 64)).astype(np.float32), np.arange(32) % 10) for _ in range(4)] * 40
    for k, (x, labels) in enumerate(batches[:4]):
        x[np.arange(32), labels] += 5.0 + k
    names = {"np": np, "batches": batches}
    for block in blocks:
        exec(block, names)
        assert float(names["loss"]) < 1.6
        batches *= 2  # each block goes on where the one before has stopped
    assert float(names["loss"]) < 1.2
    assert int(names["optimizer"].iterations) == 160 + 320 + 640

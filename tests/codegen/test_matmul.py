from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from numtape.backends import native, reference
from numtape.codegen import blas
from numtape.codegen.plan import plan
from numtape.dtypes import float32, float64, int8, int32, int64, uint8
from numtape.ops.contraction import dot
from tests.programs import agree, program_of, run_plain

SOURCES = {"numpy": blas.of_numpy, "scipy": blas.of_scipy, "none": lambda: None}


@pytest.fixture(params=SOURCES)
def source(request, monkeypatch):
    """Each way to multiply, in turn, wherever it is there."""
    found = SOURCES[request.param]()
    if found is None and request.param != "none":
        pytest.skip(f"no BLAS from {request.param}")
    monkeypatch.setattr(blas, "library", lambda: found)
    return request.param


def product(a, b, dtype, transpose_a=False, transpose_b=False):
    rng = np.random.default_rng(0)
    if dtype.is_floating:
        arrays = [rng.uniform(-1, 1, shape).astype(dtype.dtype) for shape in (a, b)]
    else:
        arrays = [rng.integers(dtype.min, dtype.max, shape, dtype.dtype, endpoint=True) for shape in (a, b)]
    return program_of(dot.op, arrays, (transpose_a, transpose_b)), arrays


def kernels(program):
    return [step.kernel.name for step in plan(program).steps]


SHAPES = [
    (False, False, (11, 12), (12, 13)),
    (True, False, (12, 11), (12, 13)),
    (False, True, (11, 12), (13, 12)),
    (True, True, (12, 11), (13, 12)),
    (False, False, (3, 11, 12), (3, 12, 13)),
    (True, True, (3, 12, 11), (3, 13, 12)),
    (False, False, (1, 11, 12), (3, 12, 13)),
    (True, False, (3, 12, 11), (1, 12, 13)),
    (False, False, (2, 300), (300, 2)),
    (False, True, (130, 5), (131, 5)),
    (False, False, (70, 131), (131, 66)),
    (True, True, (131, 70), (66, 131)),
    (False, False, (3, 40), (40, 3)),
    (True, True, (40, 6), (2, 40)),
    (False, True, (5, 65, 70), (5, 67, 70)),
]


@pytest.mark.parametrize(("transpose_a", "transpose_b", "a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", [float32, float64])
def test_every_source_agrees_with_numpy(source, dtype, transpose_a, transpose_b, a, b):
    program, arrays = product(a, b, dtype, transpose_a, transpose_b)
    expected = reference.interpret(program, arrays)
    agree(native.run(program, arrays), expected, source)
    if a[-1] * a[-2] < 500:
        agree(run_plain(program, arrays), expected, f"{source}, plain")
    assert kernels(program) == [f"gemm_{dtype.code}"]


@given(
    st.integers(1, 3), st.integers(1, 10), st.integers(1, 40), st.integers(1, 30), st.booleans(), st.booleans(),
    st.sampled_from([float32, float64]),
)  # fmt: skip
def test_tiles_of_every_shape(batch, rows, columns, inner, transpose_a, transpose_b, dtype):
    a, b = (rows, inner), (inner, columns)
    shapes = [(batch, *(shape[::-1] if flag else shape)) for shape, flag in ((a, transpose_a), (b, transpose_b))]
    program, arrays = product(*shapes, dtype, transpose_a, transpose_b)
    agree(native.run(program, arrays), reference.interpret(program, arrays), "tiles")


def test_one_kernel_for_large_and_small_products():
    sources = set()
    for a, b, transpose_b in [((9, 9), (9, 9), False), ((200, 300), (300, 100), False), ((70, 9), (90, 9), True)]:
        [step] = plan(product(a, b, float32, False, transpose_b)[0]).steps
        sources.add(step.kernel.source)
    assert len(sources) == 1


@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64])
@pytest.mark.parametrize(("transpose_a", "transpose_b", "a", "b"), SHAPES[:6])
def test_integers_wrap_around(dtype, transpose_a, transpose_b, a, b):
    program, arrays = product(a, b, dtype, transpose_a, transpose_b)
    expected = reference.interpret(program, arrays)
    agree(native.run(program, arrays), expected, dtype.name)
    agree(run_plain(program, arrays), expected, f"{dtype.name}, plain")
    assert kernels(program) == [f"matmul_{dtype.code}"]


@pytest.mark.parametrize(
    ("transpose_a", "transpose_b", "a", "b"),
    [
        (False, False, (1, 200), (200, 300)),
        (False, True, (1, 200), (300, 200)),
        (False, False, (300, 200), (200, 1)),
        (True, False, (200, 300), (200, 1)),
        (True, True, (200, 300), (1, 200)),
        (False, False, (300, 1), (1, 200)),
        (False, False, (1, 700), (700, 1)),
        (False, False, (5, 30, 40), (5, 40, 1)),
        (True, False, (1, 40, 30), (5, 40, 1)),
        (False, False, (6, 6), (6, 6)),
    ],
)
def test_vectors_and_small_matrices_take_no_library(transpose_a, transpose_b, a, b):
    program, arrays = product(a, b, float32, transpose_a, transpose_b)
    [result], [expected] = native.run(program, arrays), reference.interpret(program, arrays)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert kernels(program) == ["matmul_f32"]


def test_vectors_share_two_kernels():
    sources = set()
    for transpose_a, transpose_b, a, b in [
        (False, False, (4, 5), (5, 1)), (True, False, (5, 4), (5, 1)), (False, True, (4, 5), (1, 5)),
        (True, True, (5, 4), (1, 5)), (False, False, (2, 4, 5), (2, 5, 1)),
    ]:  # fmt: skip
        [step] = plan(product(a, b, float32, transpose_a, transpose_b)[0]).steps
        sources.add(step.kernel.source)
    assert len(sources) == 2


def test_not_a_number_passes_through(source):
    program, (a, b) = product((20, 20), (20, 20), float32)
    a[3, 4] = np.nan
    b[4] = 0
    [result] = native.run(program, [a, b])
    assert np.isnan(result[3]).all()
    assert not np.isnan(np.delete(result, 3, 0)).any()


def test_extents_too_long_for_the_library(monkeypatch):
    monkeypatch.setattr(blas, "library", lambda: blas.Library("short integers", 5, {"f32": 0}))
    program, arrays = product((70, 80), (80, 90), float32)
    agree(native.run(program, arrays), reference.interpret(program, arrays), "no call of address 0")


def test_library_is_looked_up_once():
    assert blas.library() is blas.library()


def test_scipy_is_not_imported_where_numpy_has_one():
    if blas.of_numpy() is None:
        pytest.skip("no BLAS from NumPy")
    code = "import sys; from numtape.codegen import blas; blas.library(); assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_library(monkeypatch, tmp_path):
    monkeypatch.setattr(blas.np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    assert blas.of_numpy() is None
    monkeypatch.setitem(sys.modules, "scipy.linalg.cython_blas", None)
    assert blas.of_scipy() is None


def test_a_library_without_the_symbols(monkeypatch, tmp_path):
    folder = tmp_path / "numpy.libs"
    folder.mkdir()
    (folder / "libscipy_openblas64_-damaged.so").write_bytes(b"not a library")
    monkeypatch.setattr(blas.np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    assert blas.of_numpy() is None


def test_a_scipy_with_other_integers_is_left_alone(monkeypatch):
    signature = b"void (char *, char *, long *, long *, long *, float *)"
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = new(1, signature, None)
    fake = SimpleNamespace(__pyx_capi__={"sgemm": capsule, "dgemm": capsule})
    monkeypatch.setitem(sys.modules, "scipy.linalg.cython_blas", fake)
    assert blas.of_scipy() is None

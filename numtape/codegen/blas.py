"""The BLAS that is there already: NumPy's own, or else SciPy's.

NumPy's wheels carry OpenBLAS and have loaded it. Its symbols are private and other builds of NumPy have another BLAS,
so it is looked up; without it SciPy is asked, whose `cython_blas` is public and exists for every build.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Library:
    """A BLAS with the Fortran interface: whose it is, its integers' width, where `gemm` is for each element type."""

    name: str
    bits: int
    gemm: Mapping[str, int]


@cache
def library() -> Library | None:
    """The BLAS to use, or None."""
    return of_numpy() or of_scipy()


def of_numpy() -> Library | None:
    """The OpenBLAS of NumPy's wheels, with integers of 64 bits."""
    folder = Path(os.path.dirname(np.__file__))
    for place in (folder.parent / "numpy.libs", folder / ".dylibs"):
        for path in sorted(place.glob("*scipy_openblas64_*")):
            try:
                found = ctypes.CDLL(str(path))
                symbols = {"f32": found.scipy_sgemm_64_, "f64": found.scipy_dgemm_64_}
            except (OSError, AttributeError):
                continue
            gemm = {code: ctypes.cast(f, ctypes.c_void_p).value or 0 for code, f in symbols.items()}
            return Library(f"NumPy's OpenBLAS, {path.name}", 64, gemm)
    return None


def of_scipy() -> Library | None:
    """The BLAS that SciPy is linked to, with integers of 32 bits."""
    try:
        capsules = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__
    except Exception:  # A SciPy that does not fit this NumPy fails in many ways.
        return None
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = {}
    for code, symbol in (("f32", "sgemm"), ("f64", "dgemm")):
        signature = name_of(capsules[symbol])
        if not signature.startswith(b"void (char *, char *, int *, int *, int *,"):
            return None
        found[code] = pointer_of(capsules[symbol], signature)
    return Library("SciPy's, scipy.linalg.cython_blas", 32, found)


def address(name: str) -> int:
    """Where the function for `Native(name)` is."""
    found = library()
    assert found is not None
    return found.gemm[name]

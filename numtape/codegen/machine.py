"""The processor that kernels are compiled for, and the loading of machine code. Needs llvmlite alone, not numba."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

_lock = threading.Lock()


@cache
def target_machine() -> Any:
    """This machine's processor with all it can do."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host_features(), opt=3, reloc="default", codemodel="jitdefault", jit=True
    )


@cache
def host_features() -> str:
    """The processor's features as LLVM writes them, in a fixed order; empty where LLVM cannot tell."""
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:
        return ""


def cpu_name() -> str:
    """The processor as LLVM names it."""
    return str(llvm.get_host_cpu_name())


def notable_features() -> list[str]:
    """Vector extensions among the processor's features."""
    found = [f[1:] for f in host_features().split(",") if f.startswith("+")]
    return sorted(f for f in found if f in _NOTABLE)


_NOTABLE = {"sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2", "bf16"}


@cache
def description() -> str:
    """What machine code depends on beside its source."""
    return f"{llvmlite.__version__} {llvm.get_default_triple()} {llvm.get_host_cpu_name()} {host_features()}"


@cache
def _engine() -> Any:
    target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())


def load(code: bytes, symbol: str) -> int:
    """Link an object file into the process; the address of its symbol."""
    with _lock:
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = int(engine.get_function_address(symbol))
    if not address:
        raise RuntimeError(f"machine code without its symbol {symbol}")
    return address


def _after_fork() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Kernel source to machine code. This module and those it needs import numba; import it only to compile.

Numba is the front end: it types the source and lowers it to LLVM IR. From there on the IR is optimized once and
written as an object file by llvmlite, so that what is loaded now and what a later process loads from disk are the
same bytes. Each object has one symbol to call, `void entry(int64 *block)`: the block holds the kernel's arguments, each
in the lowest bytes of a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.core import compiler, target_extension, typed_passes, untyped_passes
from numba.core.codegen import JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.cpu_options import FastMathOptions
from numba.core.fastmathpass import rewrite_module
from numba.core.typing import Context

from numtape.codegen import intrinsics, native_calls, tiles
from numtape.codegen.machine import target_machine
from numtape.ir.kernel import Kernel

FASTMATH = {"contract", "nsz"}
"""Never nnan or ninf, which make isnan undefined; nor arcp, with which x86 makes `1 / sqrt(0)` nan from an estimate;
reassociation only where a fold asks for it."""

SCALARS = {
    "f32": types.float32, "f64": types.float64, "i8": types.int8, "i16": types.int16, "i32": types.int32,
    "i64": types.int64, "u8": types.uint8, "u16": types.uint16, "u32": types.uint32, "u64": types.uint64,
}  # fmt: skip

CONSTRUCTORS = {
    "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64, "boolean": bool,
    "inf": float("inf"), "nan": float("nan"),
}  # fmt: skip


PASSES = (
    untyped_passes.TranslateByteCode, untyped_passes.FixupArgs, untyped_passes.IRProcessing,
    untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference, typed_passes.PreLowerStripPhis,
    typed_passes.AnnotateTypes, typed_passes.NativeLowering, typed_passes.NoPythonBackend,
)  # fmt: skip
"""What a kernel needs of Numba's passes. The others look for closures, branches on types, exceptions and calls to
inline, which no kernel has, and take a quarter of the time."""


def compile_kernel(kernel: Kernel, symbol: str) -> bytes:
    """An object file that defines `symbol`."""
    return bytes(target_machine().emit_object(optimized(kernel, symbol)))


def optimized(kernel: Kernel, symbol: str = "entry") -> Any:
    """The kernel's LLVM module after optimization: print it to look for vectors."""
    machine = target_machine()
    module = llvm.parse_assembly(lowered(kernel, symbol))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def lowered(kernel: Kernel, symbol: str) -> str:
    """LLVM IR text of the kernel and its entry, not optimized."""
    function = define(kernel, scope())
    argument_types = tuple(_parameter(p) for p in kernel.parameters)
    typing, target = _contexts()
    with global_compiler_lock, target_extension.target_override("numtape"):
        library = _Library(target.codegen(), kernel.name)
        result = compiler.compile_extra(
            typing, target, function, argument_types, types.void, _flags(), {},
            library=library, pipeline_class=_Pipeline,
        )  # fmt: skip
        (module,) = library.modules
        if "for " in kernel.source:
            # A loop is vectorized only around what is inlined; elsewhere copies would only take time to compile.
            for function in module.functions:
                if function.name.startswith(intrinsics.PREFIX):
                    function.attributes.add("alwaysinline")
        _write_entry(module, symbol, target, result.fndesc, argument_types)
        return str(module)


def define(kernel: Kernel, names: dict[str, Any]) -> Callable[..., Any]:
    """The kernel's Python function, in a scope that gives its names their meaning."""
    names = dict(names)
    exec(compile(kernel.source, f"<kernel {kernel.name}>", "exec"), names)
    return names["kernel"]  # type: ignore[no-any-return]


@cache
def scope() -> dict[str, Any]:
    helpers = {name: getattr(m, name) for m in (intrinsics, native_calls, tiles) for name in m.__all__}
    return CONSTRUCTORS | helpers


def _parameter(code: str) -> Any:
    return types.CPointer(SCALARS[code[:-1]]) if code.endswith("*") else SCALARS[code]


def _flags() -> Any:
    flags = compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.no_compile = True
    flags.noalias = True
    flags.error_model = "numpy"
    flags.fastmath = FastMathOptions(FASTMATH)
    return flags


class _Typing(Context):  # type: ignore[misc]
    """What Numba knows about types, without arrays, lists and the like."""

    def load_additional_registries(self) -> None:
        pass


class _Target(CPUContext):  # type: ignore[misc]
    """Numba's CPU, without arrays, lists and the like: importing those takes longer than compiling a step's kernels."""

    def load_additional_registries(self) -> None:
        import numba.cpython.builtins
        import numba.cpython.numbers
        import numba.cpython.rangeobj
        import numba.cpython.tupleobj  # noqa: F401  importing them registers what kernels are made of

    def post_lowering(self, module: Any, library: Any) -> None:
        """Numba links its runtime for objects with counted references here; kernels have none."""
        if self.fastmath:
            rewrite_module(module, self.fastmath)


class _Kernels(target_extension.CPU):  # type: ignore[misc]
    """A target of our own to Numba, whose contexts are the two above; intrinsics are looked up by target."""


@cache
def _contexts() -> tuple[_Typing, _Target]:
    target_extension.target_registry["numtape"] = _Kernels
    typing = _Typing()
    target = _Target(typing, "numtape")
    target_extension.jit_registry[_Kernels] = _refuse
    descriptor = SimpleNamespace(target_context=target, typing_context=typing)
    target_extension.dispatcher_registry[_Kernels] = SimpleNamespace(targetdescr=descriptor)
    return typing, target


def _refuse(*arguments: Any, **options: Any) -> Any:
    raise TypeError("a kernel calls a function that Numba would compile apart, and that nothing would link")


class _Pipeline(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler, with `PASSES` alone."""

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("kernel")
        for each in PASSES:
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


class _Library(JITCPUCodegen._library_class):  # type: ignore[misc]
    """Keeps the IR that Numba hands over, instead of compiling it."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.modules: list[Any] = []

    def add_ir_module(self, ir_module: Any) -> None:
        self.modules.append(ir_module)

    def finalize(self) -> None:
        pass


def _write_entry(module: Any, symbol: str, target: Any, fndesc: Any, argument_types: tuple[Any, ...]) -> None:
    i64 = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64.as_pointer()]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    arguments = []
    for k, type in enumerate(argument_types):
        word = builder.load(builder.gep(entry.args[0], [i64(k)]))
        native = target.get_value_type(type)
        if isinstance(type, types.CPointer):
            arguments.append(builder.inttoptr(word, native))
        else:
            bits = builder.trunc(word, ir.IntType(type.bitwidth)) if type.bitwidth < 64 else word
            arguments.append(bits if isinstance(type, types.Integer) else builder.bitcast(bits, native))
    callee = target.declare_function(module, fndesc)
    # Only the entry is called from outside: the kernel itself can be inlined and dropped.
    callee.linkage = "internal"
    target.call_conv.call_function(builder, callee, types.void, argument_types, arguments)
    builder.ret_void()

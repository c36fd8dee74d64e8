"""From a Python function to object code: numba's front end and LLVM, without numba's runtime.

Numba makes of every function something that Python can call, with the machinery for exceptions and
a place in memory. Kernels report no errors (where numba would raise one, as for a range with a step
of 0, they end) and helpers are only linked into them. So here a kernel is one C function in an
object file, and a helper is never more than LLVM's intermediate form. (Machine code of helpers,
which nobody called, took 3 of the 28 seconds of processor time that all kernels took to compile on
Zen 3.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import config, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering

from . import lighter


class Compiled(NamedTuple):
    """An object file, and the names of what it does not define itself."""

    code: bytes
    needs: tuple[str, ...]


class _Library(JITCodeLibrary):
    """A helper in LLVM's intermediate form, which never gets a place in numba's memory.

    Numba optimizes in full three times, to find pairs of reference counts, of which there are none
    here. A helper is optimized lightly, for what it is linked into will be in full: a cold start
    takes a tenth less.
    """

    _light = True

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Link, and optimize."""
        self._unlinked: Any = self._final_module.clone()
        super().finalize()

    def _optimize_final_module(self) -> None:
        less = {"opt": min(1, int(config.OPT)), "loop_vectorize": False, "slp_vectorize": False}
        passes, builder = self._codegen._module_pass_manager(**(less if self._light else {}))
        passes.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def _polish_helpers(self) -> None:
        for helper in self._linking_libraries:
            if isinstance(helper, _Library):  # what numba has for min or range is none
                helper._polish()

    def _polish(self) -> None:
        """Link and optimize again, in full."""
        if self._light:
            self._polish_helpers()
            self._light, self._finalized, self._shared_module = False, False, None
            self._final_module = self._unlinked
            self.finalize()


class _Kernel(_Library):
    """A library with one function that can be seen from outside, which has the library's name."""

    _light = False

    def _optimize_final_module(self) -> None:
        module = self._final_module
        for thing in (*module.functions, *module.global_variables):
            if not thing.is_declaration and thing.name != self.name:
                thing.linkage = "internal"  # else LLVM could not leave out what is not used
        super()._optimize_final_module()

    def compiled(self, thorough: bool) -> Compiled:
        """Optimize the library and make it an object file.

        With `thorough`, helpers are optimized in full before they are linked, too: then their short
        loops are gone (2-2-2 with 4 rows: 0.26 us a step, not 0.29).
        """
        if thorough:
            self._polish_helpers()
        self.finalize()
        module = self._final_module
        self._finalize_dynamic_globals()
        if self._dynamic_globals:  # addresses, which are wrong in another process
            raise ValueError(f"{self.name} holds on to objects: {self._dynamic_globals}")
        things = (*module.functions, *module.global_variables)
        outer = [thing.name for thing in things if thing.is_declaration]
        needs = tuple(name for name in outer if not name.startswith("llvm."))
        return Compiled(self._codegen._tm.emit_object(module), needs)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's lowering, without what makes the function callable from Python."""

    _name = "fastmlp_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower a kernel into its library, or a helper into a new one."""
        if state.library is None:
            state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        if isinstance(state.library, _Kernel):
            _add_door(state.targetctx, state.library, lowered.fndesc)
        else:  # known to its callers by something built in that is nobody else's: numba wants that
            key = list[Any]().append
            state.targetctx.insert_user_function(key, lowered.fndesc, [state.library])
            state["cr"] = lowered._replace(cfunc=key)
        return True


def _add_door(context: Any, library: _Kernel, described: Any) -> None:
    """Add the C function of the library's name; whatever numba's own reports is left unused."""
    module = library.create_ir_module(f"{library.name}_door")
    convention = context.call_conv
    inner = ir.Function(
        module,
        convention.get_function_type(described.restype, described.argtypes),
        described.llvm_func_name,
    )
    nothing = described.restype == types.void
    result = ir.VoidType() if nothing else context.get_value_type(described.restype)
    kinds = [context.get_value_type(kind) for kind in described.argtypes]
    door = ir.Function(module, ir.FunctionType(result, kinds), library.name)
    builder = ir.IRBuilder(door.append_basic_block())
    _, value = convention.call_function(
        builder, inner, described.restype, described.argtypes, door.args
    )
    if nothing:
        builder.ret_void()
    else:
        builder.ret(value)
    library.add_ir_module(module)


_IDLE = (
    *("WithLifting", "InlineClosureLikes", "RewriteDynamicRaises", "MakeFunctionToJitFunction"),
    *("InlineInlinables", "FindLiterallyCalls", "LiteralUnroll", "InlineOverloads"),
    *("LiteralPropagationSubPipelinePass", "NoPythonSupportedFeatureValidation"),
)
"""Numba's passes for what no kernel has: contexts, closures, exceptions, `literally`.

They are half of all, and after most of them numba goes through a function's paths once more. The
object files are the same without them, 4 % of a cold start earlier.
"""


class Lowered(CompilerBase):
    """Numba's compiler up to LLVM's intermediate form."""

    def define_pipelines(self) -> list[Any]:
        """Those of numba's own passes that have something to do, but for the lowering."""
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (_Lowering if kind is NativeLowering else kind, why)
            for kind, why in manager.passes
            if kind.__name__ not in _IDLE
        ]
        return [manager]


def lowered(
    function: Callable[..., Any], arguments: Sequence[Any], result: Any, name: str
) -> _Kernel:
    """A function of numba types in LLVM's intermediate form, not yet optimized."""
    lighter.spare_scipy()
    flags = Flags()
    flags.nrt = False
    flags.error_model = "numpy"
    flags.no_rewrites = True
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    context, typing = cpu_target.target_context, cpu_target.typing_context
    typing.refresh()
    context.refresh()
    library = _Kernel(context.codegen(), name)
    library.enable_object_caching()
    compile_extra(typing, context, function, tuple(arguments), result, flags, {}, library, Lowered)
    return library


@global_compiler_lock
def compiled(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    result: Any,
    name: str,
    thorough: bool = False,
) -> Compiled:
    """Compile a function of numba types to a C function called `name`.

    `thorough` takes longer, and suits a kernel of many short loops.
    """
    with lighter.remembered_types():
        return lowered(function, arguments, result, name).compiled(thorough)


class Target(NamedTuple):
    """What decides about the code besides its source, as numba has settled it when it started."""

    triple: str
    processor: str
    features: str
    optimization: str


def target() -> Target:
    """What code is made for: this machine, or what numba's settings named."""
    chosen = config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return Target(triple, processor, features, repr(chosen))

"""Kernels in files: whatever happens to a file, the code that runs is the right one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from fastmlp import kernels

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

from numba.core import typed_passes, types, untyped_passes
from numba.core.errors import TypingError
from numba.core.types.functions import BaseFunction

from fastmlp.kernels.numba_cpu import inference, jit, native, objects

from .processes import run

TRAIN = """
import numpy as np
import fastmlp
from fastmlp.kernels.numba_cpu import jit
fastmlp.set_num_threads(1)
net = fastmlp.MLP((9, 12, 3), "tanh", dtype="float32", seed=0)
X = np.random.default_rng(0).normal(size=(64, 9))
net.fit(X, np.arange(64) % 3, epochs=2)
made = sorted(member.name for member in jit._FAMILIES if member.compiled)
print(",".join(made), net.predict_proba(X[:20]).tobytes().hex())
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the kernels of float32, and what a network trained with them answers."""
    folder = tmp_path_factory.mktemp("kernels")
    made, answer = run(TRAIN, FASTMLP_CACHE_DIR=str(folder), timeout=300).rsplit(maxsplit=1)
    assert "weight_tiles" in made
    return folder, answer


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one bit": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
    "another digest": lambda content: bytes(16) + content[16:],
    "no digest": lambda content: content[:7],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_made_anew(how: str, filled: tuple[Path, str]) -> None:
    folder, answer = filled
    (path,) = folder.rglob("fastmlp_weight_tiles_float32.o")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[how](whole))
    made, found = run(TRAIN, FASTMLP_CACHE_DIR=str(folder), timeout=100).split()
    assert (made, found) == ("weight_tiles", answer)
    assert objects.read(path) is not None


def test_what_a_killed_process_leaves_is_no_kernel(filled: tuple[Path, str]) -> None:
    folder, answer = filled
    (path,) = folder.rglob("fastmlp_product_float32.o")
    content = path.read_bytes()
    path.unlink()
    half = path.with_name(f".{path.name}-1-00000000")  # as `write` names them
    half.write_bytes(content[: len(content) // 2])
    made, found = run(TRAIN, FASTMLP_CACHE_DIR=str(folder), timeout=100).split()
    assert (made, found) == ("product", answer)


def test_a_cached_start_does_without_numbas_machinery(filled: tuple[Path, str]) -> None:
    """To set it in motion takes as long as all the rest of the package."""
    code = "import sys; print('numba.np.arraymath' in sys.modules)\n"
    folder, answer = filled
    last = run(TRAIN + code, FASTMLP_CACHE_DIR=str(folder), timeout=100).split()
    assert last == [answer, "False"]
    begin = "from numba.core.registry import cpu_target\ncpu_target.target_context.refresh()\n"
    assert run(begin + code).split() == ["True"]


def test_another_processor_has_a_folder_of_its_own(filled: tuple[Path, str]) -> None:
    folder, _ = filled
    code = """
from fastmlp.kernels.numba_cpu import jit
jit._writable(jit._folder("float32"))
"""
    run(code, FASTMLP_CACHE_DIR=str(folder), NUMBA_CPU_NAME="nocona", NUMBA_CPU_FEATURES="+sse2")
    run(code, FASTMLP_CACHE_DIR=str(folder), NUMBA_CPU_NAME="nocona", NUMBA_CPU_FEATURES="+sse3")
    names = [path.name for path in folder.glob("kernels-*/float32/*")]
    assert len(names) == len(set(names)) == 3
    assert sum(name.startswith("nocona-") for name in names) == 2


def test_a_folder_that_can_only_be_read_serves(filled: tuple[Path, str]) -> None:
    """As in a container that was built with ``warmup`` by somebody else."""
    folder, answer = filled
    (path,) = folder.rglob("fastmlp_row_sums_float32.o")
    content = path.read_bytes()
    path.unlink()
    code = """
import tempfile
from pathlib import Path
def refused(*arguments, **options):
    raise PermissionError
Path.write_bytes = tempfile.TemporaryFile = Path.mkdir = refused
"""
    made, found = run(code + TRAIN, FASTMLP_CACHE_DIR=str(folder), timeout=100).split()
    assert (made, found) == ("row_sums", answer)
    assert not path.exists()
    path.write_bytes(content)


def _kernel(function: object, name: str) -> native.Compiled:
    return native.compiled(function, (types.int64,), types.int64, name)  # type: ignore[arg-type]


def test_a_missing_function_is_an_error_and_not_the_end_of_the_process() -> None:
    kernel = _kernel(lambda x: x + 1, "fastmlp_test_wants_more")
    kernel = kernel._replace(needs=("fastmlp_nobody_has_this",))
    with pytest.raises(RuntimeError, match="fastmlp_nobody_has_this"):
        objects.link({"fastmlp_test_wants_more": kernel})


@pytest.mark.parametrize("given", ["too few", "too many"])
def test_a_call_of_a_kernel_has_its_number_of_arguments(given: str) -> None:
    """C would leave them to chance, or out."""
    kept = list(jit._FAMILIES)
    try:
        callee = jit.Family(lambda p, x: x + 1, jit.INTEGER, (jit.POINTER, jit.INTEGER), True)
    finally:
        jit._FAMILIES[:] = kept
    caller = (lambda p: 1 + callee(p)) if given == "too few" else (lambda p: callee(p, 1, 1))
    with pytest.raises(TypingError, match="No match"):
        native.lowered(caller, (types.CPointer(types.float32),), types.int64, "fastmlp_test")


@pytest.mark.parametrize("first", ["caller", "callee"])
def test_kernels_link_in_any_order(first: str, tmp_path: Path) -> None:
    """Here with names of their own, for what is linked once stays."""
    kept = list(jit._FAMILIES)
    try:
        callee = jit.Family(lambda p, x: x + 1, jit.INTEGER, (jit.POINTER, jit.INTEGER), True)
        callee.name = f"test_callee_{first}"
        caller = jit.Family(lambda p, x: callee(p, x) * 2, *CALLS, True)
        caller.name = f"test_caller_{first}"
    finally:
        jit._FAMILIES[:] = kept
    made = {}
    for member in (caller, callee) if first == "caller" else (callee, caller):
        wanted, name = member.signature(types.float32), member.symbol(types.float32)
        kernel = native.compiled(member.function, wanted.args, wanted.return_type, name)
        objects.write(tmp_path / name, kernel)
        assert objects.read(tmp_path / name) == kernel
        made[name] = kernel
    assert made[caller.symbol(types.float32)].needs == (callee.symbol(types.float32),)
    address = objects.link(made)[caller.symbol(types.float32)]
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)
    assert call(0, 20) == 42


CALLS = (jit.INTEGER, (jit.POINTER, jit.INTEGER))


def test_helpers_can_be_optimized_in_full_after_a_light_time() -> None:
    """A kernel that wants it gets the same function, whoever has linked the helper before."""

    @jit.inline
    def squared(x):  # type: ignore[no-untyped-def]
        return x * x

    @jit.inline
    def sum_of_squares(x):  # type: ignore[no-untyped-def]
        total = 0
        for i in range(8):
            total += squared(x + i)
        return total

    made = {}
    for name, thorough in (("light", False), ("full", True), ("again", True)):
        symbol = f"fastmlp_test_{name}"
        wanted = (types.int64,), types.int64, symbol
        made[symbol] = native.compiled(sum_of_squares.py_func, *wanted, thorough=thorough)
    for address in objects.link(made).values():
        call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)
        assert call(3) == sum((3 + i) ** 2 for i in range(8))


@pytest.mark.parametrize("member", ["order_rows", "activation_backward", "train_team"])
def test_passes_that_are_left_out_have_nothing_to_do(
    member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = next(each for each in jit._FAMILIES if each.name == member)
    wanted = kernel.signature(types.float32)
    arguments = kernel.function, wanted.args, wanted.return_type, f"fastmlp_test_{member}"
    few = native.compiled(*arguments)
    monkeypatch.setattr(native, "_IDLE", ())
    assert native.compiled(*arguments) == few


def test_numba_forgets_types_outside_of_our_compiling() -> None:
    """Others may teach its functions new ones meanwhile."""
    before = BaseFunction.get_call_type
    with pytest.raises(TypingError):
        _kernel(lambda x: x.nobody_has_this, "fastmlp_test_fails")
    _kernel(lambda x: x + 1, "fastmlp_test_compiles")
    assert BaseFunction.get_call_type is before


@pytest.mark.skipif(os.name != "posix", reason="rights are POSIX's")
def test_files_have_the_rights_that_the_user_gives(tmp_path: Path) -> None:
    """A folder may be filled by one user for others."""
    kernel = native.Compiled(b"code", ())
    for mask, expected in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            objects.write(tmp_path / "kernel", kernel)
        finally:
            os.umask(before)
        assert (tmp_path / "kernel").stat().st_mode & 0o777 == expected
    assert [path.name for path in tmp_path.iterdir()] == ["kernel"]


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid(), reason="only root can be others")
def test_a_folder_that_is_closed_to_this_user(tmp_path: Path) -> None:
    """As the home of somebody else: kernels compile, and nothing fails."""
    code = """
import os, sys
from pathlib import Path
from fastmlp.kernels.numba_cpu import jit
jit._FAMILIES[:] = [m for m in jit._FAMILIES if m.name in {"row_sums", "maxout_forward"}]
jit.MANY = 1
folder = Path(os.environ["FASTMLP_CACHE_DIR"])
folder.mkdir(mode=0o700)
os.environ["FASTMLP_CACHE"] = "0"
jit._FAMILIES[0].obtain("float64")  # imports what the other user may not be able to
del os.environ["FASTMLP_CACHE"]
os.setgid(65534), os.setuid(65534)
jit.prepare("float32", 2)
print(sum("float32" in member.compiled for member in jit._FAMILIES))
"""
    assert run(code, FASTMLP_CACHE_DIR=str(tmp_path / "closed"), timeout=100).split() == ["2"]


def test_kernels_need_nothing_of_python(filled: tuple[Path, str]) -> None:
    """Numba's ways to report an error call the interpreter, without having the lock for it."""
    folder, _ = filled
    foreign = set()
    for path in folder.rglob("*.o"):
        kernel = objects.read(path)
        assert kernel is not None
        foreign |= {name for name in kernel.needs if not name.startswith("fastmlp_")}
    assert foreign <= {"sqrt", "sqrtf", "pow", "powf", "memcpy", "memset", "memmove", "sched_yield"}


def test_an_array_has_its_address_where_kernels_look_for_it() -> None:
    for array in (np.zeros((3, 4), np.float32), np.zeros((2, 2))[1:], np.zeros((0, 3))):
        found = ctypes.c_void_p.from_address(id(array) + inference.DATA).value
        assert found == array.ctypes.data


def test_numba_still_has_what_is_overridden() -> None:
    """A renamed method would be skipped in silence, and machine code made of every helper again."""
    for ours, names in (
        (native._Library, ("_optimize_functions", "_optimize_final_module")),
        (native._Library, ("_finalize_final_module", "_finalize_dynamic_globals")),
        (native._Lowering, ("run_pass",)),
        (native.Lowered, ("define_pipelines",)),
    ):
        (base,) = ours.__bases__
        assert all(callable(getattr(base, name, None)) for name in names)
    assert all(
        hasattr(untyped_passes, name) or hasattr(typed_passes, name) for name in native._IDLE
    )


def test_names_are_unique() -> None:
    names = [member.name for member in jit._FAMILIES]
    assert len(names) == len(set(names))

"""The stand-in for cupy sees the mistakes that it is there to see."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import ON_DEVICE
from .hostcuda import build, standin

if build.compiler() is None:
    pytest.skip("no C++ compiler", allow_module_level=True)
if ON_DEVICE:
    pytest.skip("the stand-in is not in use", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]

PRELUDE = """
typedef long long whole;
typedef unsigned long long word;
typedef float real;
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in's device; a test may set its order and its memory."""
    for name in ("order", "total"):
        monkeypatch.setattr(standin.MACHINE, name, getattr(standin.MACHINE, name))
    return standin.MACHINE


def _kernel(text: str, name: str) -> Any:
    return standin.RawModule(code=PRELUDE + text).get_function(name)


def _device(values: Any, dtype: str = "float32") -> Any:
    host = np.asarray(values, dtype)
    array = standin.empty(host.shape, host.dtype)
    array.set(host)
    return array


SUM = """
extern "C" __global__ void block_sum(float *out, const float *x) {
    __shared__ float parts[64];
    parts[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (int distance = blockDim.x / 2; distance > 0; distance /= 2) {
        if (threadIdx.x < distance) parts[threadIdx.x] += parts[threadIdx.x + distance];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[blockIdx.x] = parts[0];
}
"""


def _sums(text: str, machine: Any) -> list[float]:
    """The sum of 64 numbers in each of the three orders."""
    found = []
    for order in range(standin.ORDERS):
        machine.order = order
        out = standin.zeros(2, "float32")
        _kernel(text, "block_sum")((2,), (64,), (out, _device(np.arange(64))))
        found.append(float(out.get()[1]))
    return found


def test_barriers_work_in_every_order(machine: Any) -> None:
    assert _sums(SUM, machine) == [2016.0] * 3


def test_a_missing_barrier_shows_in_some_order(machine: Any) -> None:
    first = SUM.index("__syncthreads();")
    broken = SUM[:first] + SUM[first + len("__syncthreads();") :]
    found = _sums(broken, machine)
    assert not all(value == 2016.0 for value in found)


def test_memory_of_a_block_is_poisoned(machine: Any) -> None:
    text = SUM.replace("parts[threadIdx.x] = x[threadIdx.x];", "")
    assert np.isnan(_sums(text, machine)).all()


SHUFFLE = """
extern "C" __global__ void warp_sum(float *out, const float *x) {
    float sum = x[threadIdx.x];
    for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    out[threadIdx.x] = sum;
}
"""


@pytest.mark.parametrize("order", range(standin.ORDERS))
def test_shuffles_stay_within_a_warp(order: int, machine: Any) -> None:
    machine.order = order
    out = standin.empty(64, "float32")
    _kernel(SHUFFLE, "warp_sum")((1,), (64,), (out, _device(np.arange(64))))
    np.testing.assert_array_equal(out.get(), np.repeat([496.0, 1520.0], 32))


LEAVES = "    if (threadIdx.x > 40) return;\n    parts[threadIdx.x] = "
PARTED = """
    if (threadIdx.x < 32) __syncthreads();
    __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    if (threadIdx.x >= 32) __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    for"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("    parts[threadIdx.x] = ", LEAVES, "wait where others have left"),
        ("    __syncthreads();\n    for", PARTED, "wait where others have left|different places"),
    ],
)
def test_divergent_threads_are_an_error(old: str, new: str, what: str, machine: Any) -> None:
    assert old in SUM
    with pytest.raises(RuntimeError, match=what):
        _sums(SUM.replace(old, new, 1), machine)
    assert _sums(SUM, machine) == [2016.0] * 3


SCALE = """
extern "C" __global__ void scale(float *x, float factor, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] *= factor;
}
"""
GOOD = (np.float32(2), np.int32(3))


def test_what_a_kernel_is_given_is_checked() -> None:
    kernel, x = _kernel(SCALE, "scale"), _device([1, 2, 3])
    kernel((1,), (32,), (x, *GOOD))
    np.testing.assert_array_equal(x.get(), [2, 4, 6])
    wrong: list[tuple[Any, ...]] = [
        (x, 2.0, np.int32(3)),  # a Python float is a double
        (x, np.float32(2), 3),  # a Python int has 64 bits
        (_device([1, 2, 3], "float64"), *GOOD),
        (np.ones(3, np.float32), *GOOD),
        (x, np.float32(2)),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError):
            kernel((1,), (32,), arguments)
    for grid, block in (((1,), (2048,)), ((0,), (32,))):
        with pytest.raises(ValueError, match="INVALID_VALUE"):
            kernel(grid, block, (x, *GOOD))


def test_device_arrays_do_not_mix_with_the_hosts() -> None:
    x = _device([1.0, 2.0])
    for mistake in (
        lambda: np.asarray(x),
        lambda: np.ones(2, np.float32) + x,
        lambda: x.set([1.0, 2.0]),
        lambda: x.set(np.ones(2)),
        lambda: x.__setitem__(0, np.ones(1)),
        lambda: x[np.array([0])],
        lambda: bool(x),
    ):
        with pytest.raises(TypeError):
            mistake()
    assert np.isnan(standin.empty(3, "float32").get()).all()


def test_cublas_refuses_what_would_make_a_hidden_copy() -> None:
    a, wide = _device(np.ones((2, 2))), _device(np.ones((2, 2)), "float64")
    for arguments in ((a, a, wide), (a, a, standin.empty((2, 2), "float32").T)):
        with pytest.raises(TypeError):
            standin.matmul(*arguments[:2], out=arguments[2])
    with pytest.raises(ValueError, match="overlaps"):
        standin.matmul(a, a, out=a)


def cuda() -> Any:
    return standin.module().cuda


def _on_default(x: Any) -> None:
    with cuda().Stream():
        x.fill(0)


CAPTURED: dict[str, Any] = {
    "an allocation": lambda x: standin.empty(1),
    "a copy of an array": lambda x: x.copy(),
    "a copy to the host": lambda x: x.get(),
    "a copy from the host": lambda x: x.set(np.ones((1, 1), np.float32)),
    "page-locked memory": lambda x: cuda().alloc_pinned_memory(8),
    "waiting for a stream": lambda x: cuda().Stream(non_blocking=True).synchronize(),
    "waiting for an event": lambda x: cuda().Event().synchronize(),
    "the default stream": _on_default,
    "another capture": lambda x: cuda().Stream(non_blocking=True).begin_capture(),
}
"""What breaks a capture."""

REFUSED: dict[str, Any] = {
    "matmul": lambda x: standin.matmul(x, x, out=x),
    "gemmEx": lambda x: cuda().cublas.gemmEx(*[0] * 19),
    "random numbers": lambda x: standin.random(3),
}
"""What CuPy itself refuses, so that the capture goes on."""


def _captured(x: Any, *steps: Any) -> Any:
    """What a stream captures; x lies on the device."""
    stream = cuda().Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            for step in steps:
                step(x)
        finally:
            graph = stream.end_capture()
    return graph


@pytest.mark.parametrize("what", CAPTURED)
def test_a_capture_breaks_by(what: str) -> None:
    x = _device([[1.0]])
    with pytest.raises(RuntimeError, match="cudaErrorStreamCapture"):
        _captured(x, CAPTURED[what])
    assert standin.MACHINE.capturing is None
    assert x.get()[0, 0] == 1


@pytest.mark.parametrize("what", REFUSED)
def test_a_capture_goes_on_without(what: str) -> None:
    x = _device([[1.0]])

    def refused(x: Any) -> None:
        with pytest.raises(NotImplementedError):
            REFUSED[what](x)

    graph = _captured(x, refused, lambda x: x.fill(3))
    assert x.get()[0, 0] == 1
    graph.launch()
    assert x.get()[0, 0] == 3


def test_the_default_stream_is_not_captured() -> None:
    with pytest.raises(RuntimeError, match="cudaErrorStreamCapture"):
        cuda().Stream().begin_capture()


def test_a_graph_runs_what_was_captured_again_and_again() -> None:
    kernel, x = _kernel(SCALE, "scale"), _device([1.0, 2.0])
    arguments = (x, np.float32(2), np.int32(2))
    graph = _captured(x, lambda x: kernel((1,), (32,), arguments))
    np.testing.assert_array_equal(x.get(), [1, 2])
    for times in (1, 2, 3):
        graph.launch()
        np.testing.assert_array_equal(x.get(), np.array([1, 2]) * 2**times)


def test_a_graph_does_not_keep_memory_alive() -> None:
    kernel = _kernel(SCALE, "scale")
    x = _device([1.0])
    graph = _captured(x, lambda x: kernel((1,), (32,), (x, np.float32(2), np.int32(1))))
    kernel._packed.clear()
    del x
    gc.collect()
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graph.launch()


def test_waiting_functions_are_found() -> None:
    code = """
inline __device__ void deep() { __syncthreads(); }
inline __device__ int shallow(int x) { return x; }
KERNEL one(int *x) { deep(); }  // shallow(x) {
KERNEL two(int *x) { x[0] = shallow(1); }
"""
    assert build.waiting(code) & {"one", "two", "deep", "shallow"} == {"one", "deep"}


def test_source_that_does_not_compile_says_so() -> None:
    with pytest.raises(RuntimeError, match="refused the kernels"):
        _kernel('extern "C" __global__ void f(int *x) { x = nothing; }', "f")


# With the compiler's sanitizers, in a process of their own

OVERRUN = """
import numpy as np
from tests.hostcuda import standin
code = '''extern "C" __global__ void f(float *x, int n) {
    for (int i = threadIdx.x; i <= n; i += blockDim.x) x[i] = 1;
}'''
x = standin.zeros(5000, "float32")
standin.RawModule(code=code).get_function("f")((1,), (32,), (x, np.int32(4999 + EXTRA)))
print("unseen")
"""


SEEN = "print('asan' in open('/proc/self/maps').read())"


@pytest.fixture(scope="module")
def sanitizers() -> None:
    """Skip where Python does not start with the sanitizers' libraries before all others."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not say which libraries are loaded")
    found = _sanitized("-c", SEEN)
    if found.stdout.strip() != "True":
        pytest.skip(f"the sanitizers can't be loaded before Python: {found.stderr[-300:]}")


def _sanitized(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python on kernels that are built with sanitizers of addresses and undefined behaviour."""
    libraries = [
        subprocess.run(
            [str(build.compiler()), f"-print-file-name=lib{name}.so"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("the compiler has no sanitizers")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FASTMLP_HOSTCUDA_FLAGS": "-g -fsanitize=undefined,address -fno-sanitize-recover=all",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("sanitizers")
def test_sanitizers_find_nothing_in_the_kernels() -> None:
    files = [f"tests/test_{name}.py" for name in ("vocabulary", "vocabulary_updates", "cupy_gpu")]
    found = _sanitized("-m", "pytest", "-q", "-k", "cupy", *files)
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.usefixtures("sanitizers")
@pytest.mark.parametrize(("extra", "seen"), [("0", False), ("1", True)])
def test_sanitizers_see_a_number_behind_the_end(extra: str, seen: bool) -> None:
    found = _sanitized("-c", OVERRUN.replace("EXTRA", extra))
    assert ("unseen" in found.stdout) != seen
    assert ("heap-buffer-overflow" in found.stderr) == seen

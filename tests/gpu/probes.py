"""Parts of the first run that only look whether something works, each short."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lt_probe import Library, Shape, seconds

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Device, driver, versions."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "device": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "memory": properties["totalGlobalMem"],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "nvrtc": list(cupy.cuda.nvrtc.getVersion()),
        "cublasLt": Library(cupy).version,
        "python": platform.python_version(),
        "tools": {name: shutil.which(name) for name in ("compute-sanitizer", "ncu", "nvcc")},
    }


def capture() -> dict[str, Any]:
    """cuBLASLt inside a capture of CuPy, with a workspace of ours, against CuPy's own product."""
    import cupy

    m, n, k = 96, 128, 64
    lt, found = Library(cupy), {}
    A, B = (cupy.random.standard_normal(s, dtype="float32") for s in ((k, m), (n, k)))
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        out = cupy.zeros((n, m), "float32")
        pointers = (A.data.ptr, B.data.ptr, out.data.ptr)
        call = lt.product(Shape(m, n, k), "float32", pointers)[0]
        call()
        stream.synchronize()
        found["eager"] = _gap(out, B @ A)
        out.fill(0)
        B *= 2
        stream.synchronize()
        stream.begin_capture()
        call()
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        found["replayed"] = _gap(out, B @ A)
    if max(found.values()) > 1e-4:
        raise ValueError(f"cuBLASLt gives other numbers than CuPy: {found}")
    return found


def _gap(found: Any, wanted: Any) -> float:
    return float(abs(found - wanted).max() / abs(wanted).max())


NODE = 'extern "C" __global__ void node(float *x) { if (threadIdx.x == 0) x[0] += 1; }'


def graph() -> dict[str, Any]:
    """What a launch costs by itself and as a node of a graph."""
    import cupy

    kernel, x = cupy.RawKernel(NODE, "node"), cupy.zeros(1, "float32")
    stream = cupy.cuda.Stream(non_blocking=True)
    times: dict[int, dict[str, float]] = {}
    with stream:
        for count in (16, 64, 256):

            def launches(count: int = count) -> None:
                for _ in range(count):
                    kernel((1,), (32,), (x,))

            launches()
            stream.synchronize()
            stream.begin_capture()
            launches()
            captured = stream.end_capture()
            times[count] = {
                "one by one": seconds(cupy, launches),
                "replayed": seconds(cupy, lambda captured=captured: captured.launch(stream)),
            }
    slope = {how: (times[256][how] - times[16][how]) / 240 for how in ("one by one", "replayed")}
    return {"seconds": times, "each launch": slope["one by one"], "each node": slope["replayed"]}


MMA = """
extern "C" __global__ void tile(float *out, const unsigned short *A, const unsigned short *B) {
    // Fragments of m16n8k16 as the PTX manual lays them out: A (16, 16), B (16, 8), out (16, 8).
    int group = threadIdx.x / 4, pair = 2 * (threadIdx.x % 4);
    unsigned a[4], b[2];
    for (int i = 0; i < 4; i++) {
        int row = group + 8 * (i % 2), column = pair + 8 * (i / 2);
        a[i] = A[16 * row + column] | (unsigned)A[16 * row + column + 1] << 16;
    }
    for (int i = 0; i < 2; i++) {
        int row = pair + 8 * i;
        b[i] = B[8 * row + group] | (unsigned)B[8 * (row + 1) + group] << 16;
    }
    float c[4] = {0, 0, 0, 0};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    for (int i = 0; i < 4; i++) out[8 * (group + 8 * (i / 2)) + pair + i % 2] = c[i];
}
"""

WGMMA = """
extern "C" __global__ void fences() {
    asm volatile("wgmma.fence.sync.aligned;");
    asm volatile("wgmma.commit_group.sync.aligned;");
    asm volatile("wgmma.wait_group.sync.aligned 0;");
}
"""


def nvrtc() -> dict[str, Any]:
    """The machine's own NVRTC: every kernel of ours, an inline mma that is run, sm_90a."""
    import cupy

    sys.path.insert(0, str(ROOT))
    from fastmlp.kernels.cupy_gpu.launch import PRECISIONS, kernels_of

    counts = {}
    for precision in PRECISIONS:
        own = kernels_of(precision)
        counts[precision] = sum(own._function(name) is not None for name in own.parameters)
    found: dict[str, Any] = {"kernels": counts, "mma, difference": _mma(cupy)}
    try:
        module = cupy.RawModule(code=WGMMA, options=("-arch=sm_90a",))
        module.get_function("fences")((1,), (128,), ())
        cupy.cuda.get_current_stream().synchronize()
        found["sm_90a"] = "compiled and run"
    except Exception as error:  # noqa: BLE001 - other devices have no wgmma
        found["sm_90a"] = f"{type(error).__name__}: {str(error)[:500]}"
    return found


def _mma(cupy: Any) -> float:
    rng = np.random.default_rng(0)
    A, B = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((16, 16), (16, 8)))
    bits = [cupy.asarray((x.view(np.uint32) >> 16).astype(np.uint16)) for x in (A, B)]
    out = cupy.zeros((16, 8), "float32")
    cupy.RawModule(code=MMA).get_function("tile")((1,), (32,), (out, *bits))
    gap = float(np.abs(out.get() - A @ B).max())
    if gap:
        raise ValueError(f"mma gives other numbers: {gap}")
    return gap


def profile() -> dict[str, Any]:
    """A short training under ncu, where it is installed and may read the counters."""
    program = shutil.which("ncu")
    if program is None:
        return {"skipped": "ncu is not installed"}
    from run import SHORT_RUN

    command = [program, "--launch-count", "40", "--csv", sys.executable, "-c", SHORT_RUN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-1500:])
    return {"rows": done.stdout.splitlines()[-200:]}

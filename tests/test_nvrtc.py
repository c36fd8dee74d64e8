"""NVIDIA's compiler takes every kernel for every kind of GPU; no GPU is needed for that.

The table ``data/cuda_resources.json`` says how many registers and how much shared memory each
kernel takes: ``pytest tests/test_nvrtc.py --write-resources`` writes it anew after a change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastmlp import kernels

from .hostcuda import nvrtc

TABLE = Path(__file__).parent / "data" / "cuda_resources.json"
ARCHITECTURES = (80, 90, 100)
NVRTC = nvrtc.version()

if NVRTC is None:
    pytest.skip("the wheel nvidia-cuda-nvrtc is not installed", allow_module_level=True)
if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

kernels.load("cupy")

from fastmlp.kernels.cupy_gpu.launch import OPTIONS, PRECISIONS, source  # noqa: E402

CASES = [(p, a) for p in PRECISIONS for a in ARCHITECTURES]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Any:
    """The checked-in table; where it is written anew, what the tests fill."""
    if not request.config.getoption("--write-resources"):
        yield json.loads(TABLE.read_text())
        return
    fresh = {"nvrtc": NVRTC, "kernels": {}}
    yield fresh
    TABLE.write_text(json.dumps(fresh, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize(("precision", "architecture"), CASES)
def test_every_kernel_compiles(
    precision: str, architecture: int, table: Any, request: pytest.FixtureRequest
) -> None:
    if architecture not in nvrtc.architectures():
        pytest.skip(f"NVRTC {NVRTC} does not know sm_{architecture}")
    made = nvrtc.compiled(source(precision), OPTIONS, architecture)
    assert made.cubin[:4] == b"\x7fELF"
    assert "warning" not in made.log, made.log
    assert set(made.resources) == nvrtc.kernels(source(precision))
    assert not {name: r for name, r in made.resources.items() if r["spills"]}
    used = {name: [r["registers"], r["shared"]] for name, r in made.resources.items()}
    known = table["kernels"].setdefault(f"{precision} sm_{architecture}", used)
    if table["nvrtc"] == NVRTC:
        assert used == known, "pytest tests/test_nvrtc.py --write-resources"


def test_a_block_of_the_largest_size_fits_its_registers(table: Any) -> None:
    """65,536 registers for a block of 256 threads."""
    most = max(used[0] for each in table["kernels"].values() for used in each.values())
    assert most * 256 <= 65536


def test_warnings_and_spills_would_be_seen() -> None:
    code = """
extern "C" __global__ void __launch_bounds__(1024) spilling(float *x) {
    float kept[64];
    for (int i = 0; i < 64; i++) kept[i] = x[i * 7 + threadIdx.x];
    for (int j = 0; j < 100; j++)
        for (int i = 0; i < 64; i++) kept[i] = kept[i] * kept[(i + 1) % 64] + kept[(i + 31) % 64];
    for (int i = 0; i < 64; i++) x[i] = kept[i];
    int unused;
}
"""
    made = nvrtc.compiled(code, OPTIONS, 90)
    assert made.resources["spilling"]["spills"] > 0
    assert "warning" in made.log
    with pytest.raises(RuntimeError, match="refused"):
        nvrtc.compiled("float x = INFINITY;", OPTIONS, 90)

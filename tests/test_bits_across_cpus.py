"""The same bits on every processor: the kernels compiled for others, on this one."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PROCESSORS = {
    "haswell": "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt,+sse4.1,+sse4.2,+ssse3",
    "nehalem": "+popcnt,+sse4.1,+sse4.2,+ssse3",
}


def _digests(folder: Path, **environment: str) -> dict[str, Any]:
    """What `bits_worker` prints in a process that compiles for a processor."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "bits_worker.py")],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FASTMLP_CACHE_DIR": str(folder),
            "FASTMLP_NUM_THREADS": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The digests on this processor as it is."""
    return _digests(tmp_path_factory.mktemp("native"))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 processors")
@pytest.mark.parametrize("name", list(PROCESSORS))
def test_same_bits_at_any_vector_width(name: str, native: dict[str, Any], tmp_path: Path) -> None:
    other = _digests(tmp_path, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=PROCESSORS[name])
    widths = native["vector bits"], other.pop("vector bits")
    if widths[0] == widths[1]:
        pytest.skip(f"this processor has vectors of {widths[0]} bits itself")
    different = sorted(case for case in other if native[case] != other[case])
    assert not different, f"{widths[0]} against {widths[1]} bits: {different}"
    assert len(other) > 150

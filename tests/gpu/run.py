"""Runs every test of the GPU backend on this machine's GPU, and notes what ran where.

    python tests/gpu/run.py [--result FILE] [--without-sanitizer] [arguments of pytest ...]

The same test bodies that elsewhere run over a stand-in run over CuPy here. Where NVIDIA's
compute-sanitizer is installed, a short training run goes through it as well. The record goes to
``benchmarks/results/gpu_tests.json``, from where README and the documentation take it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "gpu_tests.json"
NO_GPU = 3
"""Exit status where there is nothing to run on."""

SHORT_RUN = """
import numpy as np
from fastmlp import MLP
rng = np.random.default_rng(0)
X, y = rng.normal(size=(300, 40)), rng.integers(0, 40, 300)
for kind in ("batch", "layer", None):
    for activation in ("prelu", "mpelu", "maxout", "gelu"):
        net = MLP((40, 50, 33, 40), activation, normalization=kind, dropout=0.2, backend="cupy")
        net.fit(X, y, epochs=2, batch_size=64, sample_weight=np.ones(300))
"""


def device() -> dict[str, Any]:
    """The GPU, its driver and CuPy."""
    import cupy

    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(0)["name"]
    return {
        "device": name.decode() if isinstance(name, bytes) else name,
        "driver": driver(),
        "cuda of the driver": dotted(runtime.driverGetVersion()),
        "cuda": dotted(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
    }


def dotted(version: int) -> str:
    """12080 as 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}"


def driver() -> str:
    """The driver's version as its own tool tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.split()), "unknown")


def commit() -> str:
    """What the checkout is at."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def tests(report: Path, more: list[str]) -> dict[str, Any]:
    """Run pytest; return how many tests passed, failed and were skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cupy or gpu", f"--junitxml={report}"]
    environment = {**os.environ, "FASTMLP_TEST_GPU": "1"}
    status = subprocess.run([*command, *more], cwd=ROOT, env=environment, check=False).returncode
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    return {"status": status, "seconds": float(suite.get("time", 0)), **counts}


def sanitizer() -> dict[str, Any] | None:
    """Run a short training under compute-sanitizer; None where it is not installed."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return None
    found = {}
    for tool in ("memcheck", "racecheck"):
        command = [program, f"--tool={tool}", "--error-exitcode=1", sys.executable, "-c", SHORT_RUN]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found[tool] = {"status": done.returncode, "last": done.stdout.splitlines()[-1:]}
    return found


def missing() -> str | None:
    """Why nothing can run here."""
    sys.path.insert(0, str(ROOT))
    from fastmlp import available_backends

    return available_backends()["cupy"]


def main() -> int:
    """Write the record; the exit status is that of the tests."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--result", type=Path, default=RESULT)
    options.add_argument("--without-sanitizer", action="store_true")
    chosen, more = options.parse_known_args()
    reason = missing()
    if reason is not None:
        print(f"nothing was run: backend 'cupy' can't be used: {reason}", file=sys.stderr)
        return NO_GPU
    chosen.result.parent.mkdir(parents=True, exist_ok=True)
    outcome = tests(chosen.result.with_suffix(".xml"), more)
    record = {
        **device(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "outcome": "passed" if outcome["status"] == 0 else "failed",
        "tests": outcome,
        "sanitizer": None if chosen.without_sanitizer else sanitizer(),
    }
    chosen.result.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    return int(outcome["status"])


if __name__ == "__main__":
    sys.exit(main())

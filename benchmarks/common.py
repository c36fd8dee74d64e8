"""What the benchmarks share: the machine's record, medians, and results as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fastmlp", "numpy", "numba", "llvmlite", "scikit-learn", "torch", "jax")


def machine() -> dict[str, Any]:
    """Processor, cores, versions and commit that a result belongs to."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    model = ", ".join(f"{key} {values[key]}" for key in ("cpu family", "model") if key in values)
    return f"{values.get('model name', platform.machine())} ({model})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def best_and_median(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Seconds of a call: shortest and median of `repeats`, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return {"best": min(times), "median": statistics.median(times)}


def write(name: str, results: Mapping[str, Any]) -> None:
    """Write results with the machine's record to ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": machine(), **results}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else path)


def python(code: str, **environment: str) -> str:
    """Run code in a new process; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout

"""Everything that waits for a real GPU, in one command of under 30 minutes.

    python tests/gpu/first_run.py

Parts, each in a process of its own with a time limit: what the machine is; cuBLASLt inside a CUDA
graph; the machine's NVRTC; what a graph's node costs; the tests; speeds of copies and products;
epilogues; the benchmark beside PyTorch and JAX; NVIDIA's sanitizer and profiler; threads of the
processor. A part that fails is noted with the reason, and the next one begins. Parts that have
passed are not run again (``--again`` does), so a run that was cut off goes on where it was.

Results: ``benchmarks/results/gpu_first_run.json`` and ``.log``, besides what the tests and the
benchmark write there themselves. The exit status is 0 where every part has passed, or had nothing
to look at.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import run

ROOT = run.ROOT
RESULTS = run.RESULT.parent
NAME = "gpu_first_run"
MARK = "RESULT "
"""What the line of a part's result begins with."""


class Part(NamedTuple):
    """A question, and how long its answer may take."""

    module: str
    function: str
    seconds: float


PARTS: Mapping[str, Part] = {
    "environment": Part("probes", "environment", 60),
    "capture": Part("probes", "capture", 60),
    "nvrtc": Part("probes", "nvrtc", 90),
    "graph": Part("probes", "graph", 45),
    "tests": Part("first_run", "tests", 360),
    "ceilings": Part("ceilings", "ceilings", 120),
    "epilogues": Part("ceilings", "epilogues", 90),
    "benchmark": Part("first_run", "benchmark", 600),
    "sanitizer": Part("first_run", "sanitizer", 120),
    "profile": Part("probes", "profile", 60),
    "threads": Part("first_run", "threads", 150),
}
"""In this order; the limits sum up to less than 30 minutes."""

LEAST = 20.0
"""Seconds below which no part begins."""


# Parts that are scripts of their own


def _script(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-8000:], done.stderr[-8000:])
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise RuntimeError(f"status {done.returncode}: {' / '.join(last)}")
    return done.stdout


def _folder() -> Path:
    return Path(os.environ.get("FASTMLP_FIRST_RUN", RESULTS))


def tests() -> Any:
    """The tests of the backend; their record is beside this one."""
    target = _folder() / run.RESULT.name
    _script("tests/gpu/run.py", "--without-sanitizer", "--result", str(target))
    return json.loads(target.read_text())["tests"]


def benchmark() -> Any:
    """The benchmark; its record is beside this one."""
    words = ("--minutes", "8.5", "--results", str(_folder()))
    return {"last lines": _script("benchmarks/bench_gpu.py", *words).splitlines()[-60:]}


def sanitizer() -> Any:
    """A short training under compute-sanitizer."""
    found = run.sanitizer()
    if found is None:
        return {"skipped": "compute-sanitizer is not installed"}
    if any(tool["status"] for tool in found.values()):
        raise RuntimeError(f"compute-sanitizer found something: {found}")
    return found


def threads() -> Any:
    """The CPU backend on as many cores as the machine has."""
    # Apart from the results of the machine on which the CPU backend is measured.
    words = ("--minutes", "1", "--seconds", "1", "--results", str(_folder() / NAME))
    return {"last lines": _script("benchmarks/bench_threads.py", *words).splitlines()[-40:]}


# The run


def attempt(name: str, seconds: float, log: Path) -> dict[str, Any]:
    """A part in a process of its own: what it found, or why it has failed."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--part", name]
    environment = {**os.environ, "FASTMLP_FIRST_RUN": str(log.parent)}
    with log.open("a") as out:
        out.write(f"\n== {name}\n")
        out.flush()
        start = out.tell()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
    text = log.read_text(errors="replace")[start:]
    return {**_outcome(status, text, seconds), "seconds": round(time.monotonic() - began, 1)}


def _outcome(status: int | None, text: str, seconds: float) -> dict[str, Any]:
    if status is None:
        return {"outcome": "failed", "reason": f"it took longer than {seconds:.0f} s"}
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    if status == 0 and lines:
        found = json.loads(lines[-1].removeprefix(MARK))
        return {"outcome": "skipped" if "skipped" in found else "passed", "found": found}
    last = [line for line in text.splitlines() if line.strip()][-1:]
    reason = last[0][-1000:] if last else "it said nothing"
    return {"outcome": "failed", "reason": f"{reason} (status {status})"}


def run_part(name: str) -> int:
    """Answer one question in this process."""
    part = PARTS[name]
    if part.module == "first_run":
        function: Callable[[], Any] = globals()[part.function]
    else:
        function = getattr(importlib.import_module(part.module), part.function)
    try:
        found = function()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the part's result
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:1500]}")
        return 1
    print(f"{MARK}{json.dumps(found)}")
    return 0


def earlier(folder: Path) -> dict[str, Any]:
    """The record so far: of this folder, or else of the repository."""
    for place in (folder, RESULTS):
        path = place / f"{NAME}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
    return {"parts": {}}


def main() -> int:
    """Run what has not passed yet."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="*", choices=list(PARTS), help="these parts")
    options.add_argument("--again", action="store_true", help="also parts that have passed")
    options.add_argument("--minutes", type=float, default=29.0, help="end by then")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the record")
    options.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.part:
        return run_part(chosen.part)
    chosen.results.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * chosen.minutes
    record = earlier(chosen.results)
    for name in chosen.only or PARTS:
        done = record["parts"].get(name, {}).get("outcome") in ("passed", "skipped")
        if done and not chosen.again:
            continue
        left = min(PARTS[name].seconds, end - time.monotonic())
        if left < LEAST:
            print(f"{name}: no time is left; the same command goes on from here")
            break
        found = attempt(name, left, chosen.results / f"{NAME}.log")
        record["parts"][name] = {**found, "commit": run.commit()}
        (chosen.results / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{name}: {found['outcome']}, {found['seconds']} s {found.get('reason', '')}")
    outcomes = [record["parts"].get(name, {}).get("outcome") for name in chosen.only or PARTS]
    return 0 if all(outcome in ("passed", "skipped") for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

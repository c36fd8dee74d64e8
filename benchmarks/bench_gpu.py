"""How near a training step on the GPU comes to its products, and who else is there.

    python benchmarks/bench_gpu.py

In under ten minutes on one GPU: six kinds of training (`gpu_cases.py`) and MNIST to 97.5 %, by
every tier of ours, PyTorch (eager, a CUDA graph with a fused capturable Adam, torch.compile), JAX
(a jitted step, many steps in a scan), CuPy's own functions, and the processor where the size allows
it. Each precision is named to everybody. The bar is the products of the same step alone, the best
of ours and PyTorch's. Before anyone is timed, the first losses must be those that the processor
finds; a time is the median of 30 samples, the better of two repeats. Each library runs in a process
of its own, and who is missing, fails, or finds no time left is noted with the reason.

``--rehearse`` tries all of it on a machine without a GPU, small: ours over the stand-in of the
tests, the others on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_worker
from common import RESULTS, machine
from gpu_cases import Case, describe
from gpu_lineup import LIBRARIES
from gpu_worker import Lines

import fastmlp

SHARES = {"fastmlp": 0.4, "torch": 0.6, "jax": 0.78, "cpu": 0.84, "naive": 0.87, "compiled": 1.0}
"""By when, as a share of the minutes, a library must have begun its last contender."""

NEEDS = {"torch": "torch", "compiled": "torch", "jax": "jax", "fastmlp": "cupy", "naive": "cupy"}
HERE = os.pathsep.join([str(Path(fastmlp.__file__).parents[1]), *filter(None, sys.path)])
"""Workers measure what this process has imported."""

GRACE = 45.0
"""Seconds that a contender may take after its library's time."""

PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "numpy", "numba")


def run_library(library: str, folder: Path, until: float, words: list[str]) -> list[dict[str, Any]]:
    """A library's lines, from a process that is started again after a crash."""
    path, log = folder / f"{library}.jsonl", folder / f"{library}.log"
    command = [sys.executable, __file__, "--worker", library, "--until", str(until)]
    command += ["--folder", str(folder), *words]
    environment = {**os.environ, "PYTHONPATH": HERE}
    for _ in range(6):
        with log.open("a") as out:
            # In this process's group: whoever stops this script stops its workers too.
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment
            )
            reason = _ended(process, until + GRACE)
        lines = gpu_worker.read(path)
        if reason is None:
            return lines
        ended = {line["key"] for line in lines if "started" not in line}
        open_keys = [line["key"] for line in lines if line["key"] not in ended]
        detail = f"{reason}; {' '.join(log.read_text().split()[-60:])}"
        Lines(path).add(open_keys[-1] if open_keys else library, "failed", detail)
        if not open_keys or time.time() > until:
            break
    return gpu_worker.read(path)


def _ended(process: subprocess.Popen[bytes], until: float) -> str | None:
    """Wait; what went wrong, or None."""
    try:
        status = process.wait(max(1.0, until - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "it ran past its time and was stopped"
    return None if status == 0 else f"its process ended with status {status}"


def gathered(lines: list[dict[str, Any]], chosen: Mapping[str, Case]) -> dict[str, Any]:
    """From lines to results: by case and contender, with the bar and the shares."""
    results: dict[str, Any] = {
        f"{name}, {precision}": {**describe(case, precision), "contenders": {}}
        for name, case in chosen.items()
        for precision in case.precisions
    }
    others: dict[str, Any] = {}
    for line in lines:
        case, _, who = line["key"].partition(": ")
        if "started" in line:
            continue
        found = line.get("found", {k: v for k, v in line.items() if k != "key"})
        if not who:
            others[case] = found
        elif case in results:
            results[case]["contenders"][who] = found
        else:
            others.setdefault(gpu_worker.END_TO_END, {})[who] = found
    for result in results.values():
        _judge(result)
    return {"cases": results, "others": others}


def _judge(result: dict[str, Any]) -> None:
    """The bar, and how much of each step it is."""
    found = {who: one for who, one in result["contenders"].items() if "step" in one}
    bars = {who: one["step"] for who, one in found.items() if who.startswith("products")}
    if not bars:
        return
    best = min(bars, key=bars.__getitem__)
    result["bar"] = {"step": bars[best], "of": best}
    for who, one in found.items():
        if who not in bars:
            one["share of the products"] = bars[best] / one["step"]


def versions() -> dict[str, str]:
    """Of the packages that take part."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def worker(arguments: argparse.Namespace) -> None:
    """One library, in this process."""
    if arguments.rehearse and arguments.worker == "fastmlp":
        gpu_worker.stand_in()
    if arguments.rehearse and arguments.worker == "naive":
        import gpu_naive

        gpu_naive.Naive.module = "numpy"
    known = json.loads((arguments.folder / "known.json").read_text())
    chosen = gpu_worker.cases(arguments.rehearse, arguments.only)
    path = arguments.folder / f"{arguments.worker}.jsonl"
    gpu_worker.work(arguments.worker, path, known, arguments.until, chosen)


def prepare(arguments: argparse.Namespace, folder: Path, chosen: Mapping[str, Case]) -> None:
    """Write down the losses that everybody is compared with."""
    words = arguments.only
    known = {
        "rehearse": arguments.rehearse,
        "losses": gpu_worker.references(chosen),
        "end to end": not words or any(word in gpu_worker.END_TO_END for word in words),
    }
    (folder / "known.json").write_text(json.dumps(known))


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every library in turn; results are written after each."""
    began, seconds = time.time(), 60 * arguments.minutes
    chosen = gpu_worker.cases(arguments.rehearse, arguments.only)
    words = ["--rehearse"] if arguments.rehearse else []
    words += ["--only", *arguments.only] if arguments.only else []
    prepare(arguments, folder, chosen)
    lines: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    for library in arguments.libraries:
        need = NEEDS.get(library)
        if need and find_spec(need) is None and not (arguments.rehearse and need == "cupy"):
            lines.append({"key": library, "left out": f"{need} is not installed"})
        else:
            until = began + seconds * SHARES[library]
            lines += run_library(library, folder, until, words)
        results = {
            "machine": {**machine(), "gpu packages": versions()},
            "minutes": arguments.minutes,
            **gathered(lines, chosen),
        }
        if arguments.results:
            arguments.results.mkdir(exist_ok=True, parents=True)
            (arguments.results / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"{library}: {time.time() - began:.0f} s", flush=True)
    return results


def shown(results: Mapping[str, Any]) -> str:
    """The steps of all contenders, and every reason why one has none."""
    lines = []
    for name, case in results["cases"].items():
        lines.append(f"{name}: floor {case['floors']['floor'] * 1e6:.4g} us")
        for who, one in case["contenders"].items():
            if "step" in one:
                share = one.get("share of the products")
                rest = "" if share is None else f", {share:.0%} of it products"
                lines.append(f"  {who}: {one['step'] * 1e6:.4g} us{rest}")
            else:
                lines.append(f"  {who}: {str(one)[:200]}")
    lines += [f"{name}: {str(found)[:400]}" for name, found in results["others"].items()]
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="*", help="parts of cases' names: A, MNIST")
    options.add_argument("--libraries", nargs="*", choices=list(LIBRARIES), default=list(LIBRARIES))
    options.add_argument("--minutes", type=float, default=9.5, help="begin nothing after that")
    options.add_argument("--rehearse", action="store_true", help="small, without a GPU")
    options.add_argument("--results", type=Path, help="folder of gpu.json; else results/")
    for hidden, kind in (("--worker", str), ("--until", float), ("--folder", Path)):
        options.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    if not arguments.rehearse and not arguments.results:
        arguments.results = RESULTS
    with tempfile.TemporaryDirectory() as folder:
        print(shown(run(arguments, Path(folder))))


if __name__ == "__main__":
    main()

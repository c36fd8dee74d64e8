"""What the benchmarks share: the machine's record, medians, and results as JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastmlp.cli.machine import record

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, versions and commit that a result belongs to."""
    return {**record(), "commit": _commit(), "date": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _commit() -> str:
    """The commit's short name; results that were just written make no checkout dirty."""
    name = _git("describe", "--always") or "unknown"
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/benchmarks/results"
    )
    return f"{name}-dirty" if changed else name


def _git(*words: str) -> str:
    command = ["git", *words]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip()


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
    path = _store(RESULTS, name, {"machine": machine(), **results})
    print(f"written to {path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else path)


def _store(folder: Path, name: str, record: Mapping[str, Any]) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark that goes case by case."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="*", help="parts of the names of cases")
    options.add_argument("--resume", action="store_true", help="leave out cases that are measured")
    options.add_argument(
        "--quick", action="store_true", help="try everything, small; write nothing"
    )
    options.add_argument(
        "--minutes", type=float, default=math.inf, help="start no case later than that"
    )
    options.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where the JSON goes; else results/"
    )
    return options


class Cases:
    """Results case by case, written after each: an interrupted run is continued with --resume.

    With --only, cases that the file holds already and that are not named stay as they are.
    """

    def __init__(self, name: str, arguments: argparse.Namespace, settings: Mapping[str, Any]):
        self.name, self.arguments, self.settings = name, arguments, settings
        self.machine = machine()
        self.cases: dict[str, Any] = {}
        self.folder: Path | None = arguments.results or (None if arguments.quick else RESULTS)
        path = (self.folder or RESULTS) / f"{name}.json"
        if path.exists() and self.folder and (arguments.resume or arguments.only):
            self._continue(json.loads(path.read_text()))

    def _continue(self, held: Mapping[str, Any]) -> None:
        for key in ("processor", "cores", "packages"):
            if held["machine"][key] != self.machine[key]:
                sys.exit(f"{self.name}.json holds results of another machine ({key}): remove it")
        if any(held.get(key) != value for key, value in self.settings.items()):
            sys.exit(f"{self.name}.json holds results of other settings: remove it")
        commits = [*held["machine"]["commit"].split(", "), self.machine["commit"]]
        self.machine["commit"] = ", ".join(dict.fromkeys(commits))
        self.cases = dict(held["cases"])

    def wanted(self, names: Iterable[str]) -> Iterator[str]:
        """Names of the cases that are to be measured now, until the minutes are over."""
        end = time.monotonic() + 60 * self.arguments.minutes
        for name in names:
            if time.monotonic() > end:
                print(f"time is over before {name}: --resume measures the rest", flush=True)
                return
            parts = self.arguments.only
            named = not parts or any(part in name for part in parts)
            if named and not (self.arguments.resume and name in self.cases):
                yield name

    def add(self, name: str, found: Mapping[str, Any]) -> None:
        """Keep a case's result, and write all there are."""
        self.cases[name] = found
        if self.folder:
            self.machine["date"] = _now()
            whole = {"machine": self.machine, **self.settings, "cases": self.cases}
            _store(self.folder, self.name, whole)


def times_of(found: Mapping[str, Any]) -> str:
    """Microseconds of all contestants, in a line."""
    return ", ".join(f"{who} {us:.4g}" for who, us in found["microseconds"].items()) + " us"


def python(*words: str, **environment: str) -> str:
    """Run Python in a new process; return what it prints.

    It keeps bytecode, as every installed package has it: to compile our modules anew took 0.2 s.

    Raises
    ------
    RuntimeError
        It failed; the message is what it said.
    """
    result = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr)
    return result.stdout

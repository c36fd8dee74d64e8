"""One library's part of the GPU benchmark, in a process of its own.

Whatever is found becomes a line of JSON at once, so that a crash costs one contender and no more.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gpu_cases import (
    CASES,
    REHEARSAL,
    TOLERANCES,
    Case,
    Given,
    accuracy,
    apart,
    first_weights,
    given,
    parity_steps,
)
from gpu_lineup import FLOAT32_ONLY, RUNNERS, Builder, Task, contenders, tasks

ROOT = Path(__file__).resolve().parents[1]
SAMPLES, REPEATS = 30, 2
SAMPLE_SECONDS, MOST_SECONDS = 0.02, 12.0
"""Least duration of a sample, and about the most of a contender's."""
CPU_FLOP = 1e11
"""Most of a step that the processor is timed on."""
GOAL, SEEDS, MOST_EPOCHS = 0.975, 3, 40
END_TO_END = "MNIST"


def stand_in() -> None:
    """Put the tests' stand-in in the place of CuPy."""
    sys.path.insert(0, str(ROOT))
    from tests.hostcuda import standin

    standin.install()


def cases(rehearse: bool, only: list[str] | None) -> dict[str, Case]:
    """The cases whose names hold one of the words."""
    known = REHEARSAL if rehearse else CASES
    return {n: c for n, c in known.items() if not only or any(word in n for word in only)}


# What is measured


def measured(task: Task, case: Case, start: Given, wanted: list[float] | None) -> dict[str, Any]:
    """Parity, then times; without parity no times."""
    contender = task.build(case, start, task.precision)
    found: dict[str, Any] = {"clock": contender.clock}
    if not task.name.startswith("products"):
        found.update(parity(task, contender, case, wanted))
        contender.restart(start.weights, start.biases)
    found.update(times(contender, case))
    if task.name == "fastmlp, generic":
        import gpu_ours

        found["parts"] = gpu_ours.parts(contender)
    return found


def parity(task: Task, contender: Any, case: Case, wanted: list[float] | None) -> dict[str, Any]:
    """The first losses beside those of the processor.

    Raises
    ------
    ValueError
        They are too far apart, or there is nothing to compare with.
    """
    if wanted is None:
        raise ValueError("not timed: there are no losses to compare with")
    losses = contender.losses(parity_steps(case))
    precision = "float32" if task.name in FLOAT32_ONLY else task.precision
    gap, allowed = apart(losses, wanted[: len(losses)]), TOLERANCES[precision]
    if gap > allowed:
        raise ValueError(
            f"not timed: its losses {losses} are not {wanted}: {gap:.2g} apart, allowed {allowed}"
        )
    return {"losses": losses, "losses apart": gap}


def times(contender: Any, case: Case, samples: int = SAMPLES) -> dict[str, Any]:
    """Medians of two repeats, each of at least 30 samples where a step is not very long."""
    contender.run(1)
    rough = max(contender.sample(1), 1e-9)
    count = samples_steps(SAMPLE_SECONDS / rough, case.steps)
    if hasattr(contender, "places"):
        contender.places.next = 0
    contender.run(count)
    whole = REPEATS * samples * count * rough
    samples = samples if whole <= MOST_SECONDS else max(3, int(samples * MOST_SECONDS / whole))
    repeats = [
        statistics.median(contender.sample(count) for _ in range(samples)) for _ in range(REPEATS)
    ]
    return {
        "step": min(repeats),
        "repeats": repeats,
        "samples": samples,
        "steps of a sample": count,
        "rows per second": case.batch / min(repeats),
    }


def samples_steps(wanted: float, steps: int) -> int:
    """At most so many steps, a divisor of the epoch's: JAX compiles every other number anew."""
    return max(n for n in range(1, steps + 1) if steps % n == 0 and n <= max(1.0, wanted))


def references(chosen: Mapping[str, Case]) -> dict[str, list[float]]:
    """The first losses of each case by the processor, in float32."""
    from gpu_cpu import OnCpu

    found = {}
    for name, case in chosen.items():
        steps = parity_steps(case)
        rows = min(case.distinct, steps * case.batch)
        # As many rows as these steps need: the drawn ones come again after them.
        part = case._replace(distinct=case.distinct, repeats=-(-steps * case.batch // rows))
        found[name] = OnCpu(part, given(case), "float32").losses(steps)
    return found


def reached(build: Builder, case: Case, data: Any) -> dict[str, Any]:
    """Seconds of training until the test accuracy, three seeds; nothing compiles meanwhile."""
    rng = np.random.default_rng(0)
    X, y, X_test, y_test = data
    contender = build(case, Given(X, y, *first_weights(case, rng)), case.precisions[0])
    contender.run(case.steps)
    contender.wait()
    runs = []
    for seed in range(SEEDS):
        contender.restart(*first_weights(case, np.random.default_rng(seed)))
        seconds, epochs, share = 0.0, 0, 0.0
        while share < GOAL and epochs < MOST_EPOCHS:
            started = time.perf_counter()
            contender.run(case.steps)
            contender.wait()
            seconds += time.perf_counter() - started
            epochs += 1
            share = accuracy(*contender.weights(), X_test, y_test)
        runs.append({"seconds": seconds, "epochs": epochs, "accuracy": share})
    return {
        "seconds": statistics.median(run["seconds"] for run in runs),
        "reached": sum(run["accuracy"] >= GOAL for run in runs),
        "runs": runs,
    }


def mnist(rehearse: bool) -> tuple[Case, Any] | str:
    """The end-to-end case and its rows, or why there are none."""
    if rehearse:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((64, 6), np.float32)
        y = (X[:, 0] > 0).astype(np.int64)
        return Case((6, 16, 2), 16, ("float32",), 64, shuffled=True), (X, y, X, y)
    folder = os.environ.get("FASTMLP_MNIST")
    if not folder:
        return "FASTMLP_MNIST names no folder"
    from fastmlp.datasets import load_mnist

    data, batch = load_mnist(folder, scaling="unit"), 128
    rows = len(data.X_train) // batch * batch
    case = Case((784, 128, 10), batch, ("float32",), rows, shuffled=True)
    return case, (data.X_train[:rows], data.y_train[:rows], data.X_test, data.y_test)


# The process


class Lines:
    """What is done, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = {line["key"] for line in read(path)}

    def add(self, key: str, what: str, value: Any) -> None:
        """Write a line."""
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, what: value}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All lines."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def attempt(lines: Lines, key: str, until: float, run: Callable[[], Any]) -> None:
    """Run something once and write down what came of it."""
    if key in lines.done:
        return
    if time.time() > until:
        lines.add(key, "left out", "the time was over")
        return
    lines.add(key, "started", True)
    try:
        lines.add(key, "found", run())
    except Exception as error:  # noqa: BLE001 - whatever a library raises is its result
        lines.add(key, "failed", f"{type(error).__name__}: {error}"[:2000])
    gc.collect()


def work(
    library: str, path: Path, known: Mapping[str, Any], until: float, chosen: Mapping[str, Case]
) -> None:
    """All of a library's tasks; `known` holds the losses to compare with."""
    lines, rehearse = Lines(path), chosen.keys() <= REHEARSAL.keys() and known["rehearse"]
    held: dict[str, Given] = {}
    for task in tasks(library, chosen):
        case = chosen[task.case]
        key = task.key
        if library == "cpu" and case.flop > CPU_FLOP:
            if key not in lines.done:
                lines.add(key, "left out", "too large for the processor")
            continue
        if task.case not in held:
            held = {task.case: given(case)}
        start, wanted = held[task.case], known["losses"].get(task.case)
        attempt(lines, key, until, partial(measured, task, case, start, wanted))
    if library == "fastmlp":
        import gpu_ours

        attempt(lines, "device", until, gpu_ours.device)
        attempt(lines, "memory", until, partial(gpu_ours.memory, 1000 if rehearse else 1 << 30))
        attempt(lines, "graph", until, gpu_ours.graph)
    if known["end to end"]:
        _end_to_end(library, lines, until, rehearse)


def _end_to_end(library: str, lines: Lines, until: float, rehearse: bool) -> None:
    runners = {n: b for n, b in contenders(library).items() if n.startswith(RUNNERS)}
    found = mnist(rehearse) if runners else ""
    for name, build in runners.items():
        key = f"{END_TO_END}, float32: {name}"
        if isinstance(found, str):
            if key not in lines.done:
                lines.add(key, "left out", found)
        else:
            attempt(lines, key, until, partial(reached, build, *found))

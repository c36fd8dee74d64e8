"""Seconds until a test accuracy is reached: MNIST 97.5 %, Fashion-MNIST 88 %.

    python benchmarks/bench_accuracy.py

Everyone trains 784-128-10 with relu, cross-entropy and Adam (0.001), float32, minibatches of 128,
from the same weights in the same orders, and stops after the first epoch at whose end the test
accuracy is reached. Five seeds. Only training is timed: the accuracy is computed alike for all, by
NumPy from the weights. Nothing is compiled while the clock runs; what starting costs, import and
compilation and the rest of the first epoch, is timed apart in new processes: with empty caches
("cold") and again with what the first has left there ("cached").

FASTMLP_MNIST and FASTMLP_FASHION_MNIST name the folders of the data; without one of them the data
set is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import Cases, parser, python

from fastmlp.cli.peers import PEERS, Runner, installed
from fastmlp.cli.workloads import Problem, Workload, start
from fastmlp.datasets import Split, load_fashion_mnist, load_mnist
from fastmlp.kernels.contract import Array

SIZES, BATCH, RATE = (784, 128, 10), 128, 0.001
SEEDS = 5
MOST = 60
"""Epochs; who has not arrived by then has failed."""
PAUSE = 0.3
"""Seconds before a run: a library's waiting threads keep their cores busy for a while."""
CACHES = {
    "FASTMLP_CACHE_DIR": "fastmlp",
    "JAX_COMPILATION_CACHE_DIR": "jax",
    "TORCHINDUCTOR_CACHE_DIR": "torch",
}
"""Environment variable -> folder for compiled code."""
KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "TORCHINDUCTOR_COMPILE_THREADS": "2",
}


class Goal(NamedTuple):
    """A data set and the accuracy to reach on its test rows."""

    load: Callable[..., Split]
    variable: str
    accuracy: float


GOALS = {
    "MNIST": Goal(load_mnist, "FASTMLP_MNIST", 0.975),
    "Fashion-MNIST": Goal(load_fashion_mnist, "FASTMLP_FASHION_MNIST", 0.88),
}


class Course(NamedTuple):
    """What the contestants train on."""

    work: Workload
    given: Problem
    X_test: Array
    y_test: Array


def course(X: Array, y: Array, X_test: Array, y_test: Array) -> Course:
    """Whole minibatches of rows; the weights are replaced for every seed."""
    steps = len(X) // BATCH
    work = Workload("accuracy", SIZES, "relu", BATCH, steps, rate=RATE)
    weights = _start(work, np.random.default_rng(0))
    return Course(work, Problem(X[: steps * BATCH], y[: steps * BATCH], *weights), X_test, y_test)


def _start(work: Workload, rng: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """Draw He's weights for relu."""
    weights, biases = start(work, rng)
    return [W * np.float32(np.sqrt(2)) for W in weights], biases


def accuracy(runner: Runner, X: Array, y: Array) -> float:
    """Share of rows that the present weights get right."""
    weights, biases = runner.weights(), runner.biases()
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        X = np.maximum(X @ W + b, 0)
    return float(((X @ weights[-1] + biases[-1]).argmax(axis=1) == y).mean())


def reach(runner: Runner, run: Course, goal: float, seed: int, most: int) -> dict[str, Any]:
    """Train until the goal; seconds of the epochs alone."""
    rng = np.random.default_rng(seed)
    runner.restart(*_start(run.work, rng))
    time.sleep(PAUSE)
    seconds, epochs, found = 0.0, 0, 0.0
    while found < goal and epochs < most:
        order = rng.permutation(len(run.given.X))
        started = time.perf_counter()
        runner.epoch(order)
        seconds += time.perf_counter() - started
        epochs += 1
        found = accuracy(runner, run.X_test, run.y_test)
    return {"seconds": seconds, "epochs": epochs, "accuracy": found, "reached": found >= goal}


def race(name: str, run: Course, goal: float, seeds: int, most: int) -> dict[str, Any]:
    """All seeds of one contestant, after an epoch that compiles what there is to compile."""
    runner = PEERS[name](run.work, run.given, "adam")
    runner.epoch(np.arange(len(run.given.X)))
    runs = [reach(runner, run, goal, seed, most) for seed in range(seeds)]
    seconds = [one["seconds"] for one in runs]
    return {
        "goal": goal,
        "reached": sum(one["reached"] for one in runs),
        "seconds": {"median": statistics.median(seconds), "all": seconds},
        "epochs": [one["epochs"] for one in runs],
        "accuracy": [one["accuracy"] for one in runs],
    }


def beginning(name: str, run: Course) -> float:
    """Seconds of import, building and the first epoch, less those of a later one."""
    order = np.arange(len(run.given.X))
    times = [time.perf_counter()]
    runner = PEERS[name](run.work, run.given, "adam")
    for _ in range(4):
        runner.epoch(order)
        times.append(time.perf_counter())
    whole, *later = np.diff(times)
    return float(max(0.0, whole - min(later)))


def starts(name: str, quick: bool) -> dict[str, float]:
    """Seconds that starting costs, in new processes: empty caches, then full ones."""
    words = [__file__, "--worker", name, *(["--quick"] if quick else [])]
    with tempfile.TemporaryDirectory() as folder:
        caches = {key: str(Path(folder) / kind) for key, kind in CACHES.items()}
        return {
            state: float(python(*words, **caches, **KEEP_ALL).splitlines()[-1])
            for state in ("cold", "cached")
        }


def drawn(rows: int) -> Course:
    """Random rows: how long starting takes does not depend on them."""
    rng = np.random.default_rng(0)
    X, y = rng.random((rows, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], rows)
    return course(X, y, X, y)


def loaded(goal: Goal) -> Course:
    """The data set, pixels between 0 and 1."""
    data = goal.load(os.environ[goal.variable], scaling="unit")
    return course(data.X_train, data.y_train, data.X_test, data.y_test)


def shown(found: Mapping[str, Any]) -> str:
    """One contestant in a line."""
    if "cold" in found:
        return f"{found['cold']:.2f} s cold, {found['cached']:.2f} s cached"
    seconds, epochs = found["seconds"]["all"], found["epochs"]
    return (
        f"{found['seconds']['median']:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
        f"{min(epochs)} to {max(epochs)} epochs, {found['reached']} of {len(epochs)} seeds"
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--without", nargs="*", default=[], help="names of peers")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    rows = BATCH * (2 if arguments.quick else 400)
    if arguments.worker:
        print(json.dumps(beginning(arguments.worker, drawn(rows))))
        return
    os.environ.update(KEEP_ALL)
    names = [name for name in installed() if name not in arguments.without]
    present = {key: goal for key, goal in GOALS.items() if os.environ.get(goal.variable)}
    for key in GOALS.keys() - present.keys():
        print(f"{key} is left out: {GOALS[key].variable} names no folder", flush=True)
    settings = {"layers": "-".join(map(str, SIZES)), "batch": BATCH, "rate": RATE, "seeds": SEEDS}
    record = Cases("accuracy", arguments, settings)
    courses: dict[str, Course] = {}
    for case in record.wanted(f"{part}, {n}" for part in ("start", *present) for n in names):
        part, name = case.split(", ", 1)
        if part == "start":
            found: dict[str, Any] = starts(name, arguments.quick)
        else:
            if part not in courses:
                courses = {part: drawn(rows) if arguments.quick else loaded(present[part])}
            seeds, most = (1, 2) if arguments.quick else (SEEDS, MOST)
            found = race(name, courses[part], present[part].accuracy, seeds, most)
        record.add(case, {"part": part, "contestant": name, **found})
        print(f"{case}: {shown(found)}", flush=True)


if __name__ == "__main__":
    main()

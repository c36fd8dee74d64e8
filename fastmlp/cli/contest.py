"""A contest: every contestant trains the same epochs; parity first, then times.

After three steps from the same start the weights must agree with tuned NumPy's. Then all train
whole epochs in turn, so that each meets the same moods of the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .peers import COMPILED, EAGER, NUMPY, OURS, PEERS, SCAN, SEPARATE_START, Runner
from .workloads import Problem, Workload, floor_flops, problem

PARITY_STEPS = 3
PARITY = {"float32": 5e-2, "float64": 1e-6}
"""How far apart two contestants may be after three steps, as a share of the way they have come.

By the Euclidean norm of an array: where a gradient is nearly 0, Adam makes a whole step of its
rounding (784-2048-2048-10: 2 %). Beside that, so much of 1e-4 of the weights themselves, which are
rounded too."""

TRIALS, TRIAL_SECONDS = 5, 0.1
FAR = 4.0
"""How many times as slow as the best rival a trial may be, for its peer to stay in the contest."""
GAIN = 2.0
"""The same for PyTorch before it is compiled, which saved it 1.3 times at most."""


class Pace(NamedTuple):
    """How long a case may take, in seconds."""

    seconds: float = 3.0
    """For all contestants together."""
    least: int = 3
    most: int = 15
    """Rounds."""
    pause: float = 0.3
    """Before each measurement: threads of BLAS and OpenMP keep their cores busy for a while."""
    probe: Callable[[], float] | None = None
    """Tells how fast the machine is at the moment; see `in_turn`."""


def parity(work: Workload, names: Iterable[str], optimizer: str) -> dict[str, Runner]:
    """Train three steps and compare; return the networks, ready for more epochs of three steps.

    Raises
    ------
    ArithmeticError
        The weights of two contestants are further apart than rounding explains.
    """
    short = work._replace(steps=PARITY_STEPS)
    given = problem(short)
    runners = {name: PEERS[name](short, given, optimizer) for name in names}
    wanted = PEERS[NUMPY](short, given, optimizer)
    wanted.epoch()
    for name, runner in runners.items():
        runner.epoch()
        if name not in SEPARATE_START:
            found, reached = runner.weights() + runner.biases(), wanted.weights() + wanted.biases()
            for parts in zip(found, reached, given.weights + given.biases, strict=True):
                _compare(work, name, *parts)
    return runners


def _compare(work: Workload, name: str, found: Any, wanted: Any, start: Any) -> None:
    apart, way = np.linalg.norm(found - wanted), np.linalg.norm(wanted - start)
    if not apart < PARITY[work.dtype] * (way + 1e-4 * np.linalg.norm(wanted)):
        raise ArithmeticError(
            f"{name} on {work.name}: weights differ by {apart:g} after a way of {way:g}"
        )


def contenders(
    work: Workload, names: Iterable[str], optimizer: str, pause: float = Pace().pause
) -> tuple[list[str], list[str]]:
    """Check parity of all, then split them: who may win, and who is far behind on a short trial.

    Without a pause, beside the waiting threads of the one before, PyTorch seemed to be far behind
    where it was the best.
    """
    runners = parity(work, [name for name in names if name != COMPILED], optimizer)
    trial = {}
    for name, runner in runners.items():
        time.sleep(pause)
        trial[name] = _shortest(runner.epoch)
    best = min((seconds for name, seconds in trial.items() if name != OURS), default=np.inf)
    # A scan has a price per epoch, which three steps can't carry: it always stays.
    near = [n for n, s in trial.items() if s < FAR * best or n in (OURS, NUMPY, SCAN)]
    if COMPILED in names and trial[EAGER] < GAIN * best:
        parity(work, [COMPILED], optimizer)
        near.append(COMPILED)
    return near, [name for name in names if name not in near]


def _shortest(run: Callable[[], object]) -> float:
    """Seconds of the shortest of a few calls; of one, where that takes long."""
    best = _seconds(run)
    for _ in range(TRIALS - 1 if best < TRIAL_SECONDS else 0):
        best = min(best, _seconds(run))
    return best


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


QUIET = 0.93
"""Of the highest rate that a probe has seen: so much is a quiet machine."""

BRIEF = Pace(0, 1, 1, 0)
"""To see that everything runs."""


def in_turn(runs: Mapping[str, Callable[[], object]], pace: Pace) -> dict[str, list[float]]:
    """Seconds of each call, in rounds; the first call of each may compile and does not count.

    With a probe, calls count before which the machine was as fast as ever, and rounds go on until
    there are `pace.least` of them, `pace.most` rounds at most: on a shared machine others come and
    go. Where there are fewer, those count before which it was fastest. What a contestant's own time
    was decides about nothing.
    """
    for run in runs.values():
        run()
    sizing = sum(pace.pause + _seconds(run) for run in runs.values())
    rounds = int(min(max(pace.seconds / sizing, pace.least), pace.most))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    done = 0
    while done < rounds or (done < pace.most and min(_quiet(found).values()) < pace.least):
        for name, run in runs.items():
            time.sleep(pace.pause)
            rate = 1.0 if pace.probe is None else pace.probe()
            found[name].append((rate, _seconds(run)))
        done += 1
    times = {}
    for name, quiet in _quiet(found).items():
        fastest_first = sorted(found[name], key=lambda pair: -pair[0])
        times[name] = [seconds for _, seconds in fastest_first[: max(quiet, pace.least)]]
    return times


def _quiet(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, int]:
    """How many calls of each contestant met a quiet machine."""
    least = QUIET * max(rate for pairs in found.values() for rate, _ in pairs)
    return {name: sum(rate >= least for rate, _ in pairs) for name, pairs in found.items()}


def measured(
    work: Workload, names: Iterable[str], optimizer: str, pace: Pace, whole: bool = False
) -> dict[str, Any]:
    """Parity, then microseconds a step (medians); with `whole`, also of those far behind."""
    near, far = contenders(work, list(names), optimizer, pace.pause)
    near, far = (near + far, []) if whole else (near, far)
    given: Problem = problem(work)
    runs = {name: PEERS[name](work, given, optimizer).epoch for name in near}
    times = in_turn(runs, pace)
    micro = {name: statistics.median(t) / work.steps * 1e6 for name, t in times.items()}
    counted = {name: len(t) for name, t in times.items()}
    found = verdict(micro, floor_flops(work.sizes, work.batch))
    return {"far behind": far, "epochs": counted, **found}


def verdict(micro: Mapping[str, float], flops: float) -> dict[str, Any]:
    """Times, the best rival, and how many times as long it takes."""
    found: dict[str, Any] = {"microseconds": dict(micro)}
    rivals = [name for name in micro if name != OURS]
    if OURS in micro:
        found["GFLOP/s"] = flops / micro[OURS] / 1e3
    if OURS in micro and rivals:
        best = min(rivals, key=micro.__getitem__)
        found["best peer"] = best
        found["best peer / ours"] = micro[best] / micro[OURS]
    return found

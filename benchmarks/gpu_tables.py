"""Tables of what ran on a GPU; `result_tables` holds the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOTHING = "–"

Row = tuple[str, ...]
Record = Mapping[str, Any]


def last_run(record: Record) -> Iterator[Row]:
    """What ran where, as ``tests/gpu/run.py`` has written it."""
    tests = record["tests"]
    good = tests["tests"] - tests["failures"] - tests["errors"] - tests["skipped"]
    yield "last run of the tests on a GPU", record["outcome"]
    yield "device", record["device"]
    yield "driver", f"{record['driver']}, for CUDA {record['cuda of the driver']}"
    yield "CUDA, CuPy", f"{record['cuda']}, {record['cupy']}"
    yield "commit, date", f"{record['commit']}, {record['date']}"
    failed = tests["failures"] + tests["errors"]
    yield "tests", f"{good} passed, {failed} failed, {tests['skipped']} skipped"
    yield "compute-sanitizer", _sanitized(record["sanitizer"])


def _sanitized(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not run"
    states = {name: "failed" if tool["status"] else "clean" for name, tool in found.items()}
    return ", ".join(f"{name} {state}" for name, state in states.items())


def microseconds(seconds: float) -> str:
    """Three digits, or all of them."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def best(case: Mapping[str, Any], ours: bool) -> tuple[str, float] | None:
    """The fastest of our tiers on the GPU, or of everybody else on any device."""
    steps = {
        who: found["step"]
        for who, found in case["contenders"].items()
        if "step" in found
        and not who.startswith("products")
        and who.startswith("fastmlp, ") == ours
        and not who.startswith("fastmlp on")
    }
    if not steps:
        return None
    who = min(steps, key=steps.__getitem__)
    return who, steps[who]


def steps(record: Record) -> Iterator[Row]:
    """Each case with its floor, its products, ours and the best of the others."""
    yield (
        *("network", "batch", "precision", "floor, µs", "products, µs", "fastmlp, µs"),
        *("share of the products", "best of the others, µs", "times faster"),
    )
    for case in record["cases"].values():
        own, other = best(case, True), best(case, False)
        bar = case["bar"]["step"] if "bar" in case else None
        yield (
            case["layers"],
            f"{case['batch']:,}",
            case["precision"],
            microseconds(case["floors"]["floor"]),
            NOTHING if bar is None else microseconds(bar),
            NOTHING if own is None else f"{microseconds(own[1])} ({own[0].split(', ')[1]})",
            NOTHING if own is None or bar is None else f"{bar / own[1]:.0%}",
            NOTHING if other is None else f"{microseconds(other[1])} ({other[0]})",
            NOTHING if own is None or other is None else f"{other[1] / own[1]:.2f}",
        )


def untimed(record: Record) -> Iterator[Row]:
    """Who has no time, and why."""
    yield "case", "who", "why there is no time"
    reasons = [
        (name, who, str(next(iter(found.values())))[:160])
        for name, case in record["cases"].items()
        for who, found in case["contenders"].items()
        if "step" not in found
    ]
    yield from reasons or [("all", "nobody", NOTHING)]


def to_accuracy(record: Record) -> Iterator[Row]:
    """Seconds of training until 97.5 % of MNIST's test rows are right."""
    yield "library", "seconds", "epochs"
    for who, found in record["others"].get("MNIST", {}).items():
        if "runs" not in found:
            yield who, NOTHING, str(next(iter(found.values())))[:160]
            continue
        epochs = [run["epochs"] for run in found["runs"]]
        yield who, f"{found['seconds']:.2f}", f"{min(epochs)} to {max(epochs)}"

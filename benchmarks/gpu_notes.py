"""The notebook of the GPU backend: for every step of tuning its floor, prediction, measurement.

Floors are computed, measurements come from ``results/``; what is missing there is not measured yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpu_cases import BANDWIDTH, CASES, floors
from gpu_tables import best, microseconds

RESULTS = Path(__file__).parent / "results"
LATER = "not measured yet"
NOTHING_YET = "nothing yet"

Records = Mapping[str, Any]
"""Name of a result -> its record; absent ones are empty."""


class Note(NamedTuple):
    """A step of tuning."""

    title: str
    floor: str
    prediction: str
    measured: Callable[[Records], str | None]
    learnt: str = NOTHING_YET


def records(folder: Path = RESULTS) -> Records:
    """What there is."""
    paths = {name: folder / f"{name}.json" for name in ("gpu", "gpu_first_run")}
    return {n: json.loads(p.read_text()) if p.exists() else {} for n, p in paths.items()}


def filled(folder: Path = RESULTS) -> list[tuple[str, str, str, str, str]]:
    """Every note: title, floor, prediction, measurement, what was learnt."""
    known = records(folder)
    return [
        (note.title, note.floor, note.prediction, note.measured(known) or LATER, note.learnt)
        for note in NOTES
    ]


# Measurements


def _step(name: str, precision: str) -> Callable[[Records], str | None]:
    def measured(known: Records) -> str | None:
        case = known["gpu"].get("cases", {}).get(f"{name}, {precision}")
        own = best(case, True) if case else None
        if own is None:
            return None
        text = f"{microseconds(own[1])} µs a step ({own[0]}), {case['batch'] / own[1]:.3g} rows/s"
        if "bar" in case:
            text += f"; its products {microseconds(case['bar']['step'])} µs"
            text += f" ({case['bar']['step'] / own[1]:.0%})"
        return text

    return measured


def _found(known: Records, part: str) -> Any:
    return known["gpu_first_run"].get("parts", {}).get(part, {}).get("found")


def _graph(known: Records) -> str | None:
    found = _found(known, "graph")
    if not found:
        return None
    return f"{found['each launch'] * 1e6:.2f} µs a launch, {found['each node'] * 1e6:.2f} µs a node"


def _copy(known: Records) -> str | None:
    found = _found(known, "ceilings")
    return f"a copy moves {found['copy, bytes per second']:.3g} bytes/s" if found else None


def _epilogues(known: Records) -> str | None:
    found = _found(known, "epilogues")
    if not found:
        return None
    gains = [
        one["separate"] / one["relu in it"]
        for one in found["shapes"].values()
        if isinstance(one["relu in it"], float)
    ]
    if not gains:
        return "refused for every shape"
    return f"{min(gains):.2f} to {max(gains):.2f} times as fast, over {len(gains)} shapes"


# Floors


def _floor(name: str, precision: str) -> str:
    found = floors(CASES[name], precision)
    return (
        f"arithmetic {microseconds(found['arithmetic'])} µs, "
        f"memory {microseconds(found['memory'])} µs (layer by layer)"
    )


GATHERED = 2 * CASES["D 2^17"].rows * 100 * 4 / BANDWIDTH
"""Seconds to read and write ten million rows of a hundred float32."""

NOTES = (
    Note(
        "Wide layers in bfloat16: 784-4096-4096-10, batch 65,536",
        _floor("A", "bfloat16"),
        "products are 93 % of the step or more with epilogues, about 89 % without; within 3 % of "
        "the best other library, which calls the same cuBLAS",
        _step("A", "bfloat16"),
    ),
    Note(
        "The same in TF32",
        _floor("A", "tf32"),
        "products are 95 % of the step or more",
        _step("A", "tf32"),
    ),
    Note(
        "The same in float32",
        _floor("A", "float32"),
        "all products: no tensor cores take part",
        _step("A", "float32"),
    ),
    Note(
        "Narrow layers, layer by layer: 64 wide, 5 hidden, batch 2^20, bfloat16",
        _floor("B 2^20", "bfloat16"),
        "memory decides: 1.06e9 rows/s at most, about 0.6e9 with bias and activation in passes of "
        "their own; a tensor of 2^18 rows (34 MB) may stay in a second-level cache of 60 MB and "
        "beat the figure",
        _step("B 2^20", "bfloat16"),
    ),
    Note(
        "Tiny batches: 784-50-50-10, batch 64, float32",
        _floor("C", "float32") + "; latency alone counts",
        "40 µs a step out of a graph; one by one, 5 to 10 µs for each of about 25 launches",
        _step("C", "float32"),
    ),
    Note(
        "A table: 100-256-256-128-1, batch 2^17, bfloat16, ten million rows",
        _floor("D 2^17", "bfloat16"),
        "an epoch within twice its floor: 80 steps and the gather",
        _step("D 2^17", "bfloat16"),
    ),
    Note(
        "The same with batch 8,192 in TF32",
        _floor("D 8192", "tf32"),
        "within 1.5 times the products out of a graph",
        _step("D 8192", "tf32"),
    ),
    Note(
        "Middle sizes: 784-1024-1024-10, batch 8,192, bfloat16",
        _floor("E", "bfloat16"),
        "products are 85 % of the step or more",
        _step("E", "bfloat16"),
    ),
    Note(
        "The gather of an epoch: ten million rows of a hundred float32",
        f"{GATHERED * 1e3:.1f} ms at {BANDWIDTH / 1e12:.1f} TB/s, read once and written once",
        "near the floor for rows of 400 bytes in any order; bytes in place of float32 take a "
        "quarter of the reads",
        _copy,
    ),
    Note(
        "Graphs in place of launches",
        "none is known: the driver's own cost",
        "about 6 µs for a launch from Python, 15 µs for a replay and 0.6 µs for each node of it "
        "(another GPU, another program)",
        _graph,
    ),
    Note(
        "Bias and activation inside the product (epilogues of cuBLASLt)",
        "one pass over the layer's output is saved: 4.3 GB of a bfloat16 step of the wide case, "
        "1.0 ms",
        "1 to 2 % of a step with wide layers, up to 20 % of a single product; some shapes lose, so "
        "each keeps its plain form",
        _epilogues,
    ),
)

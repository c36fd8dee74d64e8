"""The plots of the documentation, from the records in ``results/``; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from result_tables import OURS, RESULTS, Record, cases_of, contestants, load, title

STYLES = {
    OURS: ("#c1272d", "o"),
    "NumPy, tuned": ("#0072b2", "s"),
    "PyTorch": ("#e69f00", "^"),
    "PyTorch, compiled": ("#cc79a7", "v"),
    "JAX scan": ("#009e73", "D"),
    "scikit-learn": ("#6e6e6e", "x"),
}
"""Colours that the colour-blind can tell apart, and markers for print."""

SETTINGS = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastmlp",
}
TIME = "µs an update"


def _style(name: str) -> dict[str, Any]:
    colour, marker = STYLES[name]
    return {
        "color": colour,
        "marker": marker,
        "label": title(name),
        "zorder": 3 if name == OURS else 2,
    }


def _curves(axes: Any, cases: list[Mapping[str, Any]], label: str, heading: str) -> None:
    """Times of everyone against the value of a sweep, both logarithmic."""
    for name in contestants(cases):
        points = [(c["value"], c["microseconds"][name]) for c in cases if name in c["microseconds"]]
        axes.plot(*zip(*points, strict=True), **_style(name))
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel=TIME, title=heading)


def growth(record: Record) -> Any:
    """How the time of an update grows with width, depth, batch and rows."""
    panels = {
        "width": ("hidden units", "32-n-n-10, batch 128"),
        "depth": ("hidden layers", "64-128-…-10, batch 128"),
        "batch": ("rows of a batch", "64-128-128-10"),
        "rows": ("rows of an epoch", "16-32-2, batch 64"),
    }
    figure, grid = plt.subplots(2, 2, figsize=(8, 6.4))
    for axes, (kind, words) in zip(grid.flat, panels.items(), strict=True):
        _curves(axes, cases_of(record, kind), *words)
    depth = grid.flat[1]
    depth.set_xscale("linear")
    depth.set_yscale("linear")
    depth.set_ylim(bottom=0)
    _legend(figure, grid.flat[0])
    return figure


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def precision(record: Record) -> Any:
    """float32 beside float64, and one thread beside more, by width."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    cases = cases_of(record, "precision")
    for dtype, line in (("float32", "-"), ("float64", "--")):
        some = [case for case in cases if case["dtype"] == dtype]
        for name in contestants(some):
            points = [(case["value"], case["microseconds"][name]) for case in some]
            style = {**_style(name), "label": f"{title(name)}, {dtype}"}
            left.plot(*zip(*points, strict=True), line, **style)
    cases = cases_of(record, "threads")
    for count in sorted({case["threads"] for case in cases}):
        points = [(c["value"], c["microseconds"][OURS]) for c in cases if c["threads"] == count]
        name = f"{count} {'thread' if count == 1 else 'threads'}"
        right.plot(*zip(*points, strict=True), marker="o", label=name)
    for axes, heading in ((left, "precision"), (right, "fastmlp by threads, float32")):
        axes.set(xscale="log", yscale="log", xlabel="hidden units", title=heading)
        axes.legend()
    left.set_ylabel(TIME)
    return figure


def grid(record: Record) -> Any:
    """Best peer / ours of every shape of the grid, by the work of an update."""
    figure, axes = plt.subplots(figsize=(8, 3.8))
    cases = record["cases"].values()
    for name in dict.fromkeys(case["best peer"] for case in cases):
        some = [case for case in cases if case["best peer"] == name]
        # GFLOP/s times microseconds are thousands of operations.
        work = [case["GFLOP/s"] * case["microseconds"][OURS] * 1e3 for case in some]
        style = {**_style(name), "label": f"best of the others: {title(name)}", "linestyle": ""}
        axes.plot(work, [case["best peer / ours"] for case in some], **style)
    axes.axhline(1, color="black", linewidth=1)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="operations of an update", ylabel="times as fast as the best other")
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if _inside(tick, axes.get_ylim())]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    return figure


def _inside(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def memory(record: Record) -> Any:
    """Peak memory beyond the rows, against the rows."""
    figure, axes = plt.subplots(figsize=(5.5, 3.6))
    cases = [case for name, case in record["cases"].items() if name.startswith("rows ")]
    for name in dict.fromkeys(case["peer"] for case in cases):
        points = [(c["rows"], c["more"] / 2**20) for c in cases if c["peer"] == name]
        axes.plot(*zip(*points, strict=True), **_style(name))
    axes.set(
        xscale="log", yscale="log", xlabel="rows of 784 float32", ylabel="MiB more at the peak"
    )
    axes.legend()
    return figure


PLOTS: Mapping[str, tuple[str, Callable[[Record], Any]]] = {
    "growth": ("sweeps", growth),
    "precision": ("sweeps", precision),
    "grid": ("grid", grid),
    "memory": ("memory", memory),
}
"""Name -> record, function."""


def draw(folder: Path, results: Path = RESULTS) -> list[Path]:
    """Write every plot whose record is there; the same records give the same bytes."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, (source, plot) in PLOTS.items():
        record = load(source, results)
        if record is None:
            continue
        with mpl.rc_context(SETTINGS):
            figure = plot(record)
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            plt.close(figure)
        # matplotlib ends lines with spaces.
        lines = (line.rstrip() for line in path.read_text().splitlines())
        path.write_text("\n".join(lines) + "\n")
        written.append(path)
    return written

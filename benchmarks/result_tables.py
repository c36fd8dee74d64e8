"""The tables of README and documentation, from the records in ``results/``.

Every number there that was measured comes this way. A table is a header and rows of text; a part of
a record has a name of its own: ``"grid summary"``.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gpu_tables

RESULTS = Path(__file__).parent / "results"

Row = tuple[str, ...]
Record = Mapping[str, Any]

OURS, NUMPY = "fastmlp numba", "NumPy, tuned"
NOTHING = "–"


def load(name: str, folder: Path = RESULTS) -> Record | None:
    """The record of a benchmark; None before it was measured."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def title(contestant: str) -> str:
    """How a contestant is called in tables and plots."""
    return "fastmlp" if contestant == OURS else contestant


MISSING = {"gpu_tests": "The tests have not run on a real GPU yet."}
"""What stands in the place of a record that is not there."""


def missing(name: str) -> str:
    """Say that there is no record for a table yet."""
    return MISSING.get(name.partition(" ")[0], "Not measured yet.")


def origin(record: Record) -> str:
    """Say where a result was measured."""
    if "machine" not in record:
        return "Written by tests/gpu/run.py."
    machine = record["machine"]
    packages = ", ".join(f"{key} {value}" for key, value in machine["packages"].items())
    device = record.get("others", {}).get("device", {}).get("name")
    return (
        f"{'' if device is None else f'{device}; '}"
        f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, "
        f"{packages}; commit {machine['commit']}, {machine['date']}."
    )


def contestants(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Everyone who was timed in some case, in the order in which they first appear."""
    return list(dict.fromkeys(name for case in cases for name in case["microseconds"]))


def _startup(record: Record) -> Iterator[Row]:
    yield "precision", "kernels", "import", "first epoch done", "first prediction done"
    for dtype, states in record["seconds"].items():
        for state, seconds in states.items():
            yield dtype, state, *(f"{value:.2f} s" for value in seconds.values())
    if numba := record.get("numba"):
        first = f"{numba['first function']:.2f} s: one addition"
        yield "numba alone", "cold", f"{numba['import']:.2f} s", first, ""


def _chapter(record: Record) -> Iterator[Row]:
    yield "code", "seconds an epoch", "plain NumPy / this"
    times = record["seconds an epoch"]
    slowest = times["plain NumPy, float64"]
    for name, seconds in times.items():
        yield name, f"{seconds:.3f}", f"{slowest / seconds:.1f}"


def _training(record: Record) -> Iterator[Row]:
    cases = record["cases"].values()
    names = contestants(cases)
    yield "network", "batch", *map(title, names), "best peer / ours", "ours / floor"
    for case in cases:
        yield (
            f"{case['layers']} {case['activation']}",
            str(case["batch"]),
            *(_micro(case, name) for name in names),
            _ratio(case),
            f"{case['ours / floor']:.2f}",
        )


def _training_short(record: Record) -> Iterator[Row]:
    yield "network", "batch", "fastmlp", "best of the others", "times faster"
    for case in record["cases"].values():
        best = case["best peer"]
        yield (
            f"{case['layers']} {case['activation']}",
            str(case["batch"]),
            f"{_micro(case, OURS)} µs",
            f"{_micro(case, best)} µs ({best})",
            f"{case['best peer / ours']:.2f}",
        )


def _micro(case: Mapping[str, Any], name: str) -> str:
    return significant(case["microseconds"][name]) if name in case["microseconds"] else NOTHING


def _ratio(case: Mapping[str, Any]) -> str:
    return f"{case['best peer / ours']:.2f} ({title(case['best peer'])})"


def significant(value: float, digits: int = 3) -> str:
    """A number with three significant digits and no exponent."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits - 1 - math.floor(math.log10(abs(value)))):,.{places}f}"


def cases_of(record: Record, kind: str) -> list[Mapping[str, Any]]:
    """The cases of one sweep."""
    return [case for name, case in record["cases"].items() if name.split()[0] == kind]


def _grid(record: Record) -> Iterator[Row]:
    yield "network", "batch", "optimizer", "fastmlp, µs", "best of the others, µs", "times faster"
    for case in record["cases"].values():
        best = case["best peer"]
        yield (
            f"{case['layers']} {case['activation']}",
            str(case["batch"]),
            case["optimizer"],
            _micro(case, OURS),
            f"{_micro(case, best)} ({best})",
            f"{case['best peer / ours']:.2f}",
        )


def _grid_summary(record: Record) -> Iterator[Row]:
    ratios = [case["best peer / ours"] for case in record["cases"].values()]
    yield "shapes", "fastmlp is fastest", "geometric mean", "least", "most"
    yield (
        str(len(ratios)),
        f"{sum(ratio >= 1 for ratio in ratios)} times",
        *(
            f"{value:.2f}"
            for value in (statistics.geometric_mean(ratios), min(ratios), max(ratios))
        ),
    )


def _accuracy(record: Record) -> Iterator[Row]:
    cases = list(record["cases"].values())
    names = list(dict.fromkeys(case["contestant"] for case in cases))
    found = {(case["part"], case["contestant"]): case for case in cases}
    goals = {case["part"]: case["goal"] for case in cases if case["part"] != "start"}
    heads = [f"{part}, {goal:.1%}" for part, goal in goals.items()]
    yield "library", *heads, "epochs", "start, nothing compiled", "start, cached"
    for name in names:
        runs = [found.get((part, name)) for part in goals]
        start = found.get(("start", name))
        epochs = ", ".join(NOTHING if run is None else _span(run["epochs"]) for run in runs)
        states = [NOTHING if start is None else f"{start[key]:.2f} s" for key in ("cold", "cached")]
        yield title(name), *map(_reached, runs), epochs, *states


def _reached(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return NOTHING
    if run["reached"] < len(run["epochs"]):
        return f"{run['reached']} of {len(run['epochs'])} seeds"
    seconds = run["seconds"]["all"]
    return f"{run['seconds']['median']:.2f} s ({min(seconds):.2f}–{max(seconds):.2f})"


def _span(values: list[int]) -> str:
    return f"{min(values)}–{max(values)}"


def _memory(record: Record) -> Iterator[Row]:
    cases = [case for name, case in record["cases"].items() if name.startswith("rows ")]
    rows = sorted({case["rows"] for case in cases})
    yield "library", *(f"{count:,} rows" for count in rows)
    for name in dict.fromkeys(case["peer"] for case in cases):
        held = {case["rows"]: case for case in cases if case["peer"] == name}
        yield title(name), *(_more(held.get(count)) for count in rows)


def _memory_inputs(record: Record) -> Iterator[Row]:
    more = "more at the peak, times the rows as float32"
    yield "input", "its own size", more, "a fit of one epoch"
    for name, case in record["cases"].items():
        if name.startswith("input "):
            share, seconds = f"{case['more / float32 rows']:.2f}", f"{case['seconds']:.2f} s"
            yield case["kind"], f"{case['input'] / 2**20:,.0f} MiB", share, seconds


def _more(case: Mapping[str, Any] | None) -> str:
    if case is None:
        return NOTHING
    return f"{case['more'] / 2**20:,.0f} MiB ({case['more / float32 rows']:.2f})"


def _neighbour(record: Record) -> Iterator[Row]:
    one, every = "fastmlp, one thread", "fastmlp, all threads"
    yield (
        "network",
        *("one thread, quiet", "all threads, quiet", "one thread", "all threads"),
        *("all / one", "best of the others", "best peer / ours"),
    )
    for case in record["cases"].values():
        states = case["microseconds"]
        times = [
            significant(states[state][who]["median"])
            for state in ("quiet", "beside a neighbour")
            for who in (one, every)
        ]
        best = case["best peer"]
        peer = significant(states["beside a neighbour"][best]["median"])
        network = f"{case['layers']} b{case['batch']}"
        ratios = f"{case['all threads / one']:.2f}", f"{case['best peer / ours']:.2f}"
        yield network, *times, ratios[0], f"{peer} ({best})", ratios[1]


def _predict(record: Record) -> Iterator[Row]:
    cases = record["cases"]
    names = contestants(cases.values())
    yield "rows of a call", *(f"{title(name)}, µs" for name in names), "best peer / predict"
    for name, case in cases.items():
        yield name, *(_micro(case, who) for who in names), _ratio(case)


def _overhead(record: Record) -> Iterator[Row]:
    yield "network", "optimizer", "rows", "an epoch, µs", "around the kernels, µs", "share"
    for case in record["cases"].values():
        micro = [significant(micro) for micro in case["microseconds"].values()]
        network = f"{case['layers']} b{case['batch']}"
        share = f"{100 * case['share']:.1f} %"
        yield network, case["optimizer"], f"{case['rows']:,}", *micro, share


def _extras(record: Record) -> Iterator[Row]:
    cases = list(record["cases"].values())
    names = contestants(cases)
    yield "network", "with", *(f"{title(n)}, µs" for n in names), *(f"{title(n)}: +" for n in names)
    for case in cases:
        network = f"{case['layers']} b{case['batch']}"
        times = [case["microseconds"][name] for name in names]
        for extra in times[0]:
            more = [micro[extra] / micro[case["plain"]] - 1 for micro in times]
            added = [NOTHING if extra == case["plain"] else f"{100 * part:.0f} %" for part in more]
            yield network, extra, *(significant(micro[extra]) for micro in times), *added


def _threads(record: Record) -> Iterator[Row]:
    cases = list(record["cases"].values())
    counts = sorted({case["cores"] for case in cases})
    yield (
        "network",
        *(f"{count} {'core' if count == 1 else 'cores'}, µs" for count in counts),
        f"speed-up on {counts[-1]}",
        f"best peer / ours on {counts[-1]}",
    )
    for name in dict.fromkeys(case["workload"] for case in cases):
        held = {case["cores"]: case for case in cases if case["workload"] == name}
        times = [held[count]["microseconds"][OURS] if count in held else None for count in counts]
        last = held.get(counts[-1])
        gain = times[0] / times[-1] if times[0] and times[-1] else None
        any_case = next(iter(held.values()))
        yield (
            f"{any_case['layers']} b{any_case['batch']}",
            *(NOTHING if time is None else significant(time) for time in times),
            NOTHING if gain is None else f"{gain:.2f}",
            NOTHING if last is None else _ratio(last),
        )


def _kernels(record: Record) -> Iterator[Row]:
    cases = record["cases"].values()
    found = {(case["kernel"], case["dtype"], case["backend"]): case for case in cases}
    yield "kernel", *(f"{dtype}, {who}" for dtype in DTYPES for who in ("reference", "numba"))
    for kernel in dict.fromkeys(case["kernel"] for case in cases):
        keys = [(kernel, dtype, backend) for dtype in DTYPES for backend in ("numpy", "numba")]
        yield (
            kernel,
            *(significant(found[k]["nanoseconds"]) if k in found else NOTHING for k in keys),
        )


DTYPES = ("float32", "float64")


def _estimators(record: Record) -> Iterator[Row]:
    yield "data and solver", "precision", "scikit-learn", "fastmlp", "times faster"
    for name, found in record["fits"].items():
        seconds = [f"{found['seconds'][side]:.3g} s" for side in ("scikit-learn", "fastmlp")]
        yield name, found["dtype"], *seconds, f"{found['ratio']:.1f}"
    yield "geometric mean", "", "", "", f"{record['geometric mean']:.1f}"


def _estimators_others(record: Record) -> Iterator[Row]:
    yield "what", "scikit-learn", "fastmlp"
    search, row = record["grid search"], record["one row, microseconds"]
    first = record["first fit of a process"]
    yield (
        "GridSearchCV over activations and solvers, two workers",
        *(f"{search[side]:.3g} s" for side in ("scikit-learn", "fastmlp")),
    )
    yield (
        "first fit of a process, kernels in the cache",
        *(f"{first[side]:.3g} s" for side in ("scikit-learn", "fastmlp cached")),
    )
    yield "first fit of a process, nothing compiled", "", f"{first['fastmlp cold']:.3g} s"
    yield "predict of one row", *(f"{row[side]:.3g} µs" for side in ("scikit-learn", "fastmlp"))


def _large_batches(record: Mapping[str, Any], data: str) -> Iterator[Row]:
    """Mean test accuracy with its range over the seeds, and the rate."""
    small, *large = record["data"][data]
    yield "rows in a batch", "epochs", "updates", *large[0]["cells"]
    for line in (small, *large):
        cells = list(line["cells"].values())
        texts = [_rate_and_accuracy(cell) for cell in cells]
        texts += [""] * (len(large[0]["cells"]) - len(texts))
        yield f"{line['batch']:,}", str(line["epochs"]), f"{cells[0]['updates']:,}", *texts


def _rate_and_accuracy(cell: Mapping[str, Any]) -> str:
    rate = f"rate {cell['rate']:.3g}"
    if cell["test accuracy"] is None:
        return f"diverged ({rate})"
    seeds = cell["test accuracy by seed"]
    return f"{cell['test accuracy']:.2f} % ({min(seeds):.2f} to {max(seeds):.2f}; {rate})"


def _large_batches_curve(record: Mapping[str, Any]) -> Iterator[Row]:
    """Accuracy on MNIST's held-out rows after some epochs, first large batch size."""
    small, large, *_ = record["data"]["MNIST"]
    curves = {
        f"{line['batch']:,}: {title.split(',')[0]}": cell["held-out accuracy by epoch"]
        for line in (small, large)
        for title, cell in line["cells"].items()
        if "linear" not in title
    }
    yield "epoch", *curves
    for epoch in (1, 2, 3, 5, 10, 15, 20):
        yield str(epoch), *(f"{curve[epoch - 1]:.2f} %" for curve in curves.values())


TABLES: Mapping[str, Callable[[Record], Iterator[Row]]] = {
    "startup": _startup,
    "chapter": _chapter,
    "training_sgd": _training,
    "training_adam": _training,
    "training_sgd short": _training_short,
    "training_adam short": _training_short,
    "grid": _grid,
    "grid summary": _grid_summary,
    "accuracy": _accuracy,
    "memory": _memory,
    "memory inputs": _memory_inputs,
    "neighbour": _neighbour,
    "predict": _predict,
    "overhead": _overhead,
    "extras": _extras,
    "threads": _threads,
    "kernels": _kernels,
    "estimators": _estimators,
    "estimators others": _estimators_others,
    "gpu": gpu_tables.steps,
    "gpu untimed": gpu_tables.untimed,
    "gpu accuracy": gpu_tables.to_accuracy,
    "gpu_tests": gpu_tables.last_run,
    "large_batches MNIST": lambda record: _large_batches(record, "MNIST"),
    "large_batches Fashion": lambda record: _large_batches(record, "Fashion-MNIST"),
    "large_batches curve": _large_batches_curve,
}
"""Record and part -> its rows, the header first."""


def table(name: str, folder: Path = RESULTS) -> tuple[list[Row], Record] | None:
    """The rows of a table and the record that they come from; None before it was measured."""
    record = load(name.partition(" ")[0], folder)
    return None if record is None else (list(TABLES[name](record)), record)

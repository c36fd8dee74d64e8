"""``.. result-table:: NAME`` writes a table from ``benchmarks/results/NAME.json``.

The option ``:part:`` takes another table from the same file.

Every number in the documentation that was measured comes this way, with the machine and the commit
that it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

Row = tuple[str, ...]


def _startup(record: Mapping[str, Any]) -> Iterator[Row]:
    yield "precision", "kernels", "import", "first epoch done", "first prediction done"
    for dtype, states in record["seconds"].items():
        for state, seconds in states.items():
            yield dtype, state, *(f"{value:.2f} s" for value in seconds.values())


def _chapter(record: Mapping[str, Any]) -> Iterator[Row]:
    yield "code", "seconds an epoch", "plain NumPy / this"
    times = record["seconds an epoch"]
    slowest = times["plain NumPy, float64"]
    for name, seconds in times.items():
        yield name, f"{seconds:.3f}", f"{slowest / seconds:.1f}"


def _training(record: Mapping[str, Any]) -> Iterator[Row]:
    peers = list(next(iter(record["workloads"].values()))["microseconds"])
    yield "workload", *peers, "best peer / ours"
    for name, found in record["workloads"].items():
        micro = found["microseconds"]
        ratio = f"{found['best peer / ours']:.2f} ({found['best peer']})"
        yield name, *(f"{micro[peer]:.4g}" for peer in peers), ratio


def _estimators(record: Mapping[str, Any]) -> Iterator[Row]:
    yield "data and solver", "precision", "scikit-learn", "fastmlp", "times faster"
    for name, found in record["fits"].items():
        seconds = [f"{found['seconds'][side]:.3g} s" for side in ("scikit-learn", "fastmlp")]
        yield name, found["dtype"], *seconds, f"{found['ratio']:.1f}"
    yield "geometric mean", "", "", "", f"{record['geometric mean']:.1f}"


def _estimators_others(record: Mapping[str, Any]) -> Iterator[Row]:
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


TABLES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Row]]] = {
    "startup": _startup,
    "chapter": _chapter,
    "training_sgd": _training,
    "training_adam": _training,
    "estimators": _estimators,
    "estimators others": _estimators_others,
}


def _marks(row: Row) -> list[str]:
    return ["*"] + [" "] * (len(row) - 1)


def _origin(machine: Mapping[str, Any]) -> str:
    """Say where a result was measured."""
    packages = ", ".join(f"{key} {value}" for key, value in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, "
        f"{packages}; commit {machine['commit']}, {machine['date']}."
    )


class ResultTable(Directive):
    """A table from a result file, and a line that says where it was measured."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"part": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Write the table as reStructuredText and parse it."""
        name = self.arguments[0]
        path = RESULTS / f"{name}.json"
        if not path.exists():  # a benchmark whose turn on a quiet machine is still to come
            return [nodes.paragraph(text="Not measured yet.")]
        record = json.loads(path.read_text())
        name = f"{name} {self.options.get('part', '')}".strip()
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in TABLES[name](record):
            lines += [f"   {mark} - {cell}" for mark, cell in zip(_marks(row), row, strict=True)]
        lines += ["", _origin(record["machine"])]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=name), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("result-table", ResultTable)
    return {"parallel_read_safe": True}

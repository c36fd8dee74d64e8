"""Directives for what was measured, so that no number is copied by hand.

``.. result-table:: NAME`` writes a table from ``benchmarks/results/NAME.json``, with the machine
and the commit that it belongs to; the option ``:part:`` takes another table from the same file.
``.. result-plot:: NAME`` shows a plot that ``benchmarks/report.py`` drew from such a file, with
the content as its caption. ``.. gpu-notes::`` writes the notebook of the GPU backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from gpu_notes import filled
from result_tables import Row, missing, origin, table
from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
LATER = "Not measured yet."
"""For a benchmark whose turn on a quiet machine is still to come."""


def _marks(row: Row) -> list[str]:
    return ["*"] + [" "] * (len(row) - 1)


def _table(rows: list[Row], heads: int, widths: str = "auto") -> list[str]:
    lines = [".. list-table::", f"   :header-rows: {heads}", f"   :widths: {widths}", ""]
    for row in rows:
        lines += [f"   {mark} - {cell}" for mark, cell in zip(_marks(row), row, strict=True)]
    return lines


class _Parsed(Directive):
    """Something that is written as reStructuredText and then parsed."""

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        """Nodes of the text."""
        container = nodes.container()
        text = StringList(lines, source=self.name)
        self.state.nested_parse(text, self.content_offset, container)
        return container.children


class ResultTable(_Parsed):
    """A table from a result file, and a line that says where it was measured."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"part": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Write the table."""
        name = f"{self.arguments[0]} {self.options.get('part', '')}".strip()
        found = table(name)
        if found is None:
            return self.parsed([missing(name)])
        rows, record = found
        return self.parsed([*_table(rows, 1), "", origin(record)])


class GpuNotes(_Parsed):
    """Floor, prediction, measurement and lesson of every step of tuning."""

    def run(self) -> list[nodes.Node]:
        """Write a rubric and a table for each."""
        heads = ("floor", "prediction", "measurement", "learnt")
        lines: list[str] = []
        for title, *texts in filled():
            lines += [f".. rubric:: {title}", ""]
            lines += [*_table(list(zip(heads, texts, strict=True)), 0, "20 80"), ""]
        return self.parsed(lines)


class ResultPlot(_Parsed):
    """A plot, and what stands below it."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the figure."""
        name = f"{self.arguments[0]}.svg"
        if not (DOCS / "plots" / name).exists():
            return self.parsed([LATER])
        caption = [f"   {line}" for line in self.content]
        alt = " ".join(self.content)
        return self.parsed([f".. figure:: /plots/{name}", f"   :alt: {alt}", "", *caption])


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("result-table", ResultTable)
    app.add_directive("gpu-notes", GpuNotes)
    app.add_directive("result-plot", ResultPlot)
    return {"parallel_read_safe": True}

"""Directives that write tables and help texts from the library itself, so that none goes stale.

``.. activation-table::``, ``.. loss-table::``, ``.. update-table::`` read the dictionaries of the
reference kernels; ``.. command-help:: train`` runs ``fastmlp train --help``.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from fastmlp import cli
from fastmlp.kernels.reference import activations, losses

Row = tuple[str, ...]


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.3g}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def activation_rows() -> Iterable[Row]:
    """Name, formula, derivative, range and properties of every activation."""
    yield (
        "name",
        "f(z)",
        "f'(z)",
        "range",
        "monotone",
        "zero-centred",
        "differentiable",
        "where",
        "source",
    )
    for name, known in activations.PROPERTIES.items():
        yield (
            f"``{name}``",
            known.formula,
            known.derivative,
            f"{_number(known.low)} to {_number(known.high)}",
            _yes(known.monotone),
            _yes(known.zero_centred),
            _yes(known.differentiable),
            _where(known),
            known.source,
        )


def _where(known: activations.Properties) -> str:
    if not known.trainable:
        return "predicts only"
    return "output" if known.output_only else "any layer"


def loss_rows() -> Iterable[Row]:
    """Name, formula, targets, output activation and constant of every loss."""
    yield "name", "per row", "targets", "output activation", "outputs in", "constant"
    targets = {
        "classes": "class indices, one-hot or probabilities",
        "binary": "0 or 1",
        "margin": "-1 or +1",
        "counts": "0 or more",
        "real": "any number",
    }
    domains = {"real": "any number", "unit": "0 to 1", "positive": "above 0"}
    for name, loss in losses.LOSSES.items():
        yield (
            f"``{name}``",
            (inspect.getdoc(loss.value) or "").splitlines()[0].rstrip("."),
            targets[losses.TARGETS[name]],
            f"``{losses.LINKS[name]}``",
            domains[losses.DOMAINS[name]],
            _number(losses.LOSS_CONSTANTS[name]) if name in losses.LOSS_CONSTANTS else "",
        )


ROWS: Mapping[str, Callable[[], Iterable[Row]]] = {
    "activation-table": activation_rows,
    "loss-table": loss_rows,
}


class Table(Directive):
    """A table with a line of headings."""

    def run(self) -> list[nodes.Node]:
        """Write the table as reST, and parse it."""
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in ROWS[self.name]():
            cells = [cell if cell.startswith("``") else _escape(cell) for cell in row]
            lines += [
                f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(cells)
            ]
        return _parsed(self, lines)


def _escape(text: str) -> str:
    """Leave marks of the formulas as they are."""
    return "".join(f"\\{mark}" if mark in "*|`_" else mark for mark in text)


def _parsed(directive: Directive, lines: list[str]) -> list[nodes.Node]:
    node = nodes.container()
    directive.state.nested_parse(StringList(lines, directive.name), directive.content_offset, node)
    return node.children


class CommandHelp(Directive):
    """The help text of a command of ``fastmlp``."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask the command itself."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            cli.main([*self.arguments, "--help"])
        return [nodes.literal_block(text.getvalue(), text.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    for name in ROWS:
        app.add_directive(name, Table)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}

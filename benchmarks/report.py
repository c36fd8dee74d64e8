"""Write what was measured into README.md and draw the documentation's plots.

    python benchmarks/report.py

README's tables stand between ``<!-- table: NAME -->`` and ``<!-- end of table -->``, and are made
from ``results/*.json``; the documentation makes its own from the same records when it is built.
Plots need matplotlib.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from result_tables import RESULTS, Row, missing, origin, table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PLOTS = ROOT / "docs" / "plots"
MARKED = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def markdown(rows: list[Row]) -> str:
    """Rows as a Markdown table; numbers, which is all but the first column, to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "| --- |" + " ---: |" * (len(rows[0]) - 1)
    return "\n".join([lines[0], rule, *lines[1:]])


def block(name: str, results: Path = RESULTS) -> str:
    """A table with the place where it was measured."""
    found = table(name, results)
    if found is None:
        return f"{missing(name)}\n"
    rows, record = found
    return f"{markdown(rows)}\n\n{origin(record)}\n"


def blocks(text: str) -> dict[str, str]:
    """Name -> what stands between the markers."""
    return {
        match[2]: match[0].removeprefix(match[1]).removesuffix(match[3])
        for match in MARKED.finditer(text)
    }


def filled(text: str, results: Path = RESULTS) -> str:
    """The text with every marked table made anew."""
    return MARKED.sub(lambda match: f"{match[1]}{block(match[2], results)}{match[3]}", text)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    options.add_argument(
        "--quick", action="store_true", help="print README's tables, write nothing"
    )
    arguments = options.parse_args()
    text = filled(README.read_text(), arguments.results)
    if arguments.quick:
        print("\n".join(blocks(text).values()))
        return
    README.write_text(text)
    from plots import draw

    for path in (README, *draw(PLOTS, arguments.results)):
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

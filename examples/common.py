"""What the scripts share: options, the small digits, figures that are shown or saved."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastmlp.datasets import Split, load_digits

Drawing = Callable[[Any], Any]
"""Takes matplotlib.pyplot, returns a figure."""


def options(doc: str, epochs: int | None = None, folder: bool = False) -> argparse.ArgumentParser:
    """Options of a script; `doc` is the text above its code.

    Parameters
    ----------
    doc : str
        The script's docstring, shown by ``--help``.
    epochs : int, optional
        Default of ``--epochs``; without it there is no such option.
    folder : bool
        Whether there is ``--folder``, for MNIST.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small version, in seconds")
    parser.add_argument("--backend", default="auto", help="auto (default), numba or numpy")
    parser.add_argument("--save", metavar="FIG", help="save the figures as FIG, for example a.png")
    if epochs is not None:
        parser.add_argument("--epochs", type=int, default=epochs, help="%(default)s by default")
    if folder:
        parser.add_argument("--folder", help="of the IDX files, else what FASTMLP_MNIST names")
    return parser


def digits(scaling: str) -> Split:
    """The 8x8 digits that ship with the library; the last 360, by other writers, are the test."""
    X, y = load_digits(scaling)
    return Split(X[:-360], y[:-360], X[-360:], y[-360:])


def show(save: str | None, **drawings: Drawing) -> None:
    """Show figures in windows, or save each as ``FIG-name.png`` (``FIG.png`` if there is one).

    Parameters
    ----------
    save : str, optional
        FIG; the name decides the format.
    drawings : functions
        Called with ``matplotlib.pyplot``, which is imported here and nowhere else.
    """
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print("\nFor the figures: pip install 'fastmlp[plot]'")
        return
    for name, draw in drawings.items():
        figure = draw(plt)
        if save is not None:
            path = Path(save)
            path = path if len(drawings) == 1 else path.with_stem(f"{path.stem}-{name}")
            figure.savefig(path, dpi=120)
            plt.close(figure)
            print(f"saved {path}")
    if save is None:
        plt.show()


def compare(what: str, found: float, chapter: float, digits: int = 9) -> None:
    """Print a number beside the chapter's."""
    print(f"{what:<34} {found:>18.{digits}f}   chapter {chapter:>18.{digits}f}")

"""The command line: ``fastmlp train``, ``predict``, ``info`` and ``bench``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .options import parser

WRONG = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; None: those of the process.

    Returns
    -------
    int
        0: done; 2: an error, told in one line on standard error; 130: Ctrl-C; 141: the reader of
        the output went away.

    Raises
    ------
    SystemExit
        For ``--help`` and for words that the command doesn't know.
    """
    chosen = parser().parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, MemoryError) as error:
        if chosen.debug:
            raise
        return _say(f"error: {_one_line(error)}", WRONG)
    return status


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"fastmlp: {text}\n")
    return status


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _close_output() -> None:
    """Keep the interpreter from writing to the broken pipe once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)

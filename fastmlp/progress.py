"""One live line on standard error while a network trains."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from .history import History

LIVE_SECONDS = 0.1
"""Least time between two pictures of the line on a terminal."""

LOG_SECONDS = 5.0
"""Least time between two lines where the output goes to a file."""


class Progress:
    """Epoch, loss, validation score, rows per second and time left."""

    def __init__(self, epochs: int, rows: int, stream: TextIO | None = None):
        self.epochs = epochs
        self.rows = rows
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.started = time.perf_counter()
        self.shown = 0.0
        self.width = 0

    def begin(self, history: History) -> None:
        """Start the clock; say how long compiling took."""
        if history.compile_seconds:
            self._write(f"compiled in {history.compile_seconds:.1f}s", final=True)
        self.started = time.perf_counter()

    def within_epoch(self, history: History, rows: int) -> None:
        """Show that `rows` rows of the running epoch are done."""
        if self.live and self._due(LIVE_SECONDS):
            self._write(self._line(history, rows))

    def end_of_epoch(self, history: History) -> None:
        """Show the epoch that has just ended."""
        if self._due(LIVE_SECONDS if self.live else LOG_SECONDS):
            self._write(self._line(history, 0))

    def end(self, history: History) -> None:
        """Leave the last state on the screen."""
        if len(history):
            self._write(self._line(history, 0), final=True)
        elif self.live and self.width:
            self._write("", final=True)

    def _due(self, interval: float) -> bool:
        now = time.perf_counter()
        if now - self.shown < interval:
            return False
        self.shown = now
        return True

    def _line(self, history: History, rows: int) -> str:
        done = len(history)
        seconds = time.perf_counter() - self.started
        seen = done * self.rows + rows
        rate = seen / seconds if seconds > 0 else 0.0
        left = (self.epochs * self.rows - seen) / rate if rate > 0 else 0.0
        parts = [f"epoch {done + (1 if rows else 0)}/{self.epochs}"]
        if history.loss:
            parts.append(f"loss {history.loss[-1]:.4g}")
        if history.validation_loss:
            parts.append(f"validation loss {history.validation_loss[-1]:.4g}")
        parts += [
            f"{name.replace('_', ' ')} {values[-1]:.4g}"
            for name, values in history.metrics.items()
            if values and (name.startswith("validation") or not history.validation_loss)
        ]
        parts.append(f"{_short(rate)} rows/s")
        parts.append(f"{_duration(seconds)} done, {_duration(left)} left")
        return "  ".join(parts)

    def _write(self, text: str, final: bool = False) -> None:
        if self.live:
            padded = text.ljust(self.width)
            self.width = 0 if final else len(text)
            self.stream.write(f"\r{padded}" + ("\n" if final else ""))
        else:
            self.stream.write(f"{text}\n")
        self.stream.flush()


def _short(number: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{letter}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"

"""What may look on while a network trains, and interfere.

A callback is a function ``(epoch, history, net)`` that is called after each epoch and stops the fit
by returning True, or an object with the methods of `Callback`. Epochs count from 1 within a fit.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from . import checks
from .history import History


class Net(Protocol):
    """What a callback may use of the network; it is the `MLP` itself."""

    learning_rate: Any

    def snapshot(self) -> Any:
        """Copy parameters and running statistics."""

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""

    def save(self, path: Any) -> None:
        """Write the network to a file."""


class Callback:
    """Base of callbacks: override what is needed; by default nothing happens."""

    def on_fit_start(self, history: History, net: Any) -> None:
        """Before the first epoch; `history` is empty."""

    def on_slice_end(self, history: History, net: Any) -> bool | None:
        """About five times a second within an epoch; True stops there."""

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """After an epoch; True stops."""

    def on_fit_end(self, history: History, net: Any) -> None:
        """At the end, whatever ended it: the last epoch, a callback, divergence or Ctrl-C."""


class _Function(Callback):
    def __init__(self, function: Callable[[int, History, Any], Any]):
        self.function = function

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> Any:
        return self.function(epoch, history, net)


def resolve(callbacks: Any) -> list[Callback]:
    """Return callbacks for objects and functions.

    Raises
    ------
    TypeError
        It is something else.
    """
    if not isinstance(callbacks, checks.SEQUENCES) or isinstance(callbacks, str):
        raise TypeError(
            "callbacks must be a sequence of functions (epoch, history, net) or Callback objects; "
            f"got {checks.shown(callbacks)}"
        )
    found: list[Callback] = []
    for callback in callbacks:
        if isinstance(callback, Callback):
            found.append(callback)
        elif callable(callback) and not isinstance(callback, type):
            found.append(_Function(callback))
        else:
            raise TypeError(
                "callbacks must hold functions (epoch, history, net) or Callback objects; "
                f"got {checks.shown(callback)}"
            )
    return found


_RISING = {"loss": False, "mse": False, "mae": False, "zero_one": False, "accuracy": True}
_RISING["r2"] = True


def _rising(monitor: str, mode: str) -> bool:
    """Whether more is better, by the mode or by the name of what is watched."""
    bare = monitor.removeprefix("validation_")
    if mode != "auto":
        return mode == "max"
    if bare not in _RISING:
        raise ValueError(
            f"mode must be 'min' or 'max' for monitor {monitor!r}: what is better is only known of "
            f"{', '.join(_RISING)}"
        )
    return _RISING[bare]


class _Monitor(Callback):
    """Watches one list of the history for its best value."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: str):
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a list; got {checks.shown(monitor)}")
        self.monitor = monitor
        self.patience = checks.whole(patience, "patience", 0)
        self.min_delta = checks.number(min_delta, "min_delta", low=0)
        self.rising = _rising(monitor, checks.word(mode, "mode", ("auto", "min", "max")))
        self._forget()

    def _forget(self) -> None:
        self.best = math.inf
        self.best_epoch = 0
        self.waited = 0

    def on_fit_start(self, history: History, net: Any) -> None:
        """Forget what an earlier fit has seen; the history must have what is watched."""
        history.series(self.monitor)
        self._forget()

    def _improved(self, epoch: int, history: History) -> bool:
        value = history.series(self.monitor)[-1]
        loss = -value if self.rising else value
        if loss < self.best - (self.min_delta if self.best < math.inf else 0.0):
            self.best, self.best_epoch, self.waited = loss, epoch, 0
            return True
        self.waited += 1
        return False


class EarlyStopping(_Monitor):
    """Stop when a number has not improved for some epochs; the best parameters come back.

    They come back whatever ended the fit, Ctrl-C and the last epoch included.

    Parameters
    ----------
    monitor : str
        Name of a list of the history: "validation_loss", "loss", or a metric.
    patience : int
        Epochs without improvement after which to stop.
    min_delta : float
        Least change that counts as an improvement.
    mode : str
        "min", "max", or "auto": max for accuracy and r2, else min.
    restore_best : bool
        False leaves the parameters of the last epoch.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ):
        super().__init__(monitor, patience, min_delta, mode)
        self.restore_best = checks.flag(restore_best, "restore_best")
        self._kept: Any = None

    def on_fit_start(self, history: History, net: Any) -> None:
        """Forget what an earlier fit has seen."""
        super().on_fit_start(history, net)
        self._kept = None

    def on_epoch_end(self, epoch: int, history: History, net: Net) -> bool | None:
        """Keep the best parameters; stop when patience is at an end."""
        if self._improved(epoch, history):
            self._kept = net.snapshot() if self.restore_best else None
            return False
        return self.waited >= max(self.patience, 1)

    def on_fit_end(self, history: History, net: Net) -> None:
        """Bring the best parameters back."""
        if self._kept is not None:
            net.restore(self._kept)
            self._kept = None


class ReduceOnPlateau(_Monitor):
    """Multiply the learning rate when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Name of a list of the history.
    factor : float
        Between 0 and 1.
    patience : int
        Epochs without improvement before a reduction.
    min_delta : float
        Least change that counts as an improvement.
    lowest : float
        The rate never falls below.
    mode : str
        "min", "max", or "auto": max for accuracy and r2, else min.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        lowest: float = 0.0,
        mode: str = "auto",
    ):
        super().__init__(monitor, patience, min_delta, mode)
        self.factor = checks.number(factor, "factor", above=0, below=1)
        self.lowest = checks.number(lowest, "lowest", low=0)

    def on_fit_start(self, history: History, net: Net) -> None:
        """Refuse a rate that a schedule sets already."""
        super().on_fit_start(history, net)
        if callable(net.learning_rate):
            raise ValueError(
                "ReduceOnPlateau needs a learning rate that is a number; this one is a schedule"
            )

    def on_epoch_end(self, epoch: int, history: History, net: Net) -> bool | None:
        """Reduce the rate when patience is at an end."""
        if not self._improved(epoch, history) and self.waited >= max(self.patience, 1):
            reduced = max(net.learning_rate * self.factor, self.lowest)
            net.learning_rate = reduced if reduced > 0 else net.learning_rate
            self.waited = 0
        return False


class Checkpoint(_Monitor):
    """Save the network while it trains; a file is always whole.

    Parameters
    ----------
    path : str or path
        ``{epoch}`` in it becomes the epoch's number.
    every : int
        Epochs from one file to the next.
    best_only : bool
        Save only when `monitor` has improved.
    monitor : str
        Name of a list of the history, for `best_only`.
    mode : str
        "min", "max", or "auto": max for accuracy and r2, else min.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 1,
        best_only: bool = False,
        monitor: str = "validation_loss",
        mode: str = "auto",
    ):
        super().__init__(monitor, 0, 0.0, mode)
        self.path = os.fspath(path)
        self.every = checks.whole(every, "every", 1)
        self.best_only = checks.flag(best_only, "best_only")

    def on_fit_start(self, history: History, net: Any) -> None:
        """Forget what an earlier fit has seen."""
        if self.best_only:
            super().on_fit_start(history, net)

    def on_epoch_end(self, epoch: int, history: History, net: Net) -> bool | None:
        """Save when it is time."""
        wanted = self._improved(epoch, history) if self.best_only else epoch % self.every == 0
        if wanted:
            net.save(self.path.replace("{epoch}", str(epoch)))
        return False


class TimeLimit(Callback):
    """Stop after some time, also in the middle of an epoch.

    Parameters
    ----------
    seconds : float
        Counted from the fit's start.
    """

    def __init__(self, seconds: float):
        self.seconds = checks.number(seconds, "seconds", above=0)
        self._end = math.inf

    def on_fit_start(self, history: History, net: Any) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def on_slice_end(self, history: History, net: Any) -> bool | None:
        """Look at the clock."""
        return time.monotonic() >= self._end

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """Look at the clock."""
        return time.monotonic() >= self._end


class CSVLogger(Callback):
    """Write one line an epoch to a CSV file.

    Parameters
    ----------
    path : str or path
        An existing file is replaced when the fit starts.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def on_fit_start(self, history: History, net: Any) -> None:
        """Start an empty file."""
        self.path.write_text("")

    def on_epoch_end(self, epoch: int, history: History, net: Any) -> bool | None:
        """Add the epoch's line, below a line of names."""
        names = [name for name in history.names() if name != "learning_rate"]
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if epoch == 1:
                writer.writerow(["epoch", *names])
            writer.writerow([epoch, *(history.series(name)[-1] for name in names)])
        return False

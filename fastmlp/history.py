"""The record of a fit, and of an epoch's batches."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from .kernels.contract import Array


class Losses(NamedTuple):
    """Room for the losses of batches, and a number (1,) that they are added to, in float64."""

    each: Array
    total: Array

    def part(self, first: int, count: int) -> Losses:
        """Room for `count` of them."""
        return Losses(self.each[first : first + count], self.total)


@dataclasses.dataclass
class History:
    """One entry an epoch in each list.

    Attributes
    ----------
    loss : list of float
        The batch losses before each update, penalties in, averaged by rows (summed for
        ``reduction="sum"``).
    validation_loss : list of float
        Data loss on the validation rows after the epoch; empty without such rows.
    metrics : dict of str to list of float
        By name on the training rows, by ``"validation_" + name`` on the validation rows, after the
        epoch.
    seconds : list of float
        Time of the epoch, validation and metrics included, callbacks and compiling not.
    learning_rate : list of float
        Rate of the epoch's last update.
    compile_seconds : float
        Time that compiling took before the first epoch; 0 where nothing was compiled.
    """

    loss: list[float] = dataclasses.field(default_factory=list)
    validation_loss: list[float] = dataclasses.field(default_factory=list)
    metrics: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)
    learning_rate: list[float] = dataclasses.field(default_factory=list)
    compile_seconds: float = 0.0
    validated: bool = dataclasses.field(default=False, repr=False)

    def __len__(self) -> int:
        """Give the number of epochs."""
        return len(self.loss)

    def names(self) -> list[str]:
        """Return the names of the series: "loss", "validation_loss", metrics and so on."""
        validation = ["validation_loss"] if self.validated else []
        return ["loss", *validation, *self.metrics, "seconds", "learning_rate"]

    def series(self, name: str) -> list[float]:
        """Return a list by its name.

        Raises
        ------
        ValueError
            There is no such list; the message says which there are.
        """
        if name not in self.names():
            raise ValueError(f"history has no {name!r}; there are {', '.join(self.names())}")
        values: list[float] = self.metrics[name] if name in self.metrics else getattr(self, name)
        return values

    def plot(self, ax: Any = None) -> Any:
        """Draw loss per epoch, and metrics where there are any; return the axes.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw the losses; metrics then get a second vertical axis. Without it a new
            figure, with a panel for each.

        Returns
        -------
        matplotlib axes, or an array of two
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                "history.plot() needs matplotlib: pip install 'fastmlp[plot]'"
            ) from error
        if ax is not None:
            axes = [ax, ax.twinx()] if self.metrics else [ax]
        else:
            count = 2 if self.metrics else 1
            _, grid = pyplot.subplots(1, count, figsize=(5 * count, 3.5), layout="constrained")
            axes = list(grid) if count == 2 else [grid]
        _draw(axes[0], "loss", {"training": self.loss, "validation": self.validation_loss})
        if self.metrics:
            _draw(axes[1], "metric", self.metrics)
        return axes[0] if len(axes) == 1 else axes


def _draw(ax: Any, label: str, curves: dict[str, list[float]]) -> None:
    shown = {name: values for name, values in curves.items() if values}
    for name, values in shown.items():
        style = "--" if name.startswith("validation") else "-"
        ax.plot(range(1, len(values) + 1), values, style, label=name.replace("_", " "))
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    if len(shown) > 1:
        ax.legend()

"""Launches that run again and again: started one by one, or captured in a CUDA graph and replayed.

A launch costs the host some microseconds, more than the device needs for a small layer; a graph
starts all of a step's at once. What changes from batch to batch lies on the device (`codes.CLOCK`
and the rates), so a graph of one step is right for every step, and several make a graph of several.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import cupy

STEPS = 16
"""Steps in a graph of several: a replay costs about what ten launches cost, and so is shared."""

LONG = 4 * STEPS
"""Fewest runs ahead for which a graph of several steps is captured."""

WORTH = 4
"""Fewest runs ahead for which a graph of one step is captured: that takes as long as about two."""


class Runs:
    """A list of launches on fixed arrays, and the graphs that were made of it.

    The first run is eager: kernels are compiled and loaded, which a capture can't do. Capturing
    runs nothing, so no step counts twice. The launches are kept, and with them all the arrays that
    a graph reads and writes.
    """

    def __init__(self, launches: Sequence[Any], capturing: bool) -> None:
        self.launches = launches
        self.capturing = capturing
        self.graphs: dict[int, Any] = {}
        self.warm = False

    def run(self, count: int) -> None:
        """Run them `count` times, on the current stream."""
        before = self.warm
        if not before:
            _start(self.launches)
            count, self.warm = count - 1, True
        if count >= LONG and self._captured(STEPS):
            count = self._replay(STEPS, count)
        # A second call is a sign of a third.
        if count and (before or count >= WORTH or 1 in self.graphs) and self._captured(1):
            count = self._replay(1, count)
        for _ in range(count):
            _start(self.launches)

    def _replay(self, steps: int, count: int) -> int:
        """Replay a graph of so many steps as often as it fits; return what is left."""
        for _ in range(count // steps):
            # On the caller's stream: what it has ordered before and after stays in order.
            self.graphs[steps].launch()
        return count % steps

    def _captured(self, steps: int) -> bool:
        """Capture a graph of so many steps, if there is none; say whether there is one now."""
        if steps not in self.graphs and self.capturing:
            try:
                self.graphs[steps] = capture(self.launches, steps)
            except (NotImplementedError, RuntimeError) as error:
                self.capturing = False
                warnings.warn(
                    f"a training step can't be captured in a CUDA graph ({error}); its launches "
                    "are started one by one, with the same results",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return steps in self.graphs


def capture(launches: Iterable[Any], times: int = 1) -> Any:
    """Note launches in a graph, without running them."""
    launches = list(launches)
    # The default stream can't be captured; work on others goes on meanwhile.
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            for _ in range(times):
                _start(launches)
        except BaseException:
            with suppress(Exception):  # what broke the capture is the better message
                stream.end_capture()
            raise
        return stream.end_capture()


def _start(launches: Iterable[Any]) -> None:
    for launch in launches:
        launch()

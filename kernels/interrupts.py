"""Ctrl-C at a moment of our choosing: never between two halves of an update."""

from __future__ import annotations

import signal
import threading

# The functions of `signal` look every answer up in an enumeration: four blocks of `deferred` an
# epoch took 90 us of 250 (150 rows), with what lies below them 20.
from _signal import getsignal as handler_of  # type: ignore[import-not-found]
from _signal import signal as set_handler
from types import FrameType


class _Note:
    """A handler that only remembers."""

    def __init__(self) -> None:
        self.pressed: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed.append(number)


def _handler() -> object:
    """What answers Ctrl-C in this thread."""
    main = threading.current_thread() is threading.main_thread()
    return handler_of(signal.SIGINT) if main else None


def held_back() -> list[int] | None:
    """A list that fills when Ctrl-C is pressed, inside of `deferred`; None where nothing changes.

    Long work looks at it, so that the block ends soon.
    """
    handler = _handler()
    return handler.pressed if isinstance(handler, _Note) else None


class _Deferred:
    """What `deferred` gives; as a generator its four turns took 7 us of an epoch of 150 rows."""

    __slots__ = ("_note",)

    def __enter__(self) -> None:
        self._note: _Note | None = None
        if _handler() is signal.default_int_handler:
            self._note = _Note()
            set_handler(signal.SIGINT, self._note)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._note is None:
            return
        set_handler(signal.SIGINT, signal.default_int_handler)
        if self._note.pressed and kind is None:
            raise KeyboardInterrupt


def deferred() -> _Deferred:
    """Hold back Ctrl-C inside the block.

    KeyboardInterrupt is raised when the outermost of such blocks ends. Outside the main thread, and
    where a program has a handler of its own for SIGINT, nothing changes.
    """
    return _Deferred()

"""The stand-in's device: its memory, its streams, what they capture, and graphs.

Streams run at once what they are given. While one captures, its thread may do what CuPy allows
then: whatever else it tries is refused, and what would break a capture breaks this one too.
"""

from __future__ import annotations

import bisect
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

Host = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 1 if "FASTMLP_HOSTCUDA_FLAGS" in os.environ else 512
"""Bytes: where CuPy's memory pool starts an array. With sanitizers arrays have no slack, so that
what is written behind their end is seen."""


class OutOfMemoryError(MemoryError):
    """What cupy raises where the device is full."""


class CaptureError(RuntimeError):
    """As CUDARuntimeError: an operation that breaks the capture, and the capture's end after it."""


class Work(NamedTuple):
    """What a stream was given: to be run, with the memory that it reads and writes."""

    run: Callable[[], None]
    name: str
    memories: tuple[Any, ...] = ()


class Machine:
    """What all arrays and streams share."""

    def __init__(self) -> None:
        self.total = 1 << 50
        self.used = 0
        self.order: int | None = None
        self.seed = itertools.count(1)
        self.allocations = 0
        self.launches = 0
        self.replays = 0
        self.events: list[tuple[str, int, str]] = []
        self.memories: dict[int, Any] = {}
        self.starts: list[int] = []
        self._thread = threading.local()

    # Streams

    @property
    def streams(self) -> list[Stream]:
        """The streams that this thread has entered."""
        if not hasattr(self._thread, "streams"):
            self._thread.streams = []
        found: list[Stream] = self._thread.streams
        return found

    @property
    def capturing(self) -> Stream | None:
        """The stream that captures what this thread does."""
        return getattr(self._thread, "capturing", None)

    @capturing.setter
    def capturing(self, stream: Stream | None) -> None:
        self._thread.capturing = stream

    def allow(self, what: str) -> None:
        """Refuse what no capture bears, and break the one that goes on."""
        if self.capturing is not None:
            self.capturing.broken = what
            raise CaptureError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream captures")

    def refuse(self, what: str) -> None:
        """Refuse what CuPy itself looks out for; the capture goes on."""
        if self.capturing is not None:
            raise NotImplementedError(f"{what} while a stream captures")

    def submit(self, work: Work) -> None:
        """Run it, or note it where the current stream captures."""
        self.launches += 1
        stream = self.capturing
        if stream is None:
            work.run()
            return
        if get_current_stream() is not stream:
            self.allow(f"{work.name} on another stream")
        stream.captured.append(work)

    # Memory

    def take(self, size: int) -> None:
        """Count bytes as used."""
        self.allow("an allocation")
        if self.used + size > self.total:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.used += size
        self.allocations += 1

    def holder(self, address: int, size: int) -> Memory:
        """The memory in which a stretch lies that a library is given by its address."""
        place = bisect.bisect_right(self.starts, address)
        while place:
            place -= 1
            known = self.memories.get(self.starts[place])
            memory: Memory | None = None if known is None else known()
            if memory is None:  # it is gone, and maybe lay where a larger one is now
                del self.starts[place]
            elif address + size <= memory.start + memory.size:
                return memory
            else:
                break
        raise ValueError(f"an illegal memory access: {size} bytes at {address:#x}")


MACHINE = Machine()


class Memory:
    """Counts its bytes as used, and is known by their address, as long as a view of it is alive."""

    def __init__(self, size: int) -> None:
        self.size = self.start = 0
        MACHINE.take(size)
        self.size = size
        self.bytes = _allocated(size)
        self.start = self.bytes.ctypes.data
        MACHINE.memories[self.start] = weakref.ref(self)
        bisect.insort(MACHINE.starts, self.start)

    def __del__(self) -> None:
        # Short: Ctrl-C in here would be lost.
        MACHINE.used -= self.size
        MACHINE.memories.pop(self.start, None)


def _allocated(size: int) -> Host:
    """Bytes of the host that begin where CuPy's would, and show what was not written."""
    found: Host = np.full(size + ALIGNMENT - 1, 0xFF, np.uint8)
    shift = -found.ctypes.data % ALIGNMENT
    return found[shift : shift + size]


class Event:
    """A point in a stream; the stand-in copies at once and keeps what was ordered."""

    def __init__(self) -> None:
        self.stream: Any = None

    def record(self, stream: Any = None) -> None:
        self.stream = stream or get_current_stream()
        MACHINE.events.append(("record", id(self), self.stream.name))

    def synchronize(self) -> None:
        MACHINE.allow("waiting for an event")
        MACHINE.events.append(("synchronize", id(self), ""))


class Graph:
    """Work that a stream has captured."""

    def __init__(self, works: list[Work]) -> None:
        # The graph itself holds no memory: CUDA's doesn't.
        self.works = [
            (work._replace(memories=()), [weakref.ref(memory) for memory in work.memories])
            for work in works
        ]

    def launch(self, stream: Any = None) -> None:
        """Run it again, on the addresses of the capture."""
        MACHINE.allow("a graph")
        MACHINE.replays += 1
        for work, memories in self.works:
            if not all(memory() for memory in memories):
                raise RuntimeError(f"{work.name} in a graph uses memory that was freed")
            work.run()


class Stream:
    """A queue of work."""

    _numbers = itertools.count(1000)

    def __init__(self, non_blocking: bool = False) -> None:
        self.name = "other" if non_blocking else "current"
        self.ptr = next(self._numbers) if non_blocking else 0
        self.captured: list[Work] = []
        self.broken: str | None = None

    def __enter__(self) -> Self:
        MACHINE.streams.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        MACHINE.streams.pop()

    def synchronize(self) -> None:
        MACHINE.allow("waiting for a stream")

    def begin_capture(self) -> None:
        """Note from now on what this thread does on this stream."""
        if self.ptr == 0 or MACHINE.capturing is not None:
            raise CaptureError("cudaErrorStreamCaptureUnsupported: the default stream, or a second")
        MACHINE.capturing, self.captured, self.broken = self, [], None

    def end_capture(self) -> Graph:
        """Give what was noted."""
        if MACHINE.capturing is not self:
            raise CaptureError("cudaErrorIllegalState: this stream does not capture")
        MACHINE.capturing = None
        if self.broken is not None:
            raise CaptureError(f"cudaErrorStreamCaptureInvalidated: {self.broken}")
        captured, self.captured = self.captured, []
        return Graph(captured)

    def wait_event(self, event: Event) -> None:
        MACHINE.events.append(("wait", id(event), self.name))


DEFAULT = Stream()


def get_current_stream() -> Stream:
    return MACHINE.streams[-1] if MACHINE.streams else DEFAULT

"""The stand-in's device: its memory, its streams, what they capture, and graphs.

Streams run at once what they are given. While one captures, its thread may do what CuPy allows
then: whatever else it tries is refused, and what would break a capture breaks this one too.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

Host = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 512
"""Bytes: where CuPy's memory pool starts an array."""


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
        self._starts: list[int] = []
        self._memories: dict[int, Any] = {}
        self._lock = threading.RLock()
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
        with self._lock:
            if self.used + size > self.total:
                raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
            self.used += size
            self.allocations += 1

    def keep(self, memory: Memory) -> None:
        """Know memory by its address."""
        with self._lock:
            bisect.insort(self._starts, memory.start)
            self._memories[memory.start] = weakref.ref(memory)

    def give(self, memory: Memory) -> None:
        """Count it as free."""
        with self._lock:
            self.used -= memory.size
            if memory.size:
                self._starts.remove(memory.start)
                del self._memories[memory.start]

    def holder(self, address: int, size: int) -> Memory:
        """The memory in which a stretch lies that a library is given by its address."""
        with self._lock:
            place = bisect.bisect_right(self._starts, address) - 1
            start = self._starts[place] if place >= 0 else 0
            memory: Memory | None = self._memories[start]() if place >= 0 else None
        if memory is None or address + size > start + memory.size:
            raise ValueError(f"an illegal memory access: {size} bytes at {address:#x}")
        return memory


MACHINE = Machine()


class Memory:
    """Counts its bytes as used, and is known by their address, as long as a view of it is alive."""

    def __init__(self, size: int) -> None:
        self.size = 0
        MACHINE.take(size)
        self.size = size
        self.bytes = allocated(size)
        self.start = self.bytes.ctypes.data
        if size:
            MACHINE.keep(self)

    def __del__(self) -> None:
        MACHINE.give(self)


_LIBC = ctypes.CDLL(None)
_LIBC.free.argtypes = (ctypes.c_void_p,)


def allocated(size: int) -> Host:
    """Bytes of the host that lie as CuPy's; a sanitizer sees what is written behind them."""
    address = ctypes.c_void_p()
    if _LIBC.posix_memalign(ctypes.byref(address), ctypes.c_size_t(ALIGNMENT), max(size, 1)):
        raise OutOfMemoryError(f"no memory for {size} bytes")
    owner = (ctypes.c_ubyte * max(size, 1)).from_address(address.value or 0)
    weakref.finalize(owner, _LIBC.free, address.value)
    bytes_: Host = np.frombuffer(owner, np.uint8)[:size]
    bytes_[...] = 0xFF
    return bytes_


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

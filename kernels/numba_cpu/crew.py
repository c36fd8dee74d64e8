"""Python's threads for a team: kept between calls, each on a core of its own, safe from Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..interrupts import deferred, held_back

LOOK = 0.05
"""Seconds after which a thread that waits for a team looks whether Ctrl-C was pressed."""


# PyDLL keeps the interpreter's lock: who waits for it is woken by another thread, beside that one.
_current_core: Callable[[], int] | None = (
    getattr(ctypes.PyDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None
)


def _cores_of_this_thread() -> set[int] | None:
    """Those that the system may run the calling thread on, where a thread can say so."""
    return os.sched_getaffinity(0) if _current_core is not None else None


def _stay_on(cores: set[int] | None) -> None:
    """Let the calling thread run on these cores alone, if it may choose; on any with None."""
    if cores is not None:
        with suppress(OSError):
            os.sched_setaffinity(0, cores)


class _Cores:
    """Lets every thread of a team begin on a core of its own.

    Linux may wake a thread on the core of the one that wakes it, beside an idle one, and takes 4 ms
    and more to move it. Meanwhile two threads that wait for each other are slower than one
    (784-100-10, 100 rows: 600 us a step, not 240; every second call on two virtual cores).
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take the core that the calling thread is on, or go to one that nobody has taken."""
        if _current_core is None:
            return
        with self._lock:
            core = _current_core()
            if core in self._taken:
                with suppress(OSError):  # not everywhere may a thread choose
                    allowed = os.sched_getaffinity(0)
                    if free := allowed - self._taken:
                        os.sched_setaffinity(0, free)
                        core = _current_core()
                        os.sched_setaffinity(0, allowed)
            self._taken.add(core)


class _Member:
    """A thread that serves one crew after the other; between them it sleeps.

    For an epoch of 12 ms (4000 rows of 784-100-10) a team of two took 0.5 to 0.7 ms to begin and
    end with threads of its own, 0.3 so.
    """

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None
        self._asked = threading.Lock()
        self._asked.acquire()
        threading.Thread(target=self._serve, name="fastmlp", daemon=True).start()

    def ask(self, work: Callable[[], None]) -> None:
        """Begin some work; nobody asks for more before that has ended."""
        self._work = work
        self._asked.release()

    def _serve(self) -> None:
        while True:
            self._asked.acquire()
            work, self._work = self._work, None
            if work is not None:
                work()
            del work  # it holds a plan, and so its memory


_idle: list[_Member] = []
"""Those that sleep; as many as have ever worked at once."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are not there


def _members(count: int) -> list[_Member]:
    """Members for a crew, new ones where none sleeps; less where the system gives no more."""
    found: list[_Member] = []
    with suppress(RuntimeError):
        while len(found) < count:
            try:
                found.append(_idle.pop())
            except IndexError:
                found.append(_Member())
    return found


class _Crew:
    """Members that begin a call together, once all are there."""

    def __init__(self, call: Callable[[int, int], float], first: int, team: int):
        self.cores = _Cores()
        self.result = 0.0
        self.error: BaseException | None = None
        self.members = _members(team - first)
        self.size = first + len(self.members)
        self._call = call
        self._allowed = _cores_of_this_thread()
        self._halted = False
        self._finished: list[int] = []
        self._gate, self._over = threading.Lock(), threading.Lock()
        self._gate.acquire()
        self._over.acquire()
        try:
            for thread, member in enumerate(self.members, first):
                member.ask(partial(self._work, thread, member))
        except BaseException:  # of a signal's handler; members not yet asked sleep on for ever
            self.give_up()
            raise

    def _work(self, thread: int, member: _Member) -> None:
        with self._gate:
            pass
        try:
            if not self._halted:
                self._wake()
                result = self._call(thread, self.size)
                if thread == 0:
                    self.result = result
        except BaseException as error:  # noqa: BLE001 - it is raised by `wait`
            self.error = error
        finally:
            if _current_core is not None:
                _stay_on({_current_core()})  # where it will wake
            _idle.append(member)
            self._finished.append(thread)
            if len(self._finished) == len(self.members):
                with suppress(RuntimeError):  # two may think that they are the last
                    self._over.release()

    def _wake(self) -> None:
        """Go where the thread that has called may go, to a core of its own."""
        _stay_on(self._allowed)
        self.cores.take()

    def begin(self) -> None:
        """Let all work."""
        self._gate.release()

    def give_up(self) -> None:
        """Let all go without having worked."""
        self._halted = True
        self._gate.release()

    def wait(self, stop: Callable[[], None] | None, pressed: list[int]) -> None:
        """Wait for all; `stop` is called where Ctrl-C is pressed or a signal's handler raises.

        What is raised meanwhile is passed on when nobody works any more.
        """
        while len(self._finished) < len(self.members):
            try:
                self._over.acquire(timeout=LOOK)
                if stop is not None and (pressed or self.error is not None):
                    stop()
            except BaseException as error:  # noqa: BLE001 - it is raised when nobody works
                self.error = error
        if self.error is not None:
            raise self.error


def run_team(
    call: Callable[[int, int], float], team: int, stop: Callable[[], None] | None = None
) -> float:
    """Run `call` on a team, of one thread where the system gives no more.

    Ctrl-C waits: a team that has lost a member would wait for it without end. With `stop`, which
    makes all of them leave soon, this thread only listens, where somebody may press it.
    """
    with deferred():
        pressed = held_back()
        if stop is None or pressed is None:
            return _call_together(call, team)
        return _call_apart(call, team, stop, pressed)


def _call_together(call: Callable[[int, int], float], team: int) -> float:
    """This thread is the first of the team."""
    crew = _Crew(call, 1, team)
    try:
        crew.cores.take()
    except BaseException:  # of a signal's handler
        crew.give_up()
        raise
    crew.begin()
    try:
        return call(0, crew.size)
    finally:
        crew.wait(None, [])


def _call_apart(
    call: Callable[[int, int], float], team: int, stop: Callable[[], None], pressed: list[int]
) -> float:
    """The team has threads of its own; this one waits, where Python runs signal handlers."""
    crew = _Crew(call, 0, team)
    if not crew.members:
        return call(0, 1)
    crew.begin()
    crew.wait(stop, pressed)
    return crew.result

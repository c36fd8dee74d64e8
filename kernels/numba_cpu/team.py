"""A team of threads: how it meets, shares and starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..interrupts import deferred
from . import fields
from .intrinsics import at, cycles, give_way, load_acquire, relax, store_release
from .jit import inline

SPINS = 2000
"""Looks at a flag before the core is offered to others (about 10 us)."""


@inline
def meet(flags, thread, team):
    """Wait until the whole team has come here; what others wrote before is visible afterwards."""
    if team == 1:
        return
    place = thread * fields.THREAD_FLAGS
    meeting = flags[place] + 1
    store_release(at(flags, place), meeting)
    started = cycles()
    for other in range(team):
        spins = 0
        while load_acquire(at(flags, other * fields.THREAD_FLAGS)) < meeting:
            relax()
            spins += 1
            if spins > SPINS:
                give_way()
    flags[place + fields.WAITED] += cycles() - started


@inline
def watch(flags, team, window, patience):
    """Break the team up if a thread has waited for too much of the last window; for thread 0.

    Then another program has one of the cores: who waits half of the time would be as fast alone.
    The window is in cycles, patience in percent. The team learns of it when it next meets.
    """
    elapsed = cycles() - flags[fields.SINCE]
    if elapsed <= window:
        return
    longest = 0
    for thread in range(team):
        line = at(flags, thread * fields.THREAD_FLAGS)
        waited = load_acquire(at(line, fields.WAITED))
        longest = max(longest, waited - line[fields.COUNTED])
        line[fields.COUNTED] = waited
    flags[fields.APART] = 1 if 100 * longest > patience * elapsed else 0
    flags[fields.SINCE] += elapsed


@inline
def share_of(count, thread, team, multiple):
    """First and last of a thread's part of `count` things, split at multiples."""
    groups = (count + multiple - 1) // multiple
    first = groups * thread // team * multiple
    stop = groups * (thread + 1) // team * multiple
    return min(first, count), min(stop, count)


class Company:
    """Whether a plan's calls are shared at present, or a neighbour on a core makes that slower.

    After a team has broken up, one thread goes on alone, for longer each time that it happens
    again soon. Who works when changes no bit.
    """

    SHORTEST, LONGEST = 0.005, 0.5
    """Seconds alone; a try costs up to 10 ms where the neighbour is still there."""

    def __init__(self) -> None:
        self.until = 0.0
        self.pause = self.SHORTEST
        self.batch_seconds = 0.0

    def next_part(self, team: int, batches: int) -> tuple[int, int]:
        """Threads of the next part of a call, and its batches at most."""
        left = self.until - time.perf_counter()
        if team == 1 or left <= 0.0:
            return team, batches
        known = self.batch_seconds
        return 1, min(batches, max(1, int(left / known)) if known else 1)

    def learn(self, team: int, size: int, part: int, done: int, seconds: float) -> None:
        """Take in how a part of a call went: `size` of `team` threads, `done` of its batches."""
        if size == 1:
            self.batch_seconds = seconds / done if team > 1 else 0.0
        elif done < part:
            now = time.perf_counter()
            again = now - self.until < self.LONGEST
            self.pause = min(2 * self.pause, self.LONGEST) if again else self.SHORTEST
            self.until = now + self.pause


def run_team(call: Callable[[int, int], float], team: int) -> float:
    """Start the helpers first; all wait until it is known how many there are.

    Ctrl-C waits: a team that has lost a member would wait for it without end.
    """
    with deferred():
        return _call_together(call, team)


def _call_together(call: Callable[[int, int], float], team: int) -> float:
    size = [0]
    ready = threading.Event()

    def helper(thread: int) -> None:
        ready.wait()
        if thread < size[0]:
            call(thread, size[0])

    helpers: list[threading.Thread] = []
    try:
        for thread in range(1, team):
            helpers.append(threading.Thread(target=helper, args=(thread,), daemon=True))
            helpers[-1].start()
    except RuntimeError:  # the system gives no more threads
        helpers.pop()
    size[0] = 1 + len(helpers)
    ready.set()
    result = call(0, size[0])
    for member in helpers:
        member.join()
    return result

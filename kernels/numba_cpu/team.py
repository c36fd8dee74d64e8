"""A team of threads: how it meets, shares and starts."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..interrupts import deferred
from . import fields
from .intrinsics import at, give_way, load_acquire, relax, store_release
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
    for other in range(team):
        spins = 0
        while load_acquire(at(flags, other * fields.THREAD_FLAGS)) < meeting:
            relax()
            spins += 1
            if spins > SPINS:
                give_way()


@inline
def share_of(count, thread, team, multiple):
    """First and last of a thread's part of `count` things, split at multiples."""
    groups = (count + multiple - 1) // multiple
    first = groups * thread // team * multiple
    stop = groups * (thread + 1) // team * multiple
    return min(first, count), min(stop, count)


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

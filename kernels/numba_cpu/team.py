"""A team of threads inside of a kernel: how it meets, shares, and breaks up."""

from __future__ import annotations

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
def halting(t):
    """Whether work is to be left undone: Ctrl-C. Who sees it once will always see it in a call."""
    return load_acquire(at(t, fields.HALT)) == fields.WANTED


@inline
def tell(t, flags, thread):
    """Before a meeting: tell the team if this thread may have left work undone."""
    if halting(t):
        flags[thread * fields.THREAD_FLAGS + fields.LEFT] = 1


@inline
def given_up(t, flags, team):
    """After a meeting, once a batch: whether anybody has left work undone; the same for all."""
    if t[fields.HALT] == fields.NEVER:
        return False
    left = 0
    for thread in range(team):
        left |= flags[thread * fields.THREAD_FLAGS + fields.LEFT]
    return left != 0


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

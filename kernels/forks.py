"""Locks and forks: the threads that held a lock are not in the child, and would never let it go.

Own locks are made anew there. Those of others can't be; the thread that forks holds them meanwhile.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any, Protocol


class HasLocks(Protocol):
    """Something with locks of its own."""

    def after_fork(self) -> None:
        """Make new locks, in the child."""


class UsesLocks(Protocol):
    """Something that uses locks which others have made."""

    def foreign_locks(self) -> Iterable[Any]:
        """Those that it uses now; no thread holds one for long, or waits for another meanwhile."""


_known: weakref.WeakSet[HasLocks] = weakref.WeakSet()
_users: weakref.WeakSet[UsesLocks] = weakref.WeakSet()
_held = threading.local()


def tell_after_fork(thing: HasLocks) -> None:
    """Have `thing.after_fork` called in every child that is forked while it lives."""
    _known.add(thing)


def hold_while_forking(thing: UsesLocks) -> None:
    """Let no thread hold one of its foreign locks when this process forks while it lives."""
    _users.add(thing)


def _tell_all() -> None:
    for thing in list(_known):
        thing.after_fork()


def _hold() -> None:
    _held.locks = []
    locks = {id(lock): lock for thing in list(_users) for lock in thing.foreign_locks()}
    for _, lock in sorted(locks.items()):  # two threads may fork at once
        lock.acquire()
        _held.locks.append(lock)


def _let_go() -> None:
    for lock in _held.locks:
        lock.release()
    _held.locks = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)

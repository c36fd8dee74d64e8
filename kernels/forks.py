"""What has locks is told in the child of a fork, where the threads that held them are not."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HasLocks(Protocol):
    """Something with locks of its own."""

    def after_fork(self) -> None:
        """Make new locks, in the child."""


_known: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def tell_after_fork(thing: HasLocks) -> None:
    """Have `thing.after_fork` called in every child that is forked while it lives."""
    _known.add(thing)


def _tell_all() -> None:
    for thing in list(_known):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)

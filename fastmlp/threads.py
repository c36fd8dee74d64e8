"""How many threads the compiled kernels may use. No result depends on it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from . import checks

_chosen: int | None = None

MOST = 1024


def set_num_threads(count: int | None) -> None:
    """Set the number of threads for all networks of this process; None goes back to the default.

    Parameters
    ----------
    count : int or None
        At least 1. Small problems use fewer all the same.
    """
    global _chosen  # noqa: PLW0603 - one number for the process, as the docs say
    _chosen = None if count is None else checks.whole(count, "count", 1, MOST)


def get_num_threads() -> int:
    """Return the number of threads that kernels may use.

    What `set_num_threads` said; else 1 inside a worker of joblib or multiprocessing, be it a
    process or a thread of a pool; else the cores that this process may run on, a container's CPU
    quota respected, and no more than the environment variable FASTMLP_NUM_THREADS says. That is
    read when a process first asks.

    Raises
    ------
    ValueError
        FASTMLP_NUM_THREADS is no whole number above 0.
    """
    if _chosen is not None:
        return _chosen
    asked = _asked()
    if asked:
        return min(asked, _cores())
    return 1 if multiprocessing.parent_process() is not None or _in_pool() else _cores()


@cache
def _asked() -> int:
    """What the environment asks for, 0 for nothing: read each time, it took 25 us of 12 ms."""
    asked = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if not asked:
        return 0
    try:
        count = int(asked) if asked.isdecimal() else 0
    except ValueError:  # Python reads no more than 4,300 digits
        count = 0
    if count < 1:
        raise ValueError(
            "the environment variable FASTMLP_NUM_THREADS must be an integer >= 1; got "
            f"{checks.shown(asked)}"
        )
    return count


def _in_pool() -> bool:
    """Whether this thread is one of multiprocessing's pools, which are joblib's too."""
    dummy = sys.modules.get("multiprocessing.dummy")
    return dummy is not None and isinstance(threading.current_thread(), dummy.DummyProcess)


@cache
def _cores() -> int:
    """Processors that this process may use, by its affinity and quota when it first asks."""
    usable = _usable()
    quota = _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, min(usable, quota if quota else usable, MOST))


def _usable() -> int:
    """Processors that this process may run on; a cpuset shows in them."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13: heeds PYTHON_CPU_COUNT too
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path, own: Path) -> int | None:
    """CPUs that the control groups below `root` grant, rounded up; None without a limit.

    `own` says in which groups this process is. The groups around them count too.
    """
    granted = (_granted(folder) for folder in _groups(root, own))
    return min((cpus for cpus in granted if cpus is not None), default=None)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """Folders that may hold a limit; without a word in `own`, as in a container, the uppermost."""
    yield from (root, root / "cpu")
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        inside = Path(path.lstrip("/"))
        if ".." in inside.parts or (controllers and "cpu" not in controllers.split(",")):
            continue
        top = root / "cpu" if controllers else root
        yield from (top / group for group in (inside, *inside.parents))


def _granted(folder: Path) -> int | None:
    """CPUs by the files of one group, of version 2 or 1; None where they say nothing."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text() for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # "max" is no limit
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None

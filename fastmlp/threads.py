"""How many threads the compiled kernels may use. No result depends on it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
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
    quota respected, and no more than the environment variable FASTMLP_NUM_THREADS says.

    Raises
    ------
    ValueError
        FASTMLP_NUM_THREADS is no whole number above 0.
    """
    if _chosen is not None:
        return _chosen
    asked = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(
                "the environment variable FASTMLP_NUM_THREADS must be an integer >= 1; "
                f"got {asked!r}"
            )
        return min(int(asked), _cores())
    if multiprocessing.parent_process() is not None or "LOKY_WORKER" in os.environ or _in_pool():
        return 1
    return _cores()


def _in_pool() -> bool:
    """Whether this thread is one of multiprocessing's pools, which are joblib's too."""
    dummy = sys.modules.get("multiprocessing.dummy")
    return dummy is not None and isinstance(threading.current_thread(), dummy.DummyProcess)


def _cores() -> int:
    global _cached  # noqa: PLW0603 - the answer costs 100 us of file reading
    if _cached is None:
        usable = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        quota = _quota(Path("/sys/fs/cgroup"))
        _cached = max(1, min(usable, quota if quota else usable, MOST))
    return _cached


_cached: int | None = None


def _quota(root: Path) -> int | None:
    """CPUs that the control group grants, rounded up; None without a limit."""
    try:
        maximum, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            maximum = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not maximum.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return max(1, -(-int(maximum) // int(period)))

"""A second process that compiles half of the kernels at a cold start.

Numba holds one lock while it compiles, so threads would not help. The two processes meet in the
disk cache: this one compiles a list of kernels from its start, the other one from its end. Before
each kernel both take a byte out of one pipe, in which there are as many as there are kernels, and
the system gives every byte to one of them only. When the pipe is empty they have met.

Nothing depends on the other process: what it has not delivered is compiled here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

_CHILD = "import sys; sys.path[:] = {}; from {} import jit; jit.compile_from_the_end({!r}, {!r})"


STDIN = 0
"""Where the other process finds the pipe."""


def can_share() -> bool:
    """Whether a second Python can be started, and has a processor to run on.

    A frozen program, or one that embeds Python, would be started itself.
    """
    python = Path(sys.executable or "").name.lower().startswith("python")
    return python and not hasattr(sys, "frozen") and (os.cpu_count() or 1) > 1


def take(pipe: int) -> bool:
    """Take one kernel; False where none is left."""
    return bool(os.read(pipe, 1))


@contextmanager
def _filled_pipe(count: int) -> Iterator[int]:
    """A pipe to take from, `count` times in all."""
    pipe, end = os.pipe()
    try:
        try:
            os.write(end, b"." * count)
        finally:
            os.close(end)
        yield pipe
    finally:
        os.close(pipe)


@contextmanager
def _other_process(names: Sequence[str], dtype: str, pipe: int) -> Iterator[Popen[bytes]]:
    """A process that compiles from the end; gone after the block, however that ends."""
    path = list(map(str, sys.path))
    with Popen(
        [sys.executable, "-c", _CHILD.format(path, __package__, dtype, list(names))],
        stdin=pipe,
        stdout=subprocess.PIPE,  # tells of its end at once, and swallows what it may print
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def share(names: Sequence[str], dtype: str) -> Iterator[Iterator[str]]:
    """Names to compile here, the first ones; the block ends when the others are done elsewhere."""
    started, mine = time.perf_counter(), 0
    with _filled_pipe(len(names)) as pipe, _other_process(names, dtype, pipe) as process:

        def taken() -> Iterator[str]:
            nonlocal mine
            while take(pipe):
                mine += 1
                yield names[mine - 1]

        yield taken()
        if mine < len(names):
            # It has one kernel left at most; a process that is twice as slow as this one has hung.
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=time.perf_counter() - started)

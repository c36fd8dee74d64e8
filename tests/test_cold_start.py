"""A cold start on two processes: whatever becomes of the other one, all kernels are there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastmlp.kernels.numba_cpu import jit

from .processes import ROOT, run

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
two_processors = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")

SETUP = """
import os, sys, time
from pathlib import Path
import fastmlp
from fastmlp.kernels.numba_cpu import compiling, jit

started, popen = [], compiling.Popen

def start(*arguments, **options):
    started.append(popen(*arguments, **options))
    print("started", started[-1].pid, flush=True)
    return started[-1]

compiling.Popen = start

def compiled_here():
    return sum(len(m.compiled) for m in jit._FAMILIES)
"""

TRAIN = """
import numpy as np
fastmlp.set_num_threads(2)
net = fastmlp.MLP((9, 12, 3), dtype="float32", seed=0)
X = np.random.default_rng(0).normal(size=(64, 9))
net.fit(X, np.arange(64) % 3, epochs=2)
loaded = sum(1 for m in jit._FAMILIES for p in m._doors if p not in m.compiled)
print(compiled_here(), loaded, len(started), net.predict(X[:20]).tobytes().hex())
"""

FEW = """
jit._FAMILIES[:] = [m for m in jit._FAMILIES if m.name in {"maxout_forward", "row_sums",
    "maxout_backward", "transpose_tiles", "normalize_columns", "summed_columns"}]
"""


TOGETHER = sum(1 for member in jit._FAMILIES if not member.on_demand)
"""Kernels that a cold start compiles."""


def _last(output: str) -> list[str]:
    return output.splitlines()[-1].split()


@two_processors
def test_each_process_compiles_a_part_and_the_next_start_nothing(tmp_path: Path) -> None:
    cold = _last(run(SETUP + TRAIN, FASTMLP_CACHE_DIR=str(tmp_path)))
    warm = _last(run(SETUP + TRAIN, FASTMLP_CACHE_DIR=str(tmp_path)))
    here, loaded, started, numbers = int(cold[0]), int(cold[1]), cold[2], cold[3]
    assert started == "1"
    assert here + loaded == TOGETHER
    assert here > 5
    assert loaded > 5
    assert warm == ["0", str(TOGETHER), "0", numbers]


def test_processes_meet_at_small_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that are to come early do: the rest of the order is that of their definition."""
    order: list[str] = []

    @contextmanager
    def share(names: list[str], dtype: str) -> Iterator[list[str]]:
        order.extend(names)
        yield []

    monkeypatch.setattr(jit, "_ready", set())
    monkeypatch.setattr(jit, "_link", lambda *_: None)
    monkeypatch.setattr(jit, "_folder", lambda _: tmp_path)
    monkeypatch.setattr(jit.compiling, "can_share", lambda: True)
    monkeypatch.setattr(jit.compiling, "share", share)
    jit.prepare("float32", threads=2)
    together = [member for member in jit._FAMILIES if not member.on_demand]
    early = [member.name for member in together if member.early]
    assert early
    assert order == early + [member.name for member in together if not member.early]


BROKEN = {
    "not there": "sys.executable = str(Path(sys.argv[1]) / 'python-missing')",
    "fails at once": "compiling._CHILD = 'raise SystemExit(3) # {} {} {} {}'",
    "killed with a kernel": """
compiling._CHILD = '''import os, signal, time # {} {} {} {}
for _ in range(2): os.read(0, 1)
os.kill(os.getpid(), 9)'''
time_to_die = jit.Family.obtain
def slowly(member, dtype):
    started[0].wait()
    return time_to_die(member, dtype)
jit.Family.obtain = slowly
""",
    "hangs": """
compiling._CHILD = 'import os, time; os.read(0, 1); time.sleep(1000) # {} {} {} {}'
compiling.take = lambda pipe: (time.sleep(0.3), bool(os.read(pipe, 1)))[1]
""",
}


@posix
@two_processors
@pytest.mark.parametrize("how", BROKEN)
def test_what_the_other_process_does_not_deliver_is_compiled_here(how: str, tmp_path: Path) -> None:
    code = """
jit.prepare("float32", 2)
assert all(process.poll() is not None for process in started)
print(compiled_here(), len(jit._FAMILIES))
"""
    script = SETUP + FEW + BROKEN[how] + code
    output = run(script, str(tmp_path), timeout=100, FASTMLP_CACHE_DIR=str(tmp_path))
    assert ("started" in output) == (how != "not there")
    assert _last(output) == ["6", "6"]


@two_processors
def test_two_cold_starts_at_the_same_time(tmp_path: Path) -> None:
    """Each file is written whole, by whoever comes first."""
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    several = [
        subprocess.Popen(
            [sys.executable, "-c", f"{SETUP}{FEW}jit.prepare({dtype!r}, 2)"], env=environment
        )
        for dtype in ("float32", "float32", "float64")
    ]
    assert [process.wait(100) for process in several] == [0, 0, 0]
    assert {path.parents[1].name for path in tmp_path.rglob("*.o")} == {"float32", "float64"}
    check = "jit.prepare('float32', 2); jit.prepare('float64', 2); print(compiled_here())"
    assert run(SETUP + FEW + check, FASTMLP_CACHE_DIR=str(tmp_path)).split() == ["0"]


@contextmanager
def _cold_start(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process amid its cold start, and the number of the process that helps it."""
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SETUP + "jit.prepare('float32', 2)"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            helper = int(process.stdout.readline().split()[1])
            _wait(lambda: any(folder.rglob("*.o")))
            yield process, helper
        finally:
            process.kill()


def _wait(happened: Any) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def _gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{number}/stat")  # ended, and nobody has asked how
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@posix
@two_processors
def test_ctrl_c_ends_both(tmp_path: Path) -> None:
    with _cold_start(tmp_path) as (process, helper):
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode != 0
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert _gone(helper)


@posix
@two_processors
def test_a_killed_process_does_not_leave_the_other_one_at_work(tmp_path: Path) -> None:
    with _cold_start(tmp_path) as (process, helper):
        process.kill()
        process.wait()
        _wait(lambda: _gone(helper))
    assert len(list(tmp_path.rglob("*.o"))) < TOGETHER / 2


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Precisions for which another process would be started, with no kernels to compile."""
    asked: list[str] = []
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(jit, "_ready", set())
    monkeypatch.setattr(jit, "_compile_half", lambda members, dtype: asked.append(dtype))
    monkeypatch.setattr(jit, "_link", lambda members, dtype, made: None)
    return asked


def test_only_what_is_missing_is_shared(shares: list[str], tmp_path: Path) -> None:
    jit.prepare("float32", 2)
    assert shares == ["float32"]
    (folder,) = tmp_path.glob("kernels-*/float32/*")
    together = [member for member in jit._FAMILIES if not member.on_demand]
    for left, expected in ((jit.MANY, 2), (jit.MANY - 1, 2)):
        for member in together[left:]:
            (folder / f"{member.symbol(jit.PRECISIONS['float32'])}.o").touch()
        jit._ready.clear()
        jit.prepare("float32", 2)
        assert shares == ["float32"] * expected
    jit.prepare("float64", 2)
    assert shares == ["float32", "float32", "float64"]


ALONE = ("one thread", "one processor", "no cache", "no folder", "frozen", "embedded", "unknown")


@pytest.mark.parametrize("why", ALONE)
def test_no_second_process(
    why: str, shares: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "one processor":
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
    elif why == "no cache":
        monkeypatch.setenv("FASTMLP_CACHE", "0")
    elif why == "no folder":
        (tmp_path / "file").touch()
        monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "file"))
    elif why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif why in {"embedded", "unknown"}:
        monkeypatch.setattr(sys, "executable", "/opt/uwsgi" if why == "embedded" else "")
    jit.prepare("float32", 1 if why == "one thread" else 2)
    assert shares == []


def test_threads_that_are_allowed_reach_the_compiler(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """A worker of joblib's, which may use one thread, starts no process."""
    from fastmlp import MLP, get_num_threads, set_num_threads

    asked: list[int] = []
    if backend == "numba":
        from fastmlp.kernels.numba_cpu import plan

        monkeypatch.setattr(plan, "prepare", lambda dtype, threads: asked.append(threads))
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            net = MLP((4, 3, 2), seed=0, backend=backend)
            assert net._engine.plan().threads == get_num_threads() == threads
    finally:
        set_num_threads(None)
    assert asked == ([1, 3] if backend == "numba" else [])

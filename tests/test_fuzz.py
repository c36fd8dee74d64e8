"""Random calls in processes of their own: no crash, no odd error, no change where a call fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp import kernels

ROOT = Path(__file__).resolve().parents[1]
CASES, PROCESSES = 10_000, 2

pytestmark = pytest.mark.skipif(
    kernels.available()["numba"] is not None, reason=f"numba: {kernels.available()['numba']}"
)


def _start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_ten_thousand_calls(request: pytest.FixtureRequest) -> None:
    """The seed is pytest's --seed; run tests/fuzz_worker.py itself for more cases."""
    shared = ("--cases", str(CASES), "--seed", str(request.config.getoption("--seed")))
    workers = [
        _start(
            str(ROOT / "tests" / "fuzz_worker.py"),
            *(*shared, "--part", str(part), "--parts", str(PROCESSES)),
        )
        for part in range(PROCESSES)
    ]
    done = 0
    for worker in workers:
        out, err = worker.communicate(timeout=600)
        assert worker.returncode == 0, f"{worker.args}\n{out}\n{err[-5000:]}"
        done += int(out.splitlines()[-1].split()[0])
    assert done == CASES


# What crashed the process once: arrays that change between the checks and the kernels.

CRASHES = {
    "a metric that writes labels": """
def metric(y, predicted):
    y[:] = 10**13
    return 0.0
net.fit(X, y, epochs=3, metrics=[metric])
""",
    "a callback that reshapes X": """
def callback(epoch, history, net):
    X.shape = (X.size, 1)
net.fit(X, y, epochs=20, shuffle=False, callbacks=[callback])
""",
    "a callback that makes targets look like labels": """
T = np.full((64, 4), 2.5, np.float32)
def callback(epoch, history, net):
    T.shape = T.size
MLP((3, 5, 4), loss="mse", backend="numba").fit(X, T, epochs=20, callbacks=[callback])
""",
    "targets that reshape X": """
class Targets:
    def __array__(self, dtype=None, copy=None):
        X.shape = (X.size, 1)
        return y
net.fit(X, Targets(), epochs=3)
""",
    "a generator that lies": """
class Liar(np.random.Generator):
    def permutation(self, rows):
        return np.full(rows, 10**12)
try:
    MLP((3, 5, 4), backend="numba", seed=Liar(np.random.PCG64(1))).fit(X, y, shuffle="permutation")
except ValueError as error:
    assert "row numbers 0 to 63" in str(error)
else:
    raise AssertionError
""",
}

BEGINNING = """
import numpy as np
from fastmlp import MLP
X, y = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32), np.arange(64) % 4
net = MLP((3, 5, 4), backend="numba", seed=0)
"""


@pytest.mark.parametrize("name", CRASHES)
def test_arrays_that_change_after_their_checks(name: str) -> None:
    worker = _start("-W", "ignore::DeprecationWarning", "-c", BEGINNING + CRASHES[name])
    _, err = worker.communicate(timeout=120)
    assert worker.returncode == 0, err

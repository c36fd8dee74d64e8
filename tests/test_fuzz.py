"""Random calls in processes of their own: no crash, no odd error, no change where a call fails."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmlp import kernels

ROOT = Path(__file__).resolve().parents[1]
CASES, PROCESSES = 10_000, 2

pytestmark = pytest.mark.skipif(
    kernels.available()["numba"] is not None, reason=f"numba: {kernels.available()['numba']}"
)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.slow
def test_ten_thousand_calls(request: pytest.FixtureRequest) -> None:
    """The seed is pytest's --seed; run tests/fuzz_worker.py itself for more cases."""
    seed = str(request.config.getoption("--seed"))
    script = str(ROOT / "tests" / "fuzz_worker.py")
    shared = (script, "--cases", str(CASES), "--seed", seed, "--parts", str(PROCESSES))
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(_run, *shared, "--part", str(part)) for part in range(PROCESSES)]
    done = 0
    for part in parts:
        worker = part.result()
        report = f"{worker.args}\n{worker.stdout}\n{worker.stderr[-5000:]}"
        assert worker.returncode == 0, report
        done += int(worker.stdout.splitlines()[-1].split()[0])
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
    worker = _run("-W", "ignore::DeprecationWarning", "-c", BEGINNING + CRASHES[name])
    assert worker.returncode == 0, worker.stderr

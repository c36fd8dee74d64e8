"""What all tests share: backends, random numbers that can be repeated, and data folders."""

from __future__ import annotations

import os
import signal
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fastmlp import kernels
from fastmlp.kernels import driver

from .hostcuda import build, standin

BACKENDS = ("numpy", "numba", "cupy")
ON_DEVICE = "FASTMLP_TEST_GPU" in os.environ
REAL_MISSING = driver.missing
DEFAULT_SEED = 20260401

# Compiling takes seconds, so no example has a deadline. In CI the same examples come every time.
settings.register_profile(
    "fastmlp", deadline=None, print_blob=True, derandomize="CI" in os.environ, database=None
)
settings.load_profile("fastmlp")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what runs in the background: children would never notice a Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not ON_DEVICE and build.compiler() is not None:
    # The GPU backend's own code runs everywhere: over a module that looks like cupy.
    standin.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=DEFAULT_SEED, help="seed of the fixture rng, for every test"
    )
    parser.addoption(
        "--write-resources", action="store_true", help="write what test_nvrtc.py compares with"
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    missing = {name: why for name, why in kernels.available().items() if why is not None}
    return [
        f"fastmlp: --seed={config.getoption('--seed')}, not loadable here: {missing or 'nothing'}",
        f"fastmlp: backend cupy {'on a device' if ON_DEVICE else 'over a stand-in: no GPU here'}",
    ]


_seconds: dict[str, float] = defaultdict(float)
LONG_RUN = 60.0
"""Seconds of a run from which on it says where they went."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.partition("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total = sum(_seconds.values())
    if total > LONG_RUN:
        longest = sorted(_seconds, key=_seconds.__getitem__, reverse=True)[:20]
        shown = ", ".join(f"{Path(file).name} {_seconds[file]:.0f}" for file in longest)
        terminalreporter.write_line(f"fastmlp: of {total:.0f} s, these files took most: {shown}")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn that can be loaded on this machine."""
    name: str = request.param
    reason = kernels.available()[name]
    if reason is not None:
        pytest.skip(f"backend {name}: {reason}")
    return name


STAND_IN_ONLY_HERE = "the stand-in for cupy is in this process only"


@pytest.fixture
def shared_backend(backend: str) -> str:
    """As `backend`, for tests that start other processes."""
    if backend == "cupy" and not ON_DEVICE:
        pytest.skip(STAND_IN_ONLY_HERE)
    return backend


@pytest.fixture
def fast_backend(backend: str) -> str:
    """As `backend`, for tests that train for minutes where nothing is fast."""
    if backend == "cupy" and not ON_DEVICE:
        pytest.skip("the stand-in for cupy is too slow")
    return backend


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the GPU backend can't be loaded."""
    monkeypatch.setattr(driver, "missing", lambda: "no NVIDIA driver is installed")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own; a failing test shows how to repeat its numbers."""
    seed = request.config.getoption("--seed")
    print(f"rng of --seed={seed}")
    return np.random.default_rng([seed, zlib.crc32(request.node.nodeid.encode())])


def _data_folder(variable: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"set {variable} to a folder with the four IDX files")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the four MNIST files."""
    return _data_folder("FASTMLP_MNIST")


@pytest.fixture(scope="session")
def fashion_mnist_folder() -> Path:
    """The folder with the four Fashion-MNIST files."""
    return _data_folder("FASTMLP_FASHION_MNIST")

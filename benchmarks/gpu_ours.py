"""fastmlp's own part of the GPU benchmark: each tier, a step taken apart, its products alone."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import cupy
import numpy as np
from gpu_cases import Case, Given
from gpu_cpu import OnCpu

from fastmlp import MLP
from fastmlp.kernels.contract import Array
from fastmlp.kernels.cupy_gpu import gemm

REPEATS = 30
BACKEND = "fastmlp.kernels.cupy_gpu"
TIER = "FASTMLP_GPU_TIER"

Maker = Callable[..., Callable[[], object]]


def seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds on the device, after two calls that do not count."""
    for _ in range(2):
        run()
    return statistics.median(timed(run) for _ in range(repeats))


def timed(run: Callable[[], object]) -> float:
    """Seconds between two events of the current stream."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    stream = cupy.cuda.get_current_stream()
    start.record(stream)
    run()
    end.record(stream)
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end)) / 1000


def host_seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds until the host has started everything."""
    times = []
    for _ in range(repeats):
        cupy.cuda.get_current_stream().synchronize()
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def on_device(block: Array, repeats: int) -> Any:
    """Rows of the host, so many times one after the other."""
    result = cupy.empty((len(block) * repeats, *block.shape[1:]), block.dtype)
    for place in range(repeats):
        result[place * len(block) : (place + 1) * len(block)].set(np.ascontiguousarray(block))
    return result


class Own(OnCpu):
    """The same on the GPU, in its precision."""

    clock = "events"
    backend = "cupy"
    placed = staticmethod(on_device)

    def wait(self) -> None:
        """Wait for the device."""
        cupy.cuda.get_current_stream().synchronize()

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps, by events."""
        return timed(partial(self.run, count)) / count


class Products:
    """The products of a step by the backend's own calls of cuBLAS, and nothing else."""

    clock = "events"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        self.calls = list(self._calls(case, self.maker(precision), precision == "bfloat16"))

    @staticmethod
    def maker(precision: str) -> Maker:
        """The function (out, A, B) -> what multiplies."""
        return partial(partial, gemm.product(precision))

    @staticmethod
    def _calls(case: Case, make: Maker, narrow: bool) -> Iterator[Callable[[], object]]:
        rng = np.random.default_rng(1)

        def matrix(rows: int, columns: int) -> Any:
            block = rng.standard_normal((min(rows, 4096), columns), np.float32)
            if narrow:
                block = (block.view(np.uint32) >> 16).astype(np.uint16)
            filled = cupy.empty((rows, columns), block.dtype)
            for first in range(0, rows, len(block)):
                part = filled[first : first + len(block)]
                part.set(block[: len(part)])
            return filled

        # Tensors of one width are shared: what is multiplied does not depend on the rest.
        tall = {width: matrix(case.batch, width) for width in set(case.layers)}
        other = {width: matrix(case.batch, width) for width in set(case.layers)}
        for number, (inputs, outputs) in enumerate(pairwise(case.layers)):
            W = matrix(inputs, outputs)
            dW = cupy.empty((inputs, outputs), "float32")
            X, Z, D = tall[inputs], other[outputs], tall[outputs]
            yield make(Z, X, W)
            yield make(dW, X.T, D)
            if number:
                yield make(other[inputs], D, W.T)

    def run(self, count: int) -> None:
        """Start the products of that many steps."""
        for _ in range(count):
            for call in self.calls:
                call()

    def sample(self, count: int) -> float:
        """Seconds of one step's products, by events."""
        return timed(partial(self.run, count)) / count


class GraphedProducts(Products):
    """The same by the calls of the tier ``lt``, out of a CUDA graph."""

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        super().__init__(case, start, precision)
        super().run(1)
        self.graph = import_module(f"{BACKEND}.graphs").capture(self.calls)

    @staticmethod
    def maker(precision: str) -> Maker:
        """The function (out, A, B) -> what multiplies."""
        os.environ[TIER] = "lt"
        own = import_module(f"{BACKEND}.tiers")
        found: Maker = own.products(own.chosen(), precision)
        return found

    def run(self, count: int) -> None:
        """Start the products of that many steps."""
        for _ in range(count):
            self.graph.launch()


def tiers() -> list[str]:
    """Every way that the backend knows; one that can't be gone here fails with the reason."""
    known = find_spec(f"{BACKEND}.tiers")
    return ["generic"] if known is None else list(import_module(known.name).TIERS)


def in_tier(tier: str, case: Case, start: Given, precision: str) -> Own:
    """A network that trains in one of the `tiers`."""
    # Plans that are built from now on take it, this network's among them.
    os.environ[TIER] = tier
    own = Own(case, start, precision)
    own.net._engine.plan()
    return own


# A step taken apart


def _all(steps: list[Any]) -> Callable[[], None]:
    def run() -> None:
        for step in steps:
            step()

    return run


def _program(plan: Any, rows: int, labelled: bool = True) -> list[Any] | None:
    found: list[Any] | None = plan.programs.get(("train", rows, labelled, False))
    return found


def parts(own: Own) -> dict[str, float]:
    """What a step consists of where it is a list of launches and products; else nothing."""
    own.run(1)
    engine = own.net._engine
    plan: Any = engine.plan()
    program = _program(plan, own.case.batch, own.case.layers[-1] > 1)
    if program is None:
        return {}
    products = [step for step in program if isinstance(step, partial)]
    launches = [step for step in program if not isinstance(step, partial)]
    if not products:
        return {}
    return {
        "without gather": seconds(_all(program)),
        "products": seconds(_all(products)),
        "launches": seconds(_all(launches)),
        "host": host_seconds(_all(program)),
        "number of launches": len(launches),
    }


def graph() -> dict[str, float]:
    """Our launches of a small network one by one and out of a graph."""
    os.environ[TIER] = "generic"
    net = MLP((784, 50, 50, 10), backend="cupy", seed=0)
    X, y = np.zeros((64, 784), np.float32), np.zeros(64, np.int64)
    net.train_on_batch(X, y)
    program = _program(net._engine.plan(), 64)
    if program is None:
        return {}
    launches = [step for step in program if not isinstance(step, partial)]
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        _all(launches)()
        stream.synchronize()
        stream.begin_capture()
        _all(launches)()
        captured = stream.end_capture()
        replay = seconds(lambda: captured.launch(stream))
        single = seconds(_all(launches))
    return {
        "launches": len(launches),
        "one by one": single,
        "replayed": replay,
        "replayed, each": replay / len(launches),
    }


def memory(size: int = 1 << 30) -> dict[str, float]:
    """Bytes read and written per second by a copy on the device."""
    source, target = cupy.zeros(size, "uint8"), cupy.zeros(size, "uint8")

    def copy() -> None:
        target[...] = source

    return {"bytes per second": 2 * size / seconds(copy)}


def device() -> dict[str, Any]:
    """What the results belong to."""
    runtime = cupy.cuda.runtime
    if not hasattr(runtime, "getDeviceProperties"):
        return {"name": "stand-in, no GPU"}
    name = runtime.getDeviceProperties(0)["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
    }

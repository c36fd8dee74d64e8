"""fastmlp's own part of the GPU benchmark: each tier, a step taken apart, its products alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import cupy
import numpy as np
from gpu_cases import BETA1, BETA2, EPSILON, RATE, Case, Given, Places

from fastmlp import MLP, Adam
from fastmlp.kernels.contract import Array, Data, Order
from fastmlp.kernels.cupy_gpu import gemm

REPEATS = 30


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


def on_device(block: Array, repeats: int = 1) -> Any:
    """Rows of the host, so many times one after the other."""
    result = cupy.empty((len(block) * repeats, *block.shape[1:]), block.dtype)
    for place in range(repeats):
        result[place * len(block) : (place + 1) * len(block)].set(np.ascontiguousarray(block))
    return result


class Own:
    """A network on the GPU, trained by the backend's `train_steps`."""

    clock = "events"
    backend = "cupy"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        loss = "cross_entropy" if case.layers[-1] > 1 else "binary_cross_entropy"
        self.case, self.epoch = case, 0
        self.net = MLP(case.layers, loss=loss, dtype=precision, backend=self.backend, seed=0)
        targets = start.y if case.layers[-1] > 1 else start.y.reshape(-1, 1)
        self.data = Data(*(self.placed(rows, case.repeats) for rows in (start.X, targets)))
        self.restart(start.weights, start.biases)

    placed = staticmethod(on_device)

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        self.net.weights, self.net.biases = list(weights), list(biases)
        self.net._engine.restart(Adam(RATE, BETA1, BETA2, EPSILON))
        self.places = Places(self.case.steps)

    def run(self, count: int) -> None:
        """Start that many steps; the call ends with a look at their losses."""
        for first, part in self.places.following(count):
            self.epoch += first == 0
            order = Order("keyed", self.epoch) if self.case.shuffled else Order("sequence")
            self._steps(np.empty(part), order, first)

    def _steps(self, losses: Array, order: Order, first: int) -> None:
        engine, rates = self.net._engine, np.full(len(losses), RATE)
        engine.run_steps(losses, self.data, order, self.case.batch, first, rates)

    def wait(self) -> None:
        """Wait for the device."""
        cupy.cuda.get_current_stream().synchronize()

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on, as the rows come; return the loss of each."""
        found = np.empty(min(count, self.case.steps))
        self._steps(found, Order("sequence"), 0)
        return [float(loss) for loss in found]

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps, by events."""
        return timed(partial(self.run, count)) / count

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        return list(self.net.weights), list(self.net.biases)


class OnCpu(Own):
    """The same on this machine's processor."""

    clock = "wall"
    backend = "auto"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        super().__init__(case, start, "float32")

    @staticmethod
    def placed(block: Array, repeats: int = 1) -> Array:
        """Rows so many times one after the other."""
        return np.ascontiguousarray(np.concatenate([block] * repeats))

    def wait(self) -> None:
        """Nothing is under way."""

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""
        started = time.perf_counter()
        self.run(count)
        return (time.perf_counter() - started) / count


class Products:
    """The products of a step by the backend's own calls of cuBLAS, and nothing else."""

    clock = "events"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        self.calls = list(self._calls(case, precision))

    @staticmethod
    def _calls(case: Case, precision: str) -> Iterator[Callable[[], None]]:
        multiply, rng = gemm.product(precision), np.random.default_rng(1)

        def matrix(rows: int, columns: int) -> Any:
            block = rng.standard_normal((min(rows, 4096), columns), np.float32)
            if precision == "bfloat16":
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
            yield partial(multiply, Z, X, W)
            yield partial(multiply, dW, X.T, D)
            if number:
                yield partial(multiply, other[inputs], D, W.T)

    def run(self, count: int) -> None:
        """Start the products of that many steps."""
        for _ in range(count):
            for call in self.calls:
                call()

    def sample(self, count: int) -> float:
        """Seconds of one step's products, by events."""
        return timed(partial(self.run, count)) / count


def tiers() -> list[str]:
    """The ways of the backend that this machine can go."""
    return ["generic"]


def in_tier(tier: str, case: Case, start: Given, precision: str) -> Own:
    """A network that trains in one of the `tiers`."""
    return Own(case, start, precision)


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

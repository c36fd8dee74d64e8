"""How near a training step on the GPU comes to its products, and what the rest of it costs.

For each case: a whole step, cuBLAS's products of the step alone, the own launches alone, and the
time that the host needs to start them; then the memory's speed and what a launch in a graph costs.
PyTorch, where it is installed, trains the same networks. Under 30 minutes on one GPU:

    python benchmarks/bench_gpu.py

Every time is the median of `REPEATS` by events of the device.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import cupy
import numpy as np
from common import write

from fastmlp import MLP
from fastmlp.kernels.contract import Data, Order

REPEATS = 30


class Case(NamedTuple):
    """A network, its batch and the precisions to try."""

    layers: tuple[int, ...]
    batch: int
    precisions: tuple[str, ...] = ("float32", "tf32", "bfloat16")


CASES = {
    "wide": Case((784, 4096, 4096, 10), 1 << 16),
    "narrow": Case((64, 64, 64, 64, 64, 64, 16), 1 << 20),
    "small batches": Case((784, 50, 50, 10), 64, ("float32",)),
    "table": Case((100, 256, 256, 128, 2), 1 << 17),
    "middle": Case((784, 1024, 1024, 10), 1 << 13),
}


def seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds on the device, after two calls that do not count."""
    for _ in range(2):
        run()
    times = []
    for _ in range(repeats):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        stream = cupy.cuda.get_current_stream()
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1000)
    return statistics.median(times)


def host_seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds until the host has started everything."""
    times = []
    for _ in range(repeats):
        cupy.cuda.get_current_stream().synchronize()
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _all(steps: list[Any]) -> Callable[[], None]:
    def run() -> None:
        for step in steps:
            step()

    return run


def own_step(case: Case, precision: str) -> dict[str, float]:
    """A step of ours, taken apart."""
    rng = np.random.default_rng(0)
    net = MLP(case.layers, dtype=precision, backend="cupy", seed=0)
    X = rng.normal(size=(case.batch, case.layers[0])).astype(np.float32)
    y = rng.integers(0, case.layers[-1], case.batch)
    engine = net._engine
    plan: Any = engine.plan()
    data, losses = Data(X, y), np.zeros(1)

    def train() -> None:
        engine.kernels().train_steps(
            *(plan, losses, data, Order("keyed", 1), case.batch, 0, 1, np.full(1, 1e-4), 0, 0)
        )

    train()
    program = plan.programs["train", case.batch, True, False]
    products = [step for step in program if isinstance(step, partial)]
    launches = [step for step in program if not isinstance(step, partial)]
    step = seconds(_all(program))
    alone = seconds(_all(products))
    return {
        "step": step,
        "rows per second": case.batch / step,
        "products alone": alone,
        "launches alone": seconds(_all(launches)),
        "share of the products": alone / step,
        "host": host_seconds(_all(program)),
        "whole call": host_seconds(train),
        "launches": len(launches),
    }


def graph() -> dict[str, float]:
    """The same launches one by one and out of a graph."""
    case = CASES["small batches"]
    net = MLP(case.layers, backend="cupy", seed=0)
    X, y = np.zeros((case.batch, case.layers[0]), np.float32), np.zeros(case.batch, np.int64)
    net.train_on_batch(X, y)
    plan: Any = net._engine._plan
    program = plan.programs["train", case.batch, True, False]
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


def torch_step(case: Case, precision: str, compiled: bool) -> dict[str, float]:
    """PyTorch's step of the same network, with its fused Adam."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    parts: list[Any] = []
    for inputs, units in zip(case.layers, case.layers[1:], strict=False):
        parts += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    model = torch.nn.Sequential(*parts[:-1]).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    X = torch.randn(case.batch, case.layers[0], device="cuda")
    y = torch.randint(0, case.layers[-1], (case.batch,), device="cuda")

    def loss() -> Any:
        with torch.autocast("cuda", kind, enabled=kind == torch.bfloat16):
            return torch.nn.functional.cross_entropy(model(X), y)

    forward = torch.compile(loss) if compiled else loss

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward().backward()
        optimizer.step()

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    median = statistics.median(times)
    return {"step": median, "rows per second": case.batch / median}


def device() -> dict[str, Any]:
    """What the results belong to."""
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(0)["name"]
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(CASES), nargs="*", default=list(CASES))
    chosen = parser.parse_args().only
    results: dict[str, Any] = {"device": device(), "memory": memory(), "graph": graph()}
    for name in chosen:
        case = CASES[name]
        for precision in case.precisions:
            found: dict[str, Any] = {"fastmlp": own_step(case, precision)}
            if find_spec("torch") is not None:
                found["torch"] = torch_step(case, precision, False)
                found["torch.compile"] = torch_step(case, precision, True)
            results[f"{name}, {precision}"] = found
            print(f"{name}, {precision}: {found}", flush=True)
    write("gpu", results)


if __name__ == "__main__":
    main()

"""What the page on the GPU promises, over the stand-in where there is no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import LAMB, MLP, Adam, kernels
from fastmlp.datasets import load_digits
from fastmlp.kernels.contract import Data, Order

from .conftest import ON_DEVICE
from .draws import on_device
from .hostcuda import standin

if kernels.available()["cupy"] is not None:
    pytest.skip(f"backend cupy: {kernels.available()['cupy']}", allow_module_level=True)

BACKEND = kernels.load("cupy")

import cupy  # noqa: E402

from fastmlp.kernels.cupy_gpu import advice, launch, rows, streaming  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "kernels" / "cupy_gpu"
X, Y = load_digits(scaling="unit")
X, Y = X[:300].astype(np.float32), Y[:300]

over_the_stand_in = pytest.mark.skipif(ON_DEVICE, reason="looks into the stand-in")


def _net(**arguments: Any) -> MLP:
    return MLP((64, 40, 33, 10), **{"backend": "cupy", "seed": 1, **arguments})


# Sums in a fixed order


def test_no_kernel_adds_in_the_order_of_arrival() -> None:
    for precision in launch.PRECISIONS:
        code = re.sub(r"//.*", "", launch.source(precision))
        assert not re.findall(r"\batomic\w*\s*\(|\bred\.|\batom\.", code)


# Nothing is allocated while a plan trains


def _epoch(net: MLP, data: Data, order: Order, batch: int = 32) -> None:
    count = -(-len(data.X) // batch)
    rates = np.full(count, 0.01)
    BACKEND.train_steps(
        *(net._engine.plan(), np.empty(count), data, order, batch, 0, count, rates, 0, 7)
    )


NETS: list[dict[str, Any]] = [
    {},
    {"dtype": "float64", "normalization": "batch", "dropout": 0.2, "l1": 1e-3},
    {"dtype": "bfloat16", "normalization": "layer", "activation": "mpelu"},
    {"dtype": "tf32", "optimizer": Adam(clip_norm=1.0), "l2": 1e-3, "activation": "maxout"},
    {"optimizer": LAMB(), "activation": "prelu"},
    {"loss": "squared_error", "output_activation": "sigmoid"},
]


@over_the_stand_in
@pytest.mark.parametrize("order", ["sequence", "keyed", "array"])
@pytest.mark.parametrize("arguments", NETS, ids=str)
def test_epochs_after_the_first_allocate_nothing(arguments: dict[str, Any], order: str) -> None:
    """Not a byte; but for a listed order, which has to come to the device."""
    net = _net(**arguments)
    kind = net.dtype
    T = Y if net._engine.network.loss == "cross_entropy" else np.eye(10, dtype=kind)[Y]
    data = Data(X.astype(kind), T, np.linspace(0.5, 1.5, len(X)).astype(kind))
    listed = np.arange(len(X))[::-1].copy() if order == "array" else None
    _epoch(net, data, Order(order, 3, listed))
    machine, counts = standin.MACHINE, []
    for key in (4, 5):
        before = machine.allocations
        _epoch(net, data, Order(order, key, listed))
        counts.append(machine.allocations - before)
    assert max(counts) <= (2 if order == "array" else 0)


@over_the_stand_in
def test_streamed_epochs_allocate_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of page-locked memory are made once, and none per batch."""
    monkeypatch.setattr(rows, "too_large", lambda X: True)
    monkeypatch.setattr(streaming, "SLAB", 2 * 32 * X[0].nbytes)
    locked: list[int] = []
    make = cupy.cuda.alloc_pinned_memory
    monkeypatch.setattr(
        cupy.cuda, "alloc_pinned_memory", lambda size: locked.append(size) or make(size)
    )
    net, data = _net(), Data(X, Y)
    _epoch(net, data, Order("keyed", 3))
    assert locked == [2 * 32 * X[0].nbytes] * 2
    before = standin.MACHINE.allocations
    _epoch(net, data, Order("keyed", 4))
    assert standin.MACHINE.allocations == before
    assert len(locked) == 2


# Precisions belong to networks


def test_networks_of_all_precisions_train_in_turn() -> None:
    """Each gives the bits that it gives alone: no switch of the process is thrown."""
    precisions = ("float32", "tf32", "float64", "bfloat16")
    alone = {p: _net(dtype=p).fit(X, Y, epochs=2, batch_size=100).loss for p in precisions}
    nets = {p: _net(dtype=p) for p in precisions}
    found: dict[str, list[float]] = {p: [] for p in precisions}
    for _ in range(2):
        for precision, net in nets.items():
            found[precision] += net.fit(X, Y, epochs=1, batch_size=100).loss
    assert found == alone
    assert len({tuple(loss) for loss in alone.values()}) == 4


def test_the_process_has_one_library_for_each_kind_of_numbers() -> None:
    for precision in ("float32", "tf32", "float64", "bfloat16"):
        _net(dtype=precision).forward(X[:3])
    assert launch._made.cache_info().currsize <= len(launch.PRECISIONS)


def test_no_switch_of_the_process_is_named() -> None:
    for path in FOLDER.rglob("*.py"):
        text = path.read_text()
        assert not re.findall(r"set_compute_type|CUPY_TF32|setMathMode|CUPY_ACCEL", text), path


# Arrays of others


class _ByDlpack:
    """An array of another library that has DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **named: Any) -> Any:
        if ON_DEVICE:
            return self.array.__dlpack__(**named)
        # The stand-in's memory is the host's, and its capsules say so.
        return self.array._host.__dlpack__()


class _ByInterface:
    """An array of another library with ``__cuda_array_interface__``."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.array.__cuda_array_interface__


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
@pytest.mark.parametrize("wrap", [lambda array: array, _ByDlpack, _ByInterface])
def test_rows_of_every_library_are_taken_where_they_lie(
    wrap: Callable[[Any], Any], dtype: str
) -> None:
    """uint8 and float16 stay what they are, and become numbers where a batch is gathered."""
    host = (16 * X).astype(dtype)
    given = on_device(host)
    net, twin = _net(), _net()
    taken: Any = net._rows(wrap(given))
    assert taken.dtype == dtype
    assert taken.data.ptr == given.data.ptr
    assert net.fit(wrap(given), Y, epochs=1).loss == twin.fit(host, Y, epochs=1).loss
    for method in ("predict", "predict_proba", "logits", "forward"):
        found = getattr(net, method)(wrap(given))
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_array_equal(found.get(), getattr(twin, method)(host))


# From one backend to another


@pytest.mark.parametrize("other", ["numpy", "numba"])
def test_networks_and_files_go_from_backend_to_backend(other: str, tmp_path: Path) -> None:
    if kernels.available()[other] is not None:
        pytest.skip(f"backend {other}: {kernels.available()[other]}")
    net = _net(dtype="float64", normalization="batch", dropout=0.1)
    net.fit(X, Y, epochs=2, batch_size=50)
    net.save(tmp_path / "net")
    loaded = MLP.load(tmp_path / "net", backend=other)
    moved = MLP.load(tmp_path / "net", backend="cupy").to(other)
    wanted = net.fit(X, Y, epochs=2, batch_size=50).loss
    for twin in (loaded, moved):
        assert twin.backend == other
        found = twin.fit(X, Y, epochs=2, batch_size=50).loss
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
    loaded.save(tmp_path / "other")
    back = MLP.load(tmp_path / "other", backend="cupy")
    np.testing.assert_allclose(back.forward(X), net.forward(X), rtol=1e-7, atol=1e-9)


def test_auto_is_a_rule() -> None:
    """The GPU for what nothing else has, and never for what the CPU can do."""
    assert MLP((2, 2), dtype="float32").backend != "cupy"
    assert MLP((2, 2), dtype="float64").backend != "cupy"
    assert {MLP((2, 2), dtype=p).backend for p in ("tf32", "bfloat16")} == {"cupy"}


# A full memory


@over_the_stand_in
@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.forward(X),
        lambda net: net.evaluate(X, Y),
        lambda net: net.gradients(X, Y),
        lambda net: net.train_on_batch(X, Y),
        lambda net: net.fit(X, Y, epochs=1, batch_size=300),
    ],
)
def test_every_call_says_what_helps_where_memory_is_full(
    call: Callable[[MLP], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = _net()
    net.fit(X[:32], Y[:32], epochs=1, batch_size=32)
    before = {name: array.copy() for name, array in net.parameters.items()}
    steps = net.steps
    monkeypatch.setattr(standin.MACHINE, "total", standin.MACHINE.used + 20_000)
    with pytest.raises(MemoryError, match="the GPU's memory is full: take smaller batches"):
        call(net)
    monkeypatch.undo()
    assert net.steps == steps
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(array, before[name])
    call(net)


@over_the_stand_in
def test_a_network_that_finds_no_room_stays_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    net = _net(backend="numpy")
    wanted = net.forward(X)
    net.to("cupy")
    monkeypatch.setattr(standin.MACHINE, "total", standin.MACHINE.used + 1000)
    with pytest.raises(MemoryError, match="memory is full"):
        net.forward(X)
    np.testing.assert_array_equal(net.to("numpy").forward(X), wanted)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError("Out of memory allocating 5 bytes"), True),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (RuntimeError("cudaErrorIllegalAddress"), False),
    ],
)
def test_errors_of_memory_become_advice_and_others_stay(error: Exception, full: bool) -> None:
    @advice.advised
    def step() -> None:
        raise error

    with pytest.raises(MemoryError if full else RuntimeError) as found:
        step()
    assert ("smaller batches" in str(found.value)) == full
    assert str(error) in str(found.value)


# Machines without a compiler


@pytest.mark.skipif(ON_DEVICE, reason="no compiler is needed on a device")
def test_without_a_compiler_the_tests_of_the_gpu_are_skipped_and_say_so() -> None:
    names = ("cupy_gpu", "hostcuda", "gpu_promises", "estimators_gpu", "bench_gpu")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in names)],
        cwd=ROOT,
        env={**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in (0, 5), done.stdout[-2000:]  # 5: nothing was left to run
    assert done.stdout.count("SKIPPED") == len(names)
    assert "backend cupy: " in done.stdout
    assert "no C++ compiler" in done.stdout

"""What only a real device can show; ``python tests/gpu/run.py`` runs this and all backend tests."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gpu

if "FASTMLP_TEST_GPU" not in os.environ:
    pytest.skip("python tests/gpu/run.py runs these on a GPU", allow_module_level=True)

import cupy  # noqa: E402

from fastmlp import MLP  # noqa: E402
from fastmlp.datasets import load_digits  # noqa: E402
from fastmlp.kernels.cupy_gpu import cublaslt, tiers  # noqa: E402

PRECISIONS = ("float32", "float64", "tf32", "bfloat16")

X, Y = load_digits(scaling="unit")


def _net(**arguments: Any) -> MLP:
    return MLP((64, 96, 64, 10), **{"backend": "cupy", "seed": 1, **arguments})


def test_memory_does_not_grow_over_a_thousand_fits() -> None:
    net, pool, used = _net(), cupy.get_default_memory_pool(), []
    for _ in range(1000):
        net.fit(X, Y, epochs=1, batch_size=500)
        used.append(pool.used_bytes())
    assert max(used[100:]) <= max(used[:100])
    del net
    gc.collect()


def test_networks_train_on_streams_of_their_own() -> None:
    alone = [_net(seed=seed) for seed in range(4)]
    together = [_net(seed=seed) for seed in range(4)]
    for net in alone:
        net.fit(X, Y, epochs=3)

    def work(net: MLP) -> None:
        with cupy.cuda.Stream(non_blocking=True) as stream:
            net.fit(X, Y, epochs=3)
            stream.synchronize()

    workers = [threading.Thread(target=work, args=(net,)) for net in together]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, two in zip(alone, together, strict=True):
        assert one.history is not None
        assert two.history is not None
        np.testing.assert_allclose(two.history.loss, one.history.loss, rtol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_call_gives_the_same_bits(precision: str) -> None:
    one, two = _net(dtype=precision), _net(dtype=precision)
    assert one.fit(X, Y, epochs=3).loss == two.fit(X, Y, epochs=3).loss


def test_own_launches_are_captured_in_a_graph() -> None:
    net = _net()
    net.fit(X, Y, epochs=1, batch_size=500)
    program = net._engine._plan.programs["train", 500, True, False]  # type: ignore[union-attr]
    launches = [step for step in program if type(step).__name__ == "Launch"]
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for launch in launches:
            launch()
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()


with_lt = pytest.mark.skipif(
    tiers.chosen().tier != "lt", reason=f"no tier lt: {tiers._unfit() or 'it was not chosen'}"
)


@with_lt
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_whole_steps_are_captured(precision: str, normalization: str | None) -> None:
    """A warning, which is an error here, would say that a capture was refused."""
    net, rows, labels = _net(dtype=precision, normalization=normalization), X.copy(), Y.copy()
    graphs: list[set[int]] = []

    def look(epoch: int, history: Any, net: Any) -> None:
        graphs.append({n for run in net._engine._plan.runs.values() for n in run.graphs})

    net.fit(rows, labels, epochs=3, batch_size=16, callbacks=[look])
    assert graphs[-1] == {1, 16}


@with_lt
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiers_train_alike(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for tier in tiers.TIERS:
        monkeypatch.setenv(tiers.VARIABLE, tier)
        net = _net(dtype=precision, dropout=0.1, l2=1e-4)
        found.append(net.fit(X, Y, epochs=5, batch_size=64).loss)
    relative = {"bfloat16": 2e-2, "tf32": 2e-3, "float32": 1e-3, "float64": 1e-9}[precision]
    np.testing.assert_allclose(found[0], found[1], rtol=relative)


@with_lt
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_product_takes_the_same_algorithm(precision: str) -> None:
    stored = {"bfloat16": "uint16", "float64": "float64"}.get(precision, "float32")
    products = cublaslt.Products(precision)
    for rows, inner, columns in ((64, 784, 50), (8192, 1024, 1024), (1, 7, 3)):
        matrices = [
            cupy.zeros(s, stored) for s in ((rows, columns), (rows, inner), (inner, columns))
        ]
        made = [products(*matrices).args[0] for _ in range(3)]  # type: ignore[attr-defined]
        assert len({bytes(product.algorithm) for product in made}) == 1


@with_lt
def test_graphs_and_buffers_of_many_fits_leave_nothing_behind() -> None:
    net, pool, used = _net(dropout=0.1), cupy.get_default_memory_pool(), []
    for batch in (32, 100, 500) * 40:
        net.fit(X, Y, epochs=2, batch_size=batch)
        gc.collect()
        used.append(pool.used_bytes())
    assert max(used[30:]) <= max(used[:30])


@with_lt
def test_replays_stay_in_the_callers_order() -> None:
    """Rows that a stream writes late are read late, by graphs as by launches."""
    rows = cupy.asarray(X.astype(np.float32))
    alone, net = _net(), _net()
    wanted = alone.fit(rows, Y, epochs=3, batch_size=50).loss
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = cupy.empty_like(rows)
        for _ in range(200):
            late[...] = cupy.random.random(rows.shape, dtype="float32")
        late[...] = rows
        assert net.fit(late, Y, epochs=3, batch_size=50).loss == wanted
        stream.synchronize()


def test_arrays_of_pytorch_are_taken_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(X.astype(np.float32)).cuda()
    net = _net()
    assert net._rows(rows).data.ptr == rows.data_ptr()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(net.predict(rows).get(), net.predict(X))  # type: ignore[attr-defined]

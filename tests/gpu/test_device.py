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


@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "bfloat16"])
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


def test_arrays_of_pytorch_are_taken_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(X.astype(np.float32)).cuda()
    net = _net()
    assert net._rows(rows).data.ptr == rows.data_ptr()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(net.predict(rows).get(), net.predict(X))  # type: ignore[attr-defined]

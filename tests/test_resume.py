"""Training that is cut in two: by files, processes, slices, backends, Ctrl-C and divergence."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastmlp import (
    LAMB,
    LARS,
    MLP,
    MPELU,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Callback,
    Cosine,
    DivergenceError,
    ExponentialDecay,
    InverseScaling,
    Maxout,
    OneCycle,
    PolynomialDecay,
    PReLU,
    RMSprop,
    StepDecay,
    WarmUp,
    kernels,
    training,
)

from .conftest import BACKENDS, ON_DEVICE, STAND_IN_ONLY_HERE
from .processes import ROOT, run

RNG = np.random.default_rng(3)
X = RNG.normal(size=(70, 5))
Y = RNG.integers(0, 3, 70)
W = RNG.random(70)


class Case(NamedTuple):
    """A network and how it is trained."""

    net: dict[str, Any]
    fit: dict[str, Any]


def _case(optimizer: Any, shuffle: Any = True, batch: int = 16, **net: Any) -> Case:
    return Case({"optimizer": optimizer, **net}, {"shuffle": shuffle, "batch_size": batch})


CASES: Mapping[str, Case] = {
    "sgd": _case("sgd", False, dtype="float64"),
    "step decay": _case(SGD(StepDecay(0.1, 0.5, 3)), "permutation", dropout=0.3),
    "momentum": _case(SGD(0.05, momentum=0.9), normalization="batch"),
    "nesterov": _case(SGD(0.05, momentum=0.9, nesterov=True), batch=7, seed="RandomState"),
    "rate in velocity": _case(
        SGD(OneCycle(0.1, 40), 0.8, rate_in_velocity=True), "permutation", seed="RandomState"
    ),
    "adam": _case("adam", dropout=0.5, seed="MT19937"),
    "adam, epsilon hat": _case(Adam(Cosine(0.01, 30), epsilon_hat=True), dtype="float64"),
    "adamw": _case(AdamW(WarmUp(Cosine(0.01, 40), 7), clip_norm=0.5), normalization="batch"),
    "rmsprop": _case(RMSprop(ExponentialDecay(0.01, 0.8)), "permutation", seed="Philox"),
    "adagrad": _case(Adagrad(InverseScaling(0.1, count="epoch"), clip_value=0.1), seed="SFC64"),
    "lars": _case(
        LARS(WarmUp(PolynomialDecay(2.0, 40, 2), 6), trust_coefficient=0.02), dropout=0.3
    ),
    "lamb": _case(LAMB(0.02, weight_decay=0.01, clip_norm=0.5), normalization="batch"),
    "everything": _case(
        Adam(WarmUp(0.01, 5), clip_norm=1.0),
        batch=70,
        layer_sizes=(5, 17, 8, 6, 3),
        activation=(MPELU(0.25), PReLU(0.1), Maxout(3)),
        normalization=("batch", "layer", "batch"),
        dropout=(0.1, 0.0, 0.3),
        l1=1e-4,
        l2=1e-3,
        penalty_scale="rows",
        reduction="sum",
        dtype="float64",
    ),
}


def _seed(kind: Any) -> Any:
    if kind == "RandomState":
        return np.random.RandomState(7)
    return np.random.Generator(getattr(np.random, kind)(7)) if isinstance(kind, str) else kind


def _net(backend: str, case: Case) -> MLP:
    chosen = {"layer_sizes": (5, 9, 3), "seed": 7, **case.net}
    return MLP(**{**chosen, "seed": _seed(chosen["seed"])}, backend=backend)


def _fit(net: MLP, case: Case, epochs: int) -> list[float]:
    return net.fit(X, Y, epochs=epochs, sample_weight=W, **case.fit).loss


def _numbers(net: MLP) -> dict[str, Any]:
    """Everything that decides how training goes on."""
    state, rng = net._engine.state(), net._engine.rng
    legacy = isinstance(rng, np.random.RandomState)
    drawn = rng.get_state(False) if legacy else rng.bit_generator.state
    return {
        **{name: a.tobytes() for name, a in net.parameters.items()},
        **{name: a.tobytes() for name, a in state._asdict().items()},
        "counts": (net.steps, net.epochs),
        "generator": repr(drawn),
    }


# Files and processes

CONTINUE = """
import json, pathlib, sys
import numpy as np
from fastmlp import MLP
data, fits = np.load("data.npz"), json.loads(pathlib.Path("fits.json").read_text())
losses = {}
for name, fit in fits.items():
    net = MLP.load(f"{name}.half", backend=sys.argv[1])
    losses[name] = net.fit(data["X"], data["y"], epochs=6, sample_weight=data["w"], **fit).loss
    net.save(f"{name}.whole")
print(json.dumps(losses))
"""


class Halves(NamedTuple):
    """What 4 epochs here and 6 in another process came to."""

    folder: Path
    backend: str
    first: dict[str, list[float]]
    second: dict[str, list[float]]


@pytest.fixture(scope="module", params=BACKENDS)
def halves(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Halves:
    """All cases: 4 epochs, a file each, and one process that goes on with all of them."""
    backend: str = request.param
    reason = kernels.available()[backend]
    if reason is not None:
        pytest.skip(f"backend {backend}: {reason}")
    if backend == "cupy" and not ON_DEVICE:
        pytest.skip(STAND_IN_ONLY_HERE)
    folder = tmp_path_factory.mktemp(backend)
    np.savez(folder / "data.npz", X=X, y=Y, w=W)
    fits = {name: case.fit for name, case in CASES.items()}
    (folder / "fits.json").write_text(json.dumps(fits))
    first = {}
    for name, case in CASES.items():
        net = _net(backend, case)
        first[name] = _fit(net, case, 4)
        net.save(folder / f"{name}.half")
    return Halves(folder, backend, first, json.loads(run(CONTINUE, backend, cwd=folder)))


@pytest.mark.parametrize("name", CASES)
def test_four_epochs_a_file_and_six_more_are_ten(name: str, halves: Halves) -> None:
    case = CASES[name]
    whole = _net(halves.backend, case)
    assert _fit(whole, case, 10) == halves.first[name] + halves.second[name]
    resumed = MLP.load(halves.folder / f"{name}.whole", backend=halves.backend)
    assert _numbers(resumed) == _numbers(whole)
    assert _fit(resumed, case, 2) == _fit(whole, case, 2)


def test_resuming_twice_and_saving_in_between(backend: str, tmp_path: Path) -> None:
    """A file for each epoch: what is not in files makes no difference."""
    case = CASES["everything"]
    whole = _net(backend, case)
    _fit(whole, case, 5)
    net = _net(backend, case)
    for _ in range(5):
        _fit(net, case, 1)
        net.save(tmp_path / "net")
        net = MLP.load(tmp_path / "net", backend=backend)
    assert _numbers(net) == _numbers(whole)


# Slices, repetitions, copies, backends


@pytest.mark.parametrize("name", ["sgd", "adam", "rate in velocity", "everything"])
def test_slices_and_repetitions_change_no_bit(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for seconds in (0.2, 0.2, 1e-9, 1e-4, 1e9):
        monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
        net = _net(backend, CASES[name])
        results.append((_fit(net, CASES[name], 3), _numbers(net)))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("name", CASES)
def test_copies_go_on_alike(name: str, backend: str) -> None:
    case = CASES[name]
    net = _net(backend, case)
    _fit(net, case, 2)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(copy.copy(net))]
    wanted = _fit(net, case, 2), _numbers(net)
    for each in copies:
        assert (_fit(each, case, 2), _numbers(each)) == wanted


@pytest.mark.parametrize("name", CASES)
def test_moving_keeps_the_state(name: str, backend: str) -> None:
    """There and back again is nothing; going on elsewhere is the same to rounding."""
    case, other = CASES[name], BACKENDS[BACKENDS.index(backend) - 1]
    if kernels.available()[other] is not None:
        pytest.skip(f"backend {other}: {kernels.available()[other]}")
    net = _net(backend, case)
    _fit(net, case, 2)
    before = _numbers(net)
    assert net.to(other).backend == other
    assert _numbers(net) == before
    assert _numbers(copy.deepcopy(net).to(backend)) == before
    stayed = copy.deepcopy(net).to(backend)
    np.testing.assert_allclose(_fit(net, case, 2), _fit(stayed, case, 2), rtol=1e-3)
    for key, array in net.parameters.items():
        np.testing.assert_allclose(array, stayed.parameters[key], rtol=0.02, atol=2e-3)


# Ctrl-C

INTERRUPTED = """
import io, json, sys, time
import numpy as np
from fastmlp import MLP, Callback, EarlyStopping

backend, progress, rows, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

class Terminal(io.StringIO):
    def isatty(self):
        return True

class Watch(Callback):
    ended, best, losses = 0, None, []
    def on_slice_end(self, history, net):
        self.tell()
    def on_epoch_end(self, epoch, history, net):
        self.losses.append(history.loss[-1])
        if history.loss[-1] == min(self.losses):
            self.best = net.snapshot()
        self.tell()
    def tell(self):
        if not told:
            told.append(1)
            print("training", flush=True)
    def on_fit_end(self, history, net):
        self.ended += 1

told, rng = [], np.random.default_rng(0)
X, y = rng.normal(size=(rows, 32)).astype(np.float32), rng.integers(0, 3, rows)
net = MLP((32, 256, 128, 3), dropout=0.1, optimizer="sgd", backend=backend, seed=1)
net.fit(X[:64], y[:64], epochs=1)
start, watch = net.epochs, Watch()
if progress == "live":
    sys.stderr = Terminal()
try:
    net.fit(X, y, epochs=10**6, batch_size=batch, progress=progress != "off",
            callbacks=[EarlyStopping("loss", 10**6), watch])
except KeyboardInterrupt:
    caught = time.time()
history = net.history
known = all(
    np.array_equal(a, b) for a, b in zip(watch.best, net.snapshot())
) if watch.best is not None else None
finite = all(np.isfinite(a).all() for a in net.parameters.values())
result = {
    "caught": caught, "ended": watch.ended, "epochs": net.epochs - start, "finite": bool(finite),
    "lengths": [len(history.loss), len(history.seconds), len(history.learning_rate)],
    "best": known, "rows": len(net.predict(X[:5])), "seen": len(watch.losses),
}
result["more"] = len(net.fit(X[:64], y[:64], epochs=2).loss)
print(json.dumps(result))
"""


def _interrupted(*arguments: str) -> dict[str, Any]:
    """Press Ctrl-C a little after training has begun; return what came of it, and the delay."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.7)
        pressed = time.time()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert first == "training\n", errors
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(rest)
    return {**found, "delay": found["caught"] - pressed}


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.parametrize("progress", ["off", "lines", "live"])
@pytest.mark.parametrize(("rows", "batch"), [(256, 32), (400_000, 64)], ids=["short", "long"])
def test_ctrl_c_in_a_long_fit(rows: int, batch: int, progress: str, shared_backend: str) -> None:
    """Epochs of milliseconds, or one that would take minutes."""
    found = _interrupted(shared_backend, progress, str(rows), str(batch))
    print(f"caught after {found['delay']:.2f} s")
    assert found["delay"] < 1
    assert found["finite"]
    assert found["ended"] == 1
    assert found["lengths"] == [found["epochs"]] * 3
    assert found["rows"] == 5
    assert found["more"] == 2
    if rows < 1000:
        assert found["epochs"] >= 1
        # One may have been recorded without the callbacks having seen it yet.
        assert found["epochs"] - found["seen"] in (0, 1)
        assert found["best"], "EarlyStopping must bring the best epoch back"
    else:
        assert found["epochs"] <= 3  # one may end before the signal comes


EVERYWHERE = """
import signal, sys
import numpy as np
from fastmlp import MLP, SGD

backend, presses = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(24, 4)), rng.integers(0, 3, 24)
options = {"optimizer": SGD(0.01, momentum=0.9), "dropout": 0.2, "normalization": "batch"}
net, twin = (MLP((4, 8, 3), backend=backend, seed=1, **options) for _ in range(2))
for each in (net, twin):
    each.fit(X, y, epochs=1, batch_size=8, shuffle=False)
seen = press_at = 0

def profile(frame, event, argument):  # Python looks for signals as functions begin and return
    global seen
    if event in ("call", "c_return"):
        seen += 1
        if seen == press_at:
            signal.raise_signal(signal.SIGINT)

def places_of_a_fit():
    global seen
    seen = 0
    sys.setprofile(profile)
    try:
        net.fit(X, y, epochs=2, batch_size=8, shuffle=False)
    finally:
        sys.setprofile(None)
    return seen

def follow(made):  # never between two halves of an update: one by one is the same
    for place in range(made):
        rows = slice(8 * (place % 3), 8 * (place % 3) + 8)
        twin.train_on_batch(X[rows], y[rows])
    for one, other in zip(net._engine.state(), twin._engine.state(), strict=True):
        np.testing.assert_array_equal(one, other)

for _ in range(2):  # the first one prepares what later ones find
    last, partly = places_of_a_fit(), 0
    follow(6)
for number in range(presses):
    press_at = 1 + number * (last - 1) // presses
    steps, epochs, before = net.steps, net.epochs, net.history
    try:
        places_of_a_fit()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError(f"Ctrl-C at place {press_at} of {last} was lost")
    history, made = net.history, net.steps - steps
    whole = len(history) if history is not before else 0
    assert len(history.loss) == len(history.seconds) == len(history.learning_rate), history
    assert net.epochs - epochs == whole, (press_at, net.epochs - epochs, whole)
    assert 3 * whole <= made <= 3 * whole + 3, (press_at, made, whole)
    partly += made > 3 * whole
    follow(made)
print(presses, partly)
"""


def test_ctrl_c_at_every_place(shared_backend: str) -> None:
    """Wherever it comes: whole updates, whole entries of the history, and training goes on.

    A profiling function presses, at places spread over a fit: no clock, no thread.
    """
    presses, partly = map(int, run(EVERYWHERE, shared_backend, "1000").split())
    assert presses == 1000
    assert partly > 0


# Divergence


class _Ends(Callback):
    """Counts the ends of fits."""

    ended = 0

    def on_fit_end(self, history: Any, net: Any) -> None:
        self.ended += 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [
        *(SGD(0.01), SGD(0.01, momentum=0.9), Adam(0.01), AdamW(0.01), RMSprop(0.01)),
        *(Adagrad(0.01), LARS(0.01), LAMB(0.01)),
    ],
    ids=lambda optimizer: type(optimizer).__name__ + "*" * bool(optimizer.rule().constants[:1]),
)
def test_divergence_leaves_the_last_finite_epoch(optimizer: Any, dtype: str, backend: str) -> None:
    """Three epochs, then a rate beyond all bounds."""
    options = {"loss": "squared_error", "normalization": "batch", "dropout": 0.1, "seed": 2}
    net, twin, ends = (
        *(
            MLP((5, 8, 1), optimizer=optimizer, dtype=dtype, backend=backend, **options)
            for _ in range(2)
        ),
        _Ends(),
    )

    def explode(epoch: int, history: Any, net: Any) -> None:
        if epoch == 3:
            net.learning_rate = 1e300

    fit: dict[str, Any] = {"batch_size": 16, "shuffle": False}
    with pytest.raises(DivergenceError, match="epoch 4"):
        net.fit(X, X[:, 0], epochs=9, callbacks=[explode, ends], **fit)
    twin.fit(X, X[:, 0], epochs=3, **fit)
    assert net.history is not None
    assert len(net.history) == 3
    assert ends.ended == 1
    assert _numbers(net) == _numbers(twin)
    net.learning_rate = 0.01
    assert net.fit(X, X[:, 0], epochs=2, **fit).loss == twin.fit(X, X[:, 0], epochs=2, **fit).loss
    assert _numbers(net) == _numbers(twin)

"""Ctrl-C in calls of the Numba kernels that take seconds."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fastmlp import MLP, kernels
from fastmlp.kernels.interrupts import deferred, held_back

from .processes import run

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)
if os.name == "nt":
    pytest.skip("no signals there", allow_module_level=True)

SOON = 2.0
"""Seconds; 0.1 where nothing else runs. A call that can't be ended takes 5 more."""

LONG = """
import json, os, signal, sys, threading, time
import numpy as np
import fastmlp
from fastmlp import MLP, Adam, Callback, LAMB, SGD
from fastmlp.kernels.numba_cpu import crew, fields

threads, normalization, optimizer = int(sys.argv[1]), sys.argv[2] or None, eval(sys.argv[3])
signal.signal(signal.SIGINT, signal.default_int_handler)
fastmlp.set_num_threads(threads)
rng = np.random.default_rng(0)
options = {"normalization": normalization, "dropout": 0.1, "l2": 1e-4, "optimizer": optimizer}
sizes = (32, 2048, 2048, 10)
net, twin = (MLP(sizes, backend="numba", seed=1, **options) for _ in range(2))

def data(rows):
    return rng.normal(size=(rows, sizes[0])).astype("f4"), rng.integers(0, 10, rows)

def rows_for(seconds, call):
    few = data(1024)
    call(*few)
    started = time.perf_counter()
    call(*few)
    return int(1024 * seconds / (time.perf_counter() - started))

def touch(rows):
    # What a system takes to give memory for the first time is no matter of these tests: here the
    # first block of rows touches nearly all pages, and that took 1.8 s on a loaded machine.
    plan = net._engine.plan()
    plan.reserve(rows, threads)
    plan.memory[int(plan.table[fields.PERSISTENT]):] = 0
    plan.fresh = False

pressed = []

def press():
    pressed.append(time.time())
    os.kill(os.getpid(), signal.SIGINT)

def interrupted(call, after=0.5):
    timer = threading.Timer(after, press)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        delay = time.time() - pressed[-1]
    else:
        raise AssertionError("the call ended before, or Ctrl-C was lost")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(crew._idle) == sum(each.name == "fastmlp" for each in threading.enumerate())
    return delay

def same():
    for one, other in zip(net._engine.state(), twin._engine.state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (net.steps, net.epochs) == (twin.steps, twin.epochs)
"""

UNCHANGED = (
    LONG
    + """
for each in (net, twin):
    each.train_on_batch(*data(64)) if each is net else each._engine.set_state(net._engine.state())
twin._engine.steps = net._engine.steps
X, y = data(rows_for(6.0, lambda X, y: net.gradients(X, y)))
touch(len(X))
many, labels = data(rows_for(6.0, lambda X, y: net.evaluate(X, y)))
calls = {
    "train_on_batch": lambda: net.train_on_batch(X, y),
    "gradients": lambda: net.gradients(X, y, training=True),
    "gradients, evaluating": lambda: net.gradients(X, y),
    "evaluate": lambda: net.evaluate(many, labels, metrics=("accuracy",)),
    "predict": lambda: net.predict(many),
    "predict_proba": lambda: net.predict_proba(many),
    "logits": lambda: net.logits(many),
}
delays = {}
for name, call in calls.items():
    delays[name] = interrupted(call)
    same()
few = many[:3]
np.testing.assert_array_equal(net.forward(few), twin.forward(few))
for each in (net, twin):
    each.fit(X[:128], y[:128], epochs=1, batch_size=64, shuffle=False)
same()
print(json.dumps(delays))
"""
)

TRAINED = (
    LONG
    + """
class Ends(Callback):
    ended = 0
    def on_fit_end(self, history, net):
        self.ended += 1

rows = rows_for(3.0, lambda X, y: net.gradients(X, y, training=True))
touch(rows)
X, y = data(3 * rows + 7)
ends, delays = Ends(), {}
for after in (1.0, 4.5):
    before = net.steps
    delays[str(after)] = interrupted(
        lambda: net.fit(X, y, epochs=9, batch_size=rows, shuffle=False, callbacks=[ends]), after
    )
    made = net.steps - before
    delays[f"updates in {after}"] = made
    for number in range(made):
        part = slice(number % 4 * rows, min((number % 4 + 1) * rows, len(X)))
        twin.train_on_batch(X[part], y[part])
    twin._engine.epochs = net.epochs
    same()
    entries = len(net.history)
    assert entries == len(net.history.seconds)
    # Four, too: Ctrl-C came amid the last batch of an epoch, which then gets no entry.
    assert 0 <= made - 4 * entries <= 4, (made, entries)
assert ends.ended == 2
print(json.dumps(delays))
"""
)

CASES = {
    "one thread": ("1", "", "SGD(0.01, momentum=0.9)"),
    "two threads": ("2", "", "Adam(0.001)"),
    "batch statistics": ("2", "batch", "SGD(0.01)"),
    "the whole gradient": ("2", "batch", "LAMB(0.01, clip_norm=1.0)"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_long_call_ends_soon_and_changes_nothing(case: str) -> None:
    delays = json.loads(run(UNCHANGED, *CASES[case]))
    print({name: f"{delay:.2f} s" for name, delay in delays.items()})
    assert len(delays) == 7
    assert max(delays.values()) < SOON


@pytest.mark.parametrize("case", CASES)
def test_a_fit_of_long_steps_keeps_whole_updates(case: str) -> None:
    found = json.loads(run(TRAINED, *CASES[case]))
    print(found)
    assert max(found["1.0"], found["4.5"]) < SOON


STRESS = """
import os, random, signal, sys, threading, time
import numpy as np
import fastmlp
from fastmlp import MLP, SGD
from fastmlp.kernels.numba_cpu import steps

signal.signal(signal.SIGINT, signal.default_int_handler)
threads, two_passes, clip, normalization, seed = (int(word) for word in sys.argv[1:])
random.seed(seed)
fastmlp.set_num_threads(threads)
steps.SMALL = steps.WORTH_A_THREAD = 1.0
steps.LONG = 1.0
steps.LONG_ITEMS, steps.MANY_ROWS = (0.0, 0) if two_passes else (1e99, 0)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(1500, 40)).astype("f4"), rng.integers(0, 5, 1500)
options = {
    "normalization": "batch" if normalization else None,
    "dropout": 0.2,
    "optimizer": SGD(0.01, momentum=0.9, **({"clip_norm": 0.1} if clip else {})),
}
net, twin = (MLP((40, 120, 90, 5), backend="numba", seed=1, **options) for _ in range(2))
for each in (net, twin):
    each.fit(X, y, epochs=1, batch_size=300, shuffle=False)
wanted, places, halted = net.forward(X), set(), 0
for _ in range(100):
    before = net.steps
    pause = random.uniform(0.0, 0.04)
    def press():
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=press)
    try:
        thread.start()
        net.fit(X, y, epochs=10**9, batch_size=300, shuffle=False)
    except KeyboardInterrupt:
        pass
    thread.join()
    halted += int(net._engine._plan.table[steps.fields.HALT]) == steps.fields.WANTED
    places.add((net.steps - before) % 5)
    for number in range(net.steps - before):
        part = slice(300 * (number % 5), 300 * (number % 5 + 1))
        twin.train_on_batch(X[part], y[part])
    for one, other in zip(net._engine.state(), twin._engine.state(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(net.forward(X), twin.forward(X))
print(len(places), halted)
"""


@pytest.mark.parametrize("normalization", ["0", "1"])
@pytest.mark.parametrize("clip", ["0", "1"])
@pytest.mark.parametrize("two_passes", ["0", "1"])
def test_the_team_leaves_in_step(
    two_passes: str, clip: str, normalization: str, pytestconfig: pytest.Config
) -> None:
    """At a hundred moments, three threads on whatever cores there are: whole updates, no hang."""
    seed = str(pytestconfig.getoption("--seed", 0) or 0)
    places, halted = run(STRESS, "3", two_passes, clip, normalization, seed).split()
    print(f"seed {seed}: ended after {places} of 5 batches, {halted} times amid one")
    assert int(halted) > 0


OTHERS = """
import os, signal, sys, threading, time
import numpy as np
import fastmlp
from fastmlp import MLP
from fastmlp.kernels.numba_cpu import crew

fastmlp.set_num_threads(2)
rng = np.random.default_rng(0)
net = MLP((32, 1024, 1024, 10), backend="numba", seed=1)
X, y = rng.normal(size=(60_000, 32)).astype("f4"), rng.integers(0, 10, 60_000)
few = net.gradients(X[:50], y[:50])
wanted = net.forward(X[:3])
alone = net.gradients(X, y)
def send(number, after=0.2):
    threading.Timer(after, os.kill, (os.getpid(), number)).start()
def same(found):
    assert found.loss == alone.loss
    for one, other in zip(found.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(one, other)

# A handler of the program's own: it is called, and the call goes on to its end.
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
send(signal.SIGINT)
same(net.gradients(X, y))
assert seen == [signal.SIGINT]

# Another thread has no signals: its call goes on to its end.
signal.signal(signal.SIGINT, signal.default_int_handler)
found = []
worker = threading.Thread(target=lambda: found.append(net.gradients(X, y)))
worker.start()
send(signal.SIGINT)
try:
    worker.join()
    raise AssertionError("the main thread must hear it")
except KeyboardInterrupt:
    pass
while not found:  # not worker.join(), which Python 3.11 takes for done now
    time.sleep(0.01)
same(found[0])

# The handler of another signal raises: that is passed on, and nobody works any more.
class Late(Exception):
    pass
def late(number, frame):
    raise Late
signal.signal(signal.SIGALRM, late)
for call in (net.gradients, net.evaluate, net.train_on_batch):
    send(signal.SIGALRM)
    try:
        call(*((np.tile(X, (5, 1)), np.tile(y, 5)) if call == net.evaluate else (X, y)))
    except Late:
        pass
    else:
        print("too fast for the alarm", call)
    time.sleep(0.3)
    assert threading.active_count() == 1 + len(crew._idle), threading.enumerate()
    np.testing.assert_array_equal(net.forward(X[:3]), wanted)
same(net.gradients(X, y))
print("whole")
"""


def test_handlers_of_others_and_other_threads() -> None:
    assert run(OTHERS).split()[-1] == "whole"


@pytest.fixture
def _default_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_default_ctrl_c")
def test_what_is_held_back_is_seen_from_within() -> None:
    assert held_back() is None
    seen: list[object] = []
    with pytest.raises(KeyboardInterrupt), deferred():
        assert held_back() == []
        signal.raise_signal(signal.SIGINT)
        with deferred():  # only the outer one raises
            assert held_back() == [signal.SIGINT]
            worker = threading.Thread(target=lambda: seen.append(held_back()))
            worker.start()
            worker.join()
        seen.append("outer")
    assert seen == [None, "outer"]
    assert held_back() is None


@pytest.mark.usefixtures("_default_ctrl_c")
def test_the_first_step_of_another_size_is_one_slice() -> None:
    """The pace of large batches says little about single rows."""
    X, y = np.zeros((20_000, 3), np.float32), np.zeros(20_000, np.int64)
    net = MLP((3, 2), backend="numba", seed=1)
    net.fit(X, y, epochs=3, batch_size=len(X))
    lengths: list[int] = []
    run_steps = net._engine.run_steps
    net._engine.run_steps = lambda losses, *rest: (  # type: ignore[method-assign]
        lengths.append(len(losses.each)),
        run_steps(losses, *rest),
    )[1]
    net.fit(X, y, epochs=1, batch_size=1)
    assert lengths[0] == 1
    assert sum(lengths) == len(X)

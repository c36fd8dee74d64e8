"""Threads, forks and exits: nothing hangs, nothing crashes, no bit changes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from fastmlp import kernels

from .processes import run

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

from fastmlp.kernels.numba_cpu import crew

SETUP = """
import multiprocessing, os, signal, sys, threading, time, warnings
import numpy as np
import fastmlp
from fastmlp import MLP
from fastmlp.kernels.numba_cpu import crew, jit, steps

warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about forks beside threads
fastmlp.set_num_threads(2)
steps.SMALL, steps.WORTH_A_THREAD = 1.0, 0.0  # a team for everything
rng = np.random.default_rng(0)
X, y = rng.normal(size=(600, 20)).astype("f4"), rng.integers(0, 3, 600)

def new():
    return MLP((20, 32, 3), backend="numba", seed=1, normalization="batch", dropout=0.1)

def trained(net=None, epochs=3, **options):
    net = net or new()
    net.fit(X, y, epochs=epochs, batch_size=100, **options)
    return net

def numbers(net):
    return b"".join(part.tobytes() for part in net._engine.state())

def in_child(work):
    # os.fork: the child's answer by its exit status, 0 for true
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


# Several Python threads


def test_two_threads_train_two_networks_and_one_network() -> None:
    """One network from two threads: each call sees it between two slices, a second fit is told."""
    code = """
wanted = numbers(trained(epochs=40))
nets, told, errors = [new(), new()], [], []

def work(net):
    try:
        trained(net, epochs=40)
    except Exception as error:
        errors.append(error)

def look(net):
    try:
        for _ in range(50):
            assert np.isfinite(net.predict_proba(X)).all()
            net.evaluate(X, y)
            net.gradients(X, y)
            net.parameters
            try:
                trained(net, epochs=0)
            except RuntimeError as error:
                told.append(str(error))
    except Exception as error:
        errors.append(error)

workers = [threading.Thread(target=f, args=(net,)) for f in (work, look) for net in nets]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert not errors, errors
assert all("being trained" in text for text in told)
assert [numbers(net) for net in nets] == [wanted, wanted]
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


@pytest.mark.parametrize("interval", ["1e-6", "1000"])
def test_extreme_switch_intervals(interval: str) -> None:
    """Two fits and a spinning thread, where Python changes threads always or never by itself."""
    code = """
wanted = numbers(trained())
sys.setswitchinterval(float(sys.argv[1]))
found, ended = [], []

def spin():  # asks nobody to change threads, but for this
    while len(found) < 2:
        sum(range(1000))
        time.sleep(0)

threads = [threading.Thread(target=lambda: found.append(numbers(trained()))) for _ in range(2)]
threads.append(threading.Thread(target=spin))
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [wanted, wanted]
print("whole")
"""
    assert run(SETUP + code, interval, timeout=120).split() == ["whole"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a thread choose")
def test_a_thread_goes_to_a_core_that_no_other_of_its_team_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) == 1:
        pytest.skip("there is one core only")
    first, free = min(everywhere), max(everywhere)
    where, places = crew._current_core, list[int]()
    assert where is not None

    def current() -> int:
        """Each thread begins on the first core; later it is where it really is."""
        places.append(where() if places else first)
        return places[-1]

    monkeypatch.setattr(crew, "_current_core", current)

    def take(cores: crew._Cores, allowed: set[int]) -> tuple[list[int], set[int]]:
        """Let a new thread that may run on some cores take one: where it was, where it may go."""
        places.clear()
        seen = []

        def work() -> None:
            os.sched_setaffinity(0, allowed)
            cores.take()
            seen.append(os.sched_getaffinity(0))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return places.copy(), seen[0]

    for _ in range(40):
        cores = crew._Cores()
        cores._taken |= everywhere - {free}
        assert take(cores, everywhere) == ([first, free], everywhere)
        assert cores._taken == everywhere
        # Nothing is free for these; the first may not even leave.
        assert take(cores, {first}) == ([first], {first})
        assert take(cores, everywhere) == ([first], everywhere)


def test_other_python_threads_go_on_while_kernels_run() -> None:
    """The GIL is free: during one call of a kernel another thread makes progress."""
    code = """
net = MLP((64, 512, 512, 10), backend="numba", seed=1)
fastmlp.set_num_threads(1)
X, y = rng.normal(size=(20_000, 64)).astype("f4"), rng.integers(0, 10, 20_000)
net.gradients(X[:10], y[:10])
seen, entered, stop = [], [], []
start = steps._run

def noted(plan, job, *rest):
    if job != steps.REFRESH: entered.append(len(seen))
    result = start(plan, job, *rest)
    if job != steps.REFRESH: entered.append(len(seen))
    return result

def count():
    while not stop:
        seen.append(0)
        time.sleep(0.001)

steps._run = noted
counter = threading.Thread(target=count)
counter.start()
for call in (lambda: net.gradients(X, y), lambda: net.train_on_batch(X, y),
             lambda: net.predict(np.tile(X, (5, 1)))):
    entered.clear()
    call()
    print(entered[1] - entered[0])
stop.append(True)
counter.join()
"""
    progress = [int(word) for word in run(SETUP + code, timeout=120).split()]
    assert len(progress) == 3
    assert min(progress) > 10


def test_threads_are_kept_and_hold_on_to_nothing() -> None:
    """As many as have worked at once, whoever called; a network that is gone takes its plan."""
    code = """
import gc, weakref

def kept():
    return [each for each in threading.enumerate() if each.name == "fastmlp"]

net = trained()
[member] = kept()
for _ in range(5):
    trained(net)
    net.predict(X)
    assert kept() == [member] and len(crew._idle) == 1
plan = weakref.ref(net._engine.plan())
del net
gc.collect()
for _ in range(1000):  # the thread may not have had its turn yet
    if plan() is None:
        break
    time.sleep(0.01)
assert plan() is None

inside = threading.Barrier(4, timeout=60)

def call(thread, size):
    inside.wait()  # until both teams are there
    return 0.0

both = [threading.Thread(target=crew.run_team, args=(call, 2)) for _ in range(2)]
for each in both: each.start()
for each in both: each.join()
assert len(kept()) == len(crew._idle) == 2
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a thread choose")
def test_threads_that_are_kept_go_where_their_caller_may() -> None:
    code = """
everywhere = os.sched_getaffinity(0)
seen = {}

def call(thread, size):
    seen[thread] = os.sched_getaffinity(0)
    return 0.0

for allowed in (everywhere, {max(everywhere)}, {min(everywhere)}, everywhere):
    os.sched_setaffinity(0, allowed)
    crew.run_team(call, 2)
    assert seen == {0: allowed, 1: allowed}, seen
    assert len(crew._idle) == 1
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


def _wait_until(true: Callable[[], bool]) -> None:
    ending = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ending
        time.sleep(0.001)


def test_what_a_signal_raises_before_a_team_works_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first member has been asked, the second has not; and one that fails tells its caller."""
    ask, asked = crew._Member.ask, []

    def late(member: crew._Member, work: Callable[[], None]) -> None:
        if asked:
            raise TimeoutError
        asked.append(member)
        ask(member, work)

    def call(thread: int, size: int) -> float:
        calls.append((thread, size))
        if thread == failing:
            raise ValueError("of a member")
        return float(size)

    calls, failing = list[tuple[int, int]](), -1
    with monkeypatch.context() as patched:
        patched.setattr(crew._Member, "ask", late)
        with pytest.raises(TimeoutError):
            crew.run_team(call, 3)
    _wait_until(lambda: asked[0] in crew._idle)
    here, take = threading.current_thread(), crew._Cores.take

    def interrupted(cores: crew._Cores) -> None:
        if threading.current_thread() is here:
            raise TimeoutError
        take(cores)

    kept = len(crew._idle)
    with monkeypatch.context() as patched:
        patched.setattr(crew._Cores, "take", interrupted)
        with pytest.raises(TimeoutError):
            crew.run_team(call, 2)
    _wait_until(lambda: len(crew._idle) == kept)
    assert not calls
    assert crew.run_team(call, 3) == 3.0
    assert sorted(calls) == [(0, 3), (1, 3), (2, 3)]
    failing = 2
    with pytest.raises(ValueError, match="of a member"):
        crew.run_team(call, 3)
    failing = -1
    assert crew.run_team(call, 3) == 3.0


REFUSED = """
start, refused = threading.Thread.start, []

def sometimes(self):
    if self.daemon and len(refused) < allowed:
        refused.append(1)
        raise RuntimeError("can't start new thread")
    start(self)

wanted = [numbers(trained()), new().forward(X).tobytes()]
threading.Thread.start = sometimes
for long in (5e9, 1.0):
    steps.LONG = long
    for allowed in (10**9, 1, 0):
        refused.clear()
        crew._idle.clear()
        assert [numbers(trained()), new().forward(X).tobytes()] == wanted
        assert bool(refused) == bool(allowed)
print("whole")
"""


def test_the_system_gives_no_more_threads() -> None:
    """Whatever is refused, the work is done by those who are there."""
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    assert run(SETUP + code + REFUSED, timeout=120).split() == ["whole"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts threads there")
def test_a_real_limit_on_threads() -> None:
    """A process that may not start one thread more; root is above such limits."""
    code = """
import resource
wanted = numbers(trained())
crew._idle.clear()
if os.geteuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    assert numbers(trained()) == wanted
    print("whole")
else:
    print("no limit here")
"""
    words = run(SETUP + code, timeout=120).strip()
    if words.endswith("no limit here"):
        pytest.skip("this system refuses no thread")
    assert words == "whole"


# Forks


@fork
def test_a_forked_child_trains_and_so_does_its_parent() -> None:
    code = """
net, twin = trained(), trained()
after = numbers(trained(twin))
child = lambda: numbers(trained(net)) == after and len(net.predict(X)) == 600
assert in_child(child) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = [pool.apply_async(trained) for _ in range(4)]
    assert {numbers(each.get(60)) for each in found} == {numbers(trained())}
assert numbers(trained(net)) == after
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


@fork
def test_forks_while_another_thread_trains() -> None:
    """Locks that the thread had are no use in the child: new networks and old ones must work."""
    code = """
net, idle, wanted = trained(), trained(), numbers(trained())
answer = net.compiled_predictor()
after = numbers(trained(trained()))
X, y = np.tile(X, (50, 1)), np.tile(y, 50)
few = X[:600], y[:600]
ended = []

def work():
    while not ended:
        net.fit(X, y, epochs=1, batch_size=100)

def child():
    global X, y
    X, y = few
    assert numbers(trained()) == wanted
    assert numbers(trained(idle)) == after
    assert len(answer(X[:1])) == 1
    try:  # half of an update may have been made
        net.predict(X)
        trained(net)
    except RuntimeError as error:
        assert "forked" in str(error), error
    return True

worker = threading.Thread(target=work)
worker.start()
results = []
for _ in range(30):
    results.append(in_child(child))
    time.sleep(0.01)
ended.append(True)
worker.join()
assert results == [0] * 30, results
assert np.isfinite(net.predict(X)).all()
print("whole")
"""
    assert run(SETUP + code, timeout=200).split() == ["whole"]


@fork
@pytest.mark.parametrize("kind", ["default_rng", "RandomState"])
def test_a_fork_waits_for_a_draw(kind: str) -> None:
    """NumPy's generators have locks; a child can't make them anew."""
    code = f"""
net = MLP((20, 8, 3), backend="numba", seed=np.random.{kind}(3))
source = net._engine.rng
bits = source.bit_generator if hasattr(source, "bit_generator") else source._bit_generator
drawing, forked = threading.Event(), []

def draw():
    with bits.lock:
        drawing.set()
        time.sleep(0.3)
        forked.append(time.perf_counter())

thread = threading.Thread(target=draw)
thread.start()
drawing.wait()
assert in_child(lambda: len(net.fit(X, y, epochs=1)) == 1) == 0
assert forked
thread.join()
net.fit(X, y, epochs=1)  # and the parent has let it go
with bits.lock:  # held by the one that forks, as in a draw whose callback forks
    assert in_child(lambda: len(net.fit(X, y, epochs=1)) == 1) == 0
print("drawn")
"""
    assert run(SETUP + code, timeout=60).split() == ["drawn"]


@fork
def test_a_fork_waits_for_a_compilation() -> None:
    """A child that was forked amid one would wait for its end without end."""
    code = """
wanted, held, order = numbers(trained()), threading.Event(), []

def compiling():
    with jit._lock:
        held.set()
        time.sleep(0.5)
        order.append("compiled")

worker = threading.Thread(target=compiling)
worker.start()
held.wait()
jit._ready.clear()  # the child wants the lock
assert in_child(lambda: numbers(trained()) == wanted and order == ["compiled"]) == 0
worker.join()
assert numbers(trained()) == wanted
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


@fork
def test_a_network_that_was_in_the_middle_of_an_update_is_refused_in_the_child() -> None:
    code = """
net, inside, go_on = trained(), threading.Event(), threading.Event()
start = steps.run_job.of("float32")

def slow(*arguments):
    if arguments[0] == steps.TRAIN and threading.current_thread() is worker:
        inside.set()
        go_on.wait()
    return start(*arguments)

fastmlp.set_num_threads(1)
steps.run_job._doors["float32"] = slow
worker = threading.Thread(target=lambda: trained(net))
worker.start()
inside.wait()

def child():
    refused = 0
    for call in (lambda: net.predict(X), lambda: trained(net), lambda: net.weights,
                 lambda: net.gradients(X, y), lambda: net.save("never")):
        try:
            call()
        except RuntimeError as error:
            refused += "load or copy it before" in str(error)
    return refused == 5

assert in_child(child) == 0
go_on.set()
worker.join()
net.predict(X)
assert in_child(lambda: len(net.predict(X)) == 600) == 0  # the next one finds it whole
print("whole")
"""
    assert run(SETUP + code, timeout=120).split() == ["whole"]


# The end of the interpreter


@pytest.mark.parametrize("rows", ["600", "60000"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_exit_while_a_daemon_thread_trains(threads: str, rows: str) -> None:
    code = """
fastmlp.set_num_threads(int(sys.argv[1]))
rows, pause = int(sys.argv[2]), float(sys.argv[3])
X, y = np.tile(X, (rows // 600, 1)), np.tile(y, rows // 600)
net = MLP((20, 256, 256, 3), backend="numba", seed=1)
net.fit(X[:600], y[:600], epochs=1)
worker = threading.Thread(
    target=lambda: net.fit(X, y, epochs=10**9, batch_size=rows // 2), daemon=True)
worker.start()
time.sleep(pause)
print("exits", flush=True)
"""
    for pause in ("0.0", "0.05", "0.3"):
        assert run(SETUP + code, threads, rows, pause, timeout=60).split() == ["exits"]


def test_an_exit_waits_for_a_thread_that_is_no_daemon() -> None:
    code = """
wanted = numbers(trained(epochs=300))
def work():
    print(numbers(trained(epochs=300)) == wanted)
threading.Thread(target=work).start()
"""
    assert run(SETUP + code, timeout=120).split() == ["True"]

"""What only the Numba backend promises: accuracy of its polynomials, bits across threads, cache."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, kernels
from fastmlp.kernels.contract import Array, Data, Layer, Network, Order, State, Update
from fastmlp.kernels.layout import length, parameter_segments, running_segments

if kernels.available()["numba"] is not None:
    pytest.skip("numba is not installed", allow_module_level=True)

import numba

from fastmlp.kernels.numba_cpu import elementary, fields, intrinsics, steps
from fastmlp.kernels.numba_cpu.company import Company

from .draws import UPDATE_CONSTANTS

ROOT = Path(__file__).resolve().parents[1]
BACKEND = kernels.load("numba")


# Elementary functions against the C library's doubles


def _vectorized(function: Any) -> Callable[[Array, Array], None]:
    @numba.njit(error_model="numpy")
    def apply(x: Array, out: Array) -> None:
        for i in range(x.size):
            out[i] = function(x[i])

    return apply


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


FUNCTIONS = {
    "exp": (math.exp, -87.0, 88.0),
    "expm1_negative": (math.expm1, -30.0, 0.0),
    "log": (math.log, 1e-30, 50.0),
    "log1p_unit": (math.log1p, 0.0, 1.0),
    "tanh": (math.tanh, -20.0, 20.0),
    "sigmoid": (_logistic, -80.0, 80.0),
    "softplus": (_softplus, -80.0, 80.0),
    "normal_distribution": (lambda x: 0.5 * math.erfc(-x * math.sqrt(0.5)), -5.0, 9.0),
}

# Units in the last place: 2 for the function, 1 for the C library's double that it is held against.
ULPS = {"float32": 2.0, "float64": 3.0}


@pytest.mark.parametrize("dtype", ULPS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_are_accurate(name: str, dtype: str, rng: np.random.Generator) -> None:
    exact, low, high = FUNCTIONS[name]
    x = np.concatenate([rng.uniform(low, high, 20_000), rng.uniform(low, high, 5_000) * 0.01])
    x = np.clip(x, low, high).astype(dtype)
    found = np.empty_like(x)
    _vectorized(getattr(elementary, name))(x, found)
    wanted = np.array([exact(float(value)) for value in x])
    # Phi multiplies the relative error of exp(-x^2/2) by x^2/2: it is held to numbers around 1.
    unit = 1.0 if name == "normal_distribution" else 0.0
    spacing = np.spacing(np.maximum(np.abs(wanted), unit).astype(dtype)).astype(np.float64)
    assert np.max(np.abs(found - wanted) / spacing) <= ULPS[dtype]


@pytest.mark.parametrize("dtype", ULPS)
def test_elementary_functions_at_the_edges(dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -1e4, 1e4], dtype)
    edges = {
        "exp": [np.nan, np.inf, 0, 1, 0, np.inf],
        "tanh": [np.nan, 1, -1, 0, -1, 1],
        "sigmoid": [np.nan, 1, 0, 0.5, 0, 1],
        "normal_distribution": [np.nan, 1, 0, 0.5, 0, 1],
        "softplus": [np.nan, np.inf, 0, math.log(2), 0, 1e4],
    }
    for name, wanted in edges.items():
        found = np.empty_like(x)
        _vectorized(getattr(elementary, name))(x, found)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=name)


# Whole training runs


class _Case:
    """A small training problem on which every code path of a step is taken."""

    def __init__(self, rng: np.random.Generator, dtype: str, network: Network, rule: Update):
        self.network, self.rule, self.dtype = network, rule, dtype
        rows = 150
        self.X = rng.normal(size=(rows, network.layers[0].inputs)).astype(dtype)
        self.T = rng.integers(0, network.layers[-1].units, rows)
        self.w = rng.uniform(0, 1, rows).astype(dtype)
        segments = parameter_segments(network)
        self.start = (rng.normal(size=length(segments)) * 0.3).astype(dtype)
        for segment in segments:
            if segment.kind in ("scale", "beta"):
                segment.view(self.start)[...] = 1

    def train(self, threads: int, batch: int = 60, epochs: int = 3) -> tuple[Array, ...]:
        """Parameters, slots, running statistics, losses and outputs after training."""
        slots = BACKEND.UPDATES[self.rule.name].slots
        running = np.full(length(running_segments(self.network)), 0.7, self.dtype)
        state = State(self.start.copy(), np.zeros((slots, self.start.size), self.dtype), running)
        plan = BACKEND.make_plan(self.network, self.rule, self.dtype)
        plan.threads = threads
        plan.load(state)
        count = -(-len(self.X) // batch)
        losses = np.zeros(count * epochs)
        made = 0
        for epoch in range(epochs):
            made += BACKEND.train_steps(
                plan,
                losses[epoch * count : (epoch + 1) * count],
                Data(self.X, self.T, self.w),
                Order("keyed", 99 + epoch),
                batch,
                0,
                count,
                np.full(count, 0.02),
                made,
                7,
            )
        out = np.empty((len(self.X), self.network.layers[-1].units), self.dtype)
        BACKEND.forward(plan, out, self.X, False)
        plan.store(state)
        return (*state, losses, out)


def _network(activation: str, normalization: str | None, dropout: float = 0.0) -> Network:
    pieces = 3 if activation == "maxout" else 1
    layers = (
        Layer(19, 33, activation, 0.01, pieces, normalization, dropout),
        Layer(33, 17, activation, 0.01, pieces, normalization, dropout),
        Layer(17, 5, "softmax"),
    )
    return Network(layers, "cross_entropy", l1=1e-3, l2=1e-2)


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a team to problems of any size."""
    monkeypatch.setattr(steps, "SMALL", 1.0)
    monkeypatch.setattr(steps, "WORTH_A_THREAD", 0.0)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "prelu", "mpelu", "maxout", "gelu"])
def test_threads_change_no_bit(
    activation: str, normalization: str | None, dtype: str, rng: np.random.Generator
) -> None:
    rule = Update("adamw", (0.9, 0.99, 1e-8, 0.01), clip_value=0.5, clip_norm=0.5)
    case = _Case(rng, dtype, _network(activation, normalization, dropout=0.2), rule)
    alone = case.train(1)
    for threads in (2, 3):
        for one, many in zip(alone, case.train(threads), strict=True):
            np.testing.assert_array_equal(one, many)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("rule", list(BACKEND.UPDATES))
def test_threads_change_no_bit_for_any_optimizer(rule: str, rng: np.random.Generator) -> None:
    case = _Case(rng, "float32", _network("tanh", None), Update(rule, UPDATE_CONSTANTS[rule]))
    for one, two in zip(case.train(1), case.train(2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 9])
def test_a_team_shares_the_update_of_few_rows(
    batch: int,
    normalization: str | None,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = Update("adam", (0.9, 0.99, 1e-8))
    case = _Case(rng, "float32", _network("tanh", normalization, 0.2), rule)
    alone = case.train(1, batch, 2)
    teams: list[int] = []

    def noted(company: Company, size: int, guess: float) -> None:
        teams.append(size)
        begin(company, size, guess)

    begin = Company.begin
    monkeypatch.setattr(Company, "begin", noted)
    for threads in (2, 3, 5, 9):
        for one, many in zip(alone, case.train(threads, batch, 2), strict=True):
            np.testing.assert_array_equal(one, many)
        assert max(teams) == min(threads, steps.MOST_FOR_FEW)
        teams.clear()


def test_a_thread_that_would_only_wait_is_not_asked() -> None:
    """Cores share the update of few rows, but not their pass."""
    layers = tuple(Layer(i, o, "tanh") for i, o in ((784, 512), (512, 512), (512, 10)))
    network = Network(layers, "squared_error")
    for rule in (Update("adam", (0.9, 0.999, 1e-8)), Update("sgd")):
        plan = BACKEND.make_plan(network, rule, "float32", 4)
        plan.threads = 4
        for rows in (1, 3, 4):
            assert steps._team(plan, rows, 1000, 3, updates=True) == 4
            assert steps._team(plan, rows, 1000, 3) == (4 if rows == 4 else 1)
            assert steps._team(plan, rows, 1000, 1) == (4 if rows == 4 else 1)
    small = BACKEND.make_plan(Network((Layer(20, 10, "tanh"),), "squared_error"), rule, "float32")
    small.threads = 4
    assert steps._team(small, 1, 10**6, 3, updates=True) == 1


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("weights", [False, True])
def test_a_team_that_breaks_up_changes_no_bit(
    weights: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _Case(rng, "float32", _network("tanh", "batch", 0.2), Update("momentum", (0.9,)))
    case.w = np.where(np.arange(len(case.w)) < 40, 0, case.w).astype("f4") if weights else case.w
    alone = case.train(1, batch=16)
    sizes: list[int] = []

    def noted(company: Company, batches: int, doubtful: bool) -> tuple[int, int]:
        sizes.append(next_part(company, batches, False)[0])
        return sizes[-1], min(batches, 2)

    next_part = Company.next_part
    monkeypatch.setattr(Company, "next_part", noted)
    monkeypatch.setattr(Company, "SHORTEST", 1e-4)
    monkeypatch.setattr(steps, "PATIENCE", -1)
    monkeypatch.setattr(steps, "WINDOW", -1)
    together = case.train(2, batch=16)
    assert {1, 2} <= set(sizes) or cycle_counter() is None
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, two)


def cycle_counter() -> str | None:
    """The processor's counter of time, without which a team never breaks up."""
    return intrinsics.COUNTERS.get(platform.machine())


def test_company_waits_longer_after_each_break() -> None:
    company = Company()
    company.begin(2, 0.0)
    assert company.next_part(100, False) == (2, 100)
    pauses = []
    for _ in range(12):
        company.learn(2, 100, 3, 0.001)
        pauses.append(company.pause)
        assert company.next_part(100, False) == (1, 1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == company.LONGEST
    company.learn(1, 1, 1, 0.01)
    size, part = company.next_part(1000, False)
    assert (size, company.LONGEST / 0.01 - 2 <= part <= company.LONGEST / 0.01) == (1, True)
    company.until = company.worked
    assert company.next_part(100, False) == (2, 100)
    company.learn(2, 100, 99, 2 * company.LONGEST)
    assert company.pause == company.SHORTEST


def test_company_waits_for_work_and_not_for_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls far apart learn from each other: by the clock each would begin anew to try."""
    company = Company()
    company.begin(2, 1e-3)
    tries = 0
    for call in range(50):
        monkeypatch.setattr("time.perf_counter", lambda call=call: 1000.0 * call)
        done = 0
        while done < 80:
            size, part = company.next_part(80 - done, False)
            made = part if size == 1 else min(part, 2)
            company.learn(size, part, made, 1e-3 * made if size == 1 else 0.02)
            tries += size == 2
            done += made
    assert tries < 20
    assert company.pause == company.LONGEST


@pytest.mark.parametrize("size", [1, 2])
def test_company_learns_nothing_from_a_part_that_was_left_at_once(size: int) -> None:
    company = Company()
    company.begin(2, 1e-3)
    company.learn(size, 10, 0, 0.5)
    assert (company.seconds, company.due, company.until) == ({}, {}, -math.inf)


@pytest.mark.parametrize(("alone", "together"), [(1e-5, 3e-5), (1e-3, 6e-4)])
def test_company_tries_both_ways_and_keeps_the_faster(alone: float, together: float) -> None:
    company = Company()
    company.begin(2, alone)
    took, batches = {1: alone, 2: together}, {1: 0, 2: 0}
    sizes = []
    for _ in range(400):
        size, part = company.next_part(20_000, True)
        company.learn(size, part, part, part * took[size])
        batches[size] += part
        sizes.append(size)
    faster = min(took, key=took.__getitem__)
    assert sizes[:2] == [1, 2]
    assert sizes.count(3 - faster) > 3
    assert batches[faster] > 0.95 * sum(batches.values())
    company.begin(2, 2 * alone)
    assert company.next_part(20_000, True)[0] == 1


def test_same_bits_on_repeat(rng: np.random.Generator) -> None:
    case = _Case(rng, "float32", _network("relu", "batch", 0.3), Update("adam", (0.9, 0.99, 1e-8)))
    for one, two in zip(case.train(1), case.train(1), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_row_is_predicted_alone_as_in_company(rng: np.random.Generator) -> None:
    network = _network("tanh", "layer")
    plan = BACKEND.make_plan(network, Update("sgd"), "float32")
    size = length(parameter_segments(network))
    empty = np.zeros(0, np.float32)
    numbers = rng.normal(size=size).astype(np.float32)
    plan.load(State(numbers, np.zeros((0, size), np.float32), empty))
    X = rng.normal(size=(200, 19)).astype(np.float32)
    together = np.empty((200, 5), np.float32)
    BACKEND.forward(plan, together, X, False)
    for row in (0, 1, 63, 64, 199):
        alone = np.empty((1, 5), np.float32)
        BACKEND.forward(plan, alone, np.ascontiguousarray(X[row : row + 1]), False)
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.usefixtures("many_threads")
def test_two_python_threads_train_side_by_side(rng: np.random.Generator) -> None:
    cases = [
        _Case(rng, "float32", _network("relu", "batch"), Update("momentum", (0.9,)))
        for _ in range(2)
    ]
    wanted = [case.train(2) for case in cases]
    found: list[Any] = [None, None]

    def work(number: int) -> None:
        for _ in range(5):
            found[number] = cases[number].train(2)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert not worker.is_alive()
    for one, two in zip(wanted, found, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


# Compilation


def _python(code: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


TRAIN_ONCE = """
import numpy as np
from fastmlp import MLP, kernels
from fastmlp.kernels.contract import *
from fastmlp.kernels.layout import length, parameter_segments
backend = kernels.load("numba")
def train(activation, loss, rule, constants, output="softmax", dtype="float32", inputs=9):
    network = Network((Layer(inputs, 5, activation), Layer(5, 3, output)), loss)
    plan = backend.make_plan(network, Update(rule, constants), dtype)
    size = length(parameter_segments(network))
    slots = np.zeros((backend.UPDATES[rule].slots, size), dtype)
    plan.load(State(np.ones(size, dtype), slots, np.zeros(0, dtype)))
    losses = np.zeros(1)
    data = Data(np.ones((8, inputs), dtype), np.zeros(8, np.int64))
    steps = backend.train_steps(plan, losses, data, Order("sequence"), 8, 0, 1, np.ones(1), 0, 0)
    assert steps == 1 and np.isfinite(losses).all()
    backend.forward(plan, np.empty((8, 3), dtype), data.X, False)
train("tanh", "cross_entropy", "sgd", ())
"""


def test_the_vocabulary_is_compiled_once_per_precision() -> None:
    result = _python(
        TRAIN_ONCE
        + """
from fastmlp.kernels.numba_cpu import jit, steps
before = [sorted(member.compiled) for member in jit._FAMILIES]
import numba.core.event as event
compiled = []
class Listener(event.Listener):
    def on_start(self, e): compiled.append(e.data.get("dispatcher"))
    def on_end(self, e): pass
event.register("numba:compile", Listener())
for activation in ("relu", "elu", "gelu", "prelu", "softplus"):
    train(activation, "cross_entropy", "adam", (0.9, 0.99, 1e-8))
train("mish", "squared_error", "rmsprop", (0.9, 1e-8), "identity")
train("silu", "huber", "adagrad", (1e-8,), "tanh")
assert [sorted(member.compiled) for member in jit._FAMILIES] == before
assert not compiled, compiled
print("once")
"""
    )
    assert result.stdout.strip() == "once", result.stderr


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    code = (
        TRAIN_ONCE
        + """
train("tanh", "cross_entropy", "sgd", (), inputs=4)
from fastmlp.kernels.numba_cpu import jit
for member in jit._FAMILIES:
    member.of("float32")
print(sum("float32" in member.compiled for member in jit._FAMILIES), len(jit._FAMILIES))
"""
    )
    # Their own number: here a benchmark may have added families.
    cold, count = _python(code, FASTMLP_CACHE_DIR=str(tmp_path)).stdout.split()
    assert int(cold) == int(count) > 50
    warm = _python(code, FASTMLP_CACHE_DIR=str(tmp_path))
    assert warm.stdout.split() == ["0", count], warm.stderr


@pytest.mark.parametrize("how", ["off", "read-only folder", "a file", "no home"])
def test_kernels_run_where_nothing_can_be_cached(how: str, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    if how == "read-only folder":
        blocked.mkdir(mode=0o500)
    else:
        blocked.write_text("not a folder")
    environment = {
        "off": {"FASTMLP_CACHE": "0"},
        "read-only folder": {"FASTMLP_CACHE_DIR": str(blocked / "deeper")},
        "a file": {"FASTMLP_CACHE_DIR": str(blocked)},
        "no home": {"HOME": "", "XDG_CACHE_HOME": "", "FASTMLP_CACHE_DIR": ""},
    }[how]
    result = _python(TRAIN_ONCE + "print('trained')", **environment)
    assert result.stdout.strip() == "trained", result.stderr


def test_an_edited_kernel_is_compiled_anew(tmp_path: Path) -> None:
    """Also where only a helper in another file has changed."""
    for part in ("fastmlp", "kernels"):
        source = ROOT / part
        for path in source.rglob("*.py"):
            inside = path.relative_to(source)
            if "kernels" not in inside.parts:
                copy = tmp_path / part / inside
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    (tmp_path / "fastmlp" / "kernels").symlink_to("../kernels")
    code = """
import numpy as np
from fastmlp import MLP, kernels
A = np.empty((1, 1))
kernels.load("numba").ACTIVATIONS["tanh"].forward(A, np.ones((1, 1)), (), 0.0)
print(A[0, 0])
"""
    before = _python(code, tmp_path, FASTMLP_CACHE_DIR=str(tmp_path / "cache"))
    edited = tmp_path / "kernels" / "numba_cpu" / "elementary.py"
    text = edited.read_text()
    marker = "return copysign(fma(rest, reciprocal, quotient), x)"
    assert marker in text
    edited.write_text(text.replace(marker, "return copysign(quotient, x) + like(x, 1.0)"))
    after = _python(code, tmp_path, FASTMLP_CACHE_DIR=str(tmp_path / "cache"))
    assert float(before.stdout) == pytest.approx(math.tanh(1)), before.stderr
    assert float(after.stdout) == pytest.approx(math.tanh(1) + 1), after.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_trains_too() -> None:
    result = _python(
        TRAIN_ONCE
        + """
import os, warnings
warnings.simplefilter("ignore")
from fastmlp.kernels.numba_cpu import steps
steps.SMALL = steps.WORTH_A_THREAD = 1.0
child = os.fork()
if child == 0:
    train("tanh", "cross_entropy", "sgd", ())
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    )
    assert result.stdout.strip() == "0", result.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_below_the_normal_ones_are_zeros_inside_only(dtype: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("other processors are not slowed down by them")
    tiny = np.finfo(dtype).tiny / 4
    net = MLP((3, 2), "identity", loss="mse", dtype=dtype, backend="numba", seed=0)
    net.weights, net.biases = [np.full((3, 2), tiny, dtype)], [np.zeros(2, dtype)]
    assert not net.forward(np.ones((1, 3), dtype)).any()
    assert not net.forward(np.ones((200, 3), dtype)).any()
    net.fit(np.ones((200, 3), dtype), np.ones((200, 2), dtype), epochs=1)
    assert np.array([tiny], dtype)[0] * np.array([1], dtype)[0] > 0


def test_turns_left_over_do_not_hide_rows() -> None:
    """Ctrl-C may leave a team's count of turns where it was; the next prediction has all rows."""
    network = Network((Layer(5, 7, "relu"), Layer(7, 2, "identity")), "squared_error")
    plan = BACKEND.make_plan(network, Update("sgd"), "float32")
    X = np.linspace(-1.0, 1.0, 15, dtype=np.float32).reshape(3, 5)
    expected, found = np.empty((3, 2), np.float32), np.full((3, 2), np.nan, np.float32)
    for _ in range(2):  # the second time without the table being filled by Python
        BACKEND.forward(plan, expected, X, False)
    plan.flags[fields.TURNS] += 5
    BACKEND.forward(plan, found, X, False)
    np.testing.assert_array_equal(found, expected)

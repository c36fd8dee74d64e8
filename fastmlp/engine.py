"""A network's numbers, and the plan of a backend that runs them.

The numbers have one owner at a time. In canonical form (`State`) they can be read, saved and
moved to another backend; a plan holds them in the backend's own layout. A plan is built when first
needed, stays for the next call, and gives the numbers back when somebody reads them. A lock lets
several threads use one network: each call sees it between two slices of training.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import devices, generators, kernels, metrics
from .architecture import threshold, trainable
from .choices import numbers_of
from .generators import Random
from .history import Losses
from .kernels.contract import Array, Backend, Data, Network, Order, Plan, State, check_rule
from .kernels.forks import hold_while_forking, tell_after_fork
from .kernels.interrupts import deferred, held_back
from .kernels.layout import length, parameter_segments, running_segments
from .kernels.reference import UPDATES
from .optimizers import Optimizer
from .schedules import ComingRates
from .sparse import SparseRows, blocks, dense_batches
from .targets import Targets
from .threads import get_num_threads

COMPILING = 0.05
"""Seconds from which on a plan's first call has compiled something, or read it from the disk."""


class _Checkpoint(NamedTuple):
    plan: Any
    steps: int
    epochs: int


class Optimization(NamedTuple):
    """What `Engine.restart` gives up."""

    optimizer: Optimizer
    state: State
    steps: int
    epochs: int


class Engine:
    """Runs one network; every argument of its methods is checked already."""

    def __init__(
        self,
        network: Network,
        precision: str,
        backend: str,
        optimizer: Optimizer,
        rng: Random,
        dropout_key: int,
    ):
        check_rule(kernels.load(backend), optimizer.rule())
        self.network = network
        self.precision = precision
        self.dtype = numbers_of(precision)
        self.backend = backend
        self.optimizer = optimizer
        self.rng = rng
        self.dropout_key = dropout_key
        self.steps = 0
        self.epochs = 0
        self.pace = (0, 0, 0.0)
        """How long a step took last: its rows, the threads, the seconds."""
        self.threads: int | None = None
        self.before_batch: Callable[[int], None] | None = None
        self.targets = Targets(network.loss, network.layers[-1].units)
        self._state: State | None = None
        self._begin()

    def _begin(self) -> None:
        """Set up what copies and files don't carry."""
        self._plan: Plan | None = None
        self._kernels: Backend | None = None
        self._new_locks()
        tell_after_fork(self)
        hold_while_forking(self)
        self._warm = False
        self.trainable = trainable(self.network)
        self._rates = ComingRates()

    def _new_locks(self) -> None:
        self._lock = threading.RLock()
        self._alone = threading.Lock()
        self._stepping = False

    def after_fork(self) -> None:
        """In a child process, without the threads that may have had the locks.

        Where one of them was making an update, nobody knows which half of it has been made.
        """
        if self._stepping:
            self._drop_plan()
            self._state = None
        self._new_locks()

    def foreign_locks(self) -> list[Any]:
        """The generator's: a child whose parent drew at that moment could never draw again."""
        return generators.locks_of(self.rng)

    # Who owns the numbers

    def state(self) -> State:
        """The numbers in canonical form; arrays given out earlier keep their values."""
        with self._lock:
            if self._state is None:
                if self._plan is None:
                    raise RuntimeError(
                        "this network was being trained by another thread when this process was "
                        "forked, and half of an update is of no use: load or copy it before"
                    )
                state = self._empty_state()
                self._plan.store(state)
                self._state = state
            return self._state

    def set_state(self, state: State) -> None:
        """Take over numbers in canonical form."""
        with self._lock, deferred():
            self._state = state
            if self._plan is not None:
                self._plan.load(state)

    def set_parameters(self, parameters: Array, running: Array) -> None:
        """Take over parameters and running statistics; the optimizer's vectors stay."""
        self.set_state(State(parameters, self.state().slots, running))

    def restart(self, optimizer: Optimizer) -> Optimization:
        """Change to another optimizer, with empty vectors and counts from 0; return the old."""
        check_rule(self.kernels(), optimizer.rule())
        old = Optimization(self.optimizer, self.state(), self.steps, self.epochs)
        slots = self._slots(optimizer)
        self.resume(Optimization(optimizer, old.state._replace(slots=slots), 0, 0))
        return old

    def resume(self, old: Optimization) -> None:
        """Go on with an optimizer, its vectors and its counts."""
        with self._lock, deferred():
            if old.optimizer.rule() != self.optimizer.rule():
                self._drop_plan()
            self.optimizer, state, self.steps, self.epochs = old
            self.set_state(state)

    def move_to(self, backend: str, precision: str) -> None:
        """Change to another backend and precision; the numbers come along."""
        with self.alone():
            check_rule(kernels.load(backend), self.optimizer.rule())
            self.state()
            self._drop_plan()
            self.backend, self.precision, self._kernels = backend, precision, None
            self.pace = (0, 0, 0.0)

    def _drop_plan(self) -> None:
        self._plan, self._warm = None, False

    def _slots(self, optimizer: Optimizer) -> Array:
        count = UPDATES[optimizer.rule().name].slots
        return np.zeros((count, length(parameter_segments(self.network))), self.dtype)

    def _empty_state(self) -> State:
        parameters = length(parameter_segments(self.network))
        running = length(running_segments(self.network))
        return State(
            np.empty(parameters, self.dtype),
            self._slots(self.optimizer),
            np.empty(running, self.dtype),
        )

    def start(self, parameters: Array, running: Array) -> None:
        """Take over the numbers of a new network."""
        self.set_state(State(parameters, self._slots(self.optimizer), running))

    def plan(self) -> Plan:
        """The plan, up to date and with the number of threads that is allowed now."""
        plan = self._built()
        plan.threads = self.most_threads()
        return plan

    def most_threads(self) -> int:
        """Threads that are allowed now."""
        return self.threads or get_num_threads()

    def _built(self) -> Plan:
        if self._plan is None:
            state = self.state()
            plan = self.kernels().make_plan(
                self.network, self.optimizer.rule(), self.precision, self.most_threads()
            )
            plan.load(state)
            self._plan = plan
        return self._plan

    def way(self) -> Any:
        """Which way the plan's steps take, on backends that have several; None on the others."""
        return getattr(self._plan, "way", None)

    def coming_way(self) -> Any:
        """As `way`, also before there is a plan."""
        return self.way() or getattr(self.kernels(), "chosen_way", lambda: None)()

    def kernels(self) -> Backend:
        """The backend's module; looking for it costs more than a small batch."""
        if self._kernels is None:
            self._kernels = kernels.load(self.backend)
        return self._kernels

    def gathered(self) -> tuple[str, ...]:
        """Names of the dtypes of rows that the kernels convert themselves."""
        return self.kernels().GATHERED

    def doubts_labels(self) -> bool:
        """Whether class indices need no check before training, for the loss will show it."""
        return self.kernels().DOUBTS_LABELS

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold the numbers, not the plan."""
        self.state()
        left = ("_lock", "_alone", "_plan", "_kernels", "_rates")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        """Begin with the numbers and without a plan."""
        self.__dict__.update(fields)
        self._begin()

    # Training

    def alone(self) -> threading.Lock:
        """The lock of whoever trains or moves the network: ``with engine.alone(): ...``.

        Ctrl-C can't come between a lock's ``__enter__`` and the block; no Python code can say so.

        Raises
        ------
        RuntimeError
            Somebody has it: another thread, or the fit whose callback calls this.
        """
        if self._alone.locked():
            raise RuntimeError(
                "this network is being trained: a callback or another thread can't train or "
                "move it meanwhile; copy.deepcopy(net) makes another one"
            )
        return self._alone

    def run_steps(
        self, losses: Losses, data: Data, order: Order, batch: int, first: int, rates: Array
    ) -> None:
        """Run a minibatch for each of the `losses`, and count the updates.

        In one call of the kernels, but for sparse rows, which come in blocks, and where something
        wants to look in before each batch. Inside of `deferred`, Ctrl-C ends it early, after the
        last update that was counted.
        """
        X: Any = data.X
        sparse = isinstance(X, SparseRows)
        several = max(1, X.block_rows() // batch) if sparse else len(losses.each)
        several = several if self.before_batch is None else 1
        with self._lock:
            before = self.steps
            for start in range(0, len(losses.each), several):
                if start and held_back():  # the kernels may have left at once
                    break
                part, place = losses.part(start, several), first + start
                left = rates[self.steps - before :]
                if self.before_batch is not None:
                    self.before_batch(place)
                if sparse:
                    block = dense_batches(data, order, place * batch, len(part.each) * batch)
                    self._steps(part, block, Order("sequence"), batch, 0, left)
                else:
                    self._steps(part, data, order, batch, place, left)

    def _steps(
        self, losses: Losses, data: Data, order: Order, batch: int, first: int, rates: Array
    ) -> None:
        plan = self.plan()
        self._state, self._stepping = None, True
        place, count = (batch, first, len(losses.each)), (self.steps, self.dropout_key)
        try:
            self.steps += self.kernels().train_steps(
                plan, losses.each, data, order, *place, rates, *count, losses.total
            )
        finally:
            self._stepping = False

    def rates(self, count: int) -> Array:
        """The learning rates of the next `count` updates; nobody may change them."""
        return self._rates.take(self.optimizer.learning_rate, count, self.steps, self.epochs)

    def warm_up(self) -> float:
        """Compile what is not compiled yet; return the seconds that it took, 0 for nothing."""
        if self._warm:
            return 0.0
        started = time.perf_counter()
        self.forward(np.zeros((1, self.network.layers[0].inputs), self.dtype), False)
        self._warm = True
        seconds = time.perf_counter() - started
        return seconds if seconds > COMPILING else 0.0

    def checkpoint(self) -> _Checkpoint:
        """Copy everything that training changes, in the plan's own form."""
        with self._lock:
            return _Checkpoint(self._built().snapshot(), self.steps, self.epochs)

    def go_back(self, checkpoint: _Checkpoint) -> None:
        """Return to a checkpoint."""
        with self._lock, deferred():
            self._built().restore(checkpoint.plan)
            self._state = None
            self.steps, self.epochs = checkpoint.steps, checkpoint.epochs

    def finite(self) -> bool:
        """Whether parameters, slots and running statistics are all finite numbers."""
        with self._lock:
            return self._built().finite()

    def gradient(self, X: Array, T: Array, w: Array | None, training: bool) -> tuple[float, Array]:
        """Return the loss, penalties in, and its canonical gradient."""
        flat = np.empty(length(parameter_segments(self.network)), self.dtype)
        with self._lock:
            loss = self.kernels().backprop(
                self.plan(), flat, X, T, w, self.dropout_key, self.steps, training
            )
        return float(loss), flat

    # Inference

    def forward(self, X: Array | SparseRows, logits: bool) -> Array:
        """Return logits or outputs (rows, O)."""
        last = self.network.layers[-1]
        out = devices.room(X, (len(X), last.columns if logits else last.units), self.dtype)
        with self._lock:
            plan = self.plan()
            if isinstance(X, SparseRows):
                for rows, block in blocks(X):
                    self.kernels().forward(plan, out[rows], block, logits)
            else:
                self.kernels().forward(plan, out, X, logits)
        return out

    def predict(self, X: Array) -> Array:
        """Return predictions as the loss defines them."""
        # The largest logit is the likeliest class, also where float32 rounds two outputs to 1.
        outputs = devices.on_host(self.forward(X, self.targets.kind == "classes"))
        return devices.beside(X, self.targets.decode(outputs, threshold(self.network)))

    def predict_few(self, X: Array) -> Array | None:
        """Return predictions of a few rows; see `few`."""
        classes = self.targets.kind == "classes"
        answer = self.few(X, classes)
        if classes or answer is None:
            return answer
        return self.targets.decode(answer, threshold(self.network))

    def few(self, X: Array, classes: bool = False) -> Array | None:
        """Return outputs or classes of a few rows, or None where they must go the long way.

        X is contiguous and of the network's dtype, and nobody has looked for NaN.
        """
        kernel = self.kernels().predict_few
        with self._lock:
            plan = self._plan
            return None if kernel is None or plan is None else kernel(plan, X, classes)

    def data_loss(self, data: Data) -> float:
        """Return the loss without penalties, summed in float64."""
        losses = np.empty(len(data.X), self.dtype)
        with self._lock:
            plan = self.plan()
            for rows, block in blocks(data.X):
                self.kernels().row_losses(plan, losses[rows], block, data.T[rows])
        wide = losses.astype(np.float64)
        weights = np.ones(len(wide)) if data.w is None else data.w.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite losses, in the end NaN
            total = float(wide @ weights)
            return total if self.network.reduction == "sum" else total / float(weights.sum())

    def measured(self, data: Data, chosen: dict[str, metrics.Metric]) -> dict[str, float]:
        """Return metrics of the predictions by name."""
        if not chosen:
            return {}
        # A copy: metrics may be code of the user's, and kernels index with these numbers.
        labels = self.targets.labels(data.T).copy()
        return metrics.compute(chosen, labels, devices.on_host(self.predict(data.X)))

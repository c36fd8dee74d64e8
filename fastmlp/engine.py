"""A network's numbers, and the plan of a backend that runs them.

The numbers have one owner at a time. In canonical form (`State`) they can be read, saved and
moved to another backend; a plan holds them in the backend's own layout. A plan is built when first
needed, stays for the next call, and gives the numbers back when somebody reads them.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from . import kernels, metrics
from .architecture import threshold
from .generators import Random
from .kernels.contract import Array, Backend, Data, Network, Order, Plan, State
from .kernels.layout import length, parameter_segments, running_segments
from .kernels.reference import UPDATES
from .optimizers import Optimizer
from .schedules import rate_at
from .targets import Targets
from .threads import get_num_threads


class _Checkpoint(NamedTuple):
    plan: Any
    steps: int
    epochs: int


class Engine:
    """Runs one network; every argument of its methods is checked already."""

    def __init__(
        self,
        network: Network,
        dtype: str,
        backend: str,
        optimizer: Optimizer,
        rng: Random,
        dropout_key: int,
    ):
        self.network = network
        self.dtype = np.dtype(dtype)
        self.backend = backend
        self.optimizer = optimizer
        self.rng = rng
        self.dropout_key = dropout_key
        self.steps = 0
        self.epochs = 0
        self.seconds_per_row = 0.0
        self.targets = Targets(network.loss, network.layers[-1].units)
        self._state: State | None = None
        self._plan: Plan | None = None

    # Who owns the numbers

    def state(self) -> State:
        """The numbers in canonical form; arrays given out earlier keep their values."""
        if self._state is None:
            assert self._plan is not None
            self._state = self._empty_state()
            self._plan.store(self._state)
        return self._state

    def set_state(self, state: State) -> None:
        """Take over numbers in canonical form."""
        self._state = state
        if self._plan is not None:
            self._plan.load(state)

    def set_parameters(self, parameters: Array, running: Array) -> None:
        """Take over parameters and running statistics; the optimizer's vectors stay."""
        self.set_state(State(parameters, self.state().slots, running))

    def restart(self, optimizer: Optimizer) -> None:
        """Change to another optimizer, with empty vectors and counts from 0."""
        state = self.state()
        if optimizer.rule() != self.optimizer.rule():
            self._plan = None
        self.optimizer = optimizer
        self.steps = self.epochs = 0
        self.set_state(State(state.parameters, self._slots(), state.running))

    def move_to(self, backend: str) -> None:
        """Change to another backend; the numbers come along."""
        self.state()
        self._plan = None
        self.backend = backend

    def _slots(self) -> Array:
        count = UPDATES[self.optimizer.rule().name].slots
        return np.zeros((count, length(parameter_segments(self.network))), self.dtype)

    def _empty_state(self) -> State:
        parameters = length(parameter_segments(self.network))
        running = length(running_segments(self.network))
        return State(np.empty(parameters, self.dtype), self._slots(), np.empty(running, self.dtype))

    def start(self, parameters: Array, running: Array) -> None:
        """Take over the numbers of a new network."""
        self.set_state(State(parameters, self._slots(), running))

    def plan(self) -> Plan:
        """The plan, up to date and with the number of threads that is allowed now."""
        if self._plan is None:
            state = self.state()
            self._plan = self.kernels().make_plan(
                self.network, self.optimizer.rule(), self.dtype.name
            )
            self._plan.load(state)
        self._plan.threads = get_num_threads()
        return self._plan

    def kernels(self) -> Backend:
        """The backend's module."""
        return kernels.load(self.backend)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold the numbers, not the plan."""
        self.state()
        return {**self.__dict__, "_plan": None}

    # Training

    def run_steps(
        self, losses: Array, data: Data, order: Order, batch: int, first: int, rates: Array
    ) -> None:
        """Run a minibatch for each entry of `losses`, and count the updates."""
        plan = self.plan()
        self._state = None
        self.steps += self.kernels().train_steps(
            plan,
            losses,
            data,
            order,
            batch,
            first,
            len(losses),
            rates,
            self.steps,
            self.dropout_key,
        )

    def rates(self, count: int) -> Array:
        """The learning rates of the next `count` updates."""
        rate = self.optimizer.learning_rate
        if not callable(rate):
            return np.full(count, rate)
        return np.array([rate_at(rate, self.steps + i, self.epochs) for i in range(count)])

    def warm_up(self) -> float:
        """Compile what is not compiled yet; return the seconds that it took."""
        started = time.perf_counter()
        self.forward(np.zeros((1, self.network.layers[0].inputs), self.dtype), False)
        return time.perf_counter() - started

    def checkpoint(self) -> _Checkpoint:
        """Copy everything that training changes, in the plan's own form."""
        return _Checkpoint(self.plan().snapshot(), self.steps, self.epochs)

    def go_back(self, checkpoint: _Checkpoint) -> None:
        """Return to a checkpoint."""
        self.plan().restore(checkpoint.plan)
        self._state = None
        self.steps, self.epochs = checkpoint.steps, checkpoint.epochs

    def finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return self.plan().finite()

    def gradient(self, X: Array, T: Array, w: Array | None, training: bool) -> tuple[float, Array]:
        """Return the loss, penalties in, and its canonical gradient."""
        flat = np.empty_like(self.state().parameters)
        loss = self.kernels().backprop(
            self.plan(), flat, X, T, w, self.dropout_key, self.steps, training
        )
        return float(loss), flat

    # Inference

    def forward(self, X: Array, logits: bool) -> Array:
        """Return logits or outputs (rows, O)."""
        last = self.network.layers[-1]
        out = np.empty((len(X), last.columns if logits else last.units), self.dtype)
        self.kernels().forward(self.plan(), out, X, logits)
        return out

    def predict(self, X: Array) -> Array:
        """Return predictions as the loss defines them."""
        # The largest logit is the likeliest class, also where float32 rounds two outputs to 1.
        classes = self.targets.kind == "classes"
        return self.targets.decode(self.forward(X, classes), threshold(self.network))

    def data_loss(self, data: Data) -> float:
        """Return the loss without penalties, summed in float64."""
        losses = np.empty(len(data.X), self.dtype)
        self.kernels().row_losses(self.plan(), losses, data.X, data.T)
        wide = losses.astype(np.float64)
        weights = np.ones(len(wide)) if data.w is None else data.w.astype(np.float64)
        total = float(wide @ weights)
        return total if self.network.reduction == "sum" else total / float(weights.sum())

    def measured(self, data: Data, chosen: dict[str, metrics.Metric]) -> dict[str, float]:
        """Return metrics of the predictions by name."""
        return metrics.compute(chosen, self.targets.labels(data.T), self.predict(data.X))

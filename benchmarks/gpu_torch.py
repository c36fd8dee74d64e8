"""PyTorch's contenders: eager, CUDA graphs with a fused capturable Adam, compiled, products alone.

Without a GPU everything but the graphs runs on the CPU, to try the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gpu_cases import BETA1, BETA2, EPSILON, RATE, Case, Given, Places
from torch import nn

from fastmlp.kernels.contract import Array

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
CLOCK = "events" if HAS_GPU else "wall"


def set_precision(precision: str) -> None:
    """Products of float32 in full, or in TF32; bfloat16 goes by autocast."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def timed(run: Callable[[], object]) -> float:
    """Seconds between two events of the device, or of the clock where there is none."""
    if not HAS_GPU:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


class Eager:
    """The plain loop, as users write it, with a fused Adam."""

    clock = CLOCK
    capturable = False

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        set_precision(precision)
        self.case, self.narrow = case, precision == "bfloat16"
        self.linears = [nn.Linear(i, o, device=DEVICE) for i, o in pairwise(case.layers)]
        hidden = [part for linear in self.linears[:-1] for part in (linear, nn.ReLU())]
        self.model = nn.Sequential(*hidden, self.linears[-1])
        self.criterion: Any = nn.CrossEntropyLoss() if case.layers[-1] > 1 else _binary
        self.X = torch.from_numpy(start.X).to(DEVICE).repeat(case.repeats, 1)
        self.y = torch.from_numpy(start.y).to(DEVICE).repeat(case.repeats)
        self.order: Any = None
        self.made: list[Any] = []
        self.forward: Callable[[Any, Any], Any] = self.loss
        self.restart(start.weights, start.biases)

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        with torch.no_grad():
            for linear, W, b in zip(self.linears, weights, biases, strict=True):
                linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
                linear.bias.copy_(torch.from_numpy(b))
        self.places = Places(self.case.steps)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=RATE,
            betas=(BETA1, BETA2),
            eps=EPSILON,
            fused=True,
            capturable=self.capturable and HAS_GPU,
        )

    def loss(self, X: Any, y: Any) -> Any:
        """The mean loss of a batch."""
        # Each weight is used once, and a cache of casts does not go with graphs.
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.narrow, cache_enabled=False):
            return self.criterion(self.model(X), y)

    def batch(self, number: int) -> tuple[Any, Any]:
        """Rows and targets of a batch."""
        part = slice(number * self.case.batch, (number + 1) * self.case.batch)
        if self.order is None:
            return self.X[part], self.y[part]
        places = self.order[part]
        return self.X[places], self.y[places]

    def step(self, number: int) -> Any:
        """One step; its loss stays on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(*self.batch(number))
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, count: int) -> None:
        """Start that many steps."""
        for first, part in self.places.following(count):
            if self.case.shuffled and first == 0:
                self.order = torch.randperm(self.case.rows, device=DEVICE)
            for number in range(first, first + part):
                self.step(number)

    def wait(self) -> None:
        """Wait for the device."""
        if HAS_GPU:
            torch.cuda.synchronize()

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on, as the rows come; return the loss of each."""
        self.order = None
        found = [self.step(number).clone() for number in range(min(count, self.case.steps))]
        return [float(loss) for loss in found]

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps."""
        return timed(lambda: self.run(count)) / count

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        pairs = [(x.weight.detach().cpu(), x.bias.detach().cpu()) for x in self.linears]
        return [W.numpy().T.copy() for W, _ in pairs], [b.numpy().copy() for _, b in pairs]


def _binary(outputs: Any, y: Any) -> Any:
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0].float(), y)


class Compiled(Eager):
    """``torch.compile`` at its highest setting, for loss and gradients."""

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        super().__init__(case, start, precision)
        self.forward = torch.compile(self.loss, mode="max-autotune")


class Graphed(Eager):
    """A whole step in a CUDA graph; rows are copied to where it reads them."""

    capturable = True
    graph: Any = None

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps. A graph that is captured stays."""
        if self.graph is not None:
            self.places = Places(self.case.steps)
            self._rewind((list(weights), list(biases)))
            return
        super().restart(weights, biases)
        shape = (self.case.batch, self.case.layers[0])
        self.given = torch.empty(shape, device=DEVICE), torch.empty_like(self.y[: shape[0]])

    def capture(self) -> None:
        """Warm up on a stream of its own, capture a step, and go back to the start."""
        if not HAS_GPU:
            raise RuntimeError("CUDA graphs need a GPU")
        start = self.weights()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        self._fill(0)
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._inner()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.loss_there = self._inner(False)
        self._rewind(start)

    def _inner(self, clear: bool = True) -> Any:
        if clear:
            self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(*self.given)
        loss.backward()
        self.optimizer.step()
        return loss

    def _rewind(self, start: tuple[list[Array], list[Array]]) -> None:
        """The graph holds these very tensors: they are written to, not replaced."""
        with torch.no_grad():
            for linear, W, b in zip(self.linears, *start, strict=True):
                linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
                linear.bias.copy_(torch.from_numpy(b))
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def _fill(self, number: int) -> None:
        for there, part in zip(self.given, self.batch(number), strict=True):
            there.copy_(part)

    def step(self, number: int) -> Any:
        """One replay."""
        if self.graph is None:
            self.capture()
        self._fill(number)
        self.graph.replay()
        return self.loss_there.detach()


class Products:
    """The products of a step, out of a CUDA graph where there is a GPU."""

    clock = CLOCK

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        set_precision(precision)
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.work = list(_products(case, kind))
        self.graph: Any = None
        self._all()
        if HAS_GPU:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                self._all()
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._all()

    def _all(self) -> None:
        for out, A, B in self.work:
            torch.mm(A, B, out=out)

    def run(self, count: int) -> None:
        """Start the products of that many steps."""
        for _ in range(count):
            if self.graph is None:
                self._all()
            else:
                self.graph.replay()

    def sample(self, count: int) -> float:
        """Seconds of one step's products."""
        return timed(lambda: self.run(count)) / count


def _products(case: Case, kind: Any) -> Any:
    """(out, A, B) of every product, on random numbers."""

    def matrix(rows: int, columns: int) -> Any:
        return torch.randn(rows, columns, device=DEVICE, dtype=kind)

    tall = {width: matrix(case.batch, width) for width in set(case.layers)}
    other = {width: matrix(case.batch, width) for width in set(case.layers)}
    for number, (inputs, outputs) in enumerate(pairwise(case.layers)):
        W, dW = matrix(inputs, outputs), matrix(inputs, outputs)
        yield other[outputs], tall[inputs], W
        yield dW, tall[inputs].T, tall[outputs]
        if number:
            yield other[inputs], tall[outputs], W.T

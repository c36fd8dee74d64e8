"""The peers, each in its best form for the workloads: one function that trains an epoch.

A peer is built for a workload and returns a `Runner`: ``epoch()`` trains on all minibatches in
their order and ``weights()`` gives the weight matrices. Building may compile; timing comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from workloads import Array, Problem, Workload

RATE = 0.05
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Runner(NamedTuple):
    """A network that is ready to train."""

    epoch: Callable[[], object]
    weights: Callable[[], list[Array]]


def ours(backend: str) -> Callable[[Workload, Problem, str], Runner]:
    """fastmlp through its public interface, one epoch a call."""

    def build(work: Workload, given: Problem, optimizer: str) -> Runner:
        from fastmlp import MLP, SGD, Adam

        rule = SGD(RATE) if optimizer == "sgd" else Adam(RATE, BETA1, BETA2, EPSILON)
        net = MLP(work.sizes, work.activation, optimizer=rule, backend=backend, seed=0)
        net.weights, net.biases = given.weights, given.biases

        def epoch() -> object:
            return net.fit(given.X, given.y, epochs=1, batch_size=work.batch, shuffle=False)

        return Runner(epoch, lambda: net.weights)

    return build


def tuned_numpy(work: Workload, given: Problem, optimizer: str) -> Runner:
    """NumPy with every product and activation written into buffers that exist already."""
    net = _NumPyNet(work, given, optimizer)
    return Runner(net.epoch, lambda: net.W)


class _NumPyNet:
    def __init__(self, work: Workload, given: Problem, optimizer: str):
        self.work, self.given, self.adam = work, given, optimizer == "adam"
        self.W = [w.copy() for w in given.weights]
        self.b = [b.copy() for b in given.biases]
        self.A = [np.empty((work.batch, n), np.float32) for n in work.sizes[1:]]
        self.D = [np.empty_like(a) for a in self.A]
        self.G = [np.empty_like(w) for w in self.W]
        self.g = [np.empty_like(b) for b in self.b]
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in [*self.W, *self.b]]
        self.scratch = [np.empty_like(p) for p in [*self.W, *self.b]]
        self.steps = 0

    def epoch(self) -> None:
        batch = self.work.batch
        for start in range(0, len(self.given.X), batch):
            self._step(self.given.X[start : start + batch], self.given.y[start : start + batch])

    def _step(self, X: Array, y: NDArray[np.int64]) -> None:
        self._forward(X)
        out, d = self.A[-1], self.D[-1]
        np.subtract(out, out.max(axis=1, keepdims=True), out=d)
        np.exp(d, out=d)
        d /= d.sum(axis=1, keepdims=True)
        d[np.arange(len(y)), y] -= 1
        d *= np.float32(1 / len(y))
        for layer in reversed(range(len(self.W))):
            given = X if layer == 0 else self.A[layer - 1]
            np.matmul(given.T, self.D[layer], out=self.G[layer])
            np.sum(self.D[layer], axis=0, out=self.g[layer])
            if layer:
                np.matmul(self.D[layer], self.W[layer].T, out=self.D[layer - 1])
                self._derivative(layer - 1)
        self._update()

    def _forward(self, X: Array) -> None:
        for layer, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            A = self.A[layer]
            np.matmul(X, W, out=A)
            A += b
            if layer < len(self.W) - 1:
                if self.work.activation == "relu":
                    np.maximum(A, 0, out=A)
                elif self.work.activation == "tanh":
                    np.tanh(A, out=A)
                else:
                    np.negative(A, out=A)
                    np.exp(A, out=A)
                    A += 1
                    np.reciprocal(A, out=A)
            X = A

    def _derivative(self, layer: int) -> None:
        A, D = self.A[layer], self.D[layer]
        if self.work.activation == "relu":
            D *= A > 0
        elif self.work.activation == "tanh":
            D *= 1 - A * A
        else:
            D *= A * (1 - A)

    def _update(self) -> None:
        self.steps += 1
        parameters, gradients = [*self.W, *self.b], [*self.G, *self.g]
        rate = RATE * np.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        epsilon = np.float32(EPSILON * np.sqrt(1 - BETA2**self.steps))
        for p, g, (m, v), s in zip(parameters, gradients, self.moments, self.scratch, strict=True):
            if not self.adam:
                g *= np.float32(RATE)
                p -= g
                continue
            m *= np.float32(BETA1)
            np.multiply(g, np.float32(1 - BETA1), out=s)
            m += s
            v *= np.float32(BETA2)
            np.multiply(g, g, out=s)
            s *= np.float32(1 - BETA2)
            v += s
            np.sqrt(v, out=s)
            s += epsilon
            np.divide(m, s, out=s)
            s *= np.float32(rate)
            p -= s


def _torch(compiled: bool) -> Callable[[Workload, Problem, str], Runner]:
    def build(work: Workload, given: Problem, optimizer: str) -> Runner:
        import torch
        from torch import nn

        kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
        layers: list[Any] = []
        for number, (W, b) in enumerate(zip(given.weights, given.biases, strict=True)):
            linear = nn.Linear(*W.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(W.T.copy()))
                linear.bias.copy_(torch.from_numpy(b))
            layers += (
                [linear]
                if number == len(given.weights) - 1
                else [
                    linear,
                    kinds[work.activation](),
                ]
            )
        net = nn.Sequential(*layers)
        rule: Any = (
            torch.optim.SGD(net.parameters(), RATE, fused=True)
            if optimizer == "sgd"
            else torch.optim.Adam(net.parameters(), RATE, (BETA1, BETA2), EPSILON, fused=True)
        )
        loss = nn.CrossEntropyLoss()
        X, y = torch.from_numpy(given.X), torch.from_numpy(given.y)

        def forward(rows: Any, labels: Any) -> Any:
            return loss(net(rows), labels)

        run = torch.compile(forward) if compiled else forward

        def epoch() -> None:
            for start in range(0, len(X), work.batch):
                rule.zero_grad(set_to_none=True)
                run(X[start : start + work.batch], y[start : start + work.batch]).backward()
                rule.step()

        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        return Runner(epoch, lambda: [x.weight.detach().numpy().T for x in linears])

    return build


def jax_scan(work: Workload, given: Problem, optimizer: str) -> Runner:
    """JAX with the whole epoch in one scan and donated buffers."""
    import jax
    from jax import numpy as jnp

    act = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[work.activation]

    def loss(parameters: Any, X: Any, y: Any) -> Any:
        for W, b in parameters[:-1]:
            X = act(X @ W + b)
        W, b = parameters[-1]
        logs = jax.nn.log_softmax(X @ W + b)
        return -jnp.take_along_axis(logs, y[:, None], 1).mean()

    def step(carry: Any, batch: Any) -> Any:
        parameters, m, v, t = carry
        g = jax.grad(loss)(parameters, *batch)
        t = t + 1
        if optimizer == "sgd":
            parameters = jax.tree.map(lambda p, d: p - RATE * d, parameters, g)
            return (parameters, m, v, t), None
        m = jax.tree.map(lambda a, d: BETA1 * a + (1 - BETA1) * d, m, g)
        v = jax.tree.map(lambda a, d: BETA2 * a + (1 - BETA2) * d * d, v, g)
        c1, c2 = 1 - BETA1**t, 1 - BETA2**t
        parameters = jax.tree.map(
            lambda p, a, s: p - RATE * (a / c1) / (jnp.sqrt(s / c2) + EPSILON), parameters, m, v
        )
        return (parameters, m, v, t), None

    X = jnp.asarray(given.X.reshape(work.steps, work.batch, -1))
    y = jnp.asarray(given.y.reshape(work.steps, work.batch).astype(np.int32))
    whole = jax.jit(lambda carry: jax.lax.scan(step, carry, (X, y))[0], donate_argnums=0)
    start = [(jnp.array(W), jnp.array(b)) for W, b in zip(given.weights, given.biases, strict=True)]
    zeros = jax.tree.map(jnp.zeros_like, start)
    state = [(start, zeros, jax.tree.map(jnp.zeros_like, start), jnp.zeros((), jnp.float32))]

    def epoch() -> None:
        state[0] = jax.block_until_ready(whole(state[0]))

    return Runner(epoch, lambda: [np.asarray(W) for W, _ in state[0][0]])


def scikit_learn(work: Workload, given: Problem, optimizer: str) -> Runner:
    """scikit-learn's MLPClassifier by partial_fit, one call an epoch."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        work.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(work.activation, work.activation),
        solver=optimizer,
        alpha=0.0,
        batch_size=work.batch,
        learning_rate_init=RATE,
        momentum=0.0,
        shuffle=False,
        random_state=0,
    )
    labels = np.arange(work.sizes[-1])
    net.partial_fit(given.X[: work.batch], given.y[: work.batch], classes=labels)

    def epoch() -> object:
        return net.partial_fit(given.X, given.y)

    return Runner(epoch, lambda: net.coefs_)


PEERS: Mapping[str, Callable[[Workload, Problem, str], Runner]] = {
    "fastmlp numba": ours("numba"),
    "NumPy, tuned": tuned_numpy,
    "PyTorch": _torch(compiled=False),
    "PyTorch, compiled": _torch(compiled=True),
    "JAX scan": jax_scan,
    "scikit-learn": scikit_learn,
}
"""Name -> builder."""

NEEDS = {
    "PyTorch": "torch",
    "PyTorch, compiled": "torch",
    "JAX scan": "jax",
    "scikit-learn": "sklearn",
}
SEPARATE_START = frozenset({"scikit-learn"})
"""Peers whose starting weights can't be given: timed, but without parity."""


def installed() -> list[str]:
    """Peers whose package is there."""
    return [name for name in PEERS if name not in NEEDS or find_spec(NEEDS[name])]

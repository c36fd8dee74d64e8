"""The contestants, each in its best form for the workloads: a function that trains an epoch.

A contestant is built for a workload and its problem, and returns a `Runner`. What compiles does so
in its first epoch; timing comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..kernels.contract import Array
from .tuned import BETA1, BETA2, EPSILON, TunedNumPy
from .workloads import Problem, Workload

OURS = "fastmlp numba"
NUMPY = "NumPy, tuned"
EAGER, COMPILED, SCAN, SCIKIT = "PyTorch", "PyTorch, compiled", "JAX scan", "scikit-learn"


class Runner(NamedTuple):
    """A network that is ready to train."""

    epoch: Callable[..., object]
    """epoch(order=None): all minibatches, as the rows come or in an (rows,) int64 order."""
    weights: Callable[[], list[Array]]
    biases: Callable[[], list[Array]]
    restart: Callable[[list[Array], list[Array]], object]
    """restart(weights, biases): forget all training; nothing is compiled again."""


Builder = Callable[[Workload, Problem, str], Runner]


def ours(backend: str) -> Builder:
    """fastmlp through its public interface, one epoch a call."""

    def build(work: Workload, given: Problem, optimizer: str) -> Runner:
        from .. import MLP, SGD, Adam

        def rule() -> Any:
            return SGD(work.rate) if optimizer == "sgd" else Adam(work.rate, BETA1, BETA2, EPSILON)

        net = MLP(work.sizes, work.activation, dtype=work.dtype, backend=backend, seed=0)
        fresh: list[Any] = []

        def restart(weights: list[Array], biases: list[Array]) -> None:
            net.weights, net.biases = weights, biases
            fresh[:] = [rule()]

        def epoch(order: Array | None = None) -> None:
            shuffle = False if order is None else lambda _rng, _previous: order
            anew = fresh.pop() if fresh else None
            net.fit(
                given.X, given.y, epochs=1, batch_size=work.batch, shuffle=shuffle, optimizer=anew
            )

        restart(given.weights, given.biases)
        return Runner(epoch, lambda: list(net.weights), lambda: list(net.biases), restart)

    return build


def tuned_numpy(work: Workload, given: Problem, optimizer: str) -> Runner:
    """NumPy with buffers that exist already."""
    net = TunedNumPy(work, given, optimizer)
    return Runner(net.epoch, lambda: net.W, lambda: net.b, net.restart)


def _torch(compiled: bool) -> Builder:
    def build(work: Workload, given: Problem, optimizer: str) -> Runner:
        import torch
        from torch import nn

        linears, net = _torch_network(work)
        rule: Any = (
            torch.optim.SGD(net.parameters(), work.rate, fused=True)
            if optimizer == "sgd"
            else torch.optim.Adam(net.parameters(), work.rate, (BETA1, BETA2), EPSILON, fused=True)
        )
        loss = nn.CrossEntropyLoss()
        X, y = torch.from_numpy(given.X), torch.from_numpy(given.y)

        def forward(rows: Any, labels: Any) -> Any:
            return loss(net(rows), labels)

        run = torch.compile(forward) if compiled else forward

        def epoch(order: Array | None = None) -> None:
            places = None if order is None else torch.from_numpy(order)
            for begin in range(0, len(X), work.batch):
                part: Any = slice(begin, begin + work.batch)
                part = part if places is None else places[part]
                rule.zero_grad(set_to_none=True)
                run(X[part], y[part]).backward()
                rule.step()

        def restart(weights: list[Array], biases: list[Array]) -> None:
            rule.state.clear()
            with torch.no_grad():
                for linear, W, b in zip(linears, weights, biases, strict=True):
                    linear.weight.copy_(torch.from_numpy(W.T.copy()))
                    linear.bias.copy_(torch.from_numpy(b))

        restart(given.weights, given.biases)
        return Runner(
            epoch,
            lambda: [x.weight.detach().numpy().T for x in linears],
            lambda: [x.bias.detach().numpy() for x in linears],
            restart,
        )

    return build


def _torch_network(work: Workload) -> tuple[list[Any], Any]:
    """The dense layers, and the whole network."""
    import torch
    from torch import nn

    kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    linears = [
        nn.Linear(*shape, dtype=getattr(torch, work.dtype)) for shape in pairwise(work.sizes)
    ]
    hidden = [part for linear in linears[:-1] for part in (linear, kinds[work.activation]())]
    return linears, nn.Sequential(*hidden, linears[-1])


def jax_scan(work: Workload, given: Problem, optimizer: str) -> Runner:
    """JAX with the whole epoch in one scan and donated buffers."""
    import jax
    from jax import numpy as jnp

    step = _jax_step(work, optimizer)
    X, y = jnp.asarray(given.X), jnp.asarray(given.y.astype(np.int32))
    shape = (work.steps, work.batch)

    def straight(carry: Any, X: Any, y: Any) -> Any:
        return jax.lax.scan(step, carry, (X.reshape(*shape, -1), y.reshape(shape)))[0]

    def ordered(carry: Any, X: Any, y: Any, order: Any) -> Any:
        def gathered(carry: Any, places: Any) -> Any:
            return step(carry, (X[places], y[places]))

        return jax.lax.scan(gathered, carry, order.reshape(shape))[0]

    run = jax.jit(straight, donate_argnums=0)
    run_ordered = jax.jit(ordered, donate_argnums=0)
    state: list[Any] = [None]

    def restart(weights: list[Array], biases: list[Array]) -> None:
        start = [(jnp.array(W), jnp.array(b)) for W, b in zip(weights, biases, strict=True)]
        # The buffers are donated: neither moment may share the other's zeros.
        moments = (jax.tree.map(jnp.zeros_like, start) for _ in range(2))
        state[0] = (start, *moments, jnp.zeros((), jnp.float32))

    def epoch(order: Array | None = None) -> None:
        after = (
            run(state[0], X, y)
            if order is None
            else run_ordered(state[0], X, y, order.astype(np.int32))
        )
        state[0] = jax.block_until_ready(after)

    restart(given.weights, given.biases)
    return Runner(
        epoch,
        lambda: [np.asarray(W) for W, _ in state[0][0]],
        lambda: [np.asarray(b) for _, b in state[0][0]],
        restart,
    )


def _jax_step(work: Workload, optimizer: str) -> Callable[[Any, Any], Any]:
    """One minibatch: (parameters, moments, steps made), (rows, classes) -> the same, None."""
    import jax
    from jax import numpy as jnp

    act = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[work.activation]
    rate = work.rate

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
            parameters = jax.tree.map(lambda p, d: p - rate * d, parameters, g)
            return (parameters, m, v, t), None
        m = jax.tree.map(lambda a, d: BETA1 * a + (1 - BETA1) * d, m, g)
        v = jax.tree.map(lambda a, d: BETA2 * a + (1 - BETA2) * d * d, v, g)
        c1, c2 = 1 - BETA1**t, 1 - BETA2**t
        parameters = jax.tree.map(
            lambda p, a, s: p - rate * (a / c1) / (jnp.sqrt(s / c2) + EPSILON), parameters, m, v
        )
        return (parameters, m, v, t), None

    return step


def scikit_learn(work: Workload, given: Problem, optimizer: str) -> Runner:
    """scikit-learn's MLPClassifier by partial_fit, one call an epoch."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        work.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(work.activation, work.activation),
        solver=optimizer,
        alpha=0.0,
        batch_size=work.batch,
        learning_rate_init=work.rate,
        momentum=0.0,
        shuffle=False,
        random_state=0,
    )
    labels = np.arange(work.sizes[-1])
    net.partial_fit(given.X[: work.batch], given.y[: work.batch], classes=labels)

    def epoch(order: Array | None = None) -> None:
        if order is None:
            net.partial_fit(given.X, given.y)
        else:
            net.partial_fit(given.X[order], given.y[order])

    def restart(weights: list[Array], biases: list[Array]) -> None:
        net.coefs_ = [np.array(W) for W in weights]
        net.intercepts_ = [np.array(b) for b in biases]
        # Its state has no public name; the next call makes a new one.
        del net._optimizer

    if work.sizes[-1] > 2:
        restart(given.weights, given.biases)
    return Runner(epoch, lambda: net.coefs_, lambda: net.intercepts_, restart)


PEERS: Mapping[str, Builder] = {
    OURS: ours("numba"),
    NUMPY: tuned_numpy,
    EAGER: _torch(compiled=False),
    COMPILED: _torch(compiled=True),
    SCAN: jax_scan,
    SCIKIT: scikit_learn,
}
"""Name -> builder."""

NEEDS = {EAGER: "torch", COMPILED: "torch", SCAN: "jax", SCIKIT: "sklearn"}

SEPARATE_START = frozenset({SCIKIT})
"""Timed without parity: for two classes it has one output, and its Adam another epsilon."""

FLOAT32_ONLY = frozenset({SCAN})
"""JAX computes in float64 only where the whole process is set to it."""


def installed(dtype: str = "float32") -> list[str]:
    """Contestants whose package is there and that compute in a precision."""
    return [
        name
        for name in PEERS
        if (name not in NEEDS or find_spec(NEEDS[name]) is not None)
        and (dtype == "float32" or name not in FLOAT32_ONLY)
    ]

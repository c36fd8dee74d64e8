"""JAX's contenders: a jitted step with donated buffers, and many steps in one scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from gpu_cases import BETA1, BETA2, EPSILON, RATE, Case, Given, Places, wall_seconds
from jax import numpy as jnp

from fastmlp.kernels.contract import Array

MATMUL = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "float32"}
"""JAX multiplies float32 in TF32 unless it is told otherwise; bfloat16 is cast by `_loss`."""


class Jitted:
    """One step a call."""

    clock = "wall"

    def __init__(self, case: Case, start: Given, precision: str) -> None:
        self.case, self.epoch = case, 0
        self.step = partial(_step, case, precision == "bfloat16")
        self.matmul = MATMUL[precision]
        self.X = jnp.tile(jnp.asarray(start.X), (case.repeats, 1))
        y = start.y.astype(np.int32) if case.layers[-1] > 1 else start.y
        self.y = jnp.tile(jnp.asarray(y), case.repeats)
        self.order: Any = None
        self.one = jax.jit(self._one, donate_argnums=0)
        self.many = jax.jit(self._many, static_argnums=5, donate_argnums=0)
        self.restart(start.weights, start.biases)

    def restart(self, weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Take these parameters; forget all steps."""
        start = [(jnp.array(W), jnp.array(b)) for W, b in zip(weights, biases, strict=True)]
        # The buffers are donated: neither moment may share the other's zeros.
        moments = (jax.tree.map(jnp.zeros_like, start) for _ in range(2))
        self.state: Any = (start, *moments, jnp.zeros((), jnp.float32))
        self.places = Places(self.case.steps)

    def _batch(self, X: Any, y: Any, order: Any, number: Any) -> tuple[Any, Any]:
        start, size = number * self.case.batch, self.case.batch
        if order is None:
            return (
                jax.lax.dynamic_slice_in_dim(X, start, size),
                jax.lax.dynamic_slice_in_dim(y, start, size),
            )
        places = jax.lax.dynamic_slice_in_dim(order, start, size)
        return X[places], y[places]

    def _one(self, state: Any, X: Any, y: Any, order: Any, number: Any) -> tuple[Any, Any]:
        return self.step(state, self._batch(X, y, order, number))

    def _many(
        self, state: Any, X: Any, y: Any, order: Any, first: Any, count: int
    ) -> tuple[Any, Any]:
        def body(state: Any, number: Any) -> tuple[Any, Any]:
            return self._one(state, X, y, order, number)

        return jax.lax.scan(body, state, first + jnp.arange(count))

    def steps(self, first: int, count: int) -> list[Any]:
        """Start steps; return their losses, which lie on the device."""
        found = []
        for number in range(first, first + count):
            self.state, loss = self.one(self.state, self.X, self.y, self.order, number)
            found.append(loss)
        return found

    def run(self, count: int) -> None:
        """Start that many steps."""
        with jax.default_matmul_precision(self.matmul):
            for first, part in self.places.following(count):
                if self.case.shuffled and first == 0:
                    self.epoch += 1
                    key = jax.random.key(self.epoch)
                    self.order = jax.random.permutation(key, self.case.rows)
                self.steps(first, part)

    def wait(self) -> None:
        """Wait for the device."""
        jax.block_until_ready(self.state)

    def losses(self, count: int) -> list[float]:
        """Make steps from the first batch on, as the rows come; return the loss of each."""
        self.order = None
        with jax.default_matmul_precision(self.matmul):
            found = self.steps(0, min(count, self.case.steps))
        return [float(loss) for loss in np.concatenate([np.atleast_1d(x) for x in found])]

    def sample(self, count: int) -> float:
        """Seconds a step of that many steps; JAX has no events."""
        return wall_seconds(self, count)

    def weights(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases now."""
        return [np.asarray(W) for W, _ in self.state[0]], [np.asarray(b) for _, b in self.state[0]]


class Scanned(Jitted):
    """All steps of a call in one scan."""

    def steps(self, first: int, count: int) -> list[Any]:
        """Start steps; return their losses, which lie on the device."""
        self.state, found = self.many(self.state, self.X, self.y, self.order, first, count)
        return [found]


def _step(case: Case, narrow: bool, state: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
    """One step: (parameters, moments, steps made), (rows, targets) -> the same, loss."""
    parameters, m, v, t = state
    value, g = jax.value_and_grad(_loss(case, narrow))(parameters, *batch)
    t = t + 1
    m = jax.tree.map(lambda a, d: BETA1 * a + (1 - BETA1) * d, m, g)
    v = jax.tree.map(lambda a, d: BETA2 * a + (1 - BETA2) * d * d, v, g)
    c1, c2 = 1 - BETA1**t, 1 - BETA2**t
    parameters = jax.tree.map(
        lambda p, a, s: p - RATE * (a / c1) / (jnp.sqrt(s / c2) + EPSILON), parameters, m, v
    )
    return (parameters, m, v, t), value


def _loss(case: Case, narrow: bool) -> Callable[..., Any]:
    kind = jnp.bfloat16 if narrow else jnp.float32

    def loss(parameters: Any, X: Any, y: Any) -> Any:
        for W, b in parameters[:-1]:
            X = jax.nn.relu(X.astype(kind) @ W.astype(kind) + b.astype(kind))
        W, b = parameters[-1]
        Z = (X.astype(kind) @ W.astype(kind)).astype(jnp.float32) + b
        if case.layers[-1] == 1:
            z = Z[:, 0]
            return (jax.nn.softplus(z) - y * z).mean()
        logs = jax.nn.log_softmax(Z)
        return -jnp.take_along_axis(logs, y[:, None], 1).mean()

    return loss

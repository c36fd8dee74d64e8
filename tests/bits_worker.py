"""Train many small networks and print a digest of each; one process per instruction set."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator

import numpy as np

from fastmlp import MLP, kernels
from fastmlp.kernels.contract import Data, Layer, Network, Order, State, Update
from fastmlp.kernels.layout import length, parameter_segments, running_segments
from fastmlp.kernels.numba_cpu.intrinsics import VECTOR_BITS

BACKEND = kernels.load("numba")
SGD = Update("sgd")
ADAM = (0.9, 0.99, 1e-8)
RULES = {
    "sgd": (),
    "adagrad": (1e-8,),
    "rmsprop": (0.9, 1e-8),
    "adam": ADAM,
    "adam_epsilon_hat": ADAM,
    "adamw": (*ADAM, 0.01),
    "lamb": (*ADAM, 0.01),
    "lars": (0.9, 0.02, 1e-4),
}
PROBABILITIES = {"binary_cross_entropy": "sigmoid", "poisson": "softplus"}


def cases() -> Iterator[tuple[str, Network, Update, int]]:
    """Every activation, loss and optimizer, odd widths, many classes, tiny networks, one row."""
    sgd = Update("sgd")
    for name in BACKEND.ACTIVATIONS:
        if name not in ("softmax", "step"):
            pieces = 3 if name == "maxout" else 1
            for norm in (None, "batch", "layer"):
                hidden = Layer(19, 33, name, 0.1, pieces, norm, 0.2)
                network = Network((hidden, Layer(33, 17, "softmax")), "cross_entropy", l2=1e-3)
                yield f"{name} {norm}", network, sgd, 37
    for loss in BACKEND.LOSSES:
        output = PROBABILITIES.get(loss, "softmax" if loss == "cross_entropy" else "identity")
        for sizes in ((19, 31, 11), (3, 4, 2)):
            layers = (Layer(sizes[0], sizes[1], "tanh"), Layer(sizes[1], sizes[2], output))
            yield f"{loss} {sizes}", Network(layers, loss, 0.5), sgd, 16
    for rule in BACKEND.UPDATES:
        constants = RULES.get(rule, (0.9,))
        for sizes in ((127, 15, 100), (2, 3, 2)):
            layers = (Layer(sizes[0], sizes[1], "sigmoid"), Layer(sizes[1], sizes[2], "softmax"))
            clipped = Update(rule, constants, clip_norm=1.0 if sizes[0] == 127 else 0.0)
            yield f"{rule} {sizes}", Network(layers, "cross_entropy"), clipped, 65
    for loss, hidden, output in (
        ("cross_entropy", "tanh", "softmax"),
        ("squared_error", "gelu", "identity"),
    ):
        layers = (Layer(3, 5, hidden), Layer(5, 4, hidden), Layer(4, 2, output))
        yield f"narrow, a whole block, {loss}", Network(layers, loss), sgd, 64
    layers = (Layer(50, 31, "relu"), Layer(31, 10, "softmax"))
    yield "single rows", Network(layers, "cross_entropy"), sgd, 1
    yield "one batch", Network(layers, "cross_entropy"), sgd, 1000


def trained(network: Network, rule: Update, batch: int, dtype: str) -> str:
    """Digest of losses, all numbers and the outputs after two epochs."""
    rng = np.random.default_rng(5)
    rows, units = 150, network.layers[-1].units
    X = rng.normal(size=(rows, network.layers[0].inputs)).astype(dtype)
    T = rng.integers(0, units, rows)
    if network.loss != "cross_entropy":
        margin = network.loss in ("hinge", "squared_hinge", "exponential", "perceptron")
        T = rng.choice([-1 if margin else 0, 1], (rows, units)).astype(dtype)
    segments = parameter_segments(network)
    start = (rng.normal(size=length(segments)) * 0.2).astype(dtype)
    for segment in segments:
        if segment.kind in ("scale", "beta"):
            segment.view(start)[...] = 1
    slots = np.zeros((BACKEND.UPDATES[rule.name].slots, start.size), dtype)
    state = State(start, slots, np.full(length(running_segments(network)), 0.7, dtype))
    plan = BACKEND.make_plan(network, rule, dtype)
    plan.load(state)
    count = -(-rows // batch)
    losses = np.zeros((2, count))
    for epoch in range(2):
        rates, order = np.full(count, 0.01), Order("keyed", 9 + epoch)
        BACKEND.train_steps(
            plan, losses[epoch], Data(X, T, None), order, batch, 0, count, rates, epoch * count, 3
        )
    out = np.empty((rows, units), dtype)
    BACKEND.forward(plan, out, X, False)
    plan.store(state)
    digest = hashlib.sha256()
    for array in (*state, losses, out):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def converted(given: str, dtype: str) -> str:
    """Digest of what a network makes of rows in another dtype: the same as of rows in its own."""
    kind = np.dtype(given)
    bits = np.random.default_rng(3).integers(0, 256, 1800 * 37 * kind.itemsize, np.uint8)
    if given == "float16":  # each of them
        bits[: 1 << 17] = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    X = bits.view(kind).reshape(1800, 37)
    if kind.kind == "f":
        with np.errstate(all="ignore"):
            X[~np.isfinite(X.astype(dtype))] = 1
    plan = BACKEND.make_plan(Network((Layer(37, 37, "identity"),), "squared_error"), SGD, dtype)
    plan.load(State(np.eye(38, 37, dtype=dtype).ravel(), np.zeros((0, 38 * 37)), np.zeros(0)))
    out = np.empty_like(X, dtype)
    BACKEND.forward(plan, out, X, True)
    with np.errstate(all="ignore"):
        wanted = X.astype(dtype)
    # Steps on x86 take numbers below the smallest normal one of X or the network for zeros.
    tiny = max(float(np.finfo(d).tiny) for d in (dtype, given) if d in ("float32", "float64"))
    assert ((out == wanted) | (np.abs(wanted) <= tiny)).all()
    return hashlib.sha256(out.tobytes()).hexdigest()[:16]


def fitted(dtype: str) -> str:
    """Digest of a network that `fit` has trained."""
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(700, 23)), rng.integers(0, 4, 700)
    net = MLP((23, 40, 20, 4), dtype=dtype, seed=1, optimizer="adam")
    net.fit(X, y, epochs=5, batch_size=64)
    return hashlib.sha256(net.predict_proba(X).tobytes()).hexdigest()[:16]


def main() -> None:
    """Print the vector width and the digests as JSON."""
    found: dict[str, object] = {"vector bits": VECTOR_BITS}
    for dtype in ("float32", "float64"):
        for name, network, rule, batch in cases():
            found[f"{name} {dtype}"] = trained(network, rule, batch, dtype)
        for given in BACKEND.GATHERED:
            found[f"rows of {given} for {dtype}"] = converted(given, dtype)
        found[f"fit {dtype}"] = fitted(dtype)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

"""Forward, backprop, update and training steps, composed from the vocabulary.

A layer is product and bias, normalization, activation, dropout. Its numbers go by these letters:
X what it is given, Z = X W + b, Y what the activation is given (Z, normalized or not), A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..contract import Array, Data, Layer, Order, Update
from ..layout import FLOORS, LEARNED
from .activations import ACTIVATIONS
from .losses import LOGIT_LOSSES, LOSSES
from .normalization import NORMALIZATIONS, RUNNING
from .plan import Plan, Views
from .products import affine, bias_gradient, input_gradient, weight_gradient
from .random import dropout_scale, shuffle_places
from .updates import UPDATES

# A diverging network overflows; the caller learns of it from the loss and from Plan.finite.
_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class _Mode(NamedTuple):
    """How a forward pass treats normalization and dropout."""

    training: bool = False
    key: int = 0
    step: int = 0


class _Pass(NamedTuple):
    """What a forward pass leaves of one layer; hat, spread and mask where there is such a thing."""

    X: Array
    Z: Array
    hat: Array
    spread: Array
    Y: Array
    A: Array
    mask: Array | None
    out: Array


@_quiet
def forward(plan: Plan, out: Array, X: Array, logits: bool) -> None:
    """Fill out with logits (N, columns of the last layer) or outputs (N, O)."""
    last = _last_pass(plan, X)
    out[...] = last.Y if logits else last.A


@_quiet
def row_losses(plan: Plan, losses: Array, X: Array, T: Array) -> None:
    """Fill losses (N,) with each row's loss, unweighted, without penalties."""
    _row_losses(plan, losses, _last_pass(plan, X), _targets(plan, T))


@_quiet
def backprop(
    plan: Plan,
    gradient: Array,
    X: Array,
    T: Array,
    w: Array | None,
    key: int,
    step: int,
    training: bool,
) -> float:
    """Fill the canonical gradient (P,) over all rows as one batch; return the loss.

    With `training`, batch statistics and the dropout mask of `step`, the number of updates made so
    far; else running statistics, which are constants to the gradient, and no dropout. Running
    statistics stay as they are. Where the weights w sum to zero, penalties alone count, and those
    with ``penalty_scale`` "rows" are zero too.

    Source: Rumelhart, Hinton & Williams 1986.
    """
    passes = list(_passes(plan, X, _Mode(training, key, step)))
    return _backprop(plan, gradient, passes, T, w, training)


@_quiet
def update(plan: Plan, gradient: Array, rate: float, step: int) -> None:
    """Apply the plan's optimizer once, as its update number `step`, counted from 1."""
    g = _clipped(plan.rule, gradient)
    for segment in plan.segments:
        span = slice(segment.start, segment.stop)
        p = plan.state.parameters[span]
        rule = plan.rule if segment.kind == "weights" else plan.rule.for_vectors
        apply = UPDATES[rule.name].apply
        apply(p, plan.state.slots[:, span], g[span], rate, step, rule.constants)
        if segment.kind in FLOORS:
            np.maximum(p, FLOORS[segment.kind], out=p)


@_quiet
def train_steps(
    plan: Plan,
    losses: Array,
    data: Data,
    order: Order,
    batch: int,
    first: int,
    count: int,
    rates: Array,
    step: int,
    key: int,
    total: Array | None = None,
) -> int:
    """Run `count` minibatches: gather, `backprop`, running statistics, `update`."""
    gradient = np.empty_like(plan.state.parameters)
    made = 0
    for number in range(count):
        X, T, w = _gather(data, order, (first + number) * batch, batch)
        if w is not None and not w.any():
            losses[number] = _penalty(plan, _penalty_share(plan, 0.0))
        else:
            passes = list(_passes(plan, X, _Mode(True, key, step + made)))
            losses[number] = _backprop(plan, gradient, passes, T, w, training=True)
            _move_running(plan, passes)
            update(plan, gradient, float(rates[made]), step + made + 1)
            made += 1
        if total is not None:
            total += losses[number]
    return made


def _learned(layer: Layer, views: dict[str, Array]) -> tuple[Array, ...]:
    return tuple(views[kind] for kind in LEARNED.get(layer.activation, ()))


def _last_pass(plan: Plan, X: Array) -> _Pass:
    # A loop, not a list: the layers before the last one need not stay in memory.
    for passed in _passes(plan, X, _Mode()):
        last = passed
    return last


def _passes(plan: Plan, X: Array, mode: _Mode) -> Iterator[_Pass]:
    X = X.astype(plan.dtype, copy=False)
    for number in range(len(plan.network.layers)):
        passed = _layer_forward(plan, number, X, mode)
        yield passed
        X = passed.out


def _layer_forward(plan: Plan, number: int, X: Array, mode: _Mode) -> _Pass:
    layer, views = plan.network.layers[number], plan.views[number]
    Z = np.empty((len(X), layer.columns), plan.dtype)
    affine(Z, X, views["weights"], views["biases"])
    Y, hat, spread = _normalized(plan, number, Z, mode.training)
    A = np.empty((len(X), layer.units), plan.dtype)
    ACTIVATIONS[layer.activation].forward(A, Y, _learned(layer, views), layer.constant)
    mask = _mask(plan, number, A, mode)
    return _Pass(X, Z, hat, spread, Y, A, mask, A if mask is None else A * mask)


def _normalized(plan: Plan, number: int, Z: Array, training: bool) -> tuple[Array, Array, Array]:
    """Give Y, hat and spread; Z itself and two empty arrays where nothing is normalized."""
    kind, views = plan.network.layers[number].normalization, plan.views[number]
    if kind is None:
        return Z, Z[:0], Z[:0]
    Y, hat = np.empty_like(Z), np.empty_like(Z)
    spread = np.empty(len(Z) if kind == "layer" else Z.shape[1], plan.dtype)
    if kind == "batch" and not training:
        running = plan.running[number]
        RUNNING.forward(
            Y, hat, spread, Z, views["scale"], views["shift"], running["mean"], running["variance"]
        )
    else:
        NORMALIZATIONS[kind].forward(Y, hat, spread, Z, views["scale"], views["shift"])
    return Y, hat, spread


def _mask(plan: Plan, number: int, A: Array, mode: _Mode) -> Array | None:
    """Draw the dropout mask of a hidden layer."""
    rate = plan.network.layers[number].dropout
    if not mode.training or rate == 0.0 or number == len(plan.network.layers) - 1:
        return None
    mask = np.empty_like(A)
    dropout_scale(mask, mode.key, mode.step, number, rate)
    return mask


def _targets(plan: Plan, T: Array) -> Array:
    """Turn class indices (N,) into one-hot rows (N, O); leave other targets as they are."""
    if T.ndim == 2:
        return T
    classes = np.arange(plan.network.layers[-1].units)
    return np.asarray(T[:, None] == classes, plan.dtype)


def _row_losses(plan: Plan, losses: Array, last: _Pass, T: Array) -> None:
    network = plan.network
    joined = LOGIT_LOSSES.get((network.loss, network.layers[-1].activation))
    if joined is not None:
        joined.value(losses, last.Y, T)
    else:
        LOSSES[network.loss].value(losses, last.A, T, network.loss_constant)


def _backprop(
    plan: Plan, gradient: Array, passes: list[_Pass], T: Array, w: Array | None, training: bool
) -> float:
    network, T = plan.network, _targets(plan, T)
    rows = len(T)
    total = float(rows) if w is None else float(w.sum(dtype=np.float64))
    data_share = _inverse(total) if network.reduction == "mean" else 1.0
    penalty_share = _penalty_share(plan, total)
    losses = np.empty(rows, plan.dtype)
    _row_losses(plan, losses, passes[-1], T)
    weights = np.ones(rows, plan.dtype) if w is None else w
    gradients = plan.by_layer(plan.segments, gradient)
    _fill_gradients(plan, gradients, passes, T, data_share * weights, training)
    _add_penalty_gradient(plan, gradients, penalty_share)
    data_loss = float((losses.astype(np.float64) * weights).sum())
    return data_share * data_loss + _penalty(plan, penalty_share)


def _fill_gradients(
    plan: Plan,
    gradients: Views,
    passes: list[_Pass],
    T: Array,
    row_scale: Array,
    training: bool,
) -> None:
    """Go backwards through the layers; row_scale (N,) multiplies each row's loss."""
    dY = _output_gradient(plan, gradients, passes[-1], T, row_scale)
    for number in reversed(range(len(passes))):
        dZ = _normalization_gradient(plan, number, gradients[number], passes[number], dY, training)
        weight_gradient(gradients[number]["weights"], passes[number].X, dZ)
        if training and plan.network.layers[number].normalization == "batch":
            # The mean of the batch takes the bias away. What is left of its gradient is rounding
            # noise, which Adam would divide by its own size and turn into whole steps.
            gradients[number]["biases"][...] = 0
        else:
            bias_gradient(gradients[number]["biases"], dZ)
        if number > 0:
            dX = np.empty_like(passes[number].X)
            input_gradient(dX, dZ, plan.views[number]["weights"])
            dY = _activation_gradient(plan, number - 1, gradients, passes[number - 1], dX)


def _output_gradient(
    plan: Plan, gradients: Views, last: _Pass, T: Array, row_scale: Array
) -> Array:
    network = plan.network
    joined = LOGIT_LOSSES.get((network.loss, network.layers[-1].activation))
    if joined is not None:
        dY = np.empty_like(last.Y)
        joined.gradient(dY, last.Y, T)
        return np.asarray(dY * row_scale[:, None])
    dA = np.empty_like(last.A)
    LOSSES[network.loss].gradient(dA, last.A, T, network.loss_constant)
    dA *= row_scale[:, None]
    return _activation_gradient(plan, len(network.layers) - 1, gradients, last, dA)


def _activation_gradient(
    plan: Plan, number: int, gradients: Views, passed: _Pass, dout: Array
) -> Array:
    layer = plan.network.layers[number]
    backward = ACTIVATIONS[layer.activation].backward
    if backward is None:
        raise ValueError(f"activation {layer.activation!r} has no derivative to train by")
    dA = dout if passed.mask is None else dout * passed.mask
    dY = np.empty_like(passed.Y)
    learned = _learned(layer, plan.views[number])
    dlearned = _learned(layer, gradients[number])
    backward(dY, dlearned, dA, passed.Y, passed.A, learned, layer.constant)
    return dY


def _normalization_gradient(
    plan: Plan, number: int, gradients: dict[str, Array], passed: _Pass, dY: Array, training: bool
) -> Array:
    kind = plan.network.layers[number].normalization
    if kind is None:
        return dY
    frozen = kind == "batch" and not training
    backward = RUNNING.backward if frozen else NORMALIZATIONS[kind].backward
    dZ = np.empty_like(dY)
    scale = plan.views[number]["scale"]
    backward(dZ, gradients["scale"], gradients["shift"], dY, passed.hat, passed.spread, scale)
    return dZ


def _inverse(total: float) -> float:
    """1/total, where a total of zero makes nothing count."""
    return 1.0 / total if total else 0.0


def _penalty_share(plan: Plan, total: float) -> float:
    """Factor of the penalties in a batch whose weights (or rows) sum to `total`."""
    return _inverse(total) if plan.network.penalty_scale == "rows" else 1.0


def _penalty(plan: Plan, share: float) -> float:
    """Give share (l1 sum |W| + l2/2 sum W^2) over the weights of all layers."""
    l1, l2 = plan.network.l1, plan.network.l2
    if l1 == 0.0 and l2 == 0.0:
        return 0.0
    weights = [views["weights"].astype(np.float64) for views in plan.views]
    total = sum(l1 * np.abs(W).sum() + 0.5 * l2 * np.square(W).sum() for W in weights)
    return share * float(total)


def _add_penalty_gradient(plan: Plan, gradients: Views, share: float) -> None:
    l1, l2 = share * plan.network.l1, share * plan.network.l2
    for views, gradient in zip(plan.views, gradients, strict=True):
        W = views["weights"]
        if l1:
            gradient["weights"] += l1 * np.sign(W)
        if l2:
            gradient["weights"] += l2 * W


def _clipped(rule: Update, gradient: Array) -> Array:
    """Cut each entry, then scale the whole gradient down to the norm (Pascanu et al. 2013)."""
    g = gradient
    if rule.clip_value:
        g = np.clip(g, -rule.clip_value, rule.clip_value)
    if rule.clip_norm:
        wide = g.astype(np.float64)
        norm = math.sqrt(float(wide @ wide))
        g = g * (rule.clip_norm / norm) if norm > rule.clip_norm else g
    return g


def _gather(data: Data, order: Order, start: int, batch: int) -> tuple[Array, Array, Array | None]:
    """Take the rows at places start ... of the order, fewer at the epoch's end."""
    rows = len(data.X)
    places = slice(start, min(start + batch, rows))
    if order.kind == "sequence":
        index: Any = places
    elif order.listed is not None:
        index = order.listed[places]
    else:
        index = np.empty(places.stop - start, np.int64)
        shuffle_places(index, rows, order.key, start)
    return data.X[index], data.T[index], None if data.w is None else data.w[index]


def _move_running(plan: Plan, passes: list[_Pass]) -> None:
    for running, passed in zip(plan.running, passes, strict=True):
        if running:
            RUNNING.move(running["mean"], running["variance"], passed.Z)

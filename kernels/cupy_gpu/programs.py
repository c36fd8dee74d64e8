"""A network's passes as lists of launches, made once for each number of rows.

X is what a layer is given, Z = X W + b, Y what the activation is given: Z, or Z normalized in its
place. A is the activation's value.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from ..layout import FLOORS, LEARNED
from . import activations, losses, normalization, sums, updates
from .buffers import Buffers
from .codes import JOINED, LOSS_CODES, UPDATE_CODES
from .device import DeviceArray
from .plan import Plan, Program
from .random import kept_and_threshold

Launches = Iterator[Any]

_Slopes = tuple[DeviceArray, DeviceArray, DeviceArray]
"""A gradient, the buffer that it lies in, and the one that is free."""


class Passes:
    """The launches of one plan for batches of `rows` rows."""

    def __init__(self, plan: Plan, rows: int, training: bool) -> None:
        self.plan, self.rows, self.training = plan, rows, training
        self.kernels = plan.kernels
        self.buffers = plan.reserve(rows)
        self.layers = plan.network.layers
        self.parameters = [plan.of_layer(i, plan.parameters) for i in range(len(self.layers))]
        read = plan.parameters if plan.copy is None else plan.copy
        self.weights = [plan.of_layer(i, read)["weights"] for i in range(len(self.layers))]
        self.gradients = [plan.of_layer(i, plan.gradient) for i in range(len(self.layers))]
        self.joined = (plan.network.loss, self.layers[-1].activation) in JOINED

    # Views

    def z_of(self, number: int) -> DeviceArray:
        """Z of a layer, which normalization turns into Y."""
        return self._matrix(self.buffers.layers[number].Z, self.layers[number].columns)

    def a_of(self, number: int) -> DeviceArray:
        """What a layer's activation gives."""
        return self._matrix(self.buffers.layers[number].A, self.layers[number].units)

    def x_of(self, number: int) -> DeviceArray:
        """What a layer is given."""
        if number == 0:
            return self._matrix(self.buffers.X, self.layers[0].inputs)
        before = self.buffers.layers[number - 1]
        flat = before.dropped if self._drops(number - 1) else before.A
        return self._matrix(flat, self.layers[number].inputs)

    def t_of(self, labelled: bool) -> DeviceArray:
        """Class indices (rows,) or targets (rows, outputs)."""
        if labelled:
            return self.buffers.labels[: self.rows]
        return self._matrix(self.buffers.T, self.layers[-1].units)

    def _matrix(self, flat: DeviceArray, columns: int) -> DeviceArray:
        return Buffers.matrix(flat, self.rows, columns)

    def _learned(self, views: dict[str, DeviceArray], number: int) -> tuple[DeviceArray, ...]:
        kinds = LEARNED.get(self.layers[number].activation, ())
        return tuple(views[kind] for kind in kinds)

    def _drops(self, number: int) -> bool:
        return self.training and self.buffers.layers[number].dropped is not None

    # Forward

    def forward(self, outputs: bool) -> Launches:
        """All layers; `outputs`: the last activation too, where the loss does not need it."""
        for number, layer in enumerate(self.layers):
            views, Z = self.parameters[number], self.z_of(number)
            last = number == len(self.layers) - 1
            bias: DeviceArray | None = views["biases"]
            # Elsewhere the activation adds it, on its way through Z.
            alone = layer.normalization is not None or (last and self.joined and not outputs)
            within = bias if alone and self.plan.joins_biases else None
            yield self.plan.product(Z, self.x_of(number), self.weights[number], within)
            if alone and within is None:
                yield self.kernels.launch("add_bias", Z.size, Z, bias, *Z.shape)
            if alone:
                bias = None
            if layer.normalization is not None:
                yield from self._normalize(number, views)
            if not last or outputs or not self.joined:
                kept = Z if bias is not None else None
                learned = self._learned(views, number)
                yield from activations.forward_launches(
                    *(self.kernels, layer.activation, self.a_of(number), kept, Z, bias),
                    *(learned, layer.constant),
                )
            if self._drops(number):
                yield self._drop(number, self.x_of(number + 1), self.a_of(number))

    def _normalize(self, number: int, views: dict[str, DeviceArray]) -> Launches:
        own, Z = self.buffers.layers[number], self.z_of(number)
        hat = self._matrix(own.hat, self.layers[number].columns)
        scale, shift = views["scale"], views["shift"]
        if own.moments is None:
            spread = own.spread[: self.rows]
            yield normalization.layer_launch(self.kernels, Z, hat, spread, Z, scale, shift)
            return
        mean, _, spread = own.moments
        if self.training:
            scratch = self.buffers.scratch
            yield from normalization.moment_launches(self.kernels, own.moments, Z, scratch)
        else:
            running = self.plan.statistics_of(number)
            mean = running["mean"]
            yield normalization.spread_launch(self.kernels, spread, running["variance"])
        yield normalization.columns_launch(self.kernels, Z, hat, Z, mean, spread, scale, shift)

    def _drop(self, number: int, out: DeviceArray, given: DeviceArray) -> Any:
        kept, threshold = kept_and_threshold(self.layers[number].dropout)
        rows, units = given.shape
        return self.kernels.launch(
            *("dropout_apply", rows * -(-units // 4), out, given, self.plan.clock),
            *(number, threshold, kept, rows, units),
        )

    # Loss

    def row_losses(self, labelled: bool) -> Launches:
        """Each row's loss."""
        yield self._loss(None, labelled, False)

    def _loss(self, D: DeviceArray | None, labelled: bool, weighted: bool) -> Any:
        network, last = self.plan.network, len(self.layers) - 1
        code = LOSS_CODES[
            (network.loss, self.layers[-1].activation) if self.joined else network.loss
        ]
        return losses.loss_launch(
            *(self.kernels, code, network.loss_constant, self.buffers.losses[: self.rows], D),
            *(self.z_of(last) if self.joined else self.a_of(last), self.t_of(labelled)),
            self.buffers.w[: self.rows] if weighted else None,
            self.plan.numbers if D is not None else None,
        )

    # Backward

    def gradient(self, labelled: bool, weighted: bool) -> Launches:
        """Everything from X to the whole gradient, with what `finish` makes a loss of."""
        yield from self._begin(weighted)
        yield from self.forward(False)
        last = len(self.layers) - 1
        slopes, spare = self.buffers.slopes
        D = self._matrix(slopes, self.layers[last].units)
        yield self._loss(D, labelled, weighted)
        yield self._loss_parts(weighted)
        dY = D
        if not self.joined:
            dY, slopes, spare = yield from self._activation(last, D, slopes, spare)
        for number in reversed(range(len(self.layers))):
            yield from self._layer(number, dY)
            if number > 0:
                dX = self._matrix(spare, self.layers[number].inputs)
                yield self.plan.product(dX, dY, self.weights[number].T)
                slopes, spare = spare, slopes
                if self._drops(number - 1):
                    yield self._drop(number - 1, dX, dX)
                dY, slopes, spare = yield from self._activation(number - 1, dX, slopes, spare)
        yield from self._penalties()

    def _begin(self, weighted: bool) -> Launches:
        network, parts = self.plan.network, 0
        if weighted:
            parts, w = sums.parts(self.rows), self.buffers.w[: self.rows]
            yield self.kernels.launch(
                "product_partials", parts, self.buffers.weight_parts, w, None, parts, self.rows
            )
        yield self.kernels.one_block(
            *("begin_batch", parts, self.plan.numbers, self.buffers.weight_parts, parts, self.rows),
            *(network.reduction == "mean", network.penalty_scale == "rows"),
        )

    def _loss_parts(self, weighted: bool) -> Any:
        parts, rows = sums.parts(self.rows), self.rows
        w = self.buffers.w[:rows] if weighted else None
        return self.kernels.launch(
            *("product_partials", parts, self.buffers.loss_parts, self.buffers.losses[:rows], w),
            *(parts, rows),
        )

    def _activation(
        self, number: int, dA: DeviceArray, slopes: DeviceArray, spare: DeviceArray
    ) -> Generator[Any, None, _Slopes]:
        """From dA, which lies in `slopes`, to dY; return it and where it and nothing lies."""
        layer, Z = self.layers[number], self.z_of(number)
        learned = self._learned(self.parameters[number], number)
        if learned:
            yield from activations.learned_launches(
                *(self.kernels, layer.activation, self._learned(self.gradients[number], number)),
                *(dA, Z, learned, self.buffers.scratch),
            )
        if layer.activation == "identity":
            return dA, slopes, spare
        dY = dA
        if layer.activation == "maxout":
            slopes, spare = spare, slopes
            dY = self._matrix(slopes, layer.columns)
        yield activations.backward_launch(
            *(self.kernels, layer.activation, dY, dA, Z, self.a_of(number), learned, layer.constant)
        )
        return dY, slopes, spare

    def _layer(self, number: int, dY: DeviceArray) -> Launches:
        """Normalization, weights and biases; dY becomes dZ in its place."""
        own, into = self.buffers.layers[number], self.gradients[number]
        kind, rows = self.layers[number].normalization, self.rows
        if kind is not None:
            spread = own.spread[:rows] if own.moments is None else own.moments.spread
            hat = self._matrix(own.hat, self.layers[number].columns)
            yield from normalization.backward_launches(
                *(self.kernels, "running" if kind == "batch" and not self.training else kind),
                *(dY, into["scale"], into["shift"], dY, hat, spread),
                *(self.parameters[number]["scale"], self.buffers.scratch),
            )
        yield self.plan.product(into["weights"], self.x_of(number).T, dY)
        if kind == "batch" and self.training:
            # The mean takes the bias away; what is left of its gradient is rounding noise.
            biases = into["biases"]
            yield self.kernels.launch("fill", biases.size, biases, 0, biases.size)
        else:
            yield from sums.columns(self.kernels, into["biases"], dY, self.buffers.scratch[0])

    def _penalties(self) -> Launches:
        l1, l2 = self.plan.network.l1, self.plan.network.l2
        if l1 == 0.0 and l2 == 0.0:
            return
        for number, parts, start in self._penalty_places():
            W, dW = self.parameters[number]["weights"], self.gradients[number]["weights"]
            own = self.buffers.penalty_parts[start : start + parts]
            yield self.kernels.launch("penalty_partials", parts, own, W, l1, l2, parts, W.size)
            numbers = self.plan.numbers
            yield self.kernels.launch("penalty_gradient", W.size, dW, W, numbers, l1, l2, W.size)

    def _penalty_places(self) -> Iterator[tuple[int, int, int]]:
        """Layer, number of partial sums of its penalty, and their first place."""
        start = 0
        for number, layer in enumerate(self.layers):
            parts = sums.parts(layer.inputs * layer.columns)
            yield number, parts, start
            start += parts

    def finish(self) -> Launches:
        """The batch's loss; the clock goes on."""
        network, parts = self.plan.network, sums.parts(self.rows)
        penalized = network.l1 != 0.0 or network.l2 != 0.0
        penalties = sum(count for _, count, _ in self._penalty_places()) if penalized else 0
        yield self.kernels.one_block(
            *("finish_batch", max(parts, penalties), self.plan.losses, self.plan.numbers),
            *(self.plan.clock, self.buffers.loss_parts, parts),
            *(self.buffers.penalty_parts, penalties),
        )

    # After the gradient

    def move_running(self) -> Launches:
        """Running statistics of every batch normalization."""
        for number, own in enumerate(self.buffers.layers):
            if own.moments is not None:
                running = self.plan.statistics_of(number)
                yield normalization.move_launch(
                    *(self.kernels, running["mean"], running["variance"], own.moments),
                    *(self.plan.numbers, self.rows),
                )

    def update(self) -> Launches:
        """The optimizer, on the whole gradient at once."""
        plan, rule = self.plan, self.plan.rule
        kernels, g = self.kernels, plan.gradient
        constants = updates.padded(rule.constants)
        code = UPDATE_CODES[rule.name]
        yield kernels.launch(
            "prepare_update", 1, plan.numbers, plan.clock, plan.rates, code, *constants
        )
        if rule.clip_value:
            yield kernels.launch("clip_values", g.size, g, rule.clip_value, g.size)
        if rule.clip_norm:
            parts, squares = sums.parts(g.size), self.buffers.square_parts
            yield kernels.launch("product_partials", parts, squares, g, g, parts, g.size)
            yield kernels.one_block(
                "clip_factor", parts, plan.numbers, squares, parts, rule.clip_norm
            )
        for start, stop, weights, floor in spans(plan):
            name = rule.name if weights else rule.for_vectors.name
            flat = (
                plan.parameters[start:stop],
                [slot[start:stop] for slot in plan.slot_vectors],
                g[start:stop],
            )
            if name in updates.TRUSTING:
                yield from updates.trust_launches(
                    *(kernels, name, *flat, plan.numbers, self.buffers.square_parts)
                )
            copy = None if plan.copy is None else plan.copy[start:stop]
            yield updates.update_launch(
                *(kernels, name, *flat, copy, plan.numbers, name == "adamw", floor)
            )


def spans(plan: Plan) -> list[tuple[int, int, bool, float]]:
    """Stretches that an update treats alike: start, stop, whether weights count, lowest value.

    Weights count where the rule does something else to all other parameters; a rule that trusts
    layers gets each layer's weights by themselves.
    """
    found: list[tuple[int, int, bool, float]] = []
    apart = plan.rule.for_vectors.name != plan.rule.name
    for segment, start in zip(plan.segments, plan.starts, strict=True):
        stop = start + segment.stop - segment.start
        weights = apart and segment.kind == "weights"
        alike = (weights, FLOORS.get(segment.kind, 0.0))
        alone = weights and plan.rule.name in updates.TRUSTING
        if found and found[-1][2:] == alike and not alone:
            found[-1] = (found[-1][0], stop, *alike)
        else:
            found.append((start, stop, *alike))
    return found


def infer(plan: Plan, rows: int) -> Program:
    """Logits and outputs of `rows` rows."""
    plan.reserve(rows)
    return plan.program(("infer", rows), lambda: list(Passes(plan, rows, False).forward(True)))


def measure(plan: Plan, rows: int, labelled: bool) -> Program:
    """The row losses of what `infer` left."""
    plan.reserve(rows)
    return plan.program(
        ("measure", rows, labelled), lambda: list(Passes(plan, rows, False).row_losses(labelled))
    )


def differentiate(plan: Plan, rows: int, labelled: bool, weighted: bool, training: bool) -> Program:
    """The gradient and the loss of `rows` rows."""
    plan.reserve(rows)

    def build() -> Program:
        passes = Passes(plan, rows, training)
        return [*passes.gradient(labelled, weighted), *passes.finish()]

    return plan.program(("differentiate", rows, labelled, weighted, training), build)


def train(plan: Plan, rows: int, labelled: bool, weighted: bool) -> Program:
    """A minibatch of `rows` rows, from gathered rows to moved parameters."""
    plan.reserve(rows)

    def build() -> Program:
        passes = Passes(plan, rows, True)
        gradient = passes.gradient(labelled, weighted)
        return [*gradient, *passes.move_running(), *passes.update(), *passes.finish()]

    return plan.program(("train", rows, labelled, weighted), build)


def apply(plan: Plan) -> Program:
    """One update by the gradient that lies there."""
    plan.reserve(1)

    def build() -> Program:
        passes = Passes(plan, 1, True)
        return [*passes._begin(False), *passes.update()]

    return plan.program("apply", build)

"""What a backend is: the records that cross its door, and the functions behind it.

A backend is a module with the attributes of `Backend`. Letters: N rows, I inputs, O outputs;
X, W, b, Z (before the activation), A (after it), d for gradients. No arithmetic lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NORMALIZATION_EPSILON = 1e-5
"""Added to a variance before its square root (Ioffe & Szegedy 2015, algorithm 1)."""

SMALLEST_SQUARE = 1.1754944e-38
"""A squared norm up to this counts as zero in a trust ratio: in single precision it would be."""

RUNNING_MOMENTUM = 0.1
"""Share of the newest batch in the running mean and variance."""


class Layer(NamedTuple):
    """One layer: product and bias, normalization, activation, dropout, in that order."""

    inputs: int
    units: int
    activation: str
    constant: float = 0.0
    """The activation's fixed number (slope of leaky_relu, alpha of elu); 0 where it has none."""
    pieces: int = 1
    """k of maxout: the product has ``pieces * units`` columns, piece by piece."""
    normalization: str | None = None
    dropout: float = 0.0

    @property
    def columns(self) -> int:
        """Columns of the weights, the biases and Z."""
        return self.pieces * self.units


class Network(NamedTuple):
    """Everything that decides a loss and its gradient, but for the parameters themselves."""

    layers: tuple[Layer, ...]
    loss: str
    loss_constant: float = 0.0
    """delta of huber, q of quantile; 0 where the loss has none."""
    reduction: str = "mean"
    l1: float = 0.0
    l2: float = 0.0
    penalty_scale: str = "batch"


class Update(NamedTuple):
    """An optimizer's rule: a key of ``UPDATES`` and the constants that it documents."""

    name: str
    constants: tuple[float, ...] = ()
    clip_value: float = 0.0
    """Every entry of the gradient is cut to [-clip_value, clip_value]; 0 leaves it."""
    clip_norm: float = 0.0
    """The gradient is scaled down to this Euclidean norm (after clip_value); 0 leaves it."""

    @property
    def for_vectors(self) -> Update:
        """What happens to all but the weights: no decay, no trust ratio."""
        name, constants = _VECTOR_RULES.get(self.name, (self.name, len(self.constants)))
        return self._replace(name=name, constants=self.constants[:constants])


_VECTOR_RULES = {"adamw": ("adam", 3), "lars": ("momentum_with_rate", 1), "lamb": ("adam", 3)}
"""Rules for weights -> the rule of all else, and how many of the constants it takes."""


class State(NamedTuple):
    """A network's numbers in canonical form; see `fastmlp.kernels.layout`."""

    parameters: Array
    """(P,)"""
    slots: Array
    """(S, P): the optimizer's S vectors (velocity, moments)."""
    running: Array
    """(R,): running means and variances of batch normalization."""


class Data(NamedTuple):
    """Training rows, checked by the caller: C-contiguous, native, aligned."""

    X: Array
    """(rows, inputs) in the plan's dtype or one of the backend's `GATHERED`; finite in the former.

    On a GPU it may lie there already.
    """
    T: Array
    """(rows,) int64 class indices, or (rows, outputs) in the plan's dtype.

    Class indices may be the user's own array, of any value, where a backend `DOUBTS_LABELS`.
    """
    w: Array | None = None
    """(rows,) sample weights in the plan's dtype, or None for ones."""


class Order(NamedTuple):
    """Which row comes at which place of an epoch."""

    kind: str
    """"sequence", "keyed" (a bijection of `key`) or "array" (`listed`)."""
    key: int = 0
    listed: Array | None = None
    """(rows,) int64, every entry in [0, rows)."""


class Activation(NamedTuple):
    """A pair of kernels. ``learned`` is a tuple of (units,) arrays, empty for most."""

    forward: Callable[..., None]
    """forward(A, Z, learned, constant)"""
    backward: Callable[..., None] | None
    """backward(dZ, dlearned, dA, Z, A, learned, constant); None: not differentiable."""


class Loss(NamedTuple):
    """A loss as a function of the network's output A, summed over the outputs of a row."""

    value: Callable[..., None]
    """value(losses, A, T, constant): losses (N,), A and T (N, O)"""
    gradient: Callable[..., None]
    """gradient(dA, A, T, constant)"""


class LogitLoss(NamedTuple):
    """A loss joined with an output activation, computed from Z so that it stays finite."""

    value: Callable[..., None]
    """value(losses, Z, T)"""
    gradient: Callable[..., None]
    """gradient(dZ, Z, T)"""


class UpdateRule(NamedTuple):
    """An optimizer's arithmetic on flat vectors."""

    apply: Callable[..., None]
    """apply(p, slots, g, rate, step, constants); step counts from 1."""
    slots: int


class Normalization(NamedTuple):
    """A pair of kernels over Z, (N, columns)."""

    forward: Callable[..., None]
    """forward(Y, hat, spread, Z, scale, shift); spread is 1/sqrt(variance + epsilon)."""
    backward: Callable[..., None]
    """backward(dZ, dscale, dshift, dY, hat, spread, scale)"""


class Plan(Protocol):
    """A network made ready to run: parameters in the backend's own layout, and all buffers."""

    network: Network
    dtype: np.dtype[Any]
    threads: int

    def load(self, state: State) -> None:
        """Take over the numbers of `state`."""

    def store(self, state: State) -> None:
        """Write the plan's numbers into the arrays of `state`."""

    def snapshot(self) -> Any:
        """Copy all numbers, in whatever form, for `restore`; it is good until the next one."""

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""

    def finite(self) -> bool:
        """Whether parameters, slots and running statistics are all finite numbers."""


class Backend(Protocol):
    """The attributes of a backend module."""

    NAME: str
    GATHERED: tuple[str, ...]
    """Names of the dtypes of X, besides the plan's, that are converted where rows are gathered.

    Results are those of ``X.astype(plan.dtype)``, to the bit.
    """
    DOUBTS_LABELS: bool
    """Whether the kernels take class indices that nobody has checked.

    A row of another class than 0 to O - 1 then has the loss NaN, and harms no memory.
    """
    ACTIVATIONS: Mapping[str, Activation]
    LOSSES: Mapping[str, Loss]
    LOGIT_LOSSES: Mapping[tuple[str, str], LogitLoss]
    NORMALIZATIONS: Mapping[str, Normalization]
    UPDATES: Mapping[str, UpdateRule]
    predict_few: Callable[[Plan, Array, bool], Array | None] | None
    """predict_few(plan, X, classes): the largest logits' indices (N,), or outputs (N, O).

    X is contiguous, of the plan's dtype, and nobody has looked for NaN; the answer is None where
    there is one, or more rows than this is for. None where a backend has no shorter way for them.
    """

    def make_plan(self, network: Network, update: Update, dtype: str, threads: int = 1) -> Plan:
        """Build a plan for a rule among `UPDATES`; its numbers are zeros until `Plan.load`.

        `threads` becomes `Plan.threads`; with more than one, compiling may use a second process.
        """

    def forward(self, plan: Plan, out: Array, X: Array, logits: bool) -> None:
        """Fill out (N, O) with logits or outputs: running statistics, no dropout, any N."""

    def row_losses(self, plan: Plan, losses: Array, X: Array, T: Array) -> None:
        """Fill losses (N,) with each row's loss, unweighted, without penalties."""

    def backprop(
        self,
        plan: Plan,
        gradient: Array,
        X: Array,
        T: Array,
        w: Array | None,
        key: int,
        step: int,
        training: bool,
    ) -> float:
        """Fill the canonical gradient (P,) over all rows as one batch; return the loss."""

    def update(self, plan: Plan, gradient: Array, rate: float, step: int) -> None:
        """Apply the plan's optimizer once to a canonical gradient (P,), which is not changed."""

    def train_steps(
        self,
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
        """Run `count` minibatches from batch number `first` of an epoch; return the updates made.

        Minibatch b holds the places b*batch ... of `order`, the last one what is left.
        losses (count,) float64 gets each batch's loss before its update. They are added to total
        (1,), float64, one after the other: however many calls an epoch takes, its sum has the same
        bits. The n-th update of the call uses rates[n] and is number step + n + 1 of the optimizer.
        A batch whose weights sum to zero makes no update and reports its penalty alone. `key`
        drives dropout. Inside of `interrupts.deferred` it may return early, between two updates,
        once Ctrl-C is pressed.
        """


def check_rule(backend: Backend, update: Update) -> None:
    """Raise a ValueError where a backend has not got an optimizer's rule."""
    if update.name not in backend.UPDATES:
        raise ValueError(
            f"optimizer {update.name!r} can't be used with backend {backend.NAME!r}, which has "
            f"{', '.join(backend.UPDATES)}"
        )

"""Makes tests/data/torch_parity.npz: losses, gradients and ten steps of small networks in PyTorch.

Needs torch and numpy, and nothing of fastmlp: all arithmetic here is PyTorch's, on the CPU in
float64. The file holds the data (X, w, T/...), for each group of cases its start (parameters,
running statistics) and its results, one row a case, and "index", a JSON text that says what each
row is, with PyTorch's version, the seed and the date.

Flat vectors are in canonical order: layer by layer weights (inputs, columns), biases, the
activation's own parameters, scale, shift. The weight of torch.nn.Linear is the transpose. Column
j * units + u of a maxout layer is piece j of unit u.

Two things are not PyTorch's habit. A bias before batch statistics has gradient 0, of which PyTorch
leaves rounding noise that Adam divides by its own size: the noise is recorded as it is, but the
bias does not take part in the ten steps. And torch.nn.utils.clip_grad_norm_ divides by the norm
plus 1e-6; here gradients are clipped by the norm itself.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SEED = 20260713
ROWS, INPUTS, OUTPUTS = 13, 5, 3
STEPS = 10
TINY, SMALL, LARGE = (INPUTS, 4, OUTPUTS), (INPUTS, 4, 3, OUTPUTS), (INPUTS, 11, 6, OUTPUTS)

Tensors = dict[str, Tensor]


class Case(NamedTuple):
    """One network, one loss, one optimizer; the words are fastmlp's."""

    group: str
    """Cases of a group share sizes, start and shapes."""
    loss: str
    output: str
    targets: str
    activation: str = "tanh"
    normalization: str | None = None
    sizes: tuple[int, ...] = SMALL
    training: bool = True
    """Whether batch normalization uses the batch's statistics in the first gradient."""
    steps: int = STEPS
    batch: int = ROWS
    weighted: bool = False
    reduction: str = "mean"
    l1: float = 0.0
    l2: float = 0.0
    penalty_scale: str = "batch"
    update: str = "adam"
    constants: tuple[float, ...] = (0.9, 0.999, 1e-8)
    rate: float = 0.01
    clip_value: float = 0.0
    clip_norm: float = 0.0


CONSTANTS = {"leaky_relu": 0.1, "elu": 0.7, "maxout": 2, "huber": 0.7, "quantile": 0.3}
LEARNED = {"prelu": ("slope",), "mpelu": ("alpha", "beta")}

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "identity": lambda Z: Z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda Z: F.leaky_relu(Z, CONSTANTS["leaky_relu"]),
    "prelu": F.prelu,
    "elu": lambda Z: F.elu(Z, CONSTANTS["elu"]),
    "selu": F.selu,
    "mpelu": lambda Z, alpha, beta: torch.where(
        Z > 0, Z, alpha * torch.expm1(beta * Z.clamp(max=0))
    ),
    "maxout": lambda Z: torch.max(Z.reshape(len(Z), int(CONSTANTS["maxout"]), -1), 1).values,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "exp": torch.exp,
    "softmax": lambda Z: F.softmax(Z, 1),
}
HIDDEN = [name for name in ACTIVATIONS if name not in ("exp", "softmax")]

# Each fills (rows, outputs) or (rows,) from the output A.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda A, T: -T * torch.log(A),
    "binary_cross_entropy": lambda A, T: F.binary_cross_entropy(A, T, reduction="none"),
    "squared_error": lambda A, T: F.mse_loss(A, T, reduction="none"),
    "half_squared_error": lambda A, T: 0.5 * F.mse_loss(A, T, reduction="none"),
    "mean_squared_error": lambda A, T: F.mse_loss(A, T, reduction="none").mean(1),
    "absolute_error": lambda A, T: F.l1_loss(A, T, reduction="none"),
    "mean_absolute_error": lambda A, T: F.l1_loss(A, T, reduction="none").mean(1),
    "huber": lambda A, T: F.huber_loss(A, T, reduction="none", delta=CONSTANTS["huber"]),
    "hinge": lambda A, T: F.relu(1 - T * A),
    "squared_hinge": lambda A, T: F.relu(1 - T * A).square(),
    "exponential": lambda A, T: torch.exp(-T * A),
    "perceptron": lambda A, T: F.relu(-T * A),
    "poisson": lambda A, T: F.poisson_nll_loss(
        A, T, log_input=False, full=False, eps=0.0, reduction="none"
    ),
    "quantile": lambda A, T: torch.maximum(
        CONSTANTS["quantile"] * (T - A), (CONSTANTS["quantile"] - 1) * (T - A)
    ),
}

# The same from Z, before the output activation.
LOGIT_LOSSES: dict[tuple[str, str], Callable[[Tensor, Tensor], Tensor]] = {
    ("cross_entropy", "softmax"): lambda Z, T: F.cross_entropy(Z, T, reduction="none"),
    ("cross_entropy", "sigmoid"): lambda Z, T: -T * F.logsigmoid(Z),
    ("binary_cross_entropy", "sigmoid"): lambda Z, T: F.binary_cross_entropy_with_logits(
        Z, T, reduction="none"
    ),
    ("poisson", "exp"): lambda Z, T: F.poisson_nll_loss(
        Z, T, log_input=True, full=False, reduction="none"
    ),
}

# Targets, the output activation that goes with a loss, and others that are in its domain.
TARGETS = dict.fromkeys(LOSSES, "real") | {
    "cross_entropy": "rows",
    "binary_cross_entropy": "binary",
    **dict.fromkeys(("hinge", "squared_hinge", "exponential", "perceptron"), "margin"),
    "poisson": "counts",
}
LINKS = dict.fromkeys(LOSSES, "identity") | {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "poisson": "exp",
}
DOMAINS = {
    "cross_entropy": ("softmax", "sigmoid"),
    "binary_cross_entropy": ("softmax", "sigmoid"),
    "poisson": ("exp", "softplus", "softmax", "sigmoid"),
}

# Made from the parameter groups, the rate and the constants.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": torch.optim.SGD,
    "nesterov": lambda groups, rate, mu: torch.optim.SGD(groups, rate, mu, nesterov=True),
    "adam": lambda groups, rate, b1, b2, eps: torch.optim.Adam(groups, rate, (b1, b2), eps),
    "adamw": lambda groups, rate, b1, b2, eps, decay: torch.optim.AdamW(
        [{**groups[0], "weight_decay": decay}, {**groups[1], "weight_decay": 0.0}],
        rate,
        (b1, b2),
        eps,
    ),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": lambda groups, rate, eps: torch.optim.Adagrad(groups, rate, eps=eps),
}


def cases() -> Iterator[Case]:
    """All cases, those of a group after one another."""
    yield from _grid()
    yield from _evaluation()
    yield from _outputs()
    yield from _options()
    yield from _optimizers()


def _grid() -> Iterator[Case]:
    """Every activation with every normalization and every loss.

    Identity has one hidden layer: where a batch normalization follows another without a kink or
    a curve between them, the first one's shift has gradient 0, of which rounding makes noise.
    """
    losses = [("cross_entropy", "classes"), *TARGETS.items()]
    for activation in HIDDEN:
        sizes = TINY if activation == "identity" else SMALL
        for kind in (None, "batch", "layer"):
            group = f"grid/{activation}/{kind}"
            for loss, targets in losses:
                yield Case(group, loss, LINKS[loss], targets, activation, kind, sizes)


def _evaluation() -> Iterator[Case]:
    """Gradients through batch normalization by running statistics."""
    for activation in HIDDEN:
        for loss in ("cross_entropy", "huber"):
            start = Case(f"evaluation/{activation}", loss, LINKS[loss], TARGETS[loss], activation)
            yield start._replace(normalization="batch", training=False, steps=0)


def _outputs() -> Iterator[Case]:
    """Every loss with every output activation for which it is defined: the chain rule."""
    for output in ACTIVATIONS:
        for loss, targets in TARGETS.items():
            if output in DOMAINS.get(loss, ACTIVATIONS):
                yield Case(f"outputs/{output}", loss, output, targets, sizes=TINY, steps=0)


def _options() -> Iterator[Case]:
    """Reductions, sample weights, penalties and minibatches."""
    for activation, kind in (("prelu", None), ("mpelu", "batch"), ("relu", "layer")):
        group = f"options/{activation}/{kind}"
        plain = Case(group, "cross_entropy", "softmax", "classes", activation, kind, LARGE)
        yield plain._replace(batch=5)
        yield plain._replace(reduction="sum")
        yield plain._replace(weighted=True)
        yield plain._replace(weighted=True, reduction="sum", batch=5)
        yield plain._replace(l1=0.01)
        yield plain._replace(l2=0.03, batch=5)
        yield plain._replace(l1=0.01, l2=0.03, penalty_scale="rows", batch=5)
        yield plain._replace(l2=0.03, penalty_scale="rows", weighted=True, reduction="sum")


def _optimizers() -> Iterator[Case]:
    """Every optimizer that PyTorch has, and clipping."""
    plain = Case("optimizers", "squared_error", "identity", "real", "prelu", "layer", LARGE)
    yield plain._replace(update="sgd", constants=())
    yield plain._replace(update="momentum", constants=(0.9,))
    yield plain._replace(update="nesterov", constants=(0.9,))
    yield plain._replace(update="adamw", constants=(0.9, 0.999, 1e-8, 0.1))
    yield plain._replace(update="rmsprop", constants=(0.99, 1e-8))
    yield plain._replace(update="adagrad", constants=(1e-10,), rate=0.1)
    yield plain._replace(clip_norm=1.0)
    yield plain._replace(clip_value=0.05)
    yield plain._replace(update="sgd", constants=(), clip_value=0.5, clip_norm=1.0, rate=0.1)


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters in canonical order."""
    found: dict[str, tuple[int, ...]] = {}
    for n, (inputs, units) in enumerate(zip(case.sizes, case.sizes[1:], strict=False)):
        hidden = n < len(case.sizes) - 2
        activation = case.activation if hidden else case.output
        columns = units * (int(CONSTANTS["maxout"]) if activation == "maxout" else 1)
        found[f"weights.{n}"] = (inputs, columns)
        found[f"biases.{n}"] = (columns,)
        found |= {f"{kind}.{n}": (units,) for kind in LEARNED.get(activation, ())}
        if hidden and case.normalization:
            found |= {f"{kind}.{n}": (columns,) for kind in ("scale", "shift")}
    return found


def start(case: Case, rng: torch.Generator) -> tuple[Tensors, Tensors]:
    """Draw parameters and running statistics."""
    draws: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
        "weights": lambda shape: _normal(rng, shape) * math.sqrt(2 / shape[0]),
        "biases": lambda shape: 0.3 * _normal(rng, shape),
        "slope": lambda shape: 0.1 + 0.3 * _uniform(rng, shape),
        "shift": lambda shape: 0.3 * _normal(rng, shape),
        "mean": lambda shape: 0.3 * _normal(rng, shape),
        **dict.fromkeys(
            ("alpha", "beta", "scale", "variance"), lambda shape: 0.5 + _uniform(rng, shape)
        ),
    }
    wanted = shapes(case)
    statistics = {}
    for name, shape in wanted.items():
        if case.normalization == "batch" and name.startswith("scale."):
            layer = name.removeprefix("scale.")
            statistics |= {f"mean.{layer}": shape, f"variance.{layer}": shape}

    def drawn(shapes_of: dict[str, tuple[int, ...]]) -> Tensors:
        return {name: draws[name.split(".")[0]](shape) for name, shape in shapes_of.items()}

    return drawn(wanted), drawn(statistics)


def draw_data(rng: torch.Generator) -> Tensors:
    """Draw X, sample weights (one of them 0) and targets of each kind."""
    shape = (ROWS, OUTPUTS)
    w = 0.5 + _uniform(rng, (ROWS,))
    w[4] = 0.0
    return {
        "X": _normal(rng, (ROWS, INPUTS)),
        "w": w,
        "T/classes": torch.randint(OUTPUTS, (ROWS,), generator=rng),
        "T/rows": F.softmax(_normal(rng, shape), 1),
        "T/binary": torch.randint(2, shape, generator=rng).double(),
        "T/margin": 2 * torch.randint(2, shape, generator=rng).double() - 1,
        "T/counts": torch.randint(5, shape, generator=rng).double(),
        "T/real": _normal(rng, shape),
    }


def _normal(rng: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def _uniform(rng: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def row_losses(case: Case, p: Tensors, running: Tensors, X: Tensor, T: Tensor) -> Tensor:
    """Run the network with batch or running statistics and fill (rows,)."""
    last = len(case.sizes) - 2
    for n in range(last):
        Z = F.linear(X, p[f"weights.{n}"].T, p[f"biases.{n}"])
        X = _activated(case.activation, n, p, _normalized(case, n, p, running, Z))
    Z = F.linear(X, p[f"weights.{last}"].T, p[f"biases.{last}"])
    joined = LOGIT_LOSSES.get((case.loss, case.output))
    found = joined(Z, T) if joined else LOSSES[case.loss](_activated(case.output, last, p, Z), T)
    return found.sum(1) if found.ndim == 2 else found


def _activated(name: str, n: int, p: Tensors, Z: Tensor) -> Tensor:
    return ACTIVATIONS[name](Z, *(p[f"{kind}.{n}"] for kind in LEARNED.get(name, ())))


def _normalized(case: Case, n: int, p: Tensors, running: Tensors, Z: Tensor) -> Tensor:
    if case.normalization is None:
        return Z
    scale, shift = p[f"scale.{n}"], p[f"shift.{n}"]
    if case.normalization == "layer":
        return F.layer_norm(Z, Z.shape[1:], scale, shift, 1e-5)
    mean, variance = running[f"mean.{n}"], running[f"variance.{n}"]
    return F.batch_norm(Z, mean, variance, scale, shift, case.training, 0.1, 1e-5)


def batch_loss(case: Case, p: Tensors, running: Tensors, data: Tensors, rows: slice) -> Tensor:
    """Give the loss of some rows as one batch, penalties in."""
    losses = row_losses(case, p, running, data["X"][rows], data[f"T/{case.targets}"][rows])
    w = data["w"][rows] if case.weighted else torch.ones_like(losses)
    total = (w * losses).sum()
    if case.reduction == "mean":
        total = total / w.sum()
    weights = [value for name, value in p.items() if name.startswith("weights.")]
    penalty = sum(case.l1 * W.abs().sum() + case.l2 / 2 * W.square().sum() for W in weights)
    return total + (penalty / w.sum() if case.penalty_scale == "rows" else penalty)


def record(case: Case, p: Tensors, running: Tensors, data: Tensors) -> dict[str, Any]:
    """Record the loss and gradient of all rows at the start, then the steps of one training."""
    p = {name: value.clone().requires_grad_() for name, value in p.items()}
    untouched = {name: value.clone() for name, value in running.items()}
    loss = batch_loss(case, p, untouched, data, slice(None))
    loss.backward()
    found = {"loss": loss.item(), "gradient": flat({n: value.grad for n, value in p.items()})}
    if case.steps:
        running = {name: value.clone() for name, value in running.items()}
        found["losses"] = train(case, p, running, data)
        found["parameters"], found["running"] = flat(p), flat(running)
    return found


def train(case: Case, p: Tensors, running: Tensors, data: Tensors) -> list[float]:
    """Make the steps in place, through the rows in order, again and again; give the losses."""
    still = "biases." if case.normalization == "batch" else " "
    final = f"biases.{len(case.sizes) - 2}"
    trained = {n: value for n, value in p.items() if n == final or not n.startswith(still)}
    weights = [value for name, value in trained.items() if name.startswith("weights.")]
    others = [value for name, value in trained.items() if not name.startswith("weights.")]
    groups = [{"params": weights}, {"params": others}]
    optimizer = OPTIMIZERS[case.update](groups, case.rate, *case.constants)
    starts = list(range(0, ROWS, case.batch))
    losses = []
    for step in range(case.steps):
        first = starts[step % len(starts)]
        optimizer.zero_grad()
        loss = batch_loss(case, p, running, data, slice(first, first + case.batch))
        loss.backward()
        clip(case, [*weights, *others])
        optimizer.step()
        losses.append(loss.item())
    return losses


def clip(case: Case, parameters: list[Tensor]) -> None:
    """Clip gradients in place by value, then by their common norm."""
    if case.clip_value:
        torch.nn.utils.clip_grad_value_(parameters, case.clip_value)
    if case.clip_norm:
        gradients = [value.grad for value in parameters if value.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if norm > case.clip_norm:
            for gradient in gradients:
                gradient.mul_(case.clip_norm / norm)


def flat(named: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Join arrays in their order."""
    parts = [value.detach().numpy().ravel() for value in named.values()]
    return np.concatenate(parts) if parts else np.empty(0)


def described(case: Case, row: int) -> dict[str, Any]:
    """Say what a row of a group's results is."""
    constants = {
        kind: CONSTANTS.get(getattr(case, kind), 0.0) for kind in ("loss", "activation", "output")
    }
    return {**case._asdict(), "constants_of": constants, "row": row}


def main() -> None:
    """Record every case and write the file."""
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(SEED)
    data = draw_data(rng)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in data.items()}
    index: dict[str, Any] = {"torch": torch.__version__, "numpy": np.__version__, "seed": SEED}
    index |= {"made": dt.datetime.now(tz=dt.UTC).date().isoformat(), "cases": []}
    index |= {"segments": {}, "about": __doc__}
    starts: dict[str, tuple[Tensors, Tensors]] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    for case in cases():
        if case.group not in starts:
            starts[case.group] = start(case, rng)
            index["segments"][case.group] = list(shapes(case).items())
        rows = results.setdefault(case.group, [])
        index["cases"].append(described(case, len(rows)))
        rows.append(record(case, *starts[case.group], data))
    for group, rows in results.items():
        arrays[f"{group}/start"], arrays[f"{group}/statistics"] = map(flat, starts[group])
        arrays |= {f"{group}/{field}": np.array([row[field] for row in rows]) for field in rows[0]}
    path = Path(__file__).parent / "data" / "torch_parity.npz"
    np.savez_compressed(path, index=np.array(json.dumps(index)), **arrays)
    print(f"{path}: {len(index['cases'])} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""The network behind an estimator: built from its parameters, and carried from fit to fit."""

from __future__ import annotations

from typing import Any

from .. import choices
from ..engine import Optimization
from ..network import MLP
from . import on_gpu, parameters


def recipe(
    estimator: Any, rows: Any, outputs: int, loss: Any, precision: str, total: float
) -> dict[str, Any]:
    """Return the arguments of `MLP` for an estimator; `total` is the sum of all rows' weights."""
    full_batch = estimator.solver == "lbfgs"
    share = 1.0 / total if full_batch else 1.0
    return {
        "layer_sizes": (
            rows.shape[1],
            *parameters.hidden_sizes(estimator.hidden_layer_sizes),
            outputs,
        ),
        "activation": parameters.hidden_activations(estimator.activation),
        "loss": loss,
        "l1": estimator.l1 * share,
        "l2": estimator.alpha * share,
        "penalty_scale": "batch" if full_batch else "rows",
        "dropout": parameters.per_layer(estimator.dropout),
        "normalization": parameters.per_layer(estimator.normalization),
        "dtype": precision,
        "backend": choices.backend(on_gpu.backend(estimator.backend, rows), precision),
    }


def drawn(estimator: Any, wanted: dict[str, Any], rng: Any) -> MLP:
    """Return a new network, its first weights drawn from `rng` or given by the user."""
    net = MLP(**wanted, init=parameters.initializer(wanted["activation"]), seed=rng)
    for kind in ("coefs", "intercepts"):
        given = getattr(estimator, f"{kind}_init")
        if given is not None:
            assign(net, kind, given, f"{kind}_init")
    return net


def assign(net: MLP, kind: str, arrays: Any, name: str) -> None:
    """Give a network's weights ("coefs") or biases ("intercepts") these values.

    Raises
    ------
    ValueError
        Their number or a shape is wrong; `name` is the argument to blame.
    """
    try:
        if kind == "coefs":
            net.weights = list(arrays)
        else:
            net.biases = list(arrays)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} does not fit hidden_layer_sizes, X and y: {error}") from error


def carried(old: MLP | None, wanted: dict[str, Any], coefs: Any, intercepts: Any) -> MLP:
    """Return a network for a changed recipe, with the numbers of the old one where they fit."""
    net = MLP(**wanted, init="zeros", seed=0)
    if old is not None and set(old.parameters) == set(net.parameters):
        net.parameters = old.parameters
        if old.dtype == net.dtype:
            before, engine = old._engine, net._engine
            state = before.state()._replace(running=before.state().running.copy())
            if state.running.shape == engine.state().running.shape:
                engine.resume(Optimization(before.optimizer, state, before.steps, before.epochs))
    assign(net, "coefs", coefs, "coefs_")
    assign(net, "intercepts", intercepts, "intercepts_")
    return net


def shown(net: MLP) -> dict[str, Any]:
    """Return the attributes by which an estimator shows its network's weights."""
    coefs, intercepts = net.weights, net.biases
    return {
        "coefs_": coefs,
        "intercepts_": intercepts,
        "_shown": [*coefs, *intercepts],
    }

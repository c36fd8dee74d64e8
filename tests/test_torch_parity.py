"""Losses, gradients and ten steps against a recorded run of PyTorch; record_torch.py made it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    ELU,
    MLP,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Huber,
    LeakyReLU,
    Maxout,
    Quantile,
    RMSprop,
    kernels,
)
from fastmlp.kernels.contract import Data, Layer, Network, Order, Plan, State, Update
from fastmlp.kernels.layout import parameter_segments
from fastmlp.kernels.reference import ACTIVATIONS, LOSSES, NORMALIZATIONS

from .tolerances import assert_close

Array = np.ndarray[Any, np.dtype[Any]]
Case = dict[str, Any]

PATH = Path(__file__).parent / "data" / "torch_parity.npz"
with np.load(PATH) as _file:
    RECORD: dict[str, Array] = dict(_file)
INDEX = json.loads(str(RECORD.pop("index")))
CASES: list[Case] = INDEX["cases"]
TRAINED = [case for case in CASES if case["steps"]]

# A word, or the object that holds the word's number or numbers.
OBJECTS: dict[str, Callable[..., Any]] = {
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "maxout": Maxout,
    "huber": Huber,
    "quantile": Quantile,
}
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": SGD,
    "momentum": SGD,
    "nesterov": partial(SGD, nesterov=True),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}


def _id(case: Case) -> str:
    return f"{case['group']}/{case['row']}-{case['loss']}"


def _found(case: Case, field: str) -> Array:
    return RECORD[f"{case['group']}/{field}"][case["row"]]


def _network(case: Case) -> Network:
    return Network(
        tuple(_layer(case, number) for number in range(len(case["sizes"]) - 1)),
        case["loss"],
        case["constants_of"]["loss"],
        case["reduction"],
        case["l1"],
        case["l2"],
        case["penalty_scale"],
    )


def _layer(case: Case, number: int) -> Layer:
    hidden = number < len(case["sizes"]) - 2
    kind = "activation" if hidden else "output"
    name, constant = case[kind], case["constants_of"][kind]
    pieces = int(constant) if name == "maxout" else 1
    normalization = case["normalization"] if hidden else None
    inputs, units = case["sizes"][number : number + 2]
    return Layer(inputs, units, name, float(constant), pieces, normalization)


def _update(case: Case) -> Update:
    return Update(case["update"], tuple(case["constants"]), case["clip_value"], case["clip_norm"])


def _plan(case: Case, backend: Any) -> Plan:
    plan: Plan = backend.make_plan(_network(case), _update(case), "float64")
    plan.load(_start(case))
    return plan


def _start(case: Case) -> State:
    parameters = RECORD[f"{case['group']}/start"]
    slots = np.zeros((kernels.load("numpy").UPDATES[case["update"]].slots, len(parameters)))
    return State(parameters, slots, RECORD[f"{case['group']}/statistics"])


def _data(case: Case) -> Data:
    w = RECORD["w"] if case["weighted"] else None
    return Data(RECORD["X"], RECORD[f"T/{case['targets']}"], w)


def _train(case: Case, backend: Any, plan: Plan) -> Array:
    """Make the case's steps, an epoch a call, and give their losses."""
    data, batch = _data(case), case["batch"]
    losses, made = np.full(case["steps"], np.nan), 0
    while made < case["steps"]:
        count = min(-(-len(data.X) // batch), case["steps"] - made)
        rates = np.full(count, case["rate"])
        part = losses[made : made + count]
        order = Order("sequence")
        made += backend.train_steps(plan, part, data, order, batch, 0, count, rates, made, 0)
    return losses


def test_the_file_says_where_it_comes_from() -> None:
    assert INDEX["torch"]
    assert INDEX["seed"] > 0
    assert INDEX["made"]


def test_the_record_is_complete() -> None:
    """Every activation x loss x normalization that can stand in a hidden layer is there."""
    grid = [case for case in TRAINED if case["group"].startswith("grid/")]
    found = {(case["activation"], case["loss"], case["normalization"]) for case in grid}
    hidden = set(ACTIVATIONS) - {"exp", "softmax", "step"}
    assert found == {(a, b, c) for a in hidden for b in LOSSES for c in (None, *NORMALIZATIONS)}
    assert {case["output"] for case in CASES} == set(ACTIVATIONS) - {"step"}


@pytest.mark.parametrize("group", INDEX["segments"])
def test_arrays_lie_in_canonical_order(group: str) -> None:
    case = next(case for case in CASES if case["group"] == group)
    segments = parameter_segments(_network(case))
    assert [[s.name, list(s.shape)] for s in segments] == INDEX["segments"][group]


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_loss_and_gradient(case: Case, backend: str) -> None:
    loaded = kernels.load(backend)
    plan, data = _plan(case, loaded), _data(case)
    gradient = np.full(len(_found(case, "gradient")), np.nan)
    loss = loaded.backprop(plan, gradient, data.X, data.T, data.w, 0, 0, case["training"])
    assert_close(loss, _found(case, "loss"), "step")
    assert_close(gradient, _found(case, "gradient"), "step")


@pytest.mark.parametrize("case", TRAINED, ids=_id)
def test_ten_steps(case: Case, backend: str) -> None:
    loaded = kernels.load(backend)
    plan, state = _plan(case, loaded), State(*(np.array(a) for a in _start(case)))
    losses = _train(case, loaded, plan)
    plan.store(state)
    assert_close(losses, _found(case, "losses"), "step")
    assert_close(state.parameters, _found(case, "parameters"), "step")
    assert_close(state.running, _found(case, "running"), "step")


# Through the class MLP. The kernels have run every case, so that here a few losses are enough.
BY_CLASS = [
    case
    for case in CASES
    if not case["group"].startswith("grid/")
    or (case["targets"], case["loss"])
    in {("classes", "cross_entropy"), ("real", "quantile"), ("margin", "hinge")}
]
FITTED = [case for case in BY_CLASS if case["steps"] and case["batch"] == len(RECORD["X"])]


def _spoken(case: Case, kind: str) -> Any:
    name = case[kind]
    return OBJECTS[name](case["constants_of"][kind]) if name in OBJECTS else name


def _optimizer(case: Case) -> Any:
    clipping = {name: case[name] or None for name in ("clip_value", "clip_norm")}
    return OPTIMIZERS[case["update"]](case["rate"], *case["constants"], **clipping)


def _net(case: Case, backend: str) -> MLP:
    names = ("reduction", "l1", "l2", "penalty_scale", "normalization")
    net = MLP(
        case["sizes"],
        _spoken(case, "activation"),
        _spoken(case, "output"),
        _spoken(case, "loss"),
        _optimizer(case),
        dtype="float64",
        backend=backend,
        **{name: case[name] for name in names},
    )
    flat = _start(case).parameters
    net.parameters = {s.name: s.view(flat) for s in parameter_segments(_network(case))}
    net.restore(net.snapshot()._replace(running=_start(case).running))
    return net


def _joined(arrays: dict[str, Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays.values()])


@pytest.mark.parametrize("case", BY_CLASS, ids=_id)
def test_gradients_of_the_class(case: Case, backend: str) -> None:
    net, data = _net(case, backend), _data(case)
    found = net.gradients(data.X, data.T, training=case["training"], sample_weight=data.w)
    assert list(found.parameters) == [name for name, _ in INDEX["segments"][case["group"]]]
    assert_close(found.loss, _found(case, "loss"), "step")
    assert_close(_joined(found.parameters), _found(case, "gradient"), "step")


@pytest.mark.parametrize("case", FITTED, ids=_id)
def test_ten_epochs_of_the_class(case: Case, backend: str) -> None:
    net, data = _net(case, backend), _data(case)
    history = net.fit(
        data.X,
        data.T,
        epochs=case["steps"],
        batch_size=case["batch"],
        shuffle=False,
        sample_weight=data.w,
    )
    assert_close(history.loss, _found(case, "losses"), "step")
    assert_close(_joined(net.parameters), _found(case, "parameters"), "step")
    assert_close(net.snapshot().running, _found(case, "running"), "step")

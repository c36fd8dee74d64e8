"""Losses, gradients and ten steps against a recorded run of PyTorch; record_torch.py made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import kernels
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

"""Predictions: one row, a batch and a table, against NumPy, PyTorch and onnxruntime.

    python benchmarks/bench_predict.py

A 64-50-50-10 network with relu. Each contestant gives the class of each row; the classes must agree
before anything is timed. "compiled_predictor" is ours with less between X and the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Cases, parser, times_of

from fastmlp import MLP
from fastmlp.cli.contest import BRIEF, Pace, in_turn
from fastmlp.cli.peers import EAGER, NUMPY, OURS
from fastmlp.kernels.contract import Array

SIZES = (64, 50, 50, 10)
ROWS = {"one row": (1, 20_000), "64 rows": (64, 3_000), "100,000 rows": (100_000, 5)}
"""Rows of a call, and how many calls are timed together."""
COMPILED, ONNX = "fastmlp compiled_predictor", "onnxruntime"

Answer = Callable[[Array], Array]


def numpy_answer(net: MLP) -> Answer:
    """Products into buffers that exist already."""
    layers = list(zip(net.weights, net.biases, strict=True))
    buffers: dict[int, list[Array]] = {}

    def answer(X: Array) -> Array:
        if len(X) not in buffers:
            buffers[len(X)] = [np.empty((len(X), len(b)), np.float32) for _, b in layers]
        for number, ((W, b), A) in enumerate(zip(layers, buffers[len(X)], strict=True)):
            np.dot(X, W, out=A)
            A += b
            if number < len(layers) - 1:
                np.maximum(A, 0, out=A)
            X = A
        return X.argmax(axis=1)

    return answer


def torch_answer(net: MLP) -> Answer:
    """PyTorch in inference mode, on arrays that it shares."""
    import torch

    layers: list[Any] = []
    for W, b in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
            linear.bias.copy_(torch.from_numpy(b.copy()))
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])

    def answer(X: Array) -> Array:
        with torch.inference_mode():
            return model(torch.from_numpy(X)).argmax(dim=1).numpy()

    return answer


def onnx_answer(net: MLP) -> Answer:
    """The same network as an ONNX graph, with onnxruntime's defaults."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, given = [], [], "X"
    for number, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        last = number == len(net.weights) - 1
        constants += [numpy_helper.from_array(W.copy(), f"W{number}")]
        constants += [numpy_helper.from_array(b.copy(), f"b{number}")]
        nodes.append(helper.make_node("Gemm", [given, f"W{number}", f"b{number}"], [f"Z{number}"]))
        given = f"Z{number}"
        if not last:
            nodes.append(helper.make_node("Relu", [given], [f"A{number}"]))
            given = f"A{number}"
    rows = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        for name, width in (("X", SIZES[0]), (given, SIZES[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", rows[:1], rows[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def answer(X: Array) -> Array:
        return np.asarray(session.run(None, {"X": X})[0]).argmax(axis=1)

    return answer


def answers(net: MLP) -> dict[str, Answer]:
    """Everyone who is installed."""
    found = {OURS: net.predict, COMPILED: net.compiled_predictor(), NUMPY: numpy_answer(net)}
    for name, make in ((EAGER, torch_answer), (ONNX, onnx_answer)):
        try:
            found[name] = make(net)
        except ImportError:
            print(f"{name} is not installed")
    return found


def repeated(answer: Answer, X: Array, calls: int) -> Callable[[], None]:
    """Many calls in one."""

    def run() -> None:
        for _ in range(calls):
            answer(X)

    return run


def measured(rows: int, calls: int, pace: Pace) -> dict[str, Any]:
    """Microseconds a call, medians, after all have given the same classes."""
    net = MLP(SIZES, seed=0)
    X = np.random.default_rng(0).normal(size=(rows, SIZES[0])).astype(np.float32)
    contestants = answers(net)
    wanted = net.predict(X)
    for name, answer in contestants.items():
        if np.mean(answer(X) == wanted) < 0.999:  # rounding decides between near equals
            raise ArithmeticError(f"{name} gives other classes")
    times = in_turn({n: repeated(a, X, calls) for n, a in contestants.items()}, pace)
    micro = {name: float(np.median(several)) / calls * 1e6 for name, several in times.items()}
    best = min((n for n in micro if n not in (OURS, COMPILED)), key=micro.__getitem__)
    return {
        "rows": rows,
        "microseconds": micro,
        "best peer": best,
        "best peer / ours": micro[best] / micro[OURS],
    }


def main() -> None:
    arguments = parser(__doc__).parse_args()
    pace = BRIEF if arguments.quick else Pace(8.0, 5, 25)
    record = Cases("predict", arguments, {"sizes": list(SIZES)})
    for name in record.wanted(ROWS):
        rows, calls = ROWS[name]
        rows, calls = (min(rows, 100), 2) if arguments.quick else (rows, calls)
        found = measured(rows, calls, pace)
        record.add(name, found)
        print(f"{name}: {times_of(found)}; best peer / ours {found['best peer / ours']:.2f}")


if __name__ == "__main__":
    main()

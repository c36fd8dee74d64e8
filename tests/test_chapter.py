"""The chapter's systems reach the chapter's numbers, by the scripts under examples/."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, MPELU, SGD, Adam, Normal, kernels, properties
from fastmlp.datasets import Split, load_mnist

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PRINTED = 1e-10
"""How far a value may be from one that is printed with twelve digits."""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script by its name, as Python does when it starts one in its folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


# 1. The perceptron

RULES = ("perceptron rule", "least squares", "gradient descent")


def test_weighted_evidence_decides(example: Any) -> None:
    buy = example("perceptron").buy_the_phone
    evidence = [0.8, 0.9, 0.6]
    assert buy(evidence, [-0.1, 1.0, 0.3], -0.5) is True
    assert buy(evidence, [-1.0, 1.0, 0.3], -0.5) is False
    assert buy([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], 0.0) is False  # at the threshold: not excited


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gate", ["AND", "OR"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns_and_and_or(
    rule: str, gate: str, seed: int, example: Any, backend: str
) -> None:
    script = example("perceptron")
    found = script.learn(rule, gate, epochs=20, backend=backend, seed=seed)
    assert found.epochs is not None
    assert found.epochs <= 12
    assert found.errors[-1] == 0
    plane = script.INPUTS @ found.weights + found.bias
    np.testing.assert_array_equal(plane > 0, np.array(script.GATES[gate]) == 1)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_learns_xor(rule: str, example: Any) -> None:
    script = example("perceptron")
    errors = [script.learn(rule, "XOR", 60, "numpy", seed).errors for seed in range(10)]
    assert np.min(errors) == 1


def test_the_perceptron_rule_is_rosenblatts(example: Any, backend: str) -> None:
    script = example("perceptron")
    t, w = 2 * np.array(script.GATES["AND"]) - 1, np.zeros(3)
    net = MLP(
        (2, 1),
        loss="perceptron",
        optimizer=SGD(1.0),
        init="zeros",
        dtype="float64",
        backend=backend,
    )
    for _ in range(6):
        for x, wanted in zip(script.INPUTS, t, strict=True):
            excited = np.append(x, 1) @ w * wanted > 0
            w += 0 if excited else wanted * np.append(x, 1)
        net.fit(script.INPUTS, t, epochs=1, batch_size=1, shuffle=False)
        np.testing.assert_array_equal(np.append(net.weights[0], net.biases[0]), w)


@pytest.mark.parametrize("gate", ["AND", "OR", "XOR"])
def test_least_squares_finds_the_least_squares(gate: str, example: Any, backend: str) -> None:
    script = example("perceptron")
    found = script.learn("least squares", gate, 400, backend)
    table = np.column_stack([script.INPUTS, np.ones(4)])
    exact = np.linalg.lstsq(table, 2.0 * np.array(script.GATES[gate]) - 1, rcond=None)[0]
    np.testing.assert_allclose([*found.weights, found.bias], exact, atol=1e-9)


# Several layers, several outputs


def test_4_3_2_learns_classes_and_values(example: Any, backend: str) -> None:
    script = example("four_three_two")
    nets = script.classifier(100, backend), script.regressor(100, backend)
    accuracy, explained = script.scores(*nets)
    assert nets[0].layer_sizes == (4, 3, 2)
    assert accuracy > 0.95
    assert explained.shape == (2,)
    assert (explained > 0.95).all()
    assert nets[0].predict(script.data().X).shape == (1000,)
    assert nets[1].predict(script.data().X).shape == (1000, 2)


@pytest.mark.parametrize("sizes", [(4, 2), (4, 8, 2), (4, 8, 8, 8, 8, 8, 2)])
def test_any_depth_learns(sizes: tuple[int, ...], example: Any) -> None:
    script = example("four_three_two")
    accuracy, _ = script.scores(script.classifier(60, sizes=sizes), script.regressor(1))
    assert accuracy > 0.8


# Activations

RANGES = {"sigmoid": (0, 1), "softmax": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf)}
NAMED = (*RANGES, "leaky_relu", "prelu", "maxout", "elu", "mpelu")
KINKED = ("relu", "leaky_relu", "prelu", "maxout", "mpelu")


@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_the_chapters(name: str, example: Any) -> None:
    known = properties(name)
    assert (known.low, known.high) == RANGES[name]
    values, _ = example("activation_gallery").curves(name)
    assert values.min() >= known.low
    assert values.max() <= known.high


@pytest.mark.parametrize("name", NAMED)
def test_properties_can_be_looked_up(name: str) -> None:
    known = properties(name)
    assert known.formula
    assert known.derivative
    assert known.monotone
    assert known.differentiable is (name not in KINKED)
    assert known.zero_centred is (name == "tanh")
    assert known.output_only is (name == "softmax")


@pytest.mark.parametrize("name", NAMED)
def test_the_gallery_shows_value_and_slope(name: str, example: Any, backend: str) -> None:
    script = example("activation_gallery")
    values, slopes = script.curves(name, backend)
    expected = np.gradient(values, script.Z)
    away = np.abs(script.Z) > 0.03  # from the kinks, all of them at 0
    np.testing.assert_allclose(slopes[away], expected[away], atol=1e-3)


def test_the_gallery_shows_every_activation(example: Any) -> None:
    script = example("activation_gallery")
    shown = {*script.CHAPTER, *script.NAMED_ONLY, *script.FURTHER}
    assert shown == set(properties_of_the_reference()) - {"identity", "exp"}


def properties_of_the_reference() -> list[str]:
    return list(kernels.load("numpy").ACTIVATIONS)


@pytest.mark.parametrize("name", [name for name in NAMED if name != "softmax"])
def test_every_activation_of_the_chapter_learns(name: str, backend: str) -> None:
    X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    net = MLP(
        (2, 12, 1), activation=name, loss="mse", optimizer=Adam(0.02), backend=backend, seed=0
    )
    history = net.fit(X, X[:, 0] * X[:, 1], epochs=60, batch_size=20)
    assert history.loss[-1] < 0.25 * history.loss[0]


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_mpelu_starts_as_it_should_and_learns_both(alpha: float, backend: str) -> None:
    net = MLP((2, 5, 1), MPELU(alpha), loss="mse", dtype="float64", backend=backend, seed=0)
    np.testing.assert_array_equal(net.parameters["alpha.0"], np.full(5, alpha))
    np.testing.assert_array_equal(net.parameters["beta.0"], np.ones(5))
    X = np.random.default_rng(0).normal(size=(50, 2))
    net.fit(X, X[:, 0] ** 2, epochs=20, batch_size=10)
    assert (net.parameters["alpha.0"] != alpha).all()
    assert (net.parameters["beta.0"] != 1).all()
    assert (net.parameters["beta.0"] > 0).all()


def test_mpelu_is_its_formula(example: Any, backend: str) -> None:
    script = example("activation_gallery")
    values, _ = script.curves(MPELU(0.25, 2.0), backend)
    wanted = np.where(script.Z > 0, script.Z, 0.25 * (np.exp(2 * script.Z) - 1))
    np.testing.assert_allclose(values, wanted, atol=1e-14)


SOFTMAX = [0.878878242732, 0.118943235911, 0.002178521357]


def test_softmax_of_3_1_minus_3(example: Any, backend: str) -> None:
    logits = [3.0, 1.0, -3.0]
    found = example("activation_gallery").softmax(logits, backend)
    np.testing.assert_allclose(found, SOFTMAX, atol=1e-12, rtol=0)
    net = MLP((3, 3), dtype="float64", backend=backend)
    net.weights = [np.eye(3)]
    np.testing.assert_allclose(net.predict_proba([logits])[0], SOFTMAX, atol=1e-12, rtol=0)


# Batch normalization and the diagnoses behind it


def test_batch_normalization_is_part_of_a_layer(backend: str) -> None:
    net = MLP(
        (3, 4, 2),
        "identity",
        loss="mse",
        normalization="batch",
        dtype="float64",
        backend=backend,
        seed=0,
    )
    assert {"scale.0", "shift.0"} <= set(net.parameters)
    net.weights = [net.weights[0], np.eye(4, 2)]
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, (200, 3))
    for _ in range(300):  # the running statistics settle, the weights hardly move
        net.fit(X, np.zeros((200, 2)), epochs=1, batch_size=200, optimizer=SGD(1e-9))
    np.testing.assert_allclose(net.forward(X).mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(net.forward(X).std(axis=0), 1, atol=5e-3)


def test_hidden_outputs_are_those_of_the_layer(example: Any, backend: str) -> None:
    script = example("diagnoses")
    net = script.network("tanh", None, backend=backend)
    X = np.random.default_rng(0).normal(size=(7, 64))
    wanted = np.tanh(X @ net.weights[0] + net.biases[0])
    np.testing.assert_allclose(script.hidden_outputs(net, "tanh", None, X), wanted, atol=1e-5)


def test_hidden_outputs_see_normalization(example: Any) -> None:
    script, data = example("diagnoses"), example("common").digits("signed")
    net = script.network("tanh", "batch")
    net.fit(data.X_train, data.y_train, epochs=3)
    hidden = script.hidden_outputs(net, "tanh", "batch", data.X_test)
    wanted = hidden @ net.weights[1] + net.biases[1]
    np.testing.assert_allclose(net.logits(data.X_test), wanted, atol=1e-4)


def test_dead_and_saturated_units_are_counted(example: Any) -> None:
    script = example("diagnoses")
    assert script.dead(np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0]])) == pytest.approx(1 / 3)
    assert script.saturated(np.array([[0.5, 0.995], [0.001, 0.9]]), "sigmoid") == 0.5
    assert script.saturated(np.array([[0.0, 0.99], [-0.985, 0.9]]), "tanh") == 0.5


def test_large_steps_kill_relu_units_and_normalization_saves_them(
    example: Any, backend: str
) -> None:
    script, data = example("diagnoses"), example("common").digits("signed")
    without, _ = script.dead_units(2.0, None, 3, data, backend)
    normal, _ = script.dead_units(2.0, "batch", 3, data, backend)
    leaky, _ = script.dead_units(2.0, None, 3, data, backend, activation="leaky_relu")
    assert without > 0.5
    assert normal < 0.1
    assert leaky == 0


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_large_weights_saturate_and_normalization_prevents_it(
    activation: str, example: Any, backend: str
) -> None:
    script, data = example("diagnoses"), example("common").digits("signed")
    large, poor = script.saturation(activation, 2.0, None, 5, data, backend)
    small, good = script.saturation(activation, 0.1, None, 5, data, backend)
    cured, better = script.saturation(activation, 2.0, "batch", 5, data, backend)
    assert large > 0.5
    assert small < 0.05
    assert cured < 0.1
    assert poor < min(good, better)


# Losses

LOSSES = {"hinge": 0.7, "exponential": 0.740818220682, "squared_error": 0.49, "absolute_error": 0.7}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_0_3_for_the_target_1(loss: str, example: Any, backend: str) -> None:
    assert example("loss_gallery").value(loss, backend) == pytest.approx(LOSSES[loss], abs=1e-12)


def test_log_loss_of_0_88(example: Any, backend: str) -> None:
    assert example("loss_gallery").log_loss(0.88, backend) == pytest.approx(
        0.127833371510, abs=1e-12
    )


def test_0_1_loss_is_a_metric_only(example: Any, backend: str) -> None:
    net = example("loss_gallery").single("hinge", backend=backend)
    scores = net.evaluate([[0.3], [-0.3], [2.0], [-1.0]], [1, 1, 1, 1], metrics=("zero_one",))
    assert scores["zero_one"] == 0.5
    with pytest.raises(ValueError, match="zero_one"):
        MLP((1, 1), loss="zero_one")


def test_squared_error_per_sample_as_a_sum_and_as_a_mean(example: Any) -> None:
    each, total, mean = example("loss_gallery").squared_errors([0.3, -1.0, 2.0], [1.0, -1.0, 1.0])
    assert each == pytest.approx([0.49, 0.0, 1.0])
    assert total == pytest.approx(1.49)
    assert mean == pytest.approx(1.49 / 3)


# Backpropagation


def _derived(V: Any, W: Any, theta: Any, gamma: Any, x: Any, y: Any) -> tuple[Any, ...]:
    """Gradients by the chapter's formulas: weights and thresholds of a d-q-l network."""

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    b = sigmoid(x @ V - gamma)
    out = sigmoid(b @ W - theta)
    g = out * (1 - out) * (y - out)
    e = b * (1 - b) * (W @ g)
    return -np.outer(x, e), e, -np.outer(b, g), g


def test_gradients_are_the_derived_ones(backend: str) -> None:
    rng = np.random.default_rng(0)
    net = MLP(
        (3, 4, 2),
        "sigmoid",
        "sigmoid",
        "half_squared_error",
        init=Normal(1.0),
        dtype="float64",
        backend=backend,
        seed=0,
    )
    net.biases = [rng.normal(size=4), rng.normal(size=2)]
    x, y = rng.normal(size=3), rng.uniform(size=2)
    found = net.gradients([x], [y])
    thresholds = [-b for b in net.biases]
    dV, dgamma, dW, dtheta = _derived(*net.weights, thresholds[1], thresholds[0], x, y)
    np.testing.assert_allclose(found.weights[0], dV, atol=1e-14)
    np.testing.assert_allclose(found.weights[1], dW, atol=1e-14)
    # A threshold is a negative bias.
    np.testing.assert_allclose(found.biases[0], -dgamma, atol=1e-14)
    np.testing.assert_allclose(found.biases[1], -dtheta, atol=1e-14)


def test_repeating_the_steps_converges(backend: str) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(8, 3)), rng.uniform(0.1, 0.9, (8, 2))
    net = MLP(
        (3, 20, 2),
        "sigmoid",
        "sigmoid",
        "half_squared_error",
        optimizer=SGD(3.0),
        dtype="float64",
        init=Normal(1.0),
        backend=backend,
        seed=0,
    )
    loss = net.fit(np.tile(X, (100, 1)), np.tile(Y, (100, 1)), 80, 8, shuffle=False).loss
    assert loss[-1] < 0.01 * loss[0]
    assert (np.diff(loss) < 0).all()


def test_the_worked_example_forward(example: Any, backend: str) -> None:
    script = example("backpropagation")
    state = script.look(script.network(backend))
    near = {"abs": PRINTED, "rel": 0}
    assert state.hidden == pytest.approx([0.593269992107, 0.596884378260], **near)
    assert state.outputs == pytest.approx([0.751365069552, 0.772928465321], **near)
    assert state.error == pytest.approx(0.298371108760, **near)
    assert state.gradients[1][0, 0] == pytest.approx(0.082167040564, **near)
    assert state.gradients[0][0, 0] == pytest.approx(0.000438567734, **near)


def test_the_worked_example_after_one_step(example: Any, backend: str) -> None:
    script = example("backpropagation")
    net = script.network(backend)
    script.step(net)
    near = {"abs": PRINTED, "rel": 0}
    hidden, out = (W.T.ravel() for W in net.weights)
    assert out == pytest.approx(
        [0.358916479718, 0.408666186076, 0.511301270239, 0.561370121108], **near
    )
    assert hidden == pytest.approx(
        [0.149780716133, 0.199561432266, 0.249751143632, 0.299502287265], **near
    )
    error = net.evaluate(script.INPUTS, script.TARGETS)["loss"]
    assert error == pytest.approx(0.291027773694, **near)
    assert error == pytest.approx(0.291027924, abs=2e-7)
    assert script.slip(script.network(backend)) == pytest.approx(0.291027924, abs=5e-10)
    np.testing.assert_array_equal(net.biases[0], [0.35, 0.35])


def test_the_worked_example_after_10_000_steps(example: Any, backend: str) -> None:
    script = example("backpropagation")
    net = script.network(backend)
    for _ in range(10_000):
        script.step(net)
    state = script.look(net)
    assert state.error == pytest.approx(3.5101878e-5, abs=5e-13)
    assert state.outputs == pytest.approx([0.015913620, 0.984064274], abs=5e-10)


# Memory and fault tolerance


def test_enough_hidden_units_memorize_a_random_set(example: Any, backend: str) -> None:
    script = example("memory")
    assert script.memorized(64, 300, backend)[-1] == 1
    assert script.memorized(2, 300, backend)[-1] < 0.7


def test_accuracy_falls_slowly_when_parts_fail(example: Any) -> None:
    script, data = example("fault_tolerance"), example("common").digits("unit")
    net = script.train(data, 20)
    before, whole = script.accuracy(net, data), net.weights
    counts, units, weights = script.curves(net, data, orders=4)
    assert units.shape == (4, script.HIDDEN + 1)
    assert weights.shape == (4, counts.size)
    for curve in (units.mean(axis=0), weights.mean(axis=0)):
        assert curve[0] == pytest.approx(before)
        assert curve[len(curve) // 10] > before - 0.15
        assert curve[-1] < 0.2
    assert units.mean(axis=0)[script.HIDDEN // 2] > 0.5
    for now, then in zip(net.weights, whole, strict=True):
        np.testing.assert_array_equal(now, then)


# Where losses belong


def test_hinge_with_l2_is_a_linear_support_vector_machine(example: Any, backend: str) -> None:
    svm = pytest.importorskip("sklearn.svm")
    script = example("linear_svm")
    X, y = script.blobs()
    net = script.train(X, y, 5000, backend)
    found = net.weights[0][:, 0], float(net.biases[0][0])
    weights, bias = script.machine(X, y)
    np.testing.assert_allclose([*found[0], found[1]], [*weights, bias], atol=2e-3)
    lowest = script.objective(weights, bias, X, y)
    assert script.objective(*found, X, y) == pytest.approx(lowest, rel=1e-5)
    assert (net.predict(X) == np.sign(X @ weights + bias)).mean() > 0.99
    # LinearSVC penalizes the bias too, hardly so for a large intercept_scaling.
    other = svm.LinearSVC(
        loss="hinge",
        C=1 / (script.L2 * len(X)),
        intercept_scaling=30,
        tol=1e-7,
        max_iter=200_000,
        random_state=0,
    ).fit(X, y)
    reached = script.objective(other.coef_[0], float(other.intercept_[0]), X, y)
    assert script.objective(*found, X, y) == pytest.approx(reached, rel=1e-3)


def test_adaboost_lowers_the_exponential_loss(example: Any, backend: str) -> None:
    script = example("adaboost")
    X, y = script.ring()
    found = script.boost(X, y, 15, backend)
    votes = found.votes(X)
    losses = script.exponential_losses(votes, y)
    products = np.cumprod([2 * math.sqrt(e * (1 - e)) for e in found.errors])
    np.testing.assert_allclose(losses, products, rtol=1e-10)
    assert (np.diff(losses) < 0).all()
    first, last = (float((np.sign(vote) != y).mean()) for vote in (votes[0], votes[-1]))
    assert last < 0.1 < first


def test_scikit_learns_adaboost_takes_the_network(example: Any) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    script = example("adaboost")
    X, y = script.ring()
    boosted = ensemble.AdaBoostClassifier(script.WeakNetwork(), n_estimators=15, random_state=0)
    assert boosted.fit(X, y).score(X, y) > 0.9 > (boosted.estimators_[0].predict(X) == y).mean()


# 3. XOR


def test_xor_is_solved_from_the_documented_seed(example: Any, backend: str) -> None:
    script = example("xor")
    net = script.network(script.SEED, backend)
    assert np.abs(np.concatenate(net.weights)).max() <= 2
    assert not np.concatenate(net.biases).any()
    losses = script.train(net)
    assert len(losses) == 51
    assert net.steps == 5000
    assert losses[-1] < 0.02
    assert script.solved(net)


def test_three_of_four_starts_solve_xor(example: Any) -> None:
    pytest.importorskip("numba")
    script = example("xor")
    share, losses = script.solved_share(range(200), "numba")
    assert 0.70 <= share <= 0.87
    right = losses[losses < 1]
    assert share == right.size / losses.size
    assert ((right > 0.0105) & (right < 0.0140)).mean() > 0.6
    failed = losses[losses >= 1]
    near = (np.abs(failed - 1.397) < 0.05) | (np.abs(failed - 1.92) < 0.05)
    assert near.mean() > 0.9


# 4. and 5. MNIST


@pytest.fixture(scope="module")
def signed(mnist_folder: Path) -> Split:
    """MNIST from -1 to 1 in float64."""
    return load_mnist(mnist_folder, scaling="signed", dtype="float64")


@pytest.mark.mnist
def test_mnist_is_read_as_the_chapter_does(signed: Split, mnist_folder: Path) -> None:
    assert signed.X_train.shape == (60_000, 784)
    assert signed.X_test.shape == (10_000, 784)
    raw = load_mnist(mnist_folder)
    assert raw.X_train.dtype == np.uint8
    np.testing.assert_array_equal(signed.X_test, ((raw.X_test / 255.0) - 0.5) * 2)


@pytest.mark.mnist
def test_mnist_by_hand_costs_what_the_chapter_says(
    signed: Split, example: Any, fast_backend: str
) -> None:
    script = example("mnist_by_hand")
    run = script.train(script.network("float64", fast_backend), signed.X_train, signed.y_train, 2)
    assert run.cost == pytest.approx([66739.708810769, 47830.40014376355], rel=1e-9)


@pytest.mark.mnist
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_mnist_by_hand_to_the_end(signed: Split, example: Any, fast_backend: str) -> None:
    script = example("mnist_by_hand")
    net = script.network("float64", fast_backend)
    run = script.train(net, signed.X_train, signed.y_train, script.EPOCHS)
    assert run.cost[-1] == pytest.approx(5065.780803021795, abs=1)
    assert run.training[-1] == pytest.approx(0.9928, abs=2e-4)
    assert run.validation[-1] == pytest.approx(0.9798, abs=4e-4)
    accuracy = (script.classes(net, signed.X_test) == signed.y_test).mean()
    assert accuracy == pytest.approx(0.9754, abs=2e-4)
    assert abs(run.training[49] - run.validation[49]) < 0.003  # they meet near epoch 50


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_by_hand_in_float32(mnist_folder: Path, example: Any) -> None:
    pytest.importorskip("numba")
    script = example("mnist_by_hand")
    data = load_mnist(mnist_folder, scaling="signed")
    net, rows = script.network("float32", "numba"), script.TRAINING_ROWS
    onehot = np.eye(10, dtype=np.float32)[data.y_train[:rows]]
    net.fit(data.X_train[:rows], onehot, 200, 100, shuffle="permutation", drop_last=True)
    accuracy = (script.classes(net, data.X_test) == data.y_test).mean()
    assert accuracy == pytest.approx(0.9754, abs=0.0025)


@pytest.mark.mnist
def test_the_layered_network_on_mnist(mnist_folder: Path, example: Any) -> None:
    pytest.importorskip("numba")
    data = load_mnist(mnist_folder, scaling="centred")
    net = example("mnist_layers").network(backend="numba")
    history = net.fit(data.X_train, data.y_train, epochs=50, batch_size=64)
    assert history.loss[0] == pytest.approx(1.5573, abs=0.1)
    assert 0.20 < history.loss[-1] < 0.22
    scores = net.evaluate(data.X_test, data.y_test, metrics=("accuracy",))
    assert scores["accuracy"] == pytest.approx(0.939, abs=0.004)
    classes, probabilities = net.predict(data.X_test), net.predict_proba(data.X_test)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)

"""The class: shapes, predictions, measures, gradients, files, copies, threads of a program."""

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    ELU,
    MLP,
    MPELU,
    SGD,
    Adam,
    Cosine,
    FileFormatError,
    Huber,
    LeakyReLU,
    Maxout,
    Normal,
    PReLU,
    Quantile,
    WarmUp,
    files,
    properties,
    threads,
)
from fastmlp.kernels.reference import LOSSES, PROPERTIES, TARGETS

from .processes import run
from .tolerances import assert_close

RNG = np.random.default_rng(1)
X = RNG.normal(size=(30, 4))
CLASSES = RNG.integers(0, 3, 30)
VALUES = {
    "classes": CLASSES,
    "binary": (RNG.random((30, 3)) < 0.5).astype(float),
    "margin": np.where(RNG.random((30, 3)) < 0.5, 1.0, -1.0),
    "counts": RNG.poisson(2.0, (30, 3)).astype(float),
    "real": RNG.normal(size=(30, 3)),
}


def _net(backend: str, **arguments: Any) -> MLP:
    chosen = {"layer_sizes": (4, 6, 3), "dtype": "float64", "seed": 1, **arguments}
    return MLP(backend=backend, **chosen)


def _same(one: MLP, other: MLP) -> None:
    assert one.parameters.keys() == other.parameters.keys()
    for name, array in one.parameters.items():
        np.testing.assert_array_equal(array, other.parameters[name], err_msg=name)


# Predictions


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_by_loss(loss: str, backend: str) -> None:
    net, kind = _net(backend, loss=loss), TARGETS[loss]
    A, Z, found = net.forward(X), net.logits(X), net.predict(X)
    assert A.shape == Z.shape == (30, 3)
    if kind == "classes":
        np.testing.assert_array_equal(found, A.argmax(axis=1))
    elif kind == "binary":
        np.testing.assert_array_equal(found, A > 0.5)
    elif kind == "margin":
        np.testing.assert_array_equal(found, np.where(A > 0, 1, -1))
    else:
        np.testing.assert_array_equal(found, A)
    assert found.dtype == (np.float64 if kind in ("counts", "real") else np.int64)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if TARGETS[loss] != "classes"])
def test_one_output_predicts_one_dimension(loss: str, backend: str) -> None:
    net = _net(backend, layer_sizes=(4, 1), loss=loss)
    assert net.predict(X).shape == (30,)
    assert net.forward(X).shape == net.logits(X).shape == (30, 1)


def test_probabilities(backend: str) -> None:
    p = _net(backend).predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    single = _net(backend, layer_sizes=(4, 1), loss="binary_cross_entropy")
    assert single.predict_proba(X).shape == (30, 1)
    np.testing.assert_array_equal(single.predict_proba(X), single.forward(X))


def test_nearly_equal_logits_are_told_apart(backend: str) -> None:
    """In float32 both probabilities round to a half."""
    net = MLP((1, 2), init="zeros", backend=backend)
    net.biases = [[0.0, 1e-9]]
    assert net.predict([[0.0]]) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.dtype("float64")])
def test_outputs_have_the_networks_precision(dtype: Any, backend: str) -> None:
    net = _net(backend, dtype=dtype)
    assert net.forward(X).dtype == net.weights[0].dtype == net.dtype == np.dtype(dtype)


def test_softmax_of_the_chapter(backend: str) -> None:
    net = MLP((3, 3), backend=backend, dtype="float64")
    net.weights = [np.eye(3)]
    wanted = [[0.878878242732, 0.118943235911, 0.002178521357]]
    np.testing.assert_allclose(net.predict_proba([[3, 1, -3]]), wanted, atol=5e-13)


def test_a_rows_prediction_does_not_depend_on_the_others() -> None:
    if fastmlp.available_backends()["numba"]:
        pytest.skip("promised where no BLAS computes")
    net = _net("numba", dtype="float32", layer_sizes=(4, 50, 20, 3))
    many = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    whole = net.forward(many)
    for rows in (slice(0, 1), slice(999, 1000), slice(3, 20), slice(500, 1000)):
        np.testing.assert_array_equal(net.forward(many[rows]), whole[rows])


# Measures


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
def test_evaluate_is_the_loss_without_penalties(loss: str, reduction: str, backend: str) -> None:
    y, w = VALUES[TARGETS[loss]], np.arange(30.0)
    plain = _net(backend, loss=loss, reduction=reduction)
    heavy = _net(backend, loss=loss, reduction=reduction, l1=0.3, l2=0.5)
    wanted = plain.gradients(X, y).loss
    assert plain.evaluate(X, y)["loss"] == pytest.approx(wanted, rel=1e-12)
    assert heavy.evaluate(X, y)["loss"] == pytest.approx(wanted, rel=1e-12)
    weighted = plain.gradients(X, y, sample_weight=w).loss
    assert plain.evaluate(X, y, sample_weight=w)["loss"] == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize(("scale", "shared"), [("batch", 1), ("rows", 30)])
def test_penalties(scale: str, shared: int, backend: str) -> None:
    net = _net(backend, l1=0.3, l2=0.5, penalty_scale=scale)
    g, data = net.gradients(X, CLASSES), net.evaluate(X, CLASSES)["loss"]
    W = np.concatenate([w.ravel() for w in net.weights])
    penalty = (0.3 * np.abs(W).sum() + 0.25 * (W**2).sum()) / shared
    assert g.loss == pytest.approx(data + penalty, rel=1e-12)
    plain = _net(backend).gradients(X, CLASSES)
    for w, found, without in zip(net.weights, g.weights, plain.weights, strict=True):
        assert_close(found, without + (0.3 * np.sign(w) + 0.5 * w) / shared, "step")
    for found, without in zip(g.biases, plain.biases, strict=True):
        assert_close(found, without, "step")


def test_metrics(backend: str) -> None:
    net = _net(backend)
    p = net.predict(X)

    def right(y: Any, predicted: Any) -> int:
        return int((y == predicted).sum())

    found = net.evaluate(X, CLASSES, metrics=("accuracy", "zero_one", right))
    assert found["accuracy"] == pytest.approx((p == CLASSES).mean())
    assert found["zero_one"] == pytest.approx((p != CLASSES).mean())
    assert found["right"] == (p == CLASSES).sum()
    onehot = net.evaluate(X, np.eye(3)[CLASSES], metrics=("accuracy", right))
    assert {k: onehot[k] for k in ("accuracy", "right")} == {
        k: found[k] for k in ("accuracy", "right")
    }


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "hinge"])
def test_accuracy_counts_rows_that_are_right_in_every_output(loss: str, backend: str) -> None:
    net, y = _net(backend, loss=loss), VALUES[TARGETS[loss]]
    wanted = (net.predict(X) == y).all(axis=1).mean()
    assert net.evaluate(X, y, metrics=("accuracy",))["accuracy"] == pytest.approx(wanted)


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_of_numbers(outputs: int, backend: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    net = _net(backend, layer_sizes=(4, 5, outputs), loss="mse")
    y, p = VALUES["real"][:, :outputs], net.predict(X)
    found = net.evaluate(X, y, metrics=("mse", "mae", "r2"))
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(y, p))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, p))
    assert found["r2"] == pytest.approx(metrics.r2_score(y, p))


def test_metrics_that_make_no_sense_are_refused() -> None:
    net = _net("numpy", loss="mse")
    with pytest.raises(ValueError, match="accuracy compares labels"):
        net.evaluate(X, VALUES["real"], metrics=("accuracy",))
    with pytest.raises(TypeError, match="must return a number"):
        net.evaluate(X, VALUES["real"], metrics=(lambda y, p: "good",))

    def loss(y: Any, p: Any) -> float:
        return 0.0

    with pytest.raises(ValueError, match="'loss'"):
        net.evaluate(X, VALUES["real"], metrics=(loss,))


# Gradients


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_against_differences(loss: str, backend: str) -> None:
    net, y = _net(backend, loss=loss, activation="tanh", l2=0.1), VALUES[TARGETS[loss]]
    start = {name: array.copy() for name, array in net.parameters.items()}
    g = net.gradients(X, y)
    direction = {n: np.random.default_rng(3).normal(size=a.shape) for n, a in start.items()}
    wanted = sum((g.parameters[n] * d).sum() for n, d in direction.items())
    values = []
    for h in (1e-6, -1e-6):
        net.parameters = {n: a + h * direction[n] for n, a in start.items()}
        values.append(net.gradients(X, y).loss)
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_gradients_are_a_named_tuple(backend: str) -> None:
    net = _net(backend, activation="prelu", normalization="batch")
    g = net.gradients(X, CLASSES)
    assert g._fields == ("loss", "weights", "biases", "parameters")
    assert isinstance(g.loss, float)
    assert [w.shape for w in g.weights] == [w.shape for w in net.weights]
    assert {n: a.shape for n, a in g.parameters.items()} == {
        n: a.shape for n, a in net.parameters.items()
    }
    for number, b in enumerate(g.biases):
        np.testing.assert_array_equal(b, g.parameters[f"biases.{number}"])


def test_gradients_change_nothing(backend: str) -> None:
    net, twin = (_net(backend, dropout=0.5, normalization="batch") for _ in range(2))
    for training in (False, True):
        net.gradients(X, CLASSES, training=training)
    _same(net, twin)
    np.testing.assert_array_equal(net.forward(X), twin.forward(X))


def test_training_gradients_have_dropout_and_batch_statistics(backend: str) -> None:
    net = _net(backend, layer_sizes=(4, 40, 3), dropout=0.5)
    first, again = (net.gradients(X, CLASSES, training=True) for _ in range(2))
    assert first.loss == again.loss != net.gradients(X, CLASSES).loss
    # Whole columns of a batch of one row are zero: its dropped units learn nothing.
    dropped = net.gradients(X[:1], CLASSES[:1], training=True).weights[1]
    assert (~dropped.any(axis=1)).sum() > (
        ~net.gradients(X[:1], CLASSES[:1]).weights[1].any(axis=1)
    ).sum()
    loss = net.train_on_batch(X, CLASSES)
    assert loss == pytest.approx(first.loss, rel=1e-12)
    assert net.gradients(X, CLASSES, training=True).loss != first.loss


# The worked example of the chapter (2-2-2, biases held fixed)


def _worked(backend: str) -> MLP:
    net = MLP(
        (2, 2, 2),
        "sigmoid",
        "sigmoid",
        "half_squared_error",
        optimizer=SGD(0.5),
        dtype="float64",
        backend=backend,
    )
    net.weights = [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]]
    net.biases = [[0.35, 0.35], [0.60, 0.60]]
    return net


def test_worked_example(backend: str) -> None:
    net = _worked(backend)
    x, t = [[0.05, 0.10]], [[0.01, 0.99]]
    np.testing.assert_allclose(net.forward(x), [[0.751365069552, 0.772928465321]], atol=1e-12)
    g = net.gradients(x, t)
    assert g.loss == pytest.approx(0.298371108760, abs=1e-12)
    assert g.weights[1][0, 0] == pytest.approx(0.082167040564, abs=1e-12)
    assert g.weights[0][0, 0] == pytest.approx(0.000438567734, abs=1e-12)
    biases = net.biases
    net.train_on_batch(x, t)
    net.biases = biases
    after = net.weights
    np.testing.assert_allclose(
        after[1], [[0.358916479718, 0.511301270239], [0.408666186076, 0.561370121108]], atol=1e-12
    )
    np.testing.assert_allclose(
        after[0], [[0.149780716133, 0.249751143632], [0.199561432266, 0.299502287265]], atol=1e-12
    )
    assert net.evaluate(x, t)["loss"] == pytest.approx(0.291027773694, abs=1e-10)


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [("hinge", 0.7), ("exponential", 0.740818220682), ("squared_error", 0.49)]
    + [("absolute_error", 0.7)],
)
def test_losses_of_the_chapter(loss: str, wanted: float, backend: str) -> None:
    net = MLP((1, 1), loss=loss, dtype="float64", backend=backend)
    net.weights, net.biases = [[[0.0]]], [[0.3]]
    assert net.evaluate([[0.0]], [1.0])["loss"] == pytest.approx(wanted, abs=1e-12)


def test_log_loss_of_the_chapter(backend: str) -> None:
    net = MLP((1, 1), loss="binary_cross_entropy", dtype="float64", backend=backend)
    net.weights, net.biases = [[[0.0]]], [[math.log(0.88 / 0.12)]]
    assert net.evaluate([[0.0]], [1])["loss"] == pytest.approx(0.127833371510, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_cross_entropies_stay_finite(loss: str, size: float, dtype: str, backend: str) -> None:
    net = MLP((1, 2), loss=loss, dtype=dtype, backend=backend, init="zeros")
    net.weights = [[[size, -size]]]
    y = [1] if loss == "cross_entropy" else [[0, 1]]
    per_output = 2 * size
    g = net.gradients([[1.0]], y)
    assert g.loss == pytest.approx(per_output, rel=1e-6)
    assert np.isfinite(g.weights[0]).all()
    assert np.isfinite(net.evaluate([[1.0]], y)["loss"])


# Reading and assigning


def test_weights_are_read_only_lists(backend: str) -> None:
    net = _net(backend)
    assert isinstance(net.weights, list)
    assert [w.shape for w in net.weights] == [(4, 6), (6, 3)]
    assert [b.shape for b in net.biases] == [(6,), (3,)]
    for array in (*net.weights, *net.biases, *net.parameters.values(), *net.snapshot()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_arrays_that_were_read_keep_their_values(backend: str) -> None:
    net = _net(backend)
    read = net.weights[0]
    before = read.copy()
    net.fit(X, CLASSES, epochs=2)
    np.testing.assert_array_equal(read, before)
    assert (net.weights[0] != before).any()


def test_assigned_arrays_are_copied(backend: str) -> None:
    net, mine = _net(backend), np.zeros((4, 6))
    net.weights = [mine, net.weights[1]]
    wanted = net.forward(X)
    mine[:] = 9
    np.testing.assert_array_equal(net.forward(X), wanted)
    np.testing.assert_array_equal(net.weights[0], np.zeros((4, 6)))


@pytest.mark.parametrize("trained", [False, True])
def test_assigning_takes_effect(trained: bool, backend: str) -> None:
    net, other = _net(backend), _net(backend, seed=2)
    if trained:
        net.fit(X, CLASSES, epochs=1)
    net.weights, net.biases = other.weights, other.biases
    np.testing.assert_array_equal(net.forward(X), other.forward(X))


def test_parameters_name_everything(backend: str) -> None:
    net = _net(
        backend,
        layer_sizes=(4, 6, 5, 7, 3),
        activation=("mpelu", "prelu", "maxout"),
        normalization=("batch", "layer", None),
    )
    assert {name: a.shape for name, a in net.parameters.items()} == {
        "weights.0": (4, 6),
        "biases.0": (6,),
        "alpha.0": (6,),
        "beta.0": (6,),
        "scale.0": (6,),
        "shift.0": (6,),
        "weights.1": (6, 5),
        "biases.1": (5,),
        "slope.1": (5,),
        "scale.1": (5,),
        "shift.1": (5,),
        "weights.2": (5, 14),
        "biases.2": (14,),
        "weights.3": (7, 3),
        "biases.3": (3,),
    }


def test_assigning_keeps_the_optimizers_state(backend: str) -> None:
    net, twin = _net(backend), _net(backend)
    for trained in (net, twin):
        trained.fit(X, CLASSES, epochs=1)
    net.parameters = net.parameters
    for trained in (net, twin):
        trained.fit(X, CLASSES, epochs=1)
    _same(net, twin)


def test_snapshots(backend: str) -> None:
    net = _net(backend, normalization="batch")
    net.fit(X, CLASSES, epochs=1)
    snapshot, wanted = net.snapshot(), net.forward(X)
    net.fit(X, CLASSES, epochs=3)
    assert (net.forward(X) != wanted).any()
    net.restore(snapshot)
    np.testing.assert_array_equal(net.forward(X), wanted)
    for wrong in (None, [], _net(backend).snapshot(), tuple(snapshot)):
        with pytest.raises(ValueError, match="snapshot"):
            net.restore(wrong)


# Words and objects


@pytest.mark.parametrize(
    ("given", "word"),
    [(LeakyReLU(0.01), "leaky_relu"), (ELU(1), "elu"), (PReLU(), "prelu")]
    + [(MPELU(), "mpelu"), (Maxout(2), "maxout")],
    ids=repr,
)
def test_words_mean_the_defaults(given: Any, word: str, backend: str) -> None:
    one, other = _net(backend, activation=given), _net(backend, activation=word)
    np.testing.assert_array_equal(one.forward(X), other.forward(X))


@pytest.mark.parametrize(("word", "loss"), [("huber", Huber(1)), ("quantile", Quantile(0.5))])
def test_losses_with_numbers(word: str, loss: Any, backend: str) -> None:
    y = VALUES["real"]
    assert _net(backend, loss=loss).evaluate(X, y) == _net(backend, loss=word).evaluate(X, y)


@pytest.mark.parametrize(
    ("alias", "word"), [("mse", "mean_squared_error"), ("mae", "mean_absolute_error")]
)
def test_aliases(alias: str, word: str, backend: str) -> None:
    y = VALUES["real"]
    assert _net(backend, loss=alias).evaluate(X, y) == _net(backend, loss=word).evaluate(X, y)


@pytest.mark.parametrize("name", [n for n in PROPERTIES if PROPERTIES[n].trainable])
def test_any_trainable_activation_can_stand_at_the_output(name: str, backend: str) -> None:
    net = _net(backend, loss="squared_error", output_activation=name)
    history = net.fit(X, VALUES["real"], epochs=2)
    assert np.isfinite(history.loss).all()
    assert net.forward(X).shape == (30, 3)


def test_properties_can_be_looked_up() -> None:
    tanh = properties("tanh")
    assert (tanh.low, tanh.high, tanh.zero_centred, tanh.monotone) == (-1, 1, True, True)
    assert properties(LeakyReLU(0.2)) == properties("leaky_relu")
    assert not properties("relu").differentiable


# Copies and files


def test_copies_are_independent(backend: str) -> None:
    net = _net(backend, dropout=0.2)
    net.fit(X, CLASSES, epochs=1)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net)):
        _same(net, twin)
        assert twin.steps == net.steps
    twin, other = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for each in (twin, other, net):
        each.fit(X, CLASSES, epochs=2)
    _same(net, twin)
    _same(net, other)


EVERYTHING: dict[str, Any] = {
    "layer_sizes": (4, 6, 5, 7, 3),
    "activation": (MPELU(0.25), PReLU(0.1), Maxout(3)),
    "normalization": ("batch", "layer", None),
    "dropout": (0.1, 0.0, 0.3),
    "optimizer": Adam(WarmUp(Cosine(0.01, 50), 5), epsilon_hat=True, clip_norm=1.0),
    "l1": 1e-3,
    "l2": 1e-2,
    "penalty_scale": "rows",
    "reduction": "sum",
    "init": Normal(0.3),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", [True, "permutation"])
def test_exact_resume(shuffle: Any, dtype: str, backend: str, tmp_path: Path) -> None:
    fit = {"batch_size": 8, "shuffle": shuffle}
    whole, half = (_net(backend, **{**EVERYTHING, "dtype": dtype}) for _ in range(2))
    losses = whole.fit(X, CLASSES, epochs=10, **fit).loss
    first = half.fit(X, CLASSES, epochs=4, **fit).loss
    half.save(tmp_path / "net.safetensors")
    loaded = MLP.load(tmp_path / "net.safetensors", backend=backend)
    assert first + loaded.fit(X, CLASSES, epochs=6, **fit).loss == losses
    _same(whole, loaded)
    np.testing.assert_array_equal(whole.forward(X), loaded.forward(X))


def test_exact_resume_in_another_process(shared_backend: str, tmp_path: Path) -> None:
    backend = shared_backend
    whole, half = _net(backend, dropout=0.3), _net(backend, dropout=0.3)
    whole.fit(X, CLASSES, epochs=10, batch_size=8)
    half.fit(X, CLASSES, epochs=4, batch_size=8)
    half.save(tmp_path / "net")
    np.savez(tmp_path / "data.npz", X=X, y=CLASSES)
    code = f"""
import numpy as np, fastmlp
net = fastmlp.MLP.load("net", backend={backend!r})
data = np.load("data.npz")
net.fit(data["X"], data["y"], epochs=6, batch_size=8)
net.save("net")
"""
    root = str(Path(fastmlp.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    _same(whole, MLP.load(tmp_path / "net", backend=backend))


@pytest.mark.parametrize(
    "seed",
    [5, np.random.RandomState(5), np.random.Generator(np.random.MT19937(5))]
    + [np.random.Generator(np.random.Philox(5)), np.random.Generator(np.random.SFC64(5))],
    ids=["int", "RandomState", "MT19937", "Philox", "SFC64"],
)
def test_files_keep_the_generator(seed: Any, tmp_path: Path) -> None:
    net = _net("numpy", seed=copy.deepcopy(seed))
    net.fit(X, CLASSES, epochs=1, shuffle="permutation")
    net.save(tmp_path / "net")
    loaded = MLP.load(tmp_path / "net", backend="numpy")
    for trained in (net, loaded):
        trained.fit(X, CLASSES, epochs=2, shuffle="permutation")
    _same(net, loaded)


def test_files_say_what_they_hold(tmp_path: Path, backend: str) -> None:
    net = _net(backend, **EVERYTHING)
    net.metadata = {"classes": ["a", "b", "c"]}
    net.save(tmp_path / "net")
    loaded = MLP.load(tmp_path / "net", backend=backend)
    assert (loaded.layer_sizes, loaded.optimizer) == (net.layer_sizes, net.optimizer)
    assert loaded.metadata == net.metadata
    assert repr(loaded) == repr(net)
    assert loaded.summary() == net.summary()


def test_code_of_ones_own_is_not_saved(tmp_path: Path) -> None:
    net = _net("numpy", optimizer=SGD(lambda step, epoch: 0.1))
    with pytest.raises(ValueError, match="optimizer can't be saved.*code of your own"):
        net.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())
    net.learning_rate = 0.1
    net.save(tmp_path / "net")


def test_an_initializer_of_ones_own_does_not_matter(tmp_path: Path) -> None:
    class Ones:
        def draw(self, rng: Any, inputs: int, outputs: int, activation: str) -> Any:
            return np.ones((inputs, outputs)), np.ones(outputs)

    net = _net("numpy", init=Ones())
    net.save(tmp_path / "net")
    _same(net, MLP.load(tmp_path / "net", backend="numpy"))


def _altered(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


JUNK = (None, -1, 2**70, 1.5, "x", [], {}, [1], [[1, 2]], {"class": "MLP"}, True, KeyError)


def test_whatever_a_file_says_is_checked(tmp_path: Path) -> None:
    """A forged file with a right checksum: refused, or a network that works."""
    _net("numpy", **EVERYTHING).save(tmp_path / "net")
    config, arrays = files.load(tmp_path / "net")
    for key in config:
        for value in JUNK:
            files.save(tmp_path / "forged", _altered(config, (key,), value), arrays)
            net = _loaded(tmp_path / "forged")
            assert net is None or np.isfinite(net.forward(X)).all()


def _loaded(path: Path) -> MLP | None:
    try:
        return MLP.load(path, backend="numpy")
    except FileFormatError:
        return None


def test_whatever_arrays_a_file_has_is_checked(tmp_path: Path) -> None:
    _net("numpy", **EVERYTHING).save(tmp_path / "net")
    config, arrays = files.load(tmp_path / "net")
    for name, array in arrays.items():
        wrong = (array[:-1], array.astype(np.float32), array.ravel()[:, None, None], array * np.nan)
        for value in wrong:
            files.save(tmp_path / "forged", config, {**arrays, name: value})
            with pytest.raises(FileFormatError):
                MLP.load(tmp_path / "forged", backend="numpy")
        files.save(tmp_path / "forged", config, {n: a for n, a in arrays.items() if n != name})
        with pytest.raises(FileFormatError):
            MLP.load(tmp_path / "forged", backend="numpy")
    files.save(tmp_path / "forged", config, {**arrays, "more": np.zeros(1)})
    with pytest.raises(FileFormatError):
        MLP.load(tmp_path / "forged", backend="numpy")


@pytest.mark.usefixtures("no_device")
def test_a_failed_load_says_which_backend_is_missing(tmp_path: Path) -> None:
    _net("numpy").save(tmp_path / "net")
    with pytest.raises(ImportError, match="cupy"):
        MLP.load(tmp_path / "net", backend="cupy")
    with pytest.raises(ValueError, match="backend must be one of"):
        MLP.load(tmp_path / "net", backend="jax")


# Backends


def test_moving_in_mid_training(backend: str) -> None:
    stays, moves = _net(backend, **EVERYTHING), _net(backend, **EVERYTHING)
    stays.fit(X, CLASSES, epochs=4, batch_size=8)
    moves.fit(X, CLASSES, epochs=2, batch_size=8)
    assert moves.to("numpy") is moves
    assert moves.backend == "numpy"
    moves.fit(X, CLASSES, epochs=2, batch_size=8)
    for name, array in stays.parameters.items():
        assert_close(moves.parameters[name], array, "training")


@pytest.mark.usefixtures("no_device")
def test_a_refused_move_changes_nothing() -> None:
    net = _net("numpy")
    with pytest.raises(ImportError, match="cupy"):
        net.to("cupy")
    with pytest.raises(ValueError, match="backend must be one of"):
        net.to("jax")
    assert net.backend == "numpy"
    net.fit(X, CLASSES, epochs=1)


def test_auto_is_a_fixed_rule() -> None:
    wanted = "numpy" if fastmlp.available_backends()["numba"] else "numba"
    assert MLP((2, 2)).backend == wanted


def test_summary(backend: str) -> None:
    text = _net(backend, **EVERYTHING).summary()
    for word in ("mpelu", "prelu", "maxout", "batch", "float64", backend, "cross_entropy", "Adam"):
        assert word in text
    net = _net(backend)
    assert f"{4 * 6 + 6 + 6 * 3 + 3} parameters" in net.summary()
    assert "(4, 6, 3)" in repr(net)


# Threads of a program


def test_several_threads_may_predict(backend: str) -> None:
    net = _net(backend, layer_sizes=(4, 64, 64, 3))
    many = np.random.default_rng(0).normal(size=(500, 4))
    wanted, wrong = net.forward(many), []

    def work() -> None:
        wrong.extend(i for i in range(30) if (net.forward(many) != wanted).any())

    _together(work, 4)
    assert not wrong


def test_reading_from_another_thread_while_training(backend: str) -> None:
    net, twin = _net(backend), _net(backend)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            assert np.isfinite(net.weights[0]).all()
            net.forward(X[:2])

    reader = threading.Thread(target=read)
    reader.start()
    net.fit(X, CLASSES, epochs=200, batch_size=8)
    done.set()
    reader.join()
    twin.fit(X, CLASSES, epochs=200, batch_size=8)
    _same(net, twin)


def test_networks_train_side_by_side(backend: str) -> None:
    nets = [_net(backend) for _ in range(4)]
    pending = list(nets)
    _together(lambda: pending.pop().fit(X, CLASSES, epochs=20, batch_size=8), 4)
    for net in nets[1:]:
        _same(net, nets[0])


def _together(work: Any, count: int) -> None:
    members = [threading.Thread(target=work) for _ in range(count)]
    for member in members:
        member.start()
    for member in members:
        member.join()


# The package


def test_warmup(backend: str) -> None:
    assert 0 < fastmlp.warmup("float64", backend) < 120


def test_the_package_exports_what_it_says() -> None:
    for name in fastmlp.__all__:
        assert getattr(fastmlp, name) is not None
        assert name in dir(fastmlp)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fastmlp.Nothing


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2", 10**9])
def test_numbers_of_threads_are_checked(wrong: Any) -> None:
    before = fastmlp.get_num_threads()
    with pytest.raises((TypeError, ValueError), match="count must be"):
        fastmlp.set_num_threads(wrong)
    assert fastmlp.get_num_threads() == before


@pytest.fixture
def asked_anew() -> Iterator[Callable[[], int]]:
    """`get_num_threads` as in a new process."""

    def answer() -> int:
        forget()
        return fastmlp.get_num_threads()

    def forget() -> None:
        threads._asked.cache_clear()
        threads._cores.cache_clear()

    yield answer
    forget()


def test_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, asked_anew: Callable[[], int]
) -> None:
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    cores = asked_anew()
    try:
        fastmlp.set_num_threads(7)
        assert fastmlp.get_num_threads() == 7
    finally:
        fastmlp.set_num_threads(None)
    assert fastmlp.get_num_threads() == cores
    monkeypatch.setenv("FASTMLP_NUM_THREADS", " 1")
    assert fastmlp.get_num_threads() == cores  # what was said first holds
    assert asked_anew() == 1
    for wrong in ("many", "0", "-1", "1.5", "9" * 5000):
        monkeypatch.setenv("FASTMLP_NUM_THREADS", wrong)
        for ask in (asked_anew, fastmlp.get_num_threads):
            with pytest.raises(ValueError, match="FASTMLP_NUM_THREADS must be"):
                ask()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_worker_that_is_forked_asks_anew() -> None:
    code = """
import multiprocessing, os
os.environ.pop("FASTMLP_NUM_THREADS", None)
from fastmlp import get_num_threads, threads
threads._cores = lambda: 5
assert get_num_threads() == 5  # what is kept is not whose process it is
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
worker = context.Process(target=lambda: queue.put(get_num_threads()))
worker.start()
worker.join()
print(queue.get(), get_num_threads())
"""
    assert run(code, timeout=60).split() == ["1", "5"]


@pytest.mark.parametrize(
    ("files_of_the_group", "wanted"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "10 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "250001 100000\n"}, 3),
        ({"cpu.max": "0 100000"}, None),
        ({"cpu.max": "100000 0"}, None),
        ({"cpu.max": "-100000 100000"}, None),
        ({"cpu.max": "100000"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu.max": "9" * 9999 + " 1"}, None),
        ({"cpu.max": "rubbish"}, None),
        ({"cpu.max": "\udcff\udcfe 1"}, None),
        ({"cpu.max": "\udcff", "cpu/cpu.cfs_quota_us": "\udcff"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000"}, None),
        ({"cpu/cpu.cfs_quota_us": "rubbish", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
        # The group of the process and those around it, as /proc/self/cgroup names them.
        ({"own": "0::/a/b", "a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        ({"own": "0::/a/b", "a/b/cpu.max": "300000 100000", "a/cpu.max": "150000 100000"}, 2),
        ({"own": "0::/a", "a/cpu.max": "300000 100000", "c/cpu.max": "100000 100000"}, 3),
        ({"own": "0::/", "cpu.max": "300000 100000"}, 3),
        ({"own": "0::/gone", "cpu.max": "300000 100000"}, 3),
        ({"own": "0::/../a", "a/cpu.max": "100000 100000"}, None),
        ({"own": "3:memory:/a\n", "a/cpu.max": "100000 100000"}, None),
        (
            {
                "own": "3:memory:/c\n2:cpu,cpuacct:/a/b\n0::/d\n",
                "cpu/a/b/cpu.cfs_quota_us": "-1",
                "cpu/a/b/cpu.cfs_period_us": "100000",
                "cpu/a/cpu.cfs_quota_us": "210000",
                "cpu/a/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        ({"own": "rubbish", "cpu.max": "300000 100000"}, 3),
        ({"own": "a:b\n::\n\udcff\n", "cpu.max": "300000 100000"}, 3),
    ],
)
def test_quota_of_a_container(
    files_of_the_group: dict[str, str], wanted: int | None, tmp_path: Path
) -> None:
    for name, text in files_of_the_group.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    assert threads._quota(tmp_path, tmp_path / "own") == wanted


def test_the_default_heeds_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, asked_anew: Callable[[], int]
) -> None:
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    for quota, wanted in ((None, 3), (8, 3), (2, 2)):
        monkeypatch.setattr(threads, "_quota", lambda root, own, quota=quota: quota)
        assert asked_anew() == wanted
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)
    assert asked_anew() == 1

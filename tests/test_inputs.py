"""What users pass in: every form of numbers is taken, everything else named and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastmlp import ELU, MLP, MPELU, Huber, LeakyReLU, Maxout, PReLU, Quantile

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
Y = np.arange(12) % 4

CALLS: dict[str, Callable[[MLP, Any, Any], object]] = {
    "fit": lambda net, X, y: net.fit(X, y, epochs=1),
    "evaluate": lambda net, X, y: net.evaluate(X, y),
    "gradients": lambda net, X, y: net.gradients(X, y),
    "train_on_batch": lambda net, X, y: net.train_on_batch(X, y),
    "validation": lambda net, X, y: net.fit(
        np.zeros((4, 3)), [0, 1, 2, 3], epochs=1, validation_data=(X, y)
    ),
}
READS = ("logits", "forward", "predict", "predict_proba")


def _net(backend: str = "numpy", **arguments: Any) -> MLP:
    chosen = {"seed": 1, **arguments}
    return MLP((3, 5, 4), backend=backend, **chosen)


def _numbers(net: MLP) -> dict[str, Any]:
    """Everything that a failed call must leave alone."""
    generator = net._engine.rng
    assert isinstance(generator, np.random.Generator)
    return {
        **{name: array.tobytes() for name, array in net.parameters.items()},
        "slots": net._engine.state().slots.tobytes(),
        "counts": (net.steps, net.epochs),
        "optimizer": repr(net.optimizer),
        "generator": repr(generator.bit_generator.state),
    }


@pytest.fixture
def net(backend: str) -> MLP:
    """A network that has trained a little; a refused call must leave it as it is."""
    trained = _net(backend)
    trained.fit(X, Y, epochs=1)
    return trained


# Forms of X that mean the same numbers


def _forms() -> dict[str, Any]:
    narrow = X.astype(np.float32)
    wide = np.zeros((12, 6), np.float32)
    wide[:, ::2] = narrow
    offset = np.zeros(narrow.nbytes + 1, np.uint8)
    offset[1:] = narrow.view(np.uint8).ravel()
    readonly = narrow.copy()
    readonly.flags.writeable = False
    return {
        "list": narrow.tolist(),
        "tuple": tuple(map(tuple, narrow.tolist())),
        "float64": narrow.astype(np.float64),
        "longdouble": narrow.astype(np.longdouble),
        "fortran": np.asfortranarray(narrow),
        "strided": wide[:, ::2],
        "reversed": narrow[::-1][::-1],
        "big-endian": narrow.astype(">f4"),
        "read-only": readonly,
        "unaligned": offset[1:].view(np.float32).reshape(12, 3),
        "masked, nothing hidden": np.ma.masked_array(narrow),
        "array interface": SimpleNamespace(__array_interface__=narrow.__array_interface__),
    }


FORMS = _forms()


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_x(form: str, net: MLP) -> None:
    wanted = net.forward(X.astype(np.float32))
    np.testing.assert_array_equal(net.forward(FORMS[form]), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_x_train_alike(form: str, backend: str) -> None:
    one, other = _net(backend), _net(backend)
    one.fit(X.astype(np.float32), Y, epochs=2, batch_size=5)
    other.fit(FORMS[form], Y, epochs=2, batch_size=5)
    np.testing.assert_array_equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize("kind", ["?", "u1", "i1", "i2", "u4", "i8", "u8", "f2", ">i4"])
def test_dtypes_of_x(kind: str, net: MLP) -> None:
    small = (np.abs(X) > 0.5).astype(kind)
    np.testing.assert_array_equal(net.forward(small), net.forward(small.astype(np.float32)))


def test_broadcast_rows(net: MLP) -> None:
    same = np.broadcast_to(np.float32([1, 2, 3]), (7, 3))
    np.testing.assert_array_equal(net.forward(same), net.forward(same.copy()))


def test_memory_maps(net: MLP, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    net.fit(mapped, Y, epochs=1)
    np.testing.assert_array_equal(net.forward(mapped), net.forward(X))


def test_pandas(net: MLP) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    frame["d"] = Y
    net.fit(frame[["a", "b", "c"]], frame["d"], epochs=1)
    np.testing.assert_array_equal(net.forward(frame[["a", "b", "c"]]), net.forward(X))
    frame["a"] = "word"
    with pytest.raises(TypeError, match="X must hold real numbers"):
        net.predict(frame[["a", "b", "c"]])
    with pytest.raises(TypeError, match="y must hold real numbers"):
        net.evaluate(X, frame["a"])


def test_what_is_right_already_is_not_copied(backend: str) -> None:
    net, narrow = _net(backend), X.astype(np.float32)
    assert net._rows(narrow) is narrow


def test_x_is_never_written_to(net: MLP) -> None:
    narrow, labels = X.astype(np.float32), Y.copy()
    net.fit(narrow, labels, epochs=2)
    np.testing.assert_array_equal(narrow, X.astype(np.float32))
    np.testing.assert_array_equal(labels, Y)


# What X must not be

NO_X = {
    "one row without rows": (X[0], ValueError, r"reshape\(1, -1\)"),
    "images": (np.zeros((2, 3, 3)), ValueError, r"shape \(rows, 3\)"),
    "a number": (1.0, ValueError, r"shape \(rows, 3\)"),
    "none": (None, TypeError, "real numbers"),
    "no rows": (np.zeros((0, 3)), ValueError, "at least one row"),
    "too few columns": (X[:, :2], ValueError, "3 columns"),
    "too many columns": (np.ones((4, 5)), ValueError, "3 columns"),
    "nan": (np.where(np.eye(12, 3), np.nan, X), ValueError, r"finite numbers; got nan at \(0, 0\)"),
    "infinity": (np.where(np.eye(12, 3), -np.inf, X), ValueError, "finite numbers; got -inf"),
    "nan in float32": (np.full((2, 3), np.nan, np.float32), ValueError, "finite"),
    "too large": (np.full((2, 3), 1e300), ValueError, "fit into float32"),
    "strings": (np.full((2, 3), "1.0"), TypeError, "real numbers"),
    "objects": (np.full((2, 3), None), TypeError, "real numbers"),
    "complex": (X + 1j, TypeError, "real numbers"),
    "dates": (np.zeros((2, 3), "M8[s]"), TypeError, "real numbers"),
    "ragged": ([[1, 2, 3], [1, 2]], ValueError, "X can't be made an array"),
    "hidden": (np.ma.masked_array(X, X > 0), ValueError, "masked"),
    "a word": ("abc", TypeError, "real numbers"),
    "a dict": ({"a": 1}, TypeError, "real numbers"),
}


@pytest.mark.parametrize("case", NO_X)
@pytest.mark.parametrize("call", [*CALLS, *READS])
def test_x_is_refused(call: str, case: str, net: MLP) -> None:
    wrong, error, match = NO_X[case]
    before = _numbers(net)
    with pytest.raises(error, match=match):
        if call in READS:
            getattr(net, call)(wrong)
        else:
            CALLS[call](net, wrong, [0])
    assert _numbers(net) == before


def test_one_input_asks_which_way(backend: str) -> None:
    net = MLP((1, 3, 1), loss="mse", backend=backend)
    with pytest.raises(ValueError, match=r"reshape\(-1, 1\)"):
        net.predict(np.zeros(5))


def test_sparse_is_refused(net: MLP) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.coo_array):
        with pytest.raises(TypeError, match=r"toarray\(\)"):
            net.predict(kind(X))


def test_large_arrays_are_looked_at_to_the_end(backend: str) -> None:
    net = MLP((50, 2), backend=backend)
    big = np.zeros((5000, 50), np.float32)
    big[-1, -1] = np.nan
    with pytest.raises(ValueError, match=r"\(4999, 49\)"):
        net.predict(big)


def test_float64_takes_large_numbers(backend: str) -> None:
    net = MLP((3, 2), loss="mse", dtype="float64", backend=backend)
    assert np.isfinite(net.forward(np.full((2, 3), 1e300))).all()


# Targets

LOSSES = {
    "classes": "cross_entropy",
    "binary": "binary_cross_entropy",
    "margin": "hinge",
    "counts": "poisson",
    "real": "mse",
}

GOOD_Y: dict[str, list[Any]] = {
    "classes": [
        [0, 3, 1],
        [[0], [3], [1]],
        [0.0, 3.0, 1.0],
        np.uint8([0, 3, 1]),
        np.array([0, 3, 1], ">i2"),
        np.int64([0, 9, 3, 9, 1, 9])[::2],
        np.eye(4)[[0, 3, 1]],
        np.eye(4, dtype=bool)[[0, 3, 1]],
    ],
    "binary": [[[0, 1, 1, 0]] * 3, np.ones((3, 4), bool), np.zeros((3, 4), np.uint8)],
    "margin": [[[-1, 1, 1, -1]] * 3, np.ones((3, 4))],
    "counts": [[[0, 1, 7, 2.5]] * 3],
    "real": [[[0, -1, 7, 2.5]] * 3, np.asfortranarray(np.ones((3, 4)))],
}


@pytest.mark.parametrize("kind", GOOD_Y)
def test_forms_of_y(kind: str, backend: str) -> None:
    nets = [_net(backend, loss=LOSSES[kind], dtype="float64") for _ in GOOD_Y[kind]]
    losses = [net.fit(X[:3], y, epochs=2).loss for net, y in zip(nets, GOOD_Y[kind], strict=True)]
    assert np.isfinite(losses).all()
    if kind == "classes":
        np.testing.assert_allclose(losses, np.broadcast_to(losses[0], np.shape(losses)), rtol=1e-12)


def test_rows_of_probabilities(backend: str) -> None:
    net = _net(backend, dtype="float64")
    soft = np.array([[0.25, 0.25, 0.5, 0]] * 3)
    p = net.predict_proba(X[:3])
    wanted = -(soft * np.log(p)).sum(axis=1).mean()
    assert net.evaluate(X[:3], soft)["loss"] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["binary", "margin", "counts", "real"])
def test_one_output_takes_one_dimension_or_two(kind: str, backend: str) -> None:
    y = np.array([1, 1, 1])
    nets = [MLP((3, 1), loss=LOSSES[kind], backend=backend, seed=0) for _ in range(2)]
    flat, column = nets[0].fit(X[:3], y).loss, nets[1].fit(X[:3], y[:, None]).loss
    assert flat == column


BAD_Y: dict[str, list[tuple[Any, str]]] = {
    "classes": [
        ([0, 4, 1], "class indices 0 to 3"),
        ([0, -1, 1], "class indices 0 to 3"),
        ([0, 1.5, 1], "class indices 0 to 3"),
        ([0, np.nan, 1], "y must h"),
        ([0, np.inf, 1], "y must h"),
        ([0, 1e300, 1], "class indices 0 to 3"),
        (np.uint64([0, 2**64 - 1, 1]), "class indices 0 to 3"),
        (np.int64([0, -(2**63), 1]), "class indices 0 to 3"),
        (np.ones((3, 3)), "y must have shape"),
        (np.full((3, 4), 0.5), "sum"),
        ([[2, -1, 0, 0]] * 3, "y must hold"),
        (np.full((3, 4), np.nan), "finite"),
        (np.zeros((3, 4)), "sum"),
    ],
    "binary": [
        ([[0, 1, 2, 0]] * 3, "y must hold"),
        ([[0, 1, -1, 0]] * 3, "y must hold"),
        (np.full((3, 4), 0.5), "y must hold 0 and 1"),
        ([0, 1, 1], "y must have shape"),
    ],
    "margin": [
        ([[0, 1, 1, 1]] * 3, "-1 and 1"),
        (np.full((3, 4), 2), "-1 and 1"),
        (np.full((3, 4), np.nan), "finite"),
    ],
    "counts": [([[0, 1, -1, 1]] * 3, ">= 0"), (np.full((3, 4), np.inf), "finite")],
    "real": [
        (np.full((3, 4), np.nan), "finite"),
        (np.full((3, 4), 1e300), "float32"),
        (np.ones(3), "y must have shape"),
        (np.ones((3, 5)), "y must have shape"),
        (np.ones((3, 4, 1)), "y must have shape"),
    ],
}


@pytest.mark.parametrize("kind", BAD_Y)
@pytest.mark.parametrize("call", CALLS)
def test_y_is_refused(call: str, kind: str, backend: str) -> None:
    net = _net(backend, loss=LOSSES[kind])
    before = _numbers(net)
    good = GOOD_Y[kind][0]
    calls = {**CALLS, "validation": _validate_with(good)}
    for wrong, match in BAD_Y[kind]:
        with pytest.raises(ValueError, match=match):
            calls[call](net, X[:3], wrong)
        assert _numbers(net) == before


def _validate_with(good: Any) -> Callable[[MLP, Any, Any], object]:
    return lambda net, X, y: net.fit(X, good, epochs=1, validation_data=(X, y))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("call", CALLS)
def test_mismatched_lengths(call: str, kind: str, backend: str) -> None:
    net = _net(backend, loss=LOSSES[kind])
    calls = {**CALLS, "validation": _validate_with(GOOD_Y[kind][0])}
    for wrong in (np.ones((5, 4)), np.ones(2), 1.0, np.zeros((0, 4))):
        with pytest.raises(ValueError, match="y must have one entry for each of the 3 rows"):
            calls[call](net, X[:3], wrong)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("wrong", [["a", "b", "c"], [None, 1, 2], [1j, 0, 0], None, {}])
def test_y_of_no_numbers(kind: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match="y must hold real numbers"):
        _net(loss=LOSSES[kind]).fit(X[:3], wrong)


def test_labels_changed_by_a_callback_reach_no_kernel(backend: str) -> None:
    """Wild labels would be indices into the outputs."""
    net, labels = _net(backend), Y.astype(np.int64)

    def vandal(epoch: int, history: Any, net: Any) -> None:
        labels[:] = 2**40

    twin = _net(backend)
    net.fit(X, labels, epochs=3, callbacks=[vandal])
    twin.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(net.weights[0], twin.weights[0])


# Weights of rows

NO_WEIGHTS = {
    "negative": (-np.ones(12), ValueError, ">= 0"),
    "nan": (np.full(12, np.nan), ValueError, "finite"),
    "infinite": (np.full(12, np.inf), ValueError, "finite"),
    "zeros": (np.zeros(12), ValueError, "zero for every row"),
    "too few": (np.ones(11), ValueError, "12 rows"),
    "a column": (np.ones((12, 1)), ValueError, r"shape \(12,\)"),
    "a number": (1.0, ValueError, "12 rows"),
    "words": (["a"] * 12, TypeError, "real numbers"),
    "too large": (np.full(12, 1e300), ValueError, "float32"),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_weights_are_refused(case: str, net: MLP) -> None:
    wrong, error, match = NO_WEIGHTS[case]
    before = _numbers(net)
    for call in (net.fit, net.train_on_batch, net.gradients, net.evaluate):
        with pytest.raises(error, match=f"sample_weight.*{match}"):
            call(X, Y, sample_weight=wrong)
    with pytest.raises(error, match=match):
        net.fit(X, Y, validation_data=(X, Y, wrong))
    assert _numbers(net) == before


def test_forms_of_weights(backend: str) -> None:
    w = np.arange(12)
    wanted = _net(backend).fit(X, Y, epochs=1, sample_weight=w.astype(np.float32)).loss
    for form in (w, w.tolist(), w.astype(">f8"), np.repeat(w, 2)[::2], w.astype("u1")):
        assert _net(backend).fit(X, Y, epochs=1, sample_weight=form).loss == wanted


# Orders


@pytest.mark.parametrize(
    "order",
    [
        np.arange(12) - 1,
        np.arange(12) + 1,
        np.full(12, 2**62),
        np.full(12, -(2**63)),
        np.full(12, 2**64 - 1, np.uint64),
        np.arange(11),
        np.arange(13),
        np.arange(12.0),
        np.ones(12, bool),
        np.arange(12).reshape(12, 1),
        np.array(["a"] * 12),
        None,
        3,
        [0] * 11 + [np.nan],
    ],
    ids=repr,
)
def test_orders_are_refused(order: Any, net: MLP) -> None:
    before = _numbers(net)
    with pytest.raises((TypeError, ValueError), match="shuffle"):
        net.fit(X, Y, epochs=1, shuffle=lambda rng, previous: order)
    assert _numbers(net) == before


def test_an_order_changed_later_reaches_no_kernel(backend: str) -> None:
    net, order = _net(backend), np.arange(12)

    def given(rng: Any, previous: Any) -> Any:
        return order

    def vandal(epoch: int, history: Any, net: Any) -> None:
        order[:] = 0

    net.fit(X, Y, epochs=2, shuffle=given, callbacks=[vandal])
    with pytest.raises(ValueError, match="0 to 11"):
        order[:] = 2**40
        net.fit(X, Y, epochs=1, shuffle=given)


@pytest.mark.parametrize("shuffle", [None, "yes", 1, 0.5, np.arange(12), np.random.Generator])
def test_bad_shuffle(shuffle: Any, net: MLP) -> None:
    with pytest.raises((TypeError, ValueError), match="shuffle must be"):
        net.fit(X, Y, shuffle=shuffle)


# Numbers of fit

NUMBERS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"epochs": -1}, ValueError, "epochs"),
    ({"epochs": 1.0}, TypeError, "epochs"),
    ({"epochs": True}, TypeError, "epochs"),
    ({"epochs": 10**30}, ValueError, "epochs"),
    ({"epochs": None}, TypeError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"batch_size": -3}, ValueError, "batch_size"),
    ({"batch_size": 2.5}, TypeError, "batch_size"),
    ({"batch_size": True}, TypeError, "batch_size"),
    ({"batch_size": np.nan}, TypeError, "batch_size"),
    ({"batch_size": "all"}, TypeError, "batch_size"),
    ({"drop_last": 1}, TypeError, "drop_last"),
    ({"progress": "yes"}, TypeError, "progress"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
    ({"validation_fraction": -0.1}, ValueError, "validation_fraction"),
    ({"validation_fraction": np.nan}, ValueError, "validation_fraction"),
    ({"validation_fraction": "half"}, TypeError, "validation_fraction"),
    ({"validation_fraction": 0.99}, ValueError, "validation_fraction"),
    ({"validation_fraction": 0.5, "validation_data": (X, Y)}, ValueError, "not both"),
    ({"validation_data": X}, TypeError, "validation_data"),
    ({"validation_data": (X,)}, TypeError, "validation_data"),
    ({"validation_data": (X, Y, None, None)}, TypeError, "validation_data"),
    ({"validation_data": (X, Y + 1)}, ValueError, "validation_data.*class indices"),
    ({"validation_data": (X[:, :2], Y)}, ValueError, "validation_data.*columns"),
    ({"metrics": "accuracy"}, TypeError, "metrics"),
    ({"metrics": ("f1",)}, ValueError, "metrics"),
    ({"metrics": (1,)}, TypeError, "metrics"),
    ({"metrics": ("accuracy", "accuracy")}, ValueError, "metrics"),
    ({"metrics": None}, TypeError, "metrics"),
    ({"callbacks": print}, TypeError, "callbacks"),
    ({"callbacks": [1]}, TypeError, "callbacks"),
    ({"callbacks": [dict]}, TypeError, "callbacks"),
    ({"callbacks": None}, TypeError, "callbacks"),
    ({"optimizer": 0.1}, TypeError, "optimizer"),
]


@pytest.mark.parametrize(("arguments", "error", "match"), NUMBERS, ids=repr)
def test_numbers_of_fit(
    arguments: dict[str, Any], error: type[Exception], match: str, net: MLP
) -> None:
    before = _numbers(net)
    with pytest.raises(error, match=match):
        net.fit(X, Y, **arguments)
    assert _numbers(net) == before


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_training_is_a_flag(wrong: Any, net: MLP) -> None:
    with pytest.raises(TypeError, match="training must be True or False"):
        net.gradients(X, Y, training=wrong)


# Numbers of the constructor

ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layer_sizes": (3,)}, ValueError, "layer_sizes"),
    ({"layer_sizes": ()}, ValueError, "layer_sizes"),
    ({"layer_sizes": 3}, TypeError, "layer_sizes"),
    ({"layer_sizes": "34"}, TypeError, "layer_sizes"),
    ({"layer_sizes": (3, 0, 2)}, ValueError, "layer_sizes"),
    ({"layer_sizes": (3, -4, 2)}, ValueError, "layer_sizes"),
    ({"layer_sizes": (3, 4.0, 2)}, TypeError, "layer_sizes"),
    ({"layer_sizes": (3, True, 2)}, TypeError, "layer_sizes"),
    ({"layer_sizes": (3, None, 2)}, TypeError, "layer_sizes"),
    ({"layer_sizes": (3, 10**40, 2)}, ValueError, "layer_sizes"),
    ({"activation": "rely"}, ValueError, "activation must be one of identity"),
    ({"activation": 3}, TypeError, "activation"),
    ({"activation": None}, TypeError, "activation"),
    ({"activation": np.tanh}, TypeError, "activation"),
    ({"activation": LeakyReLU}, TypeError, "activation"),
    ({"activation": ("relu", "tanh")}, ValueError, "activation must be one value"),
    ({"activation": ("rely",)}, ValueError, "activation"),
    ({"activation": "softmax"}, ValueError, "output"),
    ({"activation": "exp"}, ValueError, "output"),
    ({"output_activation": "rely"}, ValueError, "output_activation"),
    ({"output_activation": 3}, TypeError, "output_activation"),
    ({"loss": "rmse"}, ValueError, "loss must be one of cross_entropy"),
    ({"loss": None}, TypeError, "loss"),
    ({"loss": "zero_one"}, ValueError, "loss"),
    ({"optimizer": "fast"}, ValueError, "optimizer"),
    ({"reduction": "none"}, ValueError, "reduction"),
    ({"reduction": None}, TypeError, "reduction"),
    ({"init": "best"}, ValueError, "init"),
    ({"l1": -1}, ValueError, "l1"),
    ({"l1": "1"}, TypeError, "l1"),
    ({"l2": np.nan}, ValueError, "l2"),
    ({"l2": np.inf}, ValueError, "l2"),
    ({"l2": True}, TypeError, "l2"),
    ({"penalty_scale": "row"}, ValueError, "penalty_scale"),
    ({"dropout": 1.0}, ValueError, "dropout"),
    ({"dropout": -0.1}, ValueError, "dropout"),
    ({"dropout": np.nan}, ValueError, "dropout"),
    ({"dropout": (0.1, 0.1)}, ValueError, "dropout"),
    ({"dropout": "half"}, TypeError, "dropout"),
    ({"normalization": "group"}, ValueError, "normalization"),
    ({"normalization": True}, TypeError, "normalization"),
    ({"normalization": ("batch", "layer")}, ValueError, "normalization"),
    ({"dtype": "float16"}, ValueError, "dtype"),
    ({"dtype": "int32"}, ValueError, "dtype"),
    ({"dtype": np.int64}, ValueError, "dtype"),
    ({"dtype": None}, ValueError, "dtype"),
    ({"dtype": 32}, ValueError, "dtype"),
    ({"backend": "jax"}, ValueError, "backend"),
    ({"backend": None}, TypeError, "backend"),
    ({"seed": "x"}, TypeError, "seed"),
]


@pytest.mark.parametrize(("arguments", "error", "match"), ARGUMENTS, ids=repr)
def test_numbers_of_the_constructor(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    rng = np.random.default_rng(0)
    untouched = repr(rng.bit_generator.state)
    with pytest.raises(error, match=match):
        MLP(**{"layer_sizes": (3, 4, 2), "backend": "numpy", "seed": rng, **arguments})
    assert repr(rng.bit_generator.state) == untouched


@pytest.mark.parametrize(
    "make",
    [
        lambda: LeakyReLU(-0.1),
        lambda: LeakyReLU("0.1"),
        lambda: ELU(-1),
        lambda: ELU(np.nan),
        lambda: PReLU(np.inf),
        lambda: MPELU(beta=0),
        lambda: MPELU(alpha=np.nan),
        lambda: Maxout(1),
        lambda: Maxout(2.0),
        lambda: Maxout(10**9),
        lambda: Huber(0),
        lambda: Huber(-1),
        lambda: Quantile(0),
        lambda: Quantile(1),
        lambda: Quantile("0.5"),
    ],
)
def test_numbers_of_the_vocabulary(make: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError), match="must be"):
        make()


@pytest.mark.parametrize("sizes", [(2**30, 2**30, 2), (10, 2**31, 2**31), (2**31, 2)])
def test_networks_beyond_the_memory(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    untouched = repr(rng.bit_generator.state)
    with pytest.raises(MemoryError, match="layer_sizes asks for .* make the layers smaller"):
        MLP(sizes, dtype="float64", backend="numpy", seed=rng)
    assert repr(rng.bit_generator.state) == untouched


@pytest.mark.usefixtures("no_device")
def test_cupy_says_what_is_missing() -> None:
    with pytest.raises(ImportError, match="backend 'cupy' can't be used"):
        MLP((2, 2), backend="cupy")


# Which losses go with which outputs


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("cross_entropy", "identity"),
        ("cross_entropy", "tanh"),
        ("binary_cross_entropy", "relu"),
        ("binary_cross_entropy", "identity"),
        ("poisson", "identity"),
        ("poisson", "tanh"),
    ],
)
def test_losses_that_are_not_defined_for_the_outputs(loss: str, output: str) -> None:
    with pytest.raises(ValueError, match=f"{loss}.*{output}.*output_activation"):
        MLP((2, 2), loss=loss, output_activation=output, backend="numpy")


def test_cross_entropy_needs_two_outputs() -> None:
    with pytest.raises(ValueError, match="binary_cross_entropy"):
        MLP((2, 1), backend="numpy")


def test_softmax_of_one_output_is_refused() -> None:
    with pytest.raises(ValueError, match="softmax"):
        MLP((2, 1), loss="mse", output_activation="softmax", backend="numpy")


# Assigning


def test_assigned_parameters_are_checked(net: MLP) -> None:
    before = _numbers(net)
    good = [w.copy() for w in net.weights]
    wrong: list[Any] = [
        good[:1],
        [*good, good[0]],
        [good[0].T, good[1]],
        [good[0], np.full(good[1].shape, np.nan)],
        [good[0], np.full(good[1].shape, 1e300)],
        [good[0] + 1j, good[1]],
        [good[0], np.full(good[1].shape, "a")],
        None,
        5,
        good[0],
    ]
    for weights in wrong:
        with pytest.raises((TypeError, ValueError), match="weights"):
            net.weights = weights
        assert _numbers(net) == before
    for mapping in ({"weights.9": good[0]}, {"weights.0": good[1]}, {3: good[0]}, [good[0]]):
        with pytest.raises((TypeError, ValueError), match="parameters|weights"):
            net.parameters = mapping
        assert _numbers(net) == before


def test_beta_of_mpelu_stays_positive(backend: str) -> None:
    net = MLP((2, 3, 2), "mpelu", backend=backend)
    with pytest.raises(ValueError, match=r"beta\.0 must be at least 0\.001"):
        net.parameters = {"beta.0": np.zeros(3)}


def test_predict_proba_needs_probabilities(backend: str) -> None:
    with pytest.raises(ValueError, match="predict_proba needs"):
        MLP((2, 1), loss="mse", backend=backend).predict_proba([[0, 0]])


@pytest.mark.parametrize("where", ["hidden", "output"])
def test_step_only_predicts(where: str, backend: str) -> None:
    chosen = {"activation": "step"} if where == "hidden" else {"output_activation": "step"}
    net = MLP((2, 3, 1), loss="squared_error", backend=backend, **chosen)
    assert net.predict([[1, 2]]).shape == (1,)
    for call in (net.fit, net.train_on_batch, net.gradients):
        with pytest.raises(ValueError, match="can only predict"):
            call([[1, 2]], [1])

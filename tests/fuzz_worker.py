"""Calls with random arguments, most of them wrong; run as a script, in a process of its own.

    python tests/fuzz_worker.py --cases 1000000 --seed 7

Cases come in sessions of 20 calls on a few networks; a session follows from the seed and its
number alone, and ``--session`` repeats one. Every call must end in a result or in an error of the
library's own that names what was wrong. Around arrays that go in, and around all memory that
compiled code writes to, lie guard zones: they, and what went in, must stay as they were.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import copy
import dataclasses
import decimal
import faulthandler
import fractions
import os
import pickle
import random
import re
import sys
import tempfile
import traceback
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None  # type: ignore[assignment]

import fastmlp
from fastmlp import MLP, DivergenceError, checks, engine, files, targets, training
from fastmlp.kernels.numba_cpu import plan as plans
from fastmlp.kernels.numba_cpu import steps
from fastmlp.kernels.reference import ACTIVATIONS, LOSSES
from fastmlp.optimizers import WORDS
from fastmlp.parameters import Snapshot

SESSION = 20
"""Calls of a session."""

MOST_MEMORY = 4 << 30
"""Bytes of addresses that a process may take."""

GUARD = 256
"""Bytes of a guard zone; all ones, which are NaN for a float and -1 for a label."""

LIBRARY = str(Path(fastmlp.__file__).parent)
FENCE = b"\xff" * GUARD
FOLDER = tempfile.mkdtemp()

Thunk = Callable[[], Any]
OUTCOMES: Counter[tuple[str, str]] = Counter()


class PromiseError(AssertionError):
    """What the library must not do."""


class OwnCodeError(Exception):
    """What the user's own code raises."""


# Guard zones


class _Fenced:
    """Blocks of memory with guard zones, checked as long as somebody uses them."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Any, int, int]] = []

    def take(self, shape: Any, dtype: Any, fill: int | None = None, alignment: int = 64) -> Any:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        block = np.full(size + 2 * GUARD + alignment, 255, np.uint8)
        start = GUARD + -(block.ctypes.data + GUARD) % alignment
        self.blocks.append((block, start, start + size))
        inside = block[start : start + size]
        if fill is not None:
            inside[...] = fill
        return inside.view(dtype).reshape(shape)

    def check(self) -> None:
        used = []
        for entry in self.blocks:
            block, start, stop = entry
            if block[start - GUARD : start].tobytes() != FENCE:
                raise PromiseError("memory before an array was written to")
            if block[stop : stop + GUARD].tobytes() != FENCE:
                raise PromiseError("memory after an array was written to")
            if sys.getrefcount(block) > 4:  # this loop's three and the argument
                used.append(entry)
        self.blocks = used


FENCED = _Fenced()


class _FencedNumpy(types.ModuleType):
    """numpy for the modules that hand memory to compiled code."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        return FENCED.take(shape, dtype)

    def zeros(self, shape: Any, dtype: Any = float) -> Any:
        return FENCED.take(shape, dtype, 0)

    def require(self, values: Any, dtype: Any, requirements: Any) -> Any:
        made = np.require(values, dtype, requirements)
        if made is values:
            return made
        fenced = FENCED.take(made.shape, made.dtype)
        fenced[...] = made
        return fenced


def fence() -> None:
    """Put guard zones around what the library asks for."""
    fenced = _FencedNumpy("numpy")
    os.fsync = lambda descriptor: None  # the disk is not what is tested
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for module in (engine, training, checks, targets, plans):
        vars(module)["np"] = fenced
    plans._aligned = lambda size, dtype: FENCED.take(size, dtype, 0)


# Draws


class Draw:
    """Random choices, and what must be known of them afterwards."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.begin()

    def begin(self) -> None:
        """Forget the last call; half of the calls have nothing wrong in them."""
        self.careful = self.source.random() < 0.5
        self.own_code = False
        self.modest = True
        self.watched: list[tuple[Any, bytes]] = []

    def chance(self, share: float) -> bool:
        return self.source.random() < share

    def one(self, *options: Any) -> Any:
        return self.source.choice(options)

    def wrong(self, share: float) -> bool:
        return not self.careful and self.chance(share)

    def mostly(self, good: Any, *wrong: Any, share: float = 0.93) -> Any:
        return self.one(*wrong) if self.wrong(1 - share) else good

    def watch(self, block: Any) -> None:
        self.watched.append((block, block.tobytes()))

    def code(self, function: Any) -> Any:
        """Code of the user's own, which may run before or after the network has changed."""
        self.own_code = True
        return function

    @property
    def numbers(self) -> np.random.Generator:
        return np.random.default_rng(self.source.getrandbits(32))


NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3.5, 0.5, 1e-3, 1e-300, 5e-324, 1e30, 1e300, 1.7e308, -1e300, 1 << 70, 10**400),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        True,
        False,
        None,
        "x",
        "",
        b"1",
        1j,
        [],
        (1,),
        {},
    ),
    *(np.float16(0.5), np.float32(1e-30), np.int8(3), np.uint64(2**64 - 1), np.bool_(True)),
    *(np.longdouble("1e4000"), np.array(2), np.array(0.5), np.array([1, 2]), np.datetime64("NaT")),
    *(fractions.Fraction(1, 3), fractions.Fraction(10**400), decimal.Decimal("0.5"), object(), int),
)
SIZES = (1, 1, 2, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 127)
ROWS = (1, 2, 3, 7, 8, 9, 16, 31, 33, 63, 64, 65, 129)


def _number(d: Draw, good: Any, wild: float = 0.05) -> Any:
    return d.one(*NUMBERS) if d.wrong(wild) else good


# Arrays


def _fenced_copy(d: Draw, values: Any, offset: int = 0) -> Any:
    """The same numbers between guard zones, watched."""
    block = np.full(values.nbytes + 2 * GUARD + 64, 255, np.uint8)
    start = GUARD + -(block.ctypes.data + GUARD) % 64 + offset
    made = block[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    d.watch(block)
    return made


def _read_only(made: Any) -> Any:
    made.flags.writeable = False
    return made


LAYOUTS: tuple[Callable[[Draw, Any], Any], ...] = (
    _fenced_copy,
    _fenced_copy,
    lambda d, a: _fenced_copy(d, a.T).T,
    lambda d, a: _fenced_copy(d, a[::-1])[::-1],
    lambda d, a: _fenced_copy(d, a[..., ::-1])[..., ::-1],
    lambda d, a: _fenced_copy(d, np.repeat(a, 2, axis=-1))[..., ::2],
    lambda d, a: _fenced_copy(d, np.repeat(a, 3, axis=0))[::3],
    lambda d, a: _fenced_copy(d, a, offset=1),
    lambda d, a: _read_only(_fenced_copy(d, a)),
    lambda d, a: _fenced_copy(d, a.astype(a.dtype.newbyteorder(">"))),
    lambda d, a: np.broadcast_to(_fenced_copy(d, a[:1]), a.shape),
)


class _Array:
    def __init__(self, made: Any) -> None:
        self.made = made

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


class _Rows:
    """A sequence that lies about its length."""

    def __init__(self, rows: list[Any], length: int) -> None:
        self.rows, self.length = rows, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> Any:
        return self.rows[place]


class _Subclass(np.ndarray):
    shape = (10**6, 10**6)  # type: ignore[assignment]


def _interface(d: Draw, a: Any) -> Any:
    whole = np.ascontiguousarray(a)
    record = dict(whole.__array_interface__)
    key = d.one("shape", "typestr", "strides", "data", "version", None)
    if key is not None:
        wrong = {
            "shape": (-1, 2),
            "typestr": d.one("<f3", "|O8", "x", 5),
            "strides": (0,) * whole.ndim,
            "data": d.one("memory", (None, True), 1.5),
            "version": 99,
        }
        record[key] = wrong[key]
    return types.SimpleNamespace(__array_interface__=record, kept=whole)


WRAPPINGS: tuple[Callable[[Draw, Any], Any], ...] = (
    lambda d, a: a.tolist(),
    lambda d, a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    lambda d, a: list(a),
    lambda d, a: _Array(a),
    lambda d, a: np.ma.masked_array(a),
    lambda d, a: memoryview(np.ascontiguousarray(a)) if a.dtype.kind in "biuf" else a,
    lambda d, a: a.view(_Subclass),
    lambda d, a: _Rows(a.tolist(), len(a)),
    lambda d, a: types.SimpleNamespace(__array_interface__=a.__array_interface__, kept=a),
)
ODD_WRAPPINGS: tuple[Callable[[Draw, Any], Any], ...] = (
    lambda d, a: np.ma.masked_array(a, d.numbers.random(a.shape) < 0.2),
    lambda d, a: _Rows(a.tolist(), len(a) + 3),
    lambda d, a: array.array("d", np.ravel(a).astype(float)) if a.dtype.kind in "biuf" else a,
    lambda d, a: iter(a.tolist()),
    _interface,
    _interface,
)


def _looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _deep(levels: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(levels):
        nest = [nest]
    return nest


NO_ARRAYS: tuple[Any, ...] = (
    *(None, 1, 1.5, "abc", b"abc", {}, {"a": 1}, {1, 2}, [], [[]], [[], []], object(), int, len),
    *([[1, 2], [3]], [["a", "b"]], [[None]], [[1j]], [[10**400, 1]], _looped(), float("nan")),
    *(np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2, 2)), np.array(1.0)),
    *(np.zeros((2, 2), "V4"), np.zeros(3, [("a", "f4")]), np.zeros((2, 2), "M8[s]")),
    *(
        np.zeros((2, 2), "m8[s]"),
        np.full((2, 2), "a"),
        np.full((2, 2), None),
        np.zeros((2, 2), "c8"),
    ),
    *(_Array(ValueError("mine")), _Array(TypeError("mine")), _Array("no array"), range(3)),
)
KINDS = ("f4", "f8", "f4", "f8", "f2", "g", "?", "i1", "i2", "i4", "i8", "u1", "u4", "u8")
ODD_KINDS = ("O", "U8", "S8", "c8", "c16", "M8[s]", "m8[s]")


def _values(d: Draw, shape: tuple[int, ...]) -> Any:
    made = d.numbers.normal(size=shape)
    scale = d.one(*(1,) * 12, 0, 1e-310, 1e-40, 100)
    scale = d.mostly(scale, 1e10, 1e30, 1e200, 1e308, share=0.6)
    d.modest = d.modest and scale <= 1
    with np.errstate(all="ignore"):
        made = made * scale
    if made.size and d.wrong(0.05):
        made.flat[d.source.randrange(made.size)] = d.one(np.nan, np.inf, -np.inf)
    return made


def _presented(d: Draw, made: Any) -> Any:
    """The numbers as some dtype, in some order, in some object."""
    if made.dtype == object:
        return d.one(np.asarray, np.ndarray.tolist)(made)
    if d.chance(0.5):
        return _fenced_copy(d, made.astype(d.one("f4", "f8")) if made.dtype.kind == "f" else made)
    kind = d.mostly(d.one(*KINDS), *ODD_KINDS, share=0.7)
    with np.errstate(all="ignore"), contextlib.suppress(OverflowError, ValueError):
        made = made.astype("i8").astype(kind) if kind[0] in "Mm" else made.astype(kind)
    d.modest = d.modest and made.dtype.kind != "u"  # -1 has become a large number
    if made.dtype == object:
        return made
    if not d.chance(0.3):
        return d.one(*LAYOUTS)(d, made)
    return d.mostly(d.one(*WRAPPINGS), *ODD_WRAPPINGS, share=0.5)(d, made)


def _table(d: Draw, rows: int, columns: int, wrong: float = 0.06) -> Any:
    """X, or what stands in its place."""
    if d.wrong(wrong / 2):
        return d.one(*NO_ARRAYS)
    if d.wrong(wrong / 2):
        columns = d.one(0, columns + 1, columns - 1, 2 * columns)
    if d.wrong(wrong / 4):
        rows = d.one(0, rows + 1)
    with np.errstate(all="ignore"):
        made = _values(d, (rows, columns)).astype(d.one("f4", "f8"))
    return _presented(d, made)


WILD: dict[str, tuple[Any, ...]] = {
    "i8": (-1, 10**6, 2**31, 2**40, -(2**62), 2**62),
    "f8": (-1, 1e6, 0.5, 1.0000001, 2.0**62, np.nan, np.inf, -np.inf, 1e300, 1e25),
    "O": (-1, 2**64, -(10**400), None, "1", 0.5),
}
"""Targets that none of the networks has."""


def _targets(d: Draw, net: MLP, rows: int) -> Any:
    """Targets for a network's loss, or what stands in their place."""
    if d.wrong(0.05):
        return d.one(*NO_ARRAYS)
    if d.wrong(0.05):
        rows = d.one(0, 1, rows + 1, 2 * rows)
    outputs, rng = net.layer_sizes[-1], d.numbers
    kind = net._engine.targets.kind
    shape: tuple[int, ...] = (rows, outputs)
    if (outputs == 1 or kind == "classes") and d.chance(0.7):
        shape = (rows,)
    if d.wrong(0.03):
        shape = d.one((rows, 1), (rows, outputs + 1), (rows, outputs, 1), (outputs, rows))
    if kind == "classes" and len(shape) == 2:
        made = np.eye(max(shape[1], 1))[rng.integers(0, max(shape[1], 1), shape[0])]
    elif kind == "real":
        made = _values(d, shape)
    else:
        made = rng.integers(0, {"classes": outputs, "counts": 9}.get(kind, 2), shape)
        made = made * 2 - 1 if kind == "margin" else made
    if made.size and d.wrong(0.2):
        kind = d.one(*WILD)
        made = made.astype(kind)
        made.flat[d.source.randrange(made.size)] = d.one(*WILD[kind])
    return _presented(d, made)


def _weights(d: Draw, rows: int) -> Any:
    if d.chance(0.7):
        return None
    if d.wrong(0.1):
        return d.one(*NO_ARRAYS)
    scale = d.mostly(d.one(9, 90), 1e-42, 1e30, -1, share=0.7)
    made = (0.1 + d.numbers.random(rows + d.wrong(0.05))) * scale
    made[d.numbers.random(len(made)) < d.mostly(d.one(0, 0, 0.2), 1)] = 0
    d.modest = False
    return _presented(d, made)


# Networks


def _rate(d: Draw) -> Any:
    plain = d.mostly(d.one(1e-3, 1e-2, 0.1, 1.0, 1e-30), 1e10, 1e300)
    if d.chance(0.7):
        return _number(d, plain)
    made = d.one(
        lambda: fastmlp.ExponentialDecay(plain, d.one(1, 0.5, 1e-300)),
        lambda: fastmlp.StepDecay(plain, 0.1, d.one(1, 3)),
        lambda: fastmlp.InverseScaling(
            plain, d.one(0, 0.5, 1, 100, 1e308), scale=d.one(0, 1, 1e308)
        ),
        lambda: fastmlp.Cosine(plain, d.one(1, 7), 1e-4),
        lambda: fastmlp.OneCycle(plain, d.one(1, 2, 9), rise=d.one(0, 0.3, 1)),
        lambda: fastmlp.WarmUp(fastmlp.Cosine(plain, 5), 3),
        lambda: d.code(lambda step, epoch: 0.1 / (step + 1)),
        lambda: d.code(lambda step, epoch: d.one(*NUMBERS)),
        lambda: d.code(lambda: 0.1),
        lambda: d.code(_raising),
    )
    return made()


def _raising(*ignored: Any) -> Any:
    raise OwnCodeError("own code")


OPTIMIZERS = (
    (fastmlp.SGD, {"momentum": 0.9, "nesterov": True, "rate_in_velocity": True}),
    (fastmlp.Adam, {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "epsilon_hat": True}),
    (fastmlp.AdamW, {"beta1": 0, "weight_decay": 0.1}),
    (fastmlp.RMSprop, {"rho": 0.9, "epsilon": 1e-3}),
    (fastmlp.Adagrad, {"epsilon": 1e-3}),
    (fastmlp.LARS, {"momentum": 0.5, "trust_coefficient": 0.1, "weight_decay": 0.1}),
    (fastmlp.LAMB, {"beta2": 0.99, "epsilon": 1e-3, "weight_decay": 0.1}),
)


def _optimizer(d: Draw) -> Any:
    if d.chance(0.4):
        return d.mostly(d.one(*WORDS), *NUMBERS)
    kind, fields = d.one(*OPTIMIZERS)
    chosen = {name: _number(d, value) for name, value in fields.items() if d.chance(0.5)}
    if d.chance(0.3):
        chosen[d.one("clip_norm", "clip_value")] = _number(d, d.one(1.0, 1e-3, 1e30))
    return kind(_rate(d), **chosen)


class _Init:
    def __init__(self, d: Draw) -> None:
        self.d = d

    def draw(self, rng: Any, inputs: int, outputs: int, activation: str) -> Any:
        d = self.d
        good = (rng.normal(size=(inputs, outputs)), np.ones(outputs))
        swapped = (np.ones(outputs), good[0])
        return d.mostly(good, None, swapped, good[0], (good[0] * np.inf, good[1]), share=0.5)


def _init(d: Draw) -> Any:
    words = [w + k for w in ("glorot", "he", "lecun") for k in ("_uniform", "_normal")]
    if d.chance(0.5):
        return d.mostly(d.one("auto", "zeros", *words), *NUMBERS)
    if d.chance(0.3):
        return d.code(_Init(d))
    kind = d.one(fastmlp.Normal, fastmlp.Uniform, fastmlp.TruncatedNormal)
    return kind(_number(d, d.one(0, 0.1, 1), 0.2))


def _activation(d: Draw) -> Any:
    if d.chance(0.7):
        return d.mostly(d.one(*ACTIVATIONS), *NUMBERS, "rely")
    made = d.one(
        lambda: fastmlp.LeakyReLU(_number(d, 0.2)),
        lambda: fastmlp.ELU(_number(d, 0.5)),
        lambda: fastmlp.PReLU(_number(d, 0.1)),
        lambda: fastmlp.MPELU(_number(d, 0.5), _number(d, 1.5)),
        lambda: fastmlp.Maxout(_number(d, d.one(2, 3, 5))),
    )
    return made()


def _loss(d: Draw) -> Any:
    if d.chance(0.85):
        return d.mostly(d.one(*LOSSES, "mse", "mae", *("cross_entropy",) * 8), *NUMBERS, "rmse")
    return d.one(
        lambda: fastmlp.Huber(_number(d, 0.3)), lambda: fastmlp.Quantile(_number(d, 0.9))
    )()


def _each(d: Draw, hidden: int, draw: Callable[[], Any]) -> Any:
    if d.chance(0.6):
        return draw()
    values = [draw() for _ in range(hidden + d.wrong(0.03))]
    return d.one(list, tuple)(values)


def _seed(d: Draw) -> Any:
    number = d.source.getrandbits(20)
    plain = d.one(number, np.random.default_rng(number), np.random.RandomState(number))
    bits = d.one(np.random.Philox, np.random.SFC64, np.random.MT19937, np.random.PCG64DXSM)
    return _number(d, d.one(plain, np.random.Generator(bits(number))))


def _arguments(d: Draw) -> dict[str, Any]:
    hidden = d.one(0, 1, 1, 2, 2, 3)
    sizes: Any = [d.one(*SIZES) for _ in range(hidden + 2)]
    if d.wrong(0.05):
        place = d.source.randrange(len(sizes))
        sizes[place] = d.one(0, -1, 2.0, True, None, 1 << 31, 1 << 40, 10**30, np.int8(3), "3")
    sizes = d.mostly(
        d.one(tuple, list)(sizes), *NUMBERS, (), (3,), np.array([3, 2]), "345", share=0.97
    )
    return {
        "layer_sizes": sizes,
        "activation": _each(d, hidden, lambda: _activation(d)),
        "output_activation": _activation(d) if d.chance(0.15) else None,
        "loss": _loss(d),
        "optimizer": _optimizer(d),
        "reduction": d.mostly(d.one("mean", "mean", "sum"), *NUMBERS, "max", share=0.97),
        "init": _init(d) if d.chance(0.3) else "auto",
        "l1": _number(d, d.one(0, 0, 0, 0.01), 0.02),
        "l2": _number(d, d.one(0, 0, 0, 0.1), 0.02),
        "penalty_scale": d.mostly(d.one("batch", "rows"), *NUMBERS, share=0.98),
        "dropout": _each(d, hidden, lambda: _number(d, d.one(0, 0, 0.5, 0.99), 0.02)),
        "normalization": _each(d, hidden, lambda: d.mostly(d.one(None, None, "batch", "layer"), 3)),
        "dtype": d.mostly(
            d.one("float32", "float32", "float64", np.float32), *NUMBERS, ">f8", "f2"
        ),
        "backend": d.mostly(d.one("numba", "numba", "numba", "numpy"), *NUMBERS, share=0.98),
        "seed": _seed(d),
    }


# Calls: each draws its arguments and gives what is to be done with them


def _rows_of(d: Draw, net: MLP) -> Any:
    return _table(d, d.one(*ROWS), net.layer_sizes[0])


def _data(d: Draw, net: MLP) -> dict[str, Any]:
    rows = d.one(*ROWS)
    w = _weights(d, rows)
    return {
        "X": _table(d, rows, net.layer_sizes[0]),
        "y": _targets(d, net, rows),
        "sample_weight": w,
    }


def _orders(d: Draw) -> Any:
    if d.chance(0.7):
        return d.one(True, True, False, "permutation")
    if d.wrong(0.2):
        return d.one(*NUMBERS, np.arange(3), "no")
    good = d.one(
        lambda rng, previous: previous[rng.permutation(len(previous))],
        lambda rng, previous: previous[::-1],
        lambda rng, previous: np.repeat(previous, 2)[::2],
        lambda rng, previous: previous.tolist(),
        lambda rng, previous: np.zeros_like(previous),
        lambda rng, previous: previous.astype(d.one("u8", ">i8", "i2")),
    )
    wrong = (
        lambda rng, previous: previous.astype(d.one("f8", "?", "O", "U3")),
        lambda rng, previous: previous + d.one(1, -1, 2**40, 2**60, -(2**63) + 5),
        lambda rng, previous: previous[1:],
        lambda rng, previous: np.append(previous, 0),
        lambda rng, previous: previous.reshape(-1, 1),
        lambda rng, previous: d.one(*NO_ARRAYS, *NUMBERS),
        lambda rng: [0],
        _raising,
    )
    return d.code(d.mostly(good, *wrong, share=0.4))


def _metrics(d: Draw) -> Any:
    if d.chance(0.6):
        return ()
    if d.wrong(0.1):
        return d.one(*NUMBERS, "accuracy", len, (1,), ("f1",), ("mse", "mse"))
    chosen = [d.mostly(d.one("mse", "mae", "r2"), "accuracy", "zero_one", share=0.6)]
    if d.chance(0.4):
        wrong = (
            lambda y, predicted: d.one(*NUMBERS),
            lambda y, predicted: y.fill(2**40),
            lambda y, predicted: setattr(y, "shape", (1, y.size)),
            _raising,
        )
        chosen.append(d.code(d.mostly(_vandal_metric, *wrong, share=0.4)))
    return d.one(tuple, list)(chosen)


def _vandal_metric(y: Any, predicted: Any) -> float:
    """A number, and wild labels for the next epoch."""
    if y.dtype.kind == "i":
        y.fill(2**40)
        y.shape = (1, -1)
    return 1.0


def _reshape(target: Any, shape: tuple[int, ...]) -> None:
    if target.flags.c_contiguous:
        target.shape = shape


class _Vandal(fastmlp.Callback):
    """Changes what it can reach, at any moment."""

    def __init__(self, d: Draw, data: dict[str, Any]) -> None:
        self.d, self.data = d, data

    def on_fit_start(self, history: Any, net: Any) -> None:
        self.act(net)

    def on_slice_end(self, history: Any, net: Any) -> bool | None:
        return self.act(net)

    def on_epoch_end(self, epoch: int, history: Any, net: Any) -> bool | None:
        return self.act(net)

    def on_fit_end(self, history: Any, net: Any) -> None:
        self.act(net)

    def act(self, net: Any) -> Any:
        d = self.d
        handed = [a for a in self.data.values() if isinstance(a, np.ndarray) and a.flags.writeable]
        target = d.one(*handed) if handed else np.zeros(2)
        return d.one(
            *(lambda: None,) * (24 if d.careful else 6),
            lambda: True,
            lambda: target.fill(d.one(0, 1, 100)),
            lambda: _reshape(target, (target.size, 1)),
            lambda: _reshape(target, (target.size,)),
            lambda: setattr(net, "learning_rate", 0.01 if d.careful else _rate(d)),
            lambda: setattr(net, "weights", [w * 0.5 for w in net.weights]),
            lambda: net.restore(net.snapshot()),
            lambda: net.predict(np.ones((3, net.layer_sizes[0]))),
            lambda: net.to("numpy"),
            lambda: net.fit(**self.data, epochs=1),
            lambda: net.train_on_batch(**self.data),
            lambda: copy.deepcopy(net).to("numpy"),
            lambda: net.save(Path(FOLDER, "callback")),
            lambda: _raising(),
        )()


def _callbacks(d: Draw, data: dict[str, Any]) -> Any:
    if d.chance(0.6):
        return ()
    if d.wrong(0.1):
        return d.one(*NUMBERS, print, [1], [dict])
    made = d.one(
        lambda: d.code(_Vandal(d, data)),
        lambda: d.code(_Vandal(d, data)),
        lambda: d.code(lambda epoch, history, net: d.one(*NUMBERS)),
        lambda: fastmlp.EarlyStopping(d.one("loss", "validation_loss", "x"), _number(d, 1)),
        lambda: fastmlp.ReduceOnPlateau(d.one("loss", "mse"), 0.5, _number(d, 1)),
        lambda: fastmlp.TimeLimit(_number(d, 1e-9)),
        lambda: fastmlp.CSVLogger(Path(FOLDER, "log.csv")),
        lambda: fastmlp.Checkpoint(Path(FOLDER, "checkpoint"), _number(d, 1)),
        lambda: fastmlp.Checkpoint(Path(FOLDER, "checkpoint"), best_only=True),
    )
    d.own_code = True  # it may look for what is not there after an epoch
    return [made() for _ in range(d.one(1, 1, 2))]


def _fit(d: Draw, net: MLP) -> Thunk:
    data = _data(d, net)
    arguments = {
        **data,
        "epochs": d.mostly(d.one(0, 1, 1, 2, 3), -1, 1.0, True, None, "2", 1 << 70, np.int8(2)),
        "batch_size": d.mostly(
            d.one(1, 7, 8, 16, 32, 100, 10**18, np.uint8(200)), 0, -1, 2.5, True, None, 1 << 70
        ),
        "shuffle": _orders(d),
        "drop_last": d.mostly(d.one(False, True), 1, None),
    }
    if d.chance(0.15):
        arguments["optimizer"] = _optimizer(d)
    if d.chance(0.15):
        given = _data(d, net)
        arguments["validation_data"] = d.mostly(tuple(given.values()), *NUMBERS, (1, 2))
    if d.chance(0.15):
        arguments["validation_fraction"] = _number(d, d.one(0.0, 0.2, 0.5, 0.99), 0.2)
    arguments["metrics"] = _metrics(d)
    arguments["callbacks"] = _callbacks(d, data)
    if d.chance(0.02):
        arguments["progress"] = d.mostly(True, *NUMBERS, share=0.5)
    return lambda: net.fit(**arguments)


def _train_on_batch(d: Draw, net: MLP) -> Thunk:
    data = _data(d, net)
    return lambda: net.train_on_batch(**data)


def _gradients(d: Draw, net: MLP) -> Thunk:
    data = _data(d, net)
    mode = d.mostly(d.one(False, True), *NUMBERS, share=0.97)
    return lambda: net.gradients(**data, training=mode)


def _evaluate(d: Draw, net: MLP) -> Thunk:
    data, metrics = _data(d, net), _metrics(d)
    return lambda: net.evaluate(**data, metrics=metrics)


def _predict(d: Draw, net: MLP) -> Thunk:
    X = _rows_of(d, net)
    name = d.one("forward", "forward", "logits", "predict", "predict_proba")

    def call() -> Any:
        found = getattr(net, name)(X)
        _check_outputs(d, net, X, name, found)
        return found

    return call


def _check_outputs(d: Draw, net: MLP, X: Any, name: str, found: Any) -> None:
    last = net._engine.network.layers[-1].activation
    largest = max(float(np.abs(a).max()) for a in net.parameters.values())
    if not d.modest or largest > 30 or last == "exp":
        return
    if not np.isfinite(found).all():
        raise PromiseError(f"{name} gave {np.asarray(found)[~np.isfinite(found)][0]}")
    if d.chance(0.2) and name != "predict":
        other = copy.deepcopy(net).to("numpy" if net.backend == "numba" else "numba")
        wanted = getattr(other, name)(X)
        if np.abs(found - wanted).max() > 0.01 * max(1.0, float(np.abs(wanted).max())):
            raise PromiseError(f"{name} differs between backends by {np.abs(found - wanted).max()}")


def _assign(d: Draw, net: MLP) -> Thunk:
    scale = d.one(0, 0.1, 0.1, 0.1, 0.5, 1e20)
    named = {
        name: _presented(d, d.numbers.normal(size=a.shape) * scale)
        for name, a in net.parameters.items()
        if d.chance(0.9)
    }
    if named and d.wrong(0.4):
        wrong = d.one(*NO_ARRAYS, *NUMBERS, np.full((2, 2), np.nan), np.full(1, 1e300))
        named[d.one(*named, "weights.9", 3, None)] = wrong
    kind = d.one("weights", "biases")
    some = [a for name, a in named.items() if str(name).startswith(kind)]
    name, value = d.mostly(
        ("parameters", named),
        (kind, some),
        (kind, d.one(*NUMBERS, *NO_ARRAYS)),
        ("parameters", some),
    )
    return lambda: setattr(net, name, value)


def _restore(d: Draw, net: MLP) -> Thunk:
    good = net.snapshot()
    flat, running = good
    wrong = d.one(
        *NUMBERS,
        (flat, running),
        Snapshot(flat[:-1], running),
        Snapshot(flat.astype("O"), running),
        Snapshot(flat.astype("i8"), running),
        Snapshot(flat.tolist(), running),
        Snapshot(np.full_like(flat, np.nan), running),
        Snapshot(np.repeat(flat, 2)[::2], running),
        Snapshot(flat, np.full_like(running, np.nan)),
        Snapshot(None, None),
    )
    return lambda: net.restore(d.mostly(good, wrong, share=0.2))


def _learning_rate(d: Draw, net: MLP) -> Thunk:
    rate = _rate(d)
    return lambda: setattr(net, "learning_rate", rate)


def _move(d: Draw, net: MLP) -> Thunk:
    name = d.mostly(d.one("numpy", "numba"), "auto", "cupy", *NUMBERS, share=0.8)
    return lambda: net.to(name)


def _look(d: Draw, net: MLP) -> Thunk:
    return lambda: (repr(net), net.summary(), net.steps, net.epochs, net.dtype, net.layer_sizes)


def _copy(d: Draw, net: MLP) -> Thunk:
    def call() -> None:
        made = d.one(copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net)))(net)
        if fingerprint(made) != fingerprint(net):
            raise PromiseError("a copy differs")

    return call if not _code_inside(net) else lambda: copy.deepcopy(net)


def _code_inside(net: MLP) -> bool:
    return callable(net.learning_rate) and not dataclasses.is_dataclass(net.learning_rate)


def _save(d: Draw, net: MLP) -> Thunk:
    path = d.mostly(Path(FOLDER, "saved"), FOLDER, "", None, 3, b"x", "a\0b", FOLDER + "/no/file")
    odd = (
        [1],
        None,
        {1: 2, "1": 3},
        {(1,): 2},
        {"a": np.nan},
        {"a": {1}},
        _looped(),
        {"a": _deep(600)},
        {"a": _deep(9999)},
    )
    net.metadata = d.mostly({"a": [1, None, 2.5, "\ud800"]}, *odd, share=0.5)

    def call() -> None:
        try:
            net.save(path)
        finally:
            net.metadata = {}
        try:
            loaded = MLP.load(path, backend=net.backend)
        except ValueError as error:
            raise PromiseError("a saved network can't be loaded") from error
        if fingerprint(loaded) != fingerprint(net):
            raise PromiseError("a loaded network differs")

    return call


def _load(d: Draw, net: MLP) -> Thunk:
    """Files that are whole and signed, with mischief in their configuration; and broken ones."""
    path = Path(FOLDER, "loaded")
    net.metadata = {}
    if _code_inside(net):
        return lambda: None
    net.save(path)
    if d.chance(0.4):
        content = bytearray(path.read_bytes())
        for _ in range(d.one(1, 1, 3)):
            content[d.source.randrange(len(content))] = d.source.randrange(256)
        path.write_bytes(content[: d.one(len(content), d.source.randrange(len(content)))])
    else:
        config, arrays = files.load(path)
        for _ in range(d.one(1, 1, 2)):
            _damage(d, config)
        name = d.one(*arrays)
        arrays[name] = d.mostly(
            arrays[name], np.zeros(3, "f4"), arrays[name] * np.nan, arrays[name].T
        )
        with contextlib.suppress(ValueError, TypeError):
            files.save(path, config, arrays)

    def call() -> None:
        loaded = MLP.load(path, backend=d.one("numpy", "numba"))
        rows = 3 if sum(loaded.layer_sizes) < 10_000 else 1
        loaded.predict(np.zeros((rows, loaded.layer_sizes[0])))
        finite(loaded)

    return call


def _damage(d: Draw, config: Any) -> None:
    """Replace, drop or add something somewhere in a tree of JSON."""
    while True:
        keys = list(config) if isinstance(config, dict) else list(range(len(config)))
        if not keys:
            return
        key = d.one(*keys)
        if isinstance(config[key], dict | list) and config[key] and d.chance(0.8):
            config = config[key]
            continue
        wild = (None, True, 0, -1, 1, 2, 0.5, 1e300, "x", "relu", "", [], {}, [1], {"class": "SGD"})
        config[key] = d.one(
            *wild, 2**63, 10**30, {"class": "MLP"}, {"class": "Maxout", "pieces": 9}
        )
        if d.chance(0.2):
            del config[key]
        elif d.chance(0.1) and isinstance(config, dict):
            config["more"] = 1
        return


def _new(d: Draw, net: MLP) -> Thunk:
    arguments = _arguments(d)
    return lambda: MLP(**arguments)


def _threads(d: Draw, net: MLP) -> Thunk:
    count = d.mostly(d.one(None, 1, 2, 3), *NUMBERS, share=0.8)
    small = d.chance(0.5)
    steps.SMALL, steps.WORTH_A_THREAD = (1.0, 0.0) if small else (3e6, 5e7)
    return lambda: fastmlp.set_num_threads(d.one(1, 2, 3) if count is True else count)


CALLS: dict[Callable[[Draw, MLP], Thunk], int] = {
    _fit: 30,
    _train_on_batch: 14,
    _gradients: 8,
    _evaluate: 8,
    _predict: 14,
    _assign: 6,
    _restore: 3,
    _learning_rate: 2,
    _move: 3,
    _look: 1,
    _copy: 2,
    _save: 3,
    _load: 4,
    _new: 12,
    _threads: 1,
}

# Judgement

ALLOWED = (ValueError, TypeError, DivergenceError, MemoryError)
NAMES = (
    *(
        r"X\b",
        r"y\b",
        "sample_weight",
        "epochs",
        "batch_size",
        "shuffle",
        "drop_last",
        "validation",
    ),
    *("metric", "callback", "progress", "optimizer", "activation", "loss", "layer_sizes", "init"),
    *("reduction", r"l[12]\b", "penalty_scale", "dropout", "normalization", "dtype", "backend"),
    *("seed", "weights", "biases", "parameters", "slope", "alpha", "beta", "scale", "shift", "std"),
    *("bound", "pieces", "delta", r"q\b", "rate", "momentum", "nesterov", "rho", "epsilon"),
    *("clip", "initial", "decay", "factor", "every", "power", "steps", "final", "rise", "training"),
    *("snapshot", "count", "config", "metadata", "path", "file", "network", "monitor", "patience"),
    *(
        "loaded",
        "seconds",
        "history",
        "diverged",
        "predict_proba",
        "save",
        "null",
        "fraction",
        "learned",
        "learning_rate",
        "weight_decay",
        "trust_coefficient",
        "output_activation",
        "os.PathLike",
    ),
)


def fingerprint(net: MLP) -> tuple[Any, ...]:
    """Everything that a failed call must leave alone."""
    inside = net._engine
    state, rng = inside.state(), inside.rng
    drawn = (
        rng.get_state(False) if isinstance(rng, np.random.RandomState) else rng.bit_generator.state
    )
    vectors = tuple(a.tobytes() for a in state)
    return (*vectors, net.steps, net.epochs, repr(net.optimizer), repr(drawn), inside.dropout_key)


def finite(net: MLP) -> None:
    """All numbers of a network must be finite."""
    for name, numbers in net._engine.state()._asdict().items():
        if not np.isfinite(numbers).all():
            raise PromiseError(f"{name} holds {numbers[~np.isfinite(numbers)][0]}")


def judge(d: Draw, error: BaseException, call: str) -> None:
    """Refuse errors that are not the library's own, or say nothing."""
    if isinstance(error, OwnCodeError) and d.own_code:
        return
    text = str(error)
    if isinstance(error, RuntimeError) and d.own_code and "being trained" in text:
        return
    if isinstance(error, ImportError) and "cupy" in text:
        return
    if isinstance(error, OSError) and call in ("_save", "_load"):
        return
    if not isinstance(error, ALLOWED) or isinstance(error, Warning):
        raise PromiseError(f"{type(error).__name__} is no error of the library: {text}") from error
    if d.own_code:
        return
    if not re.search(rf"\b(?:{'|'.join(NAMES)})", text):
        raise PromiseError(f"the message names nothing: {text!r}") from error


def attempt(d: Draw, net: MLP, draw: Callable[[Draw, MLP], Thunk]) -> Any:
    """One case: draw arguments, call, judge."""
    d.begin()
    d.own_code = _code_inside(net)
    try:
        with warnings.catch_warnings(action="ignore"):
            call = draw(d, net)
    except ALLOWED as error:  # the arguments are objects of the library's, refused already
        if not any(
            LIBRARY in frame.filename for frame in traceback.extract_tb(error.__traceback__)
        ):
            raise
        judge(d, error, draw.__name__)
        return None
    before = fingerprint(net) if d.chance(0.4) else None
    result = failed = None
    try:
        result = call()
    except Exception as error:
        failed = error
        judge(d, error, draw.__name__)
    OUTCOMES[draw.__name__, "an error" if failed else "a result"] += 1
    FENCED.check()
    if not d.own_code and any(block.tobytes() != was for block, was in d.watched):
        raise PromiseError("what was handed in was changed, or what lies around it")
    atomic = draw is not _fit or not (d.own_code or isinstance(failed, DivergenceError))
    if failed is not None and before is not None and atomic and fingerprint(net) != before:
        raise PromiseError(f"a failed call changed the network: {failed}") from failed
    if d.chance(0.4):
        finite(net)
    return result


def session(number: int, seed: int, cases: int) -> list[str]:
    """Run some cases on a few networks; return what went wrong."""
    d = Draw(random.Random(f"{seed}/{number}"))
    nets = [MLP((3, 7, 2), seed=1, backend="numba")]
    draws, wrong = [*CALLS], []
    for case in range(cases):
        net = d.one(*nets)
        draw = _new if case < 2 else d.source.choices(draws, [*CALLS.values()])[0]
        try:
            made = attempt(d, net, draw)
        except Exception as error:
            place = f"session {number}, case {case}, {draw.__name__} on {net!r}"
            wrong.append(f"{place}\n{_short(error)}")
            break
        if isinstance(made, MLP) and sum(made.layer_sizes) < 1000:
            nets = [*nets, made][-3:]
    return wrong


def _short(error: BaseException) -> str:
    """The message, and where what is behind it came from."""
    cause = error.__cause__ or error
    frames = traceback.format_list(traceback.extract_tb(cause.__traceback__)[-4:])
    return f"{''.join(frames)}  {type(cause).__name__}: {error}\n"


def sessions(arguments: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Numbers of the sessions and of their cases."""
    if arguments.session is not None:
        yield arguments.session, SESSION
        return
    for number in range(arguments.part, -(-arguments.cases // SESSION), arguments.parts):
        yield number, min(SESSION, arguments.cases - number * SESSION)


def main() -> int:
    """Run cases until there are enough or ten sessions have failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20260401)
    parser.add_argument("--session", type=int, help="repeat this one session")
    parser.add_argument("--part", type=int, default=0, help="which of the parts to run")
    parser.add_argument("--parts", type=int, default=1, help="processes that share the sessions")
    parser.add_argument("--failures", type=int, default=10, help="sessions that may fail first")
    parser.add_argument("--verbose", action="store_true", help="count the outcomes")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    faulthandler.enable()
    print(f"--seed {arguments.seed}", flush=True)
    done, wrong = 0, []
    fence()
    for number, cases in sessions(arguments):
        faulthandler.dump_traceback_later(300, exit=True)
        print(f"\rsession {number} ", end="", file=sys.stderr, flush=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            wrong += session(number, arguments.seed, cases)
        done += cases
        if len(wrong) >= arguments.failures:
            break
    print("\n".join(wrong))
    if arguments.verbose:
        print(
            "\n".join(f"{count:8} {call} {end}" for (call, end), count in sorted(OUTCOMES.items()))
        )
    print(f"{done} cases, {len(wrong)} sessions failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

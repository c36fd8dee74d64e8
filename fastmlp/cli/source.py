"""DATA on the command line: a word or a file, as rows and targets."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..datasets import (
    Table,
    digits,
    images,
    load_csv,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_npz,
    read_idx,
)
from ..kernels.contract import Array
from ..kernels.reference.losses import LOSSES, TARGETS
from ..losses import ALIASES

__all__ = ["LOSSES", "Part", "Source", "Task", "pose", "read", "split"]

_MOST_CLASSES = 20
"""Whole numbers as targets are classes up to so many different ones."""


class Source(NamedTuple):
    """What DATA holds."""

    name: str
    """For the name of the saved file."""
    table: Table
    test: Table | None
    """Test rows, where the data set has its own."""
    top: float | None
    """The largest value of a pixel, or None for tables."""


class Task(NamedTuple):
    """Targets in the form that a loss wants; numbers are not scaled yet."""

    loss: str
    y: Array
    outputs: int
    classes: tuple[str, ...] | None


class Part(NamedTuple):
    """Rows of training, validation or test."""

    X: Array
    y: Array


def read(chosen: argparse.Namespace, word: str) -> Source:
    """Read a data set by its word or from a file.

    Raises
    ------
    ValueError, OSError
        It can't be read; the message says why.
    """
    kind = kind_of(chosen, word)
    if kind == "digits":
        X, y = load_digits()
        return Source(word, Table(X, y, _names(10)), None, digits.TOP)
    if kind in ("mnist", "fashion-mnist"):
        load = load_mnist if word == "mnist" else load_fashion_mnist
        X, y, X_test, y_test = load(chosen.data_folder)
        return Source(word, Table(X, y, _names(10)), Table(X_test, y_test), images.TOP)
    return _from_file(chosen, Path(word), kind)


WORDS = ("digits", "mnist", "fashion-mnist")

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "csv": ("target", "delimiter"),
    "idx": ("labels",),
    "mnist": ("data_folder",),
    "fashion-mnist": ("data_folder",),
}
"""Options that go with one kind of data only."""


def kind_of(chosen: argparse.Namespace, word: str) -> str:
    """Tell the words apart, and npz, idx and csv files by their first bytes.

    Raises
    ------
    ValueError
        An option goes with another kind of data.
    """
    kind = word if word in WORDS else _kind_of_file(Path(word))
    for option in ("target", "delimiter", "labels", "data_folder"):
        if getattr(chosen, option, None) is not None and option not in OPTIONS.get(kind, ()):
            raise ValueError(f"--{option.replace('_', '-')} doesn't go with data of kind {kind}")
    return kind


def _kind_of_file(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return "npz"
    return "idx" if start in (b"\0\0", b"\x1f\x8b") else "csv"


def _from_file(chosen: argparse.Namespace, path: Path, kind: str) -> Source:
    if kind == "idx":
        table = _labelled_images(path, chosen.labels)
        return Source(_stem(path), table, None, images.TOP if table.X.dtype == np.uint8 else None)
    if kind == "npz":
        return Source(_stem(path), load_npz(path), None, None)
    target = -1 if chosen.target is None else chosen.target
    return Source(_stem(path), load_csv(path, target, delimiter=chosen.delimiter), None, None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").split(".")[0] or "data"


def _labelled_images(path: Path, labels: str | None) -> Table:
    if labels is None:
        raise ValueError(f"{path}: IDX images need their labels: --labels FILE")
    X, y = read_idx(path), read_idx(labels)
    if y.shape != X.shape[:1] or y.dtype.kind not in "iu":
        raise ValueError(f"{labels}: holds {y.dtype} {y.shape}, wants {len(X)} whole numbers")
    return Table(flat(X, path), y.astype(np.int64))


def flat(X: Array, path: Path) -> Array:
    """Rows of features from images."""
    if X.ndim < 2 or X.size == 0:
        raise ValueError(f"{path}: has the shape {X.shape}, wants images")
    return X.reshape(len(X), -1)


def _names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


# From targets to a task


def pose(table: Table, loss: str) -> Task:
    """Choose the loss where it is "auto", and give the targets the form that it wants.

    Text is classes, and so are whole numbers of at most 20 different values.

    Raises
    ------
    ValueError
        The loss doesn't go with the targets.
    """
    y, classes = table.y, table.classes
    if y is None:
        raise ValueError("the data has no targets to learn")
    if loss == "auto":
        loss = "cross_entropy" if classes or _few_classes(y) else "squared_error"
    loss = ALIASES.get(loss, loss)
    kind = TARGETS[loss]
    if kind in ("real", "counts"):
        if classes and not all(name.lstrip("-").isdecimal() for name in classes):
            raise ValueError(f"loss {loss} wants numbers as targets, these are names")
        return Task(loss, y.astype(np.float64), 1 if y.ndim == 1 else y.shape[1], None)
    if y.ndim == 2:
        return Task(loss, y, y.shape[1], None)
    if classes is None:
        names, y = np.unique(y, return_inverse=True)
        classes = tuple(map(str, names.tolist()))
    _check_classes(classes, len(y), loss)
    if kind == "classes":
        return Task(loss, y, len(classes), classes)
    return Task(loss, 2 * y - 1 if kind == "margin" else y, 1, classes)


def _few_classes(y: Array) -> bool:
    return y.dtype.kind in "iu" and y.ndim == 1 and len(np.unique(y)) <= _MOST_CLASSES


def _check_classes(classes: tuple[str, ...], rows: int, loss: str) -> None:
    if len(classes) < 2:
        raise ValueError(f"there is one class only ({classes[0]}): nothing to learn")
    if len(classes) == rows:
        raise ValueError("each row has a class of its own: is --target the right column?")
    if TARGETS[loss] != "classes" and len(classes) != 2:
        raise ValueError(f"loss {loss} wants 2 classes, there are {len(classes)}")


def names_of(predicted: Array, classes: tuple[str, ...], outputs: int) -> list[str]:
    """Names of predicted classes; one output says 0 or 1, or -1 or 1."""
    places = predicted > 0 if outputs == 1 else predicted
    return [classes[place] for place in places.tolist()]


# Parts


def split(source: Source, task: Task, shares: Mapping[str, float], seed: int) -> dict[str, Part]:
    """Draw the rows to train on, to validate and to test; parts that get no rows are left out.

    Raises
    ------
    ValueError
        Too few rows are left to train on.
    """
    rows = len(task.y)
    order = np.random.default_rng(seed).permutation(rows)
    parts: dict[str, Part] = {}
    if source.test is not None and source.test.y is not None:
        parts["test"] = Part(source.test.X, source.test.y)
        shares = {**shares, "test": 0.0}
    counts = {name: math.ceil(rows * share) for name, share in shares.items()}
    if rows - sum(counts.values()) < 1:
        raise ValueError(f"{rows} rows are too few: none would be left to train on")
    start = 0
    for name, count in (*counts.items(), ("train", rows - sum(counts.values()))):
        if count:
            chosen = np.sort(order[start : start + count])
            parts[name] = Part(source.table.X[chosen], task.y[chosen])
        start += count
    return {name: parts[name] for name in ("train", "validation", "test") if name in parts}


def scaling_word(source: Source, chosen: str) -> str:
    """What "auto" means: pixels to 0..1, columns of tables standardized."""
    if chosen != "auto":
        return chosen
    return "standard" if source.top is None else "unit"


def describe(source: Source, task: Task, parts: Mapping[str, Any]) -> str:
    """One line on the data."""
    many = "" if task.outputs == 1 else "s"
    what = f"{task.outputs} output{many}"
    if task.classes is not None:
        what = f"{len(task.classes)} classes"
    if task.classes is not None and len(task.classes) <= 10:
        what += f" ({', '.join(name[:20] for name in task.classes)})"
    counts = ", ".join(f"{len(part.y)} {name}" for name, part in parts.items())
    return f"{source.name}: {source.table.X.shape[1]} features, {what}; rows: {counts}"

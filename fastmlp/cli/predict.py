"""``fastmlp predict``."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .. import set_num_threads
from ..datasets import Standardize, load_csv, load_npz, read_idx
from ..datasets.tables import first_cells
from ..kernels.contract import Array
from ..network import MLP
from . import source


def run(chosen: argparse.Namespace) -> int:
    """Load, scale, predict, write; return the exit status."""
    if chosen.threads is not None:
        set_num_threads(chosen.threads)
    net = MLP.load(chosen.model, backend=chosen.backend)
    known = _known(net, chosen.model)
    X = _rows(chosen, net.layer_sizes[0], known)
    if X.shape[1] != net.layer_sizes[0]:
        raise ValueError(
            f"{chosen.data}: has {X.shape[1]} features, the network wants {net.layer_sizes[0]}"
        )
    if "scaling" in known:
        X = Standardize.from_dict(known["scaling"]).apply(X, net.dtype)
    header, rows = _answers(net, X, known, chosen.proba)
    if chosen.output is None:
        _write(sys.stdout, header, rows)
    else:
        with open(chosen.output, "w", newline="", encoding="utf-8") as file:
            _write(file, header, rows)
    return 0


def _known(net: MLP, model: str) -> Mapping[str, Any]:
    """What the command line stored with the network, checked; nothing for other networks."""
    known = net.metadata
    for name in ("classes", "columns"):
        names = known.get(name)
        if names is not None and not (
            isinstance(names, list) and all(isinstance(each, str) for each in names)
        ):
            raise ValueError(f"{model}: its metadata has {name} that are no names")
    binary = net.layer_sizes[-1] == 1
    if known.get("classes") and len(known["classes"]) != (2 if binary else net.layer_sizes[-1]):
        raise ValueError(f"{model}: its metadata names {len(known['classes'])} classes")
    return known


def _rows(chosen: argparse.Namespace, inputs: int, known: Mapping[str, Any]) -> Array:
    kind = source.kind_of(chosen, chosen.data)
    if kind in source.WORDS:
        data = source.read(chosen, chosen.data)
        return (data.test or data.table).X
    path = Path(chosen.data)
    if kind == "idx":
        return source.flat(read_idx(path), path)
    if kind == "npz":
        return load_npz(path, y=None).X
    return _csv_rows(chosen, path, inputs, known)


def _csv_rows(
    chosen: argparse.Namespace, path: Path, inputs: int, known: Mapping[str, Any]
) -> Array:
    """Features of a CSV file, by name where both have names, without a target if one is there."""
    cells = first_cells(path, chosen.delimiter)
    columns = known.get("columns")
    if columns is not None and set(columns) <= set(cells):
        extra = [name for name in cells if name not in columns]
        if len(extra) > 1 or len(cells) != len(columns) + len(extra):
            raise ValueError(f"{path}: has columns too many: {', '.join(extra) or 'one twice'}")
        table = load_csv(path, extra[0] if extra else None, True, chosen.delimiter)
        assert table.columns is not None
        return table.X[:, [table.columns.index(name) for name in columns]]
    target = chosen.target
    if target is None and len(cells) == inputs + 1:
        target = known.get("target")
    table = load_csv(path, target, delimiter=chosen.delimiter)
    if columns is not None and table.columns is not None:
        absent = ", ".join(name for name in columns if name not in cells)
        raise ValueError(f"{path}: lacks columns that the network was trained on: {absent}")
    return table.X


def _answers(
    net: MLP, X: Array, known: Mapping[str, Any], proba: bool
) -> tuple[list[str], Iterable[list[Any]]]:
    """Header and lines."""
    classes = known.get("classes")
    if proba:
        shares = net.predict_proba(X)
        if classes and shares.shape[1] == 1:
            shares = np.hstack([1 - shares, shares])
        return list(classes or _numbered("output", shares.shape[1])), map(list, shares)
    predicted = net.predict(X)
    if "target_scaling" in known:
        scale = Standardize.from_dict(known["target_scaling"])
        predicted = scale.undo(predicted.reshape(len(predicted), -1)).astype(net.dtype)
        predicted = predicted[:, 0] if predicted.shape[1] == 1 else predicted
    if classes:
        names = source.names_of(predicted, tuple(classes), net.layer_sizes[-1])
        return ["prediction"], ([name] for name in names)
    if predicted.ndim == 1:
        return ["prediction"], ([value] for value in predicted)
    return _numbered("prediction", predicted.shape[1]), map(list, predicted)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(count)]


def _write(file: TextIO, header: list[str], rows: Iterable[list[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)

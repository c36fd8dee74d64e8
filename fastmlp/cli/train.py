"""``fastmlp train``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import optimizers, set_num_threads
from ..datasets import Standardize
from ..kernels.reference.losses import TARGETS
from ..network import MLP, warmup
from ..threads import get_num_threads
from . import INTERRUPTED, compare, source
from .source import Part, Source, Task

Say = Callable[[str], None]


def run(chosen: argparse.Namespace) -> int:
    """Read, scale, train, save, show; return the exit status."""
    if chosen.threads is not None:
        set_num_threads(chosen.threads)
    say = _silent if chosen.quiet else _say
    data = source.read(chosen, chosen.data or "digits")
    output = None if chosen.no_save else _output(chosen, data)
    task = source.pose(data.table, chosen.loss)
    shares = {"test": chosen.test_fraction, "validation": chosen.validation_fraction}
    parts = source.split(data, task, shares, chosen.seed)
    say(source.describe(data, task, parts))
    scalings = _scalings(chosen, data, task, parts["train"])
    net = _network(chosen, parts["train"].X.shape[1], task)
    net.metadata = {
        **_metadata(chosen, data, task),
        **{k: s.to_dict() for k, s in scalings.items()},
    }
    parts = {name: _scaled(part, scalings, chosen.dtype) for name, part in parts.items()}
    say(_describe(net, chosen))
    finished = _fit(net, parts, chosen, say)
    if output is not None:
        # Before anything else: Ctrl-C from here on loses nothing.
        net.save(output)
        say(f"saved to {output}{'' if finished else ', as far as it is trained'}")
    if not finished:
        return INTERRUPTED
    _show(net, parts, say)
    if chosen.data is None and not chosen.quiet and not chosen.no_compare:
        say("")
        compare.short(net.dtype.name, say)
    return 0


def _say(text: str) -> None:
    # Progress goes to standard error: both have to come in order.
    print(text, flush=True)


def _silent(_text: str) -> None:
    return


def _output(chosen: argparse.Namespace, data: Source) -> Path:
    """The file to write; what would fail after training fails before it."""
    path = Path(chosen.output or f"fastmlp-{data.name}.safetensors")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--output {path}: is a folder, or in a folder that isn't there")
    return path


def _scalings(
    chosen: argparse.Namespace, data: Source, task: Task, train: Part
) -> dict[str, Standardize]:
    """Scalings of the features and, where they are any numbers, of the targets."""
    word = source.scaling_word(data, chosen.scaling)
    scalings = {"scaling": Standardize.fit(train.X, word, data.top)}
    if TARGETS[task.loss] == "real":
        scalings["target_scaling"] = Standardize.fit(train.y.reshape(len(train.y), -1))
    return scalings


def _scaled(part: Part, scalings: Mapping[str, Standardize], dtype: str) -> Part:
    y = part.y
    if "target_scaling" in scalings:
        y = scalings["target_scaling"].apply(y.reshape(len(y), -1), dtype)
    return Part(scalings["scaling"].apply(part.X, dtype), y)


def _network(chosen: argparse.Namespace, inputs: int, task: Task) -> MLP:
    optimizer = optimizers.resolve(chosen.optimizer)
    if chosen.learning_rate is not None:
        optimizer = dataclasses.replace(optimizer, learning_rate=chosen.learning_rate)
    return MLP(
        (inputs, *chosen.hidden, task.outputs),
        activation=chosen.activation,
        loss=task.loss,
        optimizer=optimizer,
        l2=chosen.l2,
        dropout=chosen.dropout,
        normalization=chosen.normalization,
        dtype=chosen.dtype,
        backend=chosen.backend,
        seed=chosen.seed,
    )


def _metadata(chosen: argparse.Namespace, data: Source, task: Task) -> dict[str, Any]:
    """What ``fastmlp predict`` must know, but for the scalings."""
    table = data.table
    return {
        "data": data.name,
        "loss": task.loss,
        "classes": None if task.classes is None else list(task.classes),
        "columns": None if table.columns is None else list(table.columns),
        "target": table.place,
        "scaled": source.scaling_word(data, chosen.scaling),
    }


def _describe(net: MLP, chosen: argparse.Namespace) -> str:
    sizes = "-".join(map(str, net.layer_sizes))
    threads = f", {get_num_threads()} threads" if net.backend == "numba" else ""
    scaled = f"features scaled ({net.metadata['scaled']})"
    scaled += " and targets (standard)" if "target_scaling" in net.metadata else ""
    return (
        f"network {sizes}, {chosen.activation}, loss {net.metadata['loss']}, {chosen.optimizer}; "
        f"{scaled}; seed {chosen.seed}; {net.backend}{threads}, {net.dtype.name}"
    )


def _fit(net: MLP, parts: Mapping[str, Part], chosen: argparse.Namespace, say: Say) -> bool:
    """Train; False after Ctrl-C, which leaves the network as far as it came."""
    compiling = warmup(net.dtype.name, net.backend)
    started = time.perf_counter()
    try:
        net.fit(
            *parts["train"],
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            validation_data=parts.get("validation"),
            metrics=(_score(net),),
            progress=not chosen.quiet,
        )
    except KeyboardInterrupt:
        sys.stderr.write(f"fastmlp: interrupted in epoch {net.epochs + 1}\n")
        return False
    seconds = time.perf_counter() - started
    rate = chosen.epochs * len(parts["train"].y) / seconds
    ready = f"; before that {compiling:.2f} s to compile or load kernels"
    say(
        f"trained {chosen.epochs} epochs in {seconds:.2f} s, {rate:,.0f} rows/s"
        + (ready if net.backend == "numba" else "")
    )
    return True


def _score(net: MLP) -> str:
    return "r2" if TARGETS[net.metadata["loss"]] in ("real", "counts") else "accuracy"


def _show(net: MLP, parts: Mapping[str, Part], say: Say) -> None:
    """Losses and scores of all parts."""
    score = _score(net)
    say(f"{'':10}  {'rows':>8}  {'loss':>10}  {score:>10}")
    for name, part in parts.items():
        found = net.evaluate(*part, metrics=(score,))
        say(f"{name:10}  {len(part.y):8d}  {found['loss']:10.4g}  {found[score]:10.4f}")

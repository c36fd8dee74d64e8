"""From the arguments of `MLP.fit` to a checked `Job`, before anything is changed."""

from __future__ import annotations

from typing import Any

from . import callbacks as callback_module
from . import checks, devices, generators
from . import metrics as metric_module
from .engine import Engine
from .kernels.contract import Array, Data
from .optimizers import Optimizer
from .progress import Progress
from .sparse import SparseRows, as_array
from .training import Job, split_rows


def need_no_copy(engine: Engine, X: Any) -> bool:
    """Whether the kernels can take X as it is, if its numbers are finite."""
    return checks.is_matrix(X, engine.network.layers[0].inputs, engine.dtype)


def checked_rows(engine: Engine, X: Any) -> Array:
    """Return X as the kernels take it, (rows, inputs)."""
    inputs = engine.network.layers[0].inputs
    if need_no_copy(engine, X):
        checks.finite(X, "X")
        return as_array(X)
    if isinstance(X, SparseRows):
        return as_array(X)
    if devices.holds(X):
        return devices.matrix(X, "X", inputs, engine.dtype, engine.backend)
    return checks.matrix(X, "X", inputs, engine.dtype, engine.gathered(), engine.most_threads)


def checked_data(engine: Engine, X: Any, y: Any, w: Any, late: bool = False) -> Data:
    """Return rows, targets and weights as the kernels take them.

    With `late`, for which `_shows_itself` has spoken, nobody has looked for NaN in X yet, nor at
    class indices where the kernels do that.
    """
    # Views: a callback can give an array another shape in place, which no kernel would notice.
    rows = X if late else checked_rows(engine, X)
    rows = rows if isinstance(X, SparseRows) else rows.view()
    T = engine.targets.unchecked(y, len(rows)) if late and engine.doubts_labels() else None
    if T is None:
        T = engine.targets.encode(devices.on_host(y), len(rows), engine.dtype)
    weights = checks.row_weights(devices.on_host(w), len(rows), engine.dtype)
    return Data(rows, T.view(), None if weights is None else weights.view())


def _shows_itself(engine: Engine, optimizer: Optimizer, X: Any) -> bool:
    """Whether X is large, needs no copy, and one NaN in it would spoil the weights.

    To look for it before the first epoch cost 3 to 13 % of that. The first layer's gradient has
    every row as a factor, and 0 * NaN is NaN. Clipping could hide that. Weights of 0, rows left
    out and what others would see are for the caller to think of.
    """
    return (
        checks.is_matrix(X, engine.network.layers[0].inputs, engine.dtype, engine.gathered())
        and X.size >= checks.LARGE
        and not (optimizer.clip_value or optimizer.clip_norm)
    )


def prepared(
    engine: Engine,
    given: tuple[Any, Any, Any],
    fresh: Optimizer | None,
    *,
    epochs: Any,
    batch_size: Any,
    shuffle: Any,
    drop_last: Any,
    validation_data: Any,
    validation_fraction: Any,
    metrics: Any,
    callbacks: Any,
    progress: Any,
) -> Job:
    """Check all arguments of a fit; only then draw the rows to hold out.

    Raises
    ------
    TypeError, ValueError
        The message names the argument.
    """
    epochs, batch = checks.whole(epochs, "epochs", 0), checks.whole(batch_size, "batch_size", 1)
    shuffle, drop_last = _shuffle(shuffle), checks.flag(drop_last, "drop_last")
    fraction = checks.number(validation_fraction, "validation_fraction", low=0, below=1)
    chosen = metric_module.resolve(metrics, engine.targets.kind)
    listed, shown = callback_module.resolve(callbacks), checks.flag(progress, "progress")
    # Code of the user's that runs within an epoch would see what must be undone, and a generator of
    # a class of its own might leave rows out.
    watched = shown or chosen or listed or callable(shuffle) or generators.foreign(engine.rng)
    left_out = drop_last or fraction or not epochs or given[2] is not None
    optimizer = fresh or engine.optimizer
    late = not (watched or left_out) and _shows_itself(engine, optimizer, given[0])
    data = checked_data(engine, *given, late)
    job = Job(
        data,
        epochs,
        min(batch, len(data.X)),
        shuffle,
        drop_last,
        engine.network.reduction == "sum",
        _validation(engine, validation_data, fraction),
        chosen,
        listed,
        None,
        late,
    )
    if fraction > 0:
        job = _hold_out(engine, job, fraction)
    return job._replace(progress=Progress(job.epochs, job.rows)) if shown else job


def _validation(engine: Engine, given: Any, fraction: float) -> Data | None:
    if given is None:
        return None
    if fraction > 0:
        raise ValueError("give validation_data or validation_fraction, not both")
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(
            f"validation_data must be (X, y) or (X, y, sample_weight); got {checks.shown(given)}"
        )
    try:
        return checked_data(engine, given[0], given[1], given[2] if len(given) == 3 else None)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error


def _hold_out(engine: Engine, job: Job, fraction: float) -> Job:
    data, classes = job.data, engine.targets.kind == "classes"
    untouched = generators.state_of(engine.rng)
    train, held = split_rows(engine.rng, data.T, fraction, classes)
    parts = [
        Data(
            devices.chosen_rows(data.X, rows),
            data.T[rows],
            None if data.w is None else data.w[rows],
        )
        for rows in (train, held)
    ]
    for part, name in zip(parts, ("training", "validation"), strict=True):
        if part.w is not None and not part.w.any():
            generators.rewind(engine.rng, untouched)
            raise ValueError(f"sample_weight is zero for every {name} row that was drawn")
    batch = min(job.batch, len(train))
    return job._replace(data=parts[0], validation=parts[1], batch=batch)


def _shuffle(shuffle: Any) -> Any:
    if isinstance(shuffle, checks.BOOLEANS):
        return bool(shuffle)
    word = isinstance(shuffle, str) and shuffle == "permutation"
    if word or (callable(shuffle) and not isinstance(shuffle, type)):
        return shuffle
    raise ValueError(
        "shuffle must be True, False, 'permutation' or a function (rng, previous_order) -> order; "
        f"got {checks.shown(shuffle)}"
    )

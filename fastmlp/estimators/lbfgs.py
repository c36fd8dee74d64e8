"""SciPy's L-BFGS-B over the compiled loss and gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize
from threadpoolctl import ThreadpoolController

from ..engine import Engine
from ..kernels.contract import Array, Data, State
from ..kernels.layout import FLOORS, length, parameter_segments
from ..sparse import blocks


def objective(engine: Engine, data: Data, constant: float) -> Callable[[Array], Any]:
    """Return the function flat parameters -> (loss, gradient).

    Rows that are kept sparse come in blocks; each block's loss counts by its weights. The penalty
    is the same in all blocks, so it counts once.
    """
    weights = np.ones(len(data.X)) if data.w is None else data.w.astype(np.float64)
    total = float(weights.sum())

    def evaluated(flat: Array) -> tuple[float, Array]:
        engine.set_parameters(flat.astype(engine.dtype), engine.state().running)
        loss, gradient = constant, np.zeros(len(flat))
        for rows, X in blocks(data.X):
            share = float(weights[rows].sum()) / total
            if share == 0:
                continue
            w = None if data.w is None else data.w[rows]
            value, part = engine.gradient(X, data.T[rows], w, False)
            loss += share * value
            gradient += share * part
        return loss, gradient

    return evaluated


def run(
    engine: Engine,
    data: Data,
    constant: float,
    watch: Callable[[float], bool],
    options: dict[str, Any],
) -> Any:
    """Minimize; return SciPy's result, with the best parameters left in the engine.

    `watch` is given the loss after each iteration and stops by returning True.
    """
    state = engine.state()

    def iterated(intermediate_result: Any) -> None:
        if watch(float(intermediate_result.fun)):
            raise StopIteration

    with engine.alone(), _blas_threads(engine):
        try:
            result = minimize(
                objective(engine, data, constant),
                state.parameters.astype(np.float64),
                method="L-BFGS-B",
                jac=True,
                bounds=_bounds(engine),
                callback=iterated,
                options=options,
            )
        except BaseException:
            engine.set_state(state)
            raise
        engine.set_state(State(result.x.astype(engine.dtype), state.slots, state.running))
    return result


def _blas_threads(engine: Engine) -> AbstractContextManager[Any]:
    """Keep SciPy's BLAS to one thread where nothing else computes with BLAS.

    L-BFGS multiplies tiny matrices; waking threads for each costs more than a small network's
    gradient (on two cores 3 ms instead of 0.02 ms).
    """
    if engine.backend == "numpy":
        return nullcontext()
    limits: AbstractContextManager[Any] = _pools().limit(limits=1, user_api="blas")
    return limits


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def _bounds(engine: Engine) -> Bounds | None:
    """Lower bounds of learned parameters that have one."""
    segments = parameter_segments(engine.network)
    if not any(segment.kind in FLOORS for segment in segments):
        return None
    lowest = np.full(length(segments), -np.inf)
    for segment in segments:
        lowest[segment.start : segment.stop] = FLOORS.get(segment.kind, -np.inf)
    return Bounds(lowest)

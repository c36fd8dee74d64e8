"""The part of `MLP` that reads and assigns what it has learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import blocks, checks
from .engine import Engine
from .kernels.contract import Array
from .kernels.layout import FLOORS, parameter_segments


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


class Snapshot(NamedTuple):
    """Parameters and running statistics at one moment."""

    parameters: Array
    running: Array


class Parametrized:
    """Weights, biases and every other learned array, by name."""

    _engine: Engine

    @property
    def weights(self) -> list[Array]:
        """Read-only arrays (inputs, outputs), one a layer; assign a whole list."""
        return self._of_kind("weights")

    @weights.setter
    def weights(self, arrays: Any) -> None:
        self._assign_kind("weights", arrays)

    @property
    def biases(self) -> list[Array]:
        """Read-only arrays (outputs,), one a layer; assign a whole list."""
        return self._of_kind("biases")

    @biases.setter
    def biases(self, arrays: Any) -> None:
        self._assign_kind("biases", arrays)

    @property
    def parameters(self) -> dict[str, Array]:
        """Every learned array by name, read-only; assign a mapping with some or all of them."""
        flat = _read_only(self._engine.state().parameters)
        return {s.name: s.view(flat) for s in parameter_segments(self._engine.network)}

    @parameters.setter
    def parameters(self, arrays: Mapping[str, Any]) -> None:
        if not isinstance(arrays, Mapping):
            raise TypeError(f"parameters must be a mapping by name; got {checks.shown(arrays)}")
        state = self._engine.state()
        segments = {s.name: s for s in parameter_segments(self._engine.network)}
        flat = state.parameters.copy()
        for name, values in arrays.items():
            checks.word(name, "parameters: a name", segments)
            segment = segments[name]
            raw = checks.real_array(values, name)
            if raw.shape != segment.shape:
                raise ValueError(f"{name} must have shape {segment.shape}; got {raw.shape}")
            floor = FLOORS.get(segment.kind)
            if floor is not None and (raw < floor).any():
                raise ValueError(f"{name} must be at least {floor}; got {raw.min():g}")
            segment.view(flat)[...] = checks.converted(raw, name, self._engine.dtype)
        self._engine.set_parameters(flat, state.running)

    def _of_kind(self, kind: str) -> list[Array]:
        return [a for name, a in self.parameters.items() if name.startswith(f"{kind}.")]

    def _assign_kind(self, kind: str, arrays: Any) -> None:
        count = len(self._engine.network.layers)
        if not isinstance(arrays, list | tuple) or len(arrays) != count:
            raise ValueError(
                f"{kind} must be a list of {count} arrays, one a layer; got {checks.shown(arrays)}"
            )
        self.parameters = {f"{kind}.{number}": values for number, values in enumerate(arrays)}

    def snapshot(self) -> Snapshot:
        """Return the parameters and running statistics, for `restore`; nothing to write to."""
        state = self._engine.state()
        return Snapshot(_read_only(state.parameters), _read_only(state.running))

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot of this network; the optimizer's state stays."""
        state = self._engine.state()
        given: tuple[Any, ...] = snapshot if isinstance(snapshot, Snapshot) else (None, None)
        same = all(
            isinstance(new, np.ndarray) and new.shape == old.shape and new.dtype == old.dtype
            for new, old in zip(given, (state.parameters, state.running), strict=True)
        )
        if not same:
            raise ValueError("snapshot must come from the snapshot() of a network like this one")
        if not all(blocks.all_finite(numbers) for numbers in snapshot):
            raise ValueError("snapshot must hold finite numbers")
        self._engine.set_parameters(*(numbers.copy() for numbers in snapshot))

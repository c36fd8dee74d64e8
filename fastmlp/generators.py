"""The network's source of random numbers: from a seed, and as a record in files."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks

Random = np.random.Generator | np.random.RandomState

_KINDS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")

_LIMITS = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "has_gauss": 1, "uinteger": 2**32 - 1}
"""Largest values of counters that NumPy takes over unchecked: a wrong one reads outside arrays."""


def as_generator(seed: object) -> Random:
    """Return ``default_rng(seed)`` for an int or None; a generator itself, not a copy.

    Raises
    ------
    TypeError, ValueError
        It is something else, or negative.
    """
    if isinstance(seed, np.random.Generator | np.random.RandomState):
        return seed
    if seed is None:
        return np.random.default_rng()
    try:
        return np.random.default_rng(checks.whole(seed, "seed", 0, 1 << 256))
    except TypeError:
        raise TypeError(
            "seed must be None, an integer >= 0, a numpy.random.Generator or RandomState; "
            f"got {checks.shown(seed)}"
        ) from None


def key64(rng: Random) -> int:
    """Draw 64 bits: ``rng.bytes(8)``, little-endian.

    Those are the next two words of a generator's stream, which its own C functions give in 2 us
    instead of 10: where an epoch takes 0.1 ms that is seen.
    """
    if type(rng) is np.random.Generator and isinstance(rng.bit_generator, np.random.BitGenerator):
        source = rng.bit_generator.ctypes
        with rng.bit_generator.lock:
            low: int = source.next_uint32(source.state)
            high: int = source.next_uint32(source.state)
        return low | high << 32
    return int.from_bytes(rng.bytes(8), "little")


def encode(rng: Random) -> dict[str, Any]:
    """Return kind and state of a generator as JSON can hold them.

    Raises
    ------
    ValueError
        Its bit generator is not one of NumPy's.
    """
    if isinstance(rng, np.random.RandomState):
        state: Any = rng.get_state(legacy=False)
    else:
        state = rng.bit_generator.state
    if state["bit_generator"] not in _KINDS:
        raise ValueError(
            f"seed: a generator of kind {state['bit_generator']} can't be saved; "
            f"NumPy's {', '.join(_KINDS)} can"
        )
    return {"class": type(rng).__name__, "state": _plain(state)}


def decode(record: Any) -> Random:
    """Return a new generator in the state that `encode` recorded.

    Raises
    ------
    ValueError
        The record is none.
    """
    try:
        state = record["state"]
        kind = state["bit_generator"]
        if kind not in _KINDS or record["class"] not in ("Generator", "RandomState"):
            raise ValueError(f"unknown kind {str(kind)[:40]}")
        bits = getattr(np.random, kind)(0)
        if record["class"] == "RandomState":
            legacy = np.random.RandomState(bits)
            legacy.set_state(_arrays(state))
            return legacy
        bits.state = _arrays(state)
        return np.random.Generator(bits)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise ValueError(f"generator: its kind and state can't be restored ({error})") from error


def locks_of(rng: Random) -> list[Any]:
    """The lock that a generator's draws hold; none where it is of another kind."""
    bits = rng._bit_generator if isinstance(rng, np.random.RandomState) else rng.bit_generator
    lock = getattr(bits, "lock", None)
    return [] if lock is None else [lock]


def foreign(rng: Random) -> bool:
    """Whether it is of a class of the user's."""
    return type(rng) not in (np.random.Generator, np.random.RandomState)


def state_of(rng: Random) -> Any:
    """Copy a generator's state, for `rewind`."""
    if isinstance(rng, np.random.RandomState):
        return rng.get_state(legacy=False)
    return rng.bit_generator.state


def rewind(rng: Random, state: Any) -> None:
    """Set a generator back, itself."""
    if isinstance(rng, np.random.RandomState):
        rng.set_state(state)
    else:
        rng.bit_generator.state = state


def _plain(value: Any) -> Any:
    """Arrays become lists, NumPy's numbers Python's."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _arrays(value: Any) -> Any:
    """Lists become arrays of the smallest unsigned type that NumPy's generators keep there."""
    if isinstance(value, dict):
        for key, limit in _LIMITS.items():
            checks.whole(value.get(key, 0), key, 0, limit)
        return {key: _arrays(entry) for key, entry in value.items()}
    if isinstance(value, list):
        wide = np.array(value, dtype=np.uint64)
        if wide.size != 624:
            return wide
        if not wide.any():  # MT19937 never leaves this state, and normal() waits for ever
            raise ValueError("a state of zeros")
        return wide.astype(np.uint32)
    return value

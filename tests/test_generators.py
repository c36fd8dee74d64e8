"""Keys are what the documentation says they are, however they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.generators import key64

KINDS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
BETWEEN = {
    "a half word": lambda rng: rng.integers(0, 9, dtype=np.uint32),
    "a byte": lambda rng: rng.integers(0, 256, dtype=np.uint8),
    "a number": lambda rng: rng.random(),
    "an order": lambda rng: rng.permutation(7).tolist(),
    "a key": None,
}


class Own(np.random.Generator):
    """A generator of the user's with bytes of its own."""

    def bytes(self, length: int) -> bytes:
        return super().bytes(length)[::-1]


class Stranger:
    """What NumPy takes for a bit generator, with no more than it asks for."""

    def __init__(self, seed: int):
        self.inner = np.random.PCG64(seed)
        self.capsule, self.lock = self.inner.capsule, self.inner.lock


def _as_bytes(rng: Any) -> int:
    return int.from_bytes(rng.bytes(8), "little")


@given(
    seed=st.integers(0, 2**64 - 1),
    kind=st.sampled_from(KINDS),
    draws=st.lists(st.sampled_from(sorted(BETWEEN)), max_size=12),
)
def test_a_key_is_the_next_eight_bytes(seed: int, kind: str, draws: list[str]) -> None:
    one, other = (np.random.Generator(getattr(np.random, kind)(seed)) for _ in range(2))
    for draw in [*draws, "a key"]:
        between = BETWEEN[draw]
        if between is None:
            assert key64(one) == _as_bytes(other)
        else:
            assert between(one) == between(other)
    assert one.random() == other.random()


@pytest.mark.parametrize(
    "make",
    [
        np.random.RandomState,
        lambda seed: Own(np.random.PCG64(seed)),
        lambda seed: np.random.Generator(Stranger(seed)),
    ],
)
def test_other_generators_are_asked_for_bytes(make: Any) -> None:
    one, other = make(5), make(5)
    assert [key64(one) for _ in range(3)] == [_as_bytes(other) for _ in range(3)]

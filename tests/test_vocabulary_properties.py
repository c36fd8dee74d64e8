"""What can be looked up about activations and losses is true of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp.kernels.layout import LEARNED
from fastmlp.kernels.reference import DOMAINS, LINKS, PROPERTIES, TARGETS

from .draws import REFERENCE, TRAINABLE, Array, constant_of, fits, pieces_of

GRID = np.concatenate([-np.geomspace(1e-9, 50, 2000)[::-1], [0.0], np.geomspace(1e-9, 50, 2000)])
STARTS = {"slope": 0.25, "alpha": 0.25, "beta": 1.0}


def _curve(name: str, Z: Array) -> Array:
    """Give an activation of one number: for softmax and maxout the other input is 0."""
    learned = tuple(np.array([STARTS[kind]]) for kind in LEARNED.get(name, ()))
    width = 2 if name in ("softmax", "maxout") else 1
    wide = np.zeros((len(Z), width))
    wide[:, 0] = Z
    A = np.empty((len(Z), width // pieces_of(name)))
    REFERENCE.ACTIVATIONS[name].forward(A, wide, learned, constant_of(name))
    return A[:, 0]


def test_every_activation_has_properties() -> None:
    assert list(PROPERTIES) == list(REFERENCE.ACTIVATIONS)
    assert [n for n, like in PROPERTIES.items() if like.trainable] == TRAINABLE


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_true(name: str) -> None:
    like, values = PROPERTIES[name], _curve(name, GRID)
    assert values.min() >= like.low - 1e-12
    assert values.max() <= like.high
    assert bool((np.diff(values) >= 0).all()) == like.monotone
    assert bool(np.allclose(values, -values[::-1])) == like.zero_centred
    h = 1e-7
    left, middle, right = _curve(name, np.array([-h, 0.0, h]))
    smooth = abs((right - middle) - (middle - left)) < 1e-3 * h
    assert smooth == like.differentiable


def test_every_loss_is_described() -> None:
    for table in (DOMAINS, TARGETS, LINKS):
        assert list(table) == list(REFERENCE.LOSSES)
    assert all(fits(loss, link) for loss, link in LINKS.items())

"""Every numerical tolerance of the kernel tests, and why it is what it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """|found - wanted| <= relative |wanted| + absolute max(largest |wanted|, unit)."""

    relative: float
    absolute: float
    unit: float = 0.0


TOLERANCES: dict[tuple[str, str], Tolerance] = {
    # One kernel against the reference in float64. float32 carries 6e-8 per rounding; kernels
    # make about ten. Derivatives such as 1 - a^2 cancel: their error is one of numbers around 1.
    ("kernel", "float32"): Tolerance(5e-6, 2e-6, unit=1.0),
    # float64 carries 1.1e-16 per rounding; polynomials may be off by 2 units in the last place.
    ("kernel", "float64"): Tolerance(2e-14, 4e-15, unit=1.0),
    # Sums over 37 to 300 products: the error grows with the root of their number.
    ("product", "float32"): Tolerance(5e-6, 5e-6),
    ("product", "float64"): Tolerance(1e-14, 1e-14),
    # Losses and gradients through up to three layers, normalization with its 1/sqrt(variance).
    ("step", "float32"): Tolerance(2e-5, 2e-5),
    ("step", "float64"): Tolerance(1e-12, 1e-13),
    # Parameters after about ten updates. Adam divides by the root of tiny second moments, which
    # turns a rounding of a near-zero gradient into a step of up to the rate.
    ("training", "float32"): Tolerance(1e-3, 2e-4),
    ("training", "float64"): Tolerance(1e-9, 1e-10),
    # Analytic gradients against central differences in float64. With h = 1e-6 the truncation
    # is h^2 = 1e-12 times a third derivative, the rounding 1e-16/h = 1e-10 times the sum, which
    # is up to about 100; from one side of a kink it is four times that.
    ("difference", "float64"): Tolerance(1e-6, 1e-7, unit=0.5),
    # The same numbers by another formula in float64: a handful of roundings.
    ("formula", "float64"): Tolerance(1e-12, 1e-13),
}
"""(what is compared, precision) -> how far apart two results may be."""

STEP_OF_DIFFERENCES = 1e-6
"""h of the central differences (f(x + h) - f(x - h)) / 2h."""


def assert_close(found: Any, wanted: Any, what: str, dtype: str = "float64") -> None:
    """Compare two arrays within the table; equal infinities and NaN at the same places pass."""
    tolerance = TOLERANCES[what, dtype]
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    finite = np.abs(wanted[np.isfinite(wanted)])
    largest = float(finite.max(initial=tolerance.unit))
    np.testing.assert_allclose(
        found, wanted, rtol=tolerance.relative, atol=tolerance.absolute * largest
    )

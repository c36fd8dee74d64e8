"""Every kernel of every backend against the NumPy reference: parity, then its time.

    python benchmarks/bench_kernels.py

Times come from pytest-benchmark (extra ``bench``). Nanoseconds an element: an output of an
activation or a loss, a parameter of an update, a multiply-add of a product, a row of a step. The
reference is written to be read; its times are here to be looked at, not to be boasted of.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from common import Cases, parser
from kernel_cases import REFERENCE, Case, Size, cases

from fastmlp import kernels
from tests.tolerances import assert_close

QUICK = Size(5, 3)
SIZE = QUICK if os.environ.get("FASTMLP_BENCH_QUICK") else Size()
BACKENDS = [name for name, missing in kernels.available().items() if missing is None]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases(SIZE)])
def test_kernel(
    case: Case, dtype: str, backend: str, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    """Parity with the reference in float64, then the median time of a call."""
    wanted, ready = case.prepare(REFERENCE, "float64"), case.prepare(kernels.load(backend), dtype)
    wanted.run()
    ready.run()
    for one, other in zip(ready.results(), wanted.results(), strict=True):
        assert_close(one, other, case.tolerance, dtype)
    benchmark(ready.run)
    keep = getattr(request.config, "keep", None)
    if keep is not None and benchmark.stats is not None:
        nanoseconds = benchmark.stats.stats.median / case.elements * 1e9
        found = {"kernel": case.name, "dtype": dtype, "backend": backend}
        keep(_name(request.node), {**found, "nanoseconds": nanoseconds})


def _name(item: Any) -> str:
    given = item.callspec.params
    return f"{given['case'].name}, {given['dtype']}, {given['backend']}"


class _Keeper:
    """Leaves out the kernels that are not wanted, and hands the results of the others on."""

    def __init__(self, record: Cases):
        self.record = record

    def pytest_configure(self, config: Any) -> None:
        config.keep = self.record.add

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        chosen = set(self.record.wanted(map(_name, items)))
        config.hook.pytest_deselected(items=[i for i in items if _name(i) not in chosen])
        items[:] = [item for item in items if _name(item) in chosen]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=0.1, help="of each kernel")
    arguments = options.parse_args()
    if arguments.quick:
        os.environ["FASTMLP_BENCH_QUICK"] = "1"
    record = Cases("kernels", arguments, SIZE._asdict())
    limits = ("1e-4", "1e-6") if arguments.quick else (str(arguments.seconds), "5e-6")
    timing = (
        *("--benchmark-disable-gc", "--benchmark-min-rounds=5", "--benchmark-group-by=param:case"),
        *(f"--benchmark-max-time={limits[0]}", f"--benchmark-min-time={limits[1]}"),
        *("--benchmark-columns=min,median,rounds", "--benchmark-sort=name"),
    )
    # The project's own pytest options want plugins of the extra ``test``.
    words = (__file__, "-q", "-c", os.devnull, "--rootdir", str(Path(__file__).parent), *timing)
    words += ("-p", "no:cacheprovider", "--import-mode=importlib")
    sys.exit(pytest.main(list(words), plugins=[_Keeper(record)]))


if __name__ == "__main__":
    main()

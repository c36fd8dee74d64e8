"""Seconds until the first result: cold, and with compiled kernels in the cache.

Each figure is a process of its own. "cold" starts with an empty cache folder, "cached" with the
one that the cold run has filled. Times are seconds from the start of ``import fastmlp``. Beside
them, as a measure of the machine, what numba takes for itself: for ``import numba``, and until one
addition is compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

from common import python, write

CODE = """
import json, time
started = time.perf_counter()
import fastmlp
imported = time.perf_counter()
import numpy as np
net = fastmlp.MLP((64, 50, 10), dtype={dtype!r}, seed=0)
X, y = np.zeros((100, 64)), np.arange(100) % 10
net.fit(X, y, epochs=1)
trained = time.perf_counter()
net.predict(X[:1])
predicted = time.perf_counter()
print(json.dumps([imported - started, trained - started, predicted - started]))
"""
NUMBA_CODE = """
import json, time
started = time.perf_counter()
import numba
imported = time.perf_counter()
numba.njit(numba.types.float64(numba.types.float64))(lambda x: x + 1)
print(json.dumps([imported - started, time.perf_counter() - started]))
"""
BYTECODE = "import fastmlp.network, fastmlp.kernels.numba_cpu"
NAMES = ("import", "first epoch", "first prediction")
NUMBA_NAMES = ("import", "first function")


def measured(dtype: str, folder: str) -> dict[str, float]:
    """Seconds of one process."""
    values = json.loads(python("-c", CODE.format(dtype=dtype), FASTMLP_CACHE_DIR=folder))
    return dict(zip(NAMES, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="once, nothing written")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    results, numbas = {}, []
    python("-c", BYTECODE)
    for dtype in ("float32", "float64"):
        runs: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                runs["cold"].append(measured(dtype, folder))
                runs["cached"].append(measured(dtype, folder))
            numbas.append(json.loads(python("-c", NUMBA_CODE)))
        results[dtype] = {
            state: {name: statistics.median(run[name] for run in several) for name in NAMES}
            for state, several in runs.items()
        }
        for state, medians in results[dtype].items():
            shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
            print(f"{dtype} {state}: {shown}")
    numba = dict(zip(NUMBA_NAMES, map(statistics.median, zip(*numbas, strict=True)), strict=True))
    print("numba alone:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in numba.items()))
    if not arguments.quick:
        write("startup", {"repeats": repeats, "seconds": results, "numba": numba})


if __name__ == "__main__":
    main()

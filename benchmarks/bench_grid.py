"""A grid of 48 further networks, chosen before any was measured, against the best of the others.

    python benchmarks/bench_grid.py

Networks for tables, pictures and text vectors, narrow to wide, small to large batches, in turn with
SGD and Adam; cases as in `bench_sweeps`.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench_sweeps import Case, everyone, measure, sized

GRID: tuple[tuple[tuple[int, ...], int, str], ...] = (
    # Logic and toys.
    ((2, 4, 2), 1, "tanh"),
    ((2, 8, 2), 16, "relu"),
    ((3, 16, 16, 3), 8, "tanh"),
    ((4, 10, 3), 10, "sigmoid"),
    ((8, 32, 2), 64, "relu"),
    ((10, 100, 5), 1, "relu"),
    # Tables.
    ((13, 32, 32, 3), 32, "relu"),
    ((13, 64, 64, 3), 256, "tanh"),
    ((20, 50, 50, 2), 20, "sigmoid"),
    ((20, 100, 3), 200, "relu"),
    ((28, 128, 64, 2), 512, "relu"),
    ((28, 300, 300, 300, 2), 100, "tanh"),
    ((30, 64, 32, 16, 2), 64, "relu"),
    ((40, 200, 200, 8), 1000, "relu"),
    ((54, 128, 128, 7), 128, "relu"),
    ((54, 512, 512, 7), 4096, "relu"),
    ((90, 256, 256, 256, 256, 10), 256, "relu"),
    ((100, 31, 17), 63, "tanh"),
    ((100, 33, 33, 33, 100), 65, "relu"),
    ((127, 129, 5), 127, "sigmoid"),
    # Small pictures.
    ((64, 100, 10), 1, "relu"),
    ((64, 100, 10), 32, "relu"),
    ((64, 100, 10), 200, "tanh"),
    ((64, 50, 50, 10), 16, "sigmoid"),
    ((64, 256, 128, 10), 512, "relu"),
    ((256, 256, 10), 64, "relu"),
    ((400, 25, 10), 50, "sigmoid"),
    # MNIST and its kin.
    ((784, 15, 10), 10, "sigmoid"),
    ((784, 30, 10), 10, "sigmoid"),
    ((784, 64, 10), 32, "relu"),
    ((784, 128, 10), 16, "relu"),
    ((784, 128, 64, 10), 256, "relu"),
    ((784, 200, 200, 10), 50, "tanh"),
    ((784, 300, 100, 10), 32, "relu"),
    ((784, 512, 512, 10), 128, "relu"),
    ((784, 512, 256, 128, 10), 1024, "relu"),
    ((784, 1000, 10), 500, "tanh"),
    ((784, 1024, 1024, 10), 256, "relu"),
    ((784, 2500, 1500, 1000, 10), 512, "relu"),
    # Colour pictures, embeddings, many classes.
    ((3072, 256, 10), 128, "relu"),
    ((3072, 64, 64, 100), 32, "tanh"),
    ((3072, 1024, 512, 10), 64, "relu"),
    ((300, 128, 1000), 64, "relu"),
    ((512, 512, 512), 256, "tanh"),
    ((768, 768, 2), 32, "tanh"),
    ((768, 3072, 768), 128, "relu"),
    ((1024, 128, 20), 1, "relu"),
    ((2000, 100, 4), 8, "sigmoid"),
)


def grid() -> Iterator[tuple[str, Case]]:
    """Name and case of each."""
    for number, shape in enumerate(GRID):
        optimizer = ("sgd", "adam")[number % 2]
        single = shape[1] == 1  # at 0.05 single rows of 1024 inputs diverge
        work = sized(*shape, rate=0.001 if single or optimizer == "adam" else 0.05)
        yield f"{work.name} {optimizer}", Case(work, optimizer, number, everyone)


if __name__ == "__main__":
    measure("grid", grid(), __doc__)

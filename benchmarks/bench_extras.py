"""What dropout, normalization, a penalty and clipping add to an update, here and with PyTorch.

    python benchmarks/bench_extras.py

One network without and with each of them, SGD, everything in turn. PyTorch runs eagerly, with its
fused optimizer, on the same rows in the same order; masks and starting weights are its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from common import Cases, parser, times_of
from peak import Probe

from fastmlp import MLP, SGD
from fastmlp.cli.contest import BRIEF, Pace, in_turn
from fastmlp.cli.peers import EAGER, OURS, installed
from fastmlp.cli.workloads import Problem, Workload, describe, problem

NETWORKS = (
    Workload("small64x2", (16, 64, 64, 2), "relu", 32, 1000),
    Workload("images", (784, 256, 256, 10), "relu", 128, 100),
    Workload("tab256x3", (54, 256, 256, 256, 7), "relu", 1024, 10),
)
DROPOUT, L2, CLIP = 0.2, 1e-4, 1.0
PLAIN = "nothing"
EXTRAS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "dropout": {"dropout": DROPOUT},
    "batch normalization": {"normalization": "batch"},
    "layer normalization": {"normalization": "layer"},
    "l2 penalty": {"l2": L2},
    "clipped norm": {"clip_norm": CLIP},
}


def ours(work: Workload, given: Problem, extra: str) -> Callable[[], object]:
    """An epoch of `fit`."""
    options = dict(EXTRAS[extra])
    rule = SGD(work.rate, clip_norm=options.pop("clip_norm", None))
    net = MLP(work.sizes, work.activation, dtype=work.dtype, optimizer=rule, seed=0, **options)
    return lambda: net.fit(given.X, given.y, epochs=1, batch_size=work.batch, shuffle=False)


def pytorch(work: Workload, given: Problem, extra: str) -> Callable[[], None]:
    """The same epoch in PyTorch; its penalty includes the biases."""
    import torch
    from torch import nn

    parts: list[Any] = []
    for inputs, units in pairwise(work.sizes[:-1]):
        parts.append(nn.Linear(inputs, units))
        if extra == "batch normalization":
            parts.append(nn.BatchNorm1d(units))
        elif extra == "layer normalization":
            parts.append(nn.LayerNorm(units))
        parts.append(nn.ReLU())
        if extra == "dropout":
            parts.append(nn.Dropout(DROPOUT))
    net = nn.Sequential(*parts, nn.Linear(*work.sizes[-2:]))
    penalty = L2 if extra == "l2 penalty" else 0.0
    rule = torch.optim.SGD(net.parameters(), work.rate, weight_decay=penalty, fused=True)
    loss = nn.CrossEntropyLoss()
    X, y = torch.from_numpy(given.X), torch.from_numpy(given.y)

    def epoch() -> None:
        for begin in range(0, len(X), work.batch):
            rule.zero_grad(set_to_none=True)
            loss(net(X[begin : begin + work.batch]), y[begin : begin + work.batch]).backward()
            if extra == "clipped norm":
                nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            rule.step()

    return epoch


BUILDERS = {OURS: ours, EAGER: pytorch}


def measured(work: Workload, names: list[str], pace: Pace) -> dict[str, dict[str, float]]:
    """Each contestant's microseconds an update with each extra, medians."""
    given = problem(work)
    runs = {
        f"{name}: {extra}": BUILDERS[name](work, given, extra) for extra in EXTRAS for name in names
    }
    times = in_turn(runs, pace)
    micro = {key: statistics.median(seconds) / work.steps * 1e6 for key, seconds in times.items()}
    return {name: {extra: micro[f"{name}: {extra}"] for extra in EXTRAS} for name in names}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=9, help="of an epoch, medians are taken")
    options.add_argument("--without", nargs="*", default=[], help="names of peers")
    arguments = options.parse_args()
    names = [n for n in installed() if n in BUILDERS and n not in arguments.without]
    pace = Pace(0, arguments.repeats, 2 * arguments.repeats, probe=Probe())
    works = {work.name: work for work in NETWORKS}
    if arguments.quick:
        pace = BRIEF
        works = {name: work._replace(steps=2) for name, work in works.items()}
    record = Cases("extras", arguments, {"repeats": arguments.repeats})
    for name in record.wanted(works):
        found = measured(works[name], names, pace)
        record.add(name, {**describe(works[name]), "plain": PLAIN, "microseconds": found})
        for extra in EXTRAS:
            micro = {who: times[extra] for who, times in found.items()}
            print(f"{name}, {extra}: {times_of({'microseconds': micro})}", flush=True)


if __name__ == "__main__":
    main()

"""Numba kernels for the CPU: the reference's vocabulary and steps, compiled.

`jit` collects kernels, `native` and `compiling` compile them, `objects` keeps and links them;
`intrinsics` and `tiles` are the machine, `elementary` the functions; activations, losses, updates,
normalization, random and products are the vocabulary; `plan` lays a network out in memory,
`forward_rows` and `backward_rows` work on rows, `steps` runs the phases of a batch on a `team` of
threads; `crew` has those threads, `company` knows whether they pay.
"""

from .activations import ACTIVATIONS
from .losses import LOGIT_LOSSES, LOSSES
from .normalization import NORMALIZATIONS
from .plan import Plan, make_plan
from .rows import GATHERED
from .steps import backprop, forward, predict_few, row_losses, train_steps, update
from .updates import UPDATES

NAME = "numba"
DOUBTS_LABELS = True

__all__ = [
    "ACTIVATIONS",
    "DOUBTS_LABELS",
    "GATHERED",
    "LOGIT_LOSSES",
    "LOSSES",
    "NAME",
    "NORMALIZATIONS",
    "UPDATES",
    "Plan",
    "backprop",
    "forward",
    "make_plan",
    "predict_few",
    "row_losses",
    "train_steps",
    "update",
]

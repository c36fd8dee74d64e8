"""CuPy and CUDA kernels for NVIDIA GPUs: the reference's vocabulary and steps, on the device.

The device code lies in ``cuda/``; `launch` joins it to a module for each precision and starts its
kernels. activations, losses, updates, normalization, random and products are the vocabulary; `plan`
holds a network on the device, `programs` lists the launches of its passes, `rows` brings data
there, `steps` runs the programs. `tiers` chooses how: with `gemm`'s products launch by launch, or
with `cublaslt`'s in the graphs of `graphs`.
"""

from . import incoming
from .activations import ACTIVATIONS
from .losses import LOGIT_LOSSES, LOSSES
from .normalization import NORMALIZATIONS
from .plan import Plan, make_plan
from .rows import GATHERED
from .steps import backprop, forward, row_losses, train_steps, update
from .tiers import chosen as chosen_way
from .updates import UPDATES

NAME = "cupy"
predict_few = None
DOUBTS_LABELS = False

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
    "chosen_way",
    "forward",
    "incoming",
    "make_plan",
    "predict_few",
    "row_losses",
    "train_steps",
    "update",
]

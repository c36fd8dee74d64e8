"""NumPy kernels: the reference, where every formula, shape and mutation is documented.

The other backends have the same files and the same names. Kernels take destinations first, then
sources, then scalars; what stands before the first source is overwritten, and nothing else is.
"""

from .activations import ACTIVATION_CONSTANTS, ACTIVATIONS, PROPERTIES, Properties
from .losses import DOMAINS, LINKS, LOGIT_LOSSES, LOSS_CONSTANTS, LOSSES, TARGETS
from .normalization import NORMALIZATIONS
from .plan import Plan, make_plan
from .steps import backprop, forward, row_losses, train_steps, update
from .updates import UPDATES

NAME = "numpy"
predict_few = None
DOUBTS_LABELS = False
GATHERED = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64"),
)

__all__ = [
    "ACTIVATIONS",
    "ACTIVATION_CONSTANTS",
    "DOMAINS",
    "DOUBTS_LABELS",
    "GATHERED",
    "LINKS",
    "LOGIT_LOSSES",
    "LOSSES",
    "LOSS_CONSTANTS",
    "NAME",
    "NORMALIZATIONS",
    "PROPERTIES",
    "TARGETS",
    "UPDATES",
    "Plan",
    "Properties",
    "backprop",
    "forward",
    "make_plan",
    "predict_few",
    "row_losses",
    "train_steps",
    "update",
]

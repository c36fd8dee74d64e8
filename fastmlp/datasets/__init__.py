"""Data to learn from: digits that ship inside, MNIST, IDX, CSV and NPZ files, and scaling.

Uses NumPy alone; scikit-learn only to download, where it is installed.
"""

from __future__ import annotations

from .digits import Rows, load_digits
from .idx import read_idx, write_idx
from .images import Split, load_fashion_mnist, load_mnist
from .scaling import SCALINGS, Standardize
from .tables import Table, load_csv, load_npz

__all__ = [
    "SCALINGS",
    "Rows",
    "Split",
    "Standardize",
    "Table",
    "load_csv",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "load_npz",
    "read_idx",
    "write_idx",
]

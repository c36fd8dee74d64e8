"""Makes fastmlp/datasets/digits.npz from scikit-learn's copy of the digits."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

if __name__ == "__main__":
    digits = load_digits()
    path = Path(__file__).parents[1] / "fastmlp" / "datasets" / "digits.npz"
    np.savez_compressed(path, X=digits.data.astype(np.uint8), y=digits.target.astype(np.uint8))
    print(f"{path}: {path.stat().st_size} bytes")

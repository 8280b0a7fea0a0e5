"""Write tests/golden/networks/*.npz: torch's training step of whole networks, in float64, for test_networks.py.

python tests/golden/make_networks.py        (with fastnn, torch and pytest installed)
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_networks import GOLDEN, NETWORKS, digest, their_step

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, training in product(NETWORKS, (True, False)):
        mode = "train" if training else "eval"
        np.savez_compressed(GOLDEN / f"{name}.{mode}.npz", **digest(their_step(name, np.dtype(np.float64), training)))

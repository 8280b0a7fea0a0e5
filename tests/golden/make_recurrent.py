"""Write tests/golden/layers/recurrent.npz: what torch's recurrent layers compute, in float64, for test_nn_recurrent.py.

python tests/golden/make_recurrent.py        (with fastnn and torch installed)
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recurrent_support import GOLDEN, GOLDEN_FILE, arrays_of, layer_of, run

if __name__ == "__main__":
    content = {}
    for i, (cell, options, batch, given) in enumerate(GOLDEN):
        layer = layer_of(torch.nn, cell, options)
        results = run(layer, lambda a: torch.tensor(a, requires_grad=True), arrays_of(layer, batch, given))
        content[str(i)] = np.concatenate([x.ravel() for x in results.values()])
    GOLDEN_FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN_FILE, **content)

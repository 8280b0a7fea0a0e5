"""Write tests/golden/networks/networks.npz: what PyTorch computes in float64 of the networks of tests/test_networks.py.

    python tests/golden/networks/make.py        (with fastnn and torch installed)

Weights and inputs are drawn anew from the names, so that only results are stored: "<net>.<mode>.y", and
"<net>.<mode>.grads", of each parameter's gradient, in their order, the norm and the product with numbers drawn.
"""

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from test_networks import MODES, NETS, drawn, drawn_state, traces  # noqa: E402

content = {}
for name, (make, shape) in NETS.items():
    for mode, training in MODES.items():
        model = make(torch.nn).double().train(training)
        state = drawn_state({key: x.numpy() for key, x in model.state_dict().items()})
        model.load_state_dict({key: torch.from_numpy(x) for key, x in state.items()})
        y = model(torch.from_numpy(drawn("input", shape)))
        torch.nn.CrossEntropyLoss()(y, torch.arange(shape[0])).backward()
        content[f"{name}.{mode}.y"] = y.detach().numpy()
        content[f"{name}.{mode}.grads"] = traces({key: p.grad.numpy() for key, p in model.named_parameters()})
np.savez_compressed(HERE / "networks.npz", **content)

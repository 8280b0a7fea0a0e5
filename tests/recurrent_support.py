"""Recurrent layers of fastnn.nn and of torch.nn, run by the same lines."""

from pathlib import Path

import numpy as np
from networks import drawn
from nn_support import close, flat

from fastnn import Tensor, nn

CELLS = {
    "tanh": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "projected": ("LSTM", {"proj_size": 2}),
}
"""Name of the class, and options."""

D, H, T, N = 3, 5, 4, 6

GOLDEN = [
    ("tanh", {"bidirectional": True}, True, True),
    ("relu", {"bias": False, "batch_first": True}, True, False),
    ("gru", {"num_layers": 2, "batch_first": True}, True, True),
    ("gru", {"bidirectional": True}, False, True),
    ("lstm", {}, True, True),
    ("lstm", {"bias": False}, False, False),
    ("projected", {"num_layers": 2, "bidirectional": True}, True, True),
]
"""Cell, options, a batch?, states given?; see tests/golden/make_recurrent.py."""

GOLDEN_FILE = Path(__file__).parent / "golden" / "layers" / "recurrent.npz"
"""Of each of them, all that `run` found, in one row."""


def leaf(array):
    """One of fastnn's, for `run`."""
    return Tensor(array.copy(), True)


def layer_of(module, cell, options, dtype=np.float64):
    """The layer of fastnn.nn or torch.nn, with the parameters that their names determine: below 1 / √(D + H)."""
    name, more = CELLS[cell]
    layer = getattr(module, name)(D, H, **more, **options)
    layer = layer.to(dtype) if module is nn else layer.double()
    for key, p in layer.named_parameters():
        value = drawn(key, tuple(p.shape), dtype) / 8**0.5
        p.data[...] = value if module is nn else p.data.new_tensor(value)
    return layer


def arrays_of(layer, batch=True, given=True, dtype=np.float64):
    """The input, and the states if they are given."""
    n = (N,) if batch else ()
    shape = (T, *n, D) if not batch or not layer.batch_first else (*n, T, D)
    k = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or H] + [H] * ("LSTM" in type(layer).__name__)
    states = [drawn(f"state {i}", (k, *n, size), dtype) for i, size in enumerate(sizes)]
    return [drawn("x", shape, dtype), *(states if given else ())]


def run(layer, leaf, arrays, call=None):
    """What call(layer, x, hx), by default layer(x, hx), returns, and the gradients of a sum with random weights, by
    name."""
    x, *states = map(leaf, arrays)
    hx = None if not states else states[0] if len(states) == 1 else tuple(states)
    results = flat(call(layer, x, hx) if call else layer(x, hx))
    sum((y * leaf(drawn(f"dy {i}", tuple(y.shape), arrays[0].dtype))).sum() for i, y in enumerate(results)).backward()
    found = {f"result {i}": y.detach().numpy() for i, y in enumerate(results)}
    found |= {f"gradient of argument {i}": np.asarray(a.grad) for i, a in enumerate((x, *states))}
    found |= {f"gradient of {key}": np.asarray(p.grad) for key, p in layer.named_parameters()}
    for p in layer.parameters():
        p.grad = None
    return found


def same(got, want, dtype=np.float64, note=""):
    """A chain through both layers and all times, each a sum of D + H products and 20 operations; gradients of weights
    then sum T N of that."""
    assert list(got) == list(want)
    for key, value in want.items():
        assert np.isfinite(value).all(), key
        close(got[key], value.astype(dtype), dtype, f"{key} {note}", 2 * T * (D + H + 20) + T * N)

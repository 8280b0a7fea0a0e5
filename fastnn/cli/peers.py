"""Other libraries to measure against, imported only when they are used.

A peer is a class with `version`; `backward_means`, which says what its backward times; `threads(n)`, a context that
limits it to n threads; `entry`, which turns arrays into the library's own and gives the call to time of the function
that the spec holds for it; and `arrays`, which turns results back. A further library is a class here, its name in
PEERS, and a function under that name in the specs' `peers`.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

from fastnn.measure import Entry
from fastnn.registry import as_tuple


class Torch:
    """PyTorch: forward under inference_mode, backward as autograd.grad on a kept graph."""

    backward_means = "torch.autograd.grad on a kept graph, with its bookkeeping"

    def __init__(self):
        import torch

        self.torch = torch
        self.version = torch.__version__

    @contextmanager
    def threads(self, n):
        """Limit it to n threads."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(n)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)

    def tensors(self, arrays, grads=()):
        """Tensors on copies of the arrays, those named in grads with requires_grad."""
        return {
            name: self.torch.from_numpy(x.copy()).requires_grad_(name in grads) if isinstance(x, np.ndarray) else x
            for name, x in arrays.items()
        }

    def entry(self, spec, direction, arrays, options, dy):
        """The forward pass, or the backward pass at gradients dy, ready to time."""
        tensors, f = self.tensors(arrays, spec.grads if direction == "backward" else ()), spec.peers["torch"]
        if direction == "forward":
            return Entry(lambda: f(self.torch, **tensors, **options), self.torch.inference_mode)
        outputs = as_tuple(f(self.torch, **tensors, **options))[: spec.outputs]
        inputs = [tensors[name] for name in spec.grads if tensors.get(name) is not None]
        grads = self.tensors(dict(enumerate(as_tuple(dy)))).values()
        return Entry(lambda: self.torch.autograd.grad(outputs, inputs, grads, retain_graph=True))

    def arrays(self, results):
        """Outputs or gradients as NumPy arrays."""
        return tuple(y.detach().numpy() for y in as_tuple(results))


PEERS = {"torch": Torch}


def installed() -> list[str]:
    """Names of the peers that can be imported here."""
    return [name for name in PEERS if find_spec(name) is not None]

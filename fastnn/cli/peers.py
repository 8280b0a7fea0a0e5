"""Other libraries to measure against, imported only when they are used.

A peer is a class with `needs`, the packages it imports; `version`; `backward_means`, which says what its backward
times, empty if it has none; `prepared`, whether it packs or transforms weights before it is timed; `threads(n)`, a
context that limits it to n threads, within which `entry` turns arrays into the library's own and gives the call to
time, or None for what the library does not have; and `arrays`, which turns results back.

A further library is a class and its name in PEERS. What it computes for an operator is a function under its name in
the specs' `peers`, or, for engines that run models, a function that describes a model of that one operator
(`fastnn.cli.engines`).
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec

from fastnn.cli.engines import Engine, Ncnn, OnnxRuntime, OpenVino
from fastnn.measure import Entry
from fastnn.registry import as_tuple, flat, listed, map_arrays


class Torch:
    """PyTorch: forward under inference_mode, backward as autograd.grad on a kept graph."""

    needs = ("torch",)
    prepared = False
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
        tensors = map_arrays(lambda x: self.torch.from_numpy(x.copy()), arrays)
        for x in self.variables(tensors, grads):
            x.requires_grad_()
        return tensors

    def variables(self, tensors, grads):
        """Those named in grads, without absent ones."""
        return [x for x in flat({name: tensors.get(name) for name in grads}).values() if x is not None]

    def entry(self, spec, direction, arrays, options, dy):
        """The forward pass, or the backward pass at gradients dy, ready to time; None if the spec has no function."""
        f = spec.peers.get("torch")
        if f is None:
            return None
        tensors = self.tensors(arrays, spec.grads if direction == "backward" else ())
        if direction == "forward":
            return Entry(lambda: f(self.torch, **tensors, **options), self.torch.inference_mode)
        outputs = as_tuple(f(self.torch, **tensors, **options))[: spec.outputs]
        inputs = self.variables(tensors, spec.grads)
        grads = self.tensors(dict(enumerate(as_tuple(dy)))).values()
        return Entry(lambda: self.torch.autograd.grad(outputs, inputs, grads, retain_graph=True))

    def arrays(self, results):
        """Outputs or gradients as NumPy arrays."""
        return tuple(y.detach().numpy() for y in listed(results))


PEERS: dict[str, type[Torch] | type[Engine]] = {
    "torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino, "ncnn": Ncnn,
}  # fmt: skip


def installed() -> list[str]:
    """Names of the peers that can be imported here."""
    return [name for name, peer in PEERS.items() if all(find_spec(package) for package in peer.needs)]

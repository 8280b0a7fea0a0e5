"""What tests of fastnn.torch share."""

from math import inf

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from fastnn.torch.layers import STANDS, Conv, Linear  # noqa: E402

# Fixtures: `any_size, taken = pytest.fixture(every_size), pytest.fixture(noted_calls)` in a test file.


def every_size(monkeypatch):
    """Layers take calls of any size, also those that PyTorch is faster at."""
    for kind in STANDS.values():
        monkeypatch.setattr(kind, "least", (0, 0))
    monkeypatch.setattr(Conv, "wide", inf)
    monkeypatch.setattr(Linear, "least_rows", 0)


def noted_calls(any_size, monkeypatch):
    """A list that grows with each call of an accelerated layer, of any size: whether fastnn computed it."""
    calls = []

    def noting(forward, fast):
        def call(self, *args, **kwargs):
            took = []

            def noted(*args, **kwargs):
                result = fast(self, *args, **kwargs)
                took.append(result is not NotImplemented)
                return result

            vars(self)["fast"] = noted
            try:
                return forward(self, *args, **kwargs)
            finally:
                del vars(self)["fast"]
                calls.append(any(took))

        return call

    for kind in STANDS.values():
        monkeypatch.setattr(kind, "forward", noting(kind.forward, kind.fast))
    return calls


def leaves(value):
    """The tensors in nested tuples and lists."""
    if isinstance(value, tuple | list):
        return [x for each in value for x in leaves(each)]
    return [value]


def agree(got, want, terms=200):
    """Tensors, or nested tuples of them, are equal but for the rounding of sums of so many terms, each of the size of
    the largest result."""
    for g, w in zip(leaves(got), leaves(want), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if not w.numel():
            continue
        if not w.is_floating_point():
            assert torch.equal(g, w)
            continue
        bound = terms * torch.finfo(w.dtype).eps * max(w.abs().max().item(), 1e-30)
        error = (g - w).abs().max().item()
        assert error <= bound, f"differs by {error:.1e}, expected {bound:.1e} at most"


LAYERS = {
    "Conv1d": (nn.Conv1d, (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9)),
    "Conv1d same": (nn.Conv1d, (4, 6, 5), {"padding": "same", "bias": False}, (2, 4, 9)),
    "Conv2d": (nn.Conv2d, (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9, 7)),
    "Conv2d odd": (nn.Conv2d, (3, 5, (3, 5)), {"padding": "same", "dilation": (2, 1)}, (1, 3, 11, 8)),
    "Conv2d depthwise": (nn.Conv2d, (5, 5, 3), {"padding": (0, 1), "groups": 5, "bias": False}, (3, 5, 7, 6)),
    "ConvTranspose2d": (
        nn.ConvTranspose2d,
        (4, 6, 3),
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
        (2, 4, 5, 7),
    ),
    "Linear": (nn.Linear, (7, 5), {}, (2, 3, 7)),
    "Linear of one": (nn.Linear, (7, 5), {"bias": False}, (7,)),
    "BatchNorm1d": (nn.BatchNorm1d, (4,), {"momentum": None}, (5, 4)),
    "BatchNorm1d of rows": (nn.BatchNorm1d, (4,), {"momentum": 0.3}, (5, 4, 6)),
    "BatchNorm2d": (nn.BatchNorm2d, (4,), {"eps": 1e-3}, (3, 4, 5, 7)),
    "BatchNorm2d plain": (nn.BatchNorm2d, (4,), {"affine": False, "track_running_stats": False}, (3, 4, 5, 7)),
    "BatchNorm3d": (nn.BatchNorm3d, (4,), {}, (2, 4, 3, 5, 2)),
    "LayerNorm": (nn.LayerNorm, ((5, 6),), {}, (2, 3, 5, 6)),
    "LayerNorm plain": (nn.LayerNorm, (6,), {"elementwise_affine": False}, (4, 6)),
    "GroupNorm": (nn.GroupNorm, (2, 4), {}, (3, 4, 5, 7)),
    "MaxPool2d": (nn.MaxPool2d, (3, 2, 1), {"ceil_mode": True}, (2, 3, 9, 8)),
    "AvgPool2d": (nn.AvgPool2d, (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, (2, 3, 9, 8)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ((3, 1),), {}, (2, 3, 9, 8)),
    "AdaptiveAvgPool2d rows": (nn.AdaptiveAvgPool2d, ((None, 2),), {}, (2, 3, 5, 8)),
    "Sigmoid": (nn.Sigmoid, (), {}, (3, 17)),
    "Tanh": (nn.Tanh, (), {}, (3, 17)),
    "GELU": (nn.GELU, (), {}, (3, 17)),
    "GELU tanh": (nn.GELU, ("tanh",), {}, (3, 17)),
    "SiLU": (nn.SiLU, (), {}, (3, 17)),
    "RNN": (nn.RNN, (4, 5, 2), {"nonlinearity": "relu", "bidirectional": True}, (6, 3, 4)),
    "GRU": (nn.GRU, (4, 5, 2), {"batch_first": True}, (3, 6, 4)),
    "LSTM": (nn.LSTM, (4, 5, 2), {"bidirectional": True, "batch_first": True}, (3, 6, 4)),
    "LSTM projected": (nn.LSTM, (4, 5), {"proj_size": 3, "bias": False}, (6, 3, 4)),
}
"""Class, its arguments, and the shape of an input."""


def layer(name, dtype=torch.float32):
    """(a layer of PyTorch, an input): the same numbers whenever it is called."""
    kind, args, options, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(1)
    module = kind(*args, **options).to(dtype)
    with torch.no_grad():
        for x in [*module.parameters(), *module.buffers()]:
            if x.is_floating_point():
                x.copy_(torch.rand(x.shape, generator=generator, dtype=dtype) - 0.3)
                if x is getattr(module, "running_var", None):
                    x += 1
    return module, torch.randn(shape, generator=generator, dtype=dtype)

"""Models that PyTorch exported, in fastnn.onnx and in PyTorch."""

import io
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

import torch
from networks import drawn

from fastnn import onnx as fx


class Cnn(torch.nn.Module):
    """A residual block, a depthwise convolution, ReLU6, pooling of every kind, sizes taken from the input."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish())
        self.last = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.pool = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2))
        self.out = nn.Linear(4, 5)

    def forward(self, x):
        x = self.first(x)
        x = torch.relu(self.last(self.deep(x)) + x)
        x = torch.nn.functional.interpolate(self.pool(self.up(x)), scale_factor=2, mode="nearest")
        return torch.softmax(self.out(x.mean((2, 3)).view(x.shape[0], -1)), 1)


class Recurrent(torch.nn.Module):
    """Two directions, two layers, batch first, initial states of the input's size."""

    def __init__(self, kind):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.rnn = getattr(torch.nn, kind)(6, 7, 2, bidirectional=True, batch_first=True)
        self.out = torch.nn.Linear(14, 3)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x))
        return self.out(torch.tanh(y))


class Attention(torch.nn.Module):
    """A transformer's block, written out."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(n, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) / 3**0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norms[1](x))


def exported(module, x):
    """The bytes of a model with any batch; the exporter's own warnings are not ours."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), data, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "N"}},
        )  # fmt: skip
    return data.getvalue()


def image(n):
    return torch.from_numpy(drawn("image", (n, 3, 22, 18), np.float32))


def words(n):
    return torch.arange(n * 9).reshape(n, 9) * 7 % 11


def vectors(n):
    return torch.from_numpy(drawn("vectors", (n, 6, 12), np.float32))


MODULES = {
    "cnn": (Cnn, image),
    "lstm": (lambda: Recurrent("LSTM"), words),
    "gru": (lambda: Recurrent("GRU"), words),
    "rnn": (lambda: Recurrent("RNN"), words),
    "attention": (Attention, vectors),
}


@pytest.mark.parametrize("name", MODULES)
def test_exported_models(name):
    make, inputs = MODULES[name]
    torch.manual_seed(1)
    module = make().eval()
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
    data = exported(module, inputs(2))
    models = fx.load(data), fx.load(data, optimize=False)
    for n in (2, 3, 1, 2):
        x = inputs(n)
        with torch.no_grad():
            want = module(x).numpy()
        for model in models:
            # results around 1 of float32 sums of at most 100 products, in fewer than ten layers
            np.testing.assert_allclose(model(x.numpy()), want, rtol=1e-5, atol=1e-5)

"""Whole networks, written once for torch.nn and fastnn.nn: results, gradients and statistics agree."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from nets import lenet, resnet18, vgg  # noqa: E402

SMALL = (16, "M", 24, 32, "M")
NETS = {
    "lenet": (lenet, (4, 1, 28, 28)),
    "vgg": (partial(vgg, filters=SMALL, hidden=32, grid=4, num_classes=10), (4, 3, 16, 16)),
    "vgg with norm": (partial(vgg, filters=SMALL, norm=True, hidden=32, grid=4, num_classes=10), (4, 3, 16, 16)),
    "resnet18": (partial(resnet18, num_classes=10, width=32), (4, 3, 64, 64)),
}
LIMITS = {"float32": 1e-4, "float64": 1e-10}
"""Norm of the difference over the norm, of results and of the gradient of each parameter."""


@pytest.fixture(params=NETS)
def net(request):
    """(function of nn, a batch in float64, its labels)"""
    make, shape = NETS[request.param]
    rng = np.random.default_rng(5)
    return make, rng.standard_normal(shape), rng.integers(0, 10, shape[0])


def distance(x, y):
    """Norm of the difference, relative to that of y."""
    return np.linalg.norm(np.float64(x) - y) / np.linalg.norm(np.float64(y))


def through_file(state, path):
    """A state_dict of torch as fastnn reads it."""
    pytest.importorskip("safetensors.torch").save_file(state, path)
    return fastnn.load(path)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_agrees_with_torch(net, dtype, training, tmp_path):
    torch = pytest.importorskip("torch")
    make, x, labels = net
    x, limit = x.astype(dtype), LIMITS[str(dtype)]
    torch.manual_seed(7)
    theirs = make(torch.nn).to(getattr(torch, str(dtype)))
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # what training may have led to
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    ours = make(nn).to(dtype)
    ours.load_state_dict(through_file(theirs.state_dict(), tmp_path / "weights.safetensors"))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.train(training)
    theirs.train(training)

    y, t = ours(fastnn.Tensor(x)), theirs(torch.from_numpy(x))
    assert distance(y.data, t.detach().numpy()) <= limit
    nn.CrossEntropyLoss()(y, labels).backward()
    torch.nn.CrossEntropyLoss()(t, torch.from_numpy(labels)).backward()
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    grads = {name: p.grad for name, p in ours.named_parameters()}
    assert list(grads) == list(expected)
    # In training, a batch norm's mean cancels the gradient of a bias in front of it: what is left is rounding.
    cancelled = [] if not training else [
        f"features.{i}.bias" for i, module in enumerate(getattr(theirs, "features", [])[:-1])
        if isinstance(theirs.features[i + 1], torch.nn.BatchNorm2d)
    ]  # fmt: skip
    for name, g in expected.items():
        if name in cancelled:
            scale = np.linalg.norm(expected[name.replace("bias", "weight")])
            assert np.linalg.norm(np.float64(grads[name]) - g) <= limit * scale, name
        else:
            assert distance(grads[name], g) <= limit, name

    for library, model in (optim, ours), (torch.optim, theirs):
        library.SGD(model.parameters(), lr=0.01, momentum=0.9).step()
    for name, s in theirs.state_dict().items():
        assert distance(ours.state_dict()[name], s.numpy()) <= limit if s.numpy().any() else True, name

"""Whole networks, written once for torch.nn and fastnn.nn: results, gradients and statistics agree."""

import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS / "golden" / "networks" / "networks.npz"
sys.path.insert(0, str(TESTS.parent / "bench"))

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

MODES = {"eval": False, "train": True}


def drawn(name, shape):
    """Uniform in ±1/2, a function of the name: Philox's raw numbers, which no version of NumPy may change."""
    raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)) * 2.0**-53 - 0.5).reshape(shape)


def drawn_state(state):
    """Numbers for a state_dict: filters as He et al. (2015) draw them, scales and variances about 1."""
    found = {}
    for name, x in state.items():
        u = drawn(name, x.shape)
        if x.dtype.kind == "i":
            found[name] = np.full_like(x, 3)
        elif x.ndim > 1:
            found[name] = u * np.sqrt(24 / np.prod(x.shape[1:]))
        else:
            found[name] = u + (1 if name.endswith(("running_var", "weight")) else 0)
    return found


def traces(grads):
    """Of each gradient the norm, and the product with numbers drawn."""
    return np.array([(np.linalg.norm(g), np.vdot(g, drawn(f"{name}'", g.shape))) for name, g in grads.items()])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_agrees_with_golden_values(name, mode, dtype):
    make, shape = NETS[name]
    limit = LIMITS[str(dtype)]
    model = make(nn).to(dtype).train(MODES[mode])
    model.load_state_dict(drawn_state(model.state_dict()))
    y = model(fastnn.Tensor(drawn("input", shape).astype(dtype)))
    nn.CrossEntropyLoss()(y, np.arange(shape[0])).backward()
    grads = {key: np.float64(p.grad) for key, p in model.named_parameters()}
    with np.load(GOLDEN, allow_pickle=False) as content:
        expected, norms = content[f"{name}.{mode}.y"], content[f"{name}.{mode}.grads"]
    assert distance(y.data, expected) <= limit
    largest = {key: norm for key, (norm, _) in zip(grads, norms, strict=True)}
    for (key, g), got, want in zip(grads.items(), traces(grads), norms, strict=True):
        if want[0] < 1e-9:  # a bias before a batch norm, whose mean cancels its gradient: see below
            want = np.zeros(2)
        scale = want[0] or largest[key.replace("bias", "weight")]
        assert abs(got[0] - want[0]) <= limit * scale, key
        assert abs(got[1] - want[1]) <= limit * scale * np.linalg.norm(drawn(f"{key}'", g.shape)), key


def test_golden_values_are_small():
    assert GOLDEN.stat().st_size < 30_000


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
    after = ours.state_dict()
    for name, s in theirs.state_dict().items():
        assert np.linalg.norm(np.float64(after[name]) - s.numpy()) <= limit * np.linalg.norm(s.numpy()), name

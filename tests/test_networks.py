"""Whole networks against torch: the same lines build them, the same file holds their weights.

Results agree by the norm of their difference, for single numbers of a deep network's gradients say little. Without
torch, norms and random projections of its results are compared (tests/golden/make_networks.py).
"""

from functools import partial
from pathlib import Path

import networks
import numpy as np
import pytest

import fastnn
from fastnn import Tensor, nn

SMALL_VGG = partial(networks.vgg, stages=((8, 1), (16, 2)), size=16, hidden=32, classes=10, dropout=0)
NETWORKS = {
    "lenet": (networks.lenet, (4, 1, 28, 28)),
    "vgg": (SMALL_VGG, (4, 3, 16, 16)),
    "vgg_bn": (partial(SMALL_VGG, norm=True), (4, 3, 16, 16)),
    "resnet18": (partial(networks.resnet18, classes=10), (4, 3, 64, 64)),
    "resnet18_elu": (partial(networks.resnet18, classes=10, activation="ELU"), (4, 3, 64, 64)),
}
"""Function of nn, and shape of the images. Nothing is random in a training step: no dropout."""

JUMPS = {("resnet18", np.dtype(np.float32))}
"""Networks whose gradients jump between roundings: of the million numbers that reach ResNet-18's ReLUs some are so near
zero that noise of 1e-6 of the largest one, in torch's own convolutions in float64, changes the gradients by 1 to 3 %.
Their gradients are compared in float64; in float32 those of the same network with ELU, whose slope is continuous."""

TOLERANCE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}
"""Of a difference's norm, relative to the norm of what torch computes."""

GOLDEN = Path(__file__).parent / "golden" / "networks"

each_network = pytest.mark.parametrize("name", NETWORKS)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def batch(name, dtype):
    """Images and their classes."""
    shape = NETWORKS[name][1]
    return networks.drawn("images", shape, dtype), np.arange(shape[0]) * 3 % 10


def shapes_of(state_dict):
    return {name: tuple(value.shape) for name, value in state_dict.items()}


def step(nn, model, images, classes, training):
    """Forward and backward of the cross-entropy. Arrays by name: logits, loss, gradients, and buffers afterwards."""
    model.train(training)
    logits = model(images)
    loss = nn.CrossEntropyLoss()(logits, classes)
    loss.backward()
    results = {"logits": logits.detach(), "loss": loss.detach()}
    results |= {f"grad {name}": p.grad for name, p in model.named_parameters()}
    results |= {f"buffer {name}": value for name, value in model.named_buffers()}
    return {name: x if isinstance(x, np.ndarray) else x.numpy() for name, x in results.items()}


def our_step(model, name, dtype, training):
    images, classes = batch(name, dtype)
    return step(nn, model, Tensor(images), classes, training)


def their_step(name, dtype, training, path=None):
    """torch's results. Its state_dict before the step is written to a path, by the package safetensors."""
    import torch

    model = NETWORKS[name][0](torch.nn).to(getattr(torch, dtype.name))
    values = networks.parameters(shapes_of(model.state_dict()), dtype)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})
    if path:
        pytest.importorskip("safetensors.torch").save_file(model.state_dict(), path)
    return step(torch.nn, model, *map(torch.from_numpy, batch(name, dtype)), training)


@each_network
@each_mode
def test_agrees_with_torch(name, training, dtype, tmp_path):
    pytest.importorskip("torch")
    want = their_step(name, dtype, training, tmp_path / "weights.safetensors")
    model = NETWORKS[name][0](nn).to(dtype)
    model.load_state_dict(fastnn.load(tmp_path / "weights.safetensors"))
    got = our_step(model, name, dtype, training)
    assert list(got) == list(want)
    for key, value in want.items():
        assert got[key].shape == value.shape and got[key].dtype == value.dtype, key
        if compared(name, dtype, key):
            assert np.linalg.norm(got[key] - value) <= TOLERANCE[dtype] * np.linalg.norm(value), key


def compared(name, dtype, key):
    return (name, dtype) not in JUMPS or not key.startswith("grad ")


def digest(results):
    """What stands for the results: the logits and the loss, and of all else two numbers, norm and projection."""
    stored = {key: results.pop(key) for key in ("logits", "loss")}
    rows = [[np.linalg.norm(x), np.vdot(networks.drawn(key, x.shape, np.float64), x)] for key, x in results.items()]
    return stored | {"names": np.array(list(results)), "digests": np.array(rows)}


@each_network
@each_mode
def test_agrees_with_golden_values(name, training, dtype):
    """The error's product with a vector of independent numbers from [-1, 1) has the error's norm as a deviation, less
    a factor of the root of 3: five of these deviations are allowed."""
    model = NETWORKS[name][0](nn).to(dtype)
    model.load_state_dict(networks.parameters(shapes_of(model.state_dict()), dtype))
    got = digest(our_step(model, name, dtype, training))
    tolerance = TOLERANCE[dtype]
    with np.load(GOLDEN / f"{name}.{'train' if training else 'eval'}.npz") as want:
        for key in ("logits", "loss"):
            assert np.linalg.norm(got[key] - want[key]) <= tolerance * np.linalg.norm(want[key]), key
        assert list(got["names"]) == list(want["names"])
        scale = want["digests"][:, 0]
        error = np.abs(got["digests"] - want["digests"])
        wrong = (error[:, 0] > tolerance * scale) | (error[:, 1] > 5 * 3**-0.5 * tolerance * scale)
        assert [key for key in want["names"][wrong] if compared(name, dtype, key)] == []


def test_golden_values_are_complete_and_small():
    """`python tests/golden/make_networks.py` after adding a network."""
    files = sorted(GOLDEN.glob("*.npz"))
    assert {path.stem for path in files} == {f"{name}.{mode}" for name in NETWORKS for mode in ("train", "eval")}
    assert max(path.stat().st_size for path in files) < 30_000

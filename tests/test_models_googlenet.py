"""GoogLeNet and its Inception modules in all forms."""

import numpy as np
import pytest
from demo_support import demonstrate

from fastnn import Tensor, models, nn
from fastnn import functional as F


def x_of(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def count(module):
    return sum(p.size for p in module.parameters())


def test_parameters():
    """The paper's form; that with batch norm is in test_models_torchvision."""
    model = nn.utils.skip_init(models.googlenet)
    assert count(model) == 6_998_552
    assert [*model.state_dict()][:4] == ["conv1.conv.weight", "conv1.conv.bias", "conv2.conv.weight", "conv2.conv.bias"]


def test_parameters_of_a_module():
    """3a; the paper's table 1 has 159K, of 1024, by weights: 163,328."""
    module = models.Inception(192, 64, 96, 128, 16, 32, 32)
    reductions = (64 + 96 + 16 + 32) * (192 + 1)
    assert count(module) == reductions + 128 * (9 * 96 + 1) + 32 * (25 * 16 + 1)
    assert sum(p.size for p in module.parameters() if p.ndim == 4) == 163_328


def test_inception():
    """Four branches, by their equations."""
    module, x = models.Inception(6, 5, 4, 3, 2, 7, 8), x_of(2, 6, 9, 9)
    state = {name: Tensor(value) for name, value in module.state_dict().items()}

    def convolved(x, name, padding=0):
        weight, bias = (state[f"{name}.conv.{kind}"] for kind in ("weight", "bias"))
        return F.relu(F.conv2d(x, weight, bias, padding=padding))

    image = Tensor(x)
    want = [
        convolved(image, "branch1"),
        convolved(convolved(image, "branch2.0"), "branch2.1", 1),
        convolved(convolved(image, "branch3.0"), "branch3.1", 2),
        convolved(F.max_pool2d(image, 3, 1, 1), "branch4.1"),
    ]
    assert state["branch3.1.conv.weight"].shape == (7, 2, 5, 5)
    assert module.out_channels == 5 + 3 + 7 + 8
    np.testing.assert_allclose(module(x), F.cat(want, 1).numpy(), rtol=1e-5, atol=1e-5)


def test_inception_with_batch_norm():
    """torchvision's: 3 × 3 in the third branch, no biases."""
    module = models.Inception(6, 5, 4, 3, 2, 7, 8, batch_norm=True)
    names = [*module.state_dict()]
    assert module.branch3[1].conv.weight.shape == (7, 2, 3, 3)
    assert "branch1.bn.running_var" in names and "branch1.conv.bias" not in names
    assert module(x_of(2, 6, 9, 9)).shape == (2, 23, 9, 9)


def test_naive_inception():
    """Channels are 1 × 1's, 3 × 3's, 5 × 5's, and all of the input, pooled."""
    module, x = models.NaiveInception(6, 5, 3, 7), x_of(2, 6, 9, 9)
    y = module(x)
    assert y.shape == (2, 5 + 3 + 7 + 6, 9, 9)
    np.testing.assert_array_equal(y[:, -6:], nn.MaxPool2d(3, 1, 1)(x))
    assert count(module) == 5 * (6 + 1) + 3 * (9 * 6 + 1) + 7 * (25 * 6 + 1)
    normalised = models.NaiveInception(6, 5, 3, 7, batch_norm=True)
    assert normalised(x).shape == y.shape
    assert count(normalised) == 5 * (6 + 2) + 3 * (9 * 6 + 2) + 7 * (25 * 6 + 2)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_auxiliary_classifiers(batch_norm):
    """In training there are three results, whose gradients reach the first layer; in evaluation one."""
    model = models.googlenet(7, batch_norm=batch_norm, aux_logits=True, in_channels=1, width=0.125, input_size=28)
    x = x_of(2, 1, 28, 28)
    assert model.eval()(x).shape == (2, 7)
    assert all(isinstance(y, np.ndarray) for y in model.train()(x))
    for i in range(3):
        outputs = model.train()(Tensor(x))
        assert isinstance(outputs, models.GoogLeNetOutputs)
        model.zero_grad()
        assert outputs[i].shape == (2, 7)
        F.cross_entropy(outputs[i], np.array([0, 6])).backward()
        assert np.abs(model.conv1.conv.weight.grad).max() > 0
        assert (model.aux1.fc1.weight.grad is not None) == (i == 2)
        assert (model.aux2.fc1.weight.grad is not None) == (i == 1)


def test_published_weights_without_auxiliary_classifiers():
    """torchvision's published file has them; strict=False leaves them out."""
    narrow = {"batch_norm": True, "width": 0.0625, "num_classes": 5}
    published = models.googlenet(aux_logits=True, **narrow).state_dict()
    model = models.googlenet(**narrow)
    with pytest.raises(ValueError, match="aux1"):
        model.load_state_dict(published)
    model.load_state_dict(published, strict=False)
    assert all(np.array_equal(value, published[name]) for name, value in model.state_dict().items())


def test_demonstration():
    """Ten classes: chance is 10 %."""
    result = demonstrate("googlenet")
    assert result.measures["accuracy"] >= 0.4
    assert result.measures["parameters"] == 6_998_552
    assert result.measures["naive"] > 3 * result.measures["reduced"]

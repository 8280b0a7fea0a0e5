"""ResNet: both forms of blocks by their equations, shortcuts, small networks, and that plain depth does not pay."""

import numpy as np
import pytest
from demo_support import demonstrate

from fastnn import Tensor, models, nn
from fastnn import functional as F
from fastnn.models.resnet import ZeroShortcut

BLOCKS = [models.BasicBlock, models.Bottleneck, models.PreActBlock, models.PreActBottleneck]


def x_of(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def count(module):
    return sum(p.size for p in module.parameters())


def branch(block, x):
    """(F(x), what the shortcut of another shape sees), operator by operator."""
    a = x
    for i in (1, 2, 3)[: 2 + hasattr(block, "conv3")]:
        conv, norm = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")
        if block.preact:
            x = F.relu(norm(x))
            a = x if i == 1 else a
            x = conv(x)
        else:
            x = norm(conv(x if i == 1 else F.relu(x)))
    return x, a


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks(block, residual, stride):
    """Original: ReLU(x + F(x)); revised: x + F(x); where the shape changes, what the shortcut makes of x, or of
    ReLU(BN(x)), in place of x."""
    out = 3 * block.expansion
    shortcut = None if stride == 1 else nn.Conv2d(out, out, 1, stride)
    module = block(out, 3, stride, shortcut, residual=residual).eval()
    rng = np.random.default_rng(1)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in norm.weight.data, norm.bias.data, norm.running_mean:
            values[...] = rng.uniform(0.5, 1.5, values.shape)
    x = Tensor(x_of(2, out, 7, 7))
    y, a = branch(module, x)
    if residual:
        y = y + (x if shortcut is None else shortcut(a))
    want = y if module.preact else F.relu(y)
    found = module(x)
    assert found.shape == (2, out, 7, 7) if stride == 1 else (2, out, 4, 4)
    np.testing.assert_allclose(found.data, want.data, rtol=1e-5, atol=1e-5)
    assert (found.data < 0).any() == module.preact


@pytest.mark.parametrize("block", BLOCKS[2:])
def test_revised_blocks_pass_on_what_they_get(block):
    """With weights of zero, x itself comes out, negative numbers too, and gradients pass unchanged."""
    module, x = block(8, 8 // block.expansion), Tensor(x_of(2, 8, 5, 5), True)
    for name in ("conv1", "conv2"):
        getattr(module, name).weight.data.fill(0)
    if hasattr(module, "conv3"):
        module.conv3.weight.data.fill(0)
    y = module(x)
    np.testing.assert_array_equal(y.data, x.data)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones_like(x.grad))


def test_zero_shortcut():
    x = x_of(2, 3, 5, 5)
    y = ZeroShortcut(2, 2)(x)
    assert y.shape == (2, 5, 3, 3)
    np.testing.assert_array_equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize("make", [models.resnet18, models.resnet50])
def test_preact(make):
    """Norms before convolutions: as many convolutions, of the same shapes, as with the original blocks."""
    options = {"width": 0.125, "num_classes": 5}
    original, revised = make(**options), make(preact=True, **options)
    convolutions = [
        [m.weight.shape for m in model.modules() if isinstance(m, nn.Conv2d)] for model in (original, revised)
    ]
    assert convolutions[0] == convolutions[1]
    assert revised.eval()(x_of(1, 3, 64, 64)).shape == (1, 5)
    assert {"bn1.weight", "layer1.0.bn1.weight", "fc.weight"} <= revised.state_dict().keys()


@pytest.mark.parametrize(("depth", "parameters"), [(8, 75_290), (20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_resnet_cifar(depth, parameters):
    """The paper's table 6 has 0.27, 0.85 and 1.7 million of depths 20, 56 and 110; the plain network has as many."""
    for residual in (True, False):
        model = nn.utils.skip_init(models.resnet_cifar, depth, residual=residual)
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert (len(layers), count(model)) == (depth, parameters)


@pytest.mark.parametrize("preact", [False, True])
@pytest.mark.parametrize("shortcut", ["zeros", "none", "projection"])
def test_small_networks(preact, shortcut):
    model = models.resnet_cifar(8, 3, preact=preact, shortcut=shortcut, in_channels=1, width=0.5, input_size=9)
    x = x_of(4, 1, 9, 9)
    F.cross_entropy(model(Tensor(x)), np.array([0, 1, 2, 0])).backward()
    assert all(p.grad is not None for p in model.parameters())
    want, found = model.eval()(x), nn.fuse(model)(x)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_errors():
    for depth in (2, 21, 0, -4):
        with pytest.raises(ValueError, match=rf"depth is {depth}, expected 6n \+ 2"):
            models.resnet_cifar(depth)
    with pytest.raises(TypeError, match="depth must be an integer, got '20'"):
        models.resnet_cifar("20")
    with pytest.raises(ValueError, match="shortcut is 'identity', expected 'projection', 'zeros', 'none'"):
        models.ResNet(models.BasicBlock, (1, 1), shortcut="identity")


def test_demonstration():
    """Of 56 layers, plain ones have not left chance (log 10 = 2.3), where residual ones learn, with the same
    parameters, and most digits are right. The shallow plain network is ahead of the deep one."""
    measures = demonstrate("resnet").measures
    assert measures["plain 56 loss"] - measures["residual 56 loss"] >= 0.5
    assert measures["plain 56"] - measures["residual 56"] >= 0.2
    assert measures["plain 56"] > measures["plain 20"]
    assert measures["residual 56 loss"] <= 1.7

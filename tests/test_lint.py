"""fastnn.lint: each guideline on a net that breaks it and on one that keeps it, and on networks of the literature."""

import numpy as np
import pytest
from networks import alexnet, lenet, resnet18, vgg16

import fastnn
from fastnn import functional as F
from fastnn import nn, tensor_ops
from fastnn.inspection.guidelines import RULES, is_usual
from fastnn.inspection.steps import MODULES, OPERATORS
from fastnn.registry import specs

IMAGE = (2, 4, 16, 16)
BOTH = pytest.mark.parametrize("input_shape", [None, IMAGE], ids=["order", "run"])


def conv(channels=8, kernel=3, inputs=8, **options):
    return nn.Conv2d(inputs, channels, kernel, **{"padding": "same", **options})


def net(*modules, channels=8):
    """Modules behind a first convolution and before a last one that break no guideline."""
    return nn.Sequential(conv(inputs=4), nn.ReLU(), *modules, nn.ReLU(), conv(3, inputs=channels))


def found(model, input_shape=IMAGE, **options):
    """(rule, path) of all findings."""
    return [(rule, path) for rule, path, _ in fastnn.lint(model, input_shape, **options)]


def test_names():
    assert list(RULES) == [
        "consecutive-convolutions",
        "convolution-norm-convolution",
        "relu-before-softmax",
        "size-changing-convolution",
        "odd-up-convolution",
        "power-of-two-channels",
        "power-of-two-batch",
        "special-hyper-parameter",
    ]
    assert all(name in fastnn.lint.__doc__ for name in RULES)


def test_classified():
    """What the graph knows by name exists."""
    known = {*specs(), *(forward.__name__.removesuffix("_forward") for forward in tensor_ops.PAIRS)}
    assert OPERATORS.keys() <= known
    assert MODULES.keys() <= set(nn.__all__)


# ---- 1, 2: convolutions in a row ----


@BOTH
@pytest.mark.parametrize(
    ("between", "rule"),
    [
        ([], "consecutive-convolutions"),
        ([nn.Dropout(), nn.Identity()], "consecutive-convolutions"),
        ([nn.AvgPool2d(2)], "consecutive-convolutions"),
        ([nn.Sequential(nn.Sequential(), nn.Identity())], "consecutive-convolutions"),
        ([nn.Residual(nn.Identity())], "consecutive-convolutions"),
        ([nn.BatchNorm2d(8)], "convolution-norm-convolution"),
        ([nn.BatchNorm2d(8), nn.Dropout(), nn.AvgPool2d(2)], "convolution-norm-convolution"),
        ([nn.ReLU()], None),
        ([nn.BatchNorm2d(8), nn.Tanh()], None),
        ([nn.MaxPool2d(2)], None),
        ([nn.Residual(nn.BatchNorm2d(8), relu=True)], None),
    ],
    ids=str,
)
def test_in_a_row(between, rule, input_shape):
    model = net(conv(), *between, conv())
    assert found(model, input_shape) == ([] if rule is None else [(rule, str(3 + len(between)))])


@BOTH
def test_reason(input_shape):
    [(_, path, reason)] = fastnn.lint(net(conv(), nn.BatchNorm2d(8), conv()), input_shape)
    assert path == "4"
    assert "Between 2 and this convolution there is a batch norm, and no non-linearity." in reason
    [(_, path, reason)] = fastnn.lint(net(conv(), nn.ConvTranspose2d(8, 8, 2, 2)), input_shape)
    assert path == "3"
    assert "There is no non-linearity between 2 and this up-convolution." in reason


def test_branches():
    """Convolutions beside each other are not in a row; those before a sum or concatenation and behind it are."""
    assert found(net(nn.Residual(conv(), conv(kernel=1)))) == []
    findings = fastnn.lint(net(nn.Residual(conv(), conv(kernel=1)), conv()), IMAGE)
    assert [(x.rule, x.path) for x in findings] == [("consecutive-convolutions", "3")] * 2
    assert sorted(x.reason.split()[5] for x in findings) == ["2.body", "2.shortcut"]
    assert found(net(nn.Parallel(conv(), conv()), channels=16)) == []
    assert found(net(nn.Parallel(conv(), nn.Sequential(conv(), nn.ReLU())), conv(inputs=16)), None) == [
        ("consecutive-convolutions", "3")
    ]


class Functional(nn.Module):
    """No layers: weights are Parameters, and what is between two convolutions is `between`."""

    def __init__(self, between):
        rng = np.random.default_rng(0)
        self.between = between
        self.first = nn.Parameter(rng.standard_normal((4, 4, 3, 3), np.float32))
        self.second = nn.Parameter(rng.standard_normal((4, 4, 3, 3), np.float32))
        self.scale = nn.Parameter(rng.standard_normal((4, 1, 1), np.float32))

    def forward(self, x):
        y = F.conv2d(x, self.first, padding=1)
        y = self.between(self, y)
        return F.conv2d(y, self.second, padding=1)


def add_in_place(model, y):
    y += 1
    return y


def halves(model, y):
    a, b = F.split(y, 2, 1)
    return F.cat([b, a], 1)


@pytest.mark.parametrize(
    ("between", "linear"),
    [
        (lambda model, y: y, True),
        (lambda model, y: y * model.scale, True),
        (lambda model, y: y / 2 - 1, True),
        (lambda model, y: y * fastnn.Tensor(np.full((4, 1, 1), 2, np.float32)), True),
        (lambda model, y: y + y.mean((2, 3), True), True),
        (lambda model, y: y.reshape(-1, 4, 8, 32).transpose(2, 3), True),
        (lambda model, y: fastnn.Tensor(y.data), True),
        (halves, True),
        (add_in_place, True),
        (lambda model, y: y * y.sigmoid(), False),
        (lambda model, y: y * y.mean((2, 3), True), False),
        (lambda model, y: model.scale / y, False),
        (lambda model, y: F.add(y, y, relu=True), False),
        (lambda model, y: F.maximum(y, -y), False),
        (lambda model, y: y.abs(), False),
        (lambda model, y: fastnn.Tensor(np.tanh(y.data)), False),
        (lambda model, y: F.local_response_norm(y, 3), False),
    ],
)
def test_data_flow(between, linear):
    """The way of the data through any forward; what NumPy does on its own is unknown, and no finding."""
    assert found(Functional(between)) == [("consecutive-convolutions", "second")] * linear


def test_in_place():
    """A Tensor that took over another one's data has its past."""

    def squared(model, y):
        z = y + 0
        z *= z
        return z

    assert found(Functional(squared)) == []


# ---- 3: ReLU before softmax ----


@BOTH
def test_relu_before_softmax(input_shape):
    for softmax in (nn.Softmax(1), nn.LogSoftmax(1)):
        assert found(net(nn.Identity()).append(softmax), input_shape) == []
        broken = net().append(nn.ReLU()).append(nn.Flatten()).append(softmax)
        assert found(broken, input_shape) == [("relu-before-softmax", "4")]
        assert found(net().append(nn.ReLU()).append(nn.AvgPool2d(2)).append(softmax), input_shape) == []


@BOTH
@pytest.mark.parametrize(
    "loss", ["cross_entropy", F.cross_entropy, nn.CrossEntropyLoss()], ids=["name", "function", "layer"]
)
def test_relu_before_loss(loss, input_shape):
    broken = net().append(nn.ReLU())
    assert found(broken, input_shape) == []
    assert found(broken, input_shape, loss=loss) == [("relu-before-softmax", "4")]
    assert found(net(), input_shape, loss=loss) == []
    assert found(broken, input_shape, loss=F.mse_loss) == []


def test_fused_relu_before_softmax():
    class Fused(nn.Module):
        def forward(self, x):
            return F.softmax(F.add(x, x, relu=True), 1)

    assert found(nn.Sequential(Fused())) == [("relu-before-softmax", "0")]


# ---- 4, 5: sizes of maps, up-convolution ----


@BOTH
@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (conv(padding=0), "(-2, -2)"),
        (conv(kernel=(3, 5), padding=1), "(+0, -2)"),
        (conv(padding=2), "(+2, +2)"),
        (conv(padding=1, dilation=2), "(-2, -2)"),
        (conv(padding=0, stride=(2, 1)), "(+0, -2)"),
        (conv(padding="valid"), "(-2, -2)"),
        (conv(padding=(0, 1, 1, 1)), "(-1, +0)"),
        (conv(padding=1), None),
        (conv(kernel=1, padding=0), None),
        (conv(kernel=4), None),
        (conv(kernel=(5, 1), padding=(2, 0)), None),
        (conv(padding=0, stride=2), None),
    ],
    ids=str,
)
def test_size_changing(layer, change, input_shape):
    findings = fastnn.lint(net(layer), input_shape)
    assert [(x.rule, x.path) for x in findings] == [("size-changing-convolution", "2")] * (change is not None)
    assert all(change in x.reason for x in findings)


def test_padding_before():
    """A layer that pads belongs to the convolution behind it."""
    assert found(net(nn.ZeroPad2d(1), conv(padding=0))) == []
    assert found(net(nn.ZeroPad2d(1), conv(padding=0)), None) == []
    assert found(net(nn.ZeroPad2d(2), conv(padding=0))) == [("size-changing-convolution", "3")]


@BOTH
def test_odd_up_convolution(input_shape):
    assert found(net(nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)), input_shape) == [("odd-up-convolution", "2")]
    assert found(net(nn.ConvTranspose2d(8, 8, (2, 3), 2)), input_shape) == [("odd-up-convolution", "2")]
    assert found(net(nn.ConvTranspose2d(8, 8, 4, 2, 1)), input_shape) == []


# ---- 6, 7: powers of two ----


@BOTH
def test_channels(input_shape):
    """The image's and the result's are excepted, here 4 and 3."""
    assert found(net(conv(24), channels=24), input_shape) == [("power-of-two-channels", "2")]
    assert found(net(conv(32), channels=32), input_shape) == []
    grouped = net(nn.ConvTranspose2d(8, 12, 2, 2, groups=4), channels=12)
    assert found(grouped, input_shape) == [("power-of-two-channels", "2")]
    units = nn.Sequential(conv(inputs=4), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10))
    findings = fastnn.lint(units, input_shape)
    assert [(x.rule, x.path) for x in findings] == [("power-of-two-channels", "3")]
    assert "100 units, not a power of two. Powers of two, 64 or 128 here" in findings[0].reason


def test_several_results():
    class Heads(nn.Module):
        def __init__(self):
            self.body = conv(6, inputs=4)
            self.a, self.b = conv(3, inputs=6), conv(5, inputs=6)

        def forward(self, x):
            x = F.relu(self.body(x))
            return {"a": self.a(x).tanh(), "b": [self.b(x)]}

    assert found(Heads()) == [("power-of-two-channels", "body")]


def test_batch_size():
    assert found(net(), batch_size=64) == []
    assert found(net(), batch_size=np.int64(1)) == []
    assert found(net(), batch_size=100) == [("power-of-two-batch", "batch_size")]
    assert "64 or 128" in fastnn.lint(net(), batch_size=100)[0].reason
    assert found(net(), batch_size=0) == [("power-of-two-batch", "batch_size")]


# ---- 8: hyper-parameters ----


def test_usual():
    for value in (
        0.0, 1.0, 0.1, 3e-4, 0.00025, 2.5e-4, 0.9, 0.95, 0.99, 0.999, 0.9995, 0.99975, 0.125, 0.375, 0.0125, 1.25, 37.5,
        0.256, 2**-9, 1 / 3, 2 / 3, 5 / 7, 1 / 12, 1e-8, 128.0, -0.01, np.float32(0.1), np.float32(0.999), np.inf,
    ):  # fmt: skip
        assert is_usual(value), value
    for value in (0.038247, 0.123, 0.00317, 0.9123, 0.98765, 1.001, 0.0314159, 12.34, np.float32(0.1234), -0.456):
        assert not is_usual(value), value


class Optimizer:
    def __init__(self, *groups):
        self.param_groups = [{"params": [], **group} for group in groups]


def test_hyper_parameters():
    def of(**options):
        return [(x.path, x.reason.partition(".  ")[0]) for x in fastnn.lint(net(), **options)]

    assert of(optimizer={"lr": 0.1, "momentum": 0.9, "betas": (0.9, 0.999), "nesterov": True, "eps": 1e-8}) == []
    [(path, reason)] = of(optimizer={"lr": 0.038247})
    assert path == "optimizer"
    assert reason.startswith("lr is 0.038247. ")
    groups = {"lr": 3e-4, "weight_decay": 0.0123}, {"lr": 0.01, "betas": (0.9, 0.98765)}
    assert [r.split(". ")[0] for _, r in of(optimizer=Optimizer(*groups))] == [
        "weight_decay is 0.0123",
        "betas is 0.98765",
    ]
    # A schedule changes lr, and the choice was initial_lr.
    assert of(optimizer=Optimizer({"lr": 0.038247, "initial_lr": 0.1})) == []
    assert len(of(optimizer=Optimizer({"lr": 0.1, "initial_lr": 0.038247}))) == 1


@BOTH
def test_hyper_parameters_of_layers(input_shape):
    """Arguments of constructors, and no other attributes."""
    model = net(conv(), nn.BatchNorm2d(8, momentum=0.0317), nn.Dropout(0.4321), nn.LeakyReLU(0.01))
    model.scale = 0.123456
    assert found(model, input_shape) == [("special-hyper-parameter", "3"), ("special-hyper-parameter", "4")]
    assert fastnn.lint(model, input_shape)[0].reason.startswith("momentum is 0.0317. ")


# ---- networks ----


def test_networks():
    """VGG-16 and ResNet-18 keep all; AlexNet has two widths of its own."""
    assert found(vgg16(), (1, 3, 224, 224), loss="cross_entropy", batch_size=256) == []
    assert found(resnet18(), (1, 3, 64, 64), loss="cross_entropy") == []
    assert found(resnet18(), None) == []
    assert found(alexnet(), (1, 3, 224, 224)) == [("power-of-two-channels", "3"), ("power-of-two-channels", "6")]
    assert found(alexnet(), None) == found(alexnet(), (1, 3, 224, 224))


def test_lenet():
    assert found(lenet(), (1, 1, 28, 28)) == [
        ("size-changing-convolution", "3"),
        *(("power-of-two-channels", path) for path in ("0", "7", "9")),
    ]


def test_mobile():
    """Depthwise, then pointwise, with batch norm and ReLU between."""

    def layer(inputs, channels, kernel, **options):
        return conv(channels, kernel, inputs, **options, bias=False), nn.BatchNorm2d(channels), nn.ReLU()

    kept = nn.Sequential(
        *layer(4, 8, 3), *layer(8, 8, 3, groups=8), *layer(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    assert found(kept) == []
    # MobileNetV2's linear bottleneck has no activation on purpose; to be silenced by name.
    bottleneck = net(*layer(8, 16, 1), conv(8, 1, 16), nn.BatchNorm2d(8), *layer(8, 16, 1), channels=16)
    assert found(bottleneck) == [("convolution-norm-convolution", "7")]
    assert found(bottleneck, ignore=["convolution-norm-convolution"]) == []


# ---- what comes back, and arguments ----


def test_ignore():
    model = net(conv(24, padding=0), nn.ReLU(), conv(24, inputs=24), channels=24)
    assert found(model) == [
        ("size-changing-convolution", "2"),
        ("power-of-two-channels", "2"),
        ("power-of-two-channels", "4"),
    ]
    assert found(model, ignore="power-of-two-channels") == [("size-changing-convolution", "2")]
    assert found(model, ignore=["power-of-two-channels", ("size-changing-convolution", "2")]) == []
    assert found(model, ignore=[("power-of-two-channels", "[34]"), ("size-changing-convolution", "layer.*")]) == [
        ("size-changing-convolution", "2"),
        ("power-of-two-channels", "2"),
    ]


def test_shared_layer():
    """A layer that is called again and again is one finding."""
    layer = conv(padding=0)
    model = net(layer, nn.ReLU(), layer)
    assert found(model) == found(model, None) == [("size-changing-convolution", "2")]


def test_text():
    kept, broken = fastnn.lint(net()), fastnn.lint(net(conv(24), channels=24))
    assert not kept
    assert (len(kept), list(kept), kept.findings, str(kept)) == (0, [], [], "No findings.")
    assert broken
    assert str(broken).splitlines() == [
        "1 finding",
        "",
        "2: power-of-two-channels",
        "  This convolution has 24 channels, not a power of two. Powers of two, 16 or 32 here, fill vector",
        "  registers and tiles without a remainder, and leave fewer numbers to choose from.",
    ]
    assert "(model): size-changing-convolution" in str(fastnn.lint(conv(padding=0), (1, 8, 5, 5)))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model": "net"}, TypeError, "lint: model must be a fastnn.nn.Module, got str"),
        ({"ignore": ["nonsense"]}, ValueError, "lint: ignore has the rule 'nonsense', expected one of consecutive"),
        ({"ignore": [("nonsense", "*")]}, ValueError, "lint: ignore has the rule 'nonsense'"),
        ({"batch_size": 2.0}, TypeError, "lint: batch_size must be an integer, got 2.0"),
        ({"optimizer": 0.1}, TypeError, "lint: optimizer must have param_groups or be a dictionary, got float"),
        ({"input_shape": "abc"}, TypeError, "lint: input_shape must be"),
    ],
)
def test_errors(options, error, match):
    with pytest.raises(error, match=match):
        fastnn.lint(**{"model": net(), **options})

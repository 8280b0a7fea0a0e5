"""Networks of the literature, to be measured, judged and compared.

Each is written once, for a namespace `nn` of layers: fastnn.nn, or torch.nn, in which the same lines build the same
network, with the same names of parameters.
"""

from contextlib import contextmanager
from unittest.mock import patch
from zlib import crc32

import numpy as np

from fastnn import init, nn

# ---- values ----


@contextmanager
def undrawn():
    """fastnn's parameters are what fresh memory holds: drawing VGG-16's takes longer than anything done with them."""
    names = ("kaiming_uniform_", "uniform_")
    with patch.multiple(init, **dict.fromkeys(names, lambda tensor, *args, **options: tensor)):
        yield


def drawn(name, shape, dtype):
    """Numbers in [-1, 1) that the name determines, the same in every version of NumPy: Philox's raw output."""
    raw = np.random.Philox(key=crc32(name.encode())).random_raw(int(np.prod(shape)))
    return (np.asarray(raw >> np.uint64(11), np.float64) * 2.0**-52 - 1).astype(dtype).reshape(shape)


def parameters(shapes, dtype):
    """Values for a state_dict of these names and shapes: `drawn`, weights with He et al.'s variance of 2 / fan-in,
    the scales of batch norm and its running variances around 1, shifts and running means around 0."""
    values = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            values[name] = np.zeros(shape, np.int64)
            continue
        value = drawn(name, shape, np.float64)
        if len(shape) > 1:
            value *= (6 / np.prod(shape[1:])) ** 0.5
        else:
            value = 0.2 * value + name.endswith(("weight", "var"))
        values[name] = value.astype(dtype)
    return values


# ---- networks ----


def lenet(nn=nn):
    """LeNet-5 of LeCun et al. 1998, with today's fully connected C3 and softmax: (N, 1, 28, 28) -> (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def vgg(nn, stages, size, hidden, classes, norm=False, dropout=0.5):
    """Simonyan & Zisserman 2015: stages of 3 x 3 convolutions, each halved by a pooling, and three linear layers.

    stages: (channels, convolutions) of each; size: of the images; hidden: width of the linear layers;
    norm: batch norm after each convolution, which then needs no bias.
    """
    layers, channels = [], 3
    for width, count in stages:
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
            layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    features = channels * (size >> len(stages)) ** 2
    head = [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout)]
    head += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(hidden, classes))


@undrawn()
def vgg16(nn=nn):
    return vgg(nn, ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 224, 4096, 1000)


@undrawn()
def alexnet(nn=nn):
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


def resnet18(nn=nn, classes=1000, activation="ReLU"):
    """He et al. 2016, with torchvision's names: (N, 3, H, W) -> (N, classes). Of the activation the layer's name."""
    Activation = getattr(nn, activation)

    class Block(nn.Module):
        """Two convolutions around which the input passes, with one activation that is called twice."""

        def __init__(self, channels, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = Activation(inplace=True)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.downsample = None
            if stride > 1 or channels != width:
                projection = nn.Conv2d(channels, width, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            y += x if self.downsample is None else self.downsample(x)
            return self.relu(y)

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = Activation(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            for i, (channels, width) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512))):
                blocks = Block(channels, width, 1 + (i > 0)), Block(width, width, 1)
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(512, classes)

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet18()

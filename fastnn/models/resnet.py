"""Residual networks (He, Zhang, Ren and Sun 2015, "Deep residual learning for image recognition"), and their revised
block (the same, 2016, "Identity mappings in deep residual networks")."""

from __future__ import annotations

from collections.abc import Sequence

import fastnn.functional as F
import fastnn.nn as nn
from fastnn.descriptors import is_int
from fastnn.models.common import he_, is_small, scaled

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "PreActBlock",
    "PreActBottleneck",
    "ResNet",
    "ZeroShortcut",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_cifar",
]

# ---- blocks ----


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class Block(nn.Module):
    """What blocks share: y = x + F(x), (N, in_channels, H, W) -> (N, expansion · channels, ⌈H / stride⌉, ⌈W / stride⌉).

    F is made of convolutions conv1, … with batch norms bn1, …. downsample: what becomes of x where F changes its shape.
    residual: False leaves x out, for comparison: y = F(x).
    """

    expansion = 1
    preact = False
    """Does each batch norm, with its ReLU, come before its convolution?"""

    def __init__(self, *convolutions: nn.Conv2d, downsample: nn.Module | None, residual: bool) -> None:
        super().__init__()
        for i, conv in enumerate(convolutions, 1):
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", nn.BatchNorm2d(conv.in_channels if self.preact else conv.out_channels))
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.residual = residual

    def joined(self, y, x, a):
        """F(x) and x, or what becomes of a where the shape changes; the original blocks end with ReLU."""
        if not self.residual:
            return y if self.preact else self.relu(y)
        return F.add(y, x if self.downsample is None else self.downsample(a), relu=not self.preact)


class BasicBlock(Block):
    """Two 3 × 3 convolutions: y = ReLU(x + BN(W₂ ∗ ReLU(BN(W₁ ∗ x)))). The sum passes through a ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        residual: bool = True,
    ) -> None:
        body = conv3x3(in_channels, channels, stride), conv3x3(channels, channels)
        super().__init__(*body, downsample=downsample, residual=residual)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.joined(self.bn2(self.conv2(y)), x, x)


class Bottleneck(Block):
    """A 1 × 1 convolution to fewer channels, 3 × 3, and 1 × 1 to four times as many:
    y = ReLU(x + BN(W₃ ∗ ReLU(BN(W₂ ∗ ReLU(BN(W₁ ∗ x)))))). The stride is that of W₂."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        residual: bool = True,
    ) -> None:
        body = conv1x1(in_channels, channels), conv3x3(channels, channels, stride), conv1x1(channels, 4 * channels)
        super().__init__(*body, downsample=downsample, residual=residual)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.joined(self.bn3(self.conv3(y)), x, x)


class PreActBlock(BasicBlock):
    """The revised BasicBlock, batch norm and ReLU first: y = x + W₂ ∗ ReLU(BN(W₁ ∗ a)), a = ReLU(BN(x)).

    Nothing comes behind the sum, so that x reaches the end of the network as it is, and gradients the beginning.
    Where the shape changes, it is `downsample` of a that is added.
    """

    preact = True

    def forward(self, x):
        a = self.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(self.relu(self.bn2(y)))
        return self.joined(y, x, a)


class PreActBottleneck(Bottleneck):
    """The revised Bottleneck: y = x + W₃ ∗ ReLU(BN(W₂ ∗ ReLU(BN(W₁ ∗ a)))), a = ReLU(BN(x))."""

    preact = True

    def forward(self, x):
        a = self.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return self.joined(y, x, a)


class ZeroShortcut(nn.Module):
    """A shortcut without parameters (option A of the paper): every stride-th pixel, and zeros for further channels."""

    def __init__(self, further: int, stride: int) -> None:
        super().__init__()
        self.further, self.stride = further, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.further))

    def extra_repr(self):
        return f"further={self.further}, stride={self.stride}"


# ---- networks ----


class ResNet(nn.Module):
    """Stages of blocks, the first of each but the first with stride 2: (N, in_channels, H, W) -> (N, num_classes).

        images 224 × 224 -> 64 maps 112 × 112, pooled to 56 × 56 -> stages of 56, 28, 14 and 7 pixels a side,
        with 64, 128, 256 and 512 channels (Bottleneck: four times as many) -> their means -> logits

    block: BasicBlock, Bottleneck, PreActBlock or PreActBottleneck; layers: how many of them in each stage. With the
    original blocks, names and shapes of parameters are torchvision's. With the revised ones, the first convolution has
    no batch norm (bn1 and ReLU come behind the last block instead).

    base: channels of the first stage. shortcut, where the shape changes: "projection", 1 × 1 convolutions; "zeros", see
    ZeroShortcut; "none": there is no shortcut anywhere, the network is a plain one.
    width: channels in multiples of the above. input_size: below 64, the first kernel is 3 × 3 with stride 1 in place of
    7 × 7 with stride 2, and no pooling follows. See `fastnn.models.common.is_small`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        input_size: int = 224,
        base: int = 64,
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise ValueError(f"ResNet: shortcut is {shortcut!r}, expected {', '.join(map(repr, SHORTCUTS))}")
        small = is_small("ResNet", input_size)
        widths = scaled("ResNet", width, *(base << i for i in range(len(layers))))
        channels = widths[0]
        self.preact = block.preact
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(block.expansion * widths[-1] if self.preact else channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        stages = []
        for i, (n, count) in enumerate(zip(widths, layers, strict=True), 1):
            blocks = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                between = SHORTCUTS[shortcut](block, channels, block.expansion * n, stride)
                blocks.append(block(channels, n, stride, between, residual=shortcut != "none"))
                channels = block.expansion * n
            stages.append(f"layer{i}")
            setattr(self, stages[-1], nn.Sequential(*blocks))
        self.stages = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        he_(self)

    def forward(self, x):
        x = self.conv1(x)
        x = self.maxpool(x if self.preact else self.relu(self.bn1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        if self.preact:
            x = self.relu(self.bn1(x))
        return self.fc(self.avgpool(x).flatten(1))


def projection(block: type[Block], channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """A 1 × 1 convolution where the shape changes, with batch norm unless the block has its own in front."""
    if stride == 1 and channels == out_channels:
        return None
    conv = conv1x1(channels, out_channels, stride)
    return conv if block.preact else nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def zeros(block: type[Block], channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """ZeroShortcut where the shape changes."""
    return None if stride == 1 and channels == out_channels else ZeroShortcut(out_channels - channels, stride)


SHORTCUTS = {"projection": projection, "zeros": zeros, "none": lambda *shape: None}
"""What makes the `downsample` of a block."""


def resnet18(num_classes: int = 1000, *, preact: bool = False, **options) -> ResNet:
    """ResNet-18 with 11,689,512 parameters, of BasicBlocks, or PreActBlocks; options are those of `ResNet`."""
    return ResNet(PreActBlock if preact else BasicBlock, (2, 2, 2, 2), num_classes, **options)


def resnet34(num_classes: int = 1000, *, preact: bool = False, **options) -> ResNet:
    """ResNet-34 with 21,797,672 parameters, of BasicBlocks, or PreActBlocks; options are those of `ResNet`."""
    return ResNet(PreActBlock if preact else BasicBlock, (3, 4, 6, 3), num_classes, **options)


def resnet50(num_classes: int = 1000, *, preact: bool = False, **options) -> ResNet:
    """ResNet-50 with 25,557,032 parameters, of Bottlenecks, or PreActBottlenecks; options are those of `ResNet`."""
    return ResNet(PreActBottleneck if preact else Bottleneck, (3, 4, 6, 3), num_classes, **options)


def resnet101(num_classes: int = 1000, *, preact: bool = False, **options) -> ResNet:
    """ResNet-101 with 44,549,160 parameters, of Bottlenecks, or PreActBottlenecks; options are those of `ResNet`."""
    return ResNet(PreActBottleneck if preact else Bottleneck, (3, 4, 23, 3), num_classes, **options)


def resnet152(num_classes: int = 1000, *, preact: bool = False, **options) -> ResNet:
    """ResNet-152 with 60,192,808 parameters, of Bottlenecks, or PreActBottlenecks; options are those of `ResNet`."""
    return ResNet(PreActBottleneck if preact else Bottleneck, (3, 8, 36, 3), num_classes, **options)


def resnet_cifar(
    depth: int, num_classes: int = 10, *, residual: bool = True, preact: bool = False, input_size: int = 32, **options
) -> ResNet:
    """The paper's networks for small images: a 3 × 3 convolution, three stages of n blocks each with 16, 32 and 64
    channels, and the linear layer, depth = 6n + 2 layers with weights. 853,018 parameters at depth 56.

    Shortcuts have no parameters. So the plain network, residual=False, has the very same ones. Options are those of
    `ResNet`.
    """
    if not is_int(depth):
        raise TypeError(f"resnet_cifar: depth must be an integer, got {depth!r}")
    n, rest = divmod(depth - 2, 6)
    if n < 1 or rest:
        raise ValueError(f"resnet_cifar: depth is {depth}, expected 6n + 2: 8, 14, 20, …")
    options = {"base": 16, "shortcut": "zeros" if residual else "none", "input_size": input_size, **options}
    return ResNet(PreActBlock if preact else BasicBlock, (n, n, n), num_classes, **options)

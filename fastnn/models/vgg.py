"""VGG (Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image recognition")."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn.models.common import he_, is_small, scaled

__all__ = ["VGG", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth -> convolutions in each of the five stages, the paper's A, B, D and E."""


class VGG(nn.Module):
    """Five stages of 3 × 3 convolutions, each halved by max-pooling, then three fully connected layers:
    (N, in_channels, H, W) -> logits (N, num_classes).

        images 224 × 224 -> 64 maps, pooled to 112 × 112 -> 128, 56 -> 256, 28 -> 512, 14 -> 512, 7 -> 4096 -> 4096

    Two 3 × 3 kernels see as much as one of 5 × 5, with 18 weights in place of 25, and a ReLU more.

    depth: layers with weights, 11, 13, 16 or 19. batch_norm: one behind each convolution, which keeps its bias. Names
    and shapes of parameters are torchvision's.

    width: channels and hidden units in multiples of the above. input_size: below 64, poolings round up, 28 × 28 to 14,
    7, 4, 2 and 1, and the first fully connected layer sees what remains. See `fastnn.models.common.is_small`.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        *,
        batch_norm: bool = False,
        in_channels: int = 3,
        width: float = 1.0,
        input_size: int = 224,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"VGG: depth is {depth!r}, expected one of {', '.join(map(str, STAGES))}")
        small = is_small("VGG", input_size)
        *widths, hidden = scaled("VGG", width, 64, 128, 256, 512, 512, 4096)
        self.features = nn.Sequential()
        channels = in_channels
        for n, count in zip(widths, STAGES[depth], strict=True):
            for _ in range(count):
                norm = [nn.BatchNorm2d(n)] if batch_norm else []
                self.features.extend([nn.Conv2d(channels, n, 3, padding=1), *norm, nn.ReLU()])
                channels = n
            self.features.append(nn.MaxPool2d(2, ceil_mode=small))
        side = -(-input_size // 32) if small else 7
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        he_(self)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def vgg11(num_classes: int = 1000, **options) -> VGG:
    """VGG-11 with 132,863,336 parameters; options are those of `VGG`."""
    return VGG(11, num_classes, **options)


def vgg11_bn(num_classes: int = 1000, **options) -> VGG:
    """VGG-11 with batch norm, 132,868,840 parameters; options are those of `VGG`."""
    return VGG(11, num_classes, batch_norm=True, **options)


def vgg13(num_classes: int = 1000, **options) -> VGG:
    """VGG-13 with 133,047,848 parameters; options are those of `VGG`."""
    return VGG(13, num_classes, **options)


def vgg13_bn(num_classes: int = 1000, **options) -> VGG:
    """VGG-13 with batch norm, 133,053,736 parameters; options are those of `VGG`."""
    return VGG(13, num_classes, batch_norm=True, **options)


def vgg16(num_classes: int = 1000, **options) -> VGG:
    """VGG-16 with 138,357,544 parameters; options are those of `VGG`."""
    return VGG(16, num_classes, **options)


def vgg16_bn(num_classes: int = 1000, **options) -> VGG:
    """VGG-16 with batch norm, 138,365,992 parameters; options are those of `VGG`."""
    return VGG(16, num_classes, batch_norm=True, **options)


def vgg19(num_classes: int = 1000, **options) -> VGG:
    """VGG-19 with 143,667,240 parameters; options are those of `VGG`."""
    return VGG(19, num_classes, **options)


def vgg19_bn(num_classes: int = 1000, **options) -> VGG:
    """VGG-19 with batch norm, 143,678,248 parameters; options are those of `VGG`."""
    return VGG(19, num_classes, batch_norm=True, **options)

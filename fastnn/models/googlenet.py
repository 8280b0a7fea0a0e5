"""GoogLeNet and its Inception modules (Szegedy, Liu, Jia et al. 2014, "Going deeper with convolutions"), as in the
paper, and in torchvision's form with batch norm (Ioffe and Szegedy 2015)."""

from __future__ import annotations

from typing import Any, NamedTuple

import fastnn.nn as nn
from fastnn.models.common import he_, is_small, scaled

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "Inception", "InceptionAux", "NaiveInception", "googlenet"]


def convolution(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, batch_norm: bool = False):
    """A convolution that keeps the size of maps (but for its stride), and ReLU, with batch norm between in place of
    a bias, or without. Parameters: conv.weight, and conv.bias or bn.…"""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=not batch_norm)
    norm = {"bn": nn.BatchNorm2d(out_channels, eps=1e-3)} if batch_norm else {}
    return nn.Sequential({"conv": conv, **norm, "relu": nn.ReLU()})


class NaiveInception(nn.Parallel):
    """Kernels of several sizes beside each other, and their maps one behind the other (figure 2a):
    (N, in_channels, H, W) -> (N, ch1x1 + ch3x3 + ch5x5 + in_channels, H, W).

        y = [1 × 1 (x), 3 × 3 (x), 5 × 5 (x), max-pool 3 × 3 (x)]

    As pooling passes on all that comes in, maps become more with every module, and 5 × 5 kernels over them expensive;
    `Inception` is the answer.
    """

    def __init__(self, in_channels: int, ch1x1: int, ch3x3: int, ch5x5: int, *, batch_norm: bool = False) -> None:
        super().__init__(
            convolution(in_channels, ch1x1, 1, batch_norm=batch_norm),
            convolution(in_channels, ch3x3, 3, batch_norm=batch_norm),
            convolution(in_channels, ch5x5, 5, batch_norm=batch_norm),
            nn.MaxPool2d(3, 1, 1),
        )


class Inception(nn.Module):
    """The module with 1 × 1 convolutions that reduce channels before wide kernels and behind pooling (figure 2b):
    (N, in_channels, H, W) -> (N, ch1x1 + ch3x3 + ch5x5 + pool_proj, H, W).

        y = [1 × 1 (x), 3 × 3 (1 × 1 (x)), 5 × 5 (1 × 1 (x)), 1 × 1 (max-pool 3 × 3 (x))]

    ch3x3red, ch5x5red: channels between 1 × 1 and 3 × 3, and 5 × 5. batch_norm: torchvision's form, where the third
    branch has a 3 × 3 kernel in place of 5 × 5, and convolutions have batch norm in place of biases.
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"batch_norm": batch_norm}
        self.out_channels = ch1x1 + ch3x3 + ch5x5 + pool_proj
        self.branch1 = convolution(in_channels, ch1x1, 1, **options)
        self.branch2 = nn.Sequential(
            convolution(in_channels, ch3x3red, 1, **options), convolution(ch3x3red, ch3x3, 3, **options)
        )
        self.branch3 = nn.Sequential(
            convolution(in_channels, ch5x5red, 1, **options),
            convolution(ch5x5red, ch5x5, 3 if batch_norm else 5, **options),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(in_channels, pool_proj, 1, **options))

    def forward(self, x):
        return nn.functional.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """A classifier in the middle of the network, which brings gradients there: (N, in_channels, H, W) -> (N,
    num_classes), by way of averages of 4 × 4 parts of the maps."""

    def __init__(
        self, in_channels: int, num_classes: int, *, width: float = 1.0, dropout: float = 0.7, batch_norm: bool = False
    ) -> None:
        super().__init__()
        maps, hidden = scaled("InceptionAux", width, 128, 1024)
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.conv = convolution(in_channels, maps, 1, batch_norm=batch_norm)
        self.fc1 = nn.Linear(maps * 4 * 4, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.conv(self.avgpool(x)).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet with auxiliary classifiers returns in training, each (N, num_classes). The paper's loss is that of
    logits and 0.3 of each of the other two."""

    logits: Any
    aux_logits2: Any
    aux_logits1: Any


MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""The paper's table 1: channels of 1 × 1, 3 × 3 reduced, 3 × 3, 5 × 5 reduced, 5 × 5, behind the pooling."""


class GoogLeNet(nn.Module):
    """Three convolutions and nine Inception modules: (N, in_channels, H, W) -> logits (N, num_classes).

        images 224 × 224 -> 64 maps 112 × 112 -> 192 of 56 × 56 -> 480 of 28 × 28 -> 832 of 14 × 14 -> 1024 of 7 × 7
        -> their means -> logits

    batch_norm: False is the paper's form, with 5 × 5 kernels, biases and local response normalisation. True is
    torchvision's, with its names and shapes of parameters; its published weights expect images as (x - 0.5) / 0.5 with
    x from 0 to 1, and contain the auxiliary classifiers, which load_state_dict(…, strict=False) leaves out.

    aux_logits: classifiers behind 4a and 4d; in training, forward then returns `GoogLeNetOutputs`.
    dropout, dropout_aux: of the means (torchvision: 0.2), and in the auxiliary classifiers.
    width: channels and hidden units in multiples of the paper's. input_size: below 64, the first kernel is 3 × 3 with
    stride 1 in place of 7 × 7 with stride 2, and no pooling follows: of 28 × 28, modules 3 see 14 × 14, 4 see 7 × 7,
    5 see 4 × 4. See `fastnn.models.common.is_small`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        batch_norm: bool = False,
        aux_logits: bool = False,
        in_channels: int = 3,
        width: float = 1.0,
        input_size: int = 224,
        dropout: float = 0.4,
        dropout_aux: float = 0.7,
    ) -> None:
        super().__init__()
        small = is_small("GoogLeNet", input_size)
        a, b = scaled("GoogLeNet", width, 64, 192)
        kernel, stride = (3, 1) if small else (7, 2)
        rounding: dict[str, Any] = {"padding": 1} if small else {"ceil_mode": True}
        norms = [nn.Identity() if batch_norm else nn.LocalResponseNorm(5) for _ in range(2)]
        self.conv1 = convolution(in_channels, a, kernel, stride=stride, batch_norm=batch_norm)
        self.maxpool1 = nn.Identity() if small else nn.MaxPool2d(3, 2, **rounding)
        self.norm1 = norms[0]
        self.conv2 = convolution(a, a, 1, batch_norm=batch_norm)
        self.conv3 = convolution(a, b, 3, batch_norm=batch_norm)
        self.norm2 = norms[1]
        self.maxpool2 = nn.MaxPool2d(3, 2, **rounding)
        channels = b
        middle: dict[str, int] = {}
        for name, numbers in MODULES.items():
            module = Inception(channels, *scaled("GoogLeNet", width, *numbers), batch_norm=batch_norm)
            channels = middle[name] = module.out_channels
            setattr(self, f"inception{name}", module)
        self.maxpool3 = nn.MaxPool2d(3, 2, **rounding)
        self.maxpool4 = nn.MaxPool2d(2, ceil_mode=True) if batch_norm else nn.MaxPool2d(3, 2, **rounding)
        aux: dict[str, Any] = {"width": width, "dropout": dropout_aux, "batch_norm": batch_norm}
        self.aux1 = InceptionAux(middle["4a"], num_classes, **aux) if aux_logits else None
        self.aux2 = InceptionAux(middle["4d"], num_classes, **aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        he_(self)

    def forward(self, x):
        x = self.norm1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        auxiliary = self.training and self.aux1 is not None
        x = self.inception4a(x)
        aux1 = self.aux1(x) if auxiliary else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        aux2 = self.aux2(x) if auxiliary else None
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return GoogLeNetOutputs(logits, aux2, aux1) if auxiliary else logits


def googlenet(num_classes: int = 1000, **options) -> GoogLeNet:
    """GoogLeNet with 6,998,552 parameters, or 6,624,904 with batch_norm=True; options are those of `GoogLeNet`."""
    return GoogLeNet(num_classes, **options)

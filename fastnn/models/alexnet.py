"""AlexNet (Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks"),
in the one-column form of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn.models.common import he_, is_small, scaled

__all__ = ["AlexNet", "alexnet"]


class AlexNet(nn.Module):
    """Five convolutions, three fully connected layers: (N, in_channels, H, W) -> logits (N, num_classes).

        images 224 × 224 -> 64 maps 55 × 55 -> 192 of 27 × 27 -> 384, 256, 256 of 13 × 13 -> 6 × 6 -> 4096 -> 4096

    New in 2012: ReLU, overlapping max-pooling (windows of 3 × 3, 2 apart), dropout, all on two graphics cards. The
    one-column form has no local response normalisation. Names and shapes of parameters are torchvision's.

    width: channels and hidden units in multiples of the above. input_size: below 64, the first kernel is 5 × 5 with
    stride 1 in place of 11 × 11 with stride 4, and maps of 28 × 28 are pooled to 14, 7 and 4. See
    `fastnn.models.common.is_small`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        input_size: int = 224,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        small = is_small("AlexNet", input_size)
        a, b, c, d, hidden = scaled("AlexNet", width, 64, 192, 384, 256, 4096)
        side = min(6, -(-input_size // 8)) if small else 6
        first = nn.Conv2d(in_channels, a, 5, padding=2) if small else nn.Conv2d(in_channels, a, 11, 4, padding=2)
        edge = 1 if small else 0
        self.features = nn.Sequential(
            first, nn.ReLU(), nn.MaxPool2d(3, 2, edge),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, edge),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, edge),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(d * side * side, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        he_(self)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def alexnet(num_classes: int = 1000, **options) -> AlexNet:
    """AlexNet with 61,100,840 parameters; options are those of `AlexNet`."""
    return AlexNet(num_classes, **options)

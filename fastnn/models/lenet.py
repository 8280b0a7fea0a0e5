"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition")."""

from __future__ import annotations

import fastnn.nn as nn

__all__ = ["LeNet", "lenet"]


class LeNet(nn.Module):
    """Two convolutions with pooling, three fully connected layers: (N, in_channels, S, S) -> logits (N, num_classes).

    As it is built today: ReLU and max-pooling where the paper has tanh and trained sub-sampling, every map sees all
    maps before it, and the classes' scores are logits. With 32 × 32 or padded 28 × 28 inputs the sizes are the paper's.

    width: channels in multiples of the paper's 6, 16, 120, 84. input_size: S, from 12 on.
    """

    def __init__(
        self, num_classes: int = 10, *, in_channels: int = 1, width: float = 1.0, input_size: int = 28
    ) -> None:
        super().__init__()
        a, b, c, d = (round(width * n) for n in (6, 16, 120, 84))
        size = (input_size // 2 - 4) // 2
        if size < 1:
            raise ValueError(f"LeNet: input_size is {input_size}, expected at least 12, of which 1 x 1 remains")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, a, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(a, b, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(b * size * size, c), nn.ReLU(), nn.Linear(c, d), nn.ReLU(),
            nn.Linear(d, num_classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.features(x))


def lenet(num_classes: int = 10, **options) -> LeNet:
    """LeNet-5 with 61,706 parameters for 28 × 28 images of one channel; options are those of `LeNet`."""
    return LeNet(num_classes, **options)

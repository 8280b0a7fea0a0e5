"""A decoder: a vector that describes an image becomes the image (Dosovitskiy, Springenberg and Brox 2015, "Learning to
generate chairs with convolutional neural networks")."""

from __future__ import annotations

import fastnn.nn as nn

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """g: h (N, features) -> images (N, channels, image_size, image_size), trained by min Σ ||X - g(h)||².

    As in the paper, fully connected layers and then up-convolutions, each of which doubles the sides and halves the
    maps: features -> 8 width -> 4 width maps of S/4 × S/4 -> 2 width of S/2 × S/2 -> width of S × S -> channels. An
    up-convolution with a 4 × 4 kernel and stride 2 makes each output of four inputs, equally many everywhere. The last
    layer is linear: a regression.

    image_size: S, a multiple of 4.
    """

    def __init__(self, features: int, *, image_size: int = 28, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        if image_size < 4 or image_size % 4:
            raise ValueError(f"Decoder: image_size is {image_size}, expected a multiple of 4")
        side = image_size // 4
        self.describe = nn.Sequential(
            nn.Linear(features, 8 * width), nn.ReLU(), nn.Linear(8 * width, 4 * width * side * side), nn.ReLU(),
            nn.Unflatten(1, (4 * width, side, side)),
        )  # fmt: skip
        self.paint = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, h):
        return self.paint(self.describe(h))

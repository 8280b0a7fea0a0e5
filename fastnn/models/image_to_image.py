"""An encoder-decoder from images to images: a U-Net (Ronneberger, Fischer and Brox 2015) whose output has a style, by a
vector that modulates its features (Perez et al. 2018, "FiLM: visual reasoning with a general conditioning layer").
"""

from __future__ import annotations

import fastnn.nn as nn
from fastnn import functional as F

__all__ = ["FiLM", "ImageToImage"]


class FiLM(nn.Module):
    """Feature-wise linear modulation: x (N, channels, H, W), style s (N, styles) -> (1 + γ) x + β of the same shape,
    where each channel's γ and β are linear in s, and zero at first."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(styles, 2 * channels, bias=False)
        nn.init.zeros_(self.affine.weight)

    def forward(self, x, style):
        gamma, beta = F.split(F.unflatten(self.affine(style), 1, (-1, 1, 1)), x.shape[1], 1)
        return x * (gamma + 1) + beta


class Block(nn.Module):
    """Two 3 × 3 convolutions with ReLU, the second one modulated: (N, C, H, W) -> (N, channels, H/stride, W/stride)."""

    def __init__(self, in_channels: int, channels: int, styles: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = FiLM(styles, channels)

    def forward(self, x, style):
        return F.relu(self.film(self.conv2(F.relu(self.conv1(x))), style))


class ImageToImage(nn.Module):
    """y = FiLM(x + g(x, s), s): images x (N, channels, H, W) and styles s (N, styles) -> images of x's shape.

    g is a U-Net. Going down, each level halves the sides, by a convolution of stride 2, and doubles the maps, from
    `width` on; going up, an up-convolution does the reverse, and its maps are joined with those of the same size from
    the way down: the decoder knows what is where, and what is around it. g is the difference from the input, and is
    nearly zero at first; the style modulates both blocks and output.

    depth: halvings; H and W are multiples of 2^depth.
    """

    def __init__(self, channels: int = 1, styles: int = 1, *, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.depth = depth
        self.first = Block(channels, width, styles)
        self.down = nn.ModuleList([Block(w, 2 * w, styles, stride=2) for w in widths[:-1]])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1]])
        self.join = nn.ModuleList([Block(2 * w, w, styles) for w in widths[-2::-1]])
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        self.out = FiLM(styles, channels)

    def forward(self, x, style):
        if any(side % 2**self.depth for side in x.shape[2:]):
            raise ValueError(
                f"ImageToImage: x has shape {tuple(x.shape)}, expected sides of multiples of {2**self.depth}"
            )
        seen = [self.first(x, style)]
        for block in self.down:
            seen.append(block(seen[-1], style))
        y = seen.pop()
        for up, join in zip(self.up, self.join, strict=True):
            y = join(F.cat([up(y), seen.pop()], 1), style)
        return self.out(x + self.last(y), style)

"""What the convolutional networks of `fastnn.models` share: how they become narrow and small, and how they begin."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn import init
from fastnn.descriptors import is_int, number

__all__ = ["SMALL", "he_", "is_small", "scaled"]

SMALL = 64
"""Images below this many pixels a side get a small stem: see `is_small`."""


def is_small(network: str, input_size: int) -> bool:
    """Are images of this many pixels a side small? One rule for all networks:

    from 64 on  the network is the published one, layer by layer and shape by shape, so that published weights load;
                it takes images of any size from 64 on, whatever input_size was.
    below       maps keep the images' size until the first pooling: the first convolution has stride 1 and a smaller
                kernel. Poolings round sizes up, so that even one pixel passes.
    """
    if not is_int(input_size):
        raise TypeError(f"{network}: input_size must be an integer, got {input_size!r}")
    if input_size < 1:
        raise ValueError(f"{network}: input_size is {input_size}, expected at least 1")
    return input_size < SMALL


def scaled(network: str, width: float, *channels: int) -> list[int]:
    """Numbers of channels, multiplied by width and rounded; at least 1."""
    width = number(width, network, "width")
    if not 0 < width < float("inf"):
        raise ValueError(f"{network}: width is {width}, expected a number above 0")
    return [max(1, round(width * n)) for n in channels]


def he_(model: nn.Module) -> None:
    """Draw the filters of all convolutions with variance 2 / fan-in, which keeps that of maps through ReLUs (He et al.
    2015, "Delving deep into rectifiers"); biases are 0. Linear layers stay as they are."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)

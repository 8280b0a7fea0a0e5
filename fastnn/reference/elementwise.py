"""Activations and other functions of one element (K9)."""

from typing import NamedTuple

import numpy as np

__all__ = ["relu_backward", "relu_forward"]


class InputCtx(NamedTuple):
    x: np.ndarray


def relu_forward(x, *, keep=True):
    """y = max(x, 0)"""
    y = np.where(x <= 0, x.dtype.type(0), x)
    return y, InputCtx(x) if keep else None


def relu_backward(dy, ctx):
    """dx = dy * [x > 0]"""
    return np.where(ctx.x > 0, dy, dy.dtype.type(0))

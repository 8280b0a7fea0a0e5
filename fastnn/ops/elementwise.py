"""Activations and other functions of one element (K9)."""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import elementwise as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like

__all__ = ["relu_backward", "relu_forward"]


class OutputCtx(NamedTuple):
    """Context of an activation whose derivative is a function of its output."""

    y: np.ndarray


def relu_forward(x, *, keep=True):
    """Rectified linear unit, y = max(x, 0); NaN stays NaN, and -0 becomes +0.

    x: any shape, float32 or float64. keep: False in inference, when no backward follows.
    Returns (y, ctx).
    """
    x = array(x, "relu", "x")
    y = empty_like(x)
    kernels.relu(x, y)
    return y, OutputCtx(y) if keep else None


def relu_backward(dy, ctx):
    """dx = dy * [x > 0]."""
    dy = array_of_shape(dy, "relu", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.relu_backward(dy, ctx.y, dx)
    return dx

"""Activations and other functions of one element (K9)."""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import elementwise as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like

__all__ = [
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
    "tanh_forward",
]


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


def sigmoid_forward(x, *, keep=True):
    """Logistic function, y = 1 / (1 + exp(-x)), within 4 units in the last place.

    x: any shape, float32 or float64. keep: False in inference, when no backward follows.
    Returns (y, ctx).
    """
    x = array(x, "sigmoid", "x")
    y = empty_like(x)
    kernels.sigmoid(x, y)
    return y, OutputCtx(y) if keep else None


def sigmoid_backward(dy, ctx):
    """dx = dy * y * (1 - y)."""
    dy = array_of_shape(dy, "sigmoid", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.sigmoid_backward(dy, ctx.y, dx)
    return dx


def tanh_forward(x, *, keep=True):
    """Hyperbolic tangent, within 4 units in the last place.

    x: any shape, float32 or float64. keep: False in inference, when no backward follows.
    Returns (y, ctx).
    """
    x = array(x, "tanh", "x")
    y = empty_like(x)
    kernels.tanh(x, y)
    return y, OutputCtx(y) if keep else None


def tanh_backward(dy, ctx):
    """dx = dy * (1 - y^2)."""
    dy = array_of_shape(dy, "tanh", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.tanh_backward(dy, ctx.y, dx)
    return dx

"""Softmax and its logarithm (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import is_int
from fastnn.kernels import softmax as kernels
from fastnn.ops._arrays import array, array_of_shape, axis_layout, empty_like

__all__ = ["log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"]


class SoftmaxCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    y: np.ndarray
    layout: tuple[int, int, int]
    """x as (outer, n, inner) with the axis in the middle."""


def layout_along(x, axis, op):
    """x as (outer, n, inner) with `axis` in the middle; TypeError or ValueError if it is no axis of x."""
    if not is_int(axis):
        raise TypeError(f"{op}: axis must be an integer, got {axis!r}")
    try:
        return axis_layout(x, axis, op, "x")
    except OverflowError:
        raise ValueError(f"{op}: axis {axis} is out of range for x of shape {x.shape}") from None


def softmax_forward(x, axis=-1, *, keep=True):
    """Softmax, y = exp(x) / Σ exp(x), the sum along `axis`.

    x: any shape with at least one dimension, float32 or float64; large values do not overflow. A NaN, a +inf, or
    nothing but -inf along the axis gives NaN. Returns (y, ctx) with y of x's shape.
    """
    x = array(x, "softmax", "x")
    layout = layout_along(x, axis, "softmax")
    y = empty_like(x)
    kernels.softmax(x, *layout, y)
    return y, SoftmaxCtx(y, layout) if keep else None


def softmax_backward(dy, ctx):
    """dx = y * (dy - Σ dy * y)."""
    dy = array_of_shape(dy, "softmax", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.softmax_backward(dy, ctx.y, *ctx.layout, dx)
    return dx


def log_softmax_forward(x, axis=-1, *, keep=True):
    """Logarithm of softmax, y = x - log Σ exp(x), the sum along `axis`.

    x: any shape with at least one dimension, float32 or float64; large values do not overflow, and small
    probabilities keep their logarithm. A NaN, a +inf, or nothing but -inf along the axis gives NaN.
    Returns (y, ctx) with y of x's shape.
    """
    x = array(x, "log_softmax", "x")
    layout = layout_along(x, axis, "log_softmax")
    y = empty_like(x)
    kernels.log_softmax(x, *layout, y)
    return y, SoftmaxCtx(y, layout) if keep else None


def log_softmax_backward(dy, ctx):
    """dx = dy - exp(y) * Σ dy."""
    dy = array_of_shape(dy, "log_softmax", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.log_softmax_backward(dy, ctx.y, *ctx.layout, dx)
    return dx

"""Softmax, its logarithm and its limit (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import is_int
from fastnn.kernels import softmax as kernels
from fastnn.ops._arrays import array, array_of_shape, axis_layout, empty_like

__all__ = [
    "argmax_forward",
    "hardmax_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "softmax_backward",
    "softmax_forward",
]


class SoftmaxCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    y: np.ndarray
    layout: tuple[int, int, int]
    """x as (outer, n, inner) with the axis in the middle."""


def layout_along(x, axis, op, name="x"):
    """x as (outer, n, inner) with `axis` in the middle; TypeError or ValueError if it is no axis of x."""
    if not is_int(axis):
        raise TypeError(f"{op}: axis must be an integer, got {axis!r}")
    try:
        return axis_layout(x, axis, op, name)
    except OverflowError:
        raise ValueError(f"{op}: axis {axis} is out of range for {name} of shape {x.shape}") from None


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


def argmax_forward(x, axis=-1, *, keep=True):
    """Index of the largest element along `axis`, the first of several; a NaN counts as larger than all numbers.

    x: any shape with at least one dimension, float32 or float64. Returns (index, None), int64 of x's shape without
    `axis`. There is no gradient.
    """
    x = array(x, "argmax", "x")
    layout = layout_along(x, axis, "argmax")
    axis %= x.ndim
    index = np.empty(x.shape[:axis] + x.shape[axis + 1 :], np.int64)
    kernels.argmax(x, *layout, index)
    return index, None


def hardmax_forward(x, axis=-1, *, keep=True):
    """Indicator of the largest element along `axis`: 1 at argmax, 0 elsewhere, the limit of softmax(x / T) for T -> 0.

    x: as of argmax_forward. Returns (y, None) with y of x's shape. It is constant almost everywhere: there is no
    backward function, because the gradient would be zero.
    """
    x = array(x, "hardmax", "x")
    layout = layout_along(x, axis, "hardmax")
    y = empty_like(x)
    kernels.hardmax(x, *layout, y)
    return y, None

"""Softmax and its logarithm (K10)."""

from math import prod
from typing import NamedTuple

import numpy as np

from fastnn.kernels import softmax as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like

__all__ = ["log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"]


class Layout(NamedTuple):
    """An array as (outer, n, inner) with the axis in the middle."""

    outer: int
    n: int
    inner: int


def axis_layout(x, axis, op):
    ndim = x.ndim
    if not -ndim <= axis < ndim:
        raise ValueError(f"{op}: axis {axis} is out of range for x of shape {x.shape}, expected {-ndim} to {ndim - 1}")
    shape = x.shape
    n = shape[axis]
    if n == 0:
        raise ValueError(f"{op}: x has shape {shape}, expected at least one element along axis {axis}")
    axis %= ndim
    return Layout(prod(shape[:axis]), n, prod(shape[axis + 1 :]))


class SoftmaxCtx(NamedTuple):
    y: np.ndarray
    layout: Layout


def softmax_forward(x, axis=-1, *, keep=True):
    """Softmax, y = exp(x) / Σ exp(x), the sum along `axis`.

    x: any shape with at least one dimension, float32 or float64; large values do not overflow. A NaN, a +inf, or
    nothing but -inf along the axis gives NaN. Returns (y, ctx) with y of x's shape.
    """
    x = array(x, "softmax", "x")
    layout = axis_layout(x, axis, "softmax")
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
    layout = axis_layout(x, axis, "log_softmax")
    y = empty_like(x)
    kernels.log_softmax(x, *layout, y)
    return y, SoftmaxCtx(y, layout) if keep else None


def log_softmax_backward(dy, ctx):
    """dx = dy - exp(y) * Σ dy."""
    dy = array_of_shape(dy, "log_softmax", "dy", ctx.y.shape, ctx.y)
    dx = empty_like(dy)
    kernels.log_softmax_backward(dy, ctx.y, *ctx.layout, dx)
    return dx

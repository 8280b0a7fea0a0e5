"""Softmax, its logarithm and its limit (K10)."""

from typing import NamedTuple

import numpy as np

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
    axis: int


def softmax_forward(x, axis=-1, *, keep=True):
    """y = exp(x) / Σ exp(x); taking the maximum off x first changes nothing but the range of exp"""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN
        e = np.exp(x - x.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, SoftmaxCtx(y, axis) if keep else None


def softmax_backward(dy, ctx):
    """dx = y * (dy - Σ dy * y)"""
    return ctx.y * (dy - (dy * ctx.y).sum(axis=ctx.axis, keepdims=True))


def log_softmax_forward(x, axis=-1, *, keep=True):
    """y = x - log Σ exp(x)"""
    with np.errstate(invalid="ignore"):
        x = x - x.max(axis=axis, keepdims=True)
    y = x - np.log(np.exp(x).sum(axis=axis, keepdims=True))
    return y, SoftmaxCtx(y, axis) if keep else None


def log_softmax_backward(dy, ctx):
    """dx = dy - exp(y) * Σ dy"""
    return dy - np.exp(ctx.y) * dy.sum(axis=ctx.axis, keepdims=True)


def argmax_forward(x, axis=-1, *, keep=True):
    """The first index of the maximum, of which NaN is one"""
    return np.argmax(x, axis=axis).astype(np.int64), None


def hardmax_forward(x, axis=-1, *, keep=True):
    """y = [i = argmax x]"""
    index = np.expand_dims(np.argmax(x, axis=axis), axis)
    y = np.zeros_like(x)
    np.put_along_axis(y, index, 1, axis)
    return y, None

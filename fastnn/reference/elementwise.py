"""Activations and other functions of one element (K9)."""

from typing import NamedTuple

import numpy as np

__all__ = [
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
    "tanh_forward",
]


class InputCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray


class OutputCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    y: np.ndarray


def relu_forward(x, *, keep=True):
    """y = max(x, 0)"""
    y = np.where(x <= 0, x.dtype.type(0), x)
    return y, InputCtx(x) if keep else None


def relu_backward(dy, ctx):
    """dx = dy * [x > 0]"""
    return np.where(ctx.x > 0, dy, dy.dtype.type(0))


def sigmoid_forward(x, *, keep=True):
    """y = 1 / (1 + exp(-x)), which for x < 0 is exp(x) / (1 + exp(x))"""
    e = np.exp(-np.abs(x))
    y = np.where(x < 0, e, x.dtype.type(1)) / (1 + e)
    return y, OutputCtx(y) if keep else None


def sigmoid_backward(dy, ctx):
    """dx = dy * y * (1 - y)"""
    return dy * ctx.y * (1 - ctx.y)


def tanh_forward(x, *, keep=True):
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))"""
    y = np.tanh(x)
    return y, OutputCtx(y) if keep else None


def tanh_backward(dy, ctx):
    """dx = dy * (1 - y^2)"""
    return dy * (1 - ctx.y**2)

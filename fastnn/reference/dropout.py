"""Dropout (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.reference._philox import kept

__all__ = [
    "alpha_dropout_backward",
    "alpha_dropout_forward",
    "dropout1d_backward",
    "dropout1d_forward",
    "dropout2d_backward",
    "dropout2d_forward",
    "dropout_backward",
    "dropout_forward",
]

SELU_LIMIT = 1.7580993408473766


class DropoutCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    factor: np.ndarray
    """What each element was multiplied by."""


def forward(x, mask, scale, training, out, keep, kept_shift=0.0, dropped_shift=0.0):
    """y = x * scale, or x * 0 where mask is False, and shifted."""
    factor, shift = np.where(mask, scale, 0), np.where(mask, kept_shift, dropped_shift)
    if not training:
        factor, shift = np.ones_like(factor), np.zeros_like(shift)
    factor, shift = factor.astype(x.dtype), shift.astype(x.dtype)
    y = x * factor + shift if shift.any() else x * factor
    if out is not None:
        out[...] = y
        y = out
    return y, DropoutCtx(factor) if keep else None


def elements(x, p, seed, offset):
    """Which elements of x are kept."""
    return kept(x.size, p, seed, offset).reshape(x.shape)


def channels(x, axes, p, seed, offset):
    """The same of what is behind so many leading axes: all or nothing."""
    outer = x.shape[:axes]
    return kept(int(np.prod(outer)), p, seed, offset).reshape(outer + (1,) * (x.ndim - axes)) & np.ones(x.shape, bool)


def inverse(p):
    """1 / (1 - p), and 0 for p = 1."""
    return 1 / (1 - p) if p < 1 else 0


def backward(dy, ctx):
    """The gradient of all of them."""
    return dy * ctx.factor


def dropout_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """y = 0 with probability p, else x / (1 - p)"""
    return forward(x, elements(x, p, seed, offset), inverse(p), training, out, keep)


def dropout_backward(dy, ctx):
    """dx = 0 where y was dropped, else dy / (1 - p)"""
    return backward(dy, ctx)


def dropout1d_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """y[n, c] = 0 with probability p, else x[n, c] / (1 - p)"""
    return forward(x, channels(x, x.ndim - 1, p, seed, offset), inverse(p), training, out, keep)


def dropout1d_backward(dy, ctx):
    """dx = 0 where a channel was dropped, else dy / (1 - p)"""
    return backward(dy, ctx)


def dropout2d_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """y[n, c] = 0 with probability p, else x[n, c] / (1 - p)"""
    return forward(x, channels(x, 2, p, seed, offset), inverse(p), training, out, keep)


def dropout2d_backward(dy, ctx):
    """dx = 0 where a channel was dropped, else dy / (1 - p)"""
    return backward(dy, ctx)


def alpha_dropout_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """y = a x + b with x = -s, SELU's limit, where dropped; x * 0 for p = 1"""
    s = SELU_LIMIT
    a = 1 / np.sqrt((1 + s**2 * p) * (1 - p)) if p < 1 else 0
    b = a * s * p
    return forward(x, elements(x, p, seed, offset), a, training, out, keep, b, b - a * s)


def alpha_dropout_backward(dy, ctx):
    """dx = 0 where y was dropped, else a dy"""
    return backward(dy, ctx)

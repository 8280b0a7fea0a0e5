"""Normalisation (K8)."""

from typing import NamedTuple

import numpy as np

__all__ = ["batch_norm_backward", "batch_norm_forward"]


class BatchNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x_hat: np.ndarray
    std: np.ndarray
    weight: np.ndarray | None
    bias: bool
    training: bool
    passed: np.ndarray | None
    """Where ReLU let y pass; None without it."""
    residual: bool


def per_channel(a, x):
    """A (C,) array in the shape that broadcasts against x (N, C, *spatial)."""
    return a.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm_forward(
    x,
    weight=None,
    bias=None,
    running_mean=None,
    running_var=None,
    residual=None,
    *,
    relu=False,
    training=True,
    momentum=0.1,
    eps=1e-5,
    num_batches_tracked=None,
    keep=True,
):
    """y = weight x^ + bias with x^ = (x - mean) / sqrt(var + eps) in each channel (Ioffe & Szegedy 2015).

    training: mean and biased variance of x; the running statistics move towards the mean and the unbiased variance by
    momentum, or if that is None by 1 / the number of batches. Then a residual is added, and max(y, 0) taken.
    """
    if training and x.size and num_batches_tracked is not None:
        num_batches_tracked += 1
        momentum = 1 / num_batches_tracked.item() if momentum is None else momentum
    axes = (0, *range(2, x.ndim))
    if training and x.size:
        m = x.size // x.shape[1]
        mean = x.mean(axes)
        var = np.square(x - per_channel(mean, x)).mean(axes)
        if running_mean is not None:
            running_mean[:] = (1 - momentum) * running_mean + momentum * mean
        if running_var is not None:
            running_var[:] = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    elif training:
        mean, var = np.zeros((2, x.shape[1]), x.dtype)
    else:
        mean, var = running_mean, running_var
    std = np.sqrt(var + x.dtype.type(eps))
    x_hat = (x - per_channel(mean, x)) / per_channel(std, x)
    y = x_hat.copy()
    if weight is not None:
        y *= per_channel(weight, x)
    if bias is not None:
        y += per_channel(bias, x)
    if residual is not None:
        y += residual
    passed = None
    if relu:
        passed = y > 0
        y[y < 0] = 0
    if not keep:
        return y, None
    return y, BatchNormCtx(x_hat, std, weight, bias is not None, training, passed, residual is not None)


def batch_norm_backward(dy, ctx, needs=(True, True, True, True)):
    """With dy where ReLU let y pass: dresidual = dy,

    dbias = sum dy, dweight = sum dy x^, dx = weight / (m std) (m dy - dbias - x^ dweight);
    dx = weight / std dy where the statistics were constants (not training).
    """
    if ctx.passed is not None:
        dy = np.where(ctx.passed, dy, dy.dtype.type(0))
    axes = (0, *range(2, dy.ndim))
    m = dy.size // dy.shape[1]
    dbias = dy.sum(axes)
    dweight = (dy * ctx.x_hat).sum(axes)
    dx = dy
    if ctx.training and dy.size:
        dx = dy - (per_channel(dbias, dy) + ctx.x_hat * per_channel(dweight, dy)) / m
    dx = dx * per_channel(1 / ctx.std if ctx.weight is None else ctx.weight / ctx.std, dy)
    return (
        dx if needs[0] else None,
        dweight if needs[1] and ctx.weight is not None else None,
        dbias if needs[2] and ctx.bias else None,
        dy.copy() if needs[3] and ctx.residual else None,
    )

"""Normalisation by the statistics of each sample: layer, group, instance and root-mean-square norm (K15)."""

from typing import NamedTuple

import numpy as np

__all__ = [
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "rms_norm_backward",
    "rms_norm_forward",
]


class RowNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x_hat: np.ndarray
    """(…) in the shape in which statistics are taken over `axes`."""
    std: np.ndarray
    axes: tuple[int, ...]
    weight: np.ndarray | None
    """weight and bias in shapes that broadcast to x's, like their gradients before these get the shape `affine`."""
    bias: np.ndarray | None
    affine: tuple[int, ...]
    centred: bool
    """The mean was subtracted."""
    moving: bool
    """The statistics were those of x, not constants."""


def column(a, x):
    """A (C,) array in the shape that broadcasts against x (N, C, *spatial); None stays None."""
    return None if a is None else a.reshape(-1, *[1] * (x.ndim - 2))


def finish(x_hat, std, axes, weight, bias, affine, shape, keep, centred=True, moving=True):
    """y = weight x^ + bias in a shape, and the context."""
    y = x_hat.reshape(shape).copy()
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, RowNormCtx(x_hat, std, axes, weight, bias, affine, centred, moving) if keep else None


def normalise(x, axes, eps):
    """x^ = (x - mean) / sqrt(var + eps) over axes, and that root."""
    if not x.size:
        return x, np.ones_like(x, shape=[1] * x.ndim)
    d = x - x.mean(axes, keepdims=True)
    std = np.sqrt(np.square(d).mean(axes, keepdims=True) + x.dtype.type(eps))
    return d / std, std


def total(a, like):
    """a summed over the axes along which `like` was broadcast."""
    axes = tuple(i for i in range(a.ndim) if i < a.ndim - like.ndim or like.shape[i - a.ndim + like.ndim] == 1)
    return a.sum(axes)


def backward(dy, ctx, needs):
    """With g = dy weight: dbias = sum dy, dweight = sum dy x^, dx = (g - mean of g - x^ mean of g x^) / std."""
    x_hat = ctx.x_hat
    g = (dy if ctx.weight is None else dy * ctx.weight).reshape(x_hat.shape)
    dx = g
    if ctx.moving and dy.size:
        dx = dx - x_hat * (g * x_hat).mean(ctx.axes, keepdims=True)
        if ctx.centred:
            dx = dx - g.mean(ctx.axes, keepdims=True)
    dweight = dbias = None
    if needs[1] and ctx.weight is not None:
        dweight = total(dy * x_hat.reshape(dy.shape), ctx.weight).reshape(ctx.affine)
    if needs[2] and ctx.bias is not None:
        dbias = total(dy, ctx.bias).reshape(ctx.affine)
    return (dx / ctx.std).reshape(dy.shape) if needs[0] else None, dweight, dbias


def trailing(x, normalized_shape):
    """normalized_shape as a tuple, and the axes of x that it stands for."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return shape, tuple(range(x.ndim - len(shape), x.ndim))


def layer_norm_forward(x, normalized_shape, weight=None, bias=None, eps=1e-5, *, keep=True):
    """y = weight x^ + bias, x^ = (x - mean) / sqrt(var + eps) over the last axes (Ba, Kiros & Hinton 2016)."""
    shape, axes = trailing(x, normalized_shape)
    x_hat, std = normalise(x, axes, eps)
    return finish(x_hat, std, axes, weight, bias, shape, x.shape, keep)


def layer_norm_backward(dy, ctx, needs=(True, True, True)):
    """dbias = sum dy, dweight = sum dy x^; with g = dy weight, dx = (g - mean of g - x^ mean of g x^) / std."""
    return backward(dy, ctx, needs)


def rms_norm_forward(x, normalized_shape, weight=None, eps=None, *, keep=True):
    """y = weight x / sqrt(mean of x^2 + eps) over the last axes (Zhang & Sennrich 2019); eps: the machine's."""
    shape, axes = trailing(x, normalized_shape)
    eps = np.finfo(x.dtype).eps if eps is None else eps
    if not x.size:
        return finish(x, np.ones_like(x, shape=[1] * x.ndim), axes, weight, None, shape, x.shape, keep, centred=False)
    rms = np.sqrt(np.square(x).mean(axes, keepdims=True) + x.dtype.type(eps))
    return finish(x / rms, rms, axes, weight, None, shape, x.shape, keep, centred=False)


def rms_norm_backward(dy, ctx, needs=(True, True)):
    """dweight = sum dy x^; with g = dy weight, dx = (g - x^ mean of g x^) / rms."""
    return backward(dy, ctx, (*needs, False))[:2]


def group_norm_forward(x, num_groups, weight=None, bias=None, eps=1e-5, *, keep=True):
    """y = weight x^ + bias, x^ = (x - mean) / sqrt(var + eps) over each group of channels (Wu & He 2018)."""
    n, c, *spatial = x.shape
    axes = tuple(range(2, x.ndim + 1))
    x_hat, std = normalise(x.reshape(n, num_groups, c // num_groups, *spatial), axes, eps)
    return finish(x_hat, std, axes, column(weight, x), column(bias, x), (c,), x.shape, keep)


def group_norm_backward(dy, ctx, needs=(True, True, True)):
    """dbias = sum dy, dweight = sum dy x^; with g = dy weight, dx = (g - mean of g - x^ mean of g x^) / std."""
    return backward(dy, ctx, needs)


def instance_norm_forward(
    x,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
    *,
    keep=True,
):
    """y = weight x^ + bias, x^ = (x - mean) / sqrt(var + eps) of each channel of each sample (Ulyanov et al. 2016).

    use_input_stats: those of x; the running statistics move towards the averages over samples of mean and unbiased
    variance by momentum. Otherwise the running statistics.
    """
    axes, channels = tuple(range(2, x.ndim)), x.shape[1:2]
    if use_input_stats:
        x_hat, std = normalise(x, axes, eps)
        if x.size and running_mean is not None:
            running_mean[:] = (1 - momentum) * running_mean + momentum * x.mean((0, *axes))
        if x.size and running_var is not None:
            running_var[:] = (1 - momentum) * running_var + momentum * x.var(axes, ddof=1).mean(0)
    else:
        std = np.sqrt(column(running_var, x) + x.dtype.type(eps))
        x_hat = (x - column(running_mean, x)) / std
    weight, bias = column(weight, x), column(bias, x)
    return finish(x_hat, std, axes, weight, bias, channels, x.shape, keep, moving=bool(use_input_stats))


def instance_norm_backward(dy, ctx, needs=(True, True, True)):
    """dbias = sum dy, dweight = sum dy x^; with g = dy weight, dx = (g - mean of g - x^ mean of g x^) / std, or g / std
    where the statistics were constants."""
    return backward(dy, ctx, needs)

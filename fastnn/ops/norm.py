"""Normalisation (K8)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import BatchNormDesc, batch_norm_desc, number
from fastnn.kernels import norm as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like, writable

__all__ = ["batch_norm_backward", "batch_norm_forward"]


class BatchNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: BatchNormDesc
    x: np.ndarray
    weight: np.ndarray | None
    bias: bool
    mean: np.ndarray
    """(C,) float64, like invstd: exact for float32 data whose mean is much larger than its deviation."""
    invstd: np.ndarray
    training: bool


def batch_norm_forward(
    x,
    weight=None,
    bias=None,
    running_mean=None,
    running_var=None,
    *,
    training=True,
    momentum=0.1,
    eps=1e-5,
    keep=True,
):
    """Batch normalisation, y = weight (x - mean) / sqrt(var + eps) + bias in each channel (Ioffe & Szegedy 2015).

    x: (N, C) or (N, C, *spatial), float32 or float64. weight, bias: (C,) or None for 1 and 0.
    training: mean and biased variance are those of x over all axes but C, and running_mean and running_var, if given,
    become (1 - momentum) * running + momentum * new in place, new being the mean and the unbiased variance; they must
    be writable C-contiguous (C,) arrays of x's dtype. An empty batch leaves them as they are. momentum, eps: numbers.
    Otherwise running_mean and running_var are the statistics, and constants to the backward pass.
    Returns (y, ctx).
    Raises ValueError for an eps below 0, when training on a single value per channel, or with momentum=None: a
    cumulative average needs a count of batches, which is for the layer to keep (momentum = 1 / count).
    """
    x = array(x, "batch_norm", "x")
    desc = batch_norm_desc(x.shape)
    channels = (desc.c,)
    eps = number(eps, "batch_norm", "eps")
    if not eps >= 0:
        raise ValueError(f"batch_norm: eps must not be negative or NaN, got {eps}")
    if weight is not None:
        weight = array_of_shape(weight, "batch_norm", "weight", channels, x)
    if bias is not None:
        bias = array_of_shape(bias, "batch_norm", "bias", channels, x)
    if training:
        if momentum is None:
            raise ValueError("batch_norm: momentum is None, expected a number (1 / count gives a cumulative average)")
        momentum = number(momentum, "batch_norm", "momentum")
        if desc.n * desc.s == 1:
            raise ValueError(
                f"batch_norm: x of shape {x.shape} has one value per channel, expected more than one when training"
            )
        if running_mean is not None:
            running_mean = writable(running_mean, "batch_norm", "running_mean", channels, x)
        if running_var is not None:
            running_var = writable(running_var, "batch_norm", "running_var", channels, x)
    else:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: running_mean and running_var are needed when training=False")
        running_mean = array_of_shape(running_mean, "batch_norm", "running_mean", channels, x)
        running_var = array_of_shape(running_var, "batch_norm", "running_var", channels, x)
        momentum = 0.0
    y = empty_like(x)
    mean = np.zeros(channels) if keep else None
    invstd = np.zeros(channels) if keep else None
    if desc.n:
        kernels.batch_norm(
            x, weight, bias, running_mean, running_var, y, mean, invstd, desc.n, desc.c, desc.s, training, momentum,
            eps, desc.flops, desc.bytes(x.itemsize),
        )  # fmt: skip
    return y, BatchNormCtx(desc, x, weight, bias is not None, mean, invstd, training) if keep else None


def batch_norm_backward(dy, ctx, needs=(True, True, True)):
    """Gradients (dx, dweight, dbias); None for those not needed and for parameters that were absent.

    With x^ = (x - mean) / std over the m values of a channel: dbias = sum dy, dweight = sum dy x^, and
    dx = weight / (m std) (m dy - dbias - x^ dweight), or weight / std dy if not training.
    """
    desc, x = ctx.desc, ctx.x
    dy = array_of_shape(dy, "batch_norm", "dy", x.shape, x)
    dx = empty_like(x) if needs[0] else None
    dweight = np.zeros(desc.c, x.dtype) if needs[1] and ctx.weight is not None else None
    dbias = np.zeros(desc.c, x.dtype) if needs[2] and ctx.bias else None
    if desc.n:
        kernels.batch_norm_backward(
            dy, x, ctx.weight, ctx.mean, ctx.invstd, dx, dweight, dbias, desc.n, desc.c, desc.s, ctx.training,
            desc.backward_flops, desc.backward_bytes(x.itemsize),
        )  # fmt: skip
    return dx, dweight, dbias

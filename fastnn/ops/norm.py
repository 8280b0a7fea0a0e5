"""Normalisation (K8)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import BatchNormDesc, batch_norm_desc, flag, number
from fastnn.kernels import norm as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like, writable

__all__ = ["batch_norm_backward", "batch_norm_forward"]


class BatchNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: BatchNormDesc
    x: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    mean: np.ndarray
    """(C,) float64, like invstd: exact for float32 data whose mean is much larger than its deviation."""
    invstd: np.ndarray
    training: bool
    relu: bool
    residual: bool
    y: np.ndarray | None
    """The result, which ReLU after a residual needs."""


def counted(num_batches_tracked):
    """The count of batches, this one included."""
    if not isinstance(num_batches_tracked, np.ndarray):
        raise TypeError(
            f"batch_norm: num_batches_tracked must be a NumPy array, got {type(num_batches_tracked).__name__}"
        )
    if num_batches_tracked.dtype != np.int64 or num_batches_tracked.size != 1:
        raise TypeError(
            f"batch_norm: num_batches_tracked has dtype {num_batches_tracked.dtype} and shape "
            f"{num_batches_tracked.shape}, expected one int64"
        )
    if not num_batches_tracked.flags.writeable:
        raise ValueError("batch_norm: num_batches_tracked is updated in place, but read-only")
    num_batches_tracked += 1
    return num_batches_tracked.item()


def update(running, new, momentum):
    """Running statistics, None for those that are not kept, become (1 - momentum) * running + momentum * new: all of
    them, or none if memory runs out."""
    results = [None if r is None else (1 - momentum) * r + momentum * n for r, n in zip(running, new, strict=True)]
    for r, result in zip(running, results, strict=True):
        if r is not None:
            np.copyto(r, result, casting="same_kind")


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
    """Batch normalisation, y = weight (x - mean) / sqrt(var + eps) + bias in each channel (Ioffe & Szegedy 2015).

    x: (N, C) or (N, C, *spatial), float32 or float64. weight, bias: (C,) or None for 1 and 0.
    residual: an array of x's shape to add to that, or None; relu: then y = max(y, 0). Both cost no pass over memory of
    their own.
    training: mean and biased variance are those of x over all axes but C, and running_mean and running_var, if given,
    become (1 - momentum) * running + momentum * new in place, new being the mean and the unbiased variance; they must
    be writable C-contiguous (C,) arrays of x's dtype. num_batches_tracked: None, or a writable int64 array of one
    element to count the batches in; with momentum=None the running statistics are then the averages over all batches,
    momentum being 1 / count. An empty batch leaves them all as they are.
    Otherwise running_mean and running_var are the statistics, and constants to the backward pass.
    Returns (y, ctx).
    Raises ValueError for an eps below 0, when training on a single value per channel, or with momentum=None and nothing
    to count in.
    """
    x = array(x, "batch_norm", "x")
    desc = batch_norm_desc(x.shape)
    channels = (desc.c,)
    training, relu = flag(training, "batch_norm", "training"), flag(relu, "batch_norm", "relu")
    eps = number(eps, "batch_norm", "eps")
    if not eps >= 0:
        raise ValueError(f"batch_norm: eps must not be negative or NaN, got {eps}")
    if weight is not None:
        weight = array_of_shape(weight, "batch_norm", "weight", channels, x)
    if bias is not None:
        bias = array_of_shape(bias, "batch_norm", "bias", channels, x)
    if residual is not None:
        residual = array_of_shape(residual, "batch_norm", "residual", x.shape, x)
    if training:
        if momentum is not None:
            momentum = number(momentum, "batch_norm", "momentum")
        elif num_batches_tracked is None:
            raise ValueError(
                "batch_norm: momentum is None, expected a number or num_batches_tracked to count batches in"
            )
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
    added = residual is not None
    ctx = None
    if keep:
        kept = y if relu and added else None
        ctx = BatchNormCtx(desc, x, weight, bias, mean, invstd, training, relu, added, kept)
    if desc.n:
        if training and num_batches_tracked is not None:  # behind all that may fail
            count = counted(num_batches_tracked)
            momentum = 1 / count if momentum is None else momentum
        kernels.batch_norm(
            x, weight, bias, running_mean, running_var, residual, y, mean, invstd, desc.n, desc.c, desc.s, training,
            momentum, eps, relu, desc.flops, desc.bytes(x.itemsize, added),
        )  # fmt: skip
    return y, ctx


def batch_norm_backward(dy, ctx, needs=(True, True, True, True)):
    """Gradients (dx, dweight, dbias, dresidual); None for those not needed and for arguments that were absent.

    With g = dy where ReLU let y pass, and x^ = (x - mean) / std over the m values of a channel: dresidual = g,
    dbias = sum g, dweight = sum g x^, and dx = weight / (m std) (m g - dbias - x^ dweight), or weight / std g if not
    training.
    """
    desc, x = ctx.desc, ctx.x
    dy = array_of_shape(dy, "batch_norm", "dy", x.shape, x)
    dresidual = empty_like(x) if needs[3] and ctx.residual else None
    dx = empty_like(x) if needs[0] or dresidual is not None else None
    dweight = np.zeros(desc.c, x.dtype) if needs[1] and ctx.weight is not None else None
    dbias = np.zeros(desc.c, x.dtype) if needs[2] and ctx.bias is not None else None
    if desc.n:
        kernels.batch_norm_backward(
            dy, x, ctx.y, ctx.weight, ctx.bias, ctx.mean, ctx.invstd, dx, dresidual, dweight, dbias, desc.n, desc.c,
            desc.s, ctx.training, ctx.relu, desc.backward_flops, desc.backward_bytes(x.itemsize, ctx.residual),
        )  # fmt: skip
    return dx if needs[0] else None, dweight, dbias, dresidual

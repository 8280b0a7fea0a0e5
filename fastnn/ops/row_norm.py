"""Normalisation by the statistics of each sample: layer, group, instance and root-mean-square norm (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import RowNormDesc, flag, group_norm_desc, instance_norm_desc, layer_norm_desc, number
from fastnn.kernels import row_norm as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like, writable
from fastnn.ops.norm import batch_norm_backward, batch_norm_forward, update

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


# Channels of fewer elements cost more as rows of their own than elements with weights of their own, where many samples
# share the repeated weights.
SHORT_CHANNEL, MANY_SAMPLES = 16, 8


class RowNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: RowNormDesc
    x: np.ndarray
    weight: np.ndarray | None
    biased: bool
    mean: np.ndarray
    """(rows,) float64, like invstd: exact for float32 data whose mean is much larger than its deviation."""
    invstd: np.ndarray
    centred: bool


def checked_eps(eps, op):
    """eps as a float that is not negative."""
    eps = number(eps, op, "eps")
    if not eps >= 0:
        raise ValueError(f"{op}: eps must not be negative or NaN, got {eps}")
    return eps


def forward(op, x, desc, weight, bias, eps, keep, centred=True, var=None):
    """(y, ctx) of an operator of the family; var (rows,) float64 receives the biased variances."""
    eps = checked_eps(eps, op)
    if weight is not None:
        weight = array_of_shape(weight, op, "weight", desc.affine, x)
    if bias is not None:
        bias = array_of_shape(bias, op, "bias", desc.affine, x)
    layout, each_weight, each_bias = desc.layout, weight, bias
    if 1 < desc.inner < SHORT_CHANNEL and desc.rows >= MANY_SAMPLES * desc.groups:
        layout = desc.rows, desc.groups, desc.channels * desc.inner, 1
        each_weight, each_bias = (None if a is None else np.repeat(a, desc.inner) for a in (weight, bias))
    y = empty_like(x)
    mean = np.empty(desc.rows) if keep or var is not None else None
    invstd = None if mean is None else np.empty(desc.rows)
    if desc.size:
        kernels.row_norm(
            x, each_weight, each_bias, y, mean, var, invstd, *layout, eps, centred, desc.flops, desc.bytes(x.itemsize)
        )
    return y, RowNormCtx(desc, x, weight, bias is not None, mean, invstd, centred) if mean is not None else None


def backward(op, dy, ctx, needs):
    """(dx, dweight, dbias), None where not needed or absent."""
    desc, x = ctx.desc, ctx.x
    dy = array_of_shape(dy, op, "dy", x.shape, x)
    dx = empty_like(x) if needs[0] else None
    dweight = np.zeros(desc.affine, x.dtype) if needs[1] and ctx.weight is not None else None
    dbias = np.zeros(desc.affine, x.dtype) if needs[2] and ctx.biased else None
    if desc.size and not (dx is dweight is dbias is None):
        kernels.row_norm_backward(
            dy, x, ctx.weight, ctx.mean, ctx.invstd, dx, dweight, dbias, *desc.layout, ctx.centred,
            desc.backward_flops, desc.backward_bytes(x.itemsize),
        )  # fmt: skip
    return dx, dweight, dbias


def layer_norm_forward(x, normalized_shape, weight=None, bias=None, eps=1e-5, *, keep=True):
    """Layer normalisation, y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased variance of each sample over
    its last axes (Ba, Kiros & Hinton 2016).

    x: (*, *normalized_shape), float32 or float64. normalized_shape: an integer or a tuple of them. weight, bias: of
    that shape, or None for 1 and 0. Returns (y, ctx). Raises ValueError for an eps below 0.
    """
    x = array(x, "layer_norm", "x")
    desc = layer_norm_desc(x.shape, "layer_norm", normalized_shape)
    return forward("layer_norm", x, desc, weight, bias, eps, keep)


def layer_norm_backward(dy, ctx, needs=(True, True, True)):
    """Gradients (dx, dweight, dbias); None for those not needed and for arguments that were absent.

    With x^ = (x - mean) / std over the m values of a sample and g = dy weight: dbias = sum dy and
    dweight = sum dy x^ over samples, dx = (g - mean of g - x^ mean of g x^) / std.
    """
    return backward("layer_norm", dy, ctx, needs)


def rms_norm_forward(x, normalized_shape, weight=None, eps=None, *, keep=True):
    """Root-mean-square normalisation, y = weight x / sqrt(mean of x^2 + eps), the mean of each sample over its last
    axes (Zhang & Sennrich 2019).

    x: (*, *normalized_shape), float32 or float64. normalized_shape: an integer or a tuple of them. weight: of that
    shape, or None for 1. eps: None for the machine epsilon of x's dtype. Returns (y, ctx). Raises ValueError for an eps
    below 0.
    """
    x = array(x, "rms_norm", "x")
    desc = layer_norm_desc(x.shape, "rms_norm", normalized_shape)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return forward("rms_norm", x, desc, weight, None, eps, keep, centred=False)


def rms_norm_backward(dy, ctx, needs=(True, True)):
    """Gradients (dx, dweight); None for those not needed and for a weight that was absent.

    With x^ = y / weight over the m values of a sample, r the root, and g = dy weight: dweight = sum dy x^ over samples,
    dx = (g - x^ mean of g x^) / r.
    """
    return backward("rms_norm", dy, ctx, (*needs, False))[:2]


def group_norm_forward(x, num_groups, weight=None, bias=None, eps=1e-5, *, keep=True):
    """Group normalisation, y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased variance of each sample over
    each of num_groups groups of adjacent channels (Wu & He 2018).

    x: (N, C) or (N, C, *spatial), float32 or float64, C a multiple of num_groups. weight, bias: (C,) or None for 1 and
    0. Returns (y, ctx). Raises ValueError for an eps below 0, and for a single value in a single group.
    """
    x = array(x, "group_norm", "x")
    return forward("group_norm", x, group_norm_desc(x.shape, num_groups), weight, bias, eps, keep)


def group_norm_backward(dy, ctx, needs=(True, True, True)):
    """Gradients (dx, dweight, dbias), those of layer_norm_backward with the values of a group for a sample's, and sums
    for weight and bias over all that they are applied to; None for those not needed and for absent arguments."""
    return backward("group_norm", dy, ctx, needs)


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
    """Instance normalisation, y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased variance of each channel
    of each sample (Ulyanov, Vedaldi & Lempitsky 2016).

    x: (N, C, *spatial), float32 or float64. weight, bias: (C,) or None for 1 and 0.
    use_input_stats: the statistics are those of x, and running_mean and running_var, if given, become
    (1 - momentum) * running + momentum * new in place, new being the averages over samples of mean and unbiased
    variance; they must be writable C-contiguous (C,) arrays of x's dtype. An empty batch leaves them as they are.
    Otherwise running_mean and running_var are the statistics, and constants to the backward pass.
    Returns (y, ctx).
    Raises ValueError for an eps below 0, and for statistics of a single value.
    """
    x = array(x, "instance_norm", "x")
    use_input_stats = flag(use_input_stats, "instance_norm", "use_input_stats")
    momentum = number(momentum, "instance_norm", "momentum")
    desc = instance_norm_desc(x.shape, use_input_stats)
    if not use_input_stats:
        eps = checked_eps(eps, "instance_norm")
        given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm: running_mean and running_var are needed when use_input_stats=False")
        for name, a in given.items():
            if a is not None:
                given[name] = array_of_shape(a, "instance_norm", name, desc.affine, x)
        return batch_norm_forward(x, **given, training=False, eps=eps, keep=keep)
    momentum = number(momentum, "instance_norm", "momentum")
    if running_mean is not None:
        running_mean = writable(running_mean, "instance_norm", "running_mean", desc.affine, x)
    if running_var is not None:
        running_var = writable(running_var, "instance_norm", "running_var", desc.affine, x)
    tracked = desc.rows > 0 and (running_mean is not None or running_var is not None)
    var = np.empty(desc.rows) if tracked else None
    y, ctx = forward("instance_norm", x, desc, weight, bias, eps, keep, var=var)
    if tracked:
        samples = len(x), x.shape[1]
        unbiased = var.reshape(samples).mean(0) * (desc.inner / (desc.inner - 1))
        update((running_mean, running_var), (ctx.mean.reshape(samples).mean(0), unbiased), momentum)
    return y, ctx if keep else None


def instance_norm_backward(dy, ctx, needs=(True, True, True)):
    """Gradients (dx, dweight, dbias), those of group_norm_backward with groups of one channel, or of
    batch_norm_backward if the statistics were constants; None for those not needed and for absent arguments."""
    if isinstance(ctx, RowNormCtx):
        return backward("instance_norm", dy, ctx, needs)
    dy = array_of_shape(dy, "instance_norm", "dy", ctx.x.shape, ctx.x)
    return batch_norm_backward(dy, ctx, (*needs, False))[:3]

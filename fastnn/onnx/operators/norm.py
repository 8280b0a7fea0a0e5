"""Normalisation."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import axes_in, axis_in, through_float32, unsupported, wanted, wide


def eps_of(node):
    return node.attributes.get("epsilon", 1e-5)


@operator("BatchNormalization", since=7)
def batch_norm(node, x, scale, bias, mean, var):
    """Inference; training before opset 14 is by the number of outputs."""
    if not node.attributes.get("spatial", 1):
        raise unsupported(node, "spatial=0")
    if any(wanted(node, i) for i in range(1, 5)):
        raise unsupported(node, "training mode")
    y = ops.batch_norm_forward(*statistics(x, scale, bias, mean, var), training=False, eps=eps_of(node), keep=False)[0]
    return y.astype(x.dtype, copy=False)


def statistics(x, *parameters):
    """x and the parameters of its channels, all of the type that is computed in."""
    x = wide(x)
    return x, *(p.astype(x.dtype, copy=False) for p in parameters)


@operator("BatchNormalization", since=14)
def batch_norm_training(node, x, scale, bias, mean, var):
    """In training mode also the running statistics, of the biased variance; `momentum` is the part of the old ones."""
    if not node.attributes.get("training_mode", 0):
        return batch_norm(node, x, scale, bias, mean, var)
    wide_x, weight, shift = statistics(x, scale, bias)
    new_mean, new_var = (np.zeros(len(mean), wide_x.dtype) for _ in range(2))
    y = ops.batch_norm_forward(
        wide_x, weight, shift, new_mean, new_var, training=True, momentum=1.0, eps=eps_of(node), keep=False
    )[0]
    count = x.size // max(x.shape[1], 1)
    momentum = node.attributes.get("momentum", 0.9)
    new_var *= (count - 1) / count if count else 0.0
    running = (momentum * wide(old) + (1 - momentum) * new for old, new in ((mean, new_mean), (var, new_var)))
    return y.astype(x.dtype, copy=False), *(r.astype(mean.dtype, copy=False) for r in running)


@operator("InstanceNormalization", since=6)
@through_float32
def instance_norm(node, x, scale, bias):
    return ops.instance_norm_forward(x, None, None, scale, bias, eps=eps_of(node), keep=False)[0]


def fits(parameter, shape):
    """A parameter that broadcasts, of the shape that is normalised; None if it does not broadcast to that alone."""
    if parameter is None or parameter.shape == shape:
        return parameter
    return np.broadcast_to(parameter, shape) if parameter.ndim <= len(shape) else None


def normalized(node, x, scale, bias, function):
    """y, ctx of a function over the axes from `axis` on; scale and bias may also differ between samples."""
    axis = axis_in(node, node.attributes.get("axis", -1), x.ndim)
    shape = x.shape[axis:]
    weights = fits(scale, shape), fits(bias, shape)
    inside = all((a is None) == (b is None) for a, b in zip(weights, (scale, bias), strict=True))
    y, ctx = function(x, shape, *(weights if inside else (None, None)))
    if not inside:
        y = y * scale if bias is None else y * scale + bias
    return y, ctx, axis


@operator("LayerNormalization", since=17)
def layer_norm(node, x, scale, bias=None):
    """Also the means and the reciprocal deviations, as float32 of anything but float64."""

    def function(x, shape, weight, shift):
        return ops.layer_norm_forward(x, shape, weight, shift, eps_of(node), keep=wanted(node, 1) or wanted(node, 2))

    y, ctx, axis = normalized(node, wide(x), wide(scale), wide(bias), function)
    y = y.astype(x.dtype, copy=False)
    if ctx is None:
        return y
    shape = x.shape[:axis] + (1,) * (x.ndim - axis)
    return y, *(s.reshape(shape).astype(wide(x).dtype) for s in (ctx.mean, ctx.invstd))


@operator("RMSNormalization", since=23)
@through_float32
def rms_norm(node, x, scale):
    def function(x, shape, weight, _):
        return ops.rms_norm_forward(x, shape, weight, eps_of(node), keep=False)

    return normalized(node, x, scale, None, function)[0]


@operator("GroupNormalization", since=21)
@through_float32
def group_norm(node, x, scale, bias):
    return ops.group_norm_forward(x, node.attributes["num_groups"], scale, bias, eps_of(node), keep=False)[0]


@operator("GroupNormalization", since=18)
def group_norm_18(node, x, scale, bias):
    """Where scale and bias are of a group."""
    repeats = x.shape[1] // node.attributes["num_groups"]
    return group_norm(node, x, np.repeat(scale, repeats), np.repeat(bias, repeats))


@operator("LRN")
@through_float32
def response_norm(node, x):
    """Of an even size, the channel more is behind, and before in our kernel."""
    a = node.attributes
    step = -1 if a["size"] % 2 == 0 else 1
    y = ops.local_response_norm_forward(
        x[:, ::step], a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0), keep=False
    )[0]
    return y[:, ::step]


@operator("MeanVarianceNormalization", since=9)
@through_float32
def mean_variance_norm(node, x):
    axes = axes_in(node, node.attributes.get("axes", (0, 2, 3)), x.ndim)
    centred = x - x.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
    deviation += x.dtype.type(1e-9)
    return centred / deviation


@operator("LpNormalization")
@through_float32
def lp_norm(node, x):
    """Zeros stay zeros."""
    axis, p = axis_in(node, node.attributes.get("axis", -1), x.ndim), node.attributes.get("p", 2)
    if p not in (1, 2):
        raise ValueError(f"p is {p}, expected 1 or 2")
    norm = np.abs(x).sum(axis=axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis=axis, keepdims=True))
    return x / np.where(norm == 0, x.dtype.type(1), norm)

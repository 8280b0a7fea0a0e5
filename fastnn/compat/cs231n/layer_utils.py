"""Layers that often follow each other, as one; and all that they consist of."""

from fastnn.compat.cs231n import fast_layers, layers
from fastnn.compat.cs231n.fast_layers import *  # noqa: F403
from fastnn.compat.cs231n.fast_layers import (
    conv_backward_fast,
    conv_forward,
    max_pool_backward_fast,
    max_pool_forward_fast,
)
from fastnn.compat.cs231n.layers import *  # noqa: F403
from fastnn.compat.cs231n.layers import (
    affine_backward,
    affine_forward,
    batchnorm,
    relu_backward,
    relu_forward,
    spatial_batchnorm_backward,
)

__all__ = [
    *fast_layers.__all__,
    *layers.__all__,
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]


def affine_relu_forward(x, w, b):
    """affine_forward, then relu_forward. Returns (out, cache)."""
    a, affine = affine_forward(x, w, b)
    out, relu = relu_forward(a)
    return out, (affine, relu)


def affine_relu_backward(dout, cache):
    """(dx, dw, db)"""
    affine, relu = cache
    return affine_backward(relu_backward(dout, relu), affine)


def conv_relu_forward(x, w, b, conv_param):
    """conv_forward_fast with relu_forward in one pass. Returns (out, cache)."""
    return conv_forward(x, w, b, conv_param, activation="relu")


conv_relu_backward = conv_backward_fast


def conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param):
    """conv_forward_fast, then spatial_batchnorm_forward with relu_forward in one pass. Returns (out, cache)."""
    a, conv = conv_forward(x, w, b, conv_param)
    out, norm = batchnorm("spatial_batchnorm", a, gamma, beta, bn_param, 4, relu=True)
    return out, (conv, norm)


def conv_bn_relu_backward(dout, cache):
    """(dx, dw, db, dgamma, dbeta)"""
    conv, norm = cache
    da, dgamma, dbeta = spatial_batchnorm_backward(dout, norm)
    return *conv_backward_fast(da, conv), dgamma, dbeta


def conv_relu_pool_forward(x, w, b, conv_param, pool_param):
    """conv_relu_forward, then max_pool_forward_fast. Returns (out, cache)."""
    a, conv = conv_relu_forward(x, w, b, conv_param)
    out, pool = max_pool_forward_fast(a, pool_param)
    return out, (conv, pool)


def conv_relu_pool_backward(dout, cache):
    """(dx, dw, db)"""
    conv, pool = cache
    return conv_backward_fast(max_pool_backward_fast(dout, pool), conv)

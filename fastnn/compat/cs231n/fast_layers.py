"""Convolution and max pooling, and all of im2col, as in the course. The forms of a layer give the same results; they
differ in the algorithm, and those of pooling in who gets the gradient of a window with several maxima."""

import numpy as np

from fastnn import ops
from fastnn.compat.cs231n import im2col
from fastnn.compat.cs231n._calls import call, gradients, parameter, promoted
from fastnn.compat.cs231n.im2col import *  # noqa: F403
from fastnn.ops._arrays import array

__all__ = [
    *im2col.__all__,
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]


def conv_forward(x, w, b, conv_param, module=ops, **options):
    """A convolution by the operator of `module`, with more of its options."""
    stride, pad = (parameter("conv", "conv_param", conv_param, key) for key in ("stride", "pad"))

    def forward(x, w, b):
        return module.conv2d_forward(x, w, b, stride, pad, **options)

    return call("conv", forward, module.conv2d_backward, *promoted("conv", x=x, w=w, b=b))


def conv_forward_fast(x, w, b, conv_param):
    """out[n,f,u,v] = b[f] + sum_{c,i,j} w[f,c,i,j] x[n, c, u*stride + i - pad, v*stride + j - pad].

    x: (N, C, H, W). w: (F, C, HH, WW). b: (F,). conv_param: {"stride", "pad"}. Returns (out, cache) with out
    (N, F, OH, OW), OH = (H + 2 pad - HH) // stride + 1.
    """
    return conv_forward(x, w, b, conv_param)


def conv_forward_im2col(x, w, b, conv_param):
    """conv_forward_fast, by products with columns of windows that are stored."""
    return conv_forward(x, w, b, conv_param, algo="im2col")


def conv_backward_fast(dout, cache):
    """(dx, dw, db) of a convolution, with dout (N, F, OH, OW)."""
    return gradients("conv", cache, dout=dout)


conv_forward_strides = conv_forward_fast
conv_backward_strides = conv_backward_im2col = conv_backward_fast


def pool_options(pool_param):
    """pool_height, pool_width, stride"""
    return [parameter("max_pool", "pool_param", pool_param, key) for key in ("pool_height", "pool_width", "stride")]


def max_pool(x, pool_param, module):
    """Max pooling by the operator of `module`."""
    height, width, stride = pool_options(pool_param)

    def forward(x):
        return module.max_pool2d_forward(x, (height, width), stride)

    return call("max_pool", forward, module.max_pool2d_backward, *promoted("max_pool", x=x))


def max_pool_forward_im2col(x, pool_param):
    """max_pool_forward_fast; the first of several maxima, in row-major order, gets the gradient of its window."""
    return max_pool(x, pool_param, ops)


def tiles(x, pool_param):
    """Do the windows share out the images?"""
    height, width, stride = pool_options(pool_param)
    return height == width == stride and x.shape[2] % height == x.shape[3] % width == 0


def max_pool_forward_reshape(x, pool_param):
    """max_pool_forward_fast for windows that share out the images: pool_height = pool_width = stride, of which H and W
    are multiples. Several maxima of a window share its gradient equally."""
    x = array(*promoted("max_pool", x=x), "max_pool", "x", 4, "(N, C, H, W)")
    if not tiles(x, pool_param):
        raise ValueError(
            f"max_pool: pool_param is {pool_param} and x has shape {x.shape}, expected pool_height = pool_width = "
            "stride and a multiple of it for the height and width of x"
        )
    size = pool_param["stride"]

    def forward(x):
        y, _ = ops.max_pool2d_forward(x, size, keep=False)
        return y, (x, y)

    def backward(dout, ctx):
        x, y = ctx
        largest, _ = ops.upsample_nearest2d_forward(y, x.shape[2:], keep=False)
        np.equal(x, largest, out=largest, casting="unsafe")  # 1 where it is, as numbers without another pass
        # sums of windows, and their adjoint: divisor 1
        count, window = ops.avg_pool2d_forward(largest, size, divisor_override=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # of a window with a NaN, nothing is its maximum
            dx = ops.avg_pool2d_backward(np.divide(dout, count, out=count), window)
            dx *= largest
        return dx

    return call("max_pool", forward, backward, x)


def max_pool_forward_fast(x, pool_param):
    """The maximum of every window of x (N, C, H, W). pool_param: {"pool_height", "pool_width", "stride"}.

    Returns (out, cache) with out (N, C, OH, OW), OH = (H - pool_height) // stride + 1. It is
    max_pool_forward_reshape where the windows share out the images, and max_pool_forward_im2col elsewhere.
    """
    x = array(*promoted("max_pool", x=x), "max_pool", "x", 4, "(N, C, H, W)")
    form = max_pool_forward_reshape if tiles(x, pool_param) else max_pool_forward_im2col
    return form(x, pool_param)


def max_pool_backward_fast(dout, cache):
    """dx of max pooling of any form, with dout (N, C, OH, OW)."""
    return gradients("max_pool", cache, dout=dout)


max_pool_backward_im2col = max_pool_backward_reshape = max_pool_backward_fast

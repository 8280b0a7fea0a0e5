"""Up-sampling and resampling of images and signals (K6)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import Upsample2dDesc, upsample_desc, upsample_zeros2d_desc
from fastnn.kernels import pool
from fastnn.kernels import upsample as kernels
from fastnn.ops._arrays import array, array_of_shape, empty

__all__ = [
    "upsample_bilinear2d_backward", "upsample_bilinear2d_forward", "upsample_linear1d_backward",
    "upsample_linear1d_forward", "upsample_nearest1d_backward", "upsample_nearest1d_forward",
    "upsample_nearest2d_backward", "upsample_nearest2d_forward", "upsample_zeros2d_backward",
    "upsample_zeros2d_forward",
]  # fmt: skip

IMAGE, SIGNAL = "(N, C, H, W)", "(N, C, L)"
ZEROS, NEAREST, LINEAR = (kernels.MODES[name] for name in ("zeros", "nearest", "linear"))


class UpsampleCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Upsample2dDesc
    like: np.ndarray
    """An empty array of x's dtype."""


def resample(mode, x, desc, keep):
    """(y, ctx) of images x."""
    y = empty(desc.y_shape, x)
    kernels.forward(mode, x, y, desc.scale, desc.align_corners)
    return y, UpsampleCtx(desc, np.empty(0, x.dtype)) if keep else None


def resample_backward(op, mode, dy, ctx):
    """The backward pass of images."""
    desc, like = ctx
    dy = array_of_shape(dy, op, "dy", desc.y_shape, like)
    dx = empty(desc.x_shape, dy)
    kernels.backward(mode, dy, dx, desc.scale, desc.align_corners)
    return dx


def signals(op, mode, x, size, scale_factor, align_corners, keep):
    """(y, ctx) of signals: images one pixel high."""
    x = array(x, op, "x", 3, SIGNAL)
    desc = upsample_desc(op, x.shape, size, scale_factor, align_corners)
    y, ctx = resample(mode, x.reshape(desc.x_shape), desc, keep)
    y.shape = (desc.n, desc.c, desc.ow)
    return y, ctx


def signals_backward(op, mode, dy, ctx):
    """The backward pass of signals."""
    desc, like = ctx
    dy = array_of_shape(dy, op, "dy", (desc.n, desc.c, desc.ow), like)
    dx = resample_backward(op, mode, dy.reshape(desc.y_shape), ctx)
    dx.shape = (desc.n, desc.c, desc.w)
    return dx


def upsample_zeros2d_forward(x, stride, *, keep=True):
    """Zero-insertion: y[n,c,u*stride,v*stride] = x[n,c,u,v], and zeros elsewhere.

    x: (N, C, H, W), float32 or float64. stride: an integer or (vertical, horizontal), at least 1.
    Returns (y, ctx) with y (N, C, H*stride, W*stride): every pixel is the upper left of a block, as with the other
    kinds of up-sampling, so that subsample2d with block=stride gives x back.
    A transposed convolution is this followed by a convolution with the kernel rotated by 180 degrees.
    """
    x = array(x, "upsample_zeros2d", "x", 4, IMAGE)
    return resample(ZEROS, x, upsample_zeros2d_desc(x.shape, stride), keep)


def upsample_zeros2d_backward(dy, ctx):
    """dx[n,c,u,v] = dy[n,c,u*stride,v*stride]."""
    desc, like = ctx
    dy = array_of_shape(dy, "upsample_zeros2d", "dy", desc.y_shape, like)
    dx = empty(desc.x_shape, dy)
    pool.subsample(dy, dx, (1, 1, desc.oh // desc.h, desc.ow // desc.w, 0, 0, 1, 1))
    return dx


def upsample_nearest2d_forward(x, size=None, scale_factor=None, *, keep=True):
    """The pixel at or before each result: y[n,c,u,v] = x[n, c, floor(u * a), floor(v * b)], at most H-1 and W-1.

    x: (N, C, H, W), float32 or float64. One of size, the results (OH, OW), and scale_factor, positive numbers, is
    given, as one value or (vertical, horizontal); with the latter OH = floor(H * scale_factor). a and b are
    1 / scale_factor, or the ratios of sizes H / OH and W / OW, and they and the products are rounded to single
    precision, whatever the dtype: as in torch for float32, whose float64 differs where that makes a difference.
    Returns (y, ctx) with y (N, C, OH, OW).
    """
    x = array(x, "upsample_nearest2d", "x", 4, IMAGE)
    return resample(NEAREST, x, upsample_desc("upsample_nearest2d", x.shape, size, scale_factor), keep)


def upsample_nearest2d_backward(dy, ctx):
    """dx = the sum of dy over the results that a pixel went to."""
    return resample_backward("upsample_nearest2d", NEAREST, dy, ctx)


def upsample_bilinear2d_forward(x, size=None, scale_factor=None, align_corners=False, *, keep=True):
    """Linear interpolation, down and across, between the two pixels about each result.

    x, size, scale_factor: as in upsample_nearest2d_forward. Result u lies at a * (u + 1/2) - 1/2 on the axis of x, at
    least 0; with align_corners at u * (H-1) / (OH-1), so that the corners' centres stay where they are. An axis whose
    size stays is left as it is. Positions are computed in double precision. Down-sampling does not average: it takes
    two pixels an axis, as torch does without antialias.
    Returns (y, ctx) with y (N, C, OH, OW).
    """
    x = array(x, "upsample_bilinear2d", "x", 4, IMAGE)
    desc = upsample_desc("upsample_bilinear2d", x.shape, size, scale_factor, align_corners)
    return resample(LINEAR, x, desc, keep)


def upsample_bilinear2d_backward(dy, ctx):
    """dx = the sum of dy over the results that a pixel is part of, by its weight in each."""
    return resample_backward("upsample_bilinear2d", LINEAR, dy, ctx)


def upsample_nearest1d_forward(x, size=None, scale_factor=None, *, keep=True):
    """upsample_nearest2d_forward of signals x (N, C, L); returns (y, ctx) with y (N, C, OL)."""
    return signals("upsample_nearest1d", NEAREST, x, size, scale_factor, False, keep)


def upsample_nearest1d_backward(dy, ctx):
    """dx = the sum of dy over the results that an element went to."""
    return signals_backward("upsample_nearest1d", NEAREST, dy, ctx)


def upsample_linear1d_forward(x, size=None, scale_factor=None, align_corners=False, *, keep=True):
    """upsample_bilinear2d_forward of signals x (N, C, L); returns (y, ctx) with y (N, C, OL)."""
    return signals("upsample_linear1d", LINEAR, x, size, scale_factor, align_corners, keep)


def upsample_linear1d_backward(dy, ctx):
    """dx = the sum of dy over the results that an element is part of, by its weight in each."""
    return signals_backward("upsample_linear1d", LINEAR, dy, ctx)

"""Pooling and sub-sampling (K4, K5)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import Pool2dDesc, Subsample2dDesc, is_int, pool2d_desc, subsample2d_desc
from fastnn.kernels import pool as kernels
from fastnn.ops._arrays import array, array_of_shape, empty, empty_indices

__all__ = [
    "avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward", "min_pool2d_backward",
    "min_pool2d_forward", "subsample2d_backward", "subsample2d_forward",
]  # fmt: skip

LAYOUT = "(N, C, H, W)"


class SelectCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    where: np.ndarray
    """Where in its plane every output was found, as integers of the width of an element."""
    like: np.ndarray
    """An empty array of x's dtype."""


class AverageCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    divisor: int
    include_pad: bool
    like: np.ndarray


class SubsampleCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Subsample2dDesc
    like: np.ndarray


def select_forward(op, minimum, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, keep):
    """max_pool2d_forward, or min_pool2d_forward if `minimum`."""
    x = array(x, op, "x", 4, LAYOUT)
    desc = pool2d_desc(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = empty(desc.y_shape, x)
    index = None
    if keep or return_indices:
        index = empty_indices(desc.y_shape, x)
    kernels.select(x, y, index, desc.geometry, minimum)
    ctx = SelectCtx(desc, index, np.empty(0, x.dtype)) if keep else None
    return (y, index.astype(np.int64)) if return_indices else y, ctx


def select_backward(op, dy, ctx):
    """Backward of either."""
    desc = ctx.desc
    dy = array_of_shape(dy, op, "dy", desc.y_shape, ctx.like)
    dx = empty(desc.x_shape, dy)
    kernels.select_backward(dy, ctx.where, dx, desc.geometry)
    return dx


def max_pool2d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """The maximum of every window,

        y[n,c,u,v] = max_{i,j} x[n, c, u*stride + i*dilation - padding, v*stride + j*dilation - padding]

    over the pixels inside the image. A window with a NaN gives NaN.

    x: (N, C, H, W), float32 or float64. kernel_size, stride (None: kernel_size), padding, dilation: an integer or
    (vertical, horizontal); padding is at most half of kernel_size. ceil_mode: windows may end behind the padding, as
    long as they start in front of it.
    Returns (y, ctx), or ((y, indices), ctx) with return_indices: the int64 index in the plane, row*W + column, of the
    first maximum in row-major order, or of the first NaN. y and indices: (N, C, OH, OW) with
    OH = (H + 2*padding - dilation*(kernel_size-1) - 1) // stride + 1, rounded up with ceil_mode.
    """
    return select_forward(
        "max_pool2d", False, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, keep
    )


def max_pool2d_backward(dy, ctx):
    """dx = dy at the maximum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("max_pool2d", dy, ctx)


def min_pool2d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """The minimum of every window; arguments and results as in max_pool2d_forward, with the order reversed."""
    return select_forward(
        "min_pool2d", True, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, keep
    )


def min_pool2d_backward(dy, ctx):
    """dx = dy at the minimum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("min_pool2d", dy, ctx)


def avg_pool2d_forward(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None, *, keep=True
):
    """The average of every window, sum / divisor with zeros for the padding.

    x, kernel_size, stride, padding, ceil_mode: as in max_pool2d_forward. The divisor is divisor_override, an integer
    other than 0, or the number of pixels in the window: those in the image, and those in the padding if
    count_include_pad, but not those that ceil_mode adds behind it.
    Returns (y, ctx) with y (N, C, OH, OW).
    """
    x = array(x, "avg_pool2d", "x", 4, LAYOUT)
    desc = pool2d_desc("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)
    divisor = 0
    if divisor_override is not None:
        divisor = divisor_override
        if not is_int(divisor) or not 0 < abs(divisor) < 2**63:
            raise ValueError(f"avg_pool2d: divisor_override must be an integer other than 0, got {divisor!r}")
    include_pad = bool(count_include_pad)
    y = empty(desc.y_shape, x)
    kernels.average(x, y, desc.geometry, divisor, include_pad)
    return y, AverageCtx(desc, divisor, include_pad, np.empty(0, x.dtype)) if keep else None


def avg_pool2d_backward(dy, ctx):
    """dx = the sum of dy / divisor over the windows that cover a pixel."""
    desc, divisor, include_pad, like = ctx
    dy = array_of_shape(dy, "avg_pool2d", "dy", desc.y_shape, like)
    dx = empty(desc.x_shape, dy)
    kernels.average_backward(dy, dx, desc.geometry, divisor, include_pad)
    return dx


def subsample2d_forward(x, block, position="upper_left", *, keep=True):
    """One pixel of every block: y[n,c,u,v] = x[n, c, u*block + top, v*block + left].

    x: (N, C, H, W), float32 or float64. block: an integer or (vertical, horizontal); only whole blocks count, so that
    the output is as large as that of pooling with kernel_size=block. position: "upper_left", where top = left = 0, or
    "middle", block // 2.
    Returns (y, ctx) with y (N, C, H // block, W // block).
    """
    x = array(x, "subsample2d", "x", 4, LAYOUT)
    desc = subsample2d_desc(x.shape, block, position)
    y = empty(desc.y_shape, x)
    kernels.subsample(x, y, desc.geometry)
    return y, SubsampleCtx(desc, np.empty(0, x.dtype)) if keep else None


def subsample2d_backward(dy, ctx):
    """dx = dy at the pixels that were kept, and zero elsewhere."""
    desc, like = ctx
    dy = array_of_shape(dy, "subsample2d", "dy", desc.y_shape, like)
    dx = empty(desc.x_shape, dy)
    kernels.subsample_backward(dy, dx, desc.geometry)
    return dx

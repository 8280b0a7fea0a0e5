"""Pooling and sub-sampling (K4, K5).

One-dimensional operators are those on images one pixel high.
"""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import (
    MaxUnpool2dDesc,
    Pool2dDesc,
    Subsample2dDesc,
    adaptive_pool1d_desc,
    adaptive_pool2d_desc,
    flag,
    is_int,
    max_unpool1d_desc,
    max_unpool2d_desc,
    number,
    pool1d_desc,
    pool2d_desc,
    subsample2d_desc,
)
from fastnn.kernels import pool as kernels
from fastnn.ops._arrays import array, array_of_shape, empty, empty_indices, integer_array

__all__ = [
    "adaptive_avg_pool1d_backward", "adaptive_avg_pool1d_forward", "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_forward", "adaptive_max_pool1d_backward", "adaptive_max_pool1d_forward",
    "adaptive_max_pool2d_backward", "adaptive_max_pool2d_forward", "avg_pool1d_backward", "avg_pool1d_forward",
    "avg_pool2d_backward", "avg_pool2d_forward", "lp_pool1d_backward", "lp_pool1d_forward", "lp_pool2d_backward",
    "lp_pool2d_forward", "max_pool1d_backward", "max_pool1d_forward", "max_pool2d_backward", "max_pool2d_forward",
    "max_unpool1d_backward", "max_unpool1d_forward", "max_unpool2d_backward", "max_unpool2d_forward",
    "min_pool1d_backward", "min_pool1d_forward", "min_pool2d_backward", "min_pool2d_forward", "subsample2d_backward",
    "subsample2d_forward",
]  # fmt: skip

LAYOUT = "(N, C, H, W)"
ROW_LAYOUT = "(N, C, L)"


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


class NormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    norm: float
    x: np.ndarray
    kept: np.ndarray
    """y; of an infinite norm, where in its plane every output was found."""


class UnpoolCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: MaxUnpool2dDesc
    indices: np.ndarray
    like: np.ndarray


class SubsampleCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Subsample2dDesc
    like: np.ndarray


def row_image(x, op):
    """The argument x of a one-dimensional operator as images one pixel high."""
    return array(x, op, "x", 3, ROW_LAYOUT)[:, :, None]


def rows(y):
    """Images one pixel high as rows; of a tuple, each."""
    return tuple(map(rows, y)) if isinstance(y, tuple) else y[:, :, 0]


def output_gradient(dy, op, desc, like, row):
    """dy of the shape of desc's output, or of its rows."""
    if row:
        return array_of_shape(dy, op, "dy", (desc.n, desc.c, desc.ow), like)[:, :, None]
    return array_of_shape(dy, op, "dy", desc.y_shape, like)


# ---- maximum and minimum ----


def select(op, x, desc, minimum, return_indices, keep):
    """(y, ctx) of the maximum, or minimum, of every window."""
    return_indices = flag(return_indices, op, "return_indices")
    y = empty(desc.y_shape, x)
    index = None
    if keep or return_indices:
        index = empty_indices(desc.y_shape, x)
    kernels.select(x, y, index, desc.geometry, minimum)
    ctx = SelectCtx(desc, index, np.empty(0, x.dtype)) if keep else None
    return (y, index.astype(np.int64)) if return_indices else y, ctx


def select_backward(op, dy, ctx, row=False):
    """Backward of either."""
    desc = ctx.desc
    dy = output_gradient(dy, op, desc, ctx.like, row)
    dx = empty(desc.x_shape, dy)
    kernels.select_backward(dy, ctx.where, dx, desc.geometry)
    return rows(dx) if row else dx


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
    first maximum in row-major order, or of the first NaN (of several, torch takes the last). y and indices:
    (N, C, OH, OW) with OH = (H + 2*padding - dilation*(kernel_size-1) - 1) // stride + 1, rounded up with ceil_mode.
    """
    x = array(x, "max_pool2d", "x", 4, LAYOUT)
    desc = pool2d_desc("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return select("max_pool2d", x, desc, False, return_indices, keep)


def max_pool2d_backward(dy, ctx):
    """dx = dy at the maximum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("max_pool2d", dy, ctx)


def min_pool2d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """The minimum of every window; otherwise as max_pool2d_forward."""
    x = array(x, "min_pool2d", "x", 4, LAYOUT)
    desc = pool2d_desc("min_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return select("min_pool2d", x, desc, True, return_indices, keep)


def min_pool2d_backward(dy, ctx):
    """dx = dy at the minimum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("min_pool2d", dy, ctx)


def max_pool1d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """The maximum of every window of rows x (N, C, L); options, integers, and results as in max_pool2d_forward, with
    indices in the row."""
    x = row_image(x, "max_pool1d")
    desc = pool1d_desc("max_pool1d", (*x.shape[:2], x.shape[3]), kernel_size, stride, padding, dilation, ceil_mode)
    y, ctx = select("max_pool1d", x, desc, False, return_indices, keep)
    return rows(y), ctx


def max_pool1d_backward(dy, ctx):
    """dx = dy at the maximum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("max_pool1d", dy, ctx, row=True)


def min_pool1d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """The minimum of every window of rows x (N, C, L); otherwise as max_pool1d_forward."""
    x = row_image(x, "min_pool1d")
    desc = pool1d_desc("min_pool1d", (*x.shape[:2], x.shape[3]), kernel_size, stride, padding, dilation, ceil_mode)
    y, ctx = select("min_pool1d", x, desc, True, return_indices, keep)
    return rows(y), ctx


def min_pool1d_backward(dy, ctx):
    """dx = dy at the minimum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("min_pool1d", dy, ctx, row=True)


def adaptive_max_pool2d_forward(x, output_size, return_indices=False, *, keep=True):
    """The maximum of windows that share out the image: output (i, j) takes the rows from floor(i*H / OH) to
    ceil((i+1)*H / OH), exclusive, and columns likewise, so that the whole image is pooled with output_size=1.

    x: (N, C, H, W), float32 or float64. output_size: OH = OW, or (OH, OW), each at least 1; None: as large as x.
    return_indices and results as in max_pool2d_forward.
    """
    x = array(x, "adaptive_max_pool2d", "x", 4, LAYOUT)
    desc = adaptive_pool2d_desc("adaptive_max_pool2d", x.shape, output_size)
    return select("adaptive_max_pool2d", x, desc, False, return_indices, keep)


def adaptive_max_pool2d_backward(dy, ctx):
    """dx = dy at the maximum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("adaptive_max_pool2d", dy, ctx)


def adaptive_max_pool1d_forward(x, output_size, return_indices=False, *, keep=True):
    """The same for rows x (N, C, L); output_size: an integer, or None for L."""
    x = row_image(x, "adaptive_max_pool1d")
    desc = adaptive_pool1d_desc("adaptive_max_pool1d", (*x.shape[:2], x.shape[3]), output_size)
    y, ctx = select("adaptive_max_pool1d", x, desc, False, return_indices, keep)
    return rows(y), ctx


def adaptive_max_pool1d_backward(dy, ctx):
    """dx = dy at the maximum of every window, summed where windows share one, and zero elsewhere."""
    return select_backward("adaptive_max_pool1d", dy, ctx, row=True)


# ---- average ----


def average(x, desc, keep, divisor=0, include_pad=False):
    """(y, ctx) of the average of every window; divisor 0: their pixels, those of the padding too if include_pad."""
    y = empty(desc.y_shape, x)
    kernels.average(x, y, desc.geometry, divisor, include_pad)
    return y, AverageCtx(desc, divisor, include_pad, np.empty(0, x.dtype)) if keep else None


def average_backward(op, dy, ctx, row=False):
    """Its backward."""
    desc, divisor, include_pad, like = ctx
    dy = output_gradient(dy, op, desc, like, row)
    dx = empty(desc.x_shape, dy)
    kernels.average_backward(dy, dx, desc.geometry, divisor, include_pad)
    return rows(dx) if row else dx


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
    return average(x, desc, keep, divisor, flag(count_include_pad, "avg_pool2d", "count_include_pad"))


def avg_pool2d_backward(dy, ctx):
    """dx = the sum of dy / divisor over the windows that cover a pixel."""
    return average_backward("avg_pool2d", dy, ctx)


def avg_pool1d_forward(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, *, keep=True):
    """The average of every window of rows x (N, C, L); options, integers, as in avg_pool2d_forward."""
    x = row_image(x, "avg_pool1d")
    desc = pool1d_desc("avg_pool1d", (*x.shape[:2], x.shape[3]), kernel_size, stride, padding, 1, ceil_mode)
    y, ctx = average(x, desc, keep, 0, flag(count_include_pad, "avg_pool1d", "count_include_pad"))
    return rows(y), ctx


def avg_pool1d_backward(dy, ctx):
    """dx = the sum of dy / divisor over the windows that cover a pixel."""
    return average_backward("avg_pool1d", dy, ctx, row=True)


def adaptive_avg_pool2d_forward(x, output_size, *, keep=True):
    """The average of windows that share out the image, as in adaptive_max_pool2d_forward; with output_size=1, of the
    image. Returns (y, ctx) with y (N, C, OH, OW)."""
    x = array(x, "adaptive_avg_pool2d", "x", 4, LAYOUT)
    return average(x, adaptive_pool2d_desc("adaptive_avg_pool2d", x.shape, output_size), keep)


def adaptive_avg_pool2d_backward(dy, ctx):
    """dx = the sum of dy / pixels over the windows that cover a pixel."""
    return average_backward("adaptive_avg_pool2d", dy, ctx)


def adaptive_avg_pool1d_forward(x, output_size, *, keep=True):
    """The same for rows x (N, C, L); output_size: an integer, or None for L."""
    x = row_image(x, "adaptive_avg_pool1d")
    desc = adaptive_pool1d_desc("adaptive_avg_pool1d", (*x.shape[:2], x.shape[3]), output_size)
    y, ctx = average(x, desc, keep)
    return rows(y), ctx


def adaptive_avg_pool1d_backward(dy, ctx):
    """dx = the sum of dy / pixels over the windows that cover a pixel."""
    return average_backward("adaptive_avg_pool1d", dy, ctx, row=True)


# ---- norms ----


def power(op, x, desc, norm_type, keep):
    """(y, ctx) of the norm of every window."""
    norm = number(norm_type, op, "norm_type")
    if norm == 0 or norm != norm:
        raise ValueError(f"{op}: norm_type must be a number other than 0, got {norm_type!r}")
    if norm in (np.inf, -np.inf):
        y, ctx = select(op, np.abs(x), desc, norm < 0, False, keep)
        return y, NormCtx(desc, norm, x, ctx.where) if keep else None
    y = empty(desc.y_shape, x)
    kernels.power(x, y, desc.geometry, norm)
    return y, NormCtx(desc, norm, x, y) if keep else None


def power_backward(op, dy, ctx, row=False):
    """Its backward."""
    desc, norm, x, kept = ctx
    dy = output_gradient(dy, op, desc, x, row)
    dx = empty(desc.x_shape, dy)
    if norm in (np.inf, -np.inf):
        kernels.select_backward(dy, kept, dx, desc.geometry)
        dx *= np.sign(x)
    else:
        kernels.power_backward(dy, x, kept, dx, desc.geometry, norm)
    return rows(dx) if row else dx


def lp_pool2d_forward(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, keep=True):
    """The p-norm of every window, without absolute values as in torch,

        y = s^(1/p), s = K / k * sum x^p

    over the k pixels inside the image of a window of K; k < K with ceil_mode only. An odd p lets signs cancel: y is
    NaN where s is negative and p is not 1 or -1, and where p is no integer and an x is negative. norm_type: p, a number
    other than 0; inf: max |x|; -inf: min |x|. s overflows where x^p does.

    x, kernel_size, stride, ceil_mode: as in max_pool2d_forward. Returns (y, ctx) with y (N, C, OH, OW).
    """
    x = array(x, "lp_pool2d", "x", 4, LAYOUT)
    desc = pool2d_desc("lp_pool2d", x.shape, kernel_size, stride, 0, 1, ceil_mode)
    return power("lp_pool2d", x, desc, norm_type, keep)


def lp_pool2d_backward(dy, ctx):
    """dx = x^(p-1) times the sum of dy K/k y^(1-p) over the windows that cover a pixel, without those where s is 0."""
    return power_backward("lp_pool2d", dy, ctx)


def lp_pool1d_forward(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, keep=True):
    """The p-norm of every window of rows x (N, C, L); options, integers, as in lp_pool2d_forward."""
    x = row_image(x, "lp_pool1d")
    desc = pool1d_desc("lp_pool1d", (*x.shape[:2], x.shape[3]), kernel_size, stride, 0, 1, ceil_mode)
    y, ctx = power("lp_pool1d", x, desc, norm_type, keep)
    return rows(y), ctx


def lp_pool1d_backward(dy, ctx):
    """As lp_pool2d_backward."""
    return power_backward("lp_pool1d", dy, ctx, row=True)


# ---- un-pooling ----


def planes_indices(op, indices, desc):
    """indices, or ValueError for the first that is in no plane of the result."""
    limit = desc.oh * desc.ow
    place = kernels.first_outside(indices, limit)
    if place >= 0:
        where = tuple(int(i) for i in np.unravel_index(place, indices.shape))
        raise ValueError(f"{op}: indices has the value {indices[where]} at {where}, expected 0 to {limit - 1}")
    return indices


def unpool(op, x, indices, desc, keep):
    """(y, ctx) of un-pooling."""
    indices = planes_indices(op, indices, desc)
    y = empty(desc.y_shape, x)
    kernels.unpool(x, indices, y)
    return y, UnpoolCtx(desc, indices, np.empty(0, x.dtype)) if keep else None


def unpool_backward(op, dy, ctx, row=False):
    """Its backward."""
    desc, indices, like = ctx
    dy = output_gradient(dy, op, desc, like, row)
    indices = planes_indices(op, indices, desc)  # again: they are the caller's
    dx = empty(desc.x_shape, dy)
    kernels.unpool_backward(dy, indices, dx)
    return rows(dx) if row else dx


def max_unpool2d_forward(x, indices, kernel_size, stride=None, padding=0, output_size=None, *, keep=True):
    """The partial inverse of max_pool2d: zeros, but x where the maxima were, y[n, c, indices[n,c,u,v]] = x[n,c,u,v]
    with indices in the plane. Of several values for one pixel the last in row-major order stays.

    x: (N, C, H, W), float32 or float64. indices: integers of x's shape, as max_pool2d returns them. kernel_size,
    stride, padding: those of the pooling. output_size: (OH, OW) of what was pooled, or its shape (N, C, OH, OW), where
    it is not what None stands for: OH = (H-1)*stride + kernel_size - 2*padding.
    Returns (y, ctx) with y (N, C, OH, OW).
    """
    x = array(x, "max_unpool2d", "x", 4, LAYOUT)
    indices = integer_array(indices, "max_unpool2d", "indices", x.shape)
    desc = max_unpool2d_desc("max_unpool2d", x.shape, kernel_size, stride, padding, output_size)
    return unpool("max_unpool2d", x, indices, desc, keep)


def max_unpool2d_backward(dy, ctx):
    """dx = dy at the indices, also of values that others have overwritten, as torch has it."""
    return unpool_backward("max_unpool2d", dy, ctx)


def max_unpool1d_forward(x, indices, kernel_size, stride=None, padding=0, output_size=None, *, keep=True):
    """The same for rows x (N, C, L) and integer options; output_size: (OL,) or (N, C, OL)."""
    x = row_image(x, "max_unpool1d")
    shape = *x.shape[:2], x.shape[3]
    indices = integer_array(indices, "max_unpool1d", "indices", shape)[:, :, None]
    desc = max_unpool1d_desc("max_unpool1d", shape, kernel_size, stride, padding, output_size)
    y, ctx = unpool("max_unpool1d", x, indices, desc, keep)
    return rows(y), ctx


def max_unpool1d_backward(dy, ctx):
    """As max_unpool2d_backward."""
    return unpool_backward("max_unpool1d", dy, ctx, row=True)


# ---- sub-sampling ----


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

"""Pooling and sub-sampling (K4, K5)."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.descriptors import Pool2dDesc, Subsample2dDesc, pool2d_desc, subsample2d_desc

__all__ = [
    "avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward", "min_pool2d_backward",
    "min_pool2d_forward", "subsample2d_backward", "subsample2d_forward",
]  # fmt: skip


class SelectCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    indices: np.ndarray


class AverageCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    divisor: np.ndarray


def padded(x, desc, fill):
    """x with `fill` around it, as far as windows reach."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = desc.kernel, desc.stride, desc.padding, desc.dilation
    below = (desc.oh - 1) * sh + (kh - 1) * dh + 1 - ph - desc.h
    right = (desc.ow - 1) * sw + (kw - 1) * dw + 1 - pw - desc.w
    return np.pad(x, ((0, 0), (0, 0), (ph, max(below, 0)), (pw, max(right, 0))), constant_values=fill)


def windows(image, desc):
    """(n, c, oh, ow, kh * kw): the pixels of every window of a padded image, row by row."""
    (kh, kw), (sh, sw), (dh, dw) = desc.kernel, desc.stride, desc.dilation
    view = sliding_window_view(image, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(2, 3))
    view = view[:, :, ::sh, ::sw, ::dh, ::dw][:, :, : desc.oh, : desc.ow]
    return view.reshape(*view.shape[:4], kh * kw)


def max_pool2d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """y[n,c,u,v] = max_{i,j} x[n, c, u*stride + i*dilation - padding, v*stride + j*dilation - padding]"""
    desc = pool2d_desc("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    plane = np.arange(desc.h * desc.w).reshape(1, 1, desc.h, desc.w)
    index = windows(padded(plane, desc, -1), desc)  # in the plane, of every pixel of every window
    inside = index >= 0
    best = windows(padded(x, desc, -np.inf), desc).argmax(axis=-1)  # the first maximum, or the first NaN
    index, inside = (np.broadcast_to(a, (*best.shape, a.shape[-1])) for a in (index, inside))
    # Padding comes first only in a window of nothing but -inf: take the first pixel of the image instead.
    best = np.where(np.take_along_axis(inside, best[..., None], -1)[..., 0], best, inside.argmax(axis=-1))
    indices = np.take_along_axis(index, best[..., None], -1)[..., 0]
    planes, outputs = (desc.n, desc.c, desc.h * desc.w), (desc.n, desc.c, desc.oh * desc.ow)
    y = np.take_along_axis(x.reshape(planes), indices.reshape(outputs), -1).reshape(desc.y_shape)
    return (y, indices) if return_indices else y, SelectCtx(desc, indices) if keep else None


def max_pool2d_backward(dy, ctx):
    """dx[n, c, indices[n,c,u,v]] += dy[n,c,u,v]"""
    desc, indices = ctx
    dx = np.zeros((desc.n, desc.c, desc.h * desc.w), dy.dtype)
    n, c = np.ogrid[: desc.n, : desc.c]
    np.add.at(dx, (n[..., None, None], c[..., None, None], indices), dy)
    return dx.reshape(desc.x_shape)


def min_pool2d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """min(x) = -max(-x)"""
    y, ctx = max_pool2d_forward(-x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, keep=keep)
    return (-y[0], y[1]) if return_indices else -y, ctx


min_pool2d_backward = max_pool2d_backward


def avg_pool2d_forward(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None, *, keep=True
):
    """y = sum of the window / divisor"""
    desc = pool2d_desc("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)
    counts = padded(np.ones((1, 1, desc.h, desc.w), x.dtype), desc, 0)
    if count_include_pad:  # but nothing that ceil_mode adds behind the padding
        counts[:, :, : desc.h + 2 * desc.padding[0], : desc.w + 2 * desc.padding[1]] = 1
    divisor = windows(counts, desc).sum(axis=-1)
    if divisor_override is not None:
        divisor[:] = divisor_override
    y = windows(padded(x, desc, 0), desc).sum(axis=-1) / divisor
    return y, AverageCtx(desc, divisor) if keep else None


def avg_pool2d_backward(dy, ctx):
    """dx = sum of dy / divisor over the windows that cover a pixel"""
    desc, divisor = ctx
    (kh, kw), (sh, sw), (ph, pw) = desc.kernel, desc.stride, desc.padding
    shares = dy / divisor
    dx = padded(np.zeros(desc.x_shape, dy.dtype), desc, 0)
    for i in range(kh):
        for j in range(kw):
            dx[:, :, i : i + desc.oh * sh : sh, j : j + desc.ow * sw : sw][:, :, : desc.oh, : desc.ow] += shares
    return dx[:, :, ph : ph + desc.h, pw : pw + desc.w]


class SubsampleCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Subsample2dDesc


def pixels(x, desc):
    """The view of x that sub-sampling keeps."""
    (sh, sw), top, left = desc.block, desc.top, desc.left
    return x[:, :, top::sh, left::sw][:, :, : desc.oh, : desc.ow]


def subsample2d_forward(x, block, position="upper_left", *, keep=True):
    """y[n,c,u,v] = x[n, c, u*block + top, v*block + left]"""
    desc = subsample2d_desc(x.shape, block, position)
    return pixels(x, desc).copy(), SubsampleCtx(desc) if keep else None


def subsample2d_backward(dy, ctx):
    """dx = dy at the pixels that were kept, zero elsewhere"""
    dx = np.zeros(ctx.desc.x_shape, dy.dtype)
    pixels(dx, ctx.desc)[:] = dy
    return dx

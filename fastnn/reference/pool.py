"""Pooling and sub-sampling (K4, K5)."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.descriptors import (
    MaxUnpool2dDesc,
    Pool2dDesc,
    Subsample2dDesc,
    adaptive_pool1d_desc,
    adaptive_pool2d_desc,
    max_unpool1d_desc,
    max_unpool2d_desc,
    pool1d_desc,
    pool2d_desc,
    subsample2d_desc,
)

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


def counts(desc, include_pad):
    """(1, 1, oh, ow): the pixels of every window."""
    ones = padded(np.ones((1, 1, desc.h, desc.w)), desc, 0)
    if include_pad:  # but nothing that ceil_mode adds behind the padding
        ones[:, :, : desc.h + 2 * desc.padding[0], : desc.w + 2 * desc.padding[1]] = 1
    return windows(ones, desc).sum(axis=-1)


def spread(shares, desc):
    """To every pixel, the sum of the shares (n, c, oh, ow) of the windows that cover it."""
    (kh, kw), (sh, sw), (ph, pw) = desc.kernel, desc.stride, desc.padding
    dx = padded(np.zeros(desc.x_shape, shares.dtype), desc, 0)
    for i in range(kh):
        for j in range(kw):
            dx[:, :, i : i + desc.oh * sh : sh, j : j + desc.ow * sw : sw][:, :, : desc.oh, : desc.ow] += shares
    return dx[:, :, ph : ph + desc.h, pw : pw + desc.w]


def avg_pool2d_forward(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None, *, keep=True
):
    """y = sum of the window / divisor"""
    desc = pool2d_desc("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)
    divisor = counts(desc, count_include_pad).astype(x.dtype)
    if divisor_override is not None:
        divisor[:] = divisor_override
    y = windows(padded(x, desc, 0), desc).sum(axis=-1) / divisor
    return y, AverageCtx(desc, divisor) if keep else None


def avg_pool2d_backward(dy, ctx):
    """dx = sum of dy / divisor over the windows that cover a pixel"""
    return spread(dy / ctx.divisor, ctx.desc)


class NormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc
    norm: float
    x: np.ndarray
    kept: np.ndarray
    """The sum of powers; of an infinite norm, where in its plane every output was found."""


def real_power(x, p):
    """x^p, NaN for a negative x unless p is an integer, also for -inf, of which NumPy gives some powers."""
    return np.where((x < 0) & (p % 1 != 0), x.dtype.type(np.nan), x**p)


def lp_pool2d_forward(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, keep=True):
    """y = s^(1/p), s = K / k * sum of x^p; p = inf: max |x|, -inf: min |x|"""
    if np.isinf(norm_type):
        pool = max_pool2d_forward if norm_type > 0 else min_pool2d_forward
        y, ctx = pool(np.abs(x), kernel_size, stride, ceil_mode=ceil_mode)
        return y, NormCtx(ctx.desc, norm_type, x, ctx.indices) if keep else None
    desc = pool2d_desc("lp_pool2d", x.shape, kernel_size, stride, 0, 1, ceil_mode)
    with np.errstate(all="ignore"):
        powers = windows(padded(real_power(x, norm_type), desc, 0), desc)
        s = powers.sum(axis=-1) * (powers.shape[-1] / counts(desc, False)).astype(x.dtype)
        y = real_power(s, 1 / norm_type)
    return y, NormCtx(desc, norm_type, x, s) if keep else None


def lp_pool2d_backward(dy, ctx):
    """dx = x^(p-1) * sum of dy K / k s^(1/p - 1) over the windows that cover a pixel, without those where s is 0"""
    desc, p, x, kept = ctx
    if np.isinf(p):
        return max_pool2d_backward(dy, SelectCtx(desc, kept)) * np.sign(x)
    with np.errstate(all="ignore"):
        k = (desc.kernel[0] * desc.kernel[1] / counts(desc, False)).astype(dy.dtype)
        return spread(np.where(kept == 0, 0, dy * k * real_power(kept, 1 / p - 1)), desc) * real_power(x, p - 1)


class AdaptiveCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Pool2dDesc


def adaptive_windows(desc):
    """u, v, and the window of output (u, v) as slices of an image, for all."""
    for u in range(desc.oh):
        for v in range(desc.ow):
            top, left = u * desc.h // desc.oh, v * desc.w // desc.ow
            bottom, right = -(-(u + 1) * desc.h // desc.oh), -(-(v + 1) * desc.w // desc.ow)
            yield u, v, (..., slice(top, bottom), slice(left, right))


def adaptive_avg_pool2d_forward(x, output_size, *, keep=True):
    """y[u,v] = mean of the rows from floor(u H / OH) to ceil((u+1) H / OH) and columns likewise"""
    desc = adaptive_pool2d_desc("adaptive_avg_pool2d", x.shape, output_size)
    y = np.empty(desc.y_shape, x.dtype)
    for u, v, window in adaptive_windows(desc):
        y[..., u, v] = x[window].mean(axis=(2, 3))
    return y, AdaptiveCtx(desc) if keep else None


def adaptive_avg_pool2d_backward(dy, ctx):
    """dx = sum of dy / pixels over the windows that cover a pixel"""
    dx = np.zeros(ctx.desc.x_shape, dy.dtype)
    for u, v, window in adaptive_windows(ctx.desc):
        pixels = dx[window]
        pixels += dy[..., u, v, None, None] / dy.dtype.type(pixels.shape[2] * pixels.shape[3])
    return dx


def adaptive_max_pool2d_forward(x, output_size, return_indices=False, *, keep=True):
    """The maximum of the same windows"""
    desc = adaptive_pool2d_desc("adaptive_max_pool2d", x.shape, output_size)
    y, indices = np.empty(desc.y_shape, x.dtype), np.empty(desc.y_shape, np.int64)
    plane = np.arange(desc.h * desc.w).reshape(desc.h, desc.w)
    for u, v, window in adaptive_windows(desc):
        pixels = x[window].reshape(desc.n, desc.c, plane[window].size)
        best = pixels.argmax(axis=-1)  # the first maximum, or the first NaN
        y[..., u, v] = np.take_along_axis(pixels, best[..., None], -1)[..., 0]
        indices[..., u, v] = plane[window].ravel()[best]
    return (y, indices) if return_indices else y, SelectCtx(desc, indices) if keep else None


adaptive_max_pool2d_backward = max_pool2d_backward


# ---- rows are images one pixel high ----


def rows(y):
    """Images one pixel high as rows; of a tuple, each."""
    return tuple(map(rows, y)) if isinstance(y, tuple) else y[:, :, 0]


def on_rows(forward, x, *args, keep):
    """A forward function of images, of rows."""
    y, ctx = forward(x[:, :, None], *args, keep=keep)
    return rows(y), ctx


def row_options(op, x, kernel_size, stride, padding=0, dilation=1, ceil_mode=False):
    """Options of pooling rows as those of pooling images."""
    desc = pool1d_desc(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return desc.kernel, desc.stride, desc.padding, desc.dilation, ceil_mode


def max_pool1d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """y[n,c,u] = max_i x[n, c, u*stride + i*dilation - padding]"""
    options = row_options("max_pool1d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return on_rows(max_pool2d_forward, x, *options, return_indices, keep=keep)


def max_pool1d_backward(dy, ctx):
    """dx[n, c, indices[n,c,u]] += dy[n,c,u]"""
    return rows(max_pool2d_backward(dy[:, :, None], ctx))


def min_pool1d_forward(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *, keep=True
):
    """min(x) = -max(-x)"""
    options = row_options("min_pool1d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return on_rows(min_pool2d_forward, x, *options, return_indices, keep=keep)


min_pool1d_backward = max_pool1d_backward


def avg_pool1d_forward(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, *, keep=True):
    """y = sum of the window / divisor"""
    kernel, stride, padding, _, _ = row_options("avg_pool1d", x, kernel_size, stride, padding, 1, ceil_mode)
    return on_rows(avg_pool2d_forward, x, kernel, stride, padding, ceil_mode, count_include_pad, keep=keep)


def avg_pool1d_backward(dy, ctx):
    """dx = sum of dy / divisor over the windows that cover a pixel"""
    return rows(avg_pool2d_backward(dy[:, :, None], ctx))


def lp_pool1d_forward(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, keep=True):
    """y = s^(1/p), s = K / k * sum of x^p"""
    kernel, stride, *_ = row_options("lp_pool1d", x, kernel_size, stride, 0, 1, ceil_mode)
    return on_rows(lp_pool2d_forward, x, norm_type, kernel, stride, ceil_mode, keep=keep)


def lp_pool1d_backward(dy, ctx):
    """As lp_pool2d_backward"""
    return rows(lp_pool2d_backward(dy[:, :, None], ctx))


def adaptive_avg_pool1d_forward(x, output_size, *, keep=True):
    """y[u] = mean from floor(u L / OL) to ceil((u+1) L / OL)"""
    desc = adaptive_pool1d_desc("adaptive_avg_pool1d", x.shape, output_size)
    return on_rows(adaptive_avg_pool2d_forward, x, (1, desc.ow), keep=keep)


def adaptive_avg_pool1d_backward(dy, ctx):
    """dx = sum of dy / pixels over the windows that cover a pixel"""
    return rows(adaptive_avg_pool2d_backward(dy[:, :, None], ctx))


def adaptive_max_pool1d_forward(x, output_size, return_indices=False, *, keep=True):
    """The maximum of the same windows"""
    desc = adaptive_pool1d_desc("adaptive_max_pool1d", x.shape, output_size)
    return on_rows(adaptive_max_pool2d_forward, x, (1, desc.ow), return_indices, keep=keep)


adaptive_max_pool1d_backward = max_pool1d_backward


# ---- un-pooling ----


class UnpoolCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: MaxUnpool2dDesc
    indices: np.ndarray


def unpool(x, indices, desc, keep):
    """y = 0, then y[n, c, indices[n,c,u,v]] = x[n,c,u,v], the last one staying"""
    y = np.zeros((desc.n * desc.c, desc.oh * desc.ow), x.dtype)
    flat = len(y), desc.h * desc.w
    for plane, at, values in zip(y, indices.reshape(flat), x.reshape(flat), strict=True):
        plane[at] = values
    return y.reshape(desc.y_shape), UnpoolCtx(desc, indices) if keep else None


def max_unpool2d_forward(x, indices, kernel_size, stride=None, padding=0, output_size=None, *, keep=True):
    """y = 0, then y[n, c, indices[n,c,u,v]] = x[n,c,u,v], the last one staying"""
    return unpool(
        x, indices, max_unpool2d_desc("max_unpool2d", x.shape, kernel_size, stride, padding, output_size), keep
    )


def max_unpool2d_backward(dy, ctx):
    """dx[n,c,u,v] = dy[n, c, indices[n,c,u,v]]"""
    desc, indices = ctx
    planes = dy.reshape(desc.n, desc.c, desc.oh * desc.ow)
    return np.take_along_axis(planes, indices.reshape(desc.n, desc.c, desc.h * desc.w), -1).reshape(desc.x_shape)


def max_unpool1d_forward(x, indices, kernel_size, stride=None, padding=0, output_size=None, *, keep=True):
    """y = 0, then y[n, c, indices[n,c,u]] = x[n,c,u]"""
    desc = max_unpool1d_desc("max_unpool1d", x.shape, kernel_size, stride, padding, output_size)
    y, ctx = unpool(x[:, :, None], indices[:, :, None], desc, keep)
    return rows(y), ctx


def max_unpool1d_backward(dy, ctx):
    """dx[n,c,u] = dy[n, c, indices[n,c,u]]"""
    return rows(max_unpool2d_backward(dy[:, :, None], ctx))


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

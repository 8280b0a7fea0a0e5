"""Up-sampling and resampling of images and signals (K6)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import Upsample2dDesc, upsample_desc, upsample_zeros2d_desc

__all__ = [
    "upsample_bilinear2d_backward", "upsample_bilinear2d_forward", "upsample_linear1d_backward",
    "upsample_linear1d_forward", "upsample_nearest1d_backward", "upsample_nearest1d_forward",
    "upsample_nearest2d_backward", "upsample_nearest2d_forward", "upsample_zeros2d_backward",
    "upsample_zeros2d_forward",
]  # fmt: skip


class UpsampleCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Upsample2dDesc


def upsample_zeros2d_forward(x, stride, *, keep=True):
    """y[n,c,u*stride,v*stride] = x[n,c,u,v], zeros elsewhere"""
    desc = upsample_zeros2d_desc(x.shape, stride)
    y = np.zeros(desc.y_shape, x.dtype)
    y[:, :, :: desc.oh // desc.h, :: desc.ow // desc.w] = x
    return y, UpsampleCtx(desc) if keep else None


def upsample_zeros2d_backward(dy, ctx):
    """dx[n,c,u,v] = dy[n,c,u*stride,v*stride]"""
    desc = ctx.desc
    return dy[:, :, :: desc.oh // desc.h, :: desc.ow // desc.w].copy()


def nearest(n, out, scale, align_corners):
    """[(pixels, weights)] with the one pixel of every result, floor(o * scale) in single precision."""
    index = np.floor(np.arange(out, dtype=np.float32) * np.float32(scale)).astype(int)
    return [(np.minimum(index, n - 1), np.ones(out))]


def linear(n, out, scale, align_corners):
    """The same with two pixels of every result, the one under it and the next; one of an axis whose size stays. The
    last pixel has no next one: pixel n counts for nothing."""
    o = np.arange(out, dtype=np.float64)
    if n == out:
        return [(o.astype(int), np.ones(out))]
    at = scale * o if align_corners else np.maximum(scale * (o + 0.5) - 0.5, 0)
    i = np.minimum(at.astype(int), n - 1)
    weight = np.where(i + 1 < n, at - i, 0)
    return [(i, 1 - weight), (i + 1, weight)]


def axes(taps, desc):
    """The pixels and weights of both axes."""
    sizes = (desc.h, desc.oh, desc.scale[0]), (desc.w, desc.ow, desc.scale[1])
    return [taps(*axis, desc.align_corners) for axis in sizes]


def resample(taps, x, desc):
    """y[...,u,v] = the sum over the taps of both axes of weight * x[...,i,j]"""
    rows, columns = axes(taps, desc)
    x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
    y = sum(x[:, :, i] * a.astype(x.dtype)[:, None] for i, a in rows)
    return sum(y[..., j] * b.astype(x.dtype) for j, b in columns)


def resample_backward(taps, dy, desc):
    """dx[...,i,j] += weight * dy[...,u,v]"""
    rows, columns = axes(taps, desc)
    dx = np.zeros((desc.n, desc.c, desc.h + 1, desc.ow), dy.dtype)
    for i, a in rows:
        np.add.at(dx, (slice(None), slice(None), i), dy * a.astype(dy.dtype)[:, None])
    dy, dx = dx, np.zeros((desc.n, desc.c, desc.h + 1, desc.w + 1), dy.dtype)
    for j, b in columns:
        np.add.at(dx, (..., j), dy * b.astype(dy.dtype))
    return dx[:, :, : desc.h, : desc.w].copy()


def upsample_nearest2d_forward(x, size=None, scale_factor=None, *, keep=True):
    """y[n,c,u,v] = x[n, c, floor(u * a), floor(v * b)]"""
    desc = upsample_desc("upsample_nearest2d", x.shape, size, scale_factor)
    return resample(nearest, x, desc), UpsampleCtx(desc) if keep else None


def upsample_nearest2d_backward(dy, ctx):
    """dx[n, c, floor(u * a), floor(v * b)] += dy[n,c,u,v]"""
    return resample_backward(nearest, dy, ctx.desc)


def upsample_bilinear2d_forward(x, size=None, scale_factor=None, align_corners=False, *, keep=True):
    """y = linear interpolation of x down and across"""
    desc = upsample_desc("upsample_bilinear2d", x.shape, size, scale_factor, align_corners)
    return resample(linear, x, desc), UpsampleCtx(desc) if keep else None


def upsample_bilinear2d_backward(dy, ctx):
    """dx[n,c,i,j] += weights * dy[n,c,u,v]"""
    return resample_backward(linear, dy, ctx.desc)


def upsample_nearest1d_forward(x, size=None, scale_factor=None, *, keep=True):
    """y[n,c,u] = x[n, c, floor(u * a)]"""
    desc = upsample_desc("upsample_nearest1d", x.shape, size, scale_factor)
    return resample(nearest, x[:, :, None], desc)[:, :, 0], UpsampleCtx(desc) if keep else None


def upsample_nearest1d_backward(dy, ctx):
    """dx[n, c, floor(u * a)] += dy[n,c,u]"""
    return resample_backward(nearest, dy[:, :, None], ctx.desc)[:, :, 0]


def upsample_linear1d_forward(x, size=None, scale_factor=None, align_corners=False, *, keep=True):
    """y = linear interpolation of x"""
    desc = upsample_desc("upsample_linear1d", x.shape, size, scale_factor, align_corners)
    return resample(linear, x[:, :, None], desc)[:, :, 0], UpsampleCtx(desc) if keep else None


def upsample_linear1d_backward(dy, ctx):
    """dx[n,c,i] += weight * dy[n,c,u]"""
    return resample_backward(linear, dy[:, :, None], ctx.desc)[:, :, 0]

"""Convolution and its parts (K1, K2)."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from fastnn.descriptors import Conv2dDesc, conv1d_desc, conv2d_desc, conv_transpose2d_desc

__all__ = [
    "col2im", "conv1d_backward", "conv1d_forward", "conv2d_backward", "conv2d_forward",
    "conv2d_loops", "conv_transpose2d_backward", "conv_transpose2d_forward", "im2col", "prepare_conv2d", "rot180",
]  # fmt: skip


class Conv2dCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Conv2dDesc
    x_shape: tuple
    w: np.ndarray
    cols: np.ndarray
    bias: bool
    y: np.ndarray | None


def conv2d_loops(x, w, b=None, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """The definition, one output after the other, to be read:

    y[n,k,u,v] = b[k] + sum_{c,i,j} w[k,c,i,j] x[n, c, u*stride + i*dilation - top, v*stride + j*dilation - left]
    """
    desc = conv2d_desc(x.shape, w.shape, stride, padding, dilation, groups)
    top, bottom, left, right = desc.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sy, sx), (dy, dx) = desc.stride, desc.dilation
    filters, channels = desc.k // groups, desc.c // groups
    y = np.zeros(desc.y_shape, x.dtype)
    for n in range(desc.n):
        for k in range(desc.k):
            first = k // filters * channels
            for u in range(desc.oh):
                for v in range(desc.ow):
                    for c in range(channels):
                        for i in range(desc.r):
                            for j in range(desc.s):
                                y[n, k, u, v] += w[k, c, i, j] * padded[n, first + c, u * sy + i * dy, v * sx + j * dx]
                    if b is not None:
                        y[n, k, u, v] += b[k]
    return y


def prepare_conv2d(w):
    """The filters; conv2d_forward has no better form of them here."""
    return w.copy()


def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None, algo="auto", keep=True):
    """y = w cols + b, with the columns of im2col, group by group; max(y, 0) if activation is "relu\""""
    desc = conv2d_desc(x.shape, w.shape, stride, padding, dilation, groups)
    cols = im2col(x, (desc.r, desc.s), desc.stride, desc.padding, desc.dilation)
    cols = cols.reshape(desc.n, groups, desc.depth, desc.oh * desc.ow)
    y = (w.reshape(groups, -1, desc.depth) @ cols).reshape(desc.y_shape)
    if b is not None:
        y += b[:, None, None]
    if activation == "relu":
        y = np.where(y <= 0, y.dtype.type(0), y)
    return y, Conv2dCtx(desc, x.shape, w, cols, b is not None, y if activation else None) if keep else None


def conv2d_backward(dy, ctx, needs=(True, True, True)):
    """dx = col2im(w^T dy), dw = sum_n dy cols^T, db = sum_{n,u,v} dy"""
    desc = ctx.desc
    if ctx.y is not None:
        dy = np.where(ctx.y > 0, dy, dy.dtype.type(0))
    pixels = desc.oh * desc.ow
    dy_groups = dy.reshape(desc.n, desc.groups, desc.k // desc.groups, pixels)
    dx = dw = db = None
    if needs[0]:
        dcols = ctx.w.reshape(desc.groups, -1, desc.depth).swapaxes(1, 2) @ dy_groups
        dcols = dcols.reshape(desc.n, desc.groups * desc.depth, pixels)
        dx = col2im(dcols, ctx.x_shape, (desc.r, desc.s), desc.stride, desc.padding, desc.dilation)
    if needs[1]:
        dw = (dy_groups @ ctx.cols.swapaxes(2, 3)).sum(axis=0).reshape(ctx.w.shape)
    if needs[2] and ctx.bias:
        db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


class ConvTranspose2dCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Conv2dDesc
    x: np.ndarray
    w: np.ndarray
    bias: bool


def windows_of(canvas, desc):
    """View (n, c, i, j, u, v) of canvas[n, c, u*stride + i*dilation, v*stride + j*dilation]"""
    (sy, sx), (dy, dx) = desc.stride, desc.dilation
    n, c, a, b = canvas.strides
    shape = (*canvas.shape[:2], desc.r, desc.s, desc.oh, desc.ow)
    return as_strided(canvas, shape, (n, c, a * dy, b * dx, a * sy, b * sx))


def canvas_of(desc, dtype):
    """(canvas, view): zeros that hold every window of a transposed convolution, and the part that is the output"""
    top, bottom, left, right = desc.padding
    height = max(desc.h + top + bottom, (desc.oh - 1) * desc.stride[0] + desc.dilation[0] * (desc.r - 1) + 1)
    width = max(desc.w + left + right, (desc.ow - 1) * desc.stride[1] + desc.dilation[1] * (desc.s - 1) + 1)
    canvas = np.zeros((desc.n, desc.c, height, width), dtype)
    return canvas, canvas[:, :, top : top + desc.h, left : left + desc.w]


def conv_transpose2d_forward(
    x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, algo="auto", keep=True
):
    """y[n, c, u*stride + i*dilation - top, v*stride + j*dilation - left] += sum_k x[n,k,u,v] w[k,c,i,j], then + b"""
    desc = conv_transpose2d_desc(x.shape, w.shape, stride, padding, output_padding, groups, dilation)
    cols = w.reshape(groups, desc.k // groups, desc.depth).swapaxes(1, 2) @ x.reshape(
        desc.n, groups, desc.k // groups, desc.oh * desc.ow
    )
    cols = cols.reshape(desc.n, desc.c, desc.r, desc.s, desc.oh, desc.ow)
    canvas, y = canvas_of(desc, x.dtype)
    windows = windows_of(canvas, desc)
    for i in range(desc.r):
        for j in range(desc.s):
            windows[:, :, i, j] += cols[:, :, i, j]
    y = y + b[:, None, None] if b is not None else y.copy()
    return y, ConvTranspose2dCtx(desc, x, w, b is not None) if keep else None


def conv_transpose2d_backward(dy, ctx, needs=(True, True, True)):
    """dx = w windows(dy), dw = sum_n x windows(dy)^T, db = sum_{n,u,v} dy"""
    desc = ctx.desc
    canvas, inside = canvas_of(desc, dy.dtype)
    inside[...] = dy
    cols = windows_of(canvas, desc).reshape(desc.n, desc.groups, desc.depth, desc.oh * desc.ow)
    dx = dw = db = None
    if needs[0]:
        dx = (ctx.w.reshape(desc.groups, -1, desc.depth) @ cols).reshape(ctx.x.shape)
    if needs[1]:
        x = ctx.x.reshape(desc.n, desc.groups, desc.k // desc.groups, desc.oh * desc.ow)
        dw = (x @ cols.swapaxes(2, 3)).sum(axis=0).reshape(ctx.w.shape)
    if needs[2] and ctx.bias:
        db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


def conv1d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, algo="auto", keep=True):
    """y[n,k,u] = b[k] + sum_{c,i} w[k,c,i] x[n, c, u*stride + i*dilation - left]: conv2d one pixel high"""
    desc = conv1d_desc(x.shape, w.shape, stride, padding, dilation, groups)
    y, ctx = conv2d_forward(
        x[:, :, None], w[:, :, None], b, desc.stride, desc.padding, desc.dilation, groups, algo=algo, keep=keep
    )
    return y[:, :, 0], ctx


def conv1d_backward(dy, ctx, needs=(True, True, True)):
    """As conv2d_backward"""
    dx, dw, db = conv2d_backward(dy[:, :, None], ctx, needs)
    return None if dx is None else dx[:, :, 0], None if dw is None else dw[:, :, 0], db


def rot180(w):
    """w[..., R-1-i, S-1-j]"""
    return np.rot90(w, 2, axes=(-2, -1))


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """cols[n, (c, i, j), (u, v)] = x[n, c, u*stride + i*dilation - top, v*stride + j*dilation - left]"""
    n, c, _, _ = x.shape
    r, s = (kernel_size, kernel_size) if np.ndim(kernel_size) == 0 else kernel_size
    desc = conv2d_desc(x.shape, (1, c, r, s), stride, padding, dilation)
    top, bottom, left, right = desc.padding
    (sy, sx), (dy, dx) = desc.stride, desc.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(padded, (dy * (r - 1) + 1, dx * (s - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::sy, ::sx, ::dy, ::dx]  # (n, c, u, v, i, j)
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, desc.depth, desc.oh * desc.ow)


def col2im(cols, x_shape, kernel_size, stride=1, padding=0, dilation=1):
    """x[n, c, y, x] = sum of the columns' elements that im2col takes from there"""
    n, c, h, w = x_shape
    r, s = (kernel_size, kernel_size) if np.ndim(kernel_size) == 0 else kernel_size
    desc = conv2d_desc(tuple(x_shape), (1, c, r, s), stride, padding, dilation)
    top, bottom, left, right = desc.padding
    (sy, sx), (dy, dx) = desc.stride, desc.dilation
    padded = np.zeros((n, c, h + top + bottom, w + left + right), cols.dtype)
    windows = cols.reshape(n, c, r, s, desc.oh, desc.ow)
    for i in range(r):
        for j in range(s):
            rows = slice(i * dy, i * dy + (desc.oh - 1) * sy + 1, sy)
            columns = slice(j * dx, j * dx + (desc.ow - 1) * sx + 1, sx)
            padded[:, :, rows, columns] += windows[:, :, i, j]
    return padded[:, :, top : top + h, left : left + w]

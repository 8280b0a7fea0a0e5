"""Convolution and its parts (K1, K2)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import Conv2dDesc, conv2d_desc
from fastnn.kernels import conv as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like

__all__ = ["col2im", "conv2d_backward", "conv2d_forward", "im2col", "rot180"]


class Algorithm(NamedTuple):
    """A way to compute an operator."""

    name: str
    supports: object
    """desc -> None, or the reason why this algorithm cannot be used"""


# In order of preference: "auto" takes the first that applies.
CONV2D_ALGORITHMS = (
    Algorithm("implicit", lambda desc: None),  # packs panels of the column matrix on the fly
    Algorithm("im2col", lambda desc: None),  # stores the column matrix of a few rows; to compare with
)


def choose(op, algorithms, desc, algo):
    """The first algorithm that supports desc, or the named one; ValueError with its reason if it does not."""
    for name, supports in algorithms:
        reason = supports(desc)
        if algo == "auto" and reason is None:
            return name
        if algo == name:
            if reason is not None:
                raise ValueError(f"{op}: algo={name!r} cannot be used here: {reason}")
            return name
    raise ValueError(f"{op}: unknown algo {algo!r}, expected 'auto', {', '.join(repr(a.name) for a in algorithms)}")


class Conv2dCtx(NamedTuple):
    desc: Conv2dDesc
    x: np.ndarray
    w: np.ndarray
    bias: bool
    algo: str


def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, algo="auto", keep=True):
    """Two-dimensional cross-correlation, the convolution of neural networks:

        y[n,k,u,v] = b[k] + sum_{c,i,j} w[k,c,i,j] x[n, c, u*stride + i*dilation - top, v*stride + j*dilation - left]

    x: (N, C, H, W), float32 or float64. w: (K, C/groups, R, S). b: (K,) or None.
    stride, dilation: an integer or (vertical, horizontal). padding: an integer, a pair, (top, bottom, left, right),
    "same" or "valid". groups divides C and K; filters of a group see the channels of that group.
    algo: "auto", or "implicit" (matrix product with a column matrix that is never stored) or "im2col" (stored for a
    few rows at a time).
    Returns (y, ctx) with y (N, K, OH, OW), OH = (H + top + bottom - dilation*(R-1) - 1) // stride + 1.
    """
    x = array(x, "conv2d", "x", 4, "(N, C, H, W)")
    w = array(w, "conv2d", "w", 4, "(K, C/groups, R, S)", x)
    desc = conv2d_desc(x.shape, w.shape, stride, padding, dilation, groups)
    if b is not None:
        b = array_of_shape(b, "conv2d", "b", (desc.k,), x)
    algo = choose("conv2d", CONV2D_ALGORITHMS, desc, algo)
    y = np.empty(desc.y_shape, x.dtype)
    if desc.n:
        kernels.conv2d_forward(x, w, b, y, desc, False, algo == "im2col")
    return y, Conv2dCtx(desc, x, w, b is not None, algo) if keep else None


def conv2d_backward(dy, ctx, needs=(True, True, True)):
    """Gradients of a convolution, with dy (N, K, OH, OW):

    dx: dy, dilated with zeros by the stride, fully correlated with w rotated by 180 degrees, filters and channels
    exchanged. dw: x correlated with dy, summed over the batch. db: dy summed over batch and pixels.
    Returns (dx, dw, db), None where not needed or without a bias.
    """
    desc, x, w = ctx.desc, ctx.x, ctx.w
    dy = array_of_shape(dy, "conv2d", "dy", desc.y_shape, x)
    dx = dw = db = None
    if needs[0]:
        dx = empty_like(x)
        if desc.n:
            kernels.conv2d_backward_data(dy, w, dx, desc)
    if needs[1]:
        dw = empty_like(w)
        if desc.n:
            kernels.conv2d_backward_weight(x, dy, dw, desc)
        else:
            dw.fill(0)
    if needs[2] and ctx.bias:
        db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


def rot180(w):
    """Every kernel of w rotated by 180 degrees: w[..., R-1-i, S-1-j]. A view, not a copy.

    Convolution in the mathematical sense is correlation with the rotated kernel, and so is the gradient of a
    correlation with respect to its input.
    """
    if not isinstance(w, np.ndarray):
        raise TypeError(f"rot180: w must be a NumPy array, got {type(w).__name__}")
    if w.ndim < 2:
        raise ValueError(f"rot180: w has {w.ndim} dimensions, shape {w.shape}, expected at least 2: (..., R, S)")
    return w[..., ::-1, ::-1]


def window_desc(op, x_shape, kernel_size, stride, padding, dilation):
    """Windows of an image as the convolution that would read them."""
    r, s = (kernel_size, kernel_size) if np.ndim(kernel_size) == 0 else kernel_size
    if min(r, s) < 1:
        raise ValueError(f"{op}: kernel_size must be at least 1, got {kernel_size!r}")
    return conv2d_desc(x_shape, (1, x_shape[1], r, s), stride, padding, dilation)


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """Every window of an image as a column, so that convolution becomes a matrix product.

    x: (N, C, H, W). kernel_size, stride, dilation: an integer or a pair; padding as in conv2d.
    Returns (N, C*R*S, OH*OW): row (c, i, j) is channel c seen through kernel element (i, j), zero outside the image
    (torch.nn.functional.unfold).
    """
    x = array(x, "im2col", "x", 4, "(N, C, H, W)")
    desc = window_desc("im2col", x.shape, kernel_size, stride, padding, dilation)
    cols = np.empty((desc.n, desc.depth, desc.oh * desc.ow), x.dtype)
    kernels.im2col(x, cols, desc)
    return cols


def col2im(cols, x_shape, kernel_size, stride=1, padding=0, dilation=1):
    """The adjoint of im2col: every element of the columns added to the pixel it came from.

    cols: (N, C*R*S, OH*OW). x_shape: (N, C, H, W) of the image. Returns (N, C, H, W) (torch.nn.functional.fold).
    """
    x_shape = tuple(x_shape)
    if len(x_shape) != 4:
        raise ValueError(f"col2im: x_shape must be (N, C, H, W), got {x_shape}")
    desc = window_desc("col2im", x_shape, kernel_size, stride, padding, dilation)
    cols = array_of_shape(cols, "col2im", "cols", (desc.n, desc.depth, desc.oh * desc.ow))
    x = np.empty(x_shape, cols.dtype)
    kernels.col2im(cols, x, desc)
    return x

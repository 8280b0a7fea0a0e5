"""Convolution and its parts (K1, K2)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from fastnn.descriptors import (
    Conv2dDesc,
    cached,
    conv1d_desc,
    conv2d_desc,
    conv_transpose2d_desc,
    hashable,
    is_int,
    one_of,
    pair,
)  # fmt: skip
from fastnn.kernels import conv as direct
from fastnn.kernels import depthwise, runtime, winograd
from fastnn.ops._arrays import array, array_of_shape, empty, empty_like
from fastnn.ops.elementwise import RELU, ElementwiseCtx, relu_backward

__all__ = [
    "col2im", "conv1d_backward", "conv1d_forward", "conv2d_backward", "conv2d_forward",
    "conv_transpose2d_backward", "conv_transpose2d_forward", "im2col", "prepare_conv2d", "rot180",
]  # fmt: skip


DIRECTIONS = "forward", "data", "weight"
"""A convolution, and its gradients with respect to input and weights."""


class Algorithm(NamedTuple):
    """A way to compute a convolution and its gradients."""

    name: str
    declines: Callable
    """(desc, dtype) -> None, or the reason why this algorithm cannot be used"""
    pays: Callable
    """(desc, one of DIRECTIONS) -> whether it is expected to be faster than those behind it in the list"""
    prepare: Callable
    """(w, desc) -> the filters in the form forward multiplies with, for many calls"""
    forward: Callable
    """(x, w, prepared, b, y, desc, relu); prepared: w as prepare returns it, or None"""
    backward_data: Callable
    """(dy, w, dx, desc, b=None); with b, a bias a channel, this is the transposed convolution"""
    backward_weight: Callable
    """(x, dy, dw, desc)"""
    accumulate: Callable | None = None
    """The arguments of forward: the result is added to y; None if a pass of its own does that"""


def never_declines(desc, dtype):
    return None


def always(desc, direction):
    return True


def depthwise_declines(desc, dtype):
    if desc.groups != desc.c or desc.groups != desc.k:
        return f"{desc.c} channels and {desc.k} filters in {desc.groups} groups; it is for one of each in every group"
    return None


def winograd_declines(desc, dtype, size):
    """The reason against Winograd's algorithm for kernels of size x size, or None."""
    if dtype != np.float32:
        return f"dtype is {dtype}; Winograd's rounding is for float32 only"
    if (desc.r, desc.s) != (size, size) or desc.stride != (1, 1) or desc.dilation != (1, 1):
        kernel = f"a {desc.r} x {desc.s} kernel with stride {desc.stride} and dilation {desc.dilation}"
        return f"it is for {size} x {size} kernels with stride and dilation 1, not for {kernel}"
    if max(desc.w, desc.ow) > 2048:  # kernels/winograd.pyx takes at most 1024 tiles of 2 pixels in a row
        return f"the image is {desc.w} pixels wide, more than 2048"
    if (desc.c + desc.k) // desc.groups > 4096:  # 36 points of a panel of tiles would not fit 32 MiB a thread
        return f"{desc.c} channels and {desc.k} filters in {desc.groups} groups, more than 4096 a group"
    return None


def winograd_pays(desc, direction, m):
    """F(m x m, 3 x 3). Every filter is transformed once, whatever the image's size, and few channels do not pay for the
    tiles' transforms. F(4 x 4) has four times fewer tiles than F(2 x 2) but more than twice the transformed filters,
    which a small image does not pay for. The more so for the filters' gradient, for whose one product image and dy are
    transformed."""
    channels, filters, pixels = desc.c // desc.groups, desc.k // desc.groups, desc.n * desc.oh * desc.ow
    narrow, size = min(channels, filters), min(desc.oh, desc.ow)
    if direction == "weight":
        return narrow >= 48 and (pixels >= 2048 and size >= 24 if m == 4 else pixels >= 600 and size >= 12)
    if narrow < 24:
        return False
    if m == 2:
        return pixels >= 128
    least = 384 if channels >= 512 else 600 if direction == "forward" or channels >= 256 else 1024
    return narrow * size >= 800 and pixels >= least


def winograd5_pays(desc, direction):
    """F(2 x 2, 5 x 5)"""
    channels, filters, pixels = desc.c // desc.groups, desc.k // desc.groups, desc.n * desc.oh * desc.ow
    if direction == "weight":
        return min(channels, filters) >= 32 and pixels >= 2048
    return min(channels, filters) >= 16 and pixels >= 128


def direct_backward_data(dy, w, dx, desc, b=None):
    """By rows for the few channels that images have, by matrix product otherwise, and if the slab of a row of results,
    of all filters, would be large."""
    span_y, span_x = (d * (n - 1) + 1 for d, n in zip(desc.dilation, (desc.r, desc.s), strict=True))
    slab = desc.k // desc.groups * span_y * (min(desc.ow, 1024) + span_x)
    few = desc.c // desc.groups <= 2 and slab <= 2**21
    (depthwise.backward_data_by_rows if few else direct.conv2d_backward_data)(dy, w, dx, desc, b)


# In order of preference. docs/performance.md has the measurements behind the rules.
CONV2D_ALGORITHMS = (
    Algorithm("depthwise", depthwise_declines, always,
              depthwise.prepare, depthwise.conv2d_forward,
              depthwise.conv2d_backward_data, depthwise.conv2d_backward_weight),
    Algorithm("winograd4", partial(winograd_declines, size=3), partial(winograd_pays, m=4),
              partial(winograd.prepare, m=4), partial(winograd.conv2d_forward, m=4),
              partial(winograd.conv2d_backward_data, m=4), partial(winograd.conv2d_backward_weight, m=4)),
    Algorithm("winograd2", partial(winograd_declines, size=3), partial(winograd_pays, m=2),
              partial(winograd.prepare, m=2), partial(winograd.conv2d_forward, m=2),
              partial(winograd.conv2d_backward_data, m=2), partial(winograd.conv2d_backward_weight, m=2)),
    Algorithm("winograd5", partial(winograd_declines, size=5), winograd5_pays,
              partial(winograd.prepare, m=2), partial(winograd.conv2d_forward, m=2),
              partial(winograd.conv2d_backward_data, m=2), partial(winograd.conv2d_backward_weight, m=2)),
    Algorithm("implicit", never_declines, always,
              direct.prepare, partial(direct.conv2d_forward, explicit=False),
              direct_backward_data, direct.conv2d_backward_weight,
              partial(direct.conv2d_forward, explicit=False, accumulate=True)),
    Algorithm("im2col", never_declines, lambda desc, direction: False,
              direct.prepare, partial(direct.conv2d_forward, explicit=True),
              direct.conv2d_backward_data, direct.conv2d_backward_weight),
)  # fmt: skip


class Choice(NamedTuple):
    """The algorithm for each direction."""

    forward: Algorithm
    data: Algorithm
    weight: Algorithm


def choose(op, algorithms, desc, dtype, algo):
    """The first algorithms that can be used and pay; or the one named, ValueError if it declines."""
    named = [a for a in algorithms if isinstance(algo, str) and a.name == algo]
    if named:
        reason = named[0].declines(desc, dtype)
        if reason is not None:
            raise ValueError(f"{op}: algo={algo!r} cannot be used here: {reason}")
        return Choice(*named * len(DIRECTIONS))
    if not isinstance(algo, str) or algo not in ("auto", "exact"):
        names = ", ".join(repr(a.name) for a in algorithms)
        raise ValueError(f"{op}: unknown algo {algo!r}, expected 'auto', 'exact', {names}")
    usable = [
        a
        for a in algorithms
        if a.declines(desc, dtype) is None and not (algo == "exact" and a.name.startswith("winograd"))
    ]
    return Choice(*[next(a for a in usable if a.pays(desc, direction)) for direction in DIRECTIONS])


@cached
def conv2d_plan(x_shape, w_shape, dtype, stride, padding, dilation, groups, algo):
    """(descriptor, algorithms) of a call."""
    desc = conv2d_desc(x_shape, w_shape, stride, padding, dilation, groups)
    return desc, choose("conv2d", CONV2D_ALGORITHMS, desc, dtype, algo)


class PreparedConv2d:
    """Filters, packed or transformed once for many calls of conv2d; made by prepare_conv2d.

    A copy of the weights is kept: changing the original array later changes nothing here. Safe to share between
    threads.
    """

    def __init__(self, w):
        self.w = w
        self.forms = {}

    def form(self, algorithm, desc):
        """The filters as the algorithm wants them; made at its first use at an instruction-set level."""
        key = algorithm.name, desc.groups, runtime.get_isa()
        if key not in self.forms:
            self.forms[key] = algorithm.prepare(self.w, desc)
        return self.forms[key]


def prepare_conv2d(w):
    """Prepare filters for inference: conv2d_forward takes the result in place of w and keeps each algorithm's packed
    or transformed form of it, instead of making it anew in every call.

    w: (K, C/groups, R, S), float32 or float64; copied.
    """
    return PreparedConv2d(array(w, "prepare_conv2d", "w", 4, "(K, C/groups, R, S)").copy())


class Conv2dCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Conv2dDesc
    x: np.ndarray
    w: np.ndarray
    bias: bool
    choice: Choice
    y: np.ndarray | None
    """Kept if a ReLU follows."""

    @property
    def algo(self):
        """Name of the algorithm that ran."""
        return self.choice.forward.name

    @property
    def gradient_algos(self):
        """Names of the algorithms for the gradients that have several."""
        return {"x": self.choice.data.name, "w": self.choice.weight.name}


def conv2d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None, algo="auto", keep=True):
    """Two-dimensional cross-correlation, the convolution of neural networks:

        y[n,k,u,v] = b[k] + sum_{c,i,j} w[k,c,i,j] x[n, c, u*stride + i*dilation - top, v*stride + j*dilation - left]

    x: (N, C, H, W), float32 or float64. w: (K, C/groups, R, S), or the result of prepare_conv2d. b: (K,) or None.
    stride, dilation: an integer or (vertical, horizontal). padding: an integer, a pair, (top, bottom, left, right),
    "same" or "valid". groups divides C and K; filters of a group see the channels of that group.
    activation: None, or "relu", applied before the result is stored.
    algo: "auto"; "exact", without Winograd's different rounding; or one of
        "winograd4", "winograd2": minimal filtering F(4x4, 3x3) and F(2x2, 3x3), float32 and 3x3 kernels only;
        "winograd5": F(2x2, 5x5), float32 and 5x5 kernels only;
        "depthwise": one channel and one filter in every group;
        "implicit": matrix product with a column matrix that is never stored;
        "im2col": the same, stored for a few rows at a time.
    Returns (y, ctx) with y (N, K, OH, OW), OH = (H + top + bottom - dilation*(R-1) - 1) // stride + 1.
    """
    x = array(x, "conv2d", "x", 4, "(N, C, H, W)")
    prepared = w if type(w) is PreparedConv2d else None
    w = array(w if prepared is None else prepared.w, "conv2d", "w", 4, "(K, C/groups, R, S)", x)
    desc, choice = conv2d_plan(x.shape, w.shape, x.dtype, stride, padding, dilation, groups, algo)
    if b is not None:
        b = array_of_shape(b, "conv2d", "b", (desc.k,), x)
    relu = one_of("conv2d", "activation", activation, None, "relu") is not None
    y = empty(desc.y_shape, x)
    if desc.n:
        form = None if prepared is None else prepared.form(choice.forward, desc)
        choice.forward.forward(x, w, form, b, y, desc, relu)
    return y, Conv2dCtx(desc, x, w, b is not None, choice, y if relu else None) if keep else None


def conv2d_backward(dy, ctx, needs=(True, True, True)):
    """Gradients of a convolution, with dy (N, K, OH, OW):

    dx: dy, dilated with zeros by the stride, fully correlated with w rotated by 180 degrees, filters and channels
    exchanged. dw: x correlated with dy, summed over the batch. db: dy summed over batch and pixels.
    Returns (dx, dw, db), None where not needed or without a bias.
    """
    desc, x, w = ctx.desc, ctx.x, ctx.w
    dy = array_of_shape(dy, "conv2d", "dy", desc.y_shape, x)
    if ctx.y is not None:
        dy = relu_backward(dy, ElementwiseCtx(ctx.y, RELU))
    dx = dw = db = None
    if needs[0]:
        dx = empty_like(x)
        if desc.n:
            ctx.choice.data.backward_data(dy, w, dx, desc)
    if needs[1]:
        dw = empty_like(w)
        if desc.n:
            ctx.choice.weight.backward_weight(x, dy, dw, desc)
        else:
            dw.fill(0)
    if needs[2] and ctx.bias:
        db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


class ConvTranspose2dCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: Conv2dDesc
    """Of the convolution that this one is the transpose of."""
    x: np.ndarray
    w: np.ndarray
    bias: bool
    choice: Choice

    @property
    def algo(self):
        """Name of the algorithm that ran."""
        return self.choice.data.name

    @property
    def gradient_algos(self):
        """Names of the algorithms for the gradients that have several."""
        return {"x": self.choice.forward.name, "w": self.choice.weight.name}


@cached
def conv_transpose2d_plan(x_shape, w_shape, dtype, stride, padding, output_padding, groups, dilation, algo):
    """(descriptor, algorithms) of a call."""
    desc = conv_transpose2d_desc(x_shape, w_shape, stride, padding, output_padding, groups, dilation)
    return desc, choose("conv_transpose2d", CONV2D_ALGORITHMS, desc, dtype, algo)


def conv_transpose2d_forward(
    x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, algo="auto", keep=True
):
    """Transposed convolution (up-convolution): the gradient of conv2d with respect to its input, as a layer.

    It equals up-sampling by zero insertion followed by convolution with the rotated kernel. x: (N, K, H, W).
    w: (K, C/groups, R, S). b: (C,) or None. stride, output_padding, dilation: an integer or (vertical, horizontal);
    padding: an integer, a pair or (top, bottom, left, right). algo: as in conv2d_forward.
    Returns (y, ctx) with y (N, C, OH, OW), OH = (H-1)*stride - top - bottom + dilation*(R-1) + output_padding + 1.
    """
    x = array(x, "conv_transpose2d", "x", 4, "(N, K, H, W)")
    w = array(w, "conv_transpose2d", "w", 4, "(K, C/groups, R, S)", x)
    desc, choice = conv_transpose2d_plan(
        x.shape, w.shape, x.dtype, stride, padding, output_padding, groups, dilation, algo
    )
    if b is not None:
        b = array_of_shape(b, "conv_transpose2d", "b", (desc.c,), x)
    y = empty(desc.x_shape, x)
    if desc.n:
        choice.data.backward_data(x, w, y, desc, b)
    return y, ConvTranspose2dCtx(desc, x, w, b is not None, choice) if keep else None


def conv_transpose2d_backward(dy, ctx, needs=(True, True, True)):
    """Gradients of a transposed convolution, with dy (N, C, OH, OW): dx is dy convolved with w, dw is dy correlated
    with x, db is dy summed over batch and pixels. Returns (dx, dw, db), None where not needed or without a bias."""
    desc, x, w = ctx.desc, ctx.x, ctx.w
    dy = array_of_shape(dy, "conv_transpose2d", "dy", desc.x_shape, x)
    dx = dw = db = None
    if needs[0]:
        dx = empty_like(x)
        if desc.n:
            ctx.choice.forward.forward(dy, w, None, None, dx, desc, False)
    if needs[1]:
        dw = empty_like(w)
        if desc.n:
            ctx.choice.weight.backward_weight(dy, x, dw, desc)
        else:
            dw.fill(0)
    if needs[2] and ctx.bias:
        db = dy.sum(axis=(0, 2, 3))
    return dx, dw, db


@cached
def conv1d_plan(x_shape, w_shape, dtype, stride, padding, dilation, groups, algo):
    """(descriptor, algorithms) of a call."""
    desc = conv1d_desc(x_shape, w_shape, stride, padding, dilation, groups)
    return desc, choose("conv1d", CONV2D_ALGORITHMS, desc, dtype, algo)


def conv1d_forward(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, algo="auto", keep=True):
    """One-dimensional cross-correlation: conv2d on images one pixel high.

    x: (N, C, L). w: (K, C/groups, R). b: (K,) or None. stride, dilation: integers; padding: an integer, (left, right),
    "same" or "valid". groups, algo: as in conv2d_forward; Winograd's kernels are two-dimensional and decline.
    Returns (y, ctx) with y (N, K, OL), OL = (L + left + right - dilation*(R-1) - 1) // stride + 1.
    """
    x = array(x, "conv1d", "x", 3, "(N, C, L)")
    w = array(w, "conv1d", "w", 3, "(K, C/groups, R)", x)
    desc, choice = conv1d_plan(x.shape, w.shape, x.dtype, stride, padding, dilation, groups, algo)
    x, w = x[:, :, None], w[:, :, None]
    if b is not None:
        b = array_of_shape(b, "conv1d", "b", (desc.k,), x)
    y = empty(desc.y_shape, x)
    if desc.n:
        choice.forward.forward(x, w, None, b, y, desc, False)
    return y[:, :, 0], Conv2dCtx(desc, x, w, b is not None, choice, None) if keep else None


def conv1d_backward(dy, ctx, needs=(True, True, True)):
    """Gradients of conv1d, as conv2d_backward: (dx, dw, db)."""
    desc = ctx.desc
    dy = array_of_shape(dy, "conv1d", "dy", (desc.n, desc.k, desc.ow), ctx.x)
    dx, dw, db = conv2d_backward(dy[:, :, None], ctx, needs)
    return None if dx is None else dx[:, :, 0], None if dw is None else dw[:, :, 0], db


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
    r, s = pair(hashable(kernel_size), op, "kernel_size", 1)
    return conv2d_desc(x_shape, (1, x_shape[1], r, s), stride, padding, dilation, 1, op)


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """Every window of an image as a column, so that convolution becomes a matrix product.

    x: (N, C, H, W). kernel_size, stride, dilation: an integer or a pair; padding as in conv2d.
    Returns (N, C*R*S, OH*OW): row (c, i, j) is channel c seen through kernel element (i, j), zero outside the image
    (torch.nn.functional.unfold).
    """
    x = array(x, "im2col", "x", 4, "(N, C, H, W)")
    desc = window_desc("im2col", x.shape, kernel_size, stride, padding, dilation)
    cols = empty((desc.n, desc.depth, desc.oh * desc.ow), x)
    direct.im2col(x, cols, desc)
    return cols


def col2im(cols, x_shape, kernel_size, stride=1, padding=0, dilation=1):
    """The adjoint of im2col: every element of the columns added to the pixel it came from.

    cols: (N, C*R*S, OH*OW). x_shape: (N, C, H, W) of the image. Returns (N, C, H, W) (torch.nn.functional.fold).
    """
    x_shape = tuple(x_shape) if isinstance(x_shape, (tuple, list)) else (x_shape,)
    if len(x_shape) != 4 or not all(is_int(size) and size >= 0 for size in x_shape):
        raise ValueError(f"col2im: x_shape must be (N, C, H, W), got {x_shape}")
    desc = window_desc("col2im", x_shape, kernel_size, stride, padding, dilation)
    cols = array_of_shape(cols, "col2im", "cols", (desc.n, desc.depth, desc.oh * desc.ow))
    x = empty(x_shape, cols)
    direct.col2im(cols, x, desc)
    return x

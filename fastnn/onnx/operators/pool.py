"""Pooling: our kernels, which want equal pads on both sides; others are put around the image before.

Maxima and sums over boxes in three dimensions are those over the squares in two, and then over the depth.
"""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import FLOATS, fitted, through_float32, unsupported, wanted, windows


def planes(x):
    """(N, C, L), (N, C, H, W) as images, with a function that turns results back."""
    if x.ndim == 3:
        return x[:, :, None], lambda y: y[:, :, 0]
    return x, lambda y: y


def two(values, first=1):
    """The last two of an option's values; of a signal's one, `first` and that."""
    return (first, *values) if len(values) == 1 else tuple(values[-2:])


def small(begins, ends, kernel):
    """Whether pads are what the kernels take: equal on both sides, and at most half a window."""
    return begins == ends and all(0 <= b <= k // 2 for b, k in zip(begins, kernel, strict=True))


def checked(node, x):
    if not 3 <= x.ndim <= 5:
        raise unsupported(node, f"pooling of {x.ndim} axes")
    return node.attributes["kernel_shape"]


@operator("MaxPool")
def max_pool(node, x):
    """Integers of 8 bits by way of float32, which has them all; Indices count the elements of the whole tensor."""
    kernel = checked(node, x)
    dtype = x.dtype
    if dtype not in FLOATS:
        if dtype.name not in ("int8", "uint8", "float16", "bfloat16"):
            raise TypeError(f"X has dtype {dtype}, expected a float, int8 or uint8")
        x = x.astype(np.float32)
    ceil = bool(node.attributes.get("ceil_mode", 0))
    strides, dilations, begins, ends, sizes = windows(node, x.shape[2:], kernel, ceil=ceil)
    indices = wanted(node, 1)
    if x.ndim == 5:
        if indices:
            raise unsupported(node, "Indices in three dimensions")
        x = fitted(x, begins, ends, -np.inf)
        n, c, d, h, w = x.shape
        y = largest(x.reshape(n, c * d, h, w), kernel[1:], strides[1:], dilations[1:])
        y = y.reshape(n, c, d, -1)
        y = largest(y, (kernel[0], 1), (strides[0], 1), (dilations[0], 1))
        return y.reshape(n, c, *sizes).astype(dtype, copy=False)
    shape = x.shape
    image, back = planes(x)
    direct = begins == ends and all(0 <= b <= k // 2 for b, k in zip(begins, kernel, strict=True))
    padding = two(begins) if direct and len(begins) == 2 else (0, begins[0]) if direct else (0, 0)
    if not direct:
        image = fitted(
            image, two(begins) if x.ndim == 4 else (0, *begins), two(ends) if x.ndim == 4 else (0, *ends), -np.inf
        )
    results = ops.max_pool2d_forward(
        image, two(kernel), two(strides), padding, two(dilations), return_indices=indices, keep=False
    )[0]
    if not indices:
        return back(results).astype(dtype, copy=False)
    y, index = map(back, results)
    if not direct:  # from the padded image to the image
        width = image.shape[3]
        top, left = (0, begins[0]) if x.ndim == 3 else begins
        index = (index // width - top) * shape[-1] + index % width - left
    if node.attributes.get("storage_order", 0) and x.ndim == 4:
        index = index % shape[3] * shape[2] + index // shape[3]
    plane = int(np.prod(shape[2:]))
    first = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * (x.ndim - 2)) * plane
    return y.astype(dtype, copy=False), index + first


def largest(x, kernel, strides, dilations):
    return ops.max_pool2d_forward(x, tuple(kernel), tuple(strides), 0, tuple(dilations), keep=False)[0]


def sums(x, kernel, strides, dilations):
    """The sum of every window that fits in x (N, C, …): convolutions with ones."""
    n, c = x.shape[:2]

    def convolved(images, size, stride, dilation):
        ones = np.ones((1, 1, *size), x.dtype)
        return ops.conv2d_forward(images, ones, None, stride, 0, dilation, algo="exact", keep=False)[0]

    *outer, h, w = x.shape[2:] if x.ndim > 3 else (1, x.shape[2])
    y = convolved(x.reshape(-1, 1, h, w), two(kernel), two(strides), two(dilations))
    if not outer:
        return y.reshape(n, c, *y.shape[2 if x.ndim > 3 else 3 :])
    plane = y.shape[2:]
    y = convolved(y.reshape(n * c, 1, outer[0], -1), (kernel[0], 1), (strides[0], 1), (dilations[0], 1))
    return y.reshape(n, c, -1, *plane)


@operator("AveragePool")
@through_float32
def average_pool(node, x):
    kernel = checked(node, x)
    a, n = node.attributes, x.ndim - 2
    ceil, include = bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0))
    strides, dilations, begins, ends, sizes = windows(node, x.shape[2:], kernel, ceil=ceil)
    if n == 2 and max(dilations) == 1 and small(begins, ends, kernel):
        return ops.avg_pool2d_forward(x, tuple(kernel), strides, tuple(begins), count_include_pad=include, keep=False)[
            0
        ]
    pads = a.get("pads") or [0] * 2 * n
    explicit = a.get("auto_pad", "NOTSET") in ("NOTSET", "")
    y = sums(fitted(x, begins, ends), kernel, strides, dilations)
    for i, size in enumerate(sizes):  # how many elements of the window count, on each axis
        at = np.arange(size)[:, None] * strides[i] + np.arange(kernel[i]) * dilations[i] - begins[i]
        before, behind = (begins[i], pads[n + i] if explicit else ends[i]) if include else (0, 0)
        count = ((at >= -before) & (at < x.shape[2 + i] + behind)).sum(axis=1)
        y /= count.astype(y.dtype).reshape(-1, *[1] * (n - 1 - i))
    return y


@operator("LpPool")
@through_float32
def lp_pool(node, x):
    kernel, p = checked(node, x), node.attributes.get("p", 2)
    ceil = bool(node.attributes.get("ceil_mode", 0))
    strides, dilations, begins, ends, _ = windows(node, x.shape[2:], kernel, ceil=ceil)
    with np.errstate(all="ignore"):
        return sums(fitted(np.abs(x) ** p, begins, ends), kernel, strides, dilations) ** (1 / p)


def flat(node, x):
    """(N, C, …) as (N, C, 1, L)"""
    if x.ndim < 3:
        raise ValueError(f"X has shape {x.shape}, expected (N, C, ...)")
    return x.reshape(*x.shape[:2], 1, int(np.prod(x.shape[2:])))


def pooled(node, x, y):
    return y.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


@operator("GlobalAveragePool")
@through_float32
def global_average_pool(node, x):
    return pooled(node, x, ops.adaptive_avg_pool2d_forward(flat(node, x), 1, keep=False)[0])


@operator("GlobalMaxPool")
@through_float32
def global_max_pool(node, x):
    return pooled(node, x, ops.adaptive_max_pool2d_forward(flat(node, x), 1, keep=False)[0])


@operator("GlobalLpPool", since=2)
@through_float32
def global_lp_pool(node, x):
    p = node.attributes.get("p", 2)
    with np.errstate(all="ignore"):
        return pooled(node, x, (np.abs(flat(node, x)) ** p).sum(axis=-1) ** (1 / p))


@operator("MaxUnpool", since=9)
def max_unpool(node, x, indices, output_shape=None):
    """Every element where `indices` say, which count those of the smallest result; zeros elsewhere, and behind it up to
    output_shape."""
    kernel, n = node.attributes["kernel_shape"], x.ndim - 2
    strides, pads = node.attributes.get("strides") or [1] * n, node.attributes.get("pads") or [0] * 2 * n
    inferred = [
        (size - 1) * s - pads[i] - pads[n + i] + k
        for i, (size, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    y = np.zeros((*x.shape[:2], *inferred), x.dtype)
    if indices.size and not 0 <= indices.min() <= indices.max() < y.size:
        raise ValueError(f"indices are {indices.min()} to {indices.max()}, expected 0 to {y.size - 1}")
    y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
    if output_shape is None:
        return y
    return fitted(y, [0] * y.ndim, [size - n for size, n in zip(output_shape.tolist(), y.shape, strict=True)])

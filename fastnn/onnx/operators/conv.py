"""Convolutions. Those in three dimensions are sums over the kernel's depth of two-dimensional ones."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import alike, fitted, through_float32, unsupported, windows


def weights_of(node, x, w, *more):
    """TypeError, ValueError unless x is (N, C, …) and w alike; UnsupportedOperator for more than (D, H, W)."""
    alike(node, x, w, *(m for m in more if m is not None))
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(f"X has shape {x.shape} and W {w.shape}, expected (N, C, ...) and as many axes")
    if x.ndim > 5:
        raise unsupported(node, f"a convolution in {x.ndim - 2} dimensions")
    shape = node.attributes.get("kernel_shape")
    if shape and tuple(shape) != w.shape[2:]:
        raise ValueError(f"kernel_shape is {list(shape)}, but W has shape {w.shape}")


@operator("Conv")
@through_float32
def conv(node, x, w, b=None):
    weights_of(node, x, w, b)
    strides, dilations, begins, _, sizes = windows(node, x.shape[2:], w.shape[2:])
    ends = pads_behind(node, x.shape[2:], w.shape[2:])
    return convolution(x, w, b, strides, begins, ends, dilations, node.attributes.get("group", 1), sizes)


def pads_behind(node, shape, kernel):
    """The pads behind each axis; a convolution does not need them to be filled."""
    *_, ends, _ = windows(node, shape, kernel)
    pads = node.attributes.get("pads") or [0] * 2 * len(shape)
    explicit = node.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "")
    return pads[len(shape) :] if explicit else [max(end, 0) for end in ends]


def convolution(x, w, b, strides, begins, ends, dilations, groups, sizes):
    """Cross-correlation in one to three dimensions; begins and ends are zeros around each axis."""
    if x.ndim == 3:
        pads = (begins[0], ends[0])
        return ops.conv1d_forward(x, w, b, strides[0], pads, dilations[0], groups, keep=False)[0]
    pads = begins[-2], ends[-2], begins[-1], ends[-1]
    if x.ndim == 4:
        return ops.conv2d_forward(x, w, b, strides, pads, dilations, groups, keep=False)[0]
    x = fitted(x, (begins[0], 0, 0), (ends[0], 0, 0)).transpose(0, 2, 1, 3, 4)
    y = None
    for i in range(w.shape[2]):
        first = i * dilations[0]
        part = x[:, first : first + (sizes[0] - 1) * strides[0] + 1 : strides[0]]
        part = np.ascontiguousarray(part).reshape(-1, *x.shape[2:])
        part = ops.conv2d_forward(
            part, w[:, :, i], None if i else b, strides[1:], pads, dilations[1:], groups, keep=False
        )[0]
        y = part if y is None else np.add(y, part, out=y)
    return y.reshape(len(x), sizes[0], *y.shape[1:]).transpose(0, 2, 1, 3, 4)


@operator("ConvTranspose")
@through_float32
def conv_transpose(node, x, w, b=None):
    """The adjoint of Conv; output_shape, or SAME, says the size and leaves the pads to be found."""
    weights_of(node, x, w, b)
    a, n, groups = node.attributes, x.ndim - 2, node.attributes.get("group", 1)
    strides, dilations = (tuple(a.get(name) or [1] * n) for name in ("strides", "dilations"))
    more = a.get("output_padding") or [0] * n
    pads = a.get("pads") or [0] * 2 * n
    auto = a.get("auto_pad", "NOTSET")
    full = [
        (size - 1) * s + (k - 1) * d + 1
        for size, s, k, d in zip(x.shape[2:], strides, w.shape[2:], dilations, strict=True)
    ]
    sizes = a.get("output_shape")
    if sizes is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    if sizes is None:
        begins, ends = ([0] * n, [0] * n) if auto == "VALID" else (pads[:n], pads[n:])
        sizes = [f + m - b - e for f, m, b, e in zip(full, more, begins, ends, strict=True)]
    else:
        sizes = sizes[-n:]
        totals = [f + m - size for f, m, size in zip(full, more, sizes, strict=True)]
        begins = [max(t, 0) // 2 if auto == "SAME_UPPER" else max(t, 0) - max(t, 0) // 2 for t in totals]
    if n == 3:
        y = transposed3d(x, w, strides, dilations, groups)
    else:
        image = (lambda v: v[:, :, None]) if n == 1 else (lambda v: v)
        steps = [(1,) * (2 - n) + t for t in (strides, dilations)]
        direct = n == 2 and direct_padding(full, begins, sizes, strides, dilations)
        if direct:
            padding, extra = direct
            return ops.conv_transpose2d_forward(x, w, b, strides, padding, extra, groups, dilations, keep=False)[0]
        y = ops.conv_transpose2d_forward(image(x), image(w), None, steps[0], 0, 0, groups, steps[1], keep=False)[0]
        y = y[:, :, 0] if n == 1 else y
    y = fitted(y, [-begin for begin in begins], [s + b - f for s, b, f in zip(sizes, begins, full, strict=True)])
    return y if b is None else y + b.reshape(-1, *[1] * n)


def direct_padding(full, begins, sizes, strides, dilations):
    """(padding, output_padding) for the kernel of a result that is no larger than it makes; None otherwise."""
    ends = [f - b - s for f, b, s in zip(full, begins, sizes, strict=True)]
    extra = tuple(max(-end, 0) for end in ends)
    if min(begins) < 0 or any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return None
    return (begins[0], max(ends[0], 0), begins[1], max(ends[1], 0)), extra


def transposed3d(x, w, strides, dilations, groups):
    """A transposed convolution in three dimensions without pads: every slice of the kernel adds to some of y."""
    n, c, depth = x.shape[:3]
    flat = np.ascontiguousarray(x.transpose(0, 2, 1, 3, 4)).reshape(n * depth, c, *x.shape[3:])
    y = None
    for i in range(w.shape[2]):
        part = ops.conv_transpose2d_forward(
            flat, w[:, :, i], None, strides[1:], 0, 0, groups, dilations[1:], keep=False
        )[0]
        if y is None:
            total = (depth - 1) * strides[0] + (w.shape[2] - 1) * dilations[0] + 1
            y = np.zeros((n, total, *part.shape[1:]), x.dtype)
        first = i * dilations[0]
        y[:, first : first + (depth - 1) * strides[0] + 1 : strides[0]] += part.reshape(n, depth, *part.shape[1:])
    return y.transpose(0, 2, 1, 3, 4)


@operator("CausalConvWithState", since=27)
@through_float32
def causal_conv(node, x, w, b=None, past=None):
    """A depthwise convolution along time of what came before, which is also handed on."""
    kind = node.attributes.get("activation", "none")
    keep = w.shape[2] - 1
    if past is None:
        past = np.zeros((*x.shape[:2], keep), x.dtype)
    x = np.concatenate([past, x], axis=2)
    y = ops.conv1d_forward(x, w, b, groups=x.shape[1], keep=False)[0]
    if kind in ("silu", "swish"):
        y = ops.silu_forward(y, out=y, keep=False)[0]
    elif kind != "none":
        raise unsupported(node, f"activation {kind!r}")
    return y, x[:, :, x.shape[2] - keep :]


@operator("Col2Im", since=18)
@through_float32
def col2im(node, cols, image, block):
    """Columns added up to images of two dimensions."""
    a = node.attributes
    if len(image) != 2:
        raise unsupported(node, f"Col2Im in {len(image)} dimensions")
    top, left, bottom, right = a.get("pads") or [0] * 4
    strides, dilations = (tuple(a.get(name) or (1, 1)) for name in ("strides", "dilations"))
    kernel = tuple(block.tolist())
    shape = (len(cols), cols.shape[1] // (kernel[0] * kernel[1]), *image.tolist())
    return ops.col2im(cols, shape, kernel, strides, (top, bottom, left, right), dilations)

"""Convolutions."""

from dataclasses import dataclass
from math import prod

from fastnn.descriptors.options import at_most, cached, check_size, is_int, pair


@dataclass(frozen=True, slots=True)
class Conv2dDesc:
    """A two-dimensional convolution: input (n, c, h, w), filters (k, c/groups, r, s), output (n, k, oh, ow)."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    """top, bottom, left, right"""
    dilation: tuple[int, int]
    groups: int
    oh: int
    ow: int

    @property
    def x_shape(self):
        return self.n, self.c, self.h, self.w

    @property
    def w_shape(self):
        return self.k, self.c // self.groups, self.r, self.s

    @property
    def y_shape(self):
        return self.n, self.k, self.oh, self.ow

    @property
    def depth(self):
        """Terms in the sum behind one output."""
        return self.c // self.groups * self.r * self.s

    @property
    def flops(self):
        """Of the direct algorithm: a multiplication and an addition a term. Each gradient costs the same."""
        return 2 * self.n * self.k * self.oh * self.ow * self.depth

    def bytes(self, itemsize):
        """Input, filters and output, each once over the memory bus."""
        return itemsize * (prod(self.x_shape) + prod(self.w_shape) + prod(self.y_shape))


def conv2d_padding(op, padding, r, s, stride, dilation):
    """A convolution's padding option as (top, bottom, left, right)."""
    named = padding if isinstance(padding, str) else None
    if named == "valid":
        return 0, 0, 0, 0
    if named == "same":
        if stride != (1, 1):
            raise ValueError(f"{op}: padding 'same' needs stride 1, got stride {stride}")
        v, h = dilation[0] * (r - 1), dilation[1] * (s - 1)
        return v // 2, v - v // 2, h // 2, h - h // 2
    values = tuple(padding) if isinstance(padding, tuple) else (padding, padding)
    if len(values) == 2:
        values = (values[0], values[0], values[1], values[1])
    if len(values) != 4 or not all(is_int(v) for v in values):
        raise TypeError(
            f"{op}: padding must be an integer, a pair, (top, bottom, left, right), 'same' or 'valid', got {padding!r}"
        )
    if min(values) < 0:
        raise ValueError(f"{op}: padding must not be negative, got {padding!r}")
    return tuple(int(v) for v in values)


@cached
def conv2d_desc(x_shape, w_shape, stride=1, padding=0, dilation=1, groups=1, op="conv2d"):
    """The descriptor of a convolution; ValueError or TypeError naming `op` and argument if the arguments do not fit."""
    n, c, h, w = x_shape
    k, cg, r, s = w_shape
    stride = pair(stride, op, "stride", 1)
    dilation = pair(dilation, op, "dilation", 1)
    padding = conv2d_padding(op, padding, r, s, stride, dilation)
    if not is_int(groups):
        raise TypeError(f"{op}: groups must be an integer, got {groups!r}")
    if groups < 1:
        raise ValueError(f"{op}: groups must be at least 1, got {groups}")
    if c == 0:
        raise ValueError(f"{op}: x has no channels (shape {x_shape})")
    if c % groups or k % groups:
        raise ValueError(f"{op}: groups={groups} does not divide {c} input channels and {k} filters")
    if cg != c // groups:
        raise ValueError(
            f"{op}: w has {cg} input channels per group, x has {c} channels / {groups} group{'s' * (groups > 1)} "
            f"(expected w of shape ({k}, {c // groups}, {r}, {s}), got {w_shape})"
        )
    if k == 0 or r == 0 or s == 0:
        raise ValueError(f"{op}: w is empty (shape {w_shape})")
    top, bottom, left, right = padding
    height, width = h + top + bottom, w + left + right
    span_y, span_x = dilation[0] * (r - 1) + 1, dilation[1] * (s - 1) + 1
    if span_y > height or span_x > width:
        raise ValueError(
            f"{op}: the kernel, {span_y} x {span_x} with dilation {dilation}, is larger than the padded image, "
            f"{height} x {width} (x has shape {x_shape}, padding is {padding})"
        )
    check_size(op, "the padded input", (n, c, height, width))
    # Kernels sort columns by residue modulo the stride.
    stride = at_most(stride, (height - span_y + 1, width - span_x + 1))
    dilation = at_most(dilation, (height, width))
    oh = (height - span_y) // stride[0] + 1
    ow = (width - span_x) // stride[1] + 1
    check_size(op, "the result", (n, k, oh, ow))
    return Conv2dDesc(n, c, h, w, k, r, s, stride, padding, dilation, int(groups), oh, ow)


@cached
def conv1d_desc(x_shape, w_shape, stride=1, padding=0, dilation=1, groups=1):
    """The descriptor of a one-dimensional convolution: conv2d on images one pixel high. padding: an integer,
    (left, right), "same" or "valid"."""
    op = "conv1d"
    for name, value in (("stride", stride), ("dilation", dilation)):
        if not is_int(value):
            raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    if isinstance(padding, tuple):
        if len(padding) != 2:
            raise TypeError(f"{op}: padding must be an integer, (left, right), 'same' or 'valid', got {padding!r}")
        padding = (0, 0, *padding)
    elif not isinstance(padding, str):
        padding = (0, padding)
    x_shape, w_shape = (*x_shape[:2], 1, x_shape[2]), (*w_shape[:2], 1, w_shape[2])
    return conv2d_desc(x_shape, w_shape, (1, stride), padding, (1, dilation), groups, op)


@cached
def conv_transpose2d_desc(x_shape, w_shape, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The descriptor of the convolution whose input's gradient a transposed convolution is: its `y_shape` is the shape
    of the transposed convolution's input, and its `x_shape` that of the output."""
    op = "conv_transpose2d"
    n, k, h, w = x_shape
    _, cg, r, s = w_shape
    stride = pair(stride, op, "stride", 1)
    dilation = pair(dilation, op, "dilation", 1)
    extra = pair(output_padding, op, "output_padding", 0)
    if not is_int(groups):
        raise TypeError(f"{op}: groups must be an integer, got {groups!r}")
    if groups < 1 or k % groups:
        raise ValueError(f"{op}: groups={groups} does not divide {k} input channels")
    if min(k, h, w, *w_shape) < 1:
        raise ValueError(f"{op}: x (shape {x_shape}) or w (shape {w_shape}) has no elements along an axis")
    if w_shape[0] != k:
        raise ValueError(f"{op}: w has {w_shape[0]} input channels, expected {k}, the channels of x (shape {x_shape})")
    if any(e >= max(t, d) for e, t, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"{op}: output_padding must be smaller than stride or dilation, got output_padding {extra}, "
            f"stride {stride}, dilation {dilation}"
        )
    if isinstance(padding, str):
        raise TypeError(f"{op}: padding must be an integer, a pair or (top, bottom, left, right), got {padding!r}")
    padding = conv2d_padding(op, padding, r, s, stride, dilation)
    top, bottom, left, right = padding
    oh = (h - 1) * stride[0] - top - bottom + dilation[0] * (r - 1) + extra[0] + 1
    ow = (w - 1) * stride[1] - left - right + dilation[1] * (s - 1) + extra[1] + 1
    if min(oh, ow) < 1:
        raise ValueError(f"{op}: padding {padding} leaves nothing of the output ({oh} x {ow})")
    height, width = oh + top + bottom, ow + left + right  # of the convolution's padded image
    check_size(op, "the result with padding", (n, cg * groups, height, width))
    stride = at_most(stride, (height - dilation[0] * (r - 1), width - dilation[1] * (s - 1)))
    dilation = at_most(dilation, (height, width))
    return Conv2dDesc(n, cg * groups, oh, ow, k, r, s, stride, padding, dilation, int(groups), h, w)

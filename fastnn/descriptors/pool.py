"""Pooling, un-pooling and sub-sampling."""

from dataclasses import dataclass
from functools import cached_property

from fastnn.descriptors.options import cached, check_size, is_int, pair


@dataclass(frozen=True)
class Pool2dDesc:
    """Windows of `kernel` pixels on images (n, c, h, w), giving images (n, c, oh, ow); pairs are (down, across).

    A kernel of 0 is adaptive: windows of different sizes that share out the axis (`adaptive_pool2d_desc`).
    """

    n: int
    c: int
    h: int
    w: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    oh: int
    ow: int

    @property
    def x_shape(self):
        return self.n, self.c, self.h, self.w

    @cached_property  # read in every call, of which it would be a tenth
    def y_shape(self):
        return self.n, self.c, self.oh, self.ow

    @cached_property
    def geometry(self):
        """kh, kw, sh, sw, ph, pw, dh, dw"""
        return self.kernel + self.stride + self.padding + self.dilation

    @property
    def flops(self):
        """A comparison or an addition for every pixel of every window."""
        kh, kw = self.kernel[0] or -(-self.h // self.oh), self.kernel[1] or -(-self.w // self.ow)
        return self.n * self.c * self.oh * self.ow * kh * kw

    def bytes(self, itemsize):
        """Input and output, each once over the memory bus."""
        return itemsize * self.n * self.c * (self.h * self.w + self.oh * self.ow)


def pool_outputs(op, axis, size, kernel, stride, padding, dilation, ceil_mode):
    """Number of windows on an axis of `size` pixels."""
    span = dilation * (kernel - 1) + 1
    last = size + 2 * padding - span  # where the last window may start, counted from the padding
    count = (-(-last // stride) if ceil_mode else last // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:  # a window starts in the image or in front of it
        count -= 1
    if count < 1:
        raise ValueError(
            f"{op}: the window's {axis}, {span} with dilation {dilation}, is larger than the padded image's, "
            f"{size + 2 * padding} ({size} with padding {padding})"
        )
    # The first pixels of the windows that start in the padding. A dilation can step over the whole image if that is
    # smaller; padding is at most 1 then, since a window of more than two pixels would not fit.
    for start in range(-padding, min(0, count * stride - padding), stride) if dilation > size else ():
        if start % dilation >= size:
            raise ValueError(
                f"{op}: a window has no pixel of the image: {axis} {size}, kernel_size {kernel}, padding {padding}, "
                f"dilation {dilation}"
            )
    return count


@cached
def pool2d_desc(op, x_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The descriptor of a pooling operator `op`; ValueError or TypeError naming the argument that does not fit."""
    n, c, h, w = x_shape
    kernel = pair(kernel_size, op, "kernel_size", 1)
    stride = kernel if stride is None else pair(stride, op, "stride", 1)
    padding = pair(padding, op, "padding", 0)
    dilation = pair(dilation, op, "dilation", 1)
    if c == 0:
        raise ValueError(f"{op}: x has no channels (shape {x_shape})")
    if max(*kernel, *stride, *dilation) > 2**31 - 1:
        raise ValueError(f"{op}: kernel_size, stride and dilation must be less than 2**31")
    if h * w > 2**31 - 1:
        raise ValueError(f"{op}: x has {h} x {w} pixels a plane, expected at most 2**31 - 1")
    if padding[0] > kernel[0] // 2 or padding[1] > kernel[1] // 2:
        raise ValueError(f"{op}: padding must be at most half of kernel_size, got {padding} with {kernel}")
    oh, ow = (
        pool_outputs(op, *axis, bool(ceil_mode))
        for axis in zip(("height", "width"), (h, w), kernel, stride, padding, dilation, strict=True)
    )
    return Pool2dDesc(n, c, h, w, kernel, stride, padding, dilation, oh, ow)


@dataclass(frozen=True, slots=True)
class Subsample2dDesc:
    """One pixel, at (top, left), of every whole block of images (n, c, h, w), giving images (n, c, oh, ow)."""

    n: int
    c: int
    h: int
    w: int
    block: tuple[int, int]
    top: int
    left: int
    oh: int
    ow: int

    @property
    def x_shape(self):
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self):
        return self.n, self.c, self.oh, self.ow

    @property
    def geometry(self):
        """As windows of one pixel: kh, kw, sh, sw, ph, pw, dh, dw; the offset is a negative padding."""
        return 1, 1, *self.block, -self.top, -self.left, 1, 1

    def bytes(self, itemsize):
        """Output once over the memory bus, and the rows of the input that have a pixel in it."""
        return itemsize * self.n * self.c * self.oh * (self.w + self.ow)


@cached
def subsample2d_desc(x_shape, block, position="upper_left"):
    """The descriptor of subsample2d; ValueError or TypeError naming the argument that does not fit."""
    n, c, h, w = x_shape
    if position not in ("upper_left", "middle"):
        raise ValueError(f"subsample2d: position must be 'upper_left' or 'middle', got {position!r}")
    block = pair(block, "subsample2d", "block", 1)
    if c == 0:
        raise ValueError(f"subsample2d: x has no channels (shape {x_shape})")
    oh, ow = h // block[0], w // block[1]
    if oh == 0 or ow == 0:
        raise ValueError(f"subsample2d: block {block} is larger than the image, {h} x {w}")
    top, left = (block[0] // 2, block[1] // 2) if position == "middle" else (0, 0)
    return Subsample2dDesc(n, c, h, w, block, top, left, oh, ow)


def single(value, op, name):
    """An option of a one-dimensional operator, an integer or a tuple of one, as an integer."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != 1 or not is_int(values[0]):
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    return int(values[0])


@cached
def pool1d_desc(op, x_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The descriptor of a pooling operator `op` on rows (N, C, L): that of images one pixel high."""
    kernel = single(kernel_size, op, "kernel_size")
    stride = kernel if stride is None else single(stride, op, "stride")
    padding, dilation = single(padding, op, "padding"), single(dilation, op, "dilation")
    n, c, length = x_shape
    return pool2d_desc(op, (n, c, 1, length), (1, kernel), (1, stride), (0, padding), (1, dilation), ceil_mode)


@cached
def adaptive_pool2d_desc(op, x_shape, output_size):
    """The descriptor of an adaptive pooling operator `op`: output i of OH takes the rows from floor(i H / OH) to
    ceil((i + 1) H / OH), exclusive. Where OH divides H these are ordinary windows, else kernel is 0."""
    n, c, h, w = x_shape
    sizes = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    if len(sizes) != 2 or not all(s is None or is_int(s) for s in sizes):
        raise TypeError(f"{op}: output_size must be an integer, None or a pair of these, got {output_size!r}")
    oh, ow = (size if s is None else int(s) for s, size in zip(sizes, (h, w), strict=True))
    if 0 in (c, h, w):
        raise ValueError(f"{op}: x has shape {x_shape}, expected at least one channel and one pixel")
    if min(oh, ow) < 1:
        raise ValueError(f"{op}: output_size must be at least 1, got {output_size!r}")
    if h * w > 2**31 - 1:
        raise ValueError(f"{op}: x has {h} x {w} pixels a plane, expected at most 2**31 - 1")
    check_size(op, "the result", (n, c, oh, ow))
    kernel = tuple(0 if size % outputs else size // outputs for size, outputs in ((h, oh), (w, ow)))
    stride = tuple(k or 1 for k in kernel)
    return Pool2dDesc(n, c, h, w, kernel, stride, (0, 0), (1, 1), oh, ow)


@cached
def adaptive_pool1d_desc(op, x_shape, output_size):
    """The same for rows (N, C, L)."""
    values = output_size if isinstance(output_size, tuple) else (output_size,)
    if len(values) != 1 or not (values[0] is None or is_int(values[0])):
        raise TypeError(f"{op}: output_size must be an integer or None, got {output_size!r}")
    n, c, length = x_shape
    return adaptive_pool2d_desc(op, (n, c, 1, length), (1, values[0]))


@dataclass(frozen=True, slots=True)
class MaxUnpool2dDesc:
    """Images (n, c, h, w) whose pixels are put onto images (n, c, oh, ow)."""

    n: int
    c: int
    h: int
    w: int
    oh: int
    ow: int

    @property
    def x_shape(self):
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self):
        return self.n, self.c, self.oh, self.ow

    def bytes(self, itemsize):
        """Input, its 64-bit indices, and output, each once over the memory bus."""
        return self.n * self.c * (self.h * self.w * (itemsize + 8) + self.oh * self.ow * itemsize)


@cached
def max_unpool2d_desc(op, x_shape, kernel_size, stride=None, padding=0, output_size=None):
    """The descriptor of un-pooling `op`; ValueError or TypeError naming the argument that does not fit."""
    n, c, h, w = x_shape
    kernel = pair(kernel_size, op, "kernel_size", 1)
    stride = kernel if stride is None else pair(stride, op, "stride", 1)
    padding = pair(padding, op, "padding", 0)
    if c == 0:
        raise ValueError(f"{op}: x has no channels (shape {x_shape})")
    default = tuple((s - 1) * t + k - 2 * p for s, t, k, p in zip((h, w), stride, kernel, padding, strict=True))
    sizes = default
    if output_size is not None:
        if not isinstance(output_size, tuple) or len(output_size) not in (2, 4) or not all(map(is_int, output_size)):
            raise TypeError(f"{op}: output_size must be 2 or 4 integers, got {output_size!r}")
        sizes = tuple(map(int, output_size[-2:]))
        if not all(abs(s - d) < t for s, d, t in zip(sizes, default, stride, strict=True)):
            raise ValueError(
                f"{op}: output_size is {output_size}, expected sizes that differ from {default} by less than the "
                f"stride, {stride}"
            )
    if min(sizes) < 1:
        raise ValueError(f"{op}: the result would be {sizes[0]} x {sizes[1]} pixels (x has shape {x_shape})")
    check_size(op, "the result", (n, c, *sizes))
    return MaxUnpool2dDesc(n, c, h, w, *sizes)


@cached
def max_unpool1d_desc(op, x_shape, kernel_size, stride=None, padding=0, output_size=None):
    """The same for rows (N, C, L)."""
    kernel = single(kernel_size, op, "kernel_size")
    stride = kernel if stride is None else single(stride, op, "stride")
    padding = single(padding, op, "padding")
    if output_size is not None:
        if not isinstance(output_size, tuple) or len(output_size) not in (1, 3) or not all(map(is_int, output_size)):
            raise TypeError(f"{op}: output_size must be 1 or 3 integers, got {output_size!r}")
        output_size = (1, output_size[-1])
    n, c, length = x_shape
    return max_unpool2d_desc(op, (n, c, 1, length), (1, kernel), (1, stride), (0, padding), output_size)

"""A problem, checked and measured once: frozen descriptors made from shapes and options.

Output sizes, operation counts and byte counts live here and nowhere else; ops, reference, kernels, tests and bench
all read them. Making a descriptor raises ValueError, naming the argument, for options that do not fit the shapes.
Descriptors are cached, so that a repeated call pays for its checks once.
"""

from dataclasses import dataclass
from functools import lru_cache, wraps
from inspect import signature
from math import prod
from numbers import Integral, Real


def hashable(value):
    """Lists as tuples, so that an option can be looked up in a cache."""
    return tuple(hashable(v) for v in value) if isinstance(value, list) else value


def cached(function):
    """lru_cache for a function of shapes and options, of which lists count as tuples.

    2.0 is not 2, and (2.0, 2.0) not (2, 2), though they are equal: what holds anything but int itself goes to the
    function, which knows what it takes. Shapes are those of arrays, and only options are looked into.
    """
    parameters = signature(function)
    first = max(i for i, name in enumerate(parameters.parameters) if name.endswith("_shape")) + 1

    @lru_cache(maxsize=1024, typed=True)  # which compares the types of arguments, but not of the elements of tuples
    def lookup(*args):
        return function(*args), [(i, args[i]) for i in range(first, len(args)) if isinstance(args[i], tuple)]

    @wraps(function)
    def call(*args, **options):
        if options:
            bound = parameters.bind(*args, **options)
            bound.apply_defaults()
            args = bound.args
        try:
            found, tuples = lookup(*args)
        except TypeError:  # a wrong option, or a list, or else an unhashable one
            if list in map(type, args):
                return call(*map(hashable, args))
            return function(*args)
        for i, accepted in tuples:
            if args[i] is not accepted:
                for element in args[i]:
                    if type(element) is not int:
                        return function(*args)
        return found

    return call


def pair(value, op, name, least):
    """An option given as one integer or as (vertical, horizontal), each at least `least`, as a pair."""
    values = tuple(value) if isinstance(value, tuple) else (value, value)
    if len(values) != 2 or not all(is_int(v) for v in values):
        raise TypeError(f"{op}: {name} must be an integer or a pair of integers, got {value!r}")
    if min(values) < least:
        raise ValueError(f"{op}: {name} must be at least {least}, got {value!r}")
    return int(values[0]), int(values[1])


def is_int(value):
    """A Python or NumPy integer, but not a bool."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def number(value, op, name):
    """An option that is a real number, as a float."""
    if type(value) is float:
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    return float(value)


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


def check_size(op, name, shape):
    """ValueError for an array whose size in bytes would overflow, whatever the batch."""
    if prod(max(size, 1) for size in shape) >= 2**60:
        raise ValueError(f"{op}: {name} would have shape {shape}, expected fewer than 2**60 elements")


def at_most(steps, limits):
    """Strides or dilations no larger than they need be: beyond the image, one is like another."""
    return tuple(map(min, steps, limits))


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


@dataclass(frozen=True, slots=True)
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

    @property
    def y_shape(self):
        return self.n, self.c, self.oh, self.ow

    @property
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
    # The first pixels of the windows that start in the padding; only dilation can step over a whole image.
    for start in range(-padding, min(0, count * stride - padding), stride):
        first = start % dilation
        if first >= min(size, start + span):
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


@dataclass(frozen=True, slots=True)
class BatchNormDesc:
    """Batch normalisation of x (n, c, *spatial), s = product of the spatial sizes."""

    n: int
    c: int
    s: int

    @property
    def size(self):
        return self.n * self.c * self.s

    @property
    def flops(self):
        """Mean, squared deviations, normalisation."""
        return 7.0 * self.size

    def bytes(self, itemsize, residual=False):
        """x, and a residual, are read and y written once: a channel is in cache when it is read again."""
        return (2.0 + residual) * self.size * itemsize

    @property
    def backward_flops(self):
        """Two sums, and dx as a combination of dy and x."""
        return 9.0 * self.size

    def backward_bytes(self, itemsize, residual=False):
        """dy, x and, with a residual, y are read, dx and the residual's gradient written."""
        return (3.0 + 2 * residual) * self.size * itemsize


@lru_cache(maxsize=1024)
def batch_norm_desc(shape):
    """The descriptor for x of a shape."""
    if len(shape) < 2:
        raise ValueError(f"batch_norm: x has shape {shape}, expected (N, C) or (N, C, *spatial)")
    n, c, s = shape[0], shape[1], prod(shape[2:])
    if c == 0 or s == 0:
        raise ValueError(f"batch_norm: x has shape {shape}, expected at least one channel and one value in each")
    return BatchNormDesc(n, c, s)


@dataclass(frozen=True, slots=True)
class LstmDesc:
    """t steps of an LSTM on n samples of d features, with h hidden units."""

    t: int
    n: int
    d: int
    h: int

    @property
    def flops(self):
        """The two matrix products."""
        return 8.0 * self.t * self.n * self.h * (self.d + self.h)

    def bytes(self, itemsize):
        """Input and output sequences and all weights, once."""
        return float((self.t * self.n * (self.d + self.h) + 4 * self.h * (self.d + self.h)) * itemsize)


@lru_cache(maxsize=1024)
def lstm_desc(op, x_shape, w_ih_shape, w_hh_shape):
    """The descriptor of `op`: lstm for x (T, N, D), lstm_step for x (N, D)."""
    expected = {"lstm": "(T, N, D)", "lstm_step": "(N, D)"}[op]
    if len(x_shape) != expected.count(",") + 1:
        raise ValueError(f"{op}: x has shape {x_shape}, expected {expected}")
    *t, n, d = x_shape
    h = w_hh_shape[-1] if w_hh_shape else 0
    if w_hh_shape != (4 * h, h):
        raise ValueError(f"{op}: w_hh has shape {w_hh_shape}, expected (4H, H), one block of rows per gate i, f, g, o")
    if w_ih_shape != (4 * h, d):
        raise ValueError(
            f"{op}: w_ih has shape {w_ih_shape}, expected {(4 * h, d)} for {d} features in x and {h} hidden units"
        )
    if 0 in (*t, d, h):
        raise ValueError(
            f"{op}: x has shape {x_shape} and w_hh {w_hh_shape}, expected at least one step, feature and hidden unit"
        )
    return LstmDesc(t[0] if t else 1, n, d, h)

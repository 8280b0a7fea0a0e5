"""Descriptors of operators that move pixels: up-sampling and padding. See fastnn.descriptors."""

from dataclasses import dataclass
from math import isfinite, prod

from fastnn.descriptors.options import cached, check_size, flag, is_int, number, one_of, pair

LONGEST = 2**31 - 1
"""Pixels on an axis of an image: kernels of single precision index with as many bits."""


@dataclass(frozen=True, slots=True)
class Upsample2dDesc:
    """Images (n, c, h, w) resampled to (n, c, oh, ow)."""

    n: int
    c: int
    h: int
    w: int
    oh: int
    ow: int
    scale: tuple[float, float]
    """Pixels from one result to the next, down and across."""
    align_corners: bool = False

    @property
    def x_shape(self):
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self):
        return self.n, self.c, self.oh, self.ow

    def bytes(self, itemsize):
        """Input, as far as it is used, and output, each once over the memory bus."""
        used = min(self.h, 2 * self.oh) * self.w
        return itemsize * self.n * self.c * (used + self.oh * self.ow)


def check_image(op, x_shape):
    if 0 in x_shape[1:]:
        raise ValueError(f"{op}: x has shape {x_shape}, expected at least one channel and one pixel")


def described(op, x_shape, size, scale, align_corners=False):
    """The descriptor, if the sizes are what kernels can take."""
    y_shape = (*x_shape[:2], *size)
    check_size(op, "the result", y_shape)
    if max(*x_shape[2:], *size) > LONGEST:
        raise ValueError(f"{op}: x or the result is longer than 2**31 - 1 (shapes {x_shape} and {y_shape})")
    return Upsample2dDesc(*x_shape, *size, scale, align_corners)


@cached
def upsample_zeros2d_desc(x_shape, stride):
    """The descriptor of zero-insertion."""
    check_image("upsample_zeros2d", x_shape)
    stride = pair(stride, "upsample_zeros2d", "stride", 1)
    size = x_shape[2] * stride[0], x_shape[3] * stride[1]
    return described("upsample_zeros2d", x_shape, size, (1 / stride[0], 1 / stride[1]))


def factor(value, op):
    """One element of scale_factor."""
    value = number(value, op, "scale_factor")
    if not (value > 0 and isfinite(value)):
        raise ValueError(f"{op}: scale_factor must be positive and finite, got {value}")
    return value


def per_axis(value, axes, op, name):
    """An option that is one value or one for each of so many axes, as a tuple."""
    values = value if isinstance(value, tuple) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{op}: {name} is {value!r}, expected one value or {axes}, as many as x has spatial axes")
    return values


@cached
def upsample_desc(op, x_shape, size=None, scale_factor=None, align_corners=False):
    """The descriptor of interpolation of x (N, C, H, W) or (N, C, L), the latter as images one pixel high.

    With a scale_factor it is its reciprocal that steps from result to result, and not the ratio of sizes, as in torch
    unless recompute_scale_factor is true.
    """
    check_image(op, x_shape)
    sizes = x_shape[2:]
    axes = len(sizes)
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{op}: size is {size!r} and scale_factor {scale_factor!r}, expected exactly one of them")
    if size is None:
        factors = tuple(factor(f, op) for f in per_axis(scale_factor, axes, op, "scale_factor"))
        outputs = [n * f for n, f in zip(sizes, factors, strict=True)]
        if max(outputs) > LONGEST:
            raise ValueError(f"{op}: scale_factor {scale_factor!r} gives a result longer than 2**31 - 1")
        size = tuple(int(n) for n in outputs)
    else:
        factors = None
        size = per_axis(size, axes, op, "size")
        if not all(is_int(n) for n in size):
            raise TypeError(f"{op}: size must be an integer or one for each of {axes} axes, got {size!r}")
        size = tuple(int(n) for n in size)
    if min(size) < 1:
        name, value = ("size", size) if factors is None else ("scale_factor", scale_factor)
        raise ValueError(f"{op}: {name} {value!r} leaves nothing of x (shape {x_shape})")
    if flag(align_corners, op, "align_corners"):
        scale = tuple((n - 1) / (o - 1) if o > 1 else 0.0 for n, o in zip(sizes, size, strict=True))
    elif factors is None:
        scale = tuple(n / o for n, o in zip(sizes, size, strict=True))
    else:
        scale = tuple(1 / f for f in factors)
    if axes == 1:
        x_shape, size, scale = (*x_shape[:2], 1, *sizes), (1, *size), (1.0, *scale)
    return described(op, x_shape, size, scale, align_corners)


@dataclass(frozen=True, slots=True)
class PadDesc:
    """x padded to y: `before` elements in front of each axis, or that many fewer if negative."""

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    before: tuple[int, ...]
    mode: str
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Sizes of x and of y and `before`, of as few axes as describe it; three if the mode is not "constant"."""

    def bytes(self, itemsize):
        """What is kept of x is read, and y written."""
        return itemsize * (min(prod(self.x_shape), prod(self.y_shape)) + prod(self.y_shape))


def joined(x_shape, y_shape, before):
    """The same with each axis without padding made part of the one in front of it."""
    n, out, first = [x_shape[0]], [y_shape[0]], [before[0]]
    for a, b, c in zip(x_shape[1:], y_shape[1:], before[1:], strict=True):
        if a == b and c == 0:
            n[-1], out[-1], first[-1] = n[-1] * a, out[-1] * a, first[-1] * a
        else:
            n.append(a), out.append(b), first.append(c)
    return tuple(n), tuple(out), tuple(first)


@cached
def pad_desc(x_shape, pad, mode="constant"):
    """The descriptor of pad."""
    ndim = len(x_shape)
    one_of("pad", "mode", mode, "constant", "reflect", "replicate", "circular")
    if not isinstance(pad, tuple) or not all(is_int(p) for p in pad):
        raise TypeError(f"pad: pad must be a tuple of integers, got {pad!r}")
    count = len(pad) // 2
    if len(pad) % 2 or count > ndim:
        raise ValueError(f"pad: pad is {pad}, expected two values for each padded axis, x has shape {x_shape}")
    pad = tuple(int(p) for p in pad)
    before = (0,) * (ndim - count) + pad[-2::-2]
    after = (0,) * (ndim - count) + pad[:0:-2] if pad else before
    y_shape = tuple(b + n + a for b, n, a in zip(before, x_shape, after, strict=True))
    if min(y_shape, default=0) < 0:
        raise ValueError(f"pad: pad {pad} takes away more than there is of x (shape {x_shape})")
    check_size("pad", "the result", y_shape)
    if mode == "constant":
        axes = joined(x_shape, y_shape, before) if ndim else ((1,), (1,), (0,))
        return PadDesc(x_shape, y_shape, before, mode, axes)
    if not 1 <= count <= 2:
        raise ValueError(f"pad: pad is {pad}, expected two or four values in mode {mode!r}")
    if min(pad) < 0:
        raise ValueError(f"pad: pad is {pad}, expected no negative value in mode {mode!r}")
    for n, b, a in zip(x_shape, before, after, strict=True):
        most = {"reflect": n - 1, "circular": n, "replicate": max(b, a) if n else 0}[mode]
        if max(b, a) > max(most, 0):
            raise ValueError(
                f"pad: pad is {pad}, expected at most {most} on an axis of {n} in mode {mode!r}, x has shape {x_shape}"
            )
    planes = prod(x_shape[:-2])
    axes = (planes, *(1, *x_shape)[-2:]), (planes, *(1, *y_shape)[-2:]), (0, *(0, *before)[-2:])
    return PadDesc(x_shape, y_shape, before, mode, axes)

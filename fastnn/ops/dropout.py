"""Dropout (K15; Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting").

What is dropped is a pure function of seed, offset and the element's place, at any number of threads, instruction-set
level and dtype. Element i draws 16 bits from Philox4x32-7 (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3": seven rounds are the fewest that pass all of BigCrush) with the key `seed` and the 128-bit counter
offset * 2^64 + block, block = i // 128 * 16 + i % 32 // 2: they are half i % 2 of word i // 32 % 4, as a signed number
u, and the element is dropped if u + 32768 < floor(65536 p). If they are equal, 32 further bits decide (word 0 of block
2^63 + i), so that p is met to 2^-48. For the backward pass, one bit an element is kept: to read it takes less time than
to draw it again.

Shared by all: p: the probability of being dropped, 0 to 1. seed, offset: integers in [0, 2^64); calls with different
offsets are independent. training: False leaves x as it is. out: a writable C-contiguous array of x's shape and dtype to
write y to, x itself or apart from it, None for a new one. keep: False if no backward pass follows. Returns (y, ctx).
Dropped elements are x * 0, as in torch: NaN if x is not finite, and zeros have x's sign.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from fastnn.descriptors import flag, is_int, number
from fastnn.kernels import dropout as kernels
from fastnn.ops._arrays import array, array_of_shape, destination, empty_indices, empty_like

__all__ = [
    "alpha_dropout_backward",
    "alpha_dropout_forward",
    "dropout1d_backward",
    "dropout1d_forward",
    "dropout2d_backward",
    "dropout2d_forward",
    "dropout_backward",
    "dropout_forward",
]

# Minus the limit of SELU at -inf: scale * alpha of Klambauer et al. 2017.
SELU_LIMIT = 1.7580993408473766


FLOAT32 = np.dtype(np.float32)
LIKE = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.float32, np.float64)}


class DropoutCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    shape: tuple
    like: np.ndarray
    """An empty array of x's dtype."""
    rows: int | None
    """How many rows are dropped as wholes; None: elements are dropped."""
    bits: np.ndarray | None
    """A bit for each, set where it is kept; None: all are, as they are."""
    scale: float


def forward(op, given, x, rows, p, seed, offset, scale, shifts, out, keep):
    """(y, ctx): elements, or so many rows, are multiplied by scale or 0, and then shifted; p 0 leaves x as it is.
    given: x as the caller gave it."""
    for name, value in (("seed", seed), ("offset", offset)):
        if not is_int(value):
            raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
        if not 0 <= value < 2**64:
            raise ValueError(f"{op}: {name} is {value}, expected 0 to 2^64 - 1")
    if p == 0:
        y = out if out is not None and out is given else destination(out, op, x, False)  # itself in whatever layout
        if y is not given:
            np.copyto(y, x)
        return y, DropoutCtx(x.shape, LIKE[x.dtype], rows, None, scale) if keep else None
    y, bits = destination(out, op, x, False), None
    if keep or rows is not None:
        bits = empty_indices((kernels.bits_of(x.size if rows is None else rows),), LIKE[FLOAT32])
    if p == 1:  # all are kept, but as 0
        p, shifts = 0.0, None
    if rows is None:
        kernels.elements(x, y, p, seed, offset, scale, shifts, bits)
    else:
        kernels.draw(x, bits, rows, p, seed, offset)
        kernels.rows(x, y, rows, bits, scale)
    return y, DropoutCtx(x.shape, LIKE[x.dtype], rows, bits, scale) if keep else None


def backward_of(op, formula):
    """The operator's backward function."""

    def backward(dy, ctx):
        dy = array_of_shape(dy, op, "dy", ctx.shape, ctx.like)
        dx = empty_like(dy)
        if ctx.bits is None:
            np.copyto(dx, dy)
        elif ctx.rows is None:
            kernels.masked(dy, dx, ctx.bits, ctx.scale)
        else:
            kernels.rows(dy, dx, ctx.rows, ctx.bits, ctx.scale)
        return dx

    backward.__name__ = backward.__qualname__ = f"{op}_backward"
    backward.__doc__ = formula
    return backward


def probability(p, op, training):
    """p as a float, 0 if not training."""
    p = number(p, op, "p")
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: p is {p}, expected 0 to 1")
    return p if flag(training, op, "training") else 0.0


def inverse(p):
    """1 / (1 - p), and 0 for p = 1: what makes up for the dropped."""
    return 1 / (1 - p) if p < 1 else 0.0


def dropout_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """y = 0 with probability p, else x / (1 - p).

    x: any shape, float32 or float64. Other arguments, results and errors as the module says.
    """
    given, x = x, array(x, "dropout", "x")
    p = probability(p, "dropout", training)
    return forward("dropout", given, x, None, p, seed, offset, inverse(p), None, out, keep)


dropout_backward = backward_of("dropout", "dx = 0 where y was dropped, else dy / (1 - p).")


def dropout1d_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """Whole channels are dropped (Tompson et al. 2015): y[n, c] = 0 with probability p, else x[n, c] / (1 - p).

    x: (N, C, L) or (C, L), float32 or float64; channel c of sample n draws the number of element n * C + c of dropout.
    Other arguments, results and errors as the module says.
    """
    given, x = x, array(x, "dropout1d", "x")
    if x.ndim not in (2, 3):
        raise ValueError(f"dropout1d: x has {x.ndim} dimensions, shape {x.shape}, expected (N, C, L) or (C, L)")
    p = probability(p, "dropout1d", training)
    rows = x.shape[0] * x.shape[1] if x.ndim == 3 else x.shape[0]
    return forward("dropout1d", given, x, rows, p, seed, offset, inverse(p), None, out, keep)


dropout1d_backward = backward_of("dropout1d", "dx = 0 where a channel was dropped, else dy / (1 - p).")


def dropout2d_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """The same of images. x: (N, C, H, W), float32 or float64."""
    given, x = x, array(x, "dropout2d", "x", 4, "(N, C, H, W)")
    p = probability(p, "dropout2d", training)
    return forward("dropout2d", given, x, x.shape[0] * x.shape[1], p, seed, offset, inverse(p), None, out, keep)


dropout2d_backward = backward_of("dropout2d", "dx = 0 where a channel was dropped, else dy / (1 - p).")


def alpha_dropout_forward(x, p=0.5, *, seed, offset=0, training=True, out=None, keep=True):
    """Dropout for SELU (Klambauer et al. 2017): what is dropped becomes SELU's limit at -inf, -s, and then y = a x + b
    with a and b that restore mean 0 and variance 1, a = 1 / √((1 + s² p)(1 - p)), b = a s p. For p = 1 it is x * 0, as
    in torch.

    x: any shape, float32 or float64. Other arguments, results and errors as the module says.
    """
    given, x = x, array(x, "alpha_dropout", "x")
    p = probability(p, "alpha_dropout", training)
    a = 1 / sqrt((SELU_LIMIT**2 * p + 1) * (1 - p)) if p < 1 else 0.0
    shifts = (a * SELU_LIMIT * p, a * SELU_LIMIT * (p - 1))
    return forward("alpha_dropout", given, x, None, p, seed, offset, a, shifts, out, keep)


alpha_dropout_backward = backward_of("alpha_dropout", "dx = 0 where y was dropped, else a dy.")

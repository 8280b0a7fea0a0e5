"""Addition of a residual (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import flag
from fastnn.kernels import elementwise as kernels
from fastnn.ops._arrays import array, array_of_shape, destination, empty_like

__all__ = ["add_backward", "add_forward"]


class AddCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    shape: tuple[int, ...]
    like: np.ndarray
    """An array of y's dtype: y itself, which ReLU's gradient needs, else an empty one."""
    relu: bool


def add_forward(a, b, *, relu=False, out=None, keep=True):
    """y = a + b, or max(a + b, 0) if relu, in one pass.

    a, b: of one shape, any, and dtype, float32 or float64. out: a writable C-contiguous array of that shape and dtype
    to write y to, None for a new one; it may be a or b itself. Returns (y, ctx).
    """
    a = array(a, "add", "a")
    relu = flag(relu, "add", "relu")
    b = array_of_shape(b, "add", "b", a.shape, a)
    y = destination(out, "add", a, False, "a")
    if out is not None:
        destination(out, "add", b, False, "b")
    kernels.add(a, b, y, relu)
    return y, AddCtx(y.shape, y if relu else np.empty(0, y.dtype), relu) if keep else None


def add_backward(dy, ctx, needs=(True, True)):
    """Gradients (da, db), each dy, where y > 0 if relu; None for one that is not needed."""
    shape, like, relu = ctx
    dy = array_of_shape(dy, "add", "dy", shape, like)
    da, db = (empty_like(dy) if need else None for need in needs)
    if da is not None or db is not None:
        kernels.add_backward(dy, like if relu else None, da, db)
    return da, db

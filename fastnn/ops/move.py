"""Padding and concatenation (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import PadDesc, number, pad_desc
from fastnn.kernels import move as kernels
from fastnn.ops._arrays import array, array_of_shape, arrays_to_join, empty

__all__ = ["concat_backward", "concat_forward", "pad_backward", "pad_forward"]


class PadCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: PadDesc
    like: np.ndarray
    """An empty array of x's dtype."""


def pad_forward(x, pad, mode="constant", value=0.0, *, keep=True):
    """Elements around those of x.

    x: any shape, float32 or float64. pad: two integers for each padded axis, (before, behind) the last axis, then those
    of the one before it, and so on, as in torch. mode: "constant", `value` everywhere; negative numbers take elements
    away. "reflect": those on the other side of the edge, which is not repeated, fewer than there are; "replicate": the
    edge; "circular": those at the other end, as many as there are at most. These pad the last axis or the last two, and
    not negatively.
    Returns (y, ctx).
    """
    x = array(x, "pad", "x")
    desc = pad_desc(x.shape, pad, mode)
    value = number(value, "pad", "value")
    y = empty(desc.y_shape, x)
    if y.size:
        kernels.pad(kernels.MODES[mode], x, y, *desc.axes, value)
    return y, PadCtx(desc, np.empty(0, x.dtype)) if keep else None


def pad_backward(dy, ctx):
    """dx = the sum of dy over the results that repeat an element; zero of an element that was taken away."""
    desc, like = ctx
    dy = array_of_shape(dy, "pad", "dy", desc.y_shape, like)
    dx = empty(desc.x_shape, dy)
    mode = kernels.MODES[desc.mode]
    if not dx.size:
        return dx
    n, out, before = desc.axes
    if desc.mode == "constant":
        kernels.pad(mode, dy, dx, out, n, tuple(-b for b in before), 0.0)
    else:
        kernels.pad_backward(mode, dy, dx, n, out, before)
    return dx


class ConcatCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    shapes: list[tuple[int, ...]]
    y_shape: tuple[int, ...]
    outer: int
    """The product of the axes in front of the one that is concatenated."""
    like: np.ndarray


def concat_forward(arrays, axis=0, *, keep=True):
    """The arrays one after the other along an axis.

    arrays: a list or tuple of at least one, float32 or float64, all of one dtype and of one shape but for that axis.
    Returns (y, ctx).
    """
    arrays, shape, outer = arrays_to_join(arrays, "concat", "arrays", axis)
    first = arrays[0]
    y = empty(shape, first)
    if y.size:
        kernels.concat(arrays, outer, y)
    return y, ConcatCtx([a.shape for a in arrays], shape, outer, np.empty(0, first.dtype)) if keep else None


def concat_backward(dy, ctx):
    """A list of the parts of dy, one for each array."""
    shapes, y_shape, outer, like = ctx
    dy = array_of_shape(dy, "concat", "dy", y_shape, like)
    parts = [empty(shape, dy) for shape in shapes]
    if dy.size:
        kernels.split(dy, outer, parts)
    return parts

"""Padding and concatenation (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import PadDesc, pad_desc

__all__ = ["concat_backward", "concat_forward", "pad_backward", "pad_forward"]


class PadCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: PadDesc


# numpy.pad's names of the modes that repeat elements.
NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def sources(desc):
    """For every axis, which of x's elements each result repeats, as far as it does not lie outside; and where it is."""
    for n, out, before in zip(desc.x_shape, desc.y_shape, desc.before, strict=True):
        if desc.mode == "constant":
            index = np.arange(out) - before
            inside = (index >= 0) & (index < n)
            yield index[inside], np.flatnonzero(inside)
        else:
            after = out - n - before
            index = np.pad(np.arange(n), (before, after), NUMPY_MODES[desc.mode]) if before or after else np.arange(n)
            yield index, np.arange(out)


def pad_forward(x, pad, mode="constant", value=0.0, *, keep=True):
    """y[o] = x[the element that o repeats on each axis], or value"""
    desc = pad_desc(x.shape, pad, mode)
    index, where = zip(*sources(desc), strict=True) if x.ndim else ((), ())
    y = np.full(desc.y_shape, value, x.dtype)
    y[np.ix_(*where)] = x[np.ix_(*index)]
    return y, PadCtx(desc) if keep else None


def pad_backward(dy, ctx):
    """dx[the element that o repeats] += dy[o]"""
    desc = ctx.desc
    index, where = zip(*sources(desc), strict=True) if dy.ndim else ((), ())
    dx = np.zeros(desc.x_shape, dy.dtype)
    np.add.at(dx, np.ix_(*index), dy[np.ix_(*where)])
    return dx


class ConcatCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    lengths: list[int]
    axis: int


def concat_forward(arrays, axis=0, *, keep=True):
    """y = the arrays one after the other along an axis"""
    return np.concatenate(arrays, axis), ConcatCtx([a.shape[axis] for a in arrays], axis) if keep else None


def concat_backward(dy, ctx):
    """The parts of dy."""
    lengths, axis = ctx
    return [part.copy() for part in np.split(dy, np.cumsum(lengths)[:-1], axis)]

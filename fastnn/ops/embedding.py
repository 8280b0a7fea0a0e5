"""Embedding (K15): rows of a table."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import flag, is_int, number
from fastnn.kernels import embedding as kernels
from fastnn.ops._arrays import array, array_of_shape, empty, index_array, writable

__all__ = ["embedding_backward", "embedding_forward"]


class EmbeddingCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    rows: int
    like: np.ndarray
    """An empty array of the table's dtype."""
    padding_idx: int
    """-1: none."""
    scale_grad_by_freq: bool
    shape: tuple
    """Of y."""


def embedding_forward(
    x, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False, *, keep=True
):
    """y[…, :] = weight[x[…], :].

    x: indices of any shape and integer dtype, 0 to V - 1. weight: (V, D), float32 or float64. padding_idx: a row,
    counted from the end if negative, that gets no gradient. max_norm: rows that are looked up are first scaled down to
    this norm_type-norm, in place, so that weight must be writable and contiguous. scale_grad_by_freq: the gradient of a
    row is divided by how often it was looked up. sparse: must be False; gradients are dense. Returns (y, ctx), y
    (*x.shape, D). Raises ValueError for an index out of range, naming it.
    """
    op = "embedding"
    norm_type = number(norm_type, op, "norm_type")
    if not norm_type > 0:
        raise ValueError(f"{op}: norm_type is {norm_type}, expected a positive number")
    given, weight = weight, array(weight, op, "weight", 2, "(V, D)")
    if max_norm is not None:
        weight = writable(given, op, "weight", weight.shape, None)
        max_norm = number(max_norm, op, "max_norm")
        if not max_norm >= 0:
            raise ValueError(f"{op}: max_norm is {max_norm}, expected a number, at least 0, or None")
    rows, d = weight.shape
    scale_grad_by_freq = flag(scale_grad_by_freq, op, "scale_grad_by_freq")
    if flag(sparse, op, "sparse"):
        raise ValueError(f"{op}: sparse is {sparse!r}, expected False: gradients are dense")
    if padding_idx is None:
        padding_idx = -1
    elif not is_int(padding_idx):
        raise TypeError(f"{op}: padding_idx must be an integer or None, got {padding_idx!r}")
    elif not -rows <= padding_idx < rows:
        raise ValueError(f"{op}: padding_idx is {padding_idx}, expected -{rows} to {rows - 1}")
    else:
        padding_idx %= rows
    x = index_array(x, op, "x", None, rows)
    if max_norm is not None:
        kernels.renorm(np.unique(x), weight, max_norm, norm_type)
    y = empty((*x.shape, d), weight)
    kernels.gather(x, weight, y)
    if not keep:
        return y, None
    return y, EmbeddingCtx(x, rows, np.empty(0, weight.dtype), padding_idx, scale_grad_by_freq, y.shape)


def embedding_backward(dy, ctx):
    """dweight[v] = Σ dy over the places where x is v, in their order; 0 for padding_idx; divided by their number if
    scale_grad_by_freq."""
    dy = array_of_shape(dy, "embedding", "dy", ctx.shape, ctx.like)
    dweight = empty((ctx.rows, ctx.shape[-1]), ctx.like)
    if dweight.size:
        kernels.sums(ctx.x, dy, ctx.padding_idx, ctx.scale_grad_by_freq, dweight)
    return dweight

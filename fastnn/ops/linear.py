"""The fully connected layer (K7) and the matrix product behind it."""

from math import prod
from typing import NamedTuple

import numpy as np

from fastnn.kernels import linear as kernels
from fastnn.ops._arrays import array, array_of_shape, empty

__all__ = ["linear_backward", "linear_forward", "matmul_backward", "matmul_forward"]


def product(a, b, c=None, accumulate=False):
    """a b for matrices, in c (added to it, if accumulate) or a fresh array; a and b may be transposed views, and parts
    of wider ones."""
    (m, k), n = a.shape, b.shape[1]
    if c is None:
        c = empty((m, n), a)
    if m and k and n:
        kernels.matmul(a, b, c, accumulate)
    elif not accumulate:
        c.fill(0)
    return c


class MatmulCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    a: np.ndarray
    b: np.ndarray


def matmul_forward(a, b, *, keep=True):
    """Matrix product c = a b.

    a: (M, K). b: (K, N), of a's dtype. Returns (c, ctx) with c (M, N).
    """
    a = array(a, "matmul", "a", 2, "(M, K)")
    b = array(b, "matmul", "b", 2, "(K, N)", a)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: b has {b.shape[0]} rows, expected {a.shape[1]}, the columns of a (shape {a.shape})")
    return product(a, b), MatmulCtx(a, b) if keep else None


def matmul_backward(dy, ctx, needs=(True, True)):
    """da = dy b^T, db = a^T dy."""
    dy = array_of_shape(dy, "matmul", "dy", (ctx.a.shape[0], ctx.b.shape[1]), ctx.a)
    return (product(dy, ctx.b.T) if needs[0] else None, product(ctx.a.T, dy) if needs[1] else None)


class LinearCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    """(N, D), all but the last axis as one."""
    w: np.ndarray
    bias: bool
    x_shape: tuple[int, ...]


def linear_forward(x, w, b=None, *, keep=True):
    """Fully connected layer y = x w^T + b.

    x: (*, D), any number of axes before the last. w: (M, D). b: (M,) or None. All of one dtype. Returns (y, ctx) with y
    (*, M).
    """
    x = array(x, "linear", "x")
    if not x.ndim:
        raise ValueError("linear: x has 0 dimensions, expected (*, D)")
    w = array(w, "linear", "w", 2, "(M, D)", x)
    shape = x.shape
    *batch, d = shape
    m = w.shape[0]
    if w.shape[1] != d:
        raise ValueError(f"linear: w has {w.shape[1]} columns, expected {d}, the features of x (shape {shape})")
    if d == 0 or m == 0:
        raise ValueError(f"linear: w has shape {w.shape}, expected at least one input and one output feature")
    if b is not None:
        b = array_of_shape(b, "linear", "b", (m,), x)
    if x.ndim != 2:
        x = x.reshape(prod(batch), d)
    y = empty((len(x), m), x)
    kernels.linear_forward(x, w, b, y)
    if len(shape) != 2:
        y.shape = (*batch, m)
    return y, LinearCtx(x, w, b is not None, shape) if keep else None


def linear_backward(dy, ctx, needs=(True, True, True)):
    """dx = dy w, dw = dy^T x, db = sum of dy over the batch (None without a bias)."""
    x, w, _, shape = ctx
    dy = array_of_shape(dy, "linear", "dy", (*shape[:-1], len(w)), x).reshape(len(x), len(w))
    dx = product(dy, w).reshape(shape) if needs[0] else None
    dw = product(dy.T, x) if needs[1] else None
    db = dy.sum(axis=0) if needs[2] and ctx.bias else None
    return dx, dw, db

"""The fully connected layer (K7) and the matrix product behind it."""

from typing import NamedTuple

import numpy as np

from fastnn.kernels import linear as kernels
from fastnn.ops._arrays import array, array_of_shape, empty

__all__ = ["linear_backward", "linear_forward", "matmul_backward", "matmul_forward"]


def product(a, b):
    """a b for matrices; each may be a transposed view."""
    (m, k), n = a.shape, b.shape[1]
    c = empty((m, n), a)
    if m and k and n:
        kernels.matmul(a, b, c)
    else:
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
    w: np.ndarray
    bias: bool


def linear_forward(x, w, b=None, *, keep=True):
    """Fully connected layer y = x w^T + b.

    x: (N, D). w: (M, D). b: (M,) or None. All of one dtype. Returns (y, ctx) with y (N, M).
    """
    x = array(x, "linear", "x", 2, "(N, D)")
    w = array(w, "linear", "w", 2, "(M, D)", x)
    n, d = x.shape
    m = w.shape[0]
    if w.shape[1] != d:
        raise ValueError(f"linear: w has {w.shape[1]} columns, expected {d}, the features of x (shape {x.shape})")
    if d == 0 or m == 0:
        raise ValueError(f"linear: w has shape {w.shape}, expected at least one input and one output feature")
    if b is not None:
        b = array_of_shape(b, "linear", "b", (m,), x)
    y = empty((n, m), x)
    kernels.linear_forward(x, w, b, y)
    return y, LinearCtx(x, w, b is not None) if keep else None


def linear_backward(dy, ctx, needs=(True, True, True)):
    """dx = dy w, dw = dy^T x, db = sum of dy over the batch (None without a bias)."""
    x, w = ctx.x, ctx.w
    dy = array_of_shape(dy, "linear", "dy", (x.shape[0], w.shape[0]), x)
    dx = product(dy, w) if needs[0] else None
    dw = product(dy.T, x) if needs[1] else None
    db = dy.sum(axis=0) if needs[2] and ctx.bias else None
    return dx, dw, db

"""The fully connected layer (K7) and the matrix product behind it."""

from typing import NamedTuple

import numpy as np

__all__ = ["linear_backward", "linear_forward", "matmul_backward", "matmul_forward"]


class MatmulCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    a: np.ndarray
    b: np.ndarray


def matmul_forward(a, b, *, keep=True):
    """c = a b"""
    return a @ b, MatmulCtx(a, b) if keep else None


def matmul_backward(dy, ctx, needs=(True, True)):
    """da = dy b^T, db = a^T dy"""
    return (dy @ ctx.b.T if needs[0] else None, ctx.a.T @ dy if needs[1] else None)


class LinearCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    w: np.ndarray
    bias: bool


def linear_forward(x, w, b=None, *, keep=True):
    """y = x w^T + b"""
    y = x @ w.T
    if b is not None:
        y = y + b
    return y, LinearCtx(x, w, b is not None) if keep else None


def linear_backward(dy, ctx, needs=(True, True, True)):
    """dx = dy w, dw = dy^T x, db = sum of dy over the batch"""
    (m, d), x = ctx.w.shape, ctx.x
    return (
        dy @ ctx.w if needs[0] else None,
        dy.reshape(-1, m).T @ x.reshape(-1, d) if needs[1] else None,
        dy.reshape(-1, m).sum(axis=0) if needs[2] and ctx.bias else None,
    )

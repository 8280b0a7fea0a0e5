"""Recurrent cells and sequences (K11)."""

from typing import NamedTuple

import numpy as np

from fastnn.reference.elementwise import sigmoid_forward

__all__ = ["lstm_backward", "lstm_forward", "lstm_step_backward", "lstm_step_forward"]


def sigmoid(x):
    return sigmoid_forward(x, keep=False)[0]


class LstmStepCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    w_ih: np.ndarray
    w_hh: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    gates: tuple[np.ndarray, ...]
    c: np.ndarray
    present: tuple[bool, ...]


def lstm_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, c0=None, keep=True):
    """i, f, o = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh), g = tanh(...), c = f c0 + i g, h = o tanh(c)

    The weights' rows are the gates i, f, g, o in this order (Hochreiter & Schmidhuber 1997).
    """
    present = (True, True, True, *(a is not None for a in (b_ih, b_hh, h0, c0)))
    zeros = np.zeros((x.shape[0], w_hh.shape[1]), x.dtype)
    h0 = zeros if h0 is None else h0
    c0 = zeros if c0 is None else c0
    a = x @ w_ih.T + h0 @ w_hh.T
    for b in (b_ih, b_hh):
        if b is not None:
            a += b
    i, f, g, o = np.split(a, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c0 + i * g
    h = o * np.tanh(c)
    return (h, c), LstmStepCtx(x, w_ih, w_hh, h0, c0, (i, f, g, o), c, present) if keep else None


def lstm_step_backward(dy, ctx, needs=(True,) * 7):
    """The chain rule through the formulas of lstm_step_forward, last one first; dy = (dh, dc)."""
    i, f, g, o = ctx.gates
    dh, dc = (np.zeros_like(ctx.c) if d is None else d for d in dy)
    tanh_c = np.tanh(ctx.c)
    do = dh * tanh_c
    dc = dc + dh * o * (1 - tanh_c**2)
    di, df, dg = dc * g, dc * ctx.c0, dc * i
    da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=1)
    db = da.sum(axis=0)
    grads = (da @ ctx.w_ih, da.T @ ctx.x, da.T @ ctx.h0, db, db.copy(), da @ ctx.w_hh, dc * f)
    return tuple(
        grad if need and present else None for grad, need, present in zip(grads, needs, ctx.present, strict=True)
    )


class LstmCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    steps: list[LstmStepCtx]
    present: tuple[bool, ...]


def lstm_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, c0=None, keep=True):
    """lstm_step at every time: y (T, N, H) all hidden states, and the last h and c."""
    present = (True, True, True, *(a is not None for a in (b_ih, b_hh, h0, c0)))
    zeros = np.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
    h = zeros if h0 is None else h0
    c = zeros if c0 is None else c0
    y, steps = [], []
    for x_t in x:
        (h, c), step = lstm_step_forward(x_t, w_ih, w_hh, b_ih, b_hh, h0=h, c0=c, keep=keep)
        y.append(h)
        steps.append(step)
    return (np.stack(y), h, c), LstmCtx(steps, present) if keep else None


def lstm_backward(dy, ctx, needs=(True,) * 7):
    """Back-propagation through time: the steps' gradients, last first; those of shared arguments add up."""
    dy, dh, dc = dy
    dx, sums = [], [0, 0, 0, 0]
    for t in reversed(range(len(ctx.steps))):
        if dy is not None:
            dh = dy[t] if dh is None else dh + dy[t]
        dx_t, *shared, dh, dc = lstm_step_backward((dh, dc), ctx.steps[t])
        dx.append(dx_t)
        sums = [total if d is None else total + d for total, d in zip(sums, shared, strict=True)]
    grads = (np.stack(dx[::-1]), *sums, dh, dc)
    return tuple(
        grad if need and present else None for grad, need, present in zip(grads, needs, ctx.present, strict=True)
    )

"""Recurrent cells and sequences (K11, K12, K13)."""

from typing import NamedTuple

import numpy as np

from fastnn.reference.elementwise import relu_forward, sigmoid_forward

__all__ = [
    "gru_backward",
    "gru_forward",
    "gru_step_backward",
    "gru_step_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_step_backward",
    "lstm_step_forward",
    "rnn_backward",
    "rnn_forward",
    "rnn_step_backward",
    "rnn_step_forward",
]


def sigmoid(x):
    return sigmoid_forward(x, keep=False)[0]


def or_zeros(state, x, size):
    return np.zeros((len(x), size), x.dtype) if state is None else state


def affine(x, w, b):
    return x @ w.T if b is None else x @ w.T + b


def select(grads, needs, arguments):
    """None for gradients that nobody needs, and for those of absent arguments."""
    return tuple(
        grad if need and argument is not None else None
        for grad, need, argument in zip(grads, needs, arguments, strict=True)
    )


# ---- long short-term memory ----


class LstmStepCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    arguments: tuple
    h0: np.ndarray
    c0: np.ndarray
    gates: tuple[np.ndarray, ...]
    c: np.ndarray


def lstm_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None, keep=True):
    """i, f, o = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh), g = tanh(...), c = f c0 + i g, h = o tanh(c), or
    w_hr times that.

    The weights' rows are the gates i, f, g, o in this order (Hochreiter & Schmidhuber 1997; the projection w_hr, Sak,
    Senior & Beaufays 2014).
    """
    arguments = x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0
    h0, c0 = or_zeros(h0, x, w_hh.shape[1]), or_zeros(c0, x, len(w_hh) // 4)
    i, f, g, o = np.split(affine(x, w_ih, b_ih) + affine(h0, w_hh, b_hh), 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c0 + i * g
    h = o * np.tanh(c)
    if w_hr is not None:
        h = h @ w_hr.T
    return (h, c), LstmStepCtx(arguments, h0, c0, (i, f, g, o), c) if keep else None


def lstm_step_backward(dy, ctx, needs=(True,) * 8):
    """The chain rule through the formulas of lstm_step_forward, last one first; dy = (dh, dc)."""
    x, w_ih, w_hh, _, _, w_hr, _, _ = ctx.arguments
    i, f, g, o = ctx.gates
    dh, dc = dy
    tanh_c, dw_hr = np.tanh(ctx.c), None
    if dc is None:
        dc = np.zeros_like(ctx.c)
    if dh is None:
        dh = np.zeros_like(ctx.h0)
    if w_hr is not None:
        dw_hr, dh = dh.T @ (o * tanh_c), dh @ w_hr
    dc = dc + dh * o * (1 - tanh_c**2)
    di, df, dg, do = dc * g, dc * ctx.c0, dc * i, dh * tanh_c
    da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=1)
    db = da.sum(axis=0)
    grads = da @ w_ih, da.T @ x, da.T @ ctx.h0, db, db.copy(), dw_hr, da @ w_hh, dc * f
    return select(grads, needs, ctx.arguments)


# ---- gated recurrent unit ----


class GruStepCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    arguments: tuple
    variant: str
    h0: np.ndarray
    gates: tuple[np.ndarray, ...]
    hidden: np.ndarray
    """What h0 adds to the argument of n: times r in torch's variant."""


def gru_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch", keep=True):
    """r, z = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh), and then

    "torch": n = tanh(w_ih x + b_ih + r (w_hh h0 + b_hh)), h = (1 - z) n + z h0;
    "paper": n = tanh(w_ih x + b_ih + w_hh (r h0) + b_hh), h = (1 - z) h0 + z n.

    The weights' rows are the gates r, z, n in this order (Cho et al. 2014; Chung et al. 2014).
    """
    arguments = x, w_ih, w_hh, b_ih, b_hh, h0
    size = len(w_hh) // 3
    h0 = or_zeros(h0, x, size)
    x_part = affine(x, w_ih, b_ih)
    h_part = affine(h0, w_hh, b_hh)
    r, z = np.split(sigmoid(x_part[:, : 2 * size] + h_part[:, : 2 * size]), 2, axis=1)
    if variant == "torch":
        hidden = h_part[:, 2 * size :]
        n = np.tanh(x_part[:, 2 * size :] + r * hidden)
        h = (1 - z) * n + z * h0
    else:
        hidden = affine(r * h0, w_hh[2 * size :], None if b_hh is None else b_hh[2 * size :])
        n = np.tanh(x_part[:, 2 * size :] + hidden)
        h = (1 - z) * h0 + z * n
    return h, GruStepCtx(arguments, variant, h0, (r, z, n), hidden) if keep else None


def gru_step_backward(dy, ctx, needs=(True,) * 6):
    """The chain rule through the formulas of gru_step_forward, last one first."""
    x, w_ih, w_hh, _, _, _ = ctx.arguments
    r, z, n = ctx.gates
    h0 = ctx.h0
    w_n = w_hh[-r.shape[1] :]
    if ctx.variant == "torch":
        da_n = dy * (1 - z) * (1 - n**2)
        dz = dy * (h0 - n)
        dr = da_n * ctx.hidden
        dh0 = dy * z + (da_n * r) @ w_n
        dw_n, db_n = (da_n * r).T @ h0, (da_n * r).sum(axis=0)
    else:
        da_n = dy * z * (1 - n**2)
        dz = dy * (n - h0)
        d_reset = da_n @ w_n
        dr = d_reset * h0
        dh0 = dy * (1 - z) + d_reset * r
        dw_n, db_n = da_n.T @ (r * h0), da_n.sum(axis=0)
    da_rz = np.concatenate([dr * r * (1 - r), dz * z * (1 - z)], axis=1)
    da = np.concatenate([da_rz, da_n], axis=1)
    dh0 = dh0 + da_rz @ w_hh[: -len(w_n)]
    dw_hh = np.concatenate([da_rz.T @ h0, dw_n])
    db_hh = np.concatenate([da_rz.sum(axis=0), db_n])
    return select((da @ w_ih, da.T @ x, dw_hh, da.sum(axis=0), db_hh, dh0), needs, ctx.arguments)


# ---- the simple recurrent network ----


class RnnStepCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    arguments: tuple
    nonlinearity: str
    h0: np.ndarray
    h: np.ndarray


def rnn_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh", keep=True):
    """h = f(w_ih x + b_ih + w_hh h0 + b_hh), f tanh or relu (Elman 1990)"""
    arguments = x, w_ih, w_hh, b_ih, b_hh, h0
    h0 = or_zeros(h0, x, len(w_hh))
    a = affine(x, w_ih, b_ih) + affine(h0, w_hh, b_hh)
    h = np.tanh(a) if nonlinearity == "tanh" else relu_forward(a, keep=False)[0]
    return h, RnnStepCtx(arguments, nonlinearity, h0, h) if keep else None


def rnn_step_backward(dy, ctx, needs=(True,) * 6):
    """da = dy f'(a), f' = 1 - h^2 or [h > 0]"""
    x, w_ih, w_hh, _, _, _ = ctx.arguments
    da = dy * (1 - ctx.h**2) if ctx.nonlinearity == "tanh" else np.where(ctx.h > 0, dy, 0)
    db = da.sum(axis=0)
    return select((da @ w_ih, da.T @ x, da.T @ ctx.h0, db, db.copy(), da @ w_hh), needs, ctx.arguments)


# ---- sequences ----


class SequenceCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    arguments: tuple
    state_shapes: tuple
    steps: list
    """In the order of the computation: (t, which samples have that time, the step's context)."""


def over_time(step, x, weights, states, lengths, reverse, keep, **options):
    """((y, the states of every sample after its last step), the steps in order): y is zero where a sample has ended.
    reverse: from a sample's last time to its first."""
    t_end, n = x.shape[:2]
    lengths = np.full(n, t_end) if lengths is None else np.asarray(lengths)
    states = {name: state.copy() for name, state in states.items()}
    y, steps = np.zeros((t_end, *states["h0"].shape), x.dtype), []
    for t in reversed(range(t_end)) if reverse else range(t_end):
        rows = np.flatnonzero(t < lengths)
        before = {name: state[rows] for name, state in states.items()}
        after, ctx = step(x[t, rows], *weights, **before, **options, keep=keep)
        after = after if isinstance(after, tuple) else (after,)
        for state, value in zip(states.values(), after, strict=True):
            state[rows] = value
        y[t, rows] = after[0]
        steps.append((t, rows, ctx))
    return (y, *states.values()), steps


def back_through_time(step_backward, dy, ctx, needs):
    """The steps' gradients, last first; those of shared arguments add up."""
    dy, *last = dy
    x = ctx.arguments[0]
    states = [
        np.zeros(shape, x.dtype) if d is None else d.copy() for d, shape in zip(last, ctx.state_shapes, strict=True)
    ]
    dx, sums = np.zeros_like(x), None
    for t, rows, step in reversed(ctx.steps):
        d = [state[rows] for state in states]
        if dy is not None:
            d[0] = d[0] + dy[t, rows]
        dx[t, rows], *grads = step_backward(tuple(d) if len(d) > 1 else d[0], step)
        shared, before = grads[: -len(d)], grads[-len(d) :]
        for state, value in zip(states, before, strict=True):
            state[rows] = value
        sums = shared if sums is None else [a if a is None else a + b for a, b in zip(sums, shared, strict=True)]
    return select((dx, *sums, *states), needs, ctx.arguments)


def lstm_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None, lengths=None, reverse=False, keep=True
):
    """lstm_step at every time: y (T, N, H) all hidden states, and the last h and c."""
    weights = w_ih, w_hh, b_ih, b_hh, w_hr
    states = {"h0": or_zeros(h0, x[0], w_hh.shape[1]), "c0": or_zeros(c0, x[0], len(w_hh) // 4)}
    results, steps = over_time(lstm_step_forward, x, weights, states, lengths, reverse, keep)
    shapes = tuple(state.shape for state in states.values())
    return results, SequenceCtx((x, *weights, h0, c0), shapes, steps) if keep else None


def lstm_backward(dy, ctx, needs=(True,) * 8):
    """Back-propagation through time; dy = (dy, dh, dc)."""
    return back_through_time(lstm_step_backward, dy, ctx, needs)


def gru_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch", lengths=None, reverse=False, keep=True
):
    """gru_step at every time: y (T, N, H) all hidden states, and the last h."""
    weights = w_ih, w_hh, b_ih, b_hh
    states = {"h0": or_zeros(h0, x[0], w_hh.shape[1])}
    results, steps = over_time(gru_step_forward, x, weights, states, lengths, reverse, keep, variant=variant)
    return results, SequenceCtx((x, *weights, h0), (states["h0"].shape,), steps) if keep else None


def gru_backward(dy, ctx, needs=(True,) * 6):
    """Back-propagation through time; dy = (dy, dh)."""
    return back_through_time(gru_step_backward, dy, ctx, needs)


def rnn_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh", lengths=None, reverse=False, keep=True
):
    """rnn_step at every time: y (T, N, H) all hidden states, and the last h."""
    weights = w_ih, w_hh, b_ih, b_hh
    states = {"h0": or_zeros(h0, x[0], w_hh.shape[1])}
    results, steps = over_time(rnn_step_forward, x, weights, states, lengths, reverse, keep, nonlinearity=nonlinearity)
    return results, SequenceCtx((x, *weights, h0), (states["h0"].shape,), steps) if keep else None


def rnn_backward(dy, ctx, needs=(True,) * 6):
    """Back-propagation through time; dy = (dy, dh)."""
    return back_through_time(rnn_step_backward, dy, ctx, needs)

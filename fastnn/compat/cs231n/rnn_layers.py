"""The layers of recurrent networks on sequences (N, T, D). Weights are (D, H) and (H, H), those of an LSTM (D, 4H) and
(H, 4H) with the gates i, f, o, g in this order."""

import numpy as np

from fastnn import ops
from fastnn.compat.cs231n._calls import call, contiguous, gradients, promoted
from fastnn.compat.cs231n.layers import NEVER, affine
from fastnn.descriptors import flag
from fastnn.ops._arrays import array, array_of_shape, empty, index_array, integer_array

__all__ = [
    "lstm_backward",
    "lstm_forward",
    "lstm_step_backward",
    "lstm_step_forward",
    "rnn_backward",
    "rnn_forward",
    "rnn_step_backward",
    "rnn_step_forward",
    "sigmoid",
    "temporal_affine_backward",
    "temporal_affine_forward",
    "temporal_softmax_loss",
    "word_embedding_backward",
    "word_embedding_forward",
]

GATES = {"rnn": [0], "lstm": [0, 1, 3, 2]}
"""The place in the course's weights of each of fastnn's gates; an exchange, so that it is also the inverse."""


def checked(op, cell, x, Wx, Wh, b, **states):
    """(x, Wx, Wh, b, *states) of one dtype, of shapes that fit together. x: (N, D) or (N, T, D)."""
    names = [*states]
    x, Wx, Wh, b, *states = promoted(op, x=x, Wx=Wx, Wh=Wh, b=b, **states)
    sequence = "step" not in op
    x = array(x, op, "x", 3, "(N, T, D)") if sequence else array(x, op, "x", 2, "(N, D)")
    first = array(states[0], op, names[0], 2, "(N, H)")
    n, d, h = len(x), x.shape[-1], first.shape[1]
    width = len(GATES[cell]) * h
    shapes = {"Wx": (d, width), "Wh": (h, width), "b": (width,)} | dict.fromkeys(names, (n, h))
    arrays = zip(shapes.items(), (Wx, Wh, b, *states), strict=True)
    return x, *(array_of_shape(a, op, name, shape) for (name, shape), a in arrays)


STRIP = 16
"""Rows transposed at a time: so many lines of the result stay in the first cache. 512x2048 in 0.6 ms instead of 3.9."""


def transpose(a, out):
    """out = a.T"""
    for i in range(0, len(a), STRIP):
        out[:, i : i + STRIP] = a[i : i + STRIP].T


def rows_of(cell, w):
    """Weights (D, gates H), or a bias (gates H,), as fastnn's, (gates H, D)."""
    gates = GATES[cell]
    if w.ndim == 1:
        return w.reshape(len(gates), -1)[gates].reshape(-1)
    h, out = w.shape[1] // len(gates), empty(w.shape[::-1], w)
    for k, gate in enumerate(gates):
        transpose(w[:, gate * h : (gate + 1) * h], out[k * h : (k + 1) * h])
    return out


def columns_of(cell, dw):
    """The inverse of rows_of."""
    gates = GATES[cell]
    if dw.ndim == 1:
        return rows_of(cell, dw)
    h, out = len(dw) // len(gates), empty(dw.shape[::-1], dw)
    for k, gate in enumerate(gates):
        transpose(dw[k * h : (k + 1) * h], out[:, gate * h : (gate + 1) * h])
    return out


def weights_of(cell, *weights):
    return [rows_of(cell, w) for w in weights]


# ---- a step ----


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    """next_h = tanh(x Wx + prev_h Wh + b). x: (N, D). prev_h: (N, H). Wx: (D, H). Wh: (H, H). b: (H,).
    Returns (next_h, cache) with next_h (N, H)."""
    op, cell = "rnn_step", "rnn"

    def forward(x, Wx, Wh, b, prev_h):
        return ops.rnn_step_forward(x, *weights_of(cell, Wx, Wh, b), h0=prev_h)

    def backward(dnext_h, ctx):
        dx, *dweights, _, dprev_h = ops.rnn_step_backward(dnext_h, ctx)
        return dx, dprev_h, *(columns_of(cell, dw) for dw in dweights)

    return call(op, forward, backward, *checked(op, cell, x, Wx, Wh, b, prev_h=prev_h))


def rnn_step_backward(dnext_h, cache):
    """(dx, dprev_h, dWx, dWh, db) of rnn_step_forward."""
    return gradients("rnn_step", cache, dnext_h=dnext_h)


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    """i, f, o = sigmoid, g = tanh of their columns of x Wx + prev_h Wh + b; next_c = f prev_c + i g;
    next_h = o tanh(next_c). x: (N, D). prev_h, prev_c: (N, H). Wx: (D, 4H). Wh: (H, 4H). b: (4H,).
    Returns (next_h, next_c, cache)."""
    op, cell = "lstm_step", "lstm"

    def forward(x, Wx, Wh, b, prev_h, prev_c):
        return ops.lstm_step_forward(x, *weights_of(cell, Wx, Wh, b), h0=prev_h, c0=prev_c)

    def backward(dnext_h, dnext_c, ctx):
        dx, *dweights, _, _, dprev_h, dprev_c = ops.lstm_step_backward((dnext_h, dnext_c), ctx)
        return dx, dprev_h, dprev_c, *(columns_of(cell, dw) for dw in dweights)

    arrays = checked(op, cell, x, Wx, Wh, b, prev_h=prev_h, prev_c=prev_c)
    (next_h, next_c), cache = call(op, forward, backward, *arrays)
    return next_h, next_c, cache


def lstm_step_backward(dnext_h, dnext_c, cache):
    """(dx, dprev_h, dprev_c, dWx, dWh, db) of lstm_step_forward."""
    return gradients("lstm_step", cache, dnext_h=dnext_h, dnext_c=dnext_c)


# ---- a sequence ----


def over_time(op, forward_of, backward_of, x, h0, Wx, Wh, b):
    """(h, cache) of a sequence by an operator of fastnn, whose sequences are (T, N, D)."""

    def forward(x, Wx, Wh, b, h0):
        results, ctx = forward_of(contiguous(x.swapaxes(0, 1)), *weights_of(op, Wx, Wh, b), h0=h0)
        return contiguous(results[0].swapaxes(0, 1)), ctx

    def backward(dh, ctx):
        states = (None,) * (2 if op == "lstm" else 1)
        dx, *dweights = backward_of((contiguous(dh.swapaxes(0, 1)), *states), ctx)
        dh0 = dweights[5 if op == "lstm" else 4]
        return contiguous(dx.swapaxes(0, 1)), dh0, *(columns_of(op, dw) for dw in dweights[:3])

    return call(op, forward, backward, *checked(op, op, x, Wx, Wh, b, h0=h0))


def rnn_forward(x, h0, Wx, Wh, b):
    """rnn_step_forward at every time, from h0 (N, H) on. x: (N, T, D), T >= 1. Returns (h, cache) with h (N, T, H)."""
    return over_time("rnn", ops.rnn_forward, ops.rnn_backward, x, h0, Wx, Wh, b)


def rnn_backward(dh, cache):
    """(dx, dh0, dWx, dWh, db) of rnn_forward, with dh (N, T, H) the gradients of each state from outside."""
    return gradients("rnn", cache, dh=dh)


def lstm_forward(x, h0, Wx, Wh, b):
    """lstm_step_forward at every time, from h0 (N, H) and a cell state of zeros on. x: (N, T, D), T >= 1. Returns
    (h, cache) with h (N, T, H)."""
    return over_time("lstm", ops.lstm_forward, ops.lstm_backward, x, h0, Wx, Wh, b)


def lstm_backward(dh, cache):
    """(dx, dh0, dWx, dWh, db) of lstm_forward, with dh (N, T, H) the gradients of each state from outside."""
    return gradients("lstm", cache, dh=dh)


# ---- around them ----


def sigmoid(x):
    """1 / (1 + exp(-x)), of any shape."""
    return ops.sigmoid_forward(*promoted("sigmoid", x=x), keep=False)[0]


def word_embedding_forward(x, W):
    """out[n,t] = W[x[n,t]]. x: (N, T) integers from 0 to V - 1. W: (V, D). Returns (out, cache) with out (N, T, D)."""

    def forward(W):
        return ops.embedding_forward(x, W)

    return call("word_embedding", forward, ops.embedding_backward, *promoted("word_embedding", W=W))


def word_embedding_backward(dout, cache):
    """dW of word_embedding_forward, with dout (N, T, D)."""
    return gradients("word_embedding", cache, dout=dout)


def temporal_affine_forward(x, w, b):
    """out = x w + b at every time. x: (N, T, D). w: (D, M). b: (M,). Returns (out, cache) with out (N, T, M)."""
    return affine("temporal_affine", x, w, b, 2)


def temporal_affine_backward(dout, cache):
    """(dx, dw, db) of temporal_affine_forward, with dout (N, T, M)."""
    return gradients("temporal_affine", cache, dout=dout)


def temporal_softmax_loss(x, y, mask, verbose=False):
    """(loss, dx) of the sum over times, and mean over samples, of -mask log softmax(x)_y. x: scores (N, T, V). y:
    (N, T) integers from 0 to V - 1, of any value where mask is 0. mask: (N, T), bool or weights.
    verbose prints a shape."""
    op = "temporal_softmax_loss"
    x, mask = promoted(op, x=x, mask=mask)
    x = array(x, op, "x", 3, "(N, T, V)")
    n, t, v = x.shape
    mask = array_of_shape(mask, op, "mask", (n, t))
    weights = mask.reshape(n * t) / x.dtype.type(n)
    y = np.where(mask, integer_array(y, op, "y", (n, t)), NEVER).reshape(n * t)
    y = index_array(y, op, "y", (n * t,), v, NEVER)
    losses, ctx = ops.cross_entropy_forward(x.reshape(n * t, v), y, ignore_index=NEVER, reduction="none")
    dx = ops.cross_entropy_backward(weights, ctx)
    if flag(verbose, op, "verbose"):
        print("dx_flat: ", dx.shape)
    return losses @ weights, dx.reshape(n, t, v)

"""Recurrent cells and sequences (K11)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import LstmDesc, lstm_desc
from fastnn.kernels import recurrent as kernels
from fastnn.ops._arrays import array_of_shape, arrays_alike, common_sizes, empty
from fastnn.ops.linear import product

__all__ = ["lstm_backward", "lstm_forward", "lstm_step_backward", "lstm_step_forward"]


class LstmCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: LstmDesc
    x: np.ndarray
    w_ih: np.ndarray
    w_hh: np.ndarray
    biases: tuple[bool, bool]
    h0: np.ndarray | None
    c0: np.ndarray | None
    gates: np.ndarray
    y: np.ndarray
    c: np.ndarray


NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0")
LAYOUTS = b"tnd gd gh g g nh nh"  # g = 4h rows of gates
STEP_LAYOUTS = b"nd gd gh g g nh nh"


def check(op, layouts, *arguments):
    """(t, n, d, h, the arguments as the kernels take them). Short steps notice every check: the shapes are compared as
    they are, and a descriptor is made where they do not fit, to say why."""
    arrays = arrays_alike(op, NAMES, arguments, 3)
    sizes = common_sizes(arrays, layouts, b"tndhg")
    if sizes is None or sizes[4] != 4 * sizes[3] or 0 in sizes[2:4] or sizes[0] == 0:
        explain(op, *arrays)
    t, n, d, h, _ = sizes
    return t, n, d, h, arrays


def explain(op, x, w_ih, w_hh, b_ih, b_hh, h0, c0):
    """Raise what is wrong with the shapes."""
    desc = lstm_desc(op, x.shape, w_ih.shape, w_hh.shape)
    gates, state = (4 * desc.h,), (desc.n, desc.h)
    for name, argument, shape in ("b_ih", b_ih, gates), ("b_hh", b_hh, gates), ("h0", h0, state), ("c0", c0, state):
        if argument is not None:
            array_of_shape(argument, op, name, shape, x)


def lstm_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, c0=None, keep=True):
    """One step of a long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh) in their rows, g = tanh(...) in its own;
    c = f c0 + i g; h = o tanh(c).

    x: (N, D). w_ih: (4H, D), w_hh: (4H, H), b_ih, b_hh: (4H,) or None; their rows are the gates i, f, g, o in this
    order. h0, c0: (N, H), None for zeros. All of one dtype, float32 or float64.
    Returns ((h, c), ctx) with h and c (N, H).
    """
    _, n, d, h, arrays = check("lstm_step", STEP_LAYOUTS, x, w_ih, w_hh, b_ih, b_hh, h0, c0)
    x, w_ih, w_hh, b_ih, b_hh, h0, c0 = arrays
    y = empty((n, h), x)
    c = empty((n, h), x)
    gates = empty((n, 4 * h), x) if keep else None
    if n:
        kernels.lstm_forward(x, w_ih, w_hh, b_ih, b_hh, h0, c0, gates, y, c, 1, n, d, h)
    if not keep:
        return (y, c), None
    desc = lstm_desc("lstm_step", x.shape, w_ih.shape, w_hh.shape)
    return (y, c), LstmCtx(desc, x, w_ih, w_hh, (b_ih is not None, b_hh is not None), h0, c0, gates, y, c)


def lstm_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, c0=None, keep=True):
    """A long short-term memory over a sequence: lstm_step at every time, from h0 and c0 on.

    x: (T, N, D), T >= 1; the others as in lstm_step. Returns ((y, h, c), ctx) with y (T, N, H), the hidden states of
    all times, and h and c (N, H), the last states. Without keep, memory beyond the results is at most the gates of
    max(256, N) samples, two of x and h each, and a copy of the weights.
    """
    t, n, d, h, arrays = check("lstm", LAYOUTS, x, w_ih, w_hh, b_ih, b_hh, h0, c0)
    x, w_ih, w_hh, b_ih, b_hh, h0, c0 = arrays
    y = empty((t, n, h), x)
    c = empty((t, n, h) if keep else (n, h), x)
    gates = empty((t, n, 4 * h), x) if keep else None
    if n:
        kernels.lstm_forward(x, w_ih, w_hh, b_ih, b_hh, h0, c0, gates, y, c, t, n, d, h)
    if not keep:
        return (y, y[-1].copy(), c), None
    desc = lstm_desc("lstm", x.shape, w_ih.shape, w_hh.shape)
    ctx = LstmCtx(desc, x, w_ih, w_hh, (b_ih is not None, b_hh is not None), h0, c0, gates, y, c)
    return (y, y[-1].copy(), c[-1].copy()), ctx


def backward(op, dy, dh, dc, ctx, needs):
    """Gradients of lstm and lstm_step; dy, dh and dc may be None for zero."""
    desc, x, w_ih, w_hh, (b_ih, b_hh), h0, c0, gates, y, c = ctx
    t, n, d, h = desc.t, desc.n, desc.d, desc.h
    state = (n, h)
    if dy is not None:
        dy = array_of_shape(dy, op, "dy", (t, n, h), x)
    # the kernel turns the gradients at the last states into those at the initial ones, in place
    dh = np.zeros(state, x.dtype) if dh is None else array_of_shape(dh, op, "dh", state, x).copy()
    dc = np.zeros(state, x.dtype) if dc is None else array_of_shape(dc, op, "dc", state, x).copy()
    present = (True, True, True, b_ih, b_hh, h0 is not None, c0 is not None)
    needs = [need and there for need, there in zip(needs, present, strict=True)]
    dgates = empty(gates.shape, x)
    dbias = np.zeros(4 * h, x.dtype) if needs[3] or needs[4] else None
    if n:
        kernels.lstm_backward(dy, w_hh, c0, gates, c, dh, dc, dgates, dbias, t, n, h, needs[5])
    flat = dgates.reshape(t * n, 4 * h)
    dx = product(flat, w_ih).reshape(x.shape) if needs[0] else None
    dw_ih = product(flat.T, x.reshape(t * n, d)) if needs[1] else None
    dw_hh = None
    if needs[2]:
        dw_hh = product(flat[n:].T, y.reshape(t * n, h)[: (t - 1) * n])
        if h0 is not None:
            dw_hh += product(flat[:n].T, h0)
    return (
        dx,
        dw_ih,
        dw_hh,
        dbias if needs[3] else None,
        dbias.copy() if needs[4] else None,
        dh if needs[5] else None,
        dc if needs[6] else None,
    )


def parts_of(dy, op, names):
    """The gradients that make up dy, a tuple of `names`."""
    if not isinstance(dy, tuple | list):
        raise TypeError(f"{op}: dy must be a tuple ({', '.join(names)}), got {type(dy).__name__}")
    if len(dy) != len(names):
        raise ValueError(f"{op}: dy has {len(dy)} elements, expected {len(names)}: ({', '.join(names)})")
    return dy


def lstm_step_backward(dy, ctx, needs=(True,) * 7):
    """Gradients (dx, dw_ih, dw_hh, db_ih, db_hh, dh0, dc0) of lstm_step; None for those not needed and for arguments
    that were absent.

    dy: (dh, dc), each (N, H) or None for zero. With dc' = dc + dh o (1 - tanh(c)^2), the gradients at the gates'
    arguments are dc' g i (1 - i), dc' c0 f (1 - f), dc' i (1 - g^2), dh tanh(c) o (1 - o), and dc0 = dc' f.
    """
    dh, dc = parts_of(dy, "lstm_step", ("dh", "dc"))
    return backward("lstm_step", None, dh, dc, ctx, needs)


def lstm_backward(dy, ctx, needs=(True,) * 7):
    """The same gradients for a sequence, by back-propagation through time (Werbos 1990).

    dy: (dy, dh, dc), of shapes (T, N, H), (N, H), (N, H), each or None for zero.
    """
    dy, dh, dc = parts_of(dy, "lstm", ("dy", "dh", "dc"))
    return backward("lstm", dy, dh, dc, ctx, needs)

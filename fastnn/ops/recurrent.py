"""Recurrent cells and sequences (K11, K12, K13)."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import numpy as np

from fastnn.descriptors import GATES, RecurrentDesc, checked_lengths, flag, one_of, recurrent_desc
from fastnn.kernels import recurrent as kernels
from fastnn.ops._arrays import array_of_shape, arrays_alike, common_sizes, empty
from fastnn.ops.linear import product

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


class Rows(NamedTuple):
    """Where the steps of sequences of different lengths lie: the samples sorted from longest to shortest, of each time
    those that are not over."""

    order: np.ndarray
    """(N,) the samples as sorted."""
    offset: np.ndarray
    """(steps + 1,) the first row of each time."""
    place: np.ndarray
    """(R,) rows of (T, N) that they are."""

    def of(self, x):
        """The rows of x (T, N, D)."""
        return x.reshape(-1, x.shape[2])[self.place]

    def spread(self, rows, shape):
        """The inverse, with zeros where there are none."""
        x = np.zeros(shape, rows.dtype)
        x.reshape(-1, shape[2])[self.place] = rows
        return x

    def back(self, states):
        """States of the sorted samples in their first order."""
        restored = np.empty_like(states)
        restored[self.order] = states
        return restored


class RecurrentCtx(NamedTuple):
    """What the backward pass needs of the forward pass. R rows: all samples of the first time, and so on."""

    desc: RecurrentDesc
    cell: int
    steps: int
    x: np.ndarray
    """(R, D)"""
    w_ih: np.ndarray
    w_hh: np.ndarray
    w_hr: np.ndarray | None
    present: tuple[bool, ...]
    """Which of the arguments were there."""
    h0: np.ndarray
    c0: np.ndarray | None
    gates: np.ndarray
    """(R, columns H)"""
    h_before: np.ndarray | None
    """(R, P): the states h before each step; None: still to be found in y."""
    y: np.ndarray
    """(R, P)"""
    c: np.ndarray | None
    """(R, H), of an LSTM."""
    middle: np.ndarray | None
    """(R, H): what the second product of a cell is made of: o tanh c, if that is projected; r h of a GRU of 2014."""
    rows: Rows | None
    reverse: bool


def names_of(op):
    return ("x", "w_ih", "w_hh", "b_ih", "b_hh", *(("w_hr", "h0", "c0") if "lstm" in op else ("h0",)))


NAMES = {op: names_of(op) for op in ("rnn_step", "rnn", "gru_step", "gru", "lstm_step", "lstm")}
GATES_OF = {op: GATES[op.removesuffix("_step")] for op in NAMES}
# g: rows of gates
LAYOUTS = {
    op: (b"nd" if "_step" in op else b"tnd") + b" gd gp g g" + (b" ph np nh" if "lstm" in op else b" np")
    for op in NAMES
}


def check(op, *arguments):
    """(the arguments as the kernels take them, t, n, d, h, p). Short steps notice every check: the shapes are compared
    as they are, and a descriptor is made where they do not fit, to say why."""
    arrays = arrays_alike(op, NAMES[op], arguments, 3)
    sizes = common_sizes(arrays, LAYOUTS[op], b"tndghp")
    if sizes is None:
        explain(op, *arrays)
    t, n, d, g, h, p = sizes
    if len(arrays) == 6 or arrays[5] is None:
        if h not in (-1, p):
            explain(op, *arrays)
        h = p
    if g != GATES_OF[op] * h or not (t and d and h and p):
        explain(op, *arrays)
    return arrays, t, n, d, h, p


def explain(op, x, w_ih, w_hh, b_ih, b_hh, *others):
    """Raise what is wrong with the shapes."""
    w_hr, h0, c0 = others if len(others) == 3 else (None, *others, None)
    desc = recurrent_desc(op, x.shape, w_ih.shape, w_hh.shape, None if w_hr is None else w_hr.shape)
    gates = (desc.gates * desc.h,)
    shapes = {"b_ih": gates, "b_hh": gates, "h0": (desc.n, desc.p), "c0": (desc.n, desc.h)}
    for (name, shape), argument in zip(shapes.items(), (b_ih, b_hh, h0, c0), strict=True):
        if argument is not None:
            array_of_shape(argument, op, name, shape, x)


def rows_of(op, lengths, t, n):
    """Rows of samples with so many steps, or None if all have t."""
    lengths = checked_lengths(op, lengths, t, n)
    if not n or lengths.min() == t:
        return None
    order = np.argsort(-lengths, kind="stable")
    steps = lengths.max()
    time, sample = np.nonzero(lengths[order] > np.arange(steps)[:, None])
    offset = np.searchsorted(time, np.arange(steps + 1)).astype(np.intp)
    return Rows(order, offset, time * n + order[sample])


watching: ContextVar[Callable[[np.ndarray], None] | None] = ContextVar("watching", default=None)
"""What backward passes call with the norms (T,) of the gradients at the states h after every step."""


def norms_over_time(dstates, desc, rows):
    """(T,) of dstates (R, P), in float64."""
    squares = np.einsum("rp,rp->r", dstates, dstates, dtype=np.float64)
    if rows is None:
        sums = squares.reshape(desc.t, desc.n).sum(axis=1)
    else:
        sums = np.zeros(desc.t)
        sums[: len(rows.offset) - 1] = np.add.reduceat(squares, rows.offset[:-1])
    return np.sqrt(sums)


PACKED_ROWS = 64
"""Of x: packing the weights pays for itself in so many, whatever the sizes are."""

LSTM, GRU_PAPER = kernels.CELLS["lstm"], kernels.CELLS["gru_paper"]


def forward(op, cell, arrays, sizes, lengths, reverse, keep):
    """(y, h, c, ctx) of a sequence, or of one step with x (N, D); c is None but for an LSTM."""
    x, w_ih, w_hh, b_ih, b_hh, *others = arrays
    w_hr, h0, c0 = others if len(others) == 3 else (None, *others, None)
    t, n, d, size, p = sizes
    lstm, shape = len(others) == 3, x.shape
    reverse = flag(reverse, op, "reverse")
    rows = None if lengths is None else rows_of(op, lengths, t, n)
    if rows is None:
        x, steps, offset = x.reshape(-1, d), max(t, 1), None
    else:
        x, steps, offset = rows.of(x), len(rows.offset) - 1, rows.offset
        h0, c0 = (state if state is None else state[rows.order] for state in (h0, c0))
    # the initial states, which the kernel turns into the last ones
    h = np.zeros((n, p), x.dtype) if h0 is None else h0.copy()
    c = None if not lstm else np.zeros((n, size), x.dtype) if c0 is None else c0.copy()
    count = len(x)
    ctx = gates = c_kept = middle = None
    if not keep:
        y = empty((count, p), x)
    else:
        h_before = None
        if rows is None:
            # the states before the steps and after them are the same but for the first and the last
            every = empty((count + n, p), x)
            every[count if reverse else 0 :][:n] = h
            y, h_before = (every[:count], every[n:]) if reverse else (every[n:], every[:count])
        else:
            y = empty((count, p), x)
        gates = empty((count, kernels.columns(cell) * size), x)
        c_kept = empty((count, size), x) if lstm else None
        middle = empty((count, size), x) if w_hr is not None or cell == GRU_PAPER else None
        desc = recurrent_desc(op, shape, w_ih.shape, w_hh.shape, None if w_hr is None else w_hr.shape)
        present = tuple(a is not None for a in arrays)
        first = h.copy(), c if c is None else c.copy()
        ctx = RecurrentCtx(
            desc, cell, steps, x, w_ih, w_hh, w_hr, present, *first, gates, h_before, y, c_kept, middle, rows, reverse
        )
    if n:
        kernels.forward(
            cell,
            x,
            w_ih,
            w_hh,
            b_ih,
            b_hh,
            w_hr,
            h,
            c,
            y,
            gates,
            c_kept,
            middle,
            steps,
            offset,
            reverse,
            count >= PACKED_ROWS,
        )
    if rows is not None:
        y, h, c = rows.spread(y, (t, n, p)), rows.back(h), c if c is None else rows.back(c)
    return y.reshape(*shape[:-1], p), h, c, ctx


def states_before(ctx):
    """(R, P): h before each step."""
    if ctx.rows is None:
        return ctx.h_before
    offset = ctx.rows.offset
    count = np.diff(offset)
    time = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(time)) - offset[time]
    before = time + 1 if ctx.reverse else time - 1
    # of samples that begin there it is h0, which follows y
    had = place < np.append(count, 0)[before]
    return np.concatenate([ctx.y, ctx.h0])[place + np.where(had, offset[before], len(time))]


def backward(op, dy, dh, dc, ctx, needs):
    """Gradients of an operator in the order of its arguments; dy, dh and dc may be None for zero."""
    desc, rows, x = ctx.desc, ctx.rows, ctx.x
    t, n, size, p, lstm = desc.t, desc.n, desc.h, desc.p, desc.gates == 4
    need = dict(zip(NAMES[op], (a and b for a, b in zip(needs, ctx.present, strict=True)), strict=True))
    if dy is not None:
        dy = array_of_shape(dy, op, "dy", (t, n, p), x)
        dy = dy.reshape(-1, p) if rows is None else rows.of(dy)

    def state(name, d, shape):
        """The gradient at a last state, which the kernel turns into that at the initial one."""
        if d is None:
            return np.zeros(shape, x.dtype)
        d = array_of_shape(d, op, name, shape, x)
        return d.copy() if rows is None else d[rows.order]

    dh = state("dh", dh, (n, p))
    dc = state("dc", dc, (n, size)) if lstm else None
    dgates = empty(ctx.gates.shape, x)
    dbias = np.zeros(dgates.shape[1], x.dtype) if need["b_ih"] or need["b_hh"] else None
    watch = watching.get()
    dstates = None if ctx.w_hr is None and watch is None else empty(ctx.y.shape, x)
    resets = ctx.cell == GRU_PAPER
    single = ctx.steps == 1 and ctx.middle is None  # no weights are packed for one product
    if n:
        after, before = (ctx.c, ctx.c0) if lstm else (ctx.y, ctx.h0)
        offset, initial = None if rows is None else rows.offset, need["h0"] and not single
        kernels.backward(
            ctx.cell, dy, ctx.w_hh, ctx.w_hr, ctx.gates, after, before, dh, dc, dgates, dbias, dstates, ctx.steps,
            offset, ctx.reverse, initial,
        )  # fmt: skip
    if watch is not None:
        watch(norms_over_time(dstates, desc, rows) if n else np.zeros(t))
    # rows of w_hh, and columns of dgates that belong to them: the last column of a GRU, n, is apart from the others
    parts = [(slice(None), slice(None))]
    if desc.gates == 3:
        parts = [(slice(2 * size), slice(2 * size)), (slice(2 * size, None), slice(-size, None))]
    at_x = dgates[:, : desc.gates * size]
    grads = dict.fromkeys(NAMES[op])
    if need["x"]:
        dx = product(at_x, ctx.w_ih)
        grads["x"] = dx if rows is None else rows.spread(dx, (t, n, desc.d))
        grads["x"].shape = (t, n, desc.d) if "_step" not in op else (n, desc.d)
    if need["w_ih"]:
        grads["w_ih"] = product(at_x.T, x)
    if need["w_hh"]:
        grads["w_hh"], h_before = empty(ctx.w_hh.shape, x), states_before(ctx)
        for which, columns in parts:
            factor = ctx.middle if resets and which.start else h_before
            product(dgates[:, columns].T, factor, grads["w_hh"][which])
    if need["b_ih"]:
        grads["b_ih"] = dbias[: at_x.shape[1]].copy()
    if need["b_hh"]:
        grads["b_hh"] = np.concatenate([dbias[columns] for _, columns in parts])
    if need["h0"]:
        for which, columns in parts if single else ():
            product(dgates[:, columns], ctx.w_hh[which], dh, accumulate=desc.gates == 3)
        grads["h0"] = dh if rows is None else rows.back(dh)
    if lstm and need["w_hr"]:
        grads["w_hr"] = product(dstates.T, ctx.middle)
    if lstm and need["c0"]:
        grads["c0"] = dc if rows is None else rows.back(dc)
    return tuple(grads.values())


def parts_of(dy, op, names):
    """The gradients that make up dy, a tuple of `names`."""
    if not isinstance(dy, tuple | list):
        raise TypeError(f"{op}: dy must be a tuple ({', '.join(names)}), got {type(dy).__name__}")
    if len(dy) != len(names):
        raise ValueError(f"{op}: dy has {len(dy)} elements, expected {len(names)}: ({', '.join(names)})")
    return dy


def recurrent_stream(cell, layers, h, c=None, **option):
    """A function of x (N, D) that makes a step of recurrent layers, one above the other, and returns the last one's y
    (N, P), an array that the next step overwrites. It allocates nothing.

    cell: "rnn", "gru" or "lstm", with the option `nonlinearity` or `variant`. layers: the weights of each, as the
    arguments of its function behind x; they are packed once, later changes of them have no effect. h (layers, N, P) and
    c (layers, N, H, of an LSTM): the states, C-contiguous arrays that every step changes in place.
    """
    op, below = f"{cell}_step", None
    kinds = {"rnn": rnn_cell, "gru": gru_cell}
    kind = kinds[cell](op, *option.values()) if cell in kinds else LSTM
    n = h.shape[1]
    for k, (w_ih, *weights) in enumerate(layers):
        x = np.empty((n, w_ih.shape[-1]), h.dtype)
        states = (h[k],) if c is None else (h[k], c[k])
        arrays, *_ = check(op, x, w_ih, *weights, *states)
        w_hr = arrays[5] if c is not None else None
        y = np.empty_like(h[k])
        convert = partial(array_of_shape, op=op, name="x", shape=x.shape, like=x)
        below = kernels.Stream(kind, *arrays[1:5], w_hr, h[k], None if c is None else c[k], y, below, convert)
    return below.step


# ---- long short-term memory ----


def lstm_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None, keep=True):
    """One step of a long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh) in their rows, g = tanh(...) in its own;
    c = f c0 + i g; h = o tanh(c), or with a projection h = w_hr (o tanh(c)) (Sak, Senior & Beaufays 2014).

    x: (N, D). w_ih: (4H, D), w_hh: (4H, P), b_ih, b_hh: (4H,) or None; their rows are the gates i, f, g, o in this
    order. w_hr: (P, H), or None, and P = H. h0: (N, P), c0: (N, H), None for zeros. All of one dtype, float32 or
    float64. Returns ((h, c), ctx) with h (N, P) and c (N, H).
    """
    arrays, *sizes = check("lstm_step", x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0)
    _, h, c, ctx = forward("lstm_step", LSTM, arrays, sizes, None, False, keep)
    return (h, c), ctx


def lstm_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None, lengths=None, reverse=False, keep=True
):
    """A long short-term memory over a sequence: lstm_step at every time, from h0 and c0 on.

    x: (T, N, D), T >= 1; the others as in lstm_step. lengths: (N,) integers from 1 to T in any order, how many times
    each sample has; None for T. reverse: each sample from its last time to its first.
    Returns ((y, h, c), ctx) with y (T, N, P), the hidden states of all times, 0 where a sample is over, and h (N, P)
    and c (N, H), the states after every sample's last step. The result of a sample does not depend on the others, nor
    on its length being T or less (from 64 rows N T on, bit for bit; below, sums have another order).

    Memory beyond the results and, with keep, the gates, 4 T N H elements: a copy of the weights, and x and gates of
    max(256, N) samples.
    """
    arrays, *sizes = check("lstm", x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0)
    *results, ctx = forward("lstm", LSTM, arrays, sizes, lengths, reverse, keep)
    return tuple(results), ctx


def lstm_step_backward(dy, ctx, needs=(True,) * 8):
    """Gradients (dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh0, dc0) of lstm_step; None for those not needed and for
    arguments that were absent.

    dy: (dh, dc), (N, P) and (N, H), or None for zero. With dm = dh, or w_hr^T dh, and dc' = dc + dm o (1 - tanh(c)^2),
    the gradients at the gates' arguments are dc' g i (1 - i), dc' c0 f (1 - f), dc' i (1 - g^2), dm tanh(c) o (1 - o),
    and dc0 = dc' f.
    """
    dh, dc = parts_of(dy, "lstm_step", ("dh", "dc"))
    return backward("lstm_step", None, dh, dc, ctx, needs)


def lstm_backward(dy, ctx, needs=(True,) * 8):
    """The same gradients for a sequence, by back-propagation through time (Werbos 1990).

    dy: (dy, dh, dc), of shapes (T, N, P), (N, P), (N, H), each or None for zero.
    """
    dy, dh, dc = parts_of(dy, "lstm", ("dy", "dh", "dc"))
    return backward("lstm", dy, dh, dc, ctx, needs)


# ---- gated recurrent unit ----


def gru_cell(op, variant):
    return kernels.CELLS["gru_" + one_of(op, "variant", variant, "torch", "paper")]


def gru_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch", keep=True):
    """One step of a gated recurrent unit. r, z = sigmoid(w_ih x + b_ih + w_hh h0 + b_hh) in their rows, and in the last

    variant "torch": n = tanh(w_ih x + b_ih + r (w_hh h0 + b_hh)), h = (1 - z) n + z h0;
    variant "paper": n = tanh(w_ih x + b_ih + w_hh (r h0) + b_hh), h = (1 - z) h0 + z n (Cho et al. 2014, in the form of
    Chung et al. 2014).

    x: (N, D). w_ih: (3H, D), w_hh: (3H, H), b_ih, b_hh: (3H,) or None; their rows are the gates r, z, n in this order.
    h0: (N, H), None for zeros. All of one dtype, float32 or float64. Returns (h, ctx) with h (N, H).
    """
    cell = gru_cell("gru_step", variant)
    arrays, *sizes = check("gru_step", x, w_ih, w_hh, b_ih, b_hh, h0)
    _, h, _, ctx = forward("gru_step", cell, arrays, sizes, None, False, keep)
    return h, ctx


def gru_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch", lengths=None, reverse=False, keep=True
):
    """A gated recurrent unit over a sequence: gru_step at every time, from h0 on.

    x: (T, N, D), T >= 1; the others as in gru_step, lengths and reverse as in lstm. Returns ((y, h), ctx) with y
    (T, N, H), the states of all times, and h (N, H), the last ones.
    """
    cell = gru_cell("gru", variant)
    arrays, *sizes = check("gru", x, w_ih, w_hh, b_ih, b_hh, h0)
    y, h, _, ctx = forward("gru", cell, arrays, sizes, lengths, reverse, keep)
    return (y, h), ctx


def gru_step_backward(dy, ctx, needs=(True,) * 6):
    """Gradients (dx, dw_ih, dw_hh, db_ih, db_hh, dh0) of gru_step; None for those not needed and for arguments that
    were absent.

    dy: (N, H). At the arguments of z and n, "torch": dz = dy (h0 - n) z (1 - z), dn = dy (1 - z) (1 - n^2), and at that
    of r, dn (w_hh h0 + b_hh) r (1 - r); "paper": dz = dy (n - h0) z (1 - z), dn = dy z (1 - n^2), and at that of r,
    (w_hh^T dn) h0 r (1 - r).
    """
    return backward("gru_step", None, dy, None, ctx, needs)


def gru_backward(dy, ctx, needs=(True,) * 6):
    """The same gradients for a sequence, by back-propagation through time.

    dy: (dy, dh), of shapes (T, N, H), (N, H), each or None for zero.
    """
    dy, dh = parts_of(dy, "gru", ("dy", "dh"))
    return backward("gru", dy, dh, None, ctx, needs)


# ---- the simple recurrent network ----


def rnn_cell(op, nonlinearity):
    return kernels.CELLS["rnn_" + one_of(op, "nonlinearity", nonlinearity, "tanh", "relu")]


def rnn_step_forward(x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh", keep=True):
    """One step of a simple recurrent network (Elman 1990): h = f(w_ih x + b_ih + w_hh h0 + b_hh).

    x: (N, D). w_ih: (H, D), w_hh: (H, H), b_ih, b_hh: (H,) or None. h0: (N, H), None for zeros. All of one dtype,
    float32 or float64. nonlinearity: f, "tanh" or "relu". Returns (h, ctx) with h (N, H).
    """
    cell = rnn_cell("rnn_step", nonlinearity)
    arrays, *sizes = check("rnn_step", x, w_ih, w_hh, b_ih, b_hh, h0)
    _, h, _, ctx = forward("rnn_step", cell, arrays, sizes, None, False, keep)
    return h, ctx


def rnn_forward(
    x, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh", lengths=None, reverse=False, keep=True
):
    """A simple recurrent network over a sequence: rnn_step at every time, from h0 on.

    x: (T, N, D), T >= 1; the others as in rnn_step, lengths and reverse as in lstm. Returns ((y, h), ctx) with y
    (T, N, H), the states of all times, and h (N, H), the last ones.
    """
    cell = rnn_cell("rnn", nonlinearity)
    arrays, *sizes = check("rnn", x, w_ih, w_hh, b_ih, b_hh, h0)
    y, h, _, ctx = forward("rnn", cell, arrays, sizes, lengths, reverse, keep)
    return (y, h), ctx


def rnn_step_backward(dy, ctx, needs=(True,) * 6):
    """Gradients (dx, dw_ih, dw_hh, db_ih, db_hh, dh0) of rnn_step; None for those not needed and for arguments that
    were absent.

    dy: (N, H). At f's argument, dy (1 - h^2) of tanh, dy [h > 0] of relu.
    """
    return backward("rnn_step", None, dy, None, ctx, needs)


def rnn_backward(dy, ctx, needs=(True,) * 6):
    """The same gradients for a sequence, by back-propagation through time.

    dy: (dy, dh), of shapes (T, N, H), (N, H), each or None for zero.
    """
    dy, dh = parts_of(dy, "rnn", ("dy", "dh"))
    return backward("rnn", dy, dh, None, ctx, needs)

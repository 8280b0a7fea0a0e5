"""Recurrent networks: our kernels where the cell is the usual one, else NumPy step by step.

Usual are the default functions (tanh or ReLU of RNN) without clipping, peepholes and coupled gates, and sequences of at
least one step.
"""

from functools import partial

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import through_float32, unsupported

FUNCTIONS = {
    "affine": lambda x, a=1.0, b=0.0: a * x + b,
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x, a=0.01: np.where(x < 0, a * x, x),
    "thresholdedrelu": lambda x, a=1.0: np.where(x > a, x, 0),
    "tanh": np.tanh,
    "scaledtanh": lambda x, a=1.0, b=1.0: a * np.tanh(b * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hardsigmoid": lambda x, a=0.2, b=0.5: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a=1.0: np.where(x < 0, a * np.expm1(x), x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
}
ALPHAS = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
BETAS = {"affine", "scaledtanh", "hardsigmoid"}


def functions_of(node, defaults, directions):
    """Names of the functions of each direction, and the functions with their parameters."""
    a = node.attributes
    names = [name.lower() for name in a.get("activations") or defaults * directions]
    if len(names) != len(defaults) * directions:
        raise ValueError(f"{len(names)} activations, expected {len(defaults) * directions}")
    alphas, betas = iter(a.get("activation_alpha") or ()), iter(a.get("activation_beta") or ())
    found = []
    for name in names:
        if name not in FUNCTIONS:
            raise unsupported(node, f"activation {name!r}")
        options = {}
        for key, takes, values in ("a", ALPHAS, alphas), ("b", BETAS, betas):
            if name in takes and (value := next(values, None)) is not None:
                options[key] = value
        found.append(partial(FUNCTIONS[name], **options))
    n = len(defaults)
    return [(names[i * n : (i + 1) * n], found[i * n : (i + 1) * n]) for i in range(directions)]


def rows(a, order, gates):
    """The rows of a's gates in another order."""
    return None if a is None else a.reshape(gates, -1, *a.shape[1:])[list(order)].reshape(a.shape)


def run(node, cell, x, w, r, b=None, lengths=None, h=None, c=None, peepholes=None, weights=None):
    """(Y, Y_h) and of an LSTM Y_c: every direction by itself. weights: those of each direction, by `cell.weights`."""
    a = node.attributes
    direction = a.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"direction is {direction!r}, expected forward, reverse or bidirectional")
    count = 2 if direction == "bidirectional" else 1
    if w.ndim != 3 or len(w) != count or r.shape[:2] != w.shape[:2]:
        raise ValueError(f"W has shape {w.shape} and R {r.shape}, expected {count} directions, and gates alike")
    batch_first = a.get("layout", 0)
    if batch_first:
        x, h, c = (None if v is None else np.ascontiguousarray(v.swapaxes(0, 1)) for v in (x, h, c))
    if lengths is not None:
        lengths = lengths.astype(np.int64)
    outputs = []
    for i, (names, functions) in enumerate(functions_of(node, cell.functions, count)):
        reverse = direction == "reverse" or i == 1
        bias = None if b is None else b[i]
        states = [None if s is None else s[i] for s in (h, c)][: cell.states]
        usual = cell.usual(node, names) and peepholes is None and (lengths is None or lengths.min(initial=1) >= 1)
        if usual and len(x):
            arranged = cell.weights(node, w[i], r[i], bias) if weights is None else weights[i]
            outputs.append(cell.fast(node, names, x, arranged, lengths, reverse, *states))
        else:
            peep = None if peepholes is None else np.split(peepholes[i], 3)
            step = partial(cell.step, node, functions, r[i], bias, peep)
            outputs.append(stepwise(x, w[i], r[i].shape[1], bias, lengths, reverse, states, step))
    y, *last = (np.stack(parts, axis) for parts, axis in zip(zip(*outputs, strict=True), (1, 0, 0), strict=False))
    if batch_first:
        y, last = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in last]
    return y, *last


def stepwise(x, w, hidden, bias, lengths, reverse, states, step):
    """y (T, N, H) and the last states of one direction; a sample that is over keeps its states."""
    t, n = x.shape[:2]
    states = [np.zeros((n, hidden), x.dtype) if s is None else s for s in states]
    lengths = np.full(n, t) if lengths is None else lengths
    inputs = ops.matmul_forward(x.reshape(t * n, -1), w.T, keep=False)[0].reshape(t, n, -1)
    if bias is not None:
        inputs = inputs + bias[: len(w)]
    y = np.zeros((t, n, hidden), x.dtype)
    with np.errstate(all="ignore"):
        for time in reversed(range(t)) if reverse else range(t):
            runs = (time < lengths)[:, None]
            new = step(inputs[time], *states)
            states = [np.where(runs, fresh, old) for fresh, old in zip(new, states, strict=True)]
            y[time] = np.where(runs, states[0], 0)
    return y, *states


def clipped(node, x):
    limit = node.attributes.get("clip")
    return x if limit is None else np.clip(x, -limit, limit)


class Rnn:
    functions, states = ("tanh",), 1

    @staticmethod
    def usual(node, names):
        return names[0] in ("tanh", "relu") and "clip" not in node.attributes

    @staticmethod
    def weights(node, w, r, b):
        return [w, r, *((None, None) if b is None else np.split(b, 2))]

    @staticmethod
    def fast(node, names, x, weights, lengths, reverse, h):
        return ops.rnn_forward(x, *weights, h0=h, nonlinearity=names[0], lengths=lengths, reverse=reverse, keep=False)[
            0
        ]

    @staticmethod
    def step(node, functions, r, b, _, x, h):
        recurrent = h @ r.T if b is None else h @ r.T + b[len(r) :]
        return (functions[0](clipped(node, x + recurrent)),)


class Gru:
    """Gates z, r, h, with h_t = (1 - z) n + z h; ours are r, z, n."""

    functions, states = ("sigmoid", "tanh"), 1
    order = (1, 0, 2)

    @staticmethod
    def usual(node, names):
        return names == ["sigmoid", "tanh"] and "clip" not in node.attributes

    @classmethod
    def weights(cls, node, w, r, b):
        halves = (None, None) if b is None else np.split(b, 2)
        weights = [rows(v, cls.order, 3) for v in (w, r, *halves)]
        if cls.variant(node) == "paper":  # where h = (1 - z) h0 + z n: 1 - sigmoid(a) = sigmoid(-a)
            hidden = r.shape[1]
            for v in weights:
                if v is not None:
                    v[hidden : 2 * hidden] *= -1
        return weights

    @staticmethod
    def variant(node):
        return "torch" if node.attributes.get("linear_before_reset", 0) else "paper"

    @classmethod
    def fast(cls, node, names, x, weights, lengths, reverse, h):
        return ops.gru_forward(
            x, *weights, h0=h, variant=cls.variant(node), lengths=lengths, reverse=reverse, keep=False
        )[0]

    @staticmethod
    def step(node, functions, r, b, _, x, h):
        f, g = functions
        n = r.shape[1]
        bias = np.zeros(3 * n, x.dtype) if b is None else b[3 * n :]
        gates = f(clipped(node, x[:, : 2 * n] + h @ r[: 2 * n].T + bias[: 2 * n]))
        z, reset = gates[:, :n], gates[:, n:]
        if node.attributes.get("linear_before_reset", 0):
            inner = reset * (h @ r[2 * n :].T + bias[2 * n :])
        else:
            inner = (reset * h) @ r[2 * n :].T + bias[2 * n :]
        new = g(clipped(node, x[:, 2 * n :] + inner))
        return ((1 - z) * new + z * h,)


class Lstm:
    """Gates i, o, f, c; ours are i, f, g, o."""

    functions, states = ("sigmoid", "tanh", "tanh"), 2
    order = (0, 2, 3, 1)

    @staticmethod
    def usual(node, names):
        a = node.attributes
        return names == ["sigmoid", "tanh", "tanh"] and "clip" not in a and not a.get("input_forget", 0)

    @classmethod
    def weights(cls, node, w, r, b):
        halves = (None, None) if b is None else np.split(b, 2)
        return [rows(v, cls.order, 4) for v in (w, r, *halves)]

    @staticmethod
    def fast(node, names, x, weights, lengths, reverse, h, c):
        return ops.lstm_forward(x, *weights, h0=h, c0=c, lengths=lengths, reverse=reverse, keep=False)[0]

    @staticmethod
    def step(node, functions, r, b, peepholes, x, h, c):
        f, g, out = functions
        n = r.shape[1]
        gates = x + h @ r.T
        if b is not None:
            gates = gates + b[4 * n :]
        i, o, forget, new = (gates[:, k * n : (k + 1) * n] for k in range(4))
        pi, po, pf = peepholes if peepholes is not None else (x.dtype.type(0),) * 3
        i = f(clipped(node, i + pi * c))
        forget = 1 - i if node.attributes.get("input_forget", 0) else f(clipped(node, forget + pf * c))
        c = forget * c + i * g(clipped(node, new))
        return f(clipped(node, o + po * c)) * out(c), c


@operator("RNN", since=7)
@through_float32
def rnn(node, x, w, r, b=None, lengths=None, h=None):
    return run(node, Rnn, x, w, r, b, lengths, h)


@operator("GRU", since=7)
@through_float32
def gru(node, x, w, r, b=None, lengths=None, h=None):
    return run(node, Gru, x, w, r, b, lengths, h)


@operator("LSTM", since=7)
@through_float32
def lstm(node, x, w, r, b=None, lengths=None, h=None, c=None, peepholes=None):
    return run(node, Lstm, x, w, r, b, lengths, h, c, peepholes)

"""Time fastnn.compat.cs231n beside NumPy as the course's students write it, in one process, in turn.

    python bench/compare_course.py [--only 'conv*'] [--threads 1 2] [--rounds 7] [--dtype float64]

Every row is a layer in the size of the course's notebooks, forward or backward. NumPy's side has no loops but over time
and over the elements of a window: convolution is a product with columns of windows. Nothing is timed before the results
agree. NumPy's BLAS is limited to as many threads if threadpoolctl is installed.
"""

import argparse
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from statistics import geometric_mean
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.cli.contest import threads_of_all
from fastnn.compat import cs231n
from fastnn.config import config
from fastnn.measure import Effort, Entry, interleave
from fastnn.terminal import Column, Table, si

TOLERANCES = {"float64": 1e-12, "float32": 1e-4}
"""Of the norm of a difference relative to the norm: sums of at most 25,600 terms, rounded once a term."""
SETTLE = 0.05

# ---- the course's layers in NumPy: forward returns (out, cache), backward takes (dout, cache) ----


def conv_forward(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    n, f, (hh, ww) = len(x), len(w), w.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (hh, ww), (2, 3))[:, :, ::stride, ::stride]
    oh, ow = windows.shape[2:4]
    cols = windows.transpose(1, 4, 5, 0, 2, 3).reshape(w[0].size, -1)
    out = (w.reshape(f, -1) @ cols + b[:, None]).reshape(f, n, oh, ow)
    return np.ascontiguousarray(out.transpose(1, 0, 2, 3)), (x, w, cols, stride, pad)


def conv_backward(dout, cache):
    x, w, cols, stride, pad = cache
    (n, c, h, width), (f, _, hh, ww) = x.shape, w.shape
    oh, ow = dout.shape[2:]
    rows = dout.transpose(1, 0, 2, 3).reshape(f, -1)
    dw = (rows @ cols.T).reshape(w.shape)
    dcols = (w.reshape(f, -1).T @ rows).reshape(c, hh, ww, n, oh, ow)
    dx = np.zeros((n, c, h + 2 * pad, width + 2 * pad), x.dtype)
    for i, j in np.ndindex(hh, ww):
        pixels = dx[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
        pixels += dcols[:, i, j].transpose(1, 0, 2, 3)
    return dx[:, :, pad : pad + h, pad : pad + width], dw, rows.sum(axis=1)


def pool_forward(x, pool_param):
    """Windows that share out the image, as an axis of a reshaped array each."""
    size = pool_param["stride"]
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // size, size, w // size, size)
    out = tiles.max(axis=3).max(axis=4)
    return out, (tiles, out)


def pool_backward(dout, cache):
    tiles, out = cache
    mask = tiles == out[:, :, :, None, :, None]
    n, c, rows, size, columns, _ = tiles.shape
    share = dout[:, :, :, None, :, None] / mask.sum(axis=(3, 5), keepdims=True).astype(dout.dtype)
    return (mask * share).reshape(n, c, rows * size, columns * size)


def batchnorm_forward(x, gamma, beta, bn_param):
    mean = x.mean(axis=0)
    centred = x - mean
    std = np.sqrt((centred**2).mean(axis=0) + x.dtype.type(1e-5))
    normal = centred / std
    return gamma * normal + beta, (normal, gamma, std)


def batchnorm_backward(dout, cache):
    normal, gamma, std = cache
    dgamma, dbeta = (dout * normal).sum(axis=0), dout.sum(axis=0)
    n = dout.dtype.type(len(dout))
    return gamma / (n * std) * (n * dout - dbeta - normal * dgamma), dgamma, dbeta


def spatial_forward(x, gamma, beta, bn_param):
    n, c, h, w = x.shape
    out, cache = batchnorm_forward(x.transpose(0, 2, 3, 1).reshape(-1, c), gamma, beta, bn_param)
    return np.ascontiguousarray(out.reshape(n, h, w, c).transpose(0, 3, 1, 2)), cache


def spatial_backward(dout, cache):
    n, c, h, w = dout.shape
    dx, dgamma, dbeta = batchnorm_backward(dout.transpose(0, 2, 3, 1).reshape(-1, c), cache)
    return np.ascontiguousarray(dx.reshape(n, h, w, c).transpose(0, 3, 1, 2)), dgamma, dbeta


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_forward(x, h0, Wx, Wh, b):
    h, states = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ Wx + h @ Wh + b)
        states.append(h)
    return np.stack(states, axis=1), (x, h0, Wx, Wh, states)


def rnn_backward(dh, cache):
    x, h0, Wx, Wh, states = cache
    dx, dWx, dWh, db = np.empty_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(Wh[0])
    dprev = np.zeros_like(h0)
    for t in reversed(range(len(states))):
        da = (dh[:, t] + dprev) * (1 - states[t] ** 2)
        dx[:, t], dprev = da @ Wx.T, da @ Wh.T
        dWx += x[:, t].T @ da
        dWh += (states[t - 1] if t else h0).T @ da
        db += da.sum(axis=0)
    return dx, dprev, dWx, dWh, db


def lstm_forward(x, h0, Wx, Wh, b):
    h, c, steps = h0, np.zeros_like(h0), []
    for t in range(x.shape[1]):
        i, f, o, g = np.split(x[:, t] @ Wx + h @ Wh + b, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        before, c = (h, c), f * c + i * g
        squashed = np.tanh(c)
        h = o * squashed
        steps.append((h, *before, i, f, o, g, squashed))
    return np.stack([step[0] for step in steps], axis=1), (x, h0, Wx, Wh, steps)


def lstm_backward(dh, cache):
    x, h0, Wx, Wh, steps = cache
    dx, dWx, dWh, db = np.empty_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(Wh[0])
    dprev, dc = np.zeros_like(h0), np.zeros_like(h0)
    for t in reversed(range(len(steps))):
        _, h_before, c_before, i, f, o, g, squashed = steps[t]
        d = dh[:, t] + dprev
        dc = dc + d * o * (1 - squashed**2)
        da = np.hstack(
            [dc * g * i * (1 - i), dc * c_before * f * (1 - f), d * squashed * o * (1 - o), dc * i * (1 - g**2)]
        )
        dx[:, t], dprev, dc = da @ Wx.T, da @ Wh.T, dc * f
        dWx += x[:, t].T @ da
        dWh += h_before.T @ da
        db += da.sum(axis=0)
    return dx, dprev, dWx, dWh, db


# ---- what is timed ----


class Task(NamedTuple):
    """A layer: its name, fastnn's and NumPy's (forward, backward), the shapes of its arrays, what follows them."""

    name: str
    ours: tuple[Callable, Callable]
    theirs: tuple[Callable, Callable]
    shapes: tuple
    parameters: tuple = ()


def layer(name):
    """The course's functions of that name, with fast kernels."""
    suffix = "_fast" if name in ("conv", "max_pool") else ""
    return tuple(getattr(cs231n, f"{name}_{direction}{suffix}") for direction in ("forward", "backward"))


POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
RNN, LSTM = (((25, 16, 256), (25, 512), (256, n), (512, n), (n,)) for n in (512, 2048))
CONV, SPATIAL = (conv_forward, conv_backward), (spatial_forward, spatial_backward)
TASKS = (
    Task("conv 3x3/2 100x3x31x31 -> 25", layer("conv"), CONV, ((100, 3, 31, 31), (25, 3, 3, 3), (25,)),
         ({"stride": 2, "pad": 1},)),
    Task("conv 7x7 50x3x32x32 -> 32", layer("conv"), CONV, ((50, 3, 32, 32), (32, 3, 7, 7), (32,)),
         ({"stride": 1, "pad": 3},)),
    Task("max_pool 2x2/2 100x3x32x32", layer("max_pool"), (pool_forward, pool_backward), ((100, 3, 32, 32),), (POOL,)),
    Task("max_pool 2x2/2 50x32x32x32", layer("max_pool"), (pool_forward, pool_backward), ((50, 32, 32, 32),), (POOL,)),
    Task("batchnorm 100x100", layer("batchnorm"), (batchnorm_forward, batchnorm_backward), ((100, 100), (100,), (100,)),
         ({"mode": "train"},)),
    Task("spatial_batchnorm 50x32x32x32", layer("spatial_batchnorm"), SPATIAL, ((50, 32, 32, 32), (32,), (32,)),
         ({"mode": "train"},)),
    Task("affine 50x8192 -> 100", layer("affine"), (affine_forward, affine_backward),
         ((50, 8192), (8192, 100), (100,))),
    Task("rnn 25x16x256 -> 512", layer("rnn"), (rnn_forward, rnn_backward), RNN),
    Task("lstm 25x16x256 -> 512", layer("lstm"), (lstm_forward, lstm_backward), LSTM),
)  # fmt: skip


def drawn(task, dtype):
    """Its arrays; weights so small that recurrent units do not saturate."""
    rng = np.random.default_rng(0)
    first, *others = (rng.standard_normal(shape).astype(dtype) for shape in task.shapes)
    return [first, *(0.05 * a for a in others), *task.parameters]


def check(name, got, want, tolerance):
    """Exit unless arrays agree."""
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        error = np.linalg.norm(g - w) / np.linalg.norm(w) if g.shape == w.shape else np.inf
        if not error <= tolerance:
            sys.exit(f"{name}: result {i} differs by {error:.1e}, nothing is timed")


def listed(results):
    return results if isinstance(results, tuple) else (results,)


def measure(task, dtype, threads, effort):
    """[(direction, seconds by name)] of both directions, after a check."""
    arguments = drawn(task, dtype)
    sides = {"fastnn": task.ours, "numpy": task.theirs}
    with threads_of_all(threads, {}):
        made = {who: forward(*arguments) for who, (forward, _) in sides.items()}
        outs = {who: out for who, (out, _) in made.items()}
        check(f"{task.name} forward", [outs["fastnn"]], [outs["numpy"]], TOLERANCES[dtype])
        dout = np.random.default_rng(1).standard_normal(outs["numpy"].shape).astype(dtype)
        backward = {who: partial(sides[who][1], dout, cache) for who, (_, cache) in made.items()}
        grads = [listed(backward[who]()) for who in ("fastnn", "numpy")]
        check(f"{task.name} backward", *grads, TOLERANCES[dtype])
        calls = {"forward": {who: partial(forward, *arguments) for who, (forward, _) in sides.items()}}
        calls["backward"] = backward
        return [
            (direction, interleave({who: Entry(call) for who, call in both.items()}, effort, SETTLE))
            for direction, both in calls.items()
        ]


TABLE = Table([
    Column("", 32), Column("", 9), *(Column(title, 8, True) for title in ("threads", "fastnn", "numpy", "×numpy")),
])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="GLOB", default="*", help="only rows of matching names")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7, help="timings of each; their median counts")
    parser.add_argument("--dtype", choices=TOLERANCES, default="float64")
    args = parser.parse_args()
    chosen = [task for task in TASKS if fnmatchcase(task.name, args.only)]
    if not chosen:
        parser.error(f"--only {args.only}: no row matches; there are {', '.join(task.name for task in TASKS)}")
    facts = {name.strip(): fact for name, fact in config().items()}
    for name in ("CPU", "instruction set", "fastnn"):
        print(f"{name}: {facts.get(name)}")
    print(f"numpy: {np.__version__}; {args.dtype}\n\n{TABLE.heading()}")
    ratios: dict[int, list[float]] = {threads: [] for threads in args.threads}
    for task in chosen:
        for threads in args.threads:
            for direction, times in measure(task, args.dtype, threads, Effort(args.rounds)):
                ratios[threads].append(times["numpy"] / times["fastnn"])
                seconds = [si(times[who], "s") for who in ("fastnn", "numpy")]
                row = [task.name, direction, str(threads), *seconds, f"{ratios[threads][-1]:.1f}"]
                print(TABLE.row(row), flush=True)
    for threads, found in ratios.items():
        print(f"geometric mean, {threads} thread{'s' * (threads > 1)}: ×numpy {geometric_mean(found):.1f}")


if __name__ == "__main__":
    main()

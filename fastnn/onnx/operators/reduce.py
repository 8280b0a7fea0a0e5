"""Reductions, scans and orders along axes."""

import numpy as np

from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import axes_in, axis_in, given, through_float32, unsupported


def lowest(dtype):
    return False if dtype.kind == "b" else -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def highest(dtype):
    return True if dtype.kind == "b" else np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def log_sum_exp(x, axis):
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    return np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top


def mean(x, axis):
    """Of integers, towards zero."""
    return np.mean(x, axis=axis, keepdims=True)


def total(x, axis):
    return np.sum(x, axis=axis, keepdims=True, dtype=x.dtype)


REDUCTIONS = {
    "Sum": total,
    "Prod": lambda x, axis: np.prod(x, axis=axis, keepdims=True, dtype=x.dtype),
    "Mean": mean,
    "Max": lambda x, axis: np.max(x, axis=axis, keepdims=True, initial=lowest(x.dtype)),
    "Min": lambda x, axis: np.min(x, axis=axis, keepdims=True, initial=highest(x.dtype)),
    "L1": lambda x, axis: total(np.abs(x), axis),
    "L2": lambda x, axis: np.sqrt(total(x * x, axis)),
    "SumSquare": lambda x, axis: total(x * x, axis),
    "LogSum": lambda x, axis: np.log(total(x, axis)),
    "LogSumExp": log_sum_exp,
}


def reduction(name, function):
    """axes: an attribute, then an input; none is all, or with noop_with_empty_axes none at all."""

    @operator(f"Reduce{name}")
    @through_float32
    def call(node, x, axes=None):
        axes = given(node, "axes", axes)
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            axes = ()
        else:
            axes = axes_in(node, axes or range(x.ndim), x.ndim)
        with np.errstate(all="ignore"):
            y = np.asarray(function(x, axes)).astype(x.dtype, copy=False)
        return (
            y if node.attributes.get("keepdims", 1) else y.reshape([n for i, n in enumerate(y.shape) if i not in axes])
        )


for name, function in REDUCTIONS.items():
    reduction(name, function)


def position(name, function):
    @operator(name)
    @through_float32
    def call(node, x):
        axis, keep = axis_in(node, node.attributes.get("axis", 0), x.ndim), bool(node.attributes.get("keepdims", 1))
        if not node.attributes.get("select_last_index", 0):
            return np.asarray(function(x, axis=axis, keepdims=keep))
        return np.asarray(x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=keep))


position("ArgMax", np.argmax)
position("ArgMin", np.argmin)


@operator("TopK")
def top_k(node, x, k=None):
    """Of equal elements the first comes first."""
    a = node.attributes
    axis = axis_in(node, a.get("axis", -1), x.ndim)
    (k,) = given(node, "k", k)
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise ValueError(f"K is {k}, expected 0 to {n}")
    if a.get("largest", 1):
        order = np.flip(n - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    order = order.take(range(k), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64, copy=False)


def scan(name, function, first):
    @operator(name)
    def call(node, x, axis):
        axis = axis_in(node, axis.item(), x.ndim)
        exclusive, reverse = node.attributes.get("exclusive", 0), node.attributes.get("reverse", 0)
        x = np.flip(x, axis) if reverse else x
        y = function(x, axis=axis, dtype=x.dtype)
        if exclusive:
            before = np.full_like(y.take([0] if y.shape[axis] else [], axis), first)
            y = np.concatenate([before, y.take(range(max(y.shape[axis] - 1, 0)), axis)], axis)
        return np.flip(y, axis) if reverse else y


scan("CumSum", np.cumsum, 0)
scan("CumProd", np.cumprod, 1)


@operator("NonZero")
def non_zero(node, x):
    return np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64) if x.ndim else np.zeros((0, int(x != 0)), np.int64)


@operator("Unique", since=11)
def unique(node, x):
    """Values, where each is first, which of them every element is, and how often there is each."""
    axis = node.attributes.get("axis")
    if x.dtype.kind not in "biuf":
        raise unsupported(node, f"dtype {x.dtype}")
    axis = None if axis is None else axis_in(node, axis, x.ndim)
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not node.attributes.get("sorted", 1):
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        y, first, counts = y.take(order, axis or 0), first[order], counts[order]
        inverse = rank[inverse]
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


@operator("Compress", since=9)
def compress(node, x, condition):
    axis = node.attributes.get("axis")
    axis = None if axis is None else axis_in(node, axis, x.ndim)
    return np.compress(condition, x, axis)

"""Elements by their places."""

import numpy as np

from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import alike, axes_in, axis_in


def within(node, indices, n, name="indices"):
    """Indices counted from the first of n; ValueError for one beyond."""
    if indices.size and not -n <= indices.min() <= indices.max() < n:
        raise ValueError(f"{name} are {indices.min()} to {indices.max()}, expected {-n} to {n - 1}")
    return np.where(indices < 0, indices + n, indices)


def sliced(node, x, starts, ends, axes, steps):
    """Starts and ends beyond the array are at its edge."""
    axes = range(len(starts)) if axes is None else axes_in(node, axes, x.ndim)
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        n = x.shape[axis]
        if step == 0:
            raise ValueError("a step is 0")
        if step < 0 and end < -n:
            end = None
        cut[axis] = slice(start, end, step)
        if step < 0 and start < -n:
            cut[axis] = slice(0, 0)
    return x[tuple(cut)]


@operator("Slice")
def slice_attributes(node, x):
    """Before opset 10."""
    a = node.attributes
    return sliced(node, x, a["starts"], a["ends"], a.get("axes"), None)


@operator("Slice", since=10)
def slice_(node, x, starts, ends, axes=None, steps=None):
    starts, ends, axes, steps = (None if v is None else v.tolist() for v in (starts, ends, axes, steps))
    return sliced(node, x, starts, ends, axes, steps)


@operator("Gather")
def gather(node, x, indices):
    axis = axis_in(node, node.attributes.get("axis", 0), x.ndim)
    return np.asarray(x.take(within(node, indices, x.shape[axis]), axis))


@operator("GatherElements", since=11)
def gather_elements(node, x, indices):
    axis = axis_in(node, node.attributes.get("axis", 0), x.ndim)
    return x[places(indices, within(node, indices, x.shape[axis]), axis)]


def places(like, indices, axis):
    """The index of an array with one entry an axis that takes `indices` along one of them."""
    index = list(np.ogrid[tuple(map(slice, like.shape))])
    index[axis] = indices
    return tuple(index)


@operator("GatherND", since=11)
def gather_nd(node, x, indices):
    batch = node.attributes.get("batch_dims", 0)
    depth = indices.shape[-1]
    index = [within(node, indices[..., i], x.shape[batch + i]) for i in range(depth)]
    first = [
        np.arange(x.shape[i]).reshape([-1 if j == i else 1 for j in range(indices.ndim - 1)]) for i in range(batch)
    ]
    return np.asarray(x[tuple(first + index)])


REDUCTIONS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def scattered(node, x, index, updates):
    """A copy of x with updates at an index, put there or combined with what is there."""
    alike(node, x, updates)
    kind = node.attributes.get("reduction", "none")
    if kind != "none" and kind not in REDUCTIONS:
        raise ValueError(f"reduction is {kind!r}, expected none, {', '.join(REDUCTIONS)}")
    y = np.array(x)
    if kind == "none":
        y[index] = updates
    else:
        REDUCTIONS[kind].at(y, index, updates)
    return y


@operator("ScatterElements", since=11)
@operator("Scatter", since=9)
def scatter_elements(node, x, indices, updates):
    axis = axis_in(node, node.attributes.get("axis", 0), x.ndim)
    return scattered(node, x, places(indices, within(node, indices, x.shape[axis]), axis), updates)


@operator("ScatterND", since=11)
def scatter_nd(node, x, indices, updates):
    index = tuple(within(node, indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))
    return scattered(node, x, index, updates)


@operator("TensorScatter", since=24)
def tensor_scatter(node, cache, update, starts=None):
    """A cache of keys or values with an update behind what each sample has."""
    axis = axis_in(node, node.attributes.get("axis", -2), cache.ndim)
    n, length = cache.shape[axis], update.shape[axis]
    starts = np.zeros(len(cache), np.int64) if starts is None else starts
    steps = starts.reshape(-1, *[1] * (cache.ndim - 1)) + np.arange(length).reshape(
        [-1 if i == axis else 1 for i in range(cache.ndim)]
    )
    mode = node.attributes.get("mode", "linear")
    if mode not in ("linear", "circular"):
        raise ValueError(f"mode is {mode!r}, expected linear or circular")
    steps = steps % n if mode == "circular" else within(node, steps, n, "places")
    y = np.array(cache)
    y[places(update, steps, axis)] = update
    return y


@operator("Trilu", since=14)
def trilu(node, x, k=None):
    k = 0 if k is None else k.item()
    return np.triu(x, k) if node.attributes.get("upper", 1) else np.tril(x, k)


@operator("OneHot", since=9)
def one_hot(node, indices, depth, values):
    """Indices beyond the depth are nothing's."""
    depth = int(depth.reshape(()))
    axis = axis_in(node, node.attributes.get("axis", -1), indices.ndim + 1)
    indices = indices.astype(np.int64)
    indices = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis)
    classes = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(indices.ndim)])
    return np.where(indices == classes, values[1], values[0])

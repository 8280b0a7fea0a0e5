"""Shapes: what they are, and the same elements under another."""

from math import prod

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import FLOATS, alike, axes_in, axis_in, fitted, given, unsupported


@operator("Identity")
def identity(node, x):
    return x


@operator("Shape")
def shape(node, x):
    """The sizes from `start` to `end`, of which one beyond the last counts as the last."""
    return np.array(x.shape[node.attributes.get("start", 0) : node.attributes.get("end")], np.int64)


@operator("Size")
def size(node, x):
    return np.array(x.size, np.int64)


@operator("Reshape", since=5)
def reshape(node, x, sizes):
    """0 is the size that x has there, unless allowzero; -1 what is left over."""
    sizes = sizes.tolist()
    if not node.attributes.get("allowzero", 0):
        if any(n == 0 and i >= x.ndim for i, n in enumerate(sizes)):
            raise ValueError(f"shape is {sizes} of an array of shape {x.shape}, expected no 0 behind its axes")
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    try:
        return x.reshape(sizes)
    except ValueError:
        raise ValueError(f"an array of shape {x.shape} cannot get the shape {sizes}") from None


@operator("ReshapeTo", domain="fastnn")
def reshape_to(node, x):
    """Before opset 5."""
    return reshape(node, x, np.array(node.attributes["shape"]))


@operator("Flatten")
def flatten(node, x):
    axis = node.attributes.get("axis", 1)
    axis = axis if axis == x.ndim else axis_in(node, axis, x.ndim)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Squeeze")
def squeeze(node, x, axes=None):
    axes = given(node, "axes", axes)
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes_in(node, axes, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"axes {list(axes)} of shape {x.shape}, expected axes of size 1")
    return x.reshape([n for i, n in enumerate(x.shape) if i not in axes])


@operator("Unsqueeze")
def unsqueeze(node, x, axes=None):
    axes = given(node, "axes", axes)
    return np.expand_dims(x, axes_in(node, axes, x.ndim + len(axes)))


@operator("Transpose")
def transpose(node, x):
    perm = node.attributes.get("perm")
    if perm is not None and sorted(perm) != list(range(x.ndim)):
        raise ValueError(f"perm is {list(perm)} of shape {x.shape}, expected each axis once")
    return x.transpose(perm)


@operator("Expand", since=8)
def expand(node, x, sizes):
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes.tolist())))


@operator("Tile", since=6)
def tile(node, x, repeats):
    return np.tile(x, repeats.tolist())


@operator("Concat", since=4)
def concat(node, *arrays):
    alike(node, *arrays)
    axis = axis_in(node, node.attributes["axis"], arrays[0].ndim)
    if arrays[0].dtype in FLOATS:
        return ops.concat_forward(arrays, axis, keep=False)[0]
    return np.concatenate(arrays, axis)


@operator("Split", since=2)
def split(node, x, sizes=None):
    """Parts of given sizes, or as many as num_outputs or outputs, of which the last is the rest."""
    axis = axis_in(node, node.attributes.get("axis", 0), x.ndim)
    sizes = given(node, "split", sizes)
    n = x.shape[axis]
    if sizes is None:
        count = node.attributes.get("num_outputs", len(node.outputs))
        each = -(-n // count)
        sizes = [max(min(each, n - i * each), 0) for i in range(count)]
    if sum(sizes) != n or min(sizes) < 0:
        raise ValueError(f"split is {sizes} of an axis of {n}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


@operator("Pad", since=2)
def pad_attributes(node, x):
    """Before opset 11."""
    return padded(node, x, node.attributes["pads"], node.attributes.get("value", 0.0))


@operator("Pad", since=11)
def pad(node, x, pads, value=None, axes=None):
    return padded(node, x, pads.tolist(), 0 if value is None else value.reshape(())[()], axes)


def padded(node, x, pads, value, axes=None):
    """pads: before each axis, then behind each; less than zero takes elements away."""
    axes = range(x.ndim) if axes is None else axes_in(node, axes.tolist(), x.ndim)
    if len(pads) != 2 * len(axes):
        raise ValueError(f"pads are {list(pads)}, expected {2 * len(axes)} integers")
    begins, ends = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(axes):
        begins[axis], ends[axis] = pads[i], pads[len(axes) + i]
    mode = node.attributes.get("mode", "constant")
    if mode == "constant":
        return fitted(x, begins, ends, value)
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"mode is {mode!r}, expected constant, reflect, edge or wrap")
    x = fitted(x, [min(b, 0) for b in begins], [min(e, 0) for e in ends])
    return np.pad(x, [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)], mode=mode)


@operator("CenterCropPad", since=18)
def center_crop_pad(node, x, sizes):
    axes = axes_in(node, node.attributes.get("axes") or range(x.ndim), x.ndim)
    begins, ends = [0] * x.ndim, [0] * x.ndim
    for axis, size in zip(axes, sizes.tolist(), strict=True):
        missing = size - x.shape[axis]
        begins[axis] = missing // 2 if missing > 0 else -(-missing // 2)
        ends[axis] = missing - begins[axis]
    return fitted(x, begins, ends)


@operator("DepthToSpace")
def depth_to_space(node, x):
    n, c, h, w = x.shape
    b = node.attributes["blocksize"]
    if node.attributes.get("mode", "DCR") == "DCR":
        x = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(node, x):
    n, c, h, w = x.shape
    b = node.attributes["blocksize"]
    mode = node.attributes.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise unsupported(node, f"mode {mode!r}")
    x = x.reshape(n, c, h // b, b, w // b, b)
    x = x.transpose(0, 3, 5, 1, 2, 4) if mode == "DCR" else x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * b * b, h // b, w // b)


@operator("ReverseSequence", since=10)
def reverse_sequence(node, x, lengths):
    batch, time = node.attributes.get("batch_axis", 1), node.attributes.get("time_axis", 0)
    steps = np.arange(x.shape[time])[:, None]
    index = np.where(steps < lengths, lengths - 1 - steps, steps)  # (T, N)
    shape = [1] * x.ndim
    shape[time], shape[batch] = index.shape
    index = index if time < batch else index.T
    return np.take_along_axis(x, index.reshape(shape), time)

"""What operators share: attributes, axes, windows, types that are computed in another."""

from functools import wraps

import numpy as np

from fastnn.onnx.graph import UnsupportedOperator

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
"""What kernels compute in."""
HALVES = ("float16", "bfloat16")


def unsupported(node, what):
    """The error for a form of an operator that there is no code for."""
    return UnsupportedOperator(f"{node} of opset {node.opset}: {what} is not supported")


def wide(x):
    """float16 and bfloat16 as float32, anything else as it is."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.name in HALVES else x


def through_float32(function):
    """Decorator of an operator of floats: of float16 or bfloat16 it is computed in float32, and the results rounded."""

    @wraps(function)
    def call(node, *arrays):
        half = next((x.dtype for x in arrays if isinstance(x, np.ndarray) and x.dtype.name in HALVES), None)
        if half is None:
            return function(node, *arrays)
        results = function(node, *map(wide, arrays))
        if isinstance(results, tuple):
            return tuple(rounded(y, half) for y in results)
        return rounded(results, half)

    return call


def rounded(y, dtype):
    return y.astype(dtype) if y is not None and y.dtype == np.float32 else y


def alike(node, *arrays):
    """TypeError unless the arrays are of one type, as ONNX wants operands: NumPy would convert them."""
    dtypes = list(dict.fromkeys(x.dtype for x in arrays))
    if len(dtypes) > 1 and any(dtype.kind not in "OSUT" for dtype in dtypes):
        raise TypeError(f"inputs have dtypes {', '.join(map(str, dtypes))}, expected one")


def axis_in(node, axis, ndim, name="axis"):
    """An axis counted from the first; ValueError if there is none."""
    axis = int(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} is {axis}, expected {-ndim} to {ndim - 1}")
    return axis % ndim


def axes_in(node, axes, ndim, name="axes"):
    """Axes counted from the first; ValueError for one that there is not, or that is there twice."""
    found = tuple(axis_in(node, axis, ndim, name) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"{name} are {list(map(int, axes))}, expected each once")
    return found


def given(node, name, array, default=None):
    """What newer opsets have as an input and older ones as the attribute `name`: a list, or the default."""
    if array is not None:
        return array.reshape(-1).tolist()
    value = node.attributes.get(name, default)
    return [value] if isinstance(value, int | float) else value


def wanted(node, i):
    """Whether something uses the node's output i."""
    return len(node.outputs) > i and node.outputs[i] != ""


def windows(node, shape, kernel, *, dilated=True, ceil=False):
    """(strides, dilations, begins, ends, sizes): how windows lie on axes of the lengths `shape`, and how many of them:
    `begins` and `ends` are what has to be added before and behind each axis that they fit exactly, less than zero to
    take away. An operator that pads but does not let windows end behind the padding finds the pads in begins and ends.
    """
    a, n = node.attributes, len(shape)
    strides = a.get("strides") or [1] * n
    dilations = (a.get("dilations") if dilated else None) or [1] * n
    pads = a.get("pads") or [0] * 2 * n
    auto = a.get("auto_pad", "NOTSET")
    for name, value, length in (("kernel_shape", kernel, n), ("strides", strides, n), ("dilations", dilations, n)):
        if len(value) != length or min(value) < 1:
            raise ValueError(f"{name} is {list(value)}, expected {length} positive integers")
    if len(pads) != 2 * n:
        raise ValueError(f"pads are {list(pads)}, expected {2 * n} integers")
    begins, ends, sizes = [], [], []
    for i, length in enumerate(shape):
        span, stride, begin, end = dilations[i] * (kernel[i] - 1) + 1, strides[i], pads[i], pads[n + i]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            size = -(-length // stride)
            total = max((size - 1) * stride + span - length, 0)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
        else:
            if auto == "VALID":
                begin = end = 0
            elif auto not in ("NOTSET", ""):
                raise ValueError(f"auto_pad is {auto!r}, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
            room = length + begin + end - span
            size = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (size - 1) * stride >= length + begin:  # it would begin behind the array
                size -= 1
            if size < 1:
                raise ValueError(
                    f"a window of {span} along an axis of {length} with pads {begin} and {end}, expected one that fits"
                )
        begins.append(begin)
        ends.append((size - 1) * stride + span - length - begin)
        sizes.append(size)
    return tuple(strides), tuple(dilations), begins, ends, sizes


def fitted(x, begins, ends, value=0):
    """x with `value` before and behind its last axes, or with elements taken away where numbers are negative."""
    first = x.ndim - len(begins)
    cut = [slice(None)] * first
    cut += [slice(max(-b, 0), n - max(-e, 0)) for n, b, e in zip(x.shape[first:], begins, ends, strict=True)]
    x = x[tuple(cut)]
    if not any(pad > 0 for pad in (*begins, *ends)):
        return x
    pads = [(0, 0)] * first + [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)]
    return np.pad(x, pads, constant_values=value)

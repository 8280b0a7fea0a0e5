"""Operators for compiled graphs: what follows is computed in the same pass, results go where the caller says.

out: a writable C-contiguous array of the result's shape and dtype, apart from the inputs where nothing else is said;
None for a new one. activation: None, or "relu", applied before the result is stored.
"""

from math import prod

from fastnn.descriptors import one_of, pool2d_desc
from fastnn.kernels import elementwise, pool
from fastnn.kernels import linear as linear_kernels
from fastnn.ops._arrays import array, array_of_shape, empty, writable
from fastnn.ops.conv import PreparedConv2d, conv2d_plan

__all__ = ["conv2d", "linear", "max_pool2d"]


def place(op, out, shape, like):
    """The array to write to."""
    return empty(shape, like) if out is None else writable(out, op, "out", shape, like)


def conv2d(x, prepared, b=None, stride=1, padding=0, dilation=1, groups=1, *, activation=None, add=None, out=None):
    """activation(conv2d + add), the end of a residual block, as `ops.conv2d_forward` without a context.

    prepared: filters, of prepare_conv2d. add: an array of the result's shape, or None; `out` may be that array.
    """
    if type(prepared) is not PreparedConv2d:
        raise TypeError(f"conv2d: prepared must be a result of prepare_conv2d, got {type(prepared).__name__}")
    x = array(x, "conv2d", "x", 4, "(N, C, H, W)")
    w = array(prepared.w, "conv2d", "w", 4, "(K, C/groups, R, S)", x)
    desc, choice = conv2d_plan(x.shape, w.shape, x.dtype, stride, padding, dilation, groups, "auto")
    if b is not None:
        b = array_of_shape(b, "conv2d", "b", (desc.k,), x)
    relu = one_of("conv2d", "activation", activation, None, "relu") is not None
    y = place("conv2d", out, desc.y_shape, x)
    algorithm = choice.forward
    if not desc.n:
        return y
    form = prepared.form(algorithm, desc)
    if add is None:
        algorithm.forward(x, w, form, b, y, desc, relu)
        return y
    add = array_of_shape(add, "conv2d", "add", desc.y_shape, x)
    if algorithm.accumulate is not None:
        if y is not add:
            y[...] = add
        algorithm.accumulate(x, w, form, b, y, desc, relu)
        return y
    result = empty(desc.y_shape, x) if y is add else y
    algorithm.forward(x, w, form, b, result, desc, False)
    elementwise.add(result, add, y, relu)
    return y


def linear(x, w, b=None, *, activation=None, out=None):
    """activation(x w^T + b), as `ops.linear_forward` without a context."""
    x = array(x, "linear", "x")
    if not x.ndim:
        raise ValueError("linear: x has 0 dimensions, expected (*, D)")
    w = array(w, "linear", "w", 2, "(M, D)", x)
    (*batch, d), m = x.shape, len(w)
    if w.shape[1] != d or d == 0 or m == 0:
        raise ValueError(
            f"linear: w has shape {w.shape}, expected (M, {d}), neither of them 0, for x of shape {x.shape}"
        )
    if b is not None:
        b = array_of_shape(b, "linear", "b", (m,), x)
    relu = one_of("linear", "activation", activation, None, "relu") is not None
    y = place("linear", out, (*batch, m), x)
    rows = prod(batch)
    linear_kernels.linear_forward(x.reshape(rows, d), w, b, y.reshape(rows, m), relu)
    return y


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, out=None):
    """The maximum of every window, as `ops.max_pool2d_forward` without a context."""
    x = array(x, "max_pool2d", "x", 4, "(N, C, H, W)")
    desc = pool2d_desc("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = place("max_pool2d", out, desc.y_shape, x)
    pool.select(x, y, None, desc.geometry, False)
    return y

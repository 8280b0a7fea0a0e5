"""The arithmetic of Tensors in NumPy, as operators: op_forward(...) -> (y, ctx), op_backward(dy, ctx) -> gradients.

Arrays of one call have one dtype, and so has the result; scalars are NumPy scalars of that dtype. Shapes broadcast as
NumPy's do. Unlike those of fastnn.ops, these functions trust their arguments (NumPy raises what is wrong with shapes),
gradients may be dy itself or a view of it, and `keep` may be a tuple that says which gradients will be needed, so that
nothing is saved for the others.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

__all__ = ["PAIRS", "Pair"]


class Pair(NamedTuple):
    """What the tape must know of an operator."""

    backward: Callable[..., Any] | None
    grads: tuple[str, ...]
    """As of an OpSpec."""
    outputs: int
    """Results with a gradient; 0: all, as many as there are."""
    view: bool
    """Results show the memory of the first argument."""


PAIRS: dict[Callable[..., Any], Pair] = {}


def pair(forward, backward, *grads, outputs=1, view=False):
    """Register an operator."""
    PAIRS[forward] = Pair(backward, grads, outputs, view)


quiet = np.errstate(all="ignore")
"""Decorator: infinities and NaN as IEEE says, without warnings, as in all operators. (The tape's way back is quiet.)"""


def both(keep):
    """Which of two gradients will be needed."""
    return keep if isinstance(keep, tuple) else (bool(keep), bool(keep))


def shape_of(x):
    """Of an array or scalar."""
    return getattr(x, "shape", ())


def summed(dy, shape):
    """The gradient of an argument of that shape that was broadcast to dy's."""
    if dy.shape == shape:
        return dy
    extra = dy.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and dy.shape[i + extra] != 1)
    return dy.sum(axes).reshape(shape)


def alike(op, arguments):
    """The arguments of an operator, of which at least one is an array, with numbers in its dtype; TypeError if arrays
    have several."""
    dtypes = [x.dtype for x in arguments if isinstance(x, np.ndarray)]
    if not dtypes or any(dtype != dtypes[0] for dtype in dtypes):
        came = " and ".join(str(x.dtype) if isinstance(x, np.ndarray) else type(x).__name__ for x in arguments)
        raise TypeError(f"{op}: got {came}, expected arrays of one dtype")
    return [x if isinstance(x, np.ndarray) else dtypes[0].type(x) for x in arguments]


# ---- two arguments, broadcast ----


@quiet
def plus_forward(a, b, *, keep=True):
    """a + b"""
    return a + b, (shape_of(a), shape_of(b))


def plus_backward(dy, ctx, needs=(True, True)):
    """da = db = dy"""
    return tuple(summed(dy, shape) if need else None for need, shape in zip(needs, ctx, strict=True))


@quiet
def minus_forward(a, b, *, keep=True):
    """a - b"""
    return a - b, (shape_of(a), shape_of(b))


def minus_backward(dy, ctx, needs=(True, True)):
    """da = dy, db = -dy"""
    return summed(dy, ctx[0]) if needs[0] else None, -summed(dy, ctx[1]) if needs[1] else None


def saved(a, b, keep):
    """The context of a product: shapes, and what the gradients that are needed are made of."""
    need_a, need_b = both(keep)
    return shape_of(a), shape_of(b), a if need_b else None, b if need_a else None


@quiet
def times_forward(a, b, *, keep=True):
    """a * b"""
    return a * b, saved(a, b, keep)


def times_backward(dy, ctx, needs=(True, True)):
    """da = dy b, db = dy a"""
    a_shape, b_shape, a, b = ctx
    return summed(dy * b, a_shape) if needs[0] else None, summed(dy * a, b_shape) if needs[1] else None


@quiet
def divide_forward(a, b, *, keep=True):
    """a / b"""
    need_a, need_b = both(keep)
    return a / b, (shape_of(a), shape_of(b), a if need_b else None, b if need_a or need_b else None)


def divide_backward(dy, ctx, needs=(True, True)):
    """da = dy / b, db = -dy a / b^2"""
    a_shape, b_shape, a, b = ctx
    da = dy / b
    return summed(da, a_shape) if needs[0] else None, summed(-da * (a / b), b_shape) if needs[1] else None


@quiet
def power_forward(a, b, *, keep=True):
    """a^b"""
    y = a**b
    return y, (a, b, y if both(keep)[1] else None)


def power_backward(dy, ctx, needs=(True, True)):
    """da = dy b a^(b - 1), and 0 where b is 0; db = dy a^b log a, and 0 where a is 0 and b >= 0."""
    a, b, y = ctx
    da = db = None
    if needs[0]:
        one = dy.dtype.type(1)
        da = summed(dy * np.where(b == 0, one - one, b * a ** (b - one)), shape_of(a))
    if needs[1]:
        db = summed(dy * np.where((a == 0) & (b >= 0), dy.dtype.type(0), y * np.log(a)), shape_of(b))
    return da, db


def extremum(ufunc):
    """The forward and backward functions of np.maximum or np.minimum."""

    @quiet
    def forward(a, b, *, keep=True):
        a, b = alike(ufunc.__name__, (a, b))
        y = ufunc(a, b)
        return y, (a, b, y)

    def backward(dy, ctx, needs=(True, True)):
        """dy goes to the argument that was chosen, one half to each of two that are equal, and where y is NaN to those
        that are."""
        a, b, y = ctx
        chosen = [(x == y) | ((x != x) & (y != y)) for x in (a, b)]
        share = dy / (chosen[0].astype(dy.dtype) + chosen[1])
        return tuple(
            summed(np.where(mine, share, dy.dtype.type(0)), shape_of(x)) if need else None
            for x, mine, need in zip((a, b), chosen, needs, strict=True)
        )

    forward.__name__, backward.__name__ = f"{ufunc.__name__}_forward", f"{ufunc.__name__}_backward"
    forward.__doc__ = f"np.{ufunc.__name__}(a, b); NaN if one is"
    return forward, backward


maximum_forward, maximum_backward = extremum(np.maximum)
minimum_forward, minimum_backward = extremum(np.minimum)


def where_forward(condition, a, b, *, keep=True):
    """a where condition holds, else b"""
    a, b = alike("where", (a, b))
    return np.where(condition, a, b), (condition, shape_of(a), shape_of(b))


def where_backward(dy, ctx, needs=(True, True)):
    """da = dy where condition holds, else 0; db the other way round."""
    condition, a_shape, b_shape = ctx
    zero = dy.dtype.type(0)
    da = summed(np.where(condition, dy, zero), a_shape) if needs[0] else None
    return da, summed(np.where(condition, zero, dy), b_shape) if needs[1] else None


@quiet
def product_forward(a, b, *, keep=True):
    """The matrix product of the last two axes, as np.matmul: those before them broadcast, a vector is a row of a and a
    column of b."""
    return np.matmul(a, b), saved(a, b, keep)


def product_backward(dy, ctx, needs=(True, True)):
    """da = dy b^T, db = a^T dy"""
    a_shape, b_shape, a, b = ctx
    if len(a_shape) == 1:
        dy, a = np.expand_dims(dy, -1 if len(b_shape) == 1 else -2), a if a is None else a[None]
    if len(b_shape) == 1:
        dy, b = np.expand_dims(dy, -1), b if b is None else b[:, None]
    row = (1, *a_shape) if len(a_shape) == 1 else a_shape
    column = (*b_shape, 1) if len(b_shape) == 1 else b_shape
    da = summed(np.matmul(dy, b.swapaxes(-1, -2)), row).reshape(a_shape) if needs[0] else None
    db = summed(np.matmul(a.swapaxes(-1, -2), dy), column).reshape(b_shape) if needs[1] else None
    return da, db


# ---- one argument ----


def negative_forward(x, *, keep=True):
    """-x"""
    return -x, None


def negative_backward(dy, ctx):
    """dx = -dy"""
    return -dy


def clone_forward(x, *, keep=True):
    """A copy of x"""
    return x.copy(), None


def clone_backward(dy, ctx):
    """dx = dy"""
    return dy


def cast_forward(x, dtype, *, keep=True):
    """x in another floating-point dtype"""
    return x.astype(dtype), x.dtype


def cast_backward(dy, ctx):
    """dx = dy in x's dtype"""
    return dy.astype(ctx)


def absolute_forward(x, *, keep=True):
    """|x|"""
    return np.abs(x), x


def absolute_backward(dy, ctx):
    """dx = dy sign(x), 0 at 0"""
    return dy * np.sign(ctx)


@quiet
def sqrt_forward(x, *, keep=True):
    """√x"""
    y = np.sqrt(x)
    return y, y


def sqrt_backward(dy, ctx):
    """dx = dy / 2y"""
    return dy / (ctx + ctx)


def clip_forward(x, low, high, *, keep=True):
    """x limited to [low, high]; None is no limit."""
    return np.clip(x, low, high), (x, low, high)


def clip_backward(dy, ctx):
    """dx = dy where low <= x <= high, else 0"""
    x, low, high = ctx
    inside = (True if low is None else x >= low) & (True if high is None else x <= high)
    return np.where(inside, dy, dy.dtype.type(0))


# ---- reductions: axis is None for all, an integer or a tuple ----


def spread(y, shape, axis, keepdims):
    """A reduction's result or gradient as a view that broadcasts to the shape of what was reduced."""
    if axis is not None and not keepdims:
        axes = axis if isinstance(axis, tuple) else (axis,)
        y = np.expand_dims(y, tuple(i % len(shape) for i in axes))
    return y


def reduced_count(shape, axis):
    """How many elements make one of the result."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return prod(shape[i] for i in axes)


@quiet
def sum_forward(x, axis=None, keepdims=False, *, keep=True):
    """Σ x"""
    return x.sum(axis, keepdims=keepdims), (x.shape, axis, keepdims)


def sum_backward(dy, ctx):
    """dx = dy"""
    return np.broadcast_to(spread(dy, *ctx), ctx[0])


@quiet
def mean_forward(x, axis=None, keepdims=False, *, keep=True):
    """Σ x / n; NaN of nothing"""
    count = x.dtype.type(reduced_count(x.shape, axis))
    return x.sum(axis, keepdims=keepdims) / count, (x.shape, axis, keepdims)


def mean_backward(dy, ctx):
    """dx = dy / n"""
    shape, axis, _ = ctx
    return np.broadcast_to(spread(dy / dy.dtype.type(reduced_count(shape, axis)), *ctx), shape)


@quiet
def var_forward(x, axis=None, correction=1, keepdims=False, *, keep=True):
    """Σ (x - mean)^2 / (n - correction)"""
    count = x.dtype.type(reduced_count(x.shape, axis))
    centred = x - x.sum(axis, keepdims=True) / count
    divisor = x.dtype.type(max(count - correction, 0))
    return (centred * centred).sum(axis, keepdims=keepdims) / divisor, (centred, divisor, axis, keepdims)


def var_backward(dy, ctx):
    """dx = 2 dy (x - mean) / (n - correction)"""
    centred, divisor, axis, keepdims = ctx
    return spread(dy * (2 / divisor), centred.shape, axis, keepdims) * centred


def extreme(name):
    """The forward and backward functions of the largest or smallest element."""

    def forward(x, axis=None, keepdims=False, *, keep=True):
        y = getattr(x, name)(axis, keepdims=keepdims)
        return y, (x, y, axis, keepdims)

    def backward(dy, ctx):
        """dy in equal shares to the elements that are y."""
        x, y, axis, keepdims = ctx
        y = spread(y, x.shape, axis, keepdims)
        mine = ((x == y) | ((x != x) & (y != y))).astype(x.dtype)
        return mine * (spread(dy, x.shape, axis, keepdims) / mine.sum(axis, keepdims=True))

    forward.__name__, backward.__name__ = f"{name}_forward", f"{name}_backward"
    forward.__doc__ = f"x.{name}(); NaN if there is one"
    return forward, backward


max_forward, max_backward = extreme("max")
min_forward, min_backward = extreme("min")


# ---- shapes ----


def reshape_forward(x, shape, *, keep=True):
    """x in another shape; one length may be -1."""
    return x.reshape(shape), x.shape


def reshape_backward(dy, ctx):
    """dx = dy in x's shape"""
    return dy.reshape(ctx)


def axis_of(op, name, dim, ndim):
    """An axis, counted from the end if negative, as its place; ValueError if there is none."""
    if not -ndim <= dim < ndim:
        raise ValueError(f"{op}: {name} is {dim}, expected -{ndim} to {ndim - 1}")
    return dim % ndim


def flatten_forward(x, start_dim=0, end_dim=-1, *, keep=True):
    """x with the axes start_dim to end_dim as one; an axis of its own if x has none."""
    shape = x.shape or (1,)
    start, end = (
        axis_of("flatten", name, dim, len(shape)) for name, dim in (("start_dim", start_dim), ("end_dim", end_dim))
    )
    if start > end:
        raise ValueError(f"flatten: start_dim is {start_dim}, expected at most end_dim, {end_dim}")
    return x.reshape(*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]), x.shape


def unflatten_forward(x, dim, sizes, *, keep=True):
    """x with the axis dim as several, of these lengths, one of which may be -1."""
    dim = axis_of("unflatten", "dim", dim, x.ndim)
    rest = prod(n for n in sizes if n != -1)
    if -1 in sizes and rest:
        sizes = [x.shape[dim] // rest if n == -1 else n for n in sizes]
    if prod(sizes) != x.shape[dim]:
        raise ValueError(f"unflatten: sizes are {tuple(sizes)}, expected a product of {x.shape[dim]}, of axis {dim}")
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :]), x.shape


def permute_forward(x, axes, *, keep=True):
    """Axis i of the result is axis axes[i] of x."""
    return x.transpose(axes), tuple(i % x.ndim for i in axes)


def permute_backward(dy, ctx):
    """dx = dy with axes where they were"""
    return dy.transpose(np.argsort(ctx))


def broadcast_to_forward(x, shape, *, keep=True):
    """x repeated along new axes and those of length 1."""
    return np.broadcast_to(x, shape), x.shape


def broadcast_to_backward(dy, ctx):
    """dx = the sum of dy over the repetitions"""
    return summed(dy, ctx)


# ---- parts ----


def is_basic(index):
    """Does an index make a view, and name no element twice?"""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, slice | int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


def getitem_forward(x, index, *, keep=True):
    """x[index], basic or advanced"""
    return x[index], (x.shape, index)


def getitem_backward(dy, ctx):
    """dx[index] += dy for one occurrence of an element after the other, in order; 0 elsewhere"""
    shape, index = ctx
    dx = np.zeros(shape, dy.dtype)
    if is_basic(index):
        dx[index] = dy
    else:
        np.add.at(dx, index, dy)
    return dx


def take_forward(x, index, *, keep=True):
    """The same of an advanced index, which makes a copy."""
    return getitem_forward(x, index)


def setitem_forward(x, index, value, *, keep=True):
    """A copy of x with x[index] = value"""
    y = x.copy()
    y[index] = value
    return y, (index, shape_of(value))


def setitem_backward(dy, ctx, needs=(True, True)):
    """dx = dy, 0 at index; dvalue = dy[index], 0 of values that a later one overwrote"""
    index, shape = ctx
    dx = dvalue = None
    if needs[0]:
        dx = dy.copy()
        dx[index] = 0
    if needs[1]:
        dvalue = dy[index]
        if not is_basic(index):
            last = np.empty(dy.shape, np.intp)
            order = np.arange(dvalue.size).reshape(dvalue.shape)
            last[index] = order
            dvalue = np.where(last[index] == order, dvalue, dy.dtype.type(0))
        dvalue = np.asarray(dvalue)
        # NumPy lets a value have leading axes of length 1 that the element has not.
        dvalue = summed(dvalue, shape[max(len(shape) - dvalue.ndim, 0) :]).reshape(shape)
    return dx, dvalue


def stack_forward(arrays, axis=0, *, keep=True):
    """Arrays of one shape along a new axis"""
    return np.stack(alike("stack", arrays), axis), axis


def stack_backward(dy, ctx):
    """A list of the slices of dy"""
    return list(np.moveaxis(dy, ctx, 0))


def split_forward(x, sizes, axis=0, *, keep=True):
    """Parts of x along an axis, of those sizes or, of an integer, of that size but for the last."""
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - i) for i in range(0, n, sizes)]
    elif sum(sizes) != n:
        raise ValueError(f"split: sizes {list(sizes)} add up to {sum(sizes)}, expected {n}, the length of axis {axis}")
    parts = tuple(np.split(x, np.cumsum(sizes)[:-1], axis))
    return parts, (x.dtype, axis, [part.shape for part in parts])


def split_backward(dy, ctx):
    """dx = the gradients one after the other, 0 for None"""
    dtype, axis, shapes = ctx
    return np.concatenate([np.zeros(s, dtype) if d is None else d for d, s in zip(dy, shapes, strict=True)], axis)


pair(plus_forward, plus_backward, "a", "b")
pair(minus_forward, minus_backward, "a", "b")
pair(times_forward, times_backward, "a", "b")
pair(divide_forward, divide_backward, "a", "b")
pair(power_forward, power_backward, "a", "b")
pair(maximum_forward, maximum_backward, "a", "b")
pair(minimum_forward, minimum_backward, "a", "b")
pair(where_forward, where_backward, "a", "b")
pair(product_forward, product_backward, "a", "b")
pair(negative_forward, negative_backward, "x")
pair(clone_forward, clone_backward, "x")
pair(cast_forward, cast_backward, "x")
pair(absolute_forward, absolute_backward, "x")
pair(sqrt_forward, sqrt_backward, "x")
pair(clip_forward, clip_backward, "x")
pair(sum_forward, sum_backward, "x")
pair(mean_forward, mean_backward, "x")
pair(var_forward, var_backward, "x")
pair(max_forward, max_backward, "x")
pair(min_forward, min_backward, "x")
pair(reshape_forward, reshape_backward, "x", view=True)
pair(flatten_forward, reshape_backward, "x", view=True)
pair(unflatten_forward, reshape_backward, "x", view=True)
pair(permute_forward, permute_backward, "x", view=True)
pair(broadcast_to_forward, broadcast_to_backward, "x", view=True)
pair(getitem_forward, getitem_backward, "x", view=True)
pair(take_forward, getitem_backward, "x")
pair(setitem_forward, setitem_backward, "x", "value")
pair(stack_forward, stack_backward, "arrays")
pair(split_forward, split_backward, "x", outputs=0, view=True)

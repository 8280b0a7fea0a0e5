"""Functions of one element, or of the elements of several arrays, that broadcast: NumPy's ufuncs and our kernels."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from fastnn import ops
from fastnn.onnx.graph import ALONG_AXIS, PLAIN_OPSET, Node
from fastnn.onnx.operators import lookup, operator
from fastnn.onnx.operators.common import FLOATS, alike, axis_in, through_float32, wide


def quiet():
    """Overflow, division by zero and NaN are results, not warnings."""
    return np.errstate(all="ignore")


def unary(name, function, since=1):
    """An operator that is a NumPy function."""

    @operator(name, since=since)
    def call(node, x):
        with quiet():
            return np.asarray(function(x))


def kernel(name, function, otherwise=None):
    """An operator that is a kernel; of integers, the NumPy function `otherwise`."""

    @operator(name)
    @through_float32
    def call(node, x):
        if otherwise is not None and x.dtype not in FLOATS:
            return np.asarray(otherwise(x))
        return function(x, keep=False)[0]


def in_float32(function):
    """A NumPy function that float16 and bfloat16 take the way through float32 in."""
    return lambda x: function(wide(x)).astype(x.dtype, copy=False)


ANY: dict[str, Callable] = {
    "Abs": np.abs, "Neg": np.negative, "Sign": np.sign, "IsNaN": np.isnan, "Not": np.logical_not,
    "BitwiseNot": np.invert,
}  # fmt: skip
FLOATING: dict[str, Callable] = {
    "Ceil": np.ceil, "Floor": np.floor, "Round": np.rint, "Sqrt": np.sqrt, "Reciprocal": lambda x: 1 / x,
    "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan,
    "Sinh": np.sinh, "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
}  # fmt: skip
KERNELS: dict[str, Callable] = {
    "Exp": ops.exp_forward, "Log": ops.log_forward, "Sigmoid": ops.sigmoid_forward, "Tanh": ops.tanh_forward,
    "HardSwish": ops.hardswish_forward,
}  # fmt: skip
for name, function in ANY.items():
    unary(name, function)
for name, function in FLOATING.items():
    unary(name, in_float32(function))
for name, function in KERNELS.items():
    kernel(name, function)
kernel("Erf", ops.erf_forward)
kernel("Relu", ops.relu_forward, lambda x: np.maximum(x, x.dtype.type(0)))


@operator("IsInf")
def isinf(node, x):
    found = np.isinf(x)
    for name, sign in ("detect_positive", False), ("detect_negative", True):
        if not node.attributes.get(name, 1):
            found &= np.signbit(x) != sign
    return np.asarray(found)


# ---- of two ----


def add_values(a, b):
    """a + b: one of our kernels where it has one."""
    if a.shape == b.shape and a.dtype in FLOATS and a.ndim:
        return ops.add_forward(a, b, keep=False)[0]
    return np.add(a, b)


def divide(a, b):
    """a / b, of integers towards zero."""
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "u":
        return quotient
    return quotient + ((np.remainder(a, b) != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def binary(name, function, since=7):
    """An operator that is a function of two arrays of one type."""

    @operator(name, since=since)
    def call(node, a, b):
        alike(node, a, b)
        with quiet():
            return np.asarray(function(a, b))


BINARY: dict[str, Callable] = {
    "Add": add_values, "Sub": np.subtract, "Mul": np.multiply, "Div": divide, "Equal": np.equal, "Less": np.less,
    "Greater": np.greater, "LessOrEqual": np.less_equal, "GreaterOrEqual": np.greater_equal, "And": np.logical_and,
    "Or": np.logical_or, "Xor": np.logical_xor, "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}  # fmt: skip
for name, function in BINARY.items():
    binary(name, function)


@operator("Pow", since=7)
def power(node, a, b):
    """Of a's type; integers to a negative power by way of float64."""
    with quiet():
        if a.dtype.kind in "iu":
            if b.dtype.kind in "iu" and not (b < 0).any():
                return np.asarray(np.power(a, b.astype(a.dtype)))
            return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64))).astype(a.dtype)
        return np.asarray(np.power(wide(a), b.astype(wide(a).dtype))).astype(a.dtype, copy=False)


@operator("Mod", since=10)
def mod(node, a, b):
    """The sign is that of b; with fmod, that of a."""
    alike(node, a, b)
    with quiet():
        return np.asarray((np.fmod if node.attributes.get("fmod", 0) else np.remainder)(a, b))


@operator("BitShift", since=11)
def bit_shift(node, a, b):
    alike(node, a, b)
    direction = node.attributes.get("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise ValueError(f"direction is {direction!r}, expected LEFT or RIGHT")
    return np.asarray((np.left_shift if direction == "LEFT" else np.right_shift)(a, b))


def along_axis(name):
    """The operator before opset 7, with a second operand that begins at an axis of the first."""

    @operator(f"{name}AlongAxis", domain="fastnn")
    def call(node, a, b):
        first = axis_in(node, node.attributes["axis"], a.ndim)
        if b.ndim and b.size > 1:
            b = b.reshape(*b.shape, *[1] * (a.ndim - first - b.ndim))
        return lookup(Node(name, "", node.name, node.inputs, node.outputs, {}, PLAIN_OPSET))(node, a, b)


for name in ALONG_AXIS:
    along_axis(name)


# ---- of any number ----


def variadic(name, function, finish=lambda y, count: y):
    @operator(name, since=6)
    def call(node, *arrays):
        alike(node, *arrays)
        with quiet():
            return np.asarray(finish(reduce(function, arrays), len(arrays)))


variadic("Max", np.maximum)
variadic("Min", np.minimum)
variadic("Sum", np.add)
variadic("Mean", np.add, lambda y, count: in_float32(lambda x: x / count)(y))


@operator("Where", since=9)
def where(node, condition, a, b):
    alike(node, a, b)
    return np.asarray(np.where(condition, a, b))


@operator("Clip", since=6)
def clip(node, x, low=None, high=None):
    """Limits are attributes before opset 11; if the lower is above the upper one, that is what there is everywhere."""
    low, high = (
        node.attributes.get(name) if limit is None else limit.reshape(()).item()
        for name, limit in (("min", low), ("max", high))
    )
    if x.dtype in FLOATS and low is not None and high is not None and low <= high:
        return ops.hardtanh_forward(x, low, high, keep=False)[0]
    for limit, function in (low, np.maximum), (high, np.minimum):
        if limit is not None:
            x = np.asarray(function(x, x.dtype.type(limit)))
    return x

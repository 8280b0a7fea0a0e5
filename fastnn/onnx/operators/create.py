"""Arrays made from nothing, and from arrays of another type."""

import numpy as np
from onnx import helper

from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import unsupported

CONVERTIBLE = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "bfloat16",
}  # fmt: skip
SMALL = {
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int4",
    "uint4", "int2", "uint2",
}  # fmt: skip
"""Types that are read, as float32, which has all their values; there are no arrays of them as results."""
CONSTANTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def dtype_of(node, name="to", default=None):
    """The NumPy type that an attribute names by ONNX's number."""
    number = node.attributes.get(name, default)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(number))
    if dtype.name not in CONVERTIBLE:
        raise unsupported(node, f"type {helper.tensor_dtype_to_string(number)}")
    return dtype


@operator("Constant")
def constant(node):
    a = node.attributes
    if "value" in a:
        return a["value"]
    for name, dtype in CONSTANTS.items():
        if name in a:
            return np.array(a[name], dtype)
    raise unsupported(node, f"a constant given as {', '.join(a)}")


@operator("ConstantOfShape", since=9)
def constant_of_shape(node, shape):
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(shape.tolist(), value.reshape(())[()], value.dtype)


@operator("Range", since=11)
def range_(node, start, limit, delta):
    """ceil((limit - start) / delta) numbers: start + i delta."""
    start, limit, delta = (x.reshape(()) for x in (start, limit, delta))
    count = max(int(np.ceil((float(limit) - float(start)) / float(delta))), 0)
    steps = np.arange(count).astype(start.dtype)
    return (start + steps * delta).astype(start.dtype, copy=False)


@operator("EyeLike", since=9)
def eye_like(node, x):
    dtype = dtype_of(node, "dtype") if "dtype" in node.attributes else x.dtype
    if x.ndim != 2:
        raise ValueError(f"input has shape {x.shape}, expected a matrix")
    return np.eye(*x.shape, node.attributes.get("k", 0), dtype=dtype)


def converted(node, x, dtype):
    if x.dtype.name in SMALL:
        x = x.astype(np.float32)
    if x.dtype.name not in CONVERTIBLE:
        raise unsupported(node, f"type {x.dtype}")
    with np.errstate(all="ignore"):
        if dtype.name == "bfloat16" and x.dtype == np.float64:
            x = x.astype(np.float32)
        return x.astype(dtype)


@operator("Cast", since=6)
def cast(node, x):
    return converted(node, x, dtype_of(node))


@operator("CastLike", since=15)
def cast_like(node, x, like):
    if like.dtype.name not in CONVERTIBLE:
        raise unsupported(node, f"type {like.dtype}")
    return converted(node, x, like.dtype)


@operator("BitCast", since=26)
def bit_cast(node, x):
    dtype = dtype_of(node)
    if x.dtype.name not in CONVERTIBLE:
        raise unsupported(node, f"type {x.dtype}")
    if x.dtype.itemsize != dtype.itemsize:
        raise ValueError(f"{x.dtype} to {dtype}, expected a type of the same size")
    return np.ascontiguousarray(x).reshape(x.shape).view(dtype)


def window(name, *coefficients):
    """Sums of cosines, of a period of `size` samples, or of one less that it is symmetric."""

    @operator(name, since=17)
    def call(node, size):
        dtype = dtype_of(node, "output_datatype", 1)
        n = size.item()
        period = n if node.attributes.get("periodic", 1) else n - 1
        angle = 2 * np.pi * np.arange(n) / max(period, 1)
        return sum(c * np.cos(k * angle) for k, c in enumerate(coefficients)).astype(dtype)


window("HannWindow", 0.5, -0.5)
window("HammingWindow", 25 / 46, -21 / 46)
window("BlackmanWindow", 0.42, -0.5, 0.08)

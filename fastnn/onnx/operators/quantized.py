"""Quantised numbers, in NumPy; products of integers exactly, in float64."""

import numpy as np

from fastnn.onnx.graph import Node
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import axis_in, unsupported, wide, windows
from fastnn.onnx.operators.conv import convolution, pads_behind
from fastnn.onnx.operators.create import SMALL, dtype_of

INTEGERS = ("int8", "uint8", "int16", "uint16")


def along(node, x, parameter):
    """A scale or zero point, of the tensor, of an axis or of blocks of it, that broadcasts to x."""
    if parameter is None or parameter.size == 1:
        return parameter if parameter is None else parameter.reshape(())
    axis = axis_in(node, node.attributes.get("axis", 1), x.ndim)
    block = node.attributes.get("block_size", 0)
    if block:
        return np.repeat(parameter, block, axis).take(range(x.shape[axis]), axis)
    return parameter.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def quantized(x, scale, zero, dtype):
    """x / scale, rounded to the nearest even, plus zero, and in the range of dtype."""
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        y = np.rint(x / scale) + zero.astype(np.float32)
        return np.clip(y, info.min, info.max).astype(dtype)


@operator("QuantizeLinear", since=10)
def quantize(node, x, scale, zero=None):
    if zero is not None:
        dtype = zero.dtype
    else:
        dtype = dtype_of(node, "output_dtype") if node.attributes.get("output_dtype") else np.dtype(np.uint8)
        zero = np.zeros((), dtype)
    if dtype.name not in INTEGERS:
        raise unsupported(node, f"type {dtype}")
    precision = dtype_of(node, "precision") if node.attributes.get("precision") else scale.dtype
    x, scale = wide(x.astype(precision)), wide(along(node, x, scale).astype(precision))
    return np.asarray(quantized(x, scale, along(node, x, zero), dtype))


@operator("DequantizeLinear", since=10)
def dequantize(node, x, scale, zero=None):
    if x.dtype.name in SMALL:
        x, zero = x.astype(np.float32), None if zero is None else zero.astype(np.float32)
    elif x.dtype.name not in (*INTEGERS, "int32"):
        raise unsupported(node, f"type {x.dtype}")
    dtype = dtype_of(node, "output_dtype") if node.attributes.get("output_dtype") else scale.dtype
    x = x.astype(np.int64) if x.dtype.kind in "iu" else x
    difference = x if zero is None else x - along(node, x, zero)
    factor = wide(along(node, x, scale))
    return np.asarray(difference.astype(factor.dtype) * factor).astype(dtype, copy=False)


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize(node, x):
    """uint8 over the range of x and 0, with the scale and the zero point."""
    low, high = min(x.min(initial=0), 0), max(x.max(initial=0), 0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    return quantized(x, scale, zero, np.dtype(np.uint8)), np.asarray(scale), np.asarray(zero)


def shifted(x, zero, axis=None):
    """x - zero in float64; zero may be one for each index of an axis."""
    if zero is None:
        return x.astype(np.float64)
    if zero.size > 1 and zero.ndim == 1 and axis is not None:
        zero = zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return x.astype(np.float64) - (zero if zero.size > 1 else zero.reshape(()))


@operator("MatMulInteger", since=10)
def matmul_integer(node, a, b, a_zero=None, b_zero=None):
    return np.asarray(np.matmul(shifted(a, a_zero, -2), shifted(b, b_zero, -1))).astype(np.int32)


def integer_convolution(node, x, w, x_zero, w_zero):
    strides, dilations, begins, _, sizes = windows(node, x.shape[2:], w.shape[2:])
    ends = pads_behind(node, x.shape[2:], w.shape[2:])
    x, w = shifted(x, x_zero), shifted(w, w_zero, 0)
    return convolution(x, w, None, strides, begins, ends, dilations, node.attributes.get("group", 1), sizes)


@operator("ConvInteger", since=10)
def conv_integer(node: Node, x, w, x_zero=None, w_zero=None):
    return integer_convolution(node, x, w, x_zero, w_zero).astype(np.int32)


@operator("QLinearConv", since=10)
def qlinear_conv(node, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None):
    y = integer_convolution(node, x, w, x_zero, w_zero)
    channels = (-1, *[1] * (x.ndim - 2))
    if b is not None:
        y += b.reshape(channels)
    scale = y_scale / (x_scale * w_scale)
    return quantized(y, scale.reshape(channels) if scale.size > 1 else scale.reshape(()), y_zero, y_zero.dtype)


@operator("QLinearMatMul", since=10)
def qlinear_matmul(node, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    if y_zero.dtype.name not in INTEGERS:
        raise unsupported(node, f"type {y_zero.dtype}")
    y = np.matmul(shifted(a, a_zero, -2), shifted(b, b_zero, -1))
    scales = (wide(s).astype(np.float64) for s in (y_scale, a_scale, b_scale))
    of_y, of_a, of_b = (s if s.size > 1 else s.reshape(()) for s in scales)
    of_a = of_a[:, None] if of_a.ndim == 1 else of_a
    return quantized(y, of_y / (of_a * of_b), y_zero, y_zero.dtype)

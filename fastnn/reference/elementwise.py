"""Activations and other functions of one element (K9)."""

import math
from typing import NamedTuple

import numpy as np

__all__ = [
    "elu_backward",
    "elu_forward",
    "erf_backward",
    "erf_forward",
    "exp_backward",
    "exp_forward",
    "gelu_backward",
    "gelu_forward",
    "hardsigmoid_backward",
    "hardsigmoid_forward",
    "hardswish_backward",
    "hardswish_forward",
    "hardtanh_backward",
    "hardtanh_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "log_backward",
    "log_forward",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softplus_backward",
    "softplus_forward",
    "tanh_backward",
    "tanh_forward",
]


class ElementwiseCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    y: np.ndarray
    options: tuple


def result(x, y, out, keep, *options):
    """(y, ctx) with y of x's dtype, in `out` if there is one."""
    y = np.asarray(y, x.dtype)
    if out is not None:
        x = x.copy()
        out[...] = y
        y = out
    return y, ElementwiseCtx(x, y, options) if keep else None


def relu_forward(x, *, out=None, keep=True):
    """y = max(x, 0)"""
    return result(x, np.where(x <= 0, 0, x), out, keep)


def relu_backward(dy, ctx):
    """dx = dy * [x > 0]"""
    return np.where(ctx.x > 0, dy, dy.dtype.type(0))


def sigmoid_forward(x, *, out=None, keep=True):
    """y = 1 / (1 + exp(-x))"""
    return result(x, logistic(x), out, keep)


def logistic(x):
    """1 / (1 + exp(-x)), which for x < 0 is exp(x) / (1 + exp(x))"""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def sigmoid_backward(dy, ctx):
    """dx = dy * y * (1 - y)"""
    return dy * ctx.y * (1 - ctx.y)


def tanh_forward(x, *, out=None, keep=True):
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))"""
    return result(x, np.tanh(x), out, keep)


def tanh_backward(dy, ctx):
    """dx = dy * (1 - y^2)"""
    return dy * (1 - ctx.y**2)


def leaky_relu_forward(x, negative_slope=0.01, *, out=None, keep=True):
    """y = x if x > 0, else negative_slope * x"""
    return result(x, np.where(x > 0, x, negative_slope * x), out, keep, negative_slope)


def leaky_relu_backward(dy, ctx):
    """dx = dy if x > 0, else negative_slope * dy"""
    (negative_slope,) = ctx.options
    return np.where(ctx.x > 0, dy, negative_slope * dy)


def elu_forward(x, alpha=1.0, *, out=None, keep=True):
    """y = x if x > 0, else alpha * (exp(x) - 1)"""
    return result(x, np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), out, keep, alpha)


def elu_backward(dy, ctx):
    """dx = dy if x > 0, else dy * alpha * exp(x)"""
    (alpha,) = ctx.options
    return np.where(ctx.x > 0, dy, dy * alpha * np.exp(np.minimum(ctx.x, 0)))


def of_each(f, x):
    """A function of Python numbers, of every element."""
    return np.asarray(np.frompyfunc(f, 1, 1)(x), x.dtype)


GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBE = 0.044715


def gelu_forward(x, approximate="none", *, out=None, keep=True):
    """y = x Φ(x), Φ(x) = erfc(-x / √2) / 2; or x (1 + tanh u) / 2 = x σ(2u) with u = √(2/π) (x + 0.044715 x³)"""
    bounded = np.maximum(x, -40)  # -inf times 0 is 0 here
    if approximate == "none":
        y = bounded * of_each(math.erfc, -x / math.sqrt(2)) / 2
    else:
        y = bounded * logistic(2 * GELU_SCALE * (x + GELU_CUBE * x**3))
    return result(x, y, out, keep, approximate)


def gelu_backward(dy, ctx):
    """dx = dy * (Φ(x) + x φ(x)); or dy * (σ(2u) + x σ(2u) (1 - σ(2u)) 2u')"""
    x = np.clip(ctx.x, -40, 40)
    if ctx.options == ("none",):
        return dy * (of_each(math.erfc, -x / math.sqrt(2)) / 2 + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi))
    s = logistic(2 * GELU_SCALE * (x + GELU_CUBE * x**3))
    return dy * (s + x * s * (1 - s) * 2 * GELU_SCALE * (1 + 3 * GELU_CUBE * x**2))


def silu_forward(x, *, out=None, keep=True):
    """y = x σ(x)"""
    return result(x, np.maximum(x, -1000) * logistic(x), out, keep)  # -inf times 0 is 0 here


def silu_backward(dy, ctx):
    """dx = dy * σ(x) * (1 + x (1 - σ(x)))"""
    x = np.clip(ctx.x, -1000, 1000)
    s = logistic(x)
    return dy * s * (1 + x * (1 - s))


def softplus_forward(x, beta=1.0, threshold=20.0, *, out=None, keep=True):
    """y = log(1 + exp(beta x)) / beta, x where beta x > threshold"""
    y = np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)
    return result(x, y, out, keep, beta, threshold)


def softplus_backward(dy, ctx):
    """dx = dy * σ(beta x), dy where beta x > threshold"""
    beta, threshold = ctx.options
    return np.where(beta * ctx.x > threshold, dy, dy * logistic(beta * ctx.x))


def hardtanh_forward(x, min_val=-1.0, max_val=1.0, *, out=None, keep=True):
    """y = min(max(x, min_val), max_val)"""
    return result(x, np.clip(x, min_val, max_val), out, keep, min_val, max_val)


def hardtanh_backward(dy, ctx):
    """dx = dy where min_val < x < max_val, else 0"""
    min_val, max_val = ctx.options
    return np.where((ctx.x > min_val) & (ctx.x < max_val), dy, dy.dtype.type(0))


def relu6_forward(x, *, out=None, keep=True):
    """y = min(max(x, 0), 6)"""
    return hardtanh_forward(x, 0.0, 6.0, out=out, keep=keep)


def relu6_backward(dy, ctx):
    """dx = dy where 0 < x < 6, else 0"""
    return hardtanh_backward(dy, ctx)


def hardsigmoid_forward(x, *, out=None, keep=True):
    """y = min(max(x + 3, 0), 6) / 6"""
    return result(x, np.clip(x + 3, 0, 6) / 6, out, keep)


def hardsigmoid_backward(dy, ctx):
    """dx = dy / 6 where -3 < x < 3, else 0"""
    return np.where(np.abs(ctx.x) < 3, dy / 6, dy.dtype.type(0))


def hardswish_forward(x, *, out=None, keep=True):
    """y = x * min(max(x + 3, 0), 6) / 6"""
    return result(x, np.maximum(x, -3) * np.clip(x + 3, 0, 6) / 6, out, keep)  # -inf times 0 is 0 here


def hardswish_backward(dy, ctx):
    """dx = 0 if x <= -3, dy if x >= 3, else dy * (x / 3 + 1 / 2)"""
    slope = np.where(ctx.x >= 3, 1, np.maximum(ctx.x, -3) / 3 + 0.5)
    return dy * np.where(ctx.x <= -3, 0, slope).astype(dy.dtype)


def exp_forward(x, *, out=None, keep=True):
    """y = e^x"""
    return result(x, np.exp(x), out, keep)


def exp_backward(dy, ctx):
    """dx = dy * y"""
    return dy * ctx.y


def log_forward(x, *, out=None, keep=True):
    """y = log x"""
    with np.errstate(divide="ignore", invalid="ignore"):  # of 0 and of negative numbers
        return result(x, np.log(x), out, keep)


def log_backward(dy, ctx):
    """dx = dy / x"""
    return dy / ctx.x


def erf_forward(x, *, out=None, keep=True):
    """y = 2/√π ∫ exp(-t²) dt from 0 to x"""
    return result(x, of_each(math.erf, x), out, keep)


def erf_backward(dy, ctx):
    """dx = dy * 2/√π * exp(-x²)"""
    return dy * (2 / math.sqrt(math.pi)) * np.exp(-(ctx.x**2))

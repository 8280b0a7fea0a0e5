"""Activations and other functions of one element (K9).

They share what is said here. x: any shape, float32 or float64. out: a writable C-contiguous array of x's shape and
dtype to write y to, None for a new one; it may be x itself if keep is False or the backward pass needs y only.
keep: False in inference, when no backward pass follows. Returns (y, ctx).
"""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import number, one_of
from fastnn.kernels import elementwise as kernels
from fastnn.ops._arrays import array, array_of_shape, destination, empty_like

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

KEEPS_X = kernels.KEEPS_X


class ElementwiseCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    kept: np.ndarray
    """x or y, as the function's gradient is one of x or of y."""
    function: int
    """Its place in the table of kernels."""
    p: float = 0.0
    q: float = 0.0


def forward(op, function, x, out, keep, p=0.0, q=0.0):
    """(y, ctx) of a function in the kernels' table with parameters p and q."""
    x = array(x, op, "x")
    y = destination(out, op, x, keep and KEEPS_X[function])
    kernels.value(function, x, y, p, q)
    return y, ElementwiseCtx(x if KEEPS_X[function] else y, function, p, q) if keep else None


def backward_of(op, formula):
    """The operator's backward function."""

    def backward(dy, ctx):
        dy = array_of_shape(dy, op, "dy", ctx.kept.shape, ctx.kept)
        dx = empty_like(dy)
        kernels.gradient(ctx.function, dy, ctx.kept, dx, ctx.p, ctx.q)
        return dx

    backward.__name__ = backward.__qualname__ = f"{op}_backward"
    backward.__doc__ = formula
    return backward


RELU = kernels.FUNCTIONS["relu"]


def relu_forward(x, *, out=None, keep=True):
    """Rectified linear unit, y = max(x, 0); NaN stays NaN, and -0 becomes +0."""
    return forward("relu", RELU, x, out, keep)


relu_backward = backward_of("relu", "dx = dy * [x > 0].")

SIGMOID = kernels.FUNCTIONS["sigmoid"]


def sigmoid_forward(x, *, out=None, keep=True):
    """Logistic function, y = 1 / (1 + exp(-x)), within 4 units in the last place."""
    return forward("sigmoid", SIGMOID, x, out, keep)


sigmoid_backward = backward_of("sigmoid", "dx = dy * y * (1 - y).")

TANH = kernels.FUNCTIONS["tanh"]


def tanh_forward(x, *, out=None, keep=True):
    """Hyperbolic tangent, within 4 units in the last place."""
    return forward("tanh", TANH, x, out, keep)


tanh_backward = backward_of("tanh", "dx = dy * (1 - y^2).")

LEAKY_RELU = kernels.FUNCTIONS["leaky_relu"]


def leaky_relu_forward(x, negative_slope=0.01, *, out=None, keep=True):
    """y = x if x > 0, else negative_slope * x (Maas et al. 2013)."""
    return forward("leaky_relu", LEAKY_RELU, x, out, keep, number(negative_slope, "leaky_relu", "negative_slope"))


leaky_relu_backward = backward_of("leaky_relu", "dx = dy if x > 0, else negative_slope * dy.")

ELU = kernels.FUNCTIONS["elu"]


def elu_forward(x, alpha=1.0, *, out=None, keep=True):
    """Exponential linear unit (Clevert et al. 2016), y = x if x > 0, else alpha * (exp(x) - 1).

    Within 4 units in the last place.
    """
    return forward("elu", ELU, x, out, keep, number(alpha, "elu", "alpha"))


elu_backward = backward_of("elu", "dx = dy if x > 0, else dy * alpha * exp(x).")

GELU = {"none": kernels.FUNCTIONS["gelu"], "tanh": kernels.FUNCTIONS["gelu_tanh"]}


def gelu_forward(x, approximate="none", *, out=None, keep=True):
    """Gaussian error linear unit (Hendrycks & Gimpel 2016), y = x Φ(x) with the normal distribution Φ.

    approximate: "none", within 6 units in the last place, also where Φ(x) is tiny; or "tanh" for the paper's
    y = x (1 + tanh u) / 2 with u = √(2/π) (x + 0.044715 x³), within 5 units, and 2|u| more where x < 0.
    """
    return forward("gelu", GELU[one_of("gelu", "approximate", approximate, *GELU)], x, out, keep)


gelu_backward = backward_of("gelu", "dx = dy * (Φ(x) + x φ(x)), or the derivative of the approximation.")

SILU = kernels.FUNCTIONS["silu"]


def silu_forward(x, *, out=None, keep=True):
    """Sigmoid linear unit or swish (Elfwing et al. 2018), y = x σ(x), within 4 units in the last place."""
    return forward("silu", SILU, x, out, keep)


silu_backward = backward_of("silu", "dx = dy * σ(x) * (1 + x (1 - σ(x))).")

SOFTPLUS = kernels.FUNCTIONS["softplus"]


def softplus_forward(x, beta=1.0, threshold=20.0, *, out=None, keep=True):
    """y = log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.

    Within 4 units in the last place for beta = 1; rounding of beta x adds |beta x| units where that is negative.
    """
    beta, threshold = number(beta, "softplus", "beta"), number(threshold, "softplus", "threshold")
    return forward("softplus", SOFTPLUS, x, out, keep, beta, threshold)


softplus_backward = backward_of("softplus", "dx = dy * σ(beta x), dy itself where beta x > threshold.")

HARDTANH = kernels.FUNCTIONS["hardtanh"]


def hardtanh_forward(x, min_val=-1.0, max_val=1.0, *, out=None, keep=True):
    """y = min(max(x, min_val), max_val); NaN stays NaN."""
    low, high = number(min_val, "hardtanh", "min_val"), number(max_val, "hardtanh", "max_val")
    if not low <= high:
        raise ValueError(f"hardtanh: min_val is {min_val} and max_val {max_val}, expected min_val <= max_val")
    return forward("hardtanh", HARDTANH, x, out, keep, low, high)


hardtanh_backward = backward_of("hardtanh", "dx = dy where min_val < x < max_val, else 0.")


def relu6_forward(x, *, out=None, keep=True):
    """y = min(max(x, 0), 6); NaN stays NaN."""
    return forward("relu6", HARDTANH, x, out, keep, 0.0, 6.0)


relu6_backward = backward_of("relu6", "dx = dy where 0 < x < 6, else 0.")

HARDSIGMOID = kernels.FUNCTIONS["hardsigmoid"]


def hardsigmoid_forward(x, *, out=None, keep=True):
    """y = min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""
    return forward("hardsigmoid", HARDSIGMOID, x, out, keep)


hardsigmoid_backward = backward_of("hardsigmoid", "dx = dy / 6 where -3 < x < 3, else 0.")

HARDSWISH = kernels.FUNCTIONS["hardswish"]


def hardswish_forward(x, *, out=None, keep=True):
    """y = x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019); 0 of -inf."""
    return forward("hardswish", HARDSWISH, x, out, keep)


hardswish_backward = backward_of("hardswish", "dx = 0 if x <= -3, dy if x >= 3, else dy * (x / 3 + 1 / 2).")

EXP = kernels.FUNCTIONS["exp"]


def exp_forward(x, *, out=None, keep=True):
    """y = e^x, within 2 units in the last place."""
    return forward("exp", EXP, x, out, keep)


exp_backward = backward_of("exp", "dx = dy * y.")

LOG = kernels.FUNCTIONS["log"]


def log_forward(x, *, out=None, keep=True):
    """Natural logarithm, within 2 units in the last place; -inf of 0, NaN of negative numbers."""
    return forward("log", LOG, x, out, keep)


log_backward = backward_of("log", "dx = dy / x.")

ERF = kernels.FUNCTIONS["erf"]


def erf_forward(x, *, out=None, keep=True):
    """Error function, y = 2/√π ∫ exp(-t²) dt from 0 to x, within 4 units in the last place."""
    return forward("erf", ERF, x, out, keep)


erf_backward = backward_of("erf", "dx = dy * 2/√π * exp(-x²).")

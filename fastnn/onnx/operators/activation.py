"""Activations: our kernels, and products of them."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import FLOATS, alike, axis_in, through_float32, unsupported

SIXTH = float(np.float32(1 / 6))


def activation(name, since=1, **defaults):
    """Decorator of f(x, *values of the attributes), as operator."""

    def add(function):
        @operator(name, since=since)
        @through_float32
        def call(node, x):
            options = {key: node.attributes.get(key, default) for key, default in defaults.items()}
            with np.errstate(all="ignore"):
                return np.asarray(function(x, *options.values()))

        return function

    return add


@activation("LeakyRelu", since=6, alpha=0.01)
def leaky_relu(x, slope):
    return ops.leaky_relu_forward(x, slope, keep=False)[0]


@activation("Elu", since=6, alpha=1.0)
def elu(x, alpha):
    return ops.elu_forward(x, alpha, keep=False)[0]


@activation("Selu", since=6, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875)
def selu(x, alpha, gamma):
    y = elu(x, alpha)
    y *= gamma
    return y


@activation("Celu", since=12, alpha=1.0)
def celu(x, alpha):
    if alpha <= 0:
        return np.maximum(x, 0) + np.minimum(alpha * np.expm1(x / alpha), 0)
    y = elu(x / alpha, 1.0)
    y *= alpha
    return y


@activation("Gelu", since=20, approximate="none")
def gelu(x, approximate):
    return ops.gelu_forward(x, approximate, keep=False)[0]


@activation("Softplus")
def softplus(x):
    return ops.softplus_forward(x, threshold=40.0, keep=False)[0]  # ln(1 + e^-40) is no part of a float64


@activation("Mish", since=18)
def mish(x):
    y = softplus(x)
    return x * ops.tanh_forward(y, out=y, keep=False)[0]


@activation("HardSigmoid", since=6, alpha=0.2, beta=0.5)
def hard_sigmoid(x, alpha, beta):
    if (alpha, beta) == (SIXTH, 0.5):
        return ops.hardsigmoid_forward(x, keep=False)[0]
    return ops.hardtanh_forward(alpha * x + beta, 0.0, 1.0, keep=False)[0]


@activation("Softsign")
def softsign(x):
    return x / (1 + np.abs(x))


@activation("Swish", since=24, alpha=1.0)
def swish(x, alpha):
    if alpha == 1:
        return ops.silu_forward(x, keep=False)[0]
    return x * ops.sigmoid_forward(alpha * x, keep=False)[0]


@activation("ThresholdedRelu", since=10, alpha=1.0)
def thresholded_relu(x, alpha):
    return np.where(x > alpha, x, x.dtype.type(0))


@operator("Shrink", since=9)
@through_float32
def shrink(node, x):
    limit, bias = node.attributes.get("lambd", 0.5), node.attributes.get("bias", 0.0)
    zero = np.zeros((), x.dtype)
    return np.where(x < -limit, x + bias, np.where(x > limit, x - bias, zero)).astype(x.dtype)


@operator("SwiGLU", since=28)
@through_float32
def swiglu(node, a, b):
    alike(node, a, b)
    if a.shape != b.shape:
        raise ValueError(f"inputs have shapes {a.shape} and {b.shape}, expected one")
    return swish(a, node.attributes.get("alpha", 1.0)) * b


@operator("PRelu", since=7)
@through_float32
def prelu(node, x, slope):
    alike(node, x, slope)
    if slope.size == 1 and x.dtype in FLOATS:
        return ops.leaky_relu_forward(x, slope.item(), keep=False)[0]
    return np.where(x < 0, slope * x, x)


# ---- along an axis ----


def along_axis(name, function):
    """Before opset 13 all axes from `axis` on count as one."""

    @operator(name, since=13)
    @through_float32
    def call(node, x):
        return function(x, axis_in(node, node.attributes.get("axis", -1), x.ndim), keep=False)[0]

    @operator(name)
    @through_float32
    def call_flattened(node, x):
        axis = node.attributes.get("axis", 1)
        axis = axis if axis == x.ndim else axis_in(node, axis, x.ndim)
        rows = x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
        return function(rows, 1, keep=False)[0].reshape(x.shape)


along_axis("Softmax", ops.softmax_forward)
along_axis("LogSoftmax", ops.log_softmax_forward)
along_axis("Hardmax", ops.hardmax_forward)


# ---- dropout ----


@operator("Dropout", since=7)
def dropout(node, x, ratio=None, training=None):
    """The identity, as there is no training here: masks are random, so that nothing could be compared."""
    if training is not None and training.item() and (ratio is None or ratio.item() != 0):
        raise unsupported(node, "training mode")
    return x, np.ones(x.shape, bool)

"""Nodes as functions: weights in the form that kernels read, results written where the plan says.

`prepared(node, constants)` is for every node; those without an entry here run as `operators` has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from fastnn import ops
from fastnn.descriptors import conv2d_desc
from fastnn.onnx.graph import Node
from fastnn.onnx.operators import lookup, recurrent
from fastnn.ops import inference

__all__ = ["Prepared", "convolves", "multiplies", "prepared"]

REAL = (np.dtype(np.float32), np.dtype(np.float64))


class Prepared(NamedTuple):
    """A node that is ready to be called."""

    function: Callable
    """(*inputs) -> result, or a tuple of them; with writes also out=, an array for the result"""
    writes: bool = False
    over: tuple[int, ...] = ()
    """Inputs that `out` may be, if they have the result's shape and dtype."""


def prepared(node: Node, constants: dict[str, np.ndarray]) -> Prepared:
    """The function of a node. constants: arrays by name that will not change.

    UnsupportedOperator if there is none.
    """
    if node.domain in ("", "fastnn") and node.op in TABLE:
        found = TABLE[node.op](node, [constants.get(name) for name in node.inputs])
        if found is not None:
            return found
    return Prepared(partial(lookup(node), node))


# ---- one function an operator: (node, its inputs where they are constant) -> Prepared, None to decline ----


def convolves(node, constants):
    """Whether a Conv is two-dimensional and has constant filters."""
    w = constants[1]
    return w is not None and w.ndim == 4 and w.dtype in REAL and w.size > 0


def convolution(node, constants):
    """Conv; as fastnn.Conv with `activation` and an array to add."""
    if not convolves(node, constants):
        return None
    a, w = node.attributes, constants[1]
    strides, dilations = (tuple(a.get(name, (1, 1))) for name in ("strides", "dilations"))
    form, groups, activation = ops.prepare_conv2d(w), a.get("group", 1), a.get("activation")
    pads_of = padding_of(a, w.shape[2:], strides, dilations)

    def conv(x, _, b=None, add=None, out=None):
        layout = strides, pads_of(x), dilations, groups
        if add is None or add.shape == conv2d_desc(x.shape, w.shape, *layout).y_shape:
            return inference.conv2d(x, form, b, *layout, activation=activation, add=add, out=out)
        y = np.add(inference.conv2d(x, form, b, *layout), add, out=out)  # with broadcasting
        return y if activation is None else ops.relu_forward(y, out=y, keep=False)[0]

    return Prepared(conv, True, (3,) if len(node.inputs) > 3 else ())


def padding_of(attributes, kernel, strides, dilations):
    """A function of x: (top, bottom, left, right)."""
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0)) if mode == "NOTSET" else (0, 0, 0, 0)
        return lambda x: (top, bottom, left, right)

    def same(x):
        pads = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            small, large = total // 2, total - total // 2
            pads += (small, large) if mode == "SAME_UPPER" else (large, small)
        return tuple(pads)

    return same


def multiplies(node, constants):
    """Whether a Gemm or MatMul is a linear layer: its matrix is constant, and what is added is a constant vector."""
    b, *others = constants[1:]
    if b is None or b.ndim != 2 or b.dtype not in REAL or b.size == 0 or node.attributes.get("transA", 0):
        return False
    if not any(node.inputs[2:]):
        return True
    c = others[0]
    size = b.shape[0 if node.attributes.get("transB", 0) else 1]
    return c is not None and c.size in (1, size) and c.shape[-1:] in ((), (c.size,)) and c.dtype == b.dtype


def linear(node, constants):
    """Gemm, MatMul and fastnn.Linear."""
    if not multiplies(node, constants):
        return None
    a, w = node.attributes, constants[1]
    if not a.get("transB", 0):
        w = w.T
    alpha, beta, activation = a.get("alpha", 1.0), a.get("beta", 1.0), a.get("activation")
    w = np.ascontiguousarray(w if alpha == 1 else w * w.dtype.type(alpha))
    bias = None
    if any(node.inputs[2:]):
        bias = np.broadcast_to(constants[2].reshape(-1) * w.dtype.type(beta), (len(w),)).copy()

    def product(x, *_, out=None):
        return inference.linear(x, w, bias, activation=activation, out=out)

    return Prepared(product, True)


def max_pool(node, constants):
    """Two-dimensional, without the indices."""
    a = node.attributes
    if len(node.outputs) > 1 or len(a["kernel_shape"]) != 2 or a.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    size = a["kernel_shape"]
    if (top, left) != (bottom, right) or 2 * top > size[0] or 2 * left > size[1]:
        return None
    options = (
        tuple(size),
        tuple(a.get("strides", (1, 1))),
        (top, left),
        tuple(a.get("dilations", (1, 1))),
        bool(a.get("ceil_mode", 0)),
    )
    general = lookup(node)

    def pool(x, out=None):
        if x.dtype not in REAL:
            return general(node, x)
        return inference.max_pool2d(x, *options, out=out)

    return Prepared(pool, True)


FUNCTIONS = {
    "Relu": (ops.relu_forward, {}),
    "Sigmoid": (ops.sigmoid_forward, {}),
    "Tanh": (ops.tanh_forward, {}),
    "Erf": (ops.erf_forward, {}),
    "Exp": (ops.exp_forward, {}),
    "Log": (ops.log_forward, {}),
    "HardSwish": (ops.hardswish_forward, {}),
    "LeakyRelu": (ops.leaky_relu_forward, {"negative_slope": ("alpha", 0.01)}),
    "Elu": (ops.elu_forward, {"alpha": ("alpha", 1.0)}),
    "Gelu": (ops.gelu_forward, {"approximate": ("approximate", "none")}),
}
"""Operator -> function of one element, and its options: attribute and default"""


def elementwise(node, constants):
    forward, options = FUNCTIONS[node.op]
    options = {name: node.attributes.get(*attribute) for name, attribute in options.items()}
    return unary(node, partial(forward, **options, keep=False))


def clip(node, constants):
    """Between constant bounds."""
    bounds = list(constants[1:])
    if any(b is None and name for b, name in zip(bounds, node.inputs[1:], strict=True)):
        return None
    bounds += [None] * (2 - len(bounds))
    values = [
        float(b.item()) if b is not None else node.attributes.get(name)
        for b, name in zip(bounds, ("min", "max"), strict=True)
    ]
    low, high = (d if v is None else v for v, d in zip(values, (-np.inf, np.inf), strict=True))
    if not low < high:
        return None
    return unary(node, partial(ops.hardtanh_forward, min_val=low, max_val=high, keep=False))


def unary(node, forward):
    general = lookup(node)

    def function(x, *others, out=None):
        if x.dtype not in REAL:
            return general(node, x, *others)
        return forward(x, out=out)[0]

    return Prepared(function, True, (0,))


UFUNCS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def arithmetic(node, constants):
    """Of two arrays, with broadcasting; sums of arrays of one shape are a kernel's."""
    general, ufunc = lookup(replace(node, domain="")), UFUNCS[node.op]
    adds, relu = node.op == "Add", node.attributes.get("activation") == "relu"

    def function(a, b, out=None):
        if a.dtype not in REAL or a.dtype != b.dtype:
            y = general(node, a, b)
            return np.maximum(y, y.dtype.type(0)) if relu else y
        if adds and a.shape == b.shape:
            return ops.add_forward(a, b, relu=relu, out=out, keep=False)[0]
        y = np.asarray(ufunc(a, b, out=out))
        return ops.relu_forward(y, out=y, keep=False)[0] if relu else y

    return Prepared(function, True, (0, 1))


CELLS = {"RNN": recurrent.Rnn, "GRU": recurrent.Gru, "LSTM": recurrent.Lstm}


def sequence(node, constants):
    """A recurrent network with constant weights: the rows of the gates are put in our order now."""
    w, r, b = [*constants, None][1:4]
    absent = len(node.inputs) < 4 or not node.inputs[3]
    if w is None or r is None or (b is None and not absent) or w.dtype not in REAL or w.ndim != 3 or len(w) != len(r):
        return None
    cell = CELLS[node.op]
    weights = [cell.weights(node, w[i], r[i], None if b is None else b[i]) for i in range(len(w))]
    return Prepared(partial(recurrent.run, node, cell, weights=weights))


TABLE = {
    **dict.fromkeys(CELLS, sequence),
    "Conv": convolution,
    "Gemm": linear,
    "MatMul": linear,
    "Linear": linear,
    "MaxPool": max_pool,
    "Clip": clip,
    **dict.fromkeys(FUNCTIONS, elementwise),
    **dict.fromkeys(UFUNCS, arithmetic),
}

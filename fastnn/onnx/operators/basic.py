"""The operators that a convolutional network is made of."""

from math import prod

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator


@operator("Relu")
def relu(node, x):
    return ops.relu_forward(x, keep=False)[0]


@operator("Add", since=7)
def add(node, a, b):
    return np.add(a, b)


@operator("Conv")
def conv(node, x, w, b=None):
    a = node.attributes
    strides, dilations = (tuple(a.get(name, (1, 1))) for name in ("strides", "dilations"))
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    return ops.conv2d_forward(x, w, b, strides, (top, bottom, left, right), dilations, a.get("group", 1), keep=False)[0]


@operator("Gemm", since=7)
def gemm(node, a, b, c=None):
    attributes = node.attributes
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    y = attributes.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attributes.get("beta", 1.0) * c


@operator("MaxPool")
def max_pool(node, x):
    a = node.attributes
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    return ops.max_pool2d_forward(
        x, tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1))), (top, left), keep=False
    )[0]


@operator("GlobalAveragePool")
def global_average_pool(node, x):
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


@operator("Flatten")
def flatten(node, x):
    axis = node.attributes.get("axis", 1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Reshape", since=5)
def reshape(node, x, shape):
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


@operator("Identity")
def identity(node, x):
    return x

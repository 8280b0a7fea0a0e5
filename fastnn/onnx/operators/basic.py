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


@operator("Dropout")
def dropout(node, x, *others):
    return x


@operator("MatMul")
def matmul(node, a, b):
    return np.matmul(a, b)


@operator("Squeeze", since=13)
def squeeze(node, x, axes):
    return np.squeeze(x, tuple(axes.tolist()))


@operator("BatchNormalization")
def batch_norm(node, x, scale, shift, mean, var):
    return ops.batch_norm_forward(
        x, scale, shift, mean.copy(), var.copy(), training=False, eps=node.attributes.get("epsilon", 1e-5), keep=False
    )[0]


@operator("LSTM")
def lstm(node, x, w, r, b=None):
    size = r.shape[2]
    order = np.concatenate([np.arange(size) + size * k for k in (0, 2, 3, 1)])
    y, h, c = ops.lstm_forward(
        x, w[0][order], r[0][order], b[0][: 4 * size][order], b[0][4 * size :][order], keep=False
    )[0]
    return y[:, None], h[None], c[None]

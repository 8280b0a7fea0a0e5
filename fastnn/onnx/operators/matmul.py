"""Matrix products."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import FLOATS, alike, through_float32
from fastnn.ops.linear import product


def matrix_product(a, b):
    """a b, by our kernel for two matrices, or many rows times one."""
    if a.dtype not in FLOATS or b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
        return np.asarray(np.matmul(a, b))
    y = ops.matmul_forward(a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]), b, keep=False)[0]
    return y.reshape(*a.shape[:-1], b.shape[1])


@operator("MatMul")
@through_float32
def matmul(node, a, b):
    alike(node, a, b)
    return matrix_product(a, b)


@operator("Gemm", since=7)
@through_float32
def gemm(node, a, b, c=None):
    """alpha a' b' + beta c, where a' and b' may be transposed."""
    alike(node, a, b, *(() if c is None else (c,)))
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"A and B have shapes {a.shape} and {b.shape}, expected matrices")
    o = node.attributes
    alpha, beta = o.get("alpha", 1.0), o.get("beta", 1.0)
    left, right = a.T if o.get("transA") else a, b.T if o.get("transB") else b
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"A and B have shapes {left.shape} and {right.shape}, transposed as they are to be")
    if a.dtype not in FLOATS:
        y = alpha * np.matmul(left, right)
        return (y if c is None else y + beta * c).astype(a.dtype)
    if o.get("transB") and alpha == 1 and left.size and right.size:
        bias = c.reshape(-1) if c is not None and beta == 1 and c.shape in ((len(b),), (1, len(b))) else None
        y = ops.linear_forward(left, b, bias, keep=False)[0]
        c = None if bias is not None else c
    else:
        y = product(left, right)
        if alpha != 1:
            y *= alpha
    if c is not None:
        y += c if beta == 1 else beta * c
    return y


@operator("Einsum", since=12)
@through_float32
def einsum(node, *arrays):
    alike(node, *arrays)
    return np.asarray(np.einsum(node.attributes["equation"], *arrays, optimize=len(arrays) > 1))


@operator("Det", since=11)
@through_float32
def det(node, x):
    return np.asarray(np.linalg.det(x))

"""Stateless functions with the names and argument order of `torch.nn.functional`: arrays in, arrays out."""

from fastnn import ops

__all__ = ["conv2d", "linear", "matmul", "relu"]


def relu(input):
    """max(input, 0); any shape, float32 or float64."""
    return ops.relu_forward(input, keep=False)[0]


def linear(input, weight, bias=None):
    """input weight^T + bias; input (N, D), weight (M, D), bias (M,) or None; returns (N, M)."""
    return ops.linear_forward(input, weight, bias, keep=False)[0]


def matmul(input, other):
    """The matrix product of input (M, K) and other (K, N)."""
    return ops.matmul_forward(input, other, keep=False)[0]


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of input (N, C, H, W) with weight (K, C/groups, R, S); see ops.conv2d_forward."""
    return ops.conv2d_forward(input, weight, bias, stride, padding, dilation, groups, keep=False)[0]

"""Local response normalisation (K15)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import ResponseNormDesc, number, response_norm_desc
from fastnn.kernels import response_norm as kernels
from fastnn.ops._arrays import array, array_of_shape, empty_like

__all__ = ["local_response_norm_backward", "local_response_norm_forward"]


class ResponseNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: ResponseNormDesc
    x: np.ndarray
    options: tuple[float, float, float]
    """alpha, beta, k"""


def local_response_norm_forward(x, size, alpha=1e-4, beta=0.75, k=1.0, *, keep=True):
    """Local response normalisation across channels, y = x / (k + alpha / size Σ x^2)^beta, the sum over the `size`
    channels around each, zeros beyond the first and the last (Krizhevsky, Sutskever & Hinton 2012, whose alpha is
    alpha / size here, as PyTorch has it).

    x: (N, C, *spatial), float32 or float64. Of an even size, one channel more lies before than behind.
    Returns (y, ctx).
    Raises ValueError for a size below 1, and for an alpha or k below 0, with which the base could be negative.
    """
    x = array(x, "local_response_norm", "x")
    desc = response_norm_desc(x.shape, size)
    options = tuple(
        number(value, "local_response_norm", name) for name, value in (("alpha", alpha), ("beta", beta), ("k", k))
    )
    for name, value in (("alpha", options[0]), ("k", options[2])):
        if not value >= 0:
            raise ValueError(f"local_response_norm: {name} must not be negative or NaN, got {value}")
    y = empty_like(x)
    if desc.elements:
        kernels.response_norm(x, y, desc.n, desc.c, desc.s, desc.size, *options, desc.flops, desc.bytes(x.itemsize))
    return y, ResponseNormCtx(desc, x, options) if keep else None


def local_response_norm_backward(dy, ctx):
    """dx_c = dy_c d_c^-beta - 2 alpha beta / size x_c Σ dy_i x_i d_i^(-beta-1), d the base of the power and the sum
    over the channels i that channel c counts for."""
    desc, x = ctx.desc, ctx.x
    dy = array_of_shape(dy, "local_response_norm", "dy", x.shape, x)
    dx = empty_like(x)
    if desc.elements:
        kernels.response_norm_backward(
            dy, x, dx, desc.n, desc.c, desc.s, desc.size, *ctx.options, desc.backward_flops,
            desc.backward_bytes(x.itemsize),
        )  # fmt: skip
    return dx

"""Local response normalisation (K15)."""

from typing import NamedTuple

import numpy as np

__all__ = ["local_response_norm_backward", "local_response_norm_forward"]


class ResponseNormCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    base: np.ndarray
    size: int
    alpha: float
    beta: float


def window_sum(a, before, after):
    """Of each channel, the sum over the channels from `before` before to `after` behind it."""
    channels = range(a.shape[1])
    return np.stack([a[:, max(0, c - before) : c + after + 1].sum(1) for c in channels], 1) if a.size else a


def local_response_norm_forward(x, size, alpha=1e-4, beta=0.75, k=1.0, *, keep=True):
    """y = x / (k + alpha / size Σ x^2)^beta over `size` channels around each (Krizhevsky et al. 2012)."""
    base = k + alpha / size * window_sum(np.square(x), size // 2, (size - 1) // 2)
    y = (x / base**beta).astype(x.dtype, copy=False)
    return y, ResponseNormCtx(x, base, size, alpha, beta) if keep else None


def local_response_norm_backward(dy, ctx):
    """dx_c = dy_c d_c^-beta - 2 alpha beta / size x_c Σ_i dy_i x_i d_i^(-beta-1), c in the window of channel i."""
    x, base, size, beta = ctx.x, ctx.base, ctx.size, ctx.beta
    shares = window_sum(dy * x * base ** (-beta - 1), (size - 1) // 2, size // 2)
    dx = dy * base**-beta - 2 * ctx.alpha * beta / size * x * shares
    return dx.astype(dy.dtype, copy=False)

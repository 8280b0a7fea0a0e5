"""Embedding (K15)."""

from typing import NamedTuple

import numpy as np

__all__ = ["embedding_backward", "embedding_forward"]


class EmbeddingCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    weight: np.ndarray
    padding_idx: int | None
    scale_grad_by_freq: bool


def embedding_forward(
    x, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False, *, keep=True
):
    """y[…, :] = weight[x[…], :]"""
    if max_norm is not None:
        for v in np.unique(x):
            norm = np.linalg.norm(weight[v], norm_type)
            if norm > max_norm:
                weight[v] *= max_norm / (norm + 1e-7)
    return weight[x], EmbeddingCtx(x, weight, padding_idx, scale_grad_by_freq) if keep else None


def embedding_backward(dy, ctx):
    """dweight[v] = Σ dy over the places where x is v"""
    x, weight, padding_idx, scale_grad_by_freq = ctx
    dweight = np.zeros_like(weight)
    np.add.at(dweight, x, dy)
    if scale_grad_by_freq:
        dweight /= np.maximum(np.bincount(x.ravel(), minlength=len(weight)), 1).astype(weight.dtype)[:, None]
    if padding_idx is not None:
        dweight[padding_idx] = 0
    return dweight

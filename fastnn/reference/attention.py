"""Attention (K14)."""

from typing import NamedTuple

import numpy as np

__all__ = [
    "additive_attention_backward",
    "additive_attention_forward",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
    "scaled_dot_product_attention_weights_backward",
    "scaled_dot_product_attention_weights_forward",
]


class AttentionCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    mask: np.ndarray | None
    is_causal: bool
    scale: float
    group: int
    weights: np.ndarray


def softmax_or_zeros(x):
    """Softmax along the last axis; zeros where all is -inf, or nothing."""
    m = x.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(x - np.where(m == -np.inf, 0, m))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def additive(mask):
    """A mask as numbers to add to scores."""
    return np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else mask


def mask_gradient(dscores, mask):
    """The sum over the axes along which the mask was broadcast; None of bools."""
    if mask is None or mask.dtype == np.bool_:
        return None
    padded = (1,) * (dscores.ndim - mask.ndim) + mask.shape
    axes = tuple(i for i, n in enumerate(padded) if n == 1)
    return dscores.sum(axis=axes, keepdims=True).reshape(mask.shape)


def seen(ctx, t):
    """How many keys query t can see."""
    s = ctx.k.shape[-2]
    return min(t + 1, s) if ctx.is_causal else s


def forward(q, k, v, mask, is_causal, scale, enable_gqa):
    """(y, ctx)"""
    group = q.shape[-3] // k.shape[-3] if enable_gqa and k.shape[-3] else 1
    if group > 1:
        k, v = (x.repeat(group, axis=-3) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = np.zeros((*q.shape[:-1], k.shape[-2]), q.dtype)
    ctx = AttentionCtx(q, k, v, mask, is_causal, scale, group, weights)
    y = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    full = None if mask is None else np.broadcast_to(additive(mask), weights.shape)
    for t in range(q.shape[-2]):
        n = seen(ctx, t)
        scores = scale * (k[..., :n, :] @ q[..., t, :, None])[..., 0]
        if mask is not None:
            scores = scores + full[..., t, :n]
        a = weights[..., t, :n] = softmax_or_zeros(scores)
        y[..., t, :] = (a[..., None, :] @ v[..., :n, :])[..., 0, :]
    return y, ctx


def backward(dy, dweights, ctx, needs):
    """The chain rule, query by query."""
    q, k, v, mask, _, scale, group, weights = ctx
    dq, dk, dv, dscores = (np.zeros_like(x) for x in (q, k, v, weights))
    for t in range(q.shape[-2]):
        n = seen(ctx, t)
        a, q_t, dy_t = weights[..., t, :n], q[..., t, None, :], dy[..., t, None, :]
        dv[..., :n, :] += a[..., None] * dy_t
        da = (dy_t @ v[..., :n, :].swapaxes(-1, -2))[..., 0, :]
        if dweights is not None:
            da = da + dweights[..., t, :n]
        ds = dscores[..., t, :n] = a * (da - (a * da).sum(axis=-1, keepdims=True))
        dq[..., t, :] = scale * (ds[..., None, :] @ k[..., :n, :])[..., 0, :]
        dk[..., :n, :] += scale * ds[..., None] * q_t
    if group > 1:
        dk, dv = (x.reshape(*x.shape[:-3], x.shape[-3] // group, group, *x.shape[-2:]).sum(axis=-3) for x in (dk, dv))
    dmask = mask_gradient(dscores, mask)
    return tuple(grad if need else None for grad, need in zip((dq, dk, dv, dmask), needs, strict=True))


def scaled_dot_product_attention_forward(
    q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False, *, keep=True
):
    """y_t = Σ_s a_ts v_s with a_t = softmax of scale q_t · k_s + mask_ts over the keys s that query t sees."""
    y, ctx = forward(q, k, v, mask, is_causal, scale, enable_gqa)
    return y, ctx if keep else None


def scaled_dot_product_attention_backward(dy, ctx, needs=(True,) * 4):
    """dv_s = Σ_t a_ts dy_t, da_ts = dy_t · v_s, and the softmax's gradient through scores and mask."""
    return backward(dy, None, ctx, needs)


def scaled_dot_product_attention_weights_forward(
    q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False, *, keep=True
):
    """The same, and a."""
    y, ctx = forward(q, k, v, mask, is_causal, scale, enable_gqa)
    return (y, ctx.weights), ctx if keep else None


def scaled_dot_product_attention_weights_backward(dy, ctx, needs=(True,) * 4):
    """The same, with the gradient at a added to da."""
    dy, dweights = dy
    dy = np.zeros((*ctx.q.shape[:-1], ctx.v.shape[-1]), ctx.q.dtype) if dy is None else dy
    return backward(dy, dweights, ctx, needs)


class AdditiveAttentionCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    q: np.ndarray
    k: np.ndarray
    weight: np.ndarray
    v: np.ndarray
    mask: np.ndarray | None
    tanh: np.ndarray
    """(…, T, S, A)"""
    weights: np.ndarray


def additive_attention_forward(q, k, weight, v, mask=None, *, keep=True):
    """y_t = Σ_s a_ts v_s with a_t = softmax of weight · tanh(q_t + k_s) + mask_ts over the keys s."""
    tanh = np.tanh(q[..., :, None, :] + k[..., None, :, :])
    scores = tanh @ weight
    weights = softmax_or_zeros(scores if mask is None else scores + additive(mask)).astype(q.dtype)
    return (weights @ v, weights), AdditiveAttentionCtx(q, k, weight, v, mask, tanh, weights) if keep else None


def additive_attention_backward(dy, ctx, needs=(True,) * 5):
    """The chain rule through the formula of additive_attention_forward."""
    q, _, weight, v, mask, tanh, weights = ctx
    dy, dweights = dy
    dy = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype) if dy is None else dy
    dv = weights.swapaxes(-1, -2) @ dy
    da = dy @ v.swapaxes(-1, -2)
    if dweights is not None:
        da = da + dweights
    dscores = weights * (da - (weights * da).sum(axis=-1, keepdims=True))
    du = dscores[..., None] * (1 - tanh**2) * weight
    dweight = (dscores[..., None] * tanh).reshape(-1, weight.size).sum(axis=0)
    grads = du.sum(axis=-2), du.sum(axis=-3), dweight, dv, mask_gradient(dscores, mask)
    return tuple(grad if need else None for grad, need in zip(grads, needs, strict=True))

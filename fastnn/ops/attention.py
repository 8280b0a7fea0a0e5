"""Attention (K14)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import AttentionDesc, additive_attention_desc, attention_desc, flag, number
from fastnn.kernels import additive_attention as additive_kernels
from fastnn.kernels import attention as kernels
from fastnn.ops._arrays import array, array_of_shape, arrays_alike, empty, refuse_mask
from fastnn.ops.recurrent import parts_of

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

    desc: AttentionDesc
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    mask: np.ndarray | None
    is_causal: bool
    scale: float
    y: np.ndarray
    maxima: np.ndarray
    """Of the scores of each query, and 1 / Σ e^(score - maximum)."""
    norms: np.ndarray
    weights: np.ndarray | None


def mask_array(mask, op, like):
    """The mask as the kernel takes it: contiguous, of bools or of like's dtype."""
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        refuse_mask(mask, op, "mask")
        return np.ascontiguousarray(mask)
    if isinstance(mask, np.ndarray) and mask.dtype.kind != "f":
        raise TypeError(f"{op}: mask has dtype {mask.dtype}, expected bool, or {like.dtype} to add to the scores")
    return array(mask, op, "mask", like=like)


def mask_steps(mask, desc):
    """(where the mask of each head begins, steps from key to key, from query to query), in bytes and in elements."""
    strides = np.broadcast_to(mask, desc.weights_shape).strides
    begins = np.zeros(1, np.intp)
    for n, stride in zip(desc.lead, strides[:-2], strict=True):
        begins = (begins[:, None] + np.arange(n) * stride).ravel()
    return begins, strides[-1] // mask.itemsize, strides[-2] // mask.itemsize


def arguments(desc, q, k, v, mask, is_causal, scale, maxima, norms, weights):
    """What the kernels take, with all axes before the last two as one."""
    begins, row, column = (None, 0, 0) if mask is None else mask_steps(mask, desc)
    q = q.reshape(desc.heads, desc.t, desc.e)
    k = k.reshape(desc.heads // desc.group, desc.s, desc.e)
    v = v.reshape(desc.heads // desc.group, desc.s, desc.ev)
    return kernels.Arguments(
        q, k, v, desc.group, mask, begins, row, column, is_causal, scale, maxima, norms, weights)  # fmt: skip


def forward(op, q, k, v, mask, is_causal, scale, enable_gqa, need_weights, keep):
    """(y, weights or None, ctx)"""
    q = array(q, op, "q")
    k = array(k, op, "k", like=q)
    v = array(v, op, "v", like=q)
    mask = None if mask is None else mask_array(mask, op, q)
    enable_gqa, is_causal = flag(enable_gqa, op, "enable_gqa"), flag(is_causal, op, "is_causal")
    desc = attention_desc(op, q.shape, k.shape, v.shape, None if mask is None else mask.shape, enable_gqa)
    scale = desc.e**-0.5 if scale is None else number(scale, op, "scale")
    y = empty(desc.y_shape, q)
    weights = empty(desc.weights_shape, q) if need_weights else None
    maxima, norms = (empty((desc.heads, desc.t), q) for _ in range(2)) if keep or need_weights else (None, None)
    if y.size and desc.s:
        kernels.forward(arguments(desc, q, k, v, mask, is_causal, scale, maxima, norms, weights), y)
    else:
        y.fill(0)
    ctx = AttentionCtx(desc, q, k, v, mask, is_causal, scale, y, maxima, norms, weights) if keep else None
    return y, weights, ctx


def backward(op, dy, dweights, ctx, needs):
    """(dq, dk, dv, dmask); dy and dweights may be None for zero."""
    desc, q, k, v, mask, is_causal, scale, y, maxima, norms, weights = ctx
    dy = np.zeros_like(y) if dy is None else array_of_shape(dy, op, "dy", desc.y_shape, q)
    if dweights is not None:
        dweights = array_of_shape(dweights, op, "dweights", desc.weights_shape, q)
    dq, dk, dv = (empty(x.shape, x) if need else None for x, need in zip((q, k, v), needs[:3], strict=True))
    dscores = None
    if needs[3] and mask is not None and mask.dtype != np.bool_:
        # of the keys that a query does not see nothing is written
        dscores = np.zeros(desc.weights_shape, q.dtype) if is_causal else empty(desc.weights_shape, q)
    if y.size and desc.s:
        args = arguments(desc, q, k, v, mask, is_causal, scale, maxima, norms, weights)
        kernels.backward(args, dy, y, dweights, dq, dk, dv, dscores)
    else:
        for gradient in dq, dk, dv:
            if gradient is not None:
                gradient.fill(0)
    return dq, dk, dv, None if dscores is None else unbroadcast(dscores, mask.shape)


def unbroadcast(x, shape):
    """The sum over the axes that broadcasting to x's shape has added or stretched."""
    more = x.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(x.shape) if i < more or (shape[i - more] == 1 and n != 1))
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        return x.sum(axis=stretched).reshape(shape) if stretched else x


def scaled_dot_product_attention_forward(
    q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False, *, keep=True
):
    """Scaled dot-product attention (Vaswani et al. 2017): y = softmax(scale q kᵀ + mask) v, softmax over the keys.

    q: (…, T, E), T queries. k: (…, S, E), S keys. v: (…, S, Ev), their values; the axes before are the same in all
    three, but with enable_gqa the last of them may be a multiple in q: so many neighbouring heads of q share the keys
    and values of one head. mask: broadcasts to (…, T, S); of bools, True where a query sees a key; or numbers to add to
    the scores. is_causal: query t sees the keys up to t, besides what the mask says. scale: None for 1/√E. All float32
    or float64, of one dtype.
    A query that sees no key, or whose scores are all -inf, gets zeros. Returns (y, ctx) with y (…, T, Ev).
    Scores exist in blocks of 128 keys and 32 queries at most, and for T <= 8 those of one head. Scratch memory of a
    thread is at most 384 (E + Ev) + 4608 numbers, and S T more for T <= 8; 416 (E + Ev) + 53000 of the backward pass.
    """
    op = "scaled_dot_product_attention"
    y, _, ctx = forward(op, q, k, v, mask, is_causal, scale, enable_gqa, False, keep)
    return y, ctx


def scaled_dot_product_attention_backward(dy, ctx, needs=(True,) * 4):
    """(dq, dk, dv, dmask); dmask is None of bools. With the weights p, and dp = dy vᵀ: dv = pᵀ dy,
    ds = p (dp - Σ p dp), dmask = ds, dq = scale ds k, dk = scale dsᵀ q.

    The weights are computed again from q, k and each query's maximum and sum. dmask takes an array (…, T, S), which is
    then summed over the axes along which the mask was broadcast.
    """
    return backward("scaled_dot_product_attention", dy, None, ctx, needs)


def scaled_dot_product_attention_weights_forward(
    q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False, *, keep=True
):
    """The same, and the weights themselves: ((y, weights), ctx) with weights (…, T, S), 0 for keys not seen."""
    op = "scaled_dot_product_attention_weights"
    y, weights, ctx = forward(op, q, k, v, mask, is_causal, scale, enable_gqa, True, keep)
    return (y, weights), ctx


def scaled_dot_product_attention_weights_backward(dy, ctx, needs=(True,) * 4):
    """The same gradients; dy: (dy, dweights), each of which may be None for zero. dp = dy vᵀ + dweights."""
    op = "scaled_dot_product_attention_weights"
    dy, dweights = parts_of(dy, op, ("dy", "dweights"))
    return backward(op, dy, dweights, ctx, needs)


class AdditiveAttentionCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    desc: AttentionDesc
    q: np.ndarray
    k: np.ndarray
    weight: np.ndarray
    v: np.ndarray
    mask: np.ndarray | None
    weights: np.ndarray


def additive_arguments(desc, q, k, weight, v, mask, weights):
    """What the kernels take, with all axes before the last two as one."""
    begins, row, column = (None, 0, 0) if mask is None else mask_steps(mask, desc)
    q = q.reshape(desc.heads, desc.t, desc.e)
    k = k.reshape(desc.heads, desc.s, desc.e)
    v = v.reshape(desc.heads, desc.s, desc.ev)
    return additive_kernels.Arguments(q, k, weight, v, mask, begins, row, column, weights)


def additive_attention_forward(q, k, weight, v, mask=None, *, keep=True):
    """Additive attention (Bahdanau et al. 2014): y = softmax(e + mask) v, e_ts = weight · tanh(q_t + k_s).

    q: (…, T, A), T queries, and k: (…, S, A), S keys, both projected to A features already. weight: (A,). v: (…, S, M),
    the keys' values, the memory that is read. The axes before are the same in all. mask: broadcasts to (…, T, S); of
    bools, True where a query sees a key; or numbers to add. All float32 or float64, of one dtype.
    A query that sees no key gets zeros. Returns ((y, weights), ctx), y (…, T, M) and weights (…, T, S), that of a key 0
    where it is not seen. The tanh of all pairs, (…, T, S, A), is not stored.
    """
    op = "additive_attention"
    q, k, weight, v = arrays_alike(op, ("q", "k", "weight", "v"), (q, k, weight, v), 4)
    mask = None if mask is None else mask_array(mask, op, q)
    desc = additive_attention_desc(q.shape, k.shape, weight.shape, v.shape, None if mask is None else mask.shape)
    y, weights = empty(desc.y_shape, q), empty(desc.weights_shape, q)
    if weights.size:
        additive_kernels.forward(additive_arguments(desc, q, k, weight, v, mask, weights), y)
    else:
        y.fill(0)
    return (y, weights), AdditiveAttentionCtx(desc, q, k, weight, v, mask, weights) if keep else None


def additive_attention_backward(dy, ctx, needs=(True,) * 5):
    """(dq, dk, dweight, dv, dmask); dmask is None of bools. dy: (dy, dweights), each of which may be None for zero.

    With the weights p and dp = dy vᵀ + dweights: dv = pᵀ dy, de = p (dp - Σ p dp), dmask = de,
    dq_t = weight Σ_s de_ts (1 - tanh²(q_t + k_s)), dk_s likewise, and dweight = Σ de_ts tanh(q_t + k_s).
    """
    op = "additive_attention"
    desc, q, k, weight, v, mask, weights = ctx
    dy, dweights = parts_of(dy, op, ("dy", "dweights"))
    dy = np.zeros(desc.y_shape, q.dtype) if dy is None else array_of_shape(dy, op, "dy", desc.y_shape, q)
    if dweights is not None:
        dweights = array_of_shape(dweights, op, "dweights", desc.weights_shape, q)
    dq, dk, dv = (
        empty(x.shape, x) if need else None for x, need in zip((q, k, v), (*needs[:2], needs[3]), strict=True)
    )
    of_heads = empty((desc.heads, desc.e), q) if needs[2] else None
    dscores = empty(desc.weights_shape, q)
    if weights.size:
        args = additive_arguments(desc, q, k, weight, v, mask, weights)
        additive_kernels.backward(args, dy, dweights, dscores, dq, dk, dv, of_heads)
    else:
        for gradient in dq, dk, dv, of_heads:
            if gradient is not None:
                gradient.fill(0)
    dmask = unbroadcast(dscores, mask.shape) if needs[4] and mask is not None and mask.dtype != np.bool_ else None
    return dq, dk, None if of_heads is None else unbroadcast(of_heads, weight.shape), dv, dmask

"""Attention, and what is around it."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import through_float32, wanted, wide

DOUBLE = 11


def split_heads(node, x, name):
    """(N, T, heads * E) as (N, heads, T, E)"""
    if x.ndim == 4:
        return x
    heads = node.attributes.get(name)
    if x.ndim != 3 or not heads or x.shape[2] % heads:
        raise ValueError(f"{name} is {heads} of an array of shape {x.shape}, expected (N, T, {name} * E)")
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def visible(node, q, k, past, lengths):
    """(N or 1, 1, T, S) of bools, which keys every query sees by causality, windows and lengths; None for all."""
    a, t, s = node.attributes, q.shape[2], k.shape[2]
    left, right = a.get("left_window_size", -1), a.get("right_window_size", -1)
    keys = np.arange(s)
    seen = None
    if lengths is not None:
        seen = (keys < lengths[:, None])[:, None, None]
    if not a.get("is_causal", 0) and left < 0 and right < 0:
        return seen
    offset = lengths - t if lengths is not None and past == 0 else np.array([past])
    at = (offset[:, None] + np.arange(t))[:, None, :, None]  # places of the queries among the keys
    frontier = min(bound for bound in (right, 0 if a.get("is_causal", 0) else -1) if bound >= 0) if (
        a.get("is_causal", 0) or right >= 0
    ) else None  # fmt: skip
    for condition in (
        None if frontier is None else keys <= at + frontier,
        None if left < 0 else keys >= at - left,
    ):
        if condition is not None:
            seen = condition if seen is None else seen & condition
    return seen


def combined(mask, seen, s):
    """The mask of bools or numbers, and what is seen at all, as one."""
    if mask is not None and mask.shape[-1] < s:
        rest = [(0, 0)] * (mask.ndim - 1) + [(0, s - mask.shape[-1])]
        mask = np.pad(mask, rest, constant_values=False if mask.dtype == bool else -np.inf)
    if mask is None or seen is None:
        return seen if mask is None else mask
    return mask & seen if mask.dtype == bool else np.where(seen, mask, mask.dtype.type(-np.inf))


@operator("Attention", since=23)
def attention(node, q, k, v, mask=None, past_key=None, past_value=None, lengths=None):
    """Our kernel, but for a soft cap and for scores that are asked for before the softmax."""
    a, dtype, rank = node.attributes, q.dtype, q.ndim
    q, k, v = (
        split_heads(node, q, "q_num_heads"),
        split_heads(node, k, "kv_num_heads"),
        split_heads(node, v, "kv_num_heads"),
    )
    past = 0
    if past_key is not None:
        past = past_key.shape[2]
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    present = k, v
    compute = np.dtype(np.float64 if a.get("softmax_precision") == DOUBLE else wide(q).dtype)
    if mask is not None and mask.dtype != bool:
        mask = mask.astype(compute)
    q, k, v = (x.astype(compute, copy=False) for x in (q, k, v))
    mask = combined(mask, visible(node, q, k, past, lengths), k.shape[2])
    scale, cap = a.get("scale"), a.get("softcap", 0.0)
    scores = None
    if cap or (wanted(node, 3) and a.get("qk_matmul_output_mode", 0) != 3):
        y, scores = explicit(node, q, k, v, mask, scale, cap)
    elif wanted(node, 3):
        (y, scores), _ = ops.scaled_dot_product_attention_weights_forward(
            q, k, v, mask, scale=scale, enable_gqa=True, keep=False
        )
    else:
        y = ops.scaled_dot_product_attention_forward(q, k, v, mask, scale=scale, enable_gqa=True, keep=False)[0]
    if rank == 3:
        y = y.swapaxes(1, 2).reshape(len(y), y.shape[2], -1)
    scores = None if scores is None else scores.astype(dtype, copy=False)
    return y.astype(dtype, copy=False), *(x.astype(dtype, copy=False) for x in present), scores


def explicit(node, q, k, v, mask, scale, cap):
    """y, and the scores of the stage that qk_matmul_output_mode names."""
    mode = node.attributes.get("qk_matmul_output_mode", 0)
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    stages = [np.matmul(q, k.swapaxes(2, 3)) * q.dtype.type(scale)]
    stages.append(cap * np.tanh(stages[0] / cap) if cap else stages[0])
    biased = stages[1]
    if mask is not None:
        if mask.dtype == bool:
            mask = np.where(mask, q.dtype.type(0), q.dtype.type(-np.inf))
        biased = biased + mask
    stages.append(biased)
    weights = ops.softmax_forward(biased, keep=False)[0]
    weights[np.isneginf(biased).all(axis=-1)] = 0
    stages.append(weights)
    return np.matmul(weights, v), stages[mode]


@operator("RotaryEmbedding", since=23)
@through_float32
def rotary_embedding(node, x, cosines, sines, positions=None):
    """Pairs of features, neighbours if interleaved or else of the two halves, turned by angles."""
    a = node.attributes
    heads = split_heads(node, x, "num_heads")  # (N, heads, T, E)
    size = a.get("rotary_embedding_dim", 0) or heads.shape[3]
    if positions is not None:
        cosines, sines = cosines[positions], sines[positions]
    cosines, sines = cosines[:, None], sines[:, None]  # (N, 1, T, size / 2)
    step = 2 if a.get("interleaved", 0) else 1
    first = slice(0, size, 2) if step == 2 else slice(0, size // 2)
    second = slice(1, size, 2) if step == 2 else slice(size // 2, size)
    y = np.array(heads)
    y[..., first] = cosines * heads[..., first] - sines * heads[..., second]
    y[..., second] = sines * heads[..., first] + cosines * heads[..., second]
    return y if x.ndim == 4 else y.swapaxes(1, 2).reshape(x.shape)


@operator("LinearAttention", since=27)
@through_float32
def linear_attention(node, q, k, v, state=None, decay=None, beta=None):
    """Recurrent attention with a state (N, heads, dk, dv), token by token."""
    a = node.attributes
    rule = a.get("update_rule", "gated_delta")
    q, k, v = (split_heads(node, x, name) for x, name in ((q, "q_num_heads"), (k, "kv_num_heads"), (v, "kv_num_heads")))
    n, heads, t, dk = k.shape
    group = q.shape[1] // heads
    scale = a.get("scale", 0.0) or dk**-0.5
    s = np.zeros((n, heads, dk, v.shape[3]), q.dtype) if state is None else np.array(state)
    y = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    decay = None if decay is None else decay.reshape(n, t, heads, -1)
    beta = None if beta is None else beta.reshape(n, t, -1)
    for i in range(t):
        key, value = k[:, :, i, :, None], v[:, :, i, None, :]
        if "gated" in rule:
            s = s * np.exp(decay[:, i, :, :, None])
        if "delta" in rule:
            value = beta[:, i, :, None, None] * (value - np.matmul(key.swapaxes(2, 3), s))
        s = s + key * value
        y[:, :, i] = scale * np.matmul(q[:, :, i, None, :], np.repeat(s, group, axis=1))[:, :, 0]
    return y.swapaxes(1, 2).reshape(n, t, -1), s

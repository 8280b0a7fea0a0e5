"""Attention: many heads with torch's names and weights, and the reading of a memory of vectors."""

from __future__ import annotations

from math import sqrt

import numpy as np

from fastnn import functional as F
from fastnn import init
from fastnn.autograd import Tensor
from fastnn.descriptors import number
from fastnn.nn.linear import Linear
from fastnn.nn.module import Module, Parameter
from fastnn.nn.options import as_tensor, blank, counts, switches

__all__ = ["AdditiveAttention", "DotAttention", "MultiheadAttention"]


# ---- masks: arrays of bools, True where a query sees a key; or numbers to add to the scores ----


def as_mask(layer, name, mask, *shapes):
    """An array of bools, or a Tensor of numbers, of one of these shapes, if there are any; None stays None."""
    if mask is None:
        return None
    array = mask.array if isinstance(mask, Tensor) else mask
    kind = type(layer).__name__
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{kind}: {name} must be an array or a Tensor, got {type(mask).__name__}")
    if array.dtype.kind not in "bf":
        raise TypeError(f"{kind}: {name} has dtype {array.dtype}, expected bool or a floating-point one")
    if shapes and array.shape not in shapes:
        raise ValueError(f"{kind}: {name} has shape {array.shape}, expected {' or '.join(map(str, shapes))}")
    return array if array.dtype == np.bool_ else as_tensor(mask)


def is_bools(mask):
    return isinstance(mask, np.ndarray)


def both(a, b, dtype):
    """The mask that lets pass what both do; None lets all pass."""
    if a is None or b is None:
        return b if a is None else a
    if is_bools(a) and is_bools(b):
        return a & b
    a, b = (as_tensor(np.where(x, 0, -np.inf).astype(dtype)) if is_bools(x) else x for x in (a, b))
    return a + b


def within(layer, lengths, shape):
    """Bools (*shape, S), for lengths of shape `shape`: which keys are among the first `lengths`."""
    *lead, s = shape
    kind = type(layer).__name__
    lengths = np.asarray(lengths.array if isinstance(lengths, Tensor) else lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"{kind}: lengths must be integers, got dtype {lengths.dtype}")
    if list(lengths.shape) != lead:
        raise ValueError(f"{kind}: lengths has shape {lengths.shape}, expected {tuple(lead)}")
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= s:
        raise ValueError(f"{kind}: lengths are {lengths.min()} to {lengths.max()}, expected 0 to {s}, the keys")
    return np.arange(s) < lengths[..., None]


# ---- reading a memory ----


class Reader(Module):
    """What AdditiveAttention and DotAttention share: forms of arguments, and masks."""

    def read(self, attend, query, key, value, mask, lengths, need_weights):
        """attend(query, value, mask), results and weights or None, of sequences; query may be a single one."""
        kind, single = type(self).__name__, query.ndim == key.ndim - 1
        value = key if value is None else as_tensor(value)
        if (query.ndim != key.ndim and not single) or key.ndim < 2:
            raise ValueError(
                f"{kind}: query has shape {query.shape}, key {key.shape}, expected (…, T, Q) or (…, Q), and (…, S, K)"
            )
        mask = as_mask(self, "mask", mask)
        if single:
            query = query.unsqueeze(-2)
            if mask is not None and mask.ndim > 1:
                mask = np.expand_dims(mask, -2) if is_bools(mask) else mask.unsqueeze(-2)
        if lengths is not None:
            mask = both(mask, within(self, lengths, key.shape[:-1])[..., None, :], query.dtype)
        y, weights = attend(query, value, mask)
        if single:
            y, weights = y.squeeze(-2), None if weights is None else weights.squeeze(-2)
        return (y, weights) if need_weights else y


class AdditiveAttention(Reader):
    """Bahdanau's attention (2014): a memory of vectors, read with the weights softmax(e),
    e_ts = weight · tanh(query_proj(query_t) + key_proj(key_s)); see ops.additive_attention_forward.

    Query: (…, T, query_size), or (…, query_size) for a single one; key: (…, S, key_size), usually the memory itself;
    value: (…, S, M), None for key. mask: of bools, True where a query sees a key, or numbers to add; broadcasts to
    (…, T, S), or (…, S). lengths: (…), so many keys of each memory are seen. Returns (…, T, M), or (…, M); with
    need_weights (that, weights (…, T, S), or (…, S)). projected: what `project` gave for key, so that a decoder
    projects its memory once and not at every step.
    weight: (hidden_size,), uniform in ±1/√hidden_size at first. bias: of query_proj.
    """

    def __init__(self, query_size, key_size, hidden_size, bias=False, device=None, dtype=None):
        sizes = counts(self, query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        self.query_size, self.key_size, self.hidden_size = sizes
        if not all(sizes):
            raise ValueError(f"AdditiveAttention: sizes are {', '.join(map(str, sizes))}, expected at least 1")
        self.query_proj = Linear(query_size, hidden_size, bias, device, dtype)
        self.key_proj = Linear(key_size, hidden_size, False, device, dtype)
        self.weight = Parameter(blank((hidden_size,), device, dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        self.query_proj.reset_parameters()
        self.key_proj.reset_parameters()
        bound = 1 / sqrt(self.hidden_size)
        init.uniform_(self.weight, -bound, bound)

    def project(self, key):
        """The projection of a memory (…, S, key_size), (…, S, hidden_size)."""
        return self.key_proj(key)

    def forward(self, query, key, value=None, mask=None, lengths=None, need_weights=False, *, projected=None):
        query, key = as_tensor(query), as_tensor(key)
        projected = self.project(key) if projected is None else as_tensor(projected)

        def attend(query, value, mask):
            query = self.query_proj(query)
            return F.additive_attention(query, projected, self.weight, value, mask, need_weights=True)

        return self.read(attend, query, key, value, mask, lengths, need_weights)

    def extra_repr(self):
        return f"query_size={self.query_size}, key_size={self.key_size}, hidden_size={self.hidden_size}"


class DotAttention(Reader):
    """A memory of vectors, read with the weights softmax(scale query_t · key_s): dot-product attention (Luong et al.
    2015), scaled with scale=None, that is 1/√E (Vaswani et al. 2017).

    Query: (…, T, E), or (…, E) for a single one; key: (…, S, E). Other arguments and results as of AdditiveAttention.
    """

    def __init__(self, scale=1.0):
        self.scale = None if scale is None else number(scale, "DotAttention", "scale")

    def forward(self, query, key, value=None, mask=None, lengths=None, need_weights=False):
        query, key = as_tensor(query), as_tensor(key)

        def attend(query, value, mask):
            y = F.scaled_dot_product_attention(
                query, key, value, mask, scale=self.scale, need_weights=need_weights)  # fmt: skip
            return y if need_weights else (y, None)

        return self.read(attend, query, key, value, mask, lengths, need_weights)

    def extra_repr(self):
        return f"scale={self.scale}"


# ---- many heads ----


def same(*tensors):
    """Are they one and the same, for data and gradients?"""
    first, *others = tensors
    return all(x is first or (x.array is first.array and not (x.tracked or first.tracked)) for x in others)


class MultiheadAttention(Module):
    """num_heads scaled dot-product attentions side by side (Vaswani et al. 2017), of queries, keys and values projected
    to embed_dim / num_heads features each; their results together are projected by out_proj.

    query: (L, N, embed_dim), key: (S, N, kdim), value: (S, N, vdim); (N, L, …) with batch_first; or without N.
    key_padding_mask: (N, S) or (S,), attn_mask: (L, S) or (N num_heads, L, S), each of bools, True where a key is *not*
    seen, as in torch, or numbers to add to the scores. is_causal: query t sees the keys up to t; attn_mask need not be
    given then. dropout: with this probability a weight is dropped in training.
    Returns (output (L, N, embed_dim), weights (N, L, S), or (N, num_heads, L, S) without average_attn_weights; None
    without need_weights). Gradients can be taken through both. The weights of a query that sees no key are zeros.

    in_proj_weight: (3 embed_dim, embed_dim); q_proj_weight, k_proj_weight, v_proj_weight in place of it if kdim or vdim
    is not embed_dim; in_proj_bias: (3 embed_dim,). add_bias_kv: bias_k and bias_v, a key and value more, add_zero_attn:
    one of zeros; all queries see them, whatever the masks.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
        device=None,
        dtype=None,
    ):
        self.embed_dim, self.num_heads = counts(self, embed_dim=embed_dim, num_heads=num_heads)
        if not embed_dim or not num_heads or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim is {embed_dim}, num_heads {num_heads}, expected a multiple of "
                "num_heads, and at least 1"
            )
        self.kdim, self.vdim = counts(
            self, kdim=embed_dim if kdim is None else kdim, vdim=embed_dim if vdim is None else vdim
        )
        if not 0 <= number(dropout, "MultiheadAttention", "dropout") <= 1:
            raise ValueError(f"MultiheadAttention: dropout is {dropout}, expected 0 to 1")
        self.dropout = dropout
        bias, add_bias_kv, self.add_zero_attn, self.batch_first = switches(
            self, bias=bias, add_bias_kv=add_bias_kv, add_zero_attn=add_zero_attn, batch_first=batch_first
        )
        self.head_dim = embed_dim // num_heads

        def parameter(*shape):
            return Parameter(blank(shape, device, dtype))

        together = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if together else None
        self.q_proj_weight = None if together else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if together else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if together else parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        self.out_proj.reset_parameters()
        for weight in self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight:
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in self.in_proj_bias, self.out_proj.bias:
            if bias is not None:
                init.zeros_(bias)
        for bias in self.bias_k, self.bias_v:
            if bias is not None:
                init.xavier_normal_(bias)

    def check(self, query, key, value):
        """Is it a single sample? ValueError for shapes that do not fit."""
        kind, sizes = "MultiheadAttention", (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(("query", "key", "value"), (query, key, value), sizes, strict=True):
            if x.ndim not in (2, 3) or x.ndim != query.ndim:
                raise ValueError(
                    f"{kind}: {name} has {x.ndim} dimensions, shape {x.shape}, expected 2 or 3, as many as query "
                    f"has, of shape {query.shape}"
                )
            if x.shape[-1] != size:
                raise ValueError(f"{kind}: {name} has {x.shape[-1]} features, shape {x.shape}, expected {size}")
        batch = 0 if self.batch_first else 1
        if value.shape[:-1] != key.shape[:-1] or (query.ndim == 3 and query.shape[batch] != key.shape[batch]):
            raise ValueError(
                f"{kind}: key has shape {key.shape}, value {value.shape}, query {query.shape}, expected as many values "
                "as keys, and as many samples in all"
            )
        return query.ndim == 2

    def project(self, query, key, value):
        """The three projections, in one product where the arguments are one."""
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is not None and same(query, key, value):
            return F.split(F.linear(query, self.in_proj_weight, bias), e, -1)
        if self.in_proj_weight is not None and same(key, value):
            weights = F.split(self.in_proj_weight, [e, 2 * e])
            biases = (None, None) if bias is None else F.split(bias, [e, 2 * e])
            q, kv = map(F.linear, (query, key), weights, biases)
            return q, *F.split(kv, e, -1)
        weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        if self.in_proj_weight is not None:
            weights = F.split(self.in_proj_weight, e)
        biases = (None,) * 3 if bias is None else F.split(bias, e)
        return tuple(map(F.linear, (query, key, value), weights, biases))

    def heads(self, x):
        """A projection as (N, num_heads, L, head_dim)."""
        x = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
        return x.permute(0, 2, 1, 3) if self.batch_first else x.permute(1, 2, 0, 3)

    def mask(self, n, t, s, single, key_padding_mask, attn_mask, dtype):
        """Both masks as one that broadcasts to (n, num_heads, t, s) and says what is seen."""
        h = self.num_heads
        shapes = ((s,),) if single else ((n, s),)
        padding = as_mask(self, "key_padding_mask", key_padding_mask, *shapes)
        mask = as_mask(self, "attn_mask", attn_mask, (t, s), (n * h, t, s))
        if padding is not None:
            padding = (~padding if is_bools(padding) else padding).reshape(n, 1, 1, s)
        if mask is not None:
            mask = ~mask if is_bools(mask) else mask
            mask = mask.reshape(n, h, t, s) if mask.ndim == 3 else mask
        return both(mask, padding, dtype)

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        need_weights=True,
        attn_mask=None,
        average_attn_weights=True,
        is_causal=False,
    ):
        query, key, value = map(as_tensor, (query, key, value))
        single, batch = self.check(query, key, value), 0 if self.batch_first else 1
        q, k, v = self.project(query, key, value)
        if single:
            q, k, v = (x.unsqueeze(batch) for x in (q, k, v))
        n, t, s = q.shape[batch], q.shape[1 - batch], k.shape[1 - batch]
        mask = self.mask(n, t, s, single, key_padding_mask, attn_mask, q.dtype)
        more = []  # keys and values that all queries see
        if self.bias_k is not None:
            shape = (n, 1, self.embed_dim) if self.batch_first else (1, n, self.embed_dim)
            k, v = (F.cat([x, bias.expand(*shape)], 1 - batch) for x, bias in ((k, self.bias_k), (v, self.bias_v)))
            more.append(1)
        q, k, v = map(self.heads, (q, k, v))
        if self.add_zero_attn:
            zeros = Tensor(np.zeros((n, self.num_heads, 1, self.head_dim), q.dtype))
            k, v = (F.cat([x, zeros], 2) for x in (k, v))
            more.append(1)
        if more and is_causal:
            mask, is_causal = both(mask, np.tri(t, s, dtype=np.bool_), q.dtype), False
        if more and mask is not None:
            columns = (*mask.shape[:-1], len(more))
            if is_bools(mask):
                mask = np.concatenate([mask, np.ones(columns, np.bool_)], -1)
            else:
                mask = F.cat([mask, Tensor(np.zeros(columns, q.dtype))], -1)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, need_weights=need_weights)
        y, weights = y if need_weights else (y, None)
        y = y.permute(0, 2, 1, 3) if self.batch_first else y.permute(2, 0, 1, 3)
        y = self.out_proj(y.reshape(*y.shape[:2], self.embed_dim))
        if need_weights and average_attn_weights:
            weights = weights.mean(1)
        if single:
            y, weights = y.squeeze(batch), weights.squeeze(0) if need_weights else None
        return y, weights

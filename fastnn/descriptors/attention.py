"""Attention."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod


@dataclass(frozen=True, slots=True)
class AttentionDesc:
    """t queries of e features, s keys of e and values of ev features, in each of `heads` problems, `group` of which
    share their keys and values."""

    lead: tuple[int, ...]
    """The axes before queries and features."""
    heads: int
    group: int
    t: int
    s: int
    e: int
    ev: int

    @property
    def y_shape(self):
        return (*self.lead, self.t, self.ev)

    @property
    def weights_shape(self):
        return (*self.lead, self.t, self.s)

    def pairs(self, is_causal):
        """Of queries and keys that meet."""
        seen = min(self.t, self.s)
        each = seen * (seen + 1) // 2 + (self.t - seen) * self.s if is_causal else self.t * self.s
        return self.heads * each

    def flops(self, is_causal=False):
        """The two matrix products."""
        return 2.0 * self.pairs(is_causal) * (self.e + self.ev)

    def bytes(self, itemsize):
        """Queries, keys, values and results, once."""
        return float(self.heads * (self.t + self.s // self.group) * (self.e + self.ev) * itemsize)


def check_mask(op, shape, full):
    """ValueError if the mask's shape (None: no mask) does not broadcast to `full`."""
    if shape is not None:
        padded = (1,) * (len(full) - len(shape)) + shape
        if len(padded) != len(full) or any(n not in (1, want) for n, want in zip(padded, full, strict=True)):
            raise ValueError(f"{op}: mask has shape {shape}, expected one that broadcasts to {full}")


@lru_cache(maxsize=1024)
def attention_desc(op, q_shape, k_shape, v_shape, mask_shape=None, enable_gqa=False):
    """The descriptor of `op` for q (…, T, E), k (…, S, E), v (…, S, Ev) and a mask that broadcasts to (…, T, S)."""
    for name, shape, expected in ("q", q_shape, "T, E"), ("k", k_shape, "S, E"), ("v", v_shape, "S, Ev"):
        if len(shape) < 2:
            raise ValueError(f"{op}: {name} has shape {shape}, expected (…, {expected})")
    *lead, t, e = q_shape
    *shared, s, e_k = k_shape
    *v_lead, s_v, ev = v_shape
    if e_k != e or 0 in (e, ev):
        raise ValueError(
            f"{op}: q has {e} features, shape {q_shape}, k has {e_k}, shape {k_shape}, and v {ev}, expected as many in "
            "k as in q, and at least one in each"
        )
    if (v_lead, s_v) != (shared, s):
        raise ValueError(f"{op}: v has shape {v_shape}, expected {(*shared, s, ev)}: one value for each key")
    group = 1
    if shared != lead:
        if enable_gqa and lead and len(shared) == len(lead) and shared[-1]:
            group = lead[-1] // shared[-1]
        if [*shared[:-1], group * shared[-1] if shared else 0] != lead or not enable_gqa:
            expected = "(…, H, S, E) with q's number of heads a multiple of H" if enable_gqa else f"{(*lead, 'S', e)}"
            raise ValueError(f"{op}: k has shape {k_shape}, expected {expected} for q of shape {q_shape}")
    check_mask(op, mask_shape, (*lead, t, s))
    return AttentionDesc(tuple(lead), prod(lead), group, t, s, e, ev)


@lru_cache(maxsize=1024)
def additive_attention_desc(q_shape, k_shape, weight_shape, v_shape, mask_shape=None):
    """The same of additive attention, with weight (A,), A being the features of queries and keys."""
    op = "additive_attention"
    desc = attention_desc(op, q_shape, k_shape, v_shape, mask_shape)
    if weight_shape != (desc.e,):
        raise ValueError(f"{op}: weight has shape {weight_shape}, expected {(desc.e,)}, the features of q")
    return desc

"""Attention, scaled dot-product and additive."""

from hypothesis import strategies as st

from fastnn.specs import attention as spec
from strategies.common import picks, sometimes, yes_or_no

# About the heights of register tiles and the blocks of queries and keys.
QUERIES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 17, 24, 25, 33, 0)
KEYS = (1, 2, 3, 5, 8, 9, 16, 17, 33, 127, 129, 0)
FEATURES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)


@st.composite
def masks(draw, full):
    """(its shape or None, is it of bools): of trailing axes of the weights, some of them 1."""
    kind, count, ones = draw(picks(("", "", "numbers", "bools"), range(2, len(full) + 1), range(2 ** len(full))))
    if not kind:
        return None, False
    shape = full[len(full) - count :]
    return tuple(1 if ones >> i & 1 and n else n for i, n in enumerate(shape)), kind == "bools"


@st.composite
def dot_product_cases(draw):
    t, s, e, ev, axes = draw(picks(QUERIES, KEYS, FEATURES, FEATURES, (0, 1, 2)))
    n, kv_heads, group = draw(picks((1, 2, 3, 0), (1, 2, 3), (1, 1, 2, 3)))
    heads = kv_heads * group
    lead = (n, heads)[2 - axes :]
    mask, boolean = draw(masks((*lead, t, s)))
    options = sometimes(draw, is_causal=yes_or_no, scale=st.sampled_from((0.3, 1.0, 0.0, -0.5)))
    return spec.case(lead, t, s, e, ev, mask, boolean, kv_heads if group > 1 and axes else None, **options)


@st.composite
def additive_cases(draw):
    t, s, a, m, axes = draw(picks(QUERIES, KEYS, FEATURES, FEATURES, (0, 1, 2)))
    lead = tuple(draw(picks((1, 2, 3, 0), (1, 2, 3))))[2 - axes :]
    mask, boolean = draw(masks((*lead, t, s)))
    return spec.additive_case(lead, t, s, a, m, mask, boolean)


STRATEGIES = {
    "scaled_dot_product_attention": dot_product_cases(),
    "scaled_dot_product_attention_weights": dot_product_cases(),
    "additive_attention": additive_cases(),
}

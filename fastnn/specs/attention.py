"""Specs of attention."""

from dataclasses import replace

import numpy as np

from fastnn.descriptors import additive_attention_desc, attention_desc
from fastnn.registry import Case, OpSpec, Work, draw_arrays, gradient_terms
from fastnn.specs.elementwise import EXP_FLOPS

BOOLEAN = "boolean mask"


def case(lead, t, s, e, ev=None, mask=None, boolean=False, kv_heads=None, **options):
    """mask: its shape."""
    shared = lead if kv_heads is None else (*lead[:-1], kv_heads)
    options |= {} if kv_heads is None else {"enable_gqa": True}
    shapes = {"q": (*lead, t, e), "k": (*shared, s, e), "v": (*shared, s, e if ev is None else ev), "mask": mask}
    label = f"{BOOLEAN} {mask} q={(*lead, t, e)} S={s} {options}" if boolean else ""
    return Case(shapes, options, label)


def is_boolean(case):
    return case.label.startswith(BOOLEAN)


def make(case, dtype, rng, kind):
    """Boolean masks let two thirds of the keys be seen, and the first of several queries none."""
    arrays = draw_arrays(case, dtype, rng, kind)
    mask = arrays["mask"]
    if mask is not None and is_boolean(case):
        arrays["mask"] = rng.random(mask.shape) < 2 / 3
        arrays["mask"][..., :1, :] &= mask.shape[-2] == 1
    return arrays


def describe(case):
    s = case.shapes
    return attention_desc("", s["q"], s["k"], s["v"], s["mask"], case.options.get("enable_gqa", False))


def work(case, itemsize):
    desc = describe(case)
    return Work(desc.flops(case.options.get("is_causal", False)), desc.bytes(itemsize))


def backward_work(case, itemsize):
    """Five products for the two of forward: scores, and a gradient for each of the four operands."""
    desc = describe(case)
    return Work(2.5 * desc.flops(case.options.get("is_causal", False)), 2 * desc.bytes(itemsize))


def depth(case):
    """A score sums e products, a weight s exponentials, of 10 roundings each, a result s products with values, and the
    gradient at a weight ev; that at a key sums t products, of each head of a group."""
    desc = describe(case)
    return desc.e + 2 * desc.s + desc.ev + desc.t * desc.group + 20


def batch(case):
    shapes = case.shapes
    full = len(shapes["q"])
    return {
        name: 0
        for name, shape in shapes.items()
        if full > 2 and shape is not None and len(shape) == full and shape[0] == shapes["q"][0]
    }


def torch_attention(torch, q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False):
    """torch takes a mask or is_causal, not both."""
    if mask is not None and is_causal:
        seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask, is_causal = torch.where(seen, mask, float("-inf")) if mask.is_floating_point() else mask & seen, False
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(q, k, v, mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)


def torch_weights(torch, q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False):
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for x in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores + (mask if mask.is_floating_point() else torch.where(mask, 0.0, float("-inf")))
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    weights = torch.ops.aten._safe_softmax(scores, -1)
    return weights @ v, weights


# Blocks are of 128 queries and keys, panels of 4 to 32 queries, up to 24 queries do without these, in tiles of 4 to 12:
# sizes around these, and everything that is optional.
CASES = (
    case((), 1, 1, 1),
    case((2,), 3, 5, 4, 7),
    case((2, 3), 33, 17, 8, mask=(33, 17)),
    case((3,), 5, 130, 16, 9, mask=(3, 5, 130), scale=0.3),
    case((2, 2), 35, 35, 6, is_causal=True),
    case((1, 2), 131, 133, 5, 3, is_causal=True, mask=(1, 2, 131, 133)),
    case((2,), 2, 140, 3, is_causal=True),
    case((2,), 141, 3, 4, is_causal=True),
    case((2, 4), 9, 10, 8, kv_heads=2),
    case((1, 4), 3, 6, 5, kv_heads=2, is_causal=True),
    case((2, 2), 6, 7, 5, mask=(2, 1, 1, 7), boolean=True),
    case((2,), 40, 131, 4, mask=(40, 131), boolean=True, is_causal=True),
    case((2, 3), 4, 5, 3, mask=(3, 1, 5)),
    case((1, 2), 24, 133, 5, 3, is_causal=True, mask=(2, 24, 133)),
    case((3,), 13, 9, 4, mask=(13, 9), boolean=True),
    case((2,), 25, 31, 3, mask=(25, 31)),
    case((1,), 260, 36, 4),
)
BENCH = (
    case((8, 8), 256, 256, 64),
    case((8, 8), 256, 256, 64, is_causal=True),
    case((1, 12), 1024, 1024, 64),
    case((32, 8), 1, 128, 64),
    case((1, 8), 16, 2000, 64),
    case((8, 8), 256, 256, 64, mask=(8, 1, 1, 256), boolean=True),
)


def additive_case(lead, t, s, a, m, mask=None, boolean=False):
    shapes = {"q": (*lead, t, a), "k": (*lead, s, a), "weight": (a,), "v": (*lead, s, m), "mask": mask}
    return Case(shapes, {}, f"{BOOLEAN} {mask} q={(*lead, t, a)} S={s}" if boolean else "")


def describe_additive(case):
    s = case.shapes
    return additive_attention_desc(s["q"], s["k"], s["weight"], s["v"], s["mask"])


def additive_work(case, itemsize):
    """For each pair of a query and a key, A times sum, tanh and product, and M products."""
    desc = describe_additive(case)
    pairs = desc.pairs(False)
    return Work(pairs * ((EXP_FLOPS + 8) * desc.e + 2 * desc.ev), desc.bytes(itemsize) + pairs * itemsize)


def additive_backward_work(case, itemsize):
    """The tanhs again, with three sums, and two products with values."""
    desc = describe_additive(case)
    pairs = desc.pairs(False)
    return Work(pairs * ((EXP_FLOPS + 13) * desc.e + 4 * desc.ev), 2 * desc.bytes(itemsize) + 3 * pairs * itemsize)


def additive_depth(case):
    """A score sums A tanhs, the others as `depth`; the weight's gradient sums over all pairs of each head."""
    desc = describe_additive(case)
    return desc.e + 2 * desc.s + desc.ev + desc.t + desc.heads + 30


def torch_additive(torch, q, k, weight, v, mask=None):
    scores = torch.tanh(q[..., :, None, :] + k[..., None, :, :]) @ weight
    if mask is not None:
        scores = scores + (mask if mask.is_floating_point() else torch.where(mask, 0.0, float("-inf")))
    weights = torch.ops.aten._safe_softmax(scores, -1)
    return weights @ v, weights


GRADIENTS = ("q", "k", "v", "mask")
ADDITIVE_GRADIENTS = ("q", "k", "weight", "v", "mask")
ATTENTION = OpSpec(
    name="scaled_dot_product_attention",
    grads=GRADIENTS,
    gradient_terms=gradient_terms("scaled_dot_product_attention", GRADIENTS, largest=True),
    cases=CASES,
    bench=BENCH,
    make=make,
    products=True,
    work=work,
    backward_work=backward_work,
    depth=depth,
    exact=False,
    derivative=lambda case: not is_boolean(case),
    batch=batch,
    peers={"torch": torch_attention},
)

SPECS = (
    ATTENTION,
    replace(
        ATTENTION,
        name="scaled_dot_product_attention_weights",
        gradient_terms=gradient_terms("scaled_dot_product_attention_weights", GRADIENTS, largest=True),
        outputs=2,
        cases=tuple(c for c in CASES if np.prod(c.shapes["q"]) < 2000),
        bench=(case((8, 8), 256, 256, 64),),
        peers={"torch": torch_weights},
    ),
    OpSpec(
        name="additive_attention",
        grads=ADDITIVE_GRADIENTS,
        gradient_terms=gradient_terms("additive_attention", ADDITIVE_GRADIENTS, largest=True),
        cases=(
            additive_case((), 1, 1, 1, 1),
            additive_case((2,), 3, 5, 4, 7),
            additive_case((2, 3), 1, 6, 70, 16, mask=(6,)),
            additive_case((2,), 17, 33, 19, 20, mask=(2, 17, 33)),
            additive_case((1,), 2, 131, 5, 3),
            additive_case((1,), 131, 3, 5, 33),
            additive_case((3,), 4, 7, 16, 8, mask=(3, 1, 7), boolean=True),
            additive_case((2,), 5, 9, 8, 32, mask=(5, 9), boolean=True),
        ),
        bench=(additive_case((64,), 1, 20, 256, 512), additive_case((64,), 20, 20, 256, 512)),
        make=make,
        work=additive_work,
        backward_work=additive_backward_work,
        depth=additive_depth,
        exact=False,
        outputs=2,
        derivative=lambda case: not is_boolean(case),
        batch=batch,
        peers={"torch": torch_additive},
    ),
)

"""Attention beyond its cases: F's functions beside torch's, masks of every kind and layout, rows that see nothing,
extreme scores, dropout, gradients that are not needed, memory, errors."""

import numpy as np
import pytest

import fastnn
from fastnn import Tensor, gradcheck, ops
from fastnn import functional as F
from fastnn.kernels import runtime
from fastnn.verify import forced

ISAS = runtime.supported_isas()
SDPA = "scaled_dot_product_attention"


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(dtype)


def operands(lead, t, s, e, ev=None, dtype=np.float32):
    return (
        draw(*lead, t, e, seed=1, dtype=dtype),
        draw(*lead, s, e, seed=2, dtype=dtype),
        draw(*lead, s, e if ev is None else ev, seed=3, dtype=dtype),
    )


def seen(*shape, seed=5):
    """A boolean mask that lets every query see its first key, and two thirds of the others."""
    mask = np.random.default_rng(seed).random(shape) < 2 / 3
    mask[..., 0] = True
    return mask


def close(got, want, depth, dtype=np.float32, term=0.0):
    """Within so many roundings of the largest value, or of the largest term of sums that cancel."""
    bound = depth * np.finfo(dtype).eps * np.abs(want).max(initial=term)
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


# ---- beside torch ----

MASKS = {
    "none": lambda n, h, t, s: None,
    "bools of pairs": lambda n, h, t, s: seen(t, s),
    "bools of keys": lambda n, h, t, s: seen(n, 1, 1, s),
    "bools of queries": lambda n, h, t, s: seen(n, 1, t, 1),
    "bools of heads": lambda n, h, t, s: seen(1, h, t, s),
    "all bools": lambda n, h, t, s: seen(n, h, t, s),
    "numbers for pairs": lambda n, h, t, s: draw(t, s),
    "numbers for keys": lambda n, h, t, s: draw(n, 1, 1, s),
    "numbers for queries": lambda n, h, t, s: draw(h, t, 1),
    "all numbers": lambda n, h, t, s: draw(n, h, t, s),
    "infinities": lambda n, h, t, s: np.where(seen(t, s), 0, -np.inf).astype(np.float32),
    "one number": lambda n, h, t, s: draw(1),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(("t", "s", "e", "ev"), [(37, 150, 9, 20), (140, 33, 16, 16), (1, 5, 3, 2)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_beside_torch(torch, mask, t, s, e, ev, is_causal):
    """Results and gradients, of the mask too; torch takes no mask beside is_causal."""
    mask = mask(2, 3, t, s)
    arrays = operands((2, 3), t, s, e, ev)
    dy = draw(2, 3, t, ev, seed=7)
    ours = [Tensor(x, True) for x in arrays]
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    our_mask = their_mask = None
    if mask is not None:
        floats = mask.dtype != np.bool_
        our_mask = Tensor(mask, floats)
        their_mask = leaf = torch.tensor(mask, dtype=torch.float64 if floats else torch.bool, requires_grad=floats)
        if is_causal:
            triangle = torch.ones(t, s, dtype=torch.bool).tril()
            their_mask = torch.where(triangle, leaf, float("-inf")) if floats else leaf & triangle
    y = F.scaled_dot_product_attention(*ours, our_mask, is_causal=is_causal)
    want = torch.nn.functional.scaled_dot_product_attention(*theirs, their_mask, is_causal=is_causal and mask is None)
    depth = e + 2 * s + ev + t + 20  # the longest chain of each of the sums
    close(y.data, want.detach().numpy(), depth)
    (y * dy).sum().backward()
    (want * torch.tensor(dy)).sum().backward()
    # The gradient at a score, weight (dp - Σ weights dp), may cancel: with a single key, or summed over all keys.
    q, k, v = map(np.abs, arrays)
    dp = 2 * (np.abs(dy) @ v.swapaxes(-1, -2)).max()
    for x, z, term in zip(ours, theirs, (dp * k.max(), dp * q.max(), 0), strict=True):
        close(x.grad, z.grad.numpy(), depth, term=term)
    if mask is not None and mask.dtype != np.bool_:
        close(our_mask.grad, leaf.grad.numpy(), depth, term=dp * y.size / ev * s / mask.size)


def test_arguments_of_torch(torch):
    """Names, order and defaults, by a call of both."""
    arrays = operands((2, 4), 5, 6, 8)
    k, v = (x[:, :2] for x in arrays[1:])
    options = {"attn_mask": seen(5, 6), "dropout_p": 0.0, "is_causal": False, "scale": 0.25, "enable_gqa": True}
    tensors = [torch.tensor(x) for x in (arrays[0], k, v)]
    theirs = {**options, "attn_mask": torch.tensor(options["attn_mask"])}
    want = torch.nn.functional.scaled_dot_product_attention(*tensors, **theirs)
    close(F.scaled_dot_product_attention(arrays[0], k, v, **options), want.numpy(), 40)


# ---- gradients of what has no spec of its own, by differences ----


def test_gradcheck_of_everything_at_once():
    """Through result and weights, with a mask of numbers and heads that share keys."""
    q, k, v = operands((4,), 3, 5, 2, 3, np.float64)
    leaves = [Tensor(x, True) for x in (q, k[:2], v[:2], draw(3, 5, dtype=np.float64))]

    def f(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True, need_weights=True)

    assert gradcheck(f, tuple(leaves))


def test_gradcheck_through_dropout():
    """The composed path, with the same random numbers at each call."""

    def f(q, k, v):
        fastnn.manual_seed(3)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, enable_gqa=True)

    q, k, v = operands((4,), 3, 5, 2, 3, np.float64)
    assert gradcheck(f, tuple(Tensor(x, True) for x in (q, k[:2], v[:2])))


def test_gradcheck_of_additive_attention():
    q, k, v = operands((2,), 3, 4, 5, 2, np.float64)
    weight = draw(5, dtype=np.float64)

    def f(q, k, weight, v):
        return F.additive_attention(q, k, weight, v, need_weights=True)

    assert gradcheck(f, tuple(Tensor(x, True) for x in (q, k, weight, v)))


# ---- properties ----


def test_dropout():
    """Weights are dropped with probability p, and the rest grows by 1 / (1 - p); seeds repeat."""
    q, k, v = operands((2, 3), 40, 50, 8)
    plain, weights = F.scaled_dot_product_attention(q, k, v, need_weights=True)
    fastnn.manual_seed(1)
    y, dropped = F.scaled_dot_product_attention(q, k, v, dropout_p=0.25, need_weights=True)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], weights[kept] / 0.75, rtol=1e-6)
    # a binomial share of 12000 trials has a standard deviation below 0.004
    assert abs(kept.mean() - 0.75) < 0.02
    close(y, dropped @ v, 60)
    fastnn.manual_seed(1)
    assert np.array_equal(F.scaled_dot_product_attention(q, k, v, dropout_p=0.25), y)
    assert not np.array_equal(plain, y)


@pytest.mark.parametrize("boolean", [True, False])
def test_queries_that_see_nothing(boolean, isa, dtype):
    """Zeros, and no gradient, as in torch; the others are not touched."""
    q, k, v = operands((2,), 35, 140, 6, dtype=dtype)
    mask = np.ones((2, 35, 140), np.bool_)
    mask[0, 3] = mask[1, 33] = False
    if not boolean:
        mask = np.where(mask, 0, -np.inf).astype(dtype)
    with forced(isa):
        (y, weights), ctx = ops.scaled_dot_product_attention_weights_forward(q, k, v, mask)
        dq, dk, dv, _ = ops.scaled_dot_product_attention_weights_backward((np.ones_like(y), weights), ctx)
        plain, ctx = ops.scaled_dot_product_attention_forward(q, k, v)
        (additive, of_additive), _ = ops.additive_attention_forward(q, k, q[0, 0], v, mask)
    for blind in (0, 3), (1, 33):
        assert not any(x[blind].any() for x in (y, weights, dq, additive, of_additive))
        y[blind] = plain[blind]
    assert np.array_equal(y, plain)
    assert all(np.isfinite(x).all() for x in (dq, dk, dv))


def test_no_keys():
    """Nothing to see: zeros."""
    q, k, v = operands((2,), 3, 0, 4, 5)
    (y, weights), ctx = ops.scaled_dot_product_attention_weights_forward(q, k, v)
    assert y.shape == (2, 3, 5) and weights.shape == (2, 3, 0) and not y.any()
    dq, dk, dv, _ = ops.scaled_dot_product_attention_weights_backward((y, weights), ctx)
    assert not dq.any() and dk.shape == k.shape and dv.shape == v.shape
    (y, weights), ctx = ops.additive_attention_forward(q, k, np.ones(4, np.float32), v)
    assert y.shape == (2, 3, 5) and weights.shape == (2, 3, 0) and not y.any()
    assert not any(x.any() for x in ops.additive_attention_backward((y, None), ctx)[:4])


@pytest.mark.parametrize("shift", [-1e9, -3e4, 3e4, 1e9])
def test_large_scores(shift, isa):
    """A number added to all scores changes nothing but their rounding: where it swallows the scores, weights are
    equal, forward and backward."""
    q, k, v = operands((1,), 33, 150, 4)
    mask = np.full((33, 150), shift, np.float32)
    with forced(isa):
        (y, weights), ctx = ops.scaled_dot_product_attention_weights_forward(q * 1e-3, k, v, mask)
        dv = ops.scaled_dot_product_attention_weights_backward((np.ones_like(y), None), ctx)[2]
    # scores below 1e-2 are less than half a unit of 1e9's last place, and 1/5 of 3e4's, whose half is 2^-10
    np.testing.assert_allclose(weights, 1 / 150, rtol=2e-2)
    np.testing.assert_allclose(dv, 33 / 150, rtol=2e-2)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_weights_are_those_of_the_result(isa, dtype):
    q, k, v = operands((2, 2), 70, 140, 9, 5, dtype)
    for is_causal in False, True:
        with forced(isa):
            y, weights = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, need_weights=True)
            alone = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        assert np.array_equal(y, alone)
        close(weights @ v, y, 300, dtype)
        assert not np.triu(weights, 1).any() or not is_causal


@pytest.mark.parametrize("op", [f"{SDPA}_weights", "additive_attention"])
def test_absent_output_gradients_are_zero(op):
    q, k, v = operands((2,), 5, 6, 4)
    forward, backward = getattr(ops, f"{op}_forward"), getattr(ops, f"{op}_backward")
    (y, weights), ctx = forward(q, k, q[0, 0], v) if op == "additive_attention" else forward(q, k, v)
    dy, dweights = draw(*y.shape, seed=8), draw(*weights.shape, seed=9)
    for absent, zeros in (((None, dweights), (0 * dy, dweights)), ((dy, None), (dy, 0 * dweights))):
        for got, want in zip(backward(absent, ctx), backward(zeros, ctx), strict=True):
            assert (got is None) == (want is None)
            assert got is None or np.array_equal(got, want)


def test_same_bits_however_many_tasks(isa):
    """One pair of heads is shared out by keys and by queries, many by heads: to the same bits."""
    q, k, v = operands((4, 1), 270, 300, 20)
    dy = draw(4, 1, 270, 20, seed=9)
    for is_causal in False, True:
        with forced(isa, 1):
            y, ctx = ops.scaled_dot_product_attention_forward(q, k, v, None, is_causal)
            want = y, *ops.scaled_dot_product_attention_backward(dy, ctx)[:3]
        for i in range(4):
            with forced(isa, 3):
                y, ctx = ops.scaled_dot_product_attention_forward(q[i], k[i], v[i], None, is_causal)
                got = y, *ops.scaled_dot_product_attention_backward(dy[i], ctx)[:3]
            assert all(np.array_equal(a, b[i]) for a, b in zip(got, want, strict=True))


def test_scratch_memory_is_bounded():
    """No matrix of all scores: longer sequences take no more."""
    peaks = []
    for t in 512, 4096:
        q, k, v = operands((1,), t, t, 8)
        with forced(threads=1):
            runtime.scratch_peak()
            y, ctx = ops.scaled_dot_product_attention_forward(q, k, v)
            ops.scaled_dot_product_attention_backward(y, ctx)
            peaks.append(runtime.scratch_peak())
    assert peaks[0] == peaks[1] < 1 << 19


@pytest.mark.parametrize("view", [lambda m: m[:, ::2], lambda m: np.asfortranarray(m[:, :9]), lambda m: m[::-1, :9]])
@pytest.mark.parametrize("boolean", [True, False])
def test_masks_in_any_layout(view, boolean):
    q, k, v = operands((2,), 5, 9, 4)
    mask = view(seen(5, 18) if boolean else draw(5, 18))[:, :9]
    want = F.scaled_dot_product_attention(q, k, v, np.ascontiguousarray(mask))
    assert np.array_equal(F.scaled_dot_product_attention(q, k, v, mask), want)
    assert np.array_equal(F.scaled_dot_product_attention(q, k, v, np.broadcast_to(mask, (2, 5, 9))), want)


# ---- errors ----

Q, K, V, W = draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 6), draw(4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": draw(4)}, ValueError, r"q has shape \(4,\), expected \(…, T, E\)"),
        ({"k": np.ones((), np.float32)}, ValueError, r"k has shape \(\), expected \(…, S, E\)"),
        ({"v": draw(5)}, ValueError, r"v has shape \(5,\), expected \(…, S, Ev\)"),
        ({"k": draw(2, 5, 3)}, ValueError, r"q has 4 features, shape \(2, 3, 4\), k has 3"),
        ({"q": draw(2, 3, 0), "k": draw(2, 5, 0)}, ValueError, "q has 0 features, .* at least one"),
        ({"v": draw(2, 4, 6)}, ValueError, r"v has shape \(2, 4, 6\), expected \(2, 5, 6\)"),
        ({"k": draw(3, 5, 4), "v": draw(3, 5, 6)}, ValueError, r"k has shape \(3, 5, 4\), expected \(2, 'S', 4\)"),
        ({"mask": draw(5, 3)}, ValueError, r"mask has shape \(5, 3\), expected one that broadcasts to \(2, 3, 5\)"),
        ({"mask": seen(1, 2, 3, 5)}, ValueError, r"mask has shape \(1, 2, 3, 5\), expected .* \(2, 3, 5\)"),
        ({"mask": np.ones((3, 5), int)}, TypeError, r"mask has dtype int64, expected bool, or float32"),
        ({"mask": np.ones((3, 5))}, TypeError, r"mask has dtype float64, expected float32"),
        ({"mask": [True]}, TypeError, "mask must be a NumPy array"),
    ],
)
@pytest.mark.parametrize("op", [SDPA, f"{SDPA}_weights", "additive_attention"])
def test_errors(op, change, error, message):
    weight = {"weight": W[: change.get("q", Q).shape[-1]]} if op == "additive_attention" else {}
    arrays = {"q": Q, "k": K, **weight, "v": V, **change}
    with pytest.raises(error, match=rf"^{op}: .*{message}"):
        getattr(ops, f"{op}_forward")(**arrays)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((Q, K, V), {"scale": "1"}, TypeError, "scale must be a number"),
        ((Q, K[:1], V[:1]), {}, ValueError, r"k has shape \(1, 5, 4\), expected \(2, 'S', 4\)"),
        ((draw(4, 3, 4), draw(3, 5, 4), draw(3, 5, 6)), {"enable_gqa": True}, ValueError, "a multiple of H"),
        ((Q[0], K, V), {"enable_gqa": True}, ValueError, "a multiple of H"),
    ],
)
def test_errors_of_options(arrays, options, error, message):
    with pytest.raises(error, match=rf"^{SDPA}: .*{message}"):
        ops.scaled_dot_product_attention_forward(*arrays, **options)


def test_errors_of_additive_attention():
    with pytest.raises(ValueError, match=r"^additive_attention: weight has shape \(3,\), expected \(4,\)"):
        ops.additive_attention_forward(Q, K, W[:3], V)


def test_errors_of_functional():
    with pytest.raises(ValueError, match=r"dropout: p is 1\.5, expected 0 to 1"):
        F.scaled_dot_product_attention(Q, K, V, dropout_p=1.5)

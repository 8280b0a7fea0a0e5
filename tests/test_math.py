"""Vector mathematics: accuracy in units of the last place, special values, and what losses promise beyond a formula.

Agreement with the reference over shapes and options, gradients, and errors of dtype and rank are in the tests that
iterate over the registry.
"""

import numpy as np
import pytest
from support import samples, ulps, wider

from fastnn import functional as F
from fastnn import num_threads, ops
from fastnn.kernels import runtime

DTYPES = [np.float32, np.float64]
INF, NAN = np.inf, np.nan


@pytest.fixture(params=runtime.supported_isas(), autouse=True)
def isa(request):
    before = runtime.get_isa()
    runtime.set_isa(request.param)
    yield request.param
    runtime.set_isa(before)


@pytest.fixture
def parallel():
    """Every call uses all the threads it is allowed, however small."""
    before = runtime.set_seconds_per_thread(0)
    yield
    runtime.set_seconds_per_thread(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_within_2_ulp(dtype):
    """softmax([0, x]) / (its first element) is exp(x) for x so small that the sum rounds to 1."""
    x = samples(dtype)
    x = x[x < -50]
    wide = x.astype(wider(dtype))
    y = F.softmax(np.stack([np.zeros_like(x), x]), 0)
    assert (y[0] == 1).all()
    with np.errstate(under="ignore"):
        error = ulps(y[1], np.exp(wide))
    assert error.max() <= 2, f"{error.max()} ulp at {x[error.argmax()]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_of_sum_is_within_2_ulp(dtype):
    """log_softmax of n zeros is -log(n)."""
    for n in [1, 2, 3, 7, 10, 1000, 4099]:
        y = F.log_softmax(np.zeros((1, n), dtype), 1)
        assert (y == y[0, 0]).all()
        assert (ulps(y[0, :1], -np.log(np.array([n], np.longdouble))) <= 2).all() if n > 1 else y[0, 0] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("inner", [1, 3, 200])
def test_softmax_special_values(function, dtype, inner):
    rows = np.array([[1, 2, 3], [1, NAN, 3], [INF, 2, 3], [-INF] * 3, [-INF, 0, -INF], [1e4, 1e4, 1e4 - 1]], dtype)
    x = np.repeat(rows.T[:, :, None], inner, 2).transpose(1, 0, 2)  # (6, 3, inner)
    with np.errstate(divide="ignore"):
        e = np.exp([[1, 2, 3], [0, 0, -1]])
        p, q = e / e.sum(axis=1, keepdims=True)
        want = np.array([p, [NAN] * 3, [NAN] * 3, [NAN] * 3, [0, 1, 0], q])
        if function is F.log_softmax:
            want = np.log(want)
    y = function(np.ascontiguousarray(x), 1)
    np.testing.assert_allclose(y, np.repeat(want[:, :, None], inner, 2), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(70, 33), (3, 21, 300), (1, 5, 1)])
def test_bits_do_not_depend_on_threads(parallel, shape):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, *shape)).astype(np.float32)
    target = rng.integers(0, shape[1], shape[:1] + shape[2:])

    def run():
        y, softmax_ctx = ops.softmax_forward(x, 1)
        loss, entropy_ctx = ops.cross_entropy_forward(x, target, label_smoothing=0.1)
        error, mse_ctx = ops.mse_loss_forward(x, z)
        return [
            *(y, ops.softmax_backward(z, softmax_ctx)),
            *(loss, ops.cross_entropy_backward(1.0, entropy_ctx)),
            *(error, *ops.mse_loss_backward(1.0, mse_ctx)),
        ]

    with num_threads(1):
        alone = run()
    for threads in (2, 3):
        with num_threads(threads):
            for a, b in zip(alone, run(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_softmax_of_a_view():
    x = np.random.default_rng(0).standard_normal((6, 8, 10)).astype(np.float32)
    view = x[::2, ::-1].transpose(2, 0, 1)
    for axis in (0, 1, 2):
        np.testing.assert_array_equal(F.softmax(view, axis), F.softmax(view.copy(), axis))


@pytest.mark.parametrize("axis", [2, -3])
def test_softmax_axis_out_of_range(axis):
    with pytest.raises(ValueError, match=rf"softmax: axis {axis} is out of range .* \(2, 3\)"):
        F.softmax(np.zeros((2, 3), np.float32), axis)


# ---- losses ----


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64, ">i4"])
def test_cross_entropy_takes_any_integers(dtype):
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    target = np.array([0, 4, 2, 1])
    assert F.cross_entropy(x, target.astype(dtype)) == F.cross_entropy(x, target)


@pytest.mark.parametrize("target", [np.zeros(2), np.array([True, False]), [0, 1]])
def test_cross_entropy_refuses_other_targets(target):
    with pytest.raises(TypeError, match="cross_entropy: target must be a NumPy array of integers"):
        F.cross_entropy(np.zeros((2, 3), np.float32), target)


@pytest.mark.parametrize("value", [3, -1, -100, 2**40])
def test_cross_entropy_names_the_target_out_of_range(value):
    target = np.array([[0, 1], [2, value]])
    with pytest.raises(ValueError, match=rf"target has the value {value} at index \[1, 1\], expected 0 to 2, or 7"):
        F.cross_entropy(np.zeros((2, 3, 2), np.float32), target, ignore_index=7)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2), (2, 3, 150)])
def test_ignored_targets_give_nothing(shape):
    """Neither loss nor gradient, even where the logits are NaN; and if all are ignored the mean is NaN, as in torch."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    target = np.full(shape[:1] + shape[2:], 1)
    target[0] = -100
    x[0] = NAN
    loss, ctx = ops.cross_entropy_forward(x, target)
    np.testing.assert_allclose(loss, F.cross_entropy(x[1:], target[1:]), rtol=1e-6)
    dx = ops.cross_entropy_backward(1.0, ctx)
    assert (dx[0] == 0).all()
    assert (dx[1:] != 0).all()

    loss, ctx = ops.cross_entropy_forward(x, np.full_like(target, -100))
    assert np.isnan(loss)
    assert (ops.cross_entropy_backward(1.0, ctx) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_confident_logits(dtype):
    """Losses far above and far below 1 keep their relative accuracy; nothing overflows."""
    x = np.array([[1e4, 0, 0], [1e4, 1e4 - 20, -1e4]], dtype)
    losses = F.cross_entropy(x, np.array([1, 1]), reduction="none")
    np.testing.assert_allclose(losses, [1e4, 20 + np.log1p(np.exp(-20))], rtol=4 * np.finfo(dtype).eps)
    loss, ctx = ops.cross_entropy_forward(x, np.array([0, 0]))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, np.log1p(np.exp(-20)) / 2, atol=eps)
    p = 1 / (1 + np.exp(20))
    np.testing.assert_allclose(ops.cross_entropy_backward(1.0, ctx), [[0, 0, 0], [-p / 2, p / 2, 0]], atol=eps)


def test_loss_of_impossible_class_is_infinite():
    x = np.array([[0, -INF, 0]], np.float32)
    assert F.cross_entropy(x, np.array([1])) == INF
    assert F.cross_entropy(x, np.array([0])) == np.float32(np.log(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_are_summed_in_double(dtype):
    """A million equal terms: single-precision sums would be off in the fourth digit."""
    n = 1_000_003
    x, zero = np.full(n, 0.1, dtype), np.zeros(n, dtype)
    term = float(x[0] * x[0])
    rtol = 2 * np.finfo(np.float32).eps if dtype == np.float32 else 1e-11  # 1e-11: 2√n roundings
    np.testing.assert_allclose(F.mse_loss(x, zero), term, rtol=rtol)
    np.testing.assert_allclose(F.mse_loss(x, zero, reduction="sum"), n * term, rtol=rtol)
    loss = F.cross_entropy(np.zeros((n, 3), dtype), np.zeros(n, np.int64), reduction="sum")
    np.testing.assert_allclose(loss, n * np.log(3), rtol=rtol)


@pytest.mark.parametrize("dy", [2, 2.0, np.float32(2), np.float64(2), np.array(2, np.float32)])
def test_reduced_losses_take_a_scalar_gradient(dy):
    x = np.array([[1, 2, 3]], np.float32)
    loss, ctx = ops.mse_loss_forward(x, np.zeros_like(x))
    assert isinstance(loss, np.ndarray)
    assert loss.shape == ()
    dx, dtarget = ops.mse_loss_backward(dy, ctx)
    assert dx.dtype == np.float32
    np.testing.assert_allclose(dx, 4 * x / 3, rtol=1e-6)
    np.testing.assert_array_equal(dtarget, -dx)
    assert ops.mse_loss_backward(dy, ctx, needs=(False, True))[0] is None
    _, ctx = ops.cross_entropy_forward(x, np.array([0]))
    assert ops.cross_entropy_backward(dy, ctx).sum() == pytest.approx(0, abs=1e-6)


def test_unreduced_losses_take_a_gradient_of_their_shape():
    x = np.zeros((4, 3), np.float32)
    _, ctx = ops.cross_entropy_forward(x, np.zeros(4, int), reduction="none")
    with pytest.raises(ValueError, match=r"cross_entropy: dy has shape \(3,\), expected \(4,\)"):
        ops.cross_entropy_backward(np.zeros(3, np.float32), ctx)
    with pytest.raises(TypeError, match="cross_entropy: dy must be a NumPy array"):
        ops.cross_entropy_backward(1.0, ctx)


def test_empty_batch():
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(F.mse_loss(x, x))
    assert F.mse_loss(x, x, reduction="sum") == 0
    loss, ctx = ops.cross_entropy_forward(x, np.zeros(0, int))
    assert np.isnan(loss)
    assert ops.cross_entropy_backward(1.0, ctx).shape == (0, 3)
    assert F.softmax(x, 1).shape == (0, 3)
    with pytest.raises(ValueError, match="at least one element along axis 0"):
        F.softmax(x, 0)


@pytest.mark.parametrize("loss", [F.mse_loss, lambda x, t, **k: F.cross_entropy(x, t.astype(int)[:, 0], **k)])
def test_unknown_reduction(loss):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="reduction is 'average', expected 'mean', 'sum' or 'none'"):
        loss(x, x, reduction="average")


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, NAN])
def test_label_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match="label_smoothing is"):
        F.cross_entropy(np.zeros((2, 3), np.float32), np.zeros(2, int), label_smoothing=smoothing)


# ---- weights, probabilities and divergences ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_probability_of_1_is_an_index(dtype):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((7, 19)).astype(dtype), rng.uniform(0.5, 2, 19).astype(dtype)
    target = rng.integers(0, 19, 7)
    given = np.eye(19, dtype=dtype)[target]
    for options in ({}, {"label_smoothing": 0.2}):
        results = []
        for t in (target, given):
            loss, ctx = ops.cross_entropy_forward(x, t, weight, reduction="sum", **options)
            results.append((loss, ops.cross_entropy_backward(1.0, ctx)))
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=30 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


def test_impossible_classes_of_probability_0_cost_nothing():
    x = np.array([[0, -INF, 0], [0, 0, -INF]], np.float32)
    p = np.array([[0.5, 0, 0.5], [0, 0.5, 0.5]], np.float32)
    losses = F.cross_entropy(x, p, reduction="none")
    assert losses[0] == np.float32(np.log(2))
    assert losses[1] == INF


def test_all_weights_0_is_the_mean_of_nothing():
    loss, ctx = ops.cross_entropy_forward(np.ones((2, 3), np.float32), np.array([0, 1]), np.zeros(3, np.float32))
    assert np.isnan(loss)
    assert (ops.cross_entropy_backward(1.0, ctx) == 0).all()


def test_nll_of_log_softmax_is_cross_entropy():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((5, 7, 3)), rng.integers(0, 7, (5, 3))
    weight = rng.uniform(0.5, 2, 7)
    target[0, 0] = -100
    want = F.cross_entropy(x, target, weight)
    np.testing.assert_allclose(F.nll_loss(F.log_softmax(x, 1), target, weight), want, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_far_from_0(dtype):
    """Binary cross-entropy neither overflows nor loses small losses."""
    x = np.array([200, -200, 30, -30, 0], dtype)
    one, zero = np.ones(5, dtype), np.zeros(5, dtype)
    losses = F.binary_cross_entropy_with_logits(x, one, reduction="none")
    want = np.array([np.exp(-200), 200, np.log1p(np.exp(-30)), 30 + np.log1p(np.exp(-30)), np.log(2)])
    np.testing.assert_allclose(losses, want, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).smallest_subnormal)
    np.testing.assert_array_equal(
        F.binary_cross_entropy_with_logits(-x, zero, reduction="none")[[1, 3]], losses[[1, 3]]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_at_the_edges(dtype):
    """Binary cross-entropy is at most 100 for a sure mistake, loses no small loss, and is NaN for no probability."""
    eps = np.finfo(dtype).eps
    x = np.array([0, 0, 1, 1, 1e-9, 1 - eps, -eps, 1 + eps, np.nan], dtype)
    target = np.array([1, 0, 0, 1, 0, 0, 0.5, 0.5, 0.5], dtype)
    losses = F.binary_cross_entropy(x, target, reduction="none")
    want = [100, 0, 100, 0, -np.log1p(-np.float64(x[4])), -np.log(np.float64(eps)), np.nan, np.nan, np.nan]
    np.testing.assert_allclose(losses, np.array(want, dtype), rtol=4 * eps)
    dx, _ = ops.binary_cross_entropy_backward(
        np.ones_like(x), ops.binary_cross_entropy_forward(x, target, reduction="none")[1]
    )
    np.testing.assert_allclose(dx[:4], np.array([-1e12, 0, 1e12, 0], dtype), rtol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [1, 3, 140])
def test_js_divergence_of_known_distributions(dtype, inner):
    """0 for equal, 1 bit for disjoint, symmetric, never outside of [0, 1]; no NaN from zeros."""
    rng = np.random.default_rng(0)
    p = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0, 0, 0.25, 0.75], [0.1, 0.2, 0.3, 0.4]], dtype)
    q = np.array([[0, 0, 0.5, 0.5], [1, 0, 0, 0], [0.75, 0.25, 0, 0], [0.1, 0.2, 0.3, 0.4]], dtype)
    p, q = (np.ascontiguousarray(np.repeat(v[:, :, None], inner, 2)) for v in (p, q))
    for a, b in ((p, q), (q, p)):
        d, ctx = ops.js_divergence_forward(a, b, 1, "none")
        np.testing.assert_array_equal(d, np.repeat([[1], [0], [1], [0]], inner, 1))
        for gradient in ops.js_divergence_backward(np.ones_like(d), ctx):
            assert np.isfinite(gradient).all()
    p, q = (rng.dirichlet(np.full(33, 0.05), 500).astype(dtype) for _ in range(2))
    d = F.js_divergence(p, q, reduction="none")
    assert ((d >= 0) & (d <= 1)).all()
    np.testing.assert_allclose(F.js_divergence(q, p, reduction="none"), d, rtol=0, atol=8 * np.finfo(dtype).eps)
    close = F.js_divergence(p, p * dtype(1 + 4 * np.finfo(dtype).eps), reduction="none")
    assert ((close >= 0) & (close < 1e-5)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 16, 37, 133])
@pytest.mark.parametrize("inner", [1, 3, 140])
def test_argmax_takes_the_first_and_nan(dtype, n, inner):
    """As NumPy's and torch's; hardmax is 1 there."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (6, n, inner)).astype(dtype)
    x[1] = -INF
    x[2, n // 2], x[2, n - 1] = NAN, NAN
    x[3, 0] = NAN
    x[4, n - 1] = INF
    x[5] = -0.0
    x[5, n // 2] = 0.0
    index = F.argmax(x, 1)
    np.testing.assert_array_equal(index, x.argmax(1))
    assert index.dtype == np.int64
    y = F.hardmax(x, 1)
    np.testing.assert_array_equal(y.argmax(1), index)
    np.testing.assert_array_equal(y.sum(1), 1)
    assert ((y == 0) | (y == 1)).all()


def test_kl_div_of_zeros():
    x, target = np.log(np.full(4, 0.25, np.float32)), np.array([0, 0.5, 0.5, 0], np.float32)
    assert F.kl_div(x, target, reduction="sum") == pytest.approx(np.log(2), rel=1e-6)
    _, ctx = ops.kl_div_forward(x, target, "sum")
    dx, dtarget = ops.kl_div_backward(1.0, ctx)
    np.testing.assert_array_equal(dx, -target)
    np.testing.assert_array_equal(dtarget[[0, 3]], 0)

"""Vector mathematics: accuracy in units of the last place, special values, and what losses promise beyond a formula.

Agreement with the reference over shapes and options, gradients, and errors of dtype and rank are in the tests that
iterate over the registry.
"""

import numpy as np
import pytest

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


def ulps(y, exact):
    """|y - exact| in units of the last place of y's dtype at exact; infinities must agree, subnormals count too."""
    info = np.finfo(y.dtype)
    with np.errstate(over="ignore"):
        rounded = exact.astype(y.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    _, exponent = np.frexp(exact[finite])
    ulp = np.ldexp(exact.dtype.type(1), np.maximum(exponent, info.minexp + 1) - info.nmant - 1)
    return np.abs(y[finite].astype(exact.dtype) - exact[finite]) / ulp


def samples(dtype):
    """Values of every magnitude, and densely where the functions bend; with wider reals to compute the truth in."""
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        # every 4099th of all bit patterns: a prime, so that the low bits vary
        x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
        wide = np.float64
    else:
        x = rng.integers(0, 2**64, 300_000, dtype=np.uint64).view(np.float64)
        wide = np.longdouble
        if np.finfo(wide).nmant < 60:
            pytest.skip("no type wider than double here")
    with np.errstate(over="ignore"):
        dense = [rng.uniform(-s, s, 100_000).astype(dtype) for s in (1e-3, 1, 20, 110, 750)]
    x = np.concatenate([x[np.isfinite(x)], *dense])
    return x, x.astype(wide)


def sigmoid_of(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "truth"), [(F.sigmoid, sigmoid_of), (F.tanh, np.tanh)])
def test_activations_are_within_4_ulp(function, truth, dtype):
    x, wide = samples(dtype)
    with np.errstate(under="ignore"):
        error = ulps(function(x), truth(wide))
    assert error.max() <= 4, f"{error.max()} ulp at {x[error.argmax()]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_within_2_ulp(dtype):
    """softmax([0, x]) / (its first element) is exp(x) for x so small that the sum rounds to 1."""
    x, wide = samples(dtype)
    x, wide = x[x < -50], wide[x < -50]
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
def test_special_values(dtype):
    x = np.array([0.0, -0.0, INF, -INF, NAN], dtype)
    np.testing.assert_array_equal(F.sigmoid(x), np.array([0.5, 0.5, 1, 0, NAN], dtype))
    y = F.tanh(x)
    np.testing.assert_array_equal(y, np.array([0, 0, 1, -1, NAN], dtype))
    np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormals(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([1, 2, 3, 1000, -1, -5], dtype) * tiny
    np.testing.assert_array_equal(F.tanh(x), x)
    deepest = dtype(np.log(tiny))  # the least value whose exponential is not rounded to zero
    y = F.sigmoid(np.array([deepest, 1.1 * deepest], dtype))
    assert y[0] == tiny
    assert y[1] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [F.relu, F.sigmoid, F.tanh])
def test_a_value_gives_the_same_result_in_every_lane(function, dtype):
    values = np.array([-3.3, -0.7, 0.1, 2.6, -95.0], dtype)
    alone = [function(v.reshape(1))[0] for v in values]
    for n in range(1, 36):
        for v, y in zip(values, alone, strict=True):
            np.testing.assert_array_equal(function(np.full(n, v)), np.full(n, y))


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

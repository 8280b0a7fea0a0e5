"""Batch norm beyond its cases: hard data, running statistics, errors."""

import numpy as np
import pytest

from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.verify import forced

ISAS = runtime.supported_isas()
SHAPES = [(1000, 37), (100, 64), (8, 3, 50, 50), (64, 3, 7, 7), (2, 2, 1, 1025)]


def draw(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_mean_much_larger_than_deviation(isa, shape):
    x = (1e4 + 0.1 * draw(shape, np.float64)).astype(np.float32)
    dy = draw(shape, seed=1)
    running_mean, running_var = np.zeros((2, shape[1]), np.float32)
    with forced(isa):
        y, ctx = ops.batch_norm_forward(x, None, None, running_mean, running_var, momentum=1.0)
        dx, *_ = ops.batch_norm_backward(dy, ctx)
    wide, wide_ctx = reference.batch_norm_forward(x.astype(np.float64))
    wide_dx, *_ = reference.batch_norm_backward(dy.astype(np.float64), wide_ctx)
    # x - mean is exact but for the mean's own error, which the kernel keeps in double precision: what remains is the
    # rounding of the last few operations, and of sums of up to 64 values.
    eps = np.finfo(np.float32).eps
    assert np.abs(y - wide).max() <= 8 * eps * np.abs(wide).max()
    assert np.abs(dx - wide_dx).max() <= 64 * eps * np.abs(wide_dx).max()
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(running_mean, x.mean(axes, dtype=np.float64), rtol=eps)
    np.testing.assert_allclose(running_var, x.var(axes, dtype=np.float64, ddof=1), rtol=64 * eps)


@pytest.mark.parametrize("isa", ISAS)
def test_constant_channel_has_no_variance(isa):
    x = np.full((3, 2, 7, 11), 0.1, np.float32)
    running_var = np.ones(2, np.float32)
    with forced(isa):
        y, _ = ops.batch_norm_forward(x, running_var=running_var, momentum=1.0)
    ulp = np.spacing(np.float32(0.1))
    assert (running_var >= 0).all()
    assert (running_var <= ulp**2).all()
    assert np.abs(y).max() <= ulp / np.sqrt(1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
def test_non_finite_values_stay_in_their_channel(shape):
    x = draw(shape)
    x[0, 0], x[1, 1] = np.inf, np.nan
    running_mean, running_var = np.zeros((2, 3), np.float32)
    y, _ = ops.batch_norm_forward(x, None, None, running_mean, running_var)
    assert np.isnan(y[:, :2]).all()
    assert np.isfinite(y[:, 2]).all()
    assert running_mean[0] == np.inf  # as PyTorch's
    assert np.isnan(running_mean[1])
    assert np.isnan(running_var[:2]).all()


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_running_statistics(momentum):
    x = draw((5, 2, 3), np.float64)
    running_mean, running_var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    ops.batch_norm_forward(x, None, None, running_mean, running_var, momentum=momentum)
    keep = 1 - momentum
    np.testing.assert_allclose(running_mean, keep * np.array([1, 2]) + momentum * x.mean((0, 2)), rtol=1e-14)
    np.testing.assert_allclose(running_var, keep * np.array([3, 4]) + momentum * x.var((0, 2), ddof=1), rtol=1e-14)


def test_cumulative_average():
    batches = draw((4, 5, 2, 3), np.float64)
    running_mean, running_var = np.full((2, 2), 9.0)
    count = np.zeros((), np.int64)
    for x in batches:
        ops.batch_norm_forward(x, None, None, running_mean, running_var, momentum=None, num_batches_tracked=count)
    ops.batch_norm_forward(
        x[:0], None, None, running_mean, running_var, momentum=None, num_batches_tracked=count
    )  # counts nothing
    assert count == 4
    np.testing.assert_allclose(running_mean, batches.mean((0, 1, 3)), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(running_var, batches.var((1, 3), ddof=1).mean(0), rtol=1e-14)
    ops.batch_norm_forward(x, None, None, running_mean, running_var, momentum=1.0, num_batches_tracked=count)
    assert count == 5
    np.testing.assert_allclose(running_mean, x.mean((0, 2)), rtol=1e-14)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("shape", [(6, 70), (3, 4, 5, 7)])
def test_fused_operators_are_the_separate_ones(shape, residual, training):
    """Bit for bit, the backward pass included: the fused ReLU passes what the separate one passes."""
    x, r, dy = (draw(shape, seed=seed) for seed in range(3))
    weight, bias, mean, var = (draw(shape[1], seed=seed) for seed in range(3, 7))
    var = np.abs(var) + 1
    arguments = x, weight, bias, mean, var

    y, ctx = ops.batch_norm_forward(*[a.copy() for a in arguments], training=training)
    total, relu_ctx = ops.relu_forward(y + r if residual else y)
    passed = ops.relu_backward(dy, relu_ctx)
    want = [total, *ops.batch_norm_backward(passed, ctx)[:3], passed if residual else None]

    y, ctx = ops.batch_norm_forward(
        *[a.copy() for a in arguments], r if residual else None, relu=True, training=training
    )
    got = [y, *ops.batch_norm_backward(dy, ctx)]
    for a, b in zip(got, want, strict=True):
        assert (a is None and b is None) or np.array_equal(a, b)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(300, 70), (6, 2, 41, 53)])
def test_first_chunk_far_from_the_others(isa, shape):
    """Deviations are from the mean of earlier chunks: those of the second are a thousand times the rest's."""
    x = draw(shape, np.float64)
    x.reshape(shape[0], shape[1], -1)[: max(1, shape[0] // 5)] += 1e3
    x = x.astype(np.float32)
    running_mean, running_var = np.zeros((2, shape[1]), np.float32)
    with forced(isa):
        ops.batch_norm_forward(x, None, None, running_mean, running_var, momentum=1.0)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(running_mean, x.mean(axes, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(running_var, x.var(axes, dtype=np.float64, ddof=1), rtol=1e-5)


def test_inference_leaves_running_statistics_alone():
    x, mean, var = draw((4, 3, 5)), draw(3), np.abs(draw(3)) + 1
    before = mean.copy(), var.copy()
    mean.flags.writeable = var.flags.writeable = False
    _, ctx = ops.batch_norm_forward(x, None, None, mean, var, training=False)
    assert np.array_equal(mean, before[0])
    assert np.array_equal(var, before[1])
    dx, *_ = ops.batch_norm_backward(np.ones_like(x), ctx)
    scale = 1 / np.sqrt(var.astype(np.float64) + 1e-5)
    np.testing.assert_allclose(dx, np.broadcast_to(scale[:, None], x.shape), rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4)])
def test_empty_batch(shape):
    x, w = np.empty(shape, np.float32), np.ones(3, np.float32)
    running_mean, running_var = np.full((2, 3), 7, np.float32)
    y, ctx = ops.batch_norm_forward(x, w, w, running_mean, running_var)
    assert y.shape == shape
    assert np.array_equal(running_mean, [7, 7, 7])
    assert np.array_equal(running_var, [7, 7, 7])
    dx, dweight, dbias, _ = ops.batch_norm_backward(x, ctx)
    assert dx.shape == shape
    assert np.array_equal(dweight, [0, 0, 0])
    assert np.array_equal(dbias, [0, 0, 0])


def test_only_needed_gradients():
    x, w = draw((4, 3, 5)), draw(3)
    _, ctx = ops.batch_norm_forward(x, w, w, residual=draw(x.shape, seed=2), relu=True)
    dy = draw(x.shape, seed=1)
    every = ops.batch_norm_backward(dy, ctx)
    for i in range(4):
        some = ops.batch_norm_backward(dy, ctx, [i == j for j in range(4)])
        assert np.array_equal(some[i], every[i])
        assert [g is None for g in some] == [i != j for j in range(4)]


def read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": draw((1, 3))}, ValueError, "one value per channel"),
        ({"x": draw((1, 3, 1, 1))}, ValueError, "one value per channel"),
        ({"x": draw(3)}, ValueError, r"\(N, C\)"),
        ({"x": draw((2, 3, 0))}, ValueError, "at least one"),
        ({"momentum": None}, ValueError, "num_batches_tracked"),
        ({"num_batches_tracked": 0}, TypeError, "num_batches_tracked must be a NumPy array, got int"),
        ({"num_batches_tracked": np.zeros(())}, TypeError, "num_batches_tracked has dtype float64"),
        ({"num_batches_tracked": read_only(np.zeros((), np.int64))}, ValueError, "num_batches_tracked is updated"),
        ({"residual": draw((2, 3))}, ValueError, r"residual has shape \(2, 3\), expected \(2, 3, 4\)"),
        ({"training": False}, ValueError, "running_mean and running_var are needed"),
        ({"weight": draw(4)}, ValueError, r"weight has shape \(4,\), expected \(3,\)"),
        ({"running_mean": draw(3, np.float64)}, TypeError, "running_mean has dtype float64"),
        ({"running_mean": read_only(draw(3))}, ValueError, "running_mean is updated in place"),
        ({"running_var": draw(6)[::2]}, ValueError, "running_var is updated in place"),
        ({"running_var": [1.0, 1.0, 1.0]}, TypeError, "running_var must be a NumPy array"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        ops.batch_norm_forward(**{"x": draw((2, 3, 4)), **options})

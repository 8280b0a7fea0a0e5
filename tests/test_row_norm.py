"""Layer, group, instance, root-mean-square and local response norm beyond their cases: hard data, identities."""

import numpy as np
import pytest

from fastnn import functional as F
from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.verify import forced

ISAS = runtime.supported_isas()
EPS = np.finfo(np.float32).eps


def draw(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("op", "shape", "arguments"),
    [
        ("layer_norm", (9, 37), (37,)),
        ("layer_norm", (3, 9000), (9000,)),
        ("layer_norm", (2, 3, 40, 50), ((3, 40, 50),)),
        ("group_norm", (3, 8, 9, 11), (4,)),
        ("group_norm", (2, 4, 70, 70), (2,)),
        ("instance_norm", (3, 4, 50, 50), ()),
        ("instance_norm", (2, 2, 1025), ()),
    ],
)
def test_mean_much_larger_than_deviation(isa, op, shape, arguments):
    x = (1e4 + 0.1 * draw(shape, np.float64)).astype(np.float32)
    dy = draw(shape, seed=1)
    with forced(isa):
        y, ctx = getattr(ops, f"{op}_forward")(x, *arguments)
        dx, *_ = getattr(ops, f"{op}_backward")(dy, ctx)
    wide, wide_ctx = getattr(reference, f"{op}_forward")(x.astype(np.float64), *arguments)
    wide_dx, *_ = getattr(reference, f"{op}_backward")(dy.astype(np.float64), wide_ctx)
    # As of batch norm (test_norm.py): x - mean is exact but for the mean's own error, kept in double precision.
    assert np.abs(y - wide).max() <= 8 * EPS * np.abs(wide).max()
    assert np.abs(dx - wide_dx).max() <= 64 * EPS * np.abs(wide_dx).max()


@pytest.mark.parametrize("isa", ISAS)
def test_constant_rows_have_no_variance(isa):
    x = np.full((5, 6, 7, 11), 0.1, np.float32)
    most = np.spacing(np.float32(0.1)) / np.sqrt(1e-5)
    with forced(isa):
        for y in (F.layer_norm(x, (6, 7, 11)), F.group_norm(x, 3), F.instance_norm(x)):
            assert np.abs(y).max() <= most


def test_not_finite_values_stay_in_their_row():
    x = draw((4, 6, 5, 5))
    x[0, 0, 0, 0], x[1, 3, 2, 2] = np.inf, np.nan
    spoiled = np.zeros((4, 6), bool)
    spoiled[0, 0] = spoiled[1, 3] = True
    assert np.array_equal(np.isnan(F.instance_norm(x)).all((2, 3)), spoiled)
    assert np.array_equal(np.isnan(F.instance_norm(x)).any((2, 3)), spoiled)
    groups = np.repeat(spoiled.reshape(4, 2, 3).any(2), 3, axis=1)
    assert np.array_equal(np.isnan(F.group_norm(x, 2)).all((2, 3)), groups)
    assert np.array_equal(np.isnan(F.layer_norm(x, (6, 5, 5))).all((1, 2, 3)), spoiled.any(1))


@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (2, 4, 24, 32)])
def test_group_norm_between_layer_and_instance_norm(shape):
    """One group is layer norm of a sample, as many groups as channels are instance norm."""
    x, dy, w, b = draw(shape), draw(shape, seed=1), draw(shape[1], seed=2), draw(shape[1], seed=3)
    y, ctx = ops.group_norm_forward(x, shape[1], w, b)
    same, same_ctx = ops.instance_norm_forward(x, weight=w, bias=b)
    assert np.array_equal(y, same)
    for a, c in zip(ops.group_norm_backward(dy, ctx), ops.instance_norm_backward(dy, same_ctx), strict=True):
        assert np.array_equal(a, c)
    assert np.array_equal(F.group_norm(x, 1), F.layer_norm(x, shape[1:]))


def test_layer_norm_of_centred_rows_is_rms_norm():
    x = draw((50, 64), np.float64)
    x -= x.mean(1, keepdims=True)
    np.testing.assert_allclose(F.layer_norm(x, 64, eps=1e-3), F.rms_norm(x, 64, eps=1e-3), rtol=1e-13, atol=1e-14)


def test_default_eps_of_rms_norm_is_the_machines(dtype):
    x = np.finfo(dtype).eps * draw((20, 5), dtype)
    want = x / np.sqrt(np.square(x).mean(1, keepdims=True) + np.finfo(dtype).eps)
    np.testing.assert_allclose(F.rms_norm(x, 5), want, rtol=8 * np.finfo(dtype).eps)


def test_layer_norm_takes_an_integer_and_a_list():
    x = draw((3, 5, 8))
    want = F.layer_norm(x, (8,))
    assert np.array_equal(F.layer_norm(x, 8), want)
    assert np.array_equal(F.layer_norm(x, [8]), want)
    assert np.array_equal(F.layer_norm(x, np.int64(8)), want)


@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_running_statistics(momentum):
    x = draw((5, 2, 3, 4), np.float64)
    mean, var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    ops.instance_norm_forward(x, mean, var, momentum=momentum, keep=False)
    ops.instance_norm_forward(x[:0], mean, var, momentum=momentum)  # changes nothing
    keep = 1 - momentum
    np.testing.assert_allclose(mean, keep * np.array([1, 2]) + momentum * x.mean((0, 2, 3)), rtol=1e-14)
    want = keep * np.array([3, 4]) + momentum * x.var((2, 3), ddof=1).mean(0)
    np.testing.assert_allclose(var, want, rtol=1e-14)


def test_only_one_running_statistic():
    x = draw((5, 2, 3, 4))
    both, alone = np.zeros((2, 2, 2), np.float32)
    ops.instance_norm_forward(x, both[0], both[1])
    ops.instance_norm_forward(x, running_mean=alone[0])
    ops.instance_norm_forward(x, running_var=alone[1], keep=False)
    assert np.array_equal(both, alone)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 127, 128, 129, 1100])
def test_weight_gradients_of_any_number_of_rows(rows):
    """Sums over rows are cut into parts, whose number depends on that of the rows."""
    x, dy, w = draw((rows, 21), np.float64), draw((rows, 21), np.float64, 1), draw(21, np.float64, 2)
    _, ctx = ops.layer_norm_forward(x, 21, w, w)
    _, want_ctx = reference.layer_norm_forward(x, 21, w, w)
    want = reference.layer_norm_backward(dy, want_ctx)
    for needs in ((False, True, True), (True, True, False), (False, False, True)):
        for got, expected, need in zip(ops.layer_norm_backward(dy, ctx, needs), want, needs, strict=True):
            if need:
                np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
            else:
                assert got is None


def test_layer_norm_of_nothing():
    w = np.zeros((0,), np.float32)
    y, ctx = ops.layer_norm_forward(np.zeros((3, 0), np.float32), 0, w, w)
    assert y.shape == (3, 0)
    assert [g.shape for g in ops.layer_norm_backward(y, ctx)] == [(3, 0), (0,), (0,)]


# ---- local response norm ----


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("beta", [0.75, 0.7499999])
def test_response_norm_at_the_edges_of_numbers(isa, beta, dtype):
    """x / d^beta where the base d is 0, subnormal, huge or infinite."""
    info = np.finfo(dtype)
    x = np.array([0, -0.0, info.tiny, 1, np.inf, np.nan, -3e15, 1e-21, info.smallest_subnormal, info.max], dtype)
    x = np.tile(x, (1, 1, 7))
    with forced(isa), np.errstate(all="ignore"):
        y = F.local_response_norm(x, 1, alpha=1.0, beta=beta, k=0.0)
        base = np.square(x)
        want = x / base.astype(np.longdouble) ** np.longdouble(beta)
        assert np.array_equal(np.isnan(y), np.isnan(want))
        finite = np.isfinite(want) & np.isfinite(y)
        assert np.array_equal(y[~finite & ~np.isnan(y)], want.astype(dtype)[~finite & ~np.isnan(y)])
        # a power by logarithm and exponential magnifies rounding by beta |log d|, at most 700
        bound = (8 if beta == 0.75 else 2800) * info.eps
        assert (np.abs(y[finite] - want[finite]) <= bound * np.abs(want[finite])).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("columns", [7, 300, 5000])
def test_response_norm_of_more_channels_than_the_window_and_less(isa, columns):
    for channels, size in [(1, 5), (3, 9), (11, 4), (11, 5)]:
        x, dy = draw((2, channels, columns), np.float64), draw((2, channels, columns), np.float64, 1)
        with forced(isa, threads=3):
            y, ctx = ops.local_response_norm_forward(x, size, alpha=1.0)
            dx = ops.local_response_norm_backward(dy, ctx)
        want, want_ctx = reference.local_response_norm_forward(x, size, alpha=1.0)
        np.testing.assert_allclose(y, want, rtol=1e-14)
        np.testing.assert_allclose(dx, reference.local_response_norm_backward(dy, want_ctx), rtol=1e-12, atol=1e-13)


def test_response_norm_sums_windows_anew():
    """A channel of huge values leaves no trace behind its window."""
    x = draw((1, 9, 40))
    x[0, 1] *= 1e15
    y, apart = (F.local_response_norm(a, 5, alpha=1.0) for a in (x, x[:, 4:].copy()))
    assert np.array_equal(y[:, 6:], apart[:, 2:])

"""Pooling and sub-sampling: what the registry's cases cannot express."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn import functional as F
from fastnn import ops, reference
from fastnn.kernels import runtime
from fastnn.verify import forced

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
LEVELS = [(isa, threads) for isa in runtime.supported_isas() for threads in (1, 2, 3)]
at_every_level = pytest.mark.parametrize("level", LEVELS, ids=str)
SELECT = ["max_pool2d", "min_pool2d"]


def forward(op, *args, module=ops, **options):
    return getattr(module, f"{op}_forward")(*args, **options)


def backward(op, *args, module=ops):
    return getattr(module, f"{op}_backward")(*args)


# ---- any geometry ----


@st.composite
def problems(draw, dilated):
    """An image of small integers, and windows that fit it."""
    k = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    options = {
        "kernel_size": k,
        "stride": draw(st.none() | st.integers(1, 4) | st.tuples(st.integers(1, 6), st.integers(1, 6))),
        "padding": tuple(draw(st.integers(0, n // 2)) for n in k),
        "ceil_mode": draw(st.booleans()),
    }
    d = (1, 1)
    if dilated:
        d = options["dilation"] = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    # With an image as large as the window every window meets it.
    h, w = (draw(st.integers(dd * (n - 1) + 1, dd * (n - 1) + most)) for n, dd, most in zip(k, d, (9, 70), strict=True))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 3)), h, w
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(-3, 4, shape).astype(dtype), options, rng


@pytest.mark.parametrize("op", SELECT)
@settings(deadline=None)  # a shared machine stalls
@given(problems(dilated=True), st.sampled_from(LEVELS))
def test_select_like_the_reference(op, problem, level):
    """Values, indices and gradients, with many ties."""
    x, options, rng = problem
    with forced(*level):
        (y, indices), ctx = forward(op, x, return_indices=True, **options)
        dy = rng.integers(-3, 4, y.shape).astype(x.dtype)
        dx = backward(op, dy, ctx)
        inference, _ = forward(op, x, keep=False, **options)
    (want, want_indices), want_ctx = forward(op, x, return_indices=True, module=reference, **options)
    np.testing.assert_array_equal(y, want, strict=True)
    np.testing.assert_array_equal(indices, want_indices, strict=True)
    np.testing.assert_array_equal(inference, want, strict=True)
    np.testing.assert_array_equal(dx, backward(op, dy, want_ctx, module=reference), strict=True)


@settings(deadline=None)  # a shared machine stalls
@given(problems(dilated=False), st.booleans(), st.none() | st.sampled_from([-3, 1, 7]), st.sampled_from(LEVELS))
def test_average_like_the_reference(problem, count_include_pad, divisor, level):
    """The sums of integers are exact, so that the quotients must be those of the definition, to the last bit."""
    x, options, rng = problem
    options |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    with forced(*level):
        y, ctx = forward("avg_pool2d", x, **options)
        dy = rng.integers(-3, 4, y.shape).astype(x.dtype)
        dx = backward("avg_pool2d", dy, ctx)
    want, want_ctx = forward("avg_pool2d", x, module=reference, **options)
    np.testing.assert_array_equal(y, want, strict=True)
    # Each gradient is a sum of at most 36 quotients of at most 3: up to 36 roundings of up to 108, on either side.
    bound = 2 * 36 * 108 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(dx, backward("avg_pool2d", dy, want_ctx, module=reference), rtol=0, atol=bound)


@needs_torch
@pytest.mark.parametrize("op", SELECT)
@settings(deadline=None)  # a shared machine stalls
@given(problems(dilated=True))
def test_select_like_torch(op, problem):
    x, options, rng = problem
    (y, indices), ctx = forward(op, x, return_indices=True, **options)
    sign = 1 if op == "max_pool2d" else -1
    tx = torch.from_numpy(sign * x).requires_grad_()
    ty, tindices = torch.nn.functional.max_pool2d(tx, return_indices=True, **options)
    np.testing.assert_array_equal(y, sign * ty.detach().numpy(), strict=True)
    np.testing.assert_array_equal(indices, tindices.numpy(), strict=True)
    dy = rng.integers(-3, 4, y.shape).astype(x.dtype)
    ty.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(backward(op, dy, ctx), tx.grad.numpy(), strict=True)


@needs_torch
@settings(deadline=None)  # a shared machine stalls
@given(problems(dilated=False), st.booleans(), st.none() | st.sampled_from([-3, 1, 7]))
def test_average_like_torch(problem, count_include_pad, divisor):
    x, options, _ = problem
    y = F.avg_pool2d(x, **options, count_include_pad=count_include_pad, divisor_override=divisor)
    ty = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x), **options, count_include_pad=count_include_pad, divisor_override=divisor
    )
    np.testing.assert_array_equal(y, ty.numpy(), strict=True)


# ---- adaptive windows ----


@st.composite
def shared_images(draw):
    """An image of small integers, and a size to pool it to: smaller, larger, dividing it or not."""
    size = draw(st.integers(1, 13)), draw(st.integers(1, 70))
    output_size = draw(st.tuples(st.integers(1, 15), st.integers(1, 40)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (
        rng.integers(-3, 4, (draw(st.integers(1, 2)), draw(st.integers(1, 6)), *size)).astype(dtype),
        output_size,
        rng,
    )


@settings(deadline=None)  # a shared machine stalls
@given(shared_images(), st.sampled_from(LEVELS))
def test_adaptive_like_the_reference(problem, level):
    """Values, indices and gradients of the maximum, with many ties; averages, of which the sums are exact."""
    x, output_size, rng = problem
    with forced(*level):
        (y, indices), ctx = ops.adaptive_max_pool2d_forward(x, output_size, True)
        dy = rng.integers(-3, 4, y.shape).astype(x.dtype)
        dx = ops.adaptive_max_pool2d_backward(dy, ctx)
        inference = F.adaptive_max_pool2d(x, output_size)
        mean, mean_ctx = ops.adaptive_avg_pool2d_forward(x, output_size)
        dmean = ops.adaptive_avg_pool2d_backward(dy, mean_ctx)
    (want, want_indices), ctx = reference.adaptive_max_pool2d_forward(x, output_size, True)
    np.testing.assert_array_equal(y, want, strict=True)
    np.testing.assert_array_equal(inference, want, strict=True)
    np.testing.assert_array_equal(indices, want_indices, strict=True)
    np.testing.assert_array_equal(dx, reference.adaptive_max_pool2d_backward(dy, ctx), strict=True)
    want, ctx = reference.adaptive_avg_pool2d_forward(x, output_size)
    np.testing.assert_array_equal(mean, want, strict=True)
    # A pixel is in at most 16 x 41 windows: so many roundings of sums up to 3 times that, on either side, if they were
    # all of single pixels.
    most = (2 + y.shape[2] // x.shape[2]) * (2 + y.shape[3] // x.shape[3])
    bound = 2 * most * 3 * most * np.finfo(x.dtype).eps
    np.testing.assert_allclose(dmean, reference.adaptive_avg_pool2d_backward(dy, ctx), rtol=0, atol=bound)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 50), (40, 40)])
@at_every_level
def test_global_pooling(size, level):
    """The whole plane, of any number of planes: the first of equal maxima, the first NaN, the mean of all."""
    x = np.random.default_rng(3).integers(-9, 10, (3, 7, *size)).astype(np.float32)
    x[1, 2].flat[-1:] = np.nan
    flat = x.reshape(3, 7, -1)
    with forced(*level):
        y, indices = F.adaptive_max_pool2d(x, 1, return_indices=True)
        mean, ctx = ops.adaptive_avg_pool2d_forward(x, 1)
        dx = ops.adaptive_avg_pool2d_backward(np.full((3, 7, 1, 1), 3, np.float32), ctx)
    np.testing.assert_array_equal(y[..., 0, 0], flat.max(-1))
    np.testing.assert_array_equal(indices[..., 0, 0], flat.argmax(-1))
    np.testing.assert_array_equal(mean[..., 0, 0], flat.sum(-1) / np.float32(flat.shape[-1]))
    np.testing.assert_array_equal(dx, np.full_like(x, np.float32(3) / np.float32(flat.shape[-1])))


def test_none_keeps_a_size():
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 7))
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, None), x)
    assert F.adaptive_max_pool2d(x, (None, 2)).shape == (2, 3, 5, 2)
    np.testing.assert_array_equal(F.adaptive_avg_pool1d(x[0], None), x[0])


# ---- rows ----


@pytest.mark.parametrize("op", ["max_pool", "min_pool", "avg_pool"])
def test_rows_are_images_one_pixel_high(op):
    x = np.random.default_rng(5).standard_normal((2, 3, 37)).astype(np.float32)
    y, ctx = forward(f"{op}1d", x, 3, 2, 1, ceil_mode=True)
    image, image_ctx = forward(f"{op}2d", x[:, :, None], (1, 3), (1, 2), (0, 1), ceil_mode=True)
    np.testing.assert_array_equal(y, image[:, :, 0])
    np.testing.assert_array_equal(backward(f"{op}1d", y, ctx), backward(f"{op}2d", image, image_ctx)[:, :, 0])
    np.testing.assert_array_equal(getattr(F, f"{op}1d")(x, (3,)), getattr(F, f"{op}1d")(x, 3))


# ---- norms ----


def test_norms_of_a_window():
    x = np.array([[[[3.0, -4, 0, 0]]]])
    window = (1, 2)
    np.testing.assert_array_equal(F.lp_pool2d(x, 2, window), [[[[5, 0]]]])
    np.testing.assert_array_equal(F.lp_pool2d(x, 1, window), [[[[-1, 0]]]])
    np.testing.assert_array_equal(F.lp_pool2d(x, float("inf"), window), [[[[4, 0]]]])
    np.testing.assert_array_equal(F.lp_pool2d(x, float("-inf"), window), [[[[3, 0]]]])
    np.testing.assert_array_equal(F.lp_pool2d(x, 3, window), [[[[np.nan, 0]]]])  # 27 - 64 has no real root here
    np.testing.assert_array_equal(F.lp_pool2d(x, 2.5, window), [[[[np.nan, 0]]]])
    np.testing.assert_allclose(F.lp_pool2d(x, -1, window)[..., 0], 1 / (1 / 3 - 1 / 4), rtol=1e-15)


@at_every_level
@pytest.mark.parametrize("norm", [1, 2, 3, 2.5])
def test_no_gradient_where_the_sum_is_zero(norm, level):
    x = np.zeros((1, 2, 4, 36), np.float32)
    x[0, 1, :, 18:] = 2
    with forced(*level):
        y, ctx = ops.lp_pool2d_forward(x, norm, 2)
        dx = ops.lp_pool2d_backward(np.ones_like(y), ctx)
    assert (dx[x == 0] == 0).all()
    np.testing.assert_allclose(dx[x != 0], 4 ** (1 / norm - 1), rtol=1e-6)


@at_every_level
@pytest.mark.parametrize("norm", [3, 2.5, 0.5, -1, -0.7, 10, 1 / 3])
def test_powers_are_accurate(norm, level, dtype):
    """Of 2 positive numbers over 10 decades: 4 ulp for each power, 1 for the sum, all divided by p; the root, 4."""
    info = np.finfo(dtype)
    scale = min(5, 0.8 * np.log10(float(info.max)) / abs(norm), 0.8 * np.log10(float(info.max)) * abs(norm))
    x = (10 ** np.random.default_rng(6).uniform(-scale, scale, (1, 1, 2000))).astype(dtype)
    with forced(*level):
        y = F.lp_pool1d(x, norm, 2)
    wide = x.astype(np.longdouble).reshape(-1, 2)
    want = (wide**norm).sum(-1) ** (1 / np.longdouble(norm))
    bound = (4 + 5 * max(1, 1 / abs(norm))) * info.eps
    if np.finfo(np.longdouble).nmant > info.nmant:
        np.testing.assert_allclose(y[0, 0].astype(np.longdouble), want, rtol=float(bound))


# ---- un-pooling ----


@at_every_level
def test_unpooling_puts_maxima_back(level):
    x = np.random.default_rng(7).standard_normal((2, 3, 9, 37)).astype(np.float32)
    with forced(*level):
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        z = F.max_unpool2d(y, indices, 2, output_size=x.shape)
    flat = z.reshape(2, 3, -1)
    np.testing.assert_array_equal(np.take_along_axis(flat, indices.reshape(2, 3, -1), -1), y.reshape(2, 3, -1))
    assert z.shape == x.shape and (z != 0).sum() == y.size


def test_the_last_of_several_stays():
    x = np.array([[[1.0, 2, 3]]])
    y, ctx = ops.max_unpool1d_forward(x, np.array([[[4, 0, 4]]], np.int32), 2)
    np.testing.assert_array_equal(y, [[[2, 0, 0, 0, 3, 0]]])
    np.testing.assert_array_equal(ops.max_unpool1d_backward(np.arange(6.0)[None, None], ctx), [[[4, 0, 4]]])


@pytest.mark.parametrize("wrong", [-1, 16, 2**40, -(2**63)])
def test_indices_outside_of_the_plane(wrong):
    x, indices = np.ones((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), np.int64)
    indices[1, 0, 1, 0] = wrong
    with pytest.raises(ValueError, match=rf"^max_unpool2d: indices has the value {wrong} at \(1, 0, 1, 0\), .*0 to 15"):
        F.max_unpool2d(x, indices, 2)
    indices[1, 0, 1, 0] = 3
    y, ctx = ops.max_unpool2d_forward(x, indices, 2)
    indices[1, 0, 1, 0] = wrong  # the context holds the caller's array
    with pytest.raises(ValueError, match=r"^max_unpool2d: indices has the value"):
        ops.max_unpool2d_backward(y, ctx)


# ---- which pixel is taken ----


@at_every_level
def test_ties_go_to_the_first_pixel(level):
    x = np.zeros((1, 1, 3, 40), np.float32)
    with forced(*level):
        _, indices = F.max_pool2d(x, 3, 1, 1, return_indices=True)
    rows, columns = np.mgrid[:3, :40]
    np.testing.assert_array_equal(indices[0, 0], np.maximum(rows - 1, 0) * 40 + np.maximum(columns - 1, 0))


@pytest.mark.parametrize("op", SELECT)
@at_every_level
def test_nan_wins_and_the_first_is_the_index(op, level):
    x = np.arange(5 * 40, dtype=np.float32).reshape(1, 1, 5, 40)
    if op == "min_pool2d":
        x = -x
    x[0, 0, 1, 30] = x[0, 0, 2, 29] = np.nan
    with forced(*level):
        (y, indices), ctx = forward(op, x, 3, 1, return_indices=True)
        dx = backward(op, np.ones_like(y), ctx)
    hit = np.zeros((3, 38), bool)
    hit[:2, 28:31] = hit[:3, 27:30] = True
    np.testing.assert_array_equal(np.isnan(y[0, 0]), hit)
    np.testing.assert_array_equal(indices[0, 0][:2, 28:31], 70)
    np.testing.assert_array_equal(indices[0, 0][2, 27:30], 109)
    np.testing.assert_array_equal(indices[0, 0][:2, 27], 109)
    assert dx.sum() == y.size and dx[0, 0, 1, 30] == 6


@pytest.mark.parametrize("op", SELECT)
@at_every_level
def test_infinite_windows_point_into_the_image(op, level):
    """Padding is no better than a pixel of the same value, although it comes first."""
    x = np.full((2, 1, 4, 20), -np.inf if op == "max_pool2d" else np.inf)
    with forced(*level):
        (y, indices), _ = forward(op, x, 3, 2, 1, return_indices=True)
    rows, columns = np.maximum(np.mgrid[:2, :10] * 2 - 1, 0)
    np.testing.assert_array_equal(y, x[:, :, ::2, ::2])
    np.testing.assert_array_equal(indices[1, 0], rows * 20 + columns)


def test_indices_are_not_the_contexts():
    """Overwriting the result does not lead backward astray."""
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 6))
    (y, indices), ctx = ops.max_pool2d_forward(x, 2, return_indices=True)
    np.testing.assert_array_equal(x.reshape(2, 36)[[[0], [1]], indices.reshape(2, 9)].ravel(), y.ravel())
    want = ops.max_pool2d_backward(y, ctx)
    indices.fill(10**9)
    np.testing.assert_array_equal(ops.max_pool2d_backward(y, ctx), want)


# ---- identities ----


def test_average_of_the_whole_image_is_its_mean():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(F.avg_pool2d(x, (4, 5)), x.mean(axis=(2, 3), keepdims=True))


@pytest.mark.parametrize("size", [6, 7, 8])
def test_subsampling_takes_whole_blocks(size):
    """So that it is as large as pooling with the same block, of which it takes one pixel."""
    x = np.arange(2.0 * size * (size + 3)).reshape(1, 2, size, size + 3)
    y = F.subsample2d(x, 3)
    assert y.shape == F.max_pool2d(x, 3).shape
    np.testing.assert_array_equal(y, x[:, :, : size // 3 * 3 : 3, : (size + 3) // 3 * 3 : 3])
    np.testing.assert_array_equal(F.subsample2d(x, 3, "middle"), F.avg_pool2d(x, 3))  # of a plane, the middle


def test_middle_of_an_even_block_is_right_below_the_centre():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(F.subsample2d(x, 2, "middle")[0, 0], [[5, 7], [13, 15]])


@pytest.mark.parametrize("op", ["max_pool2d", "min_pool2d", "avg_pool2d", "subsample2d", "adaptive_avg_pool2d"])
def test_functional_is_forward(op):
    function, x = getattr(F, op), np.random.default_rng(1).standard_normal((2, 3, 8, 9))
    names = list(inspect.signature(getattr(ops, f"{op}_forward")).parameters)[1:-1]
    assert list(inspect.signature(function).parameters) == ["input", *names]
    np.testing.assert_array_equal(function(x, 2), forward(op, x, 2)[0])
    np.testing.assert_array_equal(function(x, [2, 3]), function(x, (2, 3)))


# ---- windows out of all proportion ----


@pytest.mark.parametrize("op", ["max_pool2d", "min_pool2d", "avg_pool2d"])
def test_huge_strides_and_windows_cost_no_memory(op):
    """A stride beyond the image is never taken, and what a window covers behind the image is not there."""
    x = np.arange(12.0).reshape(1, 1, 3, 4) + 1
    huge = {"stride": 2**31 - 1, "ceil_mode": True}
    for kernel, same in ((2, 2), (10**6, (3, 4))):
        y, ctx = forward(op, x, kernel, **huge)
        want, want_ctx = forward(op, x, same, **huge, module=reference)
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(backward(op, y, ctx), backward(op, y, want_ctx, module=reference))


# ---- errors ----

IMAGE = (1, 2, 4, 6)
ROWS = [
    ("max_pool2d", IMAGE, {"kernel_size": 0}, ValueError, "kernel_size must be at least 1, got 0"),
    ("max_pool2d", IMAGE, {"kernel_size": 2.0}, TypeError, "kernel_size must be an integer or a pair.*2.0"),
    ("max_pool2d", IMAGE, {"kernel_size": (2, 2, 2)}, TypeError, "kernel_size must be an integer or a pair"),
    ("max_pool2d", IMAGE, {"kernel_size": 2**31}, ValueError, "kernel_size.* must be less than"),
    ("max_pool2d", IMAGE, {"kernel_size": 2, "stride": 0}, ValueError, "stride must be at least 1, got 0"),
    ("min_pool2d", IMAGE, {"kernel_size": 2, "stride": (1, -1)}, ValueError, "stride must be at least 1"),
    ("max_pool2d", IMAGE, {"kernel_size": 2, "dilation": 0}, ValueError, "dilation must be at least 1"),
    ("max_pool2d", IMAGE, {"kernel_size": 2, "padding": -1}, ValueError, "padding must be at least 0"),
    ("max_pool2d", IMAGE, {"kernel_size": (3, 2), "padding": 2}, ValueError, "padding must be at most half"),
    ("avg_pool2d", IMAGE, {"kernel_size": 5}, ValueError, "height, 5 .* larger than the padded image's, 4"),
    ("max_pool2d", IMAGE, {"kernel_size": (1, 4), "dilation": 2}, ValueError, "width, 7 .* padded image's, 6"),
    ("max_pool2d", (1, 1, 2, 2), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 3}, ValueError,
     "no pixel of the image"),
    ("avg_pool2d", IMAGE, {"kernel_size": 2, "divisor_override": 0}, ValueError, "divisor_override .* got 0"),
    ("avg_pool2d", IMAGE, {"kernel_size": 2, "divisor_override": 0.5}, ValueError, "divisor_override .* got 0.5"),
    ("max_pool2d", (1, 0, 4, 6), {"kernel_size": 2}, ValueError, "x has no channels"),
    ("max_pool2d", (0, 1, 2**16, 2**15), {"kernel_size": 2}, ValueError,
     r"x has 65536 x 32768 pixels a plane, expected at most 2\*\*31 - 1"),
    ("min_pool2d", (0, 1, 1, 2**31), {"kernel_size": (1, 2)}, ValueError, "pixels a plane"),
    ("max_pool2d", (4, 6), {"kernel_size": 2}, ValueError, r"x has 2 dimensions.*\(N, C, H, W\)"),
    ("max_pool1d", (1, 2, 6), {"kernel_size": (2, 2)}, TypeError, r"kernel_size must be an integer, got \(2, 2\)"),
    ("avg_pool1d", (1, 2, 6), {"kernel_size": 2, "stride": 1.0}, TypeError, r"stride must be an integer, got 1\.0"),
    ("avg_pool1d", (1, 2, 6), {"kernel_size": 7}, ValueError, "width, 7 .* larger than the padded image's, 6"),
    ("min_pool1d", (2, 6), {"kernel_size": 2}, ValueError, r"x has 2 dimensions.*\(N, C, L\)"),
    ("lp_pool2d", IMAGE, {"norm_type": 0, "kernel_size": 2}, ValueError, "norm_type must be a number other than 0"),
    ("lp_pool2d", IMAGE, {"norm_type": float("nan"), "kernel_size": 2}, ValueError, "norm_type .* got nan"),
    ("lp_pool1d", (1, 2, 6), {"norm_type": "2", "kernel_size": 2}, TypeError, "norm_type must be a number, got '2'"),
    ("adaptive_avg_pool2d", IMAGE, {"output_size": 0}, ValueError, "output_size must be at least 1, got 0"),
    ("adaptive_avg_pool2d", IMAGE, {"output_size": (2,)}, TypeError, r"output_size must be .* pair .*got \(2,\)"),
    ("adaptive_max_pool2d", IMAGE, {"output_size": 2.0}, TypeError, r"output_size must be .*got 2\.0"),
    ("adaptive_max_pool2d", (1, 2, 0, 3), {"output_size": 2}, ValueError, "at least one channel and one pixel"),
    ("adaptive_max_pool1d", (1, 2, 6), {"output_size": (2, 2)}, TypeError, "output_size must be an integer or None"),
    ("subsample2d", IMAGE, {"block": 5}, ValueError, r"block \(5, 5\) is larger than the image, 4 x 6"),
    ("subsample2d", IMAGE, {"block": 0}, ValueError, "block must be at least 1"),
    ("subsample2d", IMAGE, {"block": 2, "position": "center"}, ValueError, "position is 'center', expected .*'middle'"),
    ("subsample2d", (1, 0, 4, 6), {"block": 2}, ValueError, "x has no channels"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "shape", "options", "error", "said"), [pytest.param(*row, id=f"{row[0]}: {row[-1]}") for row in ROWS]
)
def test_does_not_fit(op, shape, options, error, said):
    with pytest.raises(error, match=rf"^{op}: .*{said}"):
        forward(op, np.zeros(shape, np.float32), **options)


@pytest.mark.parametrize(
    ("op", "shape", "options", "error", "said"),
    [
        ("max_unpool2d", IMAGE, {"kernel_size": 2, "output_size": 8}, TypeError, "output_size must be 2 or 4 integers"),
        ("max_unpool2d", IMAGE, {"kernel_size": 2, "output_size": (10, 12)}, ValueError, "differ from .8, 12. by less"),
        ("max_unpool2d", IMAGE, {"kernel_size": 1, "padding": 3}, ValueError, "the result would be -2 x 0 pixels"),
        ("max_unpool1d", (1, 2, 4), {"kernel_size": 2, "output_size": (1, 8)}, TypeError, "output_size must be 1 or 3"),
    ],
)
def test_unpooling_does_not_fit(op, shape, options, error, said):
    with pytest.raises(error, match=rf"^{op}: .*{said}"):
        forward(op, np.zeros(shape, np.float32), np.zeros(shape, np.int64), **options)


def test_indices_are_integers_of_the_shape_of_x():
    x = np.zeros(IMAGE, np.float32)
    with pytest.raises(
        TypeError, match=r"^max_unpool2d: indices must be a NumPy array of integers, got an array of float32"
    ):
        F.max_unpool2d(x, x, 2)
    with pytest.raises(ValueError, match=r"^max_unpool2d: indices has shape \(1,\), expected \(1, 2, 4, 6\)"):
        F.max_unpool2d(x, np.zeros(1, np.int64), 2)

"""The algorithms of convolution: the same function, rounding as stated, and what only some of them offer."""

import numpy as np
import pytest
from conv_support import algorithms, convolution

from fastnn import ops, reference
from fastnn.verify import forced

RNG = np.random.default_rng(0)


def draw(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("algo", ["implicit", "im2col", "winograd2", "winograd4"])
def test_fused_relu(algo):
    """conv2d with a ReLU is conv2d, then ReLU; forward and backward, bit for bit."""
    x, w, b = draw(2, 5, 9, 13), draw(17, 5, 3, 3), draw(17)
    y, ctx = ops.conv2d_forward(x, w, b, padding=1, algo=algo)
    z, relu_ctx = ops.relu_forward(y)
    fused, fused_ctx = ops.conv2d_forward(x, w, b, padding=1, activation="relu", algo=algo)
    np.testing.assert_array_equal(fused, z)
    dy = draw(*y.shape)
    want = ops.conv2d_backward(ops.relu_backward(dy, relu_ctx), ctx)
    for got, expected in zip(ops.conv2d_backward(dy, fused_ctx), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_depthwise_fused_relu():
    x, w, b = draw(2, 5, 9, 70), draw(5, 1, 3, 3), draw(5)
    y, _ = ops.conv2d_forward(x, w, b, padding=1, groups=5, algo="depthwise")
    fused, _ = ops.conv2d_forward(x, w, b, padding=1, groups=5, activation="relu", algo="depthwise")
    np.testing.assert_array_equal(fused, np.maximum(y, 0))


@pytest.mark.parametrize("algo", ["auto", "implicit", "winograd2", "winograd4"])
def test_prepared_filters_change_nothing(algo):
    w = draw(20, 18, 3, 3)
    prepared = ops.prepare_conv2d(w)
    for size in (3, 30):
        x = draw(2, 18, size, size + 1)
        want, _ = ops.conv2d_forward(x, w, padding=1, algo=algo)
        for _ in range(2):
            got, ctx = ops.conv2d_forward(x, prepared, padding=1, algo=algo)
            np.testing.assert_array_equal(got, want)
    assert ctx.w is not w
    dx, dw, _ = ops.conv2d_backward(want, ctx)
    assert dx.shape == x.shape and dw.shape == w.shape


def test_prepared_filters_are_a_copy():
    x, w = draw(1, 3, 8, 8), draw(4, 3, 3, 3)
    prepared = ops.prepare_conv2d(w)
    before, _ = ops.conv2d_forward(x, prepared)
    w[...] = 0
    np.testing.assert_array_equal(ops.conv2d_forward(x, prepared)[0], before)


# Largest error relative to the largest result, on normal data: y, dx, dw, as docs/performance.md states them. (The
# bounds that hold for any data are in fastnn/specs/conv.py.)
STATED = {
    "implicit": (1e-6, 1e-6, 2e-6),
    "im2col": (1e-6, 1e-6, 2e-6),
    "winograd2": (1e-6, 1e-6, 1e-6),
    "winograd4": (2e-5, 2e-5, 5e-6),
    "winograd5": (1e-5, 1e-5, 1e-5),
}


@pytest.mark.parametrize("channels", [64, 256, 512])
@pytest.mark.parametrize("size", [3, 5])
def test_rounding_is_as_stated(channels, size, isa):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, channels, 24, 24), (32, channels, size, size)))
    y, ctx = reference.conv2d_forward(x.astype(np.float64), w.astype(np.float64), padding=1)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    truth = y, *reference.conv2d_backward(dy.astype(np.float64), ctx)[:2]
    for algo in algorithms(*convolution("conv2d", x.shape, w.shape, padding=1), np.float32):
        got, ctx = ops.conv2d_forward(x, w, padding=1, algo=algo)
        results = got, *ops.conv2d_backward(dy, ctx)[:2]
        for name, result, want, limit in zip(("y", "dx", "dw"), results, truth, STATED[algo], strict=True):
            error = np.abs(result - want).max() / np.abs(want).max()
            assert error < limit, (algo, name, error)


@pytest.mark.parametrize("algo", ["winograd2", "implicit", "im2col", "exact"])
def test_small_integers_are_exact(algo, isa):
    """Also by F(2x2, 3x3), whose transforms are sums, and halves of sums; forward and backward."""
    rng = np.random.default_rng(0)
    x, w, b, dy = (
        rng.integers(-4, 5, s).astype(np.float32) for s in ((2, 40, 30, 31), (33, 40, 3, 3), (33,), (2, 33, 30, 31))
    )
    y, ctx = ops.conv2d_forward(x, w, b, padding=1, algo=algo)
    want, want_ctx = reference.conv2d_forward(x, w, b, padding=1)
    np.testing.assert_array_equal(y, want)
    for got, expected in zip(ops.conv2d_backward(dy, ctx), reference.conv2d_backward(dy, want_ctx), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("groups", [1, 2, 48])
@pytest.mark.parametrize("size", [1, 5, 14, 28, 56])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_exact_and_float64_choose_no_winograd(kernel, size, groups, transposed):
    """At sizes on both sides of those at which float32 does."""
    forward = ops.conv_transpose2d_forward if transposed else ops.conv2d_forward
    x, w = np.zeros((2, 48, size, size), np.float32), np.zeros((48, 48 // groups, kernel, kernel), np.float32)
    padding = kernel // 2
    if size >= 28 and groups == 1:
        assert forward(x, w, padding=padding)[1].algo.startswith("winograd"), "nothing is tested here"
    for algo, dtype in (("exact", np.float32), ("auto", np.float64), ("exact", np.float64)):
        _, ctx = forward(x.astype(dtype), w.astype(dtype), padding=padding, groups=groups, algo=algo)
        assert not any(a.name.startswith("winograd") for a in ctx.choice), "in some direction"
    for algo in ("winograd2", "winograd4", "winograd5"):
        with pytest.raises(ValueError, match=f"algo='{algo}' cannot be used here: dtype is float64"):
            forward(x.astype(np.float64), w.astype(np.float64), padding=padding, groups=groups, algo=algo)


def test_float64_and_exact_never_use_winograd():
    x, w = draw(4, 32, 28, 28), draw(32, 32, 3, 3)
    assert ops.conv2d_forward(x, w, padding=1)[1].algo.startswith("winograd")
    assert ops.conv2d_forward(x, w, padding=1, algo="exact")[1].algo == "implicit"
    wide = ops.conv2d_forward(x.astype(np.float64), w.astype(np.float64), padding=1)[1]
    assert wide.algo == "implicit"
    with pytest.raises(ValueError, match=r"conv2d: algo='winograd4' cannot be used here: dtype is float64"):
        ops.conv2d_forward(x.astype(np.float64), w.astype(np.float64), padding=1, algo="winograd4")
    with pytest.raises(ValueError, match="conv2d: unknown algo 'fft'"):
        ops.conv2d_forward(x, w, algo="fft")


def zero_insertion(x, stride):
    """x with stride - 1 zeros between neighbouring pixels."""
    n, c, h, w = x.shape
    y = np.zeros((n, c, (h - 1) * stride + 1, (w - 1) * stride + 1), x.dtype)
    y[:, :, ::stride, ::stride] = x
    return y


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_up_convolution_is_zero_insertion_and_rotated_kernel(stride, padding):
    """K3: conv_transpose2d = conv2d of the zero-inserted map with rot180(w), channels exchanged, R-1-p padding."""
    x, w = draw(2, 3, 5, 4, dtype=np.float64), draw(3, 2, 4, 4, dtype=np.float64)
    y, _ = ops.conv_transpose2d_forward(x, w, stride=stride, padding=padding)
    rotated = np.ascontiguousarray(ops.rot180(w).swapaxes(0, 1))
    want, _ = ops.conv2d_forward(zero_insertion(x, stride), rotated, padding=3 - padding)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 5, 2047), (1, 3, 2, 2100), (1, 2, 40, 1025)])
def test_rows_longer_than_a_task(shape):
    x, w = RNG.integers(-4, 5, shape).astype(np.float32), RNG.integers(-4, 5, (5, shape[1], 2, 3)).astype(np.float32)
    want, want_ctx = reference.conv2d_forward(x, w, padding=1)
    dy = RNG.integers(-4, 5, want.shape).astype(np.float32)
    for threads in (1, 3):
        with forced(threads=threads):
            y, ctx = ops.conv2d_forward(x, w, padding=1)
            np.testing.assert_array_equal(y, want)
            got, expected = ops.conv2d_backward(dy, ctx), reference.conv2d_backward(dy, want_ctx)
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1], expected[1])

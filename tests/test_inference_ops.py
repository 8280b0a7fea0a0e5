"""fastnn.ops.inference: operators that compute what follows in the same pass, and write where they are told."""

import numpy as np
import pytest
from networks import drawn

import fastnn
from fastnn import ops
from fastnn.ops import inference

CONVOLUTIONS = {  # x, w, options: algorithms with and without a way to add, panels over several lines and images
    "1x1": ((1, 70, 9, 7), (33, 70, 1, 1), {}),
    "1x1 batch": ((3, 70, 9, 7), (33, 70, 1, 1), {}),
    "1x1 deep": ((2, 600, 5, 5), (40, 600, 1, 1), {}),
    "1x1 stride": ((3, 20, 11, 8), (17, 20, 1, 1), {"stride": 2}),
    "3x3 stride": ((2, 40, 13, 10), (31, 40, 3, 3), {"stride": (2, 1), "padding": 1}),
    "winograd": ((2, 32, 28, 30), (32, 32, 3, 3), {"padding": 1}),
    "depthwise": ((2, 16, 9, 10), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    "groups": ((2, 12, 9, 10), (18, 4, 3, 2), {"padding": (1, 0), "groups": 3, "dilation": 2}),
    "wide": ((1, 3, 2, 1100), (5, 3, 1, 3), {"padding": (0, 0, 1, 2)}),
    "no image": ((0, 3, 4, 4), (5, 3, 1, 1), {}),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_with_a_sum(name, threads, dtype, isa):
    """As conv2d, the sum and ReLU one after the other, wherever the result goes."""
    x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w = drawn("x", x_shape, dtype), drawn("w", w_shape, dtype)
    b = drawn("b", w_shape[:1], dtype)
    prepared = ops.prepare_conv2d(w)
    with fastnn.num_threads(threads):
        plain = ops.conv2d_forward(x, prepared, b, **options, keep=False)[0]
        other = drawn("other", plain.shape, dtype)
        # a sum of as many products as the filter has, of numbers below 1, begun with another summand
        bound = 4 * np.finfo(dtype).eps * (w[0].size + 2)
        for relu in (None, "relu"):
            want = plain + other if relu is None else np.maximum(plain + other, 0)
            add = other.copy()
            np.testing.assert_allclose(
                inference.conv2d(x, prepared, b, **options, activation=relu, add=add), want, rtol=0, atol=bound
            )
            assert np.array_equal(add, other)
            got = inference.conv2d(x, prepared, b, **options, activation=relu, add=add, out=add)
            assert got is add
            np.testing.assert_allclose(got, want, rtol=0, atol=bound)
            out = np.full_like(plain, np.nan)
            got = inference.conv2d(x, prepared, b, **options, activation=relu, out=out)
            assert got is out
            assert np.array_equal(got, plain if relu is None else np.maximum(plain, 0))


@pytest.mark.parametrize("rows", [0, 1, 4, 40, 41, 100])
@pytest.mark.parametrize("depth", [1, 70, 600])
def test_linear_with_relu(rows, depth, dtype):
    x, w, b = drawn("x", (rows, depth), dtype), drawn("w", (37, depth), dtype), drawn("b", (37,), dtype)
    for bias in (None, b):
        plain = ops.linear_forward(x, w, bias, keep=False)[0]
        out = np.full_like(plain, np.nan)
        assert inference.linear(x, w, bias, out=out) is out
        assert np.array_equal(out, plain)
        assert np.array_equal(inference.linear(x, w, bias, activation="relu"), np.maximum(plain, 0))


def test_max_pool(dtype):
    x = drawn("x", (2, 3, 9, 8), dtype)
    want = ops.max_pool2d_forward(x, 3, 2, 1, keep=False)[0]
    out = np.empty_like(want)
    assert inference.max_pool2d(x, 3, 2, 1, out=out) is out
    assert np.array_equal(out, want)


X, W = np.zeros((1, 2, 3, 3), np.float32), ops.prepare_conv2d(np.zeros((4, 2, 1, 1), np.float32))
Y = np.zeros((1, 4, 3, 3), np.float32)
WRONG = {
    "weights": (lambda: inference.conv2d(X, W.w), TypeError, "prepared must be a result of prepare_conv2d"),
    "out": (lambda: inference.conv2d(X, W, out=Y[:, :3]), ValueError, "out"),
    "transposed": (lambda: inference.conv2d(X, W, out=Y.transpose(0, 1, 3, 2)), ValueError, "out"),
    "add": (lambda: inference.conv2d(X, W, add=Y[:, :3]), ValueError, "add"),
    "dtype": (lambda: inference.conv2d(X, W, add=Y.astype(np.float64)), TypeError, "add"),
    "activation": (lambda: inference.conv2d(X, W, activation="tanh"), ValueError, "activation is 'tanh'"),
    "features": (lambda: inference.linear(X, np.zeros((4, 2), np.float32)), ValueError, r"w has shape \(4, 2\)"),
    "scalar": (lambda: inference.linear(X[0, 0, 0, 0, None][0, ...], Y[0, 0]), ValueError, "x has 0 dimensions"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()

"""fastnn.compat.cs231n: what belongs to single layers, losses, and columns."""

import sys
from importlib import import_module

import numpy as np
import pytest

from fastnn.compat import cs231n as c

EPS = np.finfo(np.float64).eps


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- names ----

NAMES = {
    "fast_layers": "conv_forward_fast conv_backward_fast conv_forward_im2col conv_backward_im2col conv_forward_strides "
    "conv_backward_strides max_pool_forward_fast max_pool_backward_fast max_pool_forward_reshape "
    "max_pool_backward_reshape max_pool_forward_im2col max_pool_backward_im2col",
    "layers": "affine_forward affine_backward relu_forward relu_backward softmax_loss svm_loss batchnorm_forward "
    "batchnorm_backward batchnorm_backward_alt layernorm_forward layernorm_backward dropout_forward dropout_backward "
    "conv_forward_naive conv_backward_naive max_pool_forward_naive max_pool_backward_naive spatial_batchnorm_forward "
    "spatial_batchnorm_backward spatial_groupnorm_forward spatial_groupnorm_backward",
    "layer_utils": "affine_relu_forward affine_relu_backward conv_relu_forward conv_relu_backward conv_bn_relu_forward "
    "conv_bn_relu_backward conv_relu_pool_forward conv_relu_pool_backward conv_forward_fast affine_forward",
    "rnn_layers": "rnn_step_forward rnn_step_backward rnn_forward rnn_backward word_embedding_forward "
    "word_embedding_backward sigmoid lstm_step_forward lstm_step_backward lstm_forward lstm_backward "
    "temporal_affine_forward temporal_affine_backward temporal_softmax_loss",
    "im2col": "get_im2col_indices im2col_indices col2im_indices im2col_cython col2im_cython col2im_6d_cython",
    "optim": "sgd sgd_momentum rmsprop adam",
    "gradient_check": "eval_numerical_gradient eval_numerical_gradient_array grad_check_sparse",
}


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    """By * from the sub-module, and in the package."""
    found = import_module(f"fastnn.compat.cs231n.{module}")
    assert set(NAMES[module].split()) <= set(found.__all__)
    for name in found.__all__:
        assert getattr(c, name) is getattr(found, name)
        assert name in c.__all__
        assert getattr(found, name).__doc__


def test_imports_nothing_but_numpy(python):
    """By its name only, and then without any other package."""
    code = "import sys, fastnn; print(*sys.modules); import fastnn.compat.cs231n; print(*sys.modules)"
    result = python("-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr
    before, after = (set(line.split()) for line in result.stdout.splitlines())
    assert "fastnn.compat" not in before
    packages = {name.partition(".")[0] for name in after - before}
    assert packages <= {*sys.stdlib_module_names, "fastnn", "numpy"}


# ---- pooling: who gets the gradient ----

TILES = {"pool_height": 2, "pool_width": 2, "stride": 2}
TIED = np.array([[3.0, 3, 0, 0], [3, 1, 0, 0], [1, 2, 5, 4], [2, 2, 5, 5]])[None, None]
EQUALLY = [[1 / 3, 1 / 3, 1 / 4, 1 / 4], [1 / 3, 0, 1 / 4, 1 / 4], [0, 1 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3, 1 / 3]]
FIRST = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("form", "want"), [("reshape", EQUALLY), ("fast", EQUALLY), ("im2col", FIRST), ("naive", FIRST)]
)
def test_ties(form, want, dtype):
    out, cache = getattr(c, f"max_pool_forward_{form}")(TIED.astype(dtype), TILES)
    np.testing.assert_array_equal(out[0, 0], [[3, 0], [2, 5]])
    dx = getattr(c, f"max_pool_backward_{form}")(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx[0, 0], np.array(want, dtype))


@pytest.mark.parametrize("pool", [(2, 2, 1), (3, 3, 2), (2, 1, 2), (4, 4, 4)])
def test_fast_takes_the_first_where_windows_do_not_tile(pool):
    pool = dict(zip(TILES, pool, strict=True))
    x = np.zeros((1, 2, 6, 4))
    out, cache = c.max_pool_forward_fast(x, pool)
    dx = c.max_pool_backward_fast(np.ones_like(out), cache)
    assert set(np.unique(dx)) <= set(range(10))
    assert dx[0, 0, 0, 0] == 1
    assert dx.sum() == out.size


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ties_of_many(size, dtype, rng):
    """Against the definition, with few values, so that most windows have ties; windows without any are exact."""
    x = rng.integers(0, 3, (3, 2, 15 * size, 4 * size)).astype(dtype)
    pool = dict.fromkeys(TILES, size)
    out, cache = c.max_pool_forward_fast(x, pool)
    dout = rng.standard_normal(out.shape).astype(dtype)
    windows = x.reshape(3, 2, 15, size, 4, size)
    largest = windows == windows.max(axis=(3, 5), keepdims=True)
    share = dout[:, :, :, None, :, None] / largest.sum(axis=(3, 5), keepdims=True).astype(dtype)
    np.testing.assert_array_equal(c.max_pool_backward_fast(dout, cache), (largest * share).reshape(x.shape))


# ---- normalisation ----


def test_running_statistics(dtype, rng):
    """momentum is the share of the old, and the variance is the biased one: against the course's two lines."""
    bn_param = {"mode": "train", "momentum": 0.8}
    mean = var = 0
    for _ in range(3):
        x = (rng.standard_normal((7, 5)) * 3 + 10).astype(dtype)
        c.batchnorm_forward(x, np.ones(5, dtype), np.zeros(5, dtype), bn_param)
        mean = 0.8 * mean + (1 - 0.8) * x.mean(axis=0, dtype=np.float64)
        var = 0.8 * var + (1 - 0.8) * x.var(axis=0, dtype=np.float64)
        rounding = 8 * np.finfo(dtype).eps  # of a few multiplications and sums of positive numbers
        np.testing.assert_allclose(bn_param["running_mean"], mean, rtol=rounding)
        np.testing.assert_allclose(bn_param["running_var"], var, rtol=rounding)
        assert bn_param["running_mean"].dtype == bn_param["running_var"].dtype == dtype
    before = {name: value.copy() for name, value in bn_param.items() if name.startswith("running")}
    out, _ = c.batchnorm_forward(x, np.ones(5, dtype), np.zeros(5, dtype), bn_param | {"mode": "test"})
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5), atol=100 * np.finfo(dtype).eps)
    for name, value in before.items():
        np.testing.assert_array_equal(bn_param[name], value)


def test_running_statistics_are_new_arrays(rng):
    """What bn_param held, the caller's, is left as it is."""
    mean, var = np.ones(3), np.full(3, 2.0)
    bn_param = {"mode": "train", "running_mean": mean, "running_var": var}
    c.spatial_batchnorm_forward(rng.standard_normal((2, 3, 4, 4)), np.ones(3), np.zeros(3), bn_param)
    assert (mean == 1).all() and (var == 2).all()
    assert (bn_param["running_mean"] != 1).all() and (bn_param["running_var"] < 2).all()


def test_batchnorm_of_one_sample():
    """x - mean is 0, whatever x is."""
    bn_param = {"mode": "train"}
    x, gamma, beta = np.array([[3.0, -1]]), np.array([2.0, 3]), np.array([5.0, 7])
    out, cache = c.batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_array_equal(out, [[5, 7]])
    dx, dgamma, dbeta = c.batchnorm_backward(np.array([[1.0, 2]]), cache)
    assert not dx.any() and not dgamma.any()
    np.testing.assert_array_equal(dbeta, [1, 2])
    np.testing.assert_allclose(bn_param["running_mean"], 0.1 * x[0], rtol=2 * EPS)
    assert not bn_param["running_var"].any()


def test_no_samples_leave_running_statistics():
    bn_param = {"mode": "train"}
    c.batchnorm_forward(np.ones((0, 3)), np.ones(3), np.zeros(3), bn_param)
    assert bn_param == {"mode": "train"}


def test_groupnorm_takes_vectors_too(rng):
    x, gamma, beta = rng.standard_normal((2, 6, 3, 4)), rng.standard_normal(6), rng.standard_normal(6)
    out, cache = c.spatial_groupnorm_forward(x, gamma, beta, 3, {})
    as_images = gamma.reshape(1, 6, 1, 1), beta.reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(out, c.spatial_groupnorm_forward(x, *as_images, 3, {})[0])
    assert [d.shape for d in c.spatial_groupnorm_backward(out, cache)] == [x.shape, (6,), (6,)]


# ---- dropout ----


def test_dropout_keeps_p_of_the_elements(dtype):
    """Of 2^18, within five standard deviations; the mean stays."""
    x = np.ones((512, 512), dtype)
    np.random.seed(0)  # noqa: NPY002
    out, cache = c.dropout_forward(x, {"mode": "train", "p": 0.25})
    kept = out != 0
    assert abs(kept.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    np.testing.assert_array_equal(out[kept], 4)
    np.testing.assert_array_equal(c.dropout_backward(2 * x, cache), 2 * out)
    other, _ = c.dropout_forward(x, {"mode": "train", "p": 0.25})
    assert (other != out).any()


@pytest.mark.parametrize("parameters", [{"mode": "test", "p": 0.5}, {"mode": "train", "p": 1}])
def test_dropout_of_nothing(parameters, rng):
    x = rng.standard_normal((3, 4))
    out, cache = c.dropout_forward(x, parameters)
    np.testing.assert_array_equal(out, x)
    assert out is not x
    np.testing.assert_array_equal(c.dropout_backward(x, cache), x)


# ---- losses ----


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def softmax_definition(x, y):
    return -log_softmax(x)[np.arange(len(x)), y].mean()


def svm_definition(x, y):
    return sum(max(0, s - row[t] + 1) for row, t in zip(x, y, strict=True) for j, s in enumerate(row) if j != t) / len(
        x
    )


@pytest.mark.parametrize(("loss", "definition"), [("softmax", softmax_definition), ("svm", svm_definition)])
def test_loss(loss, definition, dtype, rng):
    function = getattr(c, f"{loss}_loss")
    x, y = rng.standard_normal((7, 5)).astype(dtype), rng.integers(0, 5, 7)
    value, dx = function(x, y)
    assert isinstance(value, dtype.type)
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(value, definition(wide, y), rtol=50 * np.finfo(dtype).eps)
    # central differences are good to 1e-9, the result to roundings of 1
    want = c.eval_numerical_gradient(lambda x: definition(x, y), wide, verbose=False)
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-9 + 10 * np.finfo(dtype).eps)


def test_softmax_loss_of_large_scores():
    loss, dx = c.softmax_loss(np.array([[1000.0, -1000, 0], [0, 0, 800]]), np.array([0, 0]))
    assert loss == 400
    np.testing.assert_array_equal(dx, [[0, 0, 0], [-0.5, 0, 0.5]])


@pytest.mark.parametrize("weights", [False, True], ids=["bool", "weights"])
def test_temporal_softmax_loss(weights, dtype, rng, capsys):
    """The sum over times, divided by the samples; what is masked out does not count, whatever y is there."""
    x, y = rng.standard_normal((3, 4, 5)).astype(dtype), rng.integers(0, 5, (3, 4))
    mask = rng.random((3, 4)) < 0.6
    weight = (mask * rng.random((3, 4))).astype(dtype) if weights else mask
    y = np.where(mask, y, -1)

    def definition(x):
        return -(np.take_along_axis(log_softmax(x), y[..., None], 2)[..., 0] * weight).sum() / 3

    loss, dx = c.temporal_softmax_loss(x, y, weight)
    wide = x.astype(np.float64)
    assert (dx.shape, dx.dtype, loss.dtype) == (x.shape, dtype, dtype)
    np.testing.assert_allclose(loss, definition(wide), rtol=50 * np.finfo(dtype).eps)
    want = c.eval_numerical_gradient(definition, wide, verbose=False)
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-9 + 10 * np.finfo(dtype).eps)
    assert capsys.readouterr().out == ""
    c.temporal_softmax_loss(x, y, weight, verbose=True)
    assert capsys.readouterr().out == "dx_flat:  (12, 5)\n"


# ---- columns ----

COLUMNS = [(2, 3, 7, 6, 3, 2, 1, 2), (1, 2, 5, 5, 5, 3, 0, 1), (3, 1, 4, 9, 2, 3, 2, 3), (4, 2, 1, 1, 1, 1, 0, 1),
           (0, 2, 5, 4, 3, 3, 1, 1)]  # fmt: skip


@pytest.mark.parametrize("problem", COLUMNS, ids=str)
def test_columns(problem, dtype, rng):
    """Element by element, and back: the sum of all that came from a pixel."""
    N, C, H, W, fh, fw, pad, stride = problem
    x = rng.integers(-9, 10, (N, C, H, W)).astype(dtype)
    cols = c.im2col_cython(x, fh, fw, pad, stride)
    oh, ow = (H + 2 * pad - fh) // stride + 1, (W + 2 * pad - fw) // stride + 1
    assert (cols.shape, cols.dtype) == ((C * fh * fw, oh * ow * N), dtype)
    weights = rng.integers(-9, 10, cols.shape).astype(dtype)
    padded, back = (
        np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))),
        np.zeros((N, C, H + 2 * pad, W + 2 * pad), dtype),
    )
    for n, ch, i, j, y, z in np.ndindex(N, C, fh, fw, oh, ow):
        row, column = (ch * fh + i) * fw + j, (y * ow + z) * N + n
        pixel = n, ch, y * stride + i, z * stride + j
        assert cols[row, column] == padded[pixel]
        back[pixel] += weights[row, column]
    back = back[:, :, pad : pad + H, pad : pad + W]
    np.testing.assert_array_equal(c.col2im_cython(weights, N, C, H, W, fh, fw, pad, stride), back)
    as_6d = weights.reshape(C, fh, fw, oh, ow, N).transpose(0, 1, 2, 5, 3, 4)
    np.testing.assert_array_equal(c.col2im_6d_cython(as_6d, N, C, H, W, fh, fw, pad, stride), back)
    np.testing.assert_array_equal(c.im2col_indices(x, fh, fw, pad, stride), cols)
    np.testing.assert_array_equal(c.col2im_indices(weights, x.shape, fh, fw, pad, stride), back)
    k, i, j = c.get_im2col_indices(x.shape, fh, fw, pad, stride)
    np.testing.assert_array_equal(padded[:, k, i, j].transpose(1, 2, 0).reshape(cols.shape), cols)


def test_columns_make_a_convolution(rng):
    x, w = rng.standard_normal((4, 3, 9, 7)), rng.standard_normal((5, 3, 3, 3))
    out = (w.reshape(5, -1) @ c.im2col_indices(x, 3, 3)).reshape(5, 9, 7, 4).transpose(3, 0, 1, 2)
    want, _ = c.conv_forward_fast(x, w, np.zeros(5), {"stride": 1, "pad": 1})
    np.testing.assert_allclose(out, want, rtol=0, atol=27 * EPS * 30)  # sums of 27 terms, each below 30

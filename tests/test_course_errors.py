"""fastnn.compat.cs231n: bad input gives an error that names the argument, what came and what was expected."""

import numpy as np
import pytest

from fastnn.compat import cs231n as c

TILES = {"pool_height": 2, "pool_width": 2, "stride": 2}
X, W, B = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(4)
CONV = {"stride": 1, "pad": 1}
TRAIN = {"mode": "train"}
ROWS, TEN = np.ones((2, 3)), np.zeros(2, int)
WEIGHTS = np.ones((3, 16)), np.ones((4, 16)), np.ones(16)
ERRORS = {
    "list": (lambda: c.conv_forward_fast([[1]], W, B, CONV), TypeError, "conv: x must be a NumPy array, got list"),
    "complex": (lambda: c.relu_forward(ROWS * 1j), TypeError, "relu: x has dtype complex128"),
    "axes": (lambda: c.conv_forward_fast(ROWS, W, B, CONV), ValueError, "x has 2 dimensions"),
    "channels": (lambda: c.conv_forward_fast(X[:, :2], W, B, CONV), ValueError, "conv2d: w"),
    "bias": (lambda: c.conv_forward_fast(X, W, B[:3], CONV), ValueError, r"b has shape \(3,\), expected \(4,\)"),
    "no pad": (lambda: c.conv_forward_fast(X, W, B, {"stride": 1}), ValueError, "conv: conv_param has no 'pad'"),
    "no dict": (lambda: c.conv_forward_fast(X, W, B, 1), TypeError, "conv: conv_param must be a dictionary, got int"),
    "stride": (lambda: c.conv_forward_fast(X, W, B, {"stride": 0, "pad": 1}), ValueError, "stride must be at least 1"),
    "tiles": (lambda: c.max_pool_forward_reshape(X, TILES), ValueError, r"max_pool: pool_param is .* \(2, 3, 5, 5\)"),
    "window": (lambda: c.max_pool_forward_fast(X, {**TILES, "pool_width": 9}), ValueError, "larger than"),
    "dout": (lambda: c.affine_backward(ROWS, c.affine_forward(ROWS, np.ones((3, 4)), B)[1]), ValueError,
             r"affine: dout has shape \(2, 3\), expected \(2, 4\)"),
    "cache of others": (lambda: c.conv_backward_fast(X, c.relu_forward(X)[1]), TypeError,
                        "conv: cache is of relu, expected what the forward function of conv returned"),
    "no cache": (lambda: c.relu_backward(X, X), TypeError, "relu: cache is of type ndarray"),
    "affine w": (lambda: c.affine_forward(X, ROWS, B), ValueError, r"w has shape \(2, 3\), expected \(75, 3\)"),
    "affine b": (lambda: c.affine_forward(ROWS, np.ones((3, 5)), B), ValueError, r"affine: b has shape \(4,\)"),
    "affine x": (lambda: c.affine_forward(np.ones(()), W, B), ValueError, "affine: x has 0 dimensions"),
    "bn mode": (lambda: c.batchnorm_forward(ROWS, B, B, {"mode": "eval"}), ValueError, "mode.* is 'eval', expected"),
    "no mode": (lambda: c.batchnorm_forward(ROWS, B, B, {}), ValueError, "batchnorm: bn_param has no 'mode'"),
    "bn x": (lambda: c.batchnorm_forward(X, B, B, TRAIN), ValueError, r"batchnorm: x has 4 .* \(N, D\)"),
    "gamma": (lambda: c.spatial_batchnorm_forward(X, B, B, TRAIN), ValueError, r"has shape \(4,\), expected \(3,\)"),
    "groups": (lambda: c.spatial_groupnorm_forward(X, np.ones(3), np.ones(3), 2, {}), ValueError, "num_groups"),
    "group gamma": (lambda: c.spatial_groupnorm_forward(X, B, B, 3, {}), ValueError, "spatial_groupnorm: gamma has"),
    "p": (lambda: c.dropout_forward(ROWS, {"mode": "train", "p": 0}), ValueError, r"dropout_param\['p'\] is 0"),
    "class": (lambda: c.softmax_loss(ROWS, TEN + 3), ValueError, "softmax_loss: y .*3"),
    "negative class": (lambda: c.softmax_loss(ROWS, TEN - 100), ValueError, "softmax_loss: y .*-100"),
    "svm class": (lambda: c.svm_loss(ROWS, TEN - 1), ValueError, "svm_loss: y .*-1"),
    "float classes": (lambda: c.svm_loss(ROWS, TEN + 0.0), TypeError, "svm_loss: y"),
    "Wx": (lambda: c.lstm_forward(np.ones((2, 5, 4)), np.ones((2, 4)), *WEIGHTS), ValueError,
           r"lstm: Wx has shape \(3, 16\), expected \(4, 16\)"),
    "h0": (lambda: c.lstm_forward(np.ones((2, 5, 3)), np.ones((3, 4)), *WEIGHTS), ValueError,
           r"lstm: h0 has shape \(3, 4\), expected \(2, 4\)"),
    "no time": (lambda: c.lstm_forward(ROWS, np.ones((2, 4)), *WEIGHTS), ValueError, r"lstm: x has 2 .* \(N, T, D\)"),
    "prev_c": (lambda: c.lstm_step_forward(ROWS, np.ones((2, 4)), np.ones((1, 4)), *WEIGHTS), ValueError,
               r"lstm_step: prev_c has shape \(1, 4\), expected \(2, 4\)"),
    "word": (lambda: c.word_embedding_forward(TEN + 7, ROWS), ValueError, "embedding: x .*7"),
    "mask": (lambda: c.temporal_softmax_loss(np.ones((1, 2, 3)), TEN[None], np.ones((2, 2))), ValueError,
             r"mask has shape \(2, 2\), expected \(1, 2\)"),
    "temporal y": (lambda: c.temporal_softmax_loss(np.ones((1, 2, 3)), TEN, np.ones((1, 2))), ValueError,
                   r"temporal_softmax_loss: y has shape \(2,\), expected \(1, 2\)"),
    "mask list": (lambda: c.temporal_softmax_loss(np.ones((1, 2, 3)), TEN[None], [[1, 1]]), TypeError, "mask must be"),
    "columns": (lambda: c.col2im_cython(ROWS, 1, 3, 5, 5, 3, 3, 1, 1), ValueError, r"cols has shape \(2, 3\)"),
    "padding": (lambda: c.im2col_cython(X, 3, 3, "same", 1), TypeError, "im2col: padding must be an integer"),
    "dw": (lambda: c.adam(ROWS, ROWS[:1]), ValueError, r"adam: dw has shape \(1, 3\), expected \(2, 3\)"),
    "config": (lambda: c.rmsprop(ROWS, ROWS, 0.1), TypeError, "rmsprop: config must be a dictionary.*float"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_error(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()

"""The course's layers as definitions in NumPy, and all layers as a table: what several test files go through."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.compat import cs231n


def windows(x, height, width, stride):
    """(N, C, OH, OW, height, width)"""
    return sliding_window_view(x, (height, width), (2, 3))[:, :, ::stride, ::stride]


def conv(x, w, b, stride, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.einsum("nchwij,fcij->nfhw", windows(x, *w.shape[2:], stride), w) + b[:, None, None]


def max_pool(x, height, width, stride):
    return windows(x, height, width, stride).max(axis=(4, 5))


def affine(x, w, b):
    return x.reshape(len(x), -1) @ w + b


def relu(x):
    return np.maximum(x, 0)


def norm(x, gamma, beta, axes, eps=1e-5):
    """Over these axes of x, with mean and biased variance."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps) + beta


def channels(a):
    return a.reshape(-1, 1, 1)


def group_norm(x, gamma, beta, groups):
    y = norm(x.reshape(len(x), groups, -1), 1, 0, (2,))
    return channels(gamma) * y.reshape(x.shape) + channels(beta)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_step(x, h, Wx, Wh, b):
    return np.tanh(x @ Wx + h @ Wh + b)


def lstm_step(x, h, c, Wx, Wh, b):
    i, f, o, g = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def rnn(x, h, *weights):
    states = []
    for t in range(x.shape[1]):
        h = rnn_step(x[:, t], h, *weights)
        states.append(h)
    return np.stack(states, axis=1)


def lstm(x, h, *weights):
    states, c = [], np.zeros_like(h)
    for t in range(x.shape[1]):
        h, c = lstm_step(x[:, t], h, c, *weights)
        states.append(h)
    return np.stack(states, axis=1)


class Layer(NamedTuple):
    name: str
    forward: Callable
    """(*arrays) -> (*results, cache)"""
    backward: Callable
    definition: Callable
    """(*arrays) -> the result, or a tuple of them"""
    shapes: tuple
    positive: bool = False
    """The last array is a variance."""

    def draw(self, dtype=np.float64, seed=0):
        rng = np.random.default_rng(seed)
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in self.shapes]
        return [*arrays[:-1], abs(arrays[-1])] if self.positive else arrays

    def results(self, arrays):
        """(results, gradients) for gradients at the results that are drawn."""
        *results, cache = self.forward(*arrays)
        rng = np.random.default_rng(1)
        douts = [rng.standard_normal(y.shape).astype(y.dtype) for y in results]
        grads = self.backward(*douts, cache)
        return results, douts, list(grads) if isinstance(grads, tuple) else [grads]


def with_parameters(function, *parameters, **more):
    """function with these arguments behind the arrays, dictionaries anew in each call."""

    def forward(*arrays):
        return function(*arrays, *(p.copy() if isinstance(p, dict) else p for p in parameters), **more)

    return forward


CONV, POOL = {"stride": 2, "pad": 1}, {"pool_height": 3, "pool_width": 2, "stride": 2}
TILES = {"pool_height": 2, "pool_width": 2, "stride": 2}
TRAIN, DROPOUT = {"mode": "train"}, {"mode": "train", "p": 0.7, "seed": 5}
LSTM = (5, 12), (3, 12), (12,)
RNN = (5, 3), (3, 3), (3,)


def bn_test(forward):
    """Batch norm in its other mode, the running statistics being arrays as well."""

    def call(x, gamma, beta, mean, var):
        return forward(x, gamma, beta, {"mode": "test", "running_mean": mean, "running_var": var})

    return call


def fixed_norm(x, gamma, beta, mean, var):
    return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta


def dropped(x):
    generator = np.random.RandomState(DROPOUT["seed"])
    return x * (generator.rand(*x.shape) < DROPOUT["p"]) / DROPOUT["p"]


WORDS = np.array([[0, 3, 1], [3, 3, 4]])


def of_images(definition):
    """A definition for (…, C) on (N, C, H, W)."""

    def call(x, *channels):
        return definition(x.transpose(0, 2, 3, 1), *channels).transpose(0, 3, 1, 2)

    return call


c = cs231n
IMAGES = (2, 4, 5, 3)
CONVOLUTION = (2, 3, 7, 6), (4, 3, 3, 2), (4,)


def batch_norm(x, gamma, beta):
    return norm(x, gamma, beta, tuple(range(x.ndim - 1)))


def conv_bn(x, w, b, gamma, beta):
    return of_images(batch_norm)(conv(x, w, b, 2, 1), gamma, beta)


LAYERS = [
    Layer("conv_fast", with_parameters(c.conv_forward_fast, CONV), c.conv_backward_fast,
          lambda x, w, b: conv(x, w, b, 2, 1), CONVOLUTION),
    Layer("conv_im2col", with_parameters(c.conv_forward_im2col, {"stride": 3, "pad": 2}), c.conv_backward_im2col,
          lambda x, w, b: conv(x, w, b, 3, 2), CONVOLUTION),
    Layer("conv_strides", with_parameters(c.conv_forward_strides, {"stride": 1, "pad": 0}), c.conv_backward_strides,
          lambda x, w, b: conv(x, w, b, 1, 0), CONVOLUTION),
    Layer("conv_naive", with_parameters(c.conv_forward_naive, CONV), c.conv_backward_naive,
          lambda x, w, b: conv(x, w, b, 2, 1), CONVOLUTION),
    Layer("max_pool_fast", with_parameters(c.max_pool_forward_fast, POOL), c.max_pool_backward_fast,
          lambda x: max_pool(x, 3, 2, 2), ((2, 3, 7, 6),)),
    Layer("max_pool_im2col", with_parameters(c.max_pool_forward_im2col, TILES), c.max_pool_backward_im2col,
          lambda x: max_pool(x, 2, 2, 2), ((2, 3, 7, 5),)),
    Layer("max_pool_reshape", with_parameters(c.max_pool_forward_reshape, TILES), c.max_pool_backward_reshape,
          lambda x: max_pool(x, 2, 2, 2), ((2, 3, 4, 6),)),
    Layer("max_pool_naive", with_parameters(c.max_pool_forward_naive, POOL), c.max_pool_backward_naive,
          lambda x: max_pool(x, 3, 2, 2), ((2, 3, 7, 6),)),
    Layer("affine", c.affine_forward, c.affine_backward, affine, ((3, 2, 1, 4), (8, 5), (5,))),
    Layer("relu", c.relu_forward, c.relu_backward, relu, ((3, 1, 5),)),
    Layer("batchnorm", with_parameters(c.batchnorm_forward, TRAIN), c.batchnorm_backward, batch_norm,
          ((5, 4), (4,), (4,))),
    Layer("batchnorm_alt", with_parameters(c.batchnorm_forward, TRAIN), c.batchnorm_backward_alt, batch_norm,
          ((5, 4), (4,), (4,))),
    Layer("batchnorm test", bn_test(c.batchnorm_forward), c.batchnorm_backward, fixed_norm,
          ((5, 4), *[(4,)] * 4), True),
    Layer("spatial_batchnorm", with_parameters(c.spatial_batchnorm_forward, TRAIN), c.spatial_batchnorm_backward,
          of_images(batch_norm), (IMAGES, (4,), (4,))),
    Layer("spatial_batchnorm test", bn_test(c.spatial_batchnorm_forward), c.spatial_batchnorm_backward,
          of_images(fixed_norm), (IMAGES, *[(4,)] * 4), True),
    Layer("layernorm", with_parameters(c.layernorm_forward, {}), c.layernorm_backward,
          lambda x, gamma, beta: norm(x, gamma, beta, (1,)), ((5, 4), (4,), (4,))),
    Layer("spatial_groupnorm", with_parameters(c.spatial_groupnorm_forward, 2, {}), c.spatial_groupnorm_backward,
          lambda *arrays: group_norm(*arrays, 2), (IMAGES, (1, 4, 1, 1), (1, 4, 1, 1))),
    Layer("dropout", with_parameters(c.dropout_forward, DROPOUT), c.dropout_backward, dropped, ((4, 3, 5),)),
    Layer("rnn_step", c.rnn_step_forward, c.rnn_step_backward, rnn_step, ((2, 5), (2, 3), *RNN)),
    Layer("lstm_step", c.lstm_step_forward, c.lstm_step_backward, lstm_step, ((2, 5), (2, 3), (2, 3), *LSTM)),
    Layer("rnn", c.rnn_forward, c.rnn_backward, rnn, ((2, 4, 5), (2, 3), *RNN)),
    Layer("lstm", c.lstm_forward, c.lstm_backward, lstm, ((2, 4, 5), (2, 3), *LSTM)),
    Layer("word_embedding", lambda W: c.word_embedding_forward(WORDS, W), c.word_embedding_backward,
          lambda W: W[WORDS], ((5, 3),)),
    Layer("temporal_affine", c.temporal_affine_forward, c.temporal_affine_backward, lambda x, w, b: x @ w + b,
          ((2, 3, 4), (4, 5), (5,))),
    Layer("affine_relu", c.affine_relu_forward, c.affine_relu_backward, lambda *a: relu(affine(*a)),
          ((3, 2, 4), (8, 5), (5,))),
    Layer("conv_relu", with_parameters(c.conv_relu_forward, CONV), c.conv_relu_backward,
          lambda x, w, b: relu(conv(x, w, b, 2, 1)), CONVOLUTION),
    Layer("conv_bn_relu", with_parameters(c.conv_bn_relu_forward, CONV, TRAIN), c.conv_bn_relu_backward,
          lambda *a: relu(conv_bn(*a)), (*CONVOLUTION, (4,), (4,))),
    Layer("conv_relu_pool", with_parameters(c.conv_relu_pool_forward, CONV, TILES), c.conv_relu_pool_backward,
          lambda x, w, b: max_pool(relu(conv(x, w, b, 2, 1)), 2, 2, 2), CONVOLUTION),
]  # fmt: skip

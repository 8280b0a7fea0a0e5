"""fastnn.compat.cs231n: cells as the course's notebooks have them, and networks that learn with its functions only."""

import numpy as np
import pytest

from fastnn.compat.cs231n.fast_layers import *  # noqa: F403
from fastnn.compat.cs231n.gradient_check import *  # noqa: F403
from fastnn.compat.cs231n.layer_utils import *  # noqa: F403
from fastnn.compat.cs231n.layers import *  # noqa: F403
from fastnn.compat.cs231n.optim import *  # noqa: F403
from fastnn.compat.cs231n.rnn_layers import *  # noqa: F403

# ruff: noqa: F405


@pytest.fixture
def rng():
    return np.random.default_rng(231)


def rel_error(x, y):
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))


# ---- fast against naive, in the notebook's shapes and within its bounds ----


def test_convolution_cell(rng):
    x, w, b = rng.standard_normal((100, 3, 31, 31)), rng.standard_normal((25, 3, 3, 3)), rng.standard_normal(25)
    dout, conv_param = rng.standard_normal((100, 25, 16, 16)), {"stride": 2, "pad": 1}
    naive, cache_naive = conv_forward_naive(x, w, b, conv_param)
    fast, cache_fast = conv_forward_fast(x, w, b, conv_param)
    assert rel_error(naive, fast) <= 1e-9
    gradients = conv_backward_naive(dout, cache_naive), conv_backward_fast(dout, cache_fast)
    for grad_naive, grad_fast in zip(*gradients, strict=True):
        # of numbers that cancel to 1e-5 of their terms: of 100 * 16 * 16 terms of dw, and 4 * 25 of dx
        np.testing.assert_allclose(grad_fast, grad_naive, rtol=0, atol=1e-12 * abs(grad_naive).max())


@pytest.mark.parametrize("shape", [(100, 3, 32, 32), (40, 3, 31, 30)], ids=str)
def test_pooling_cell(shape, rng):
    """No two values are equal, so that all forms agree, bit by bit."""
    x, pool_param = rng.standard_normal(shape), {"pool_height": 2, "pool_width": 2, "stride": 2}
    naive, cache_naive = max_pool_forward_naive(x, pool_param)
    fast, cache_fast = max_pool_forward_fast(x, pool_param)
    dout = rng.standard_normal(naive.shape)
    np.testing.assert_array_equal(fast, naive)
    dx_naive, dx_fast = max_pool_backward_naive(dout, cache_naive), max_pool_backward_fast(dout, cache_fast)
    np.testing.assert_array_equal(dx_fast, dx_naive)


def test_sandwich_cells(rng):
    """conv_relu_pool and conv_bn_relu: gradients within the notebooks' 1e-7."""
    x, w, b = rng.standard_normal((2, 3, 16, 16)), rng.standard_normal((3, 3, 3, 3)), rng.standard_normal(3)
    conv_param, pool_param = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = conv_relu_pool_forward(x, w, b, conv_param, pool_param)
    dout = rng.standard_normal(out.shape)
    dx, dw, db = conv_relu_pool_backward(dout, cache)
    for i, gradient in ((1, dw), (2, db)):
        arrays = [x, w, b]

        def out_of(a, i=i, arrays=arrays):
            return conv_relu_pool_forward(*arrays[:i], a, *arrays[i + 1 :], conv_param, pool_param)[0]

        assert rel_error(gradient, eval_numerical_gradient_array(out_of, arrays[i], dout)) < 1e-7
    # the input has 1536 elements: a few of them are enough
    flat, some = x.reshape(-1), slice(700, 720)

    def out_of_some(part):
        changed = flat.copy()
        changed[some] = part
        return conv_relu_pool_forward(changed.reshape(x.shape), w, b, conv_param, pool_param)[0]

    assert rel_error(dx.reshape(-1)[some], eval_numerical_gradient_array(out_of_some, flat[some].copy(), dout)) < 1e-7


# ---- the numbers that the course's notebooks print ----


def line(first, last, *shape):
    """What the notebooks' cells use for data."""
    return np.linspace(first, last, num=int(np.prod(shape))).reshape(shape)


def lstm_cell():
    arrays = line(-0.4, 1.2, 3, 4), line(-0.3, 0.7, 3, 5), line(-0.4, 0.9, 3, 5), line(-2.1, 1.3, 4, 20)
    return lstm_step_forward(*arrays, line(-0.7, 2.2, 5, 20), line(0.3, 0.7, 20))


def rule_cell(rule, **config):
    w, dw = line(-0.4, 0.6, 4, 5), line(-0.6, 0.4, 4, 5)
    return rule(w, dw, config)[0]


PRINTED = {
    "affine": (lambda: affine_forward(line(-0.1, 0.5, 2, 4, 5, 6), line(-0.2, 0.3, 120, 3), line(-0.3, 0.1, 3))[0],
               [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]]),
    "conv": (lambda: conv_forward_fast(line(-0.1, 0.5, 2, 3, 4, 4), line(-0.2, 0.3, 3, 3, 4, 4), line(-0.1, 0.2, 3),
                                       {"stride": 2, "pad": 1})[0][:, :, 0],
             [[[-0.08759809, -0.10987781], [0.21027089, 0.21661097], [0.50813986, 0.54309974]],
              [[-0.98053589, -1.03143541], [0.69108355, 0.66880383], [2.36270298, 2.36904306]]]),
    "max_pool": (lambda: max_pool_forward_fast(line(-0.3, 0.4, 2, 3, 4, 4),
                                               {"pool_width": 2, "pool_height": 2, "stride": 2})[0][0, :, 1],
                 [[-0.20421053, -0.18947368], [-0.08631579, -0.07157895], [0.03157895, 0.04631579]]),
    "rnn_step": (lambda: rnn_step_forward(line(-0.4, 0.7, 3, 10), line(-0.2, 0.5, 3, 4), line(-0.1, 0.9, 10, 4),
                                          line(-0.3, 0.7, 4, 4), line(-0.2, 0.4, 4))[0],
                 [[-0.58172089, -0.50182032, -0.41232771, -0.31410098],
                  [0.66854692, 0.79562378, 0.87755553, 0.92795967], [0.97934501, 0.99144213, 0.99646691, 0.99854353]]),
    "lstm_step h": (lambda: lstm_cell()[0][:2], [[0.24635157, 0.28610883, 0.32240467, 0.35525807, 0.38474904],
                                                 [0.49223563, 0.55611431, 0.61507696, 0.66844003, 0.7159181]]),
    "lstm_step c": (lambda: lstm_cell()[1][:2], [[0.32986176, 0.39145139, 0.451556, 0.51014116, 0.56717407],
                                                 [0.66382255, 0.76674007, 0.87195994, 0.97902709, 1.08751345]]),
    "lstm": (lambda: lstm_forward(line(-0.4, 0.6, 2, 3, 5), line(-0.4, 0.8, 2, 4), line(-0.2, 0.9, 5, 16),
                                  line(-0.3, 0.6, 4, 16), line(0.2, 0.7, 16))[0][1],
             [[0.45767879, 0.4761092, 0.4936887, 0.51041945], [0.6704845, 0.69350089, 0.71486014, 0.7346449],
              [0.81733511, 0.83677871, 0.85403753, 0.86935314]]),
    "sgd_momentum": (lambda: rule_cell(sgd_momentum, learning_rate=1e-3, velocity=line(0.6, 0.9, 4, 5))[0],
                     [0.1406, 0.20738947, 0.27417895, 0.34096842, 0.40775789]),
    "rmsprop": (lambda: rule_cell(rmsprop, learning_rate=1e-2, cache=line(0.6, 0.9, 4, 5))[0],
                [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247]),
    "adam": (lambda: rule_cell(adam, learning_rate=1e-2, m=line(0.6, 0.9, 4, 5), v=line(0.7, 0.5, 4, 5), t=5)[0],
             [-0.40094747, -0.34836187, -0.29577703, -0.24319299, -0.19060977]),
}  # fmt: skip


@pytest.mark.parametrize("cell", PRINTED)
def test_printed_numbers(cell):
    """To their last digit."""
    call, want = PRINTED[cell]
    np.testing.assert_allclose(call(), want, rtol=0, atol=0.51e-8)


# ---- networks ----


@pytest.fixture(scope="module")
def digits():
    """(images (N, 1, 8, 8) around 0, classes): 1,397 to learn from, and 400."""
    images, classes = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 8 - 1).reshape(-1, 1, 8, 8)
    return images[400:], classes[order][400:], images[:400], classes[order][:400]


class TwoLayerNet:
    """affine - relu - affine - softmax"""

    def __init__(self, rng, dtype):
        self.params = {
            "W1": 0.1 * rng.standard_normal((64, 50)), "b1": np.zeros(50),
            "W2": 0.1 * rng.standard_normal((50, 10)), "b2": np.zeros(10),
        }  # fmt: skip
        self.params = {name: p.astype(dtype) for name, p in self.params.items()}

    def loss(self, X, y=None):
        p = self.params
        hidden, cache1 = affine_relu_forward(X, p["W1"], p["b1"])
        scores, cache2 = affine_forward(hidden, p["W2"], p["b2"])
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        dhidden, dW2, db2 = affine_backward(dscores, cache2)
        _, dW1, db1 = affine_relu_backward(dhidden, cache1)
        return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


class ThreeLayerConvNet:
    """conv - batch norm - relu - 2x2 max pool - affine - relu - dropout - affine - softmax"""

    def __init__(self, rng, dtype, filters=16, hidden=50):
        self.params = {
            "W1": 0.3 * rng.standard_normal((filters, 1, 3, 3)), "b1": np.zeros(filters),
            "gamma": np.ones(filters), "beta": np.zeros(filters),
            "W2": 0.05 * rng.standard_normal((filters * 16, hidden)), "b2": np.zeros(hidden),
            "W3": 0.1 * rng.standard_normal((hidden, 10)), "b3": np.zeros(10),
        }  # fmt: skip
        self.params = {name: p.astype(dtype) for name, p in self.params.items()}
        self.bn_param = {}

    def loss(self, X, y=None):
        p, mode = self.params, "test" if y is None else "train"
        self.bn_param["mode"] = mode
        a, conv = conv_bn_relu_forward(X, *(p[k] for k in ("W1", "b1", "gamma", "beta")), {"stride": 1, "pad": 1},
                                       self.bn_param)  # fmt: skip
        a, pool = max_pool_forward_fast(a, {"pool_height": 2, "pool_width": 2, "stride": 2})
        a, affine = affine_relu_forward(a, p["W2"], p["b2"])
        a, dropout = dropout_forward(a, {"mode": mode, "p": 0.8})
        scores, last = affine_forward(a, p["W3"], p["b3"])
        if y is None:
            return scores
        loss, da = softmax_loss(scores, y)
        grads = {}
        da, grads["W3"], grads["b3"] = affine_backward(da, last)
        da, grads["W2"], grads["b2"] = affine_relu_backward(dropout_backward(da, dropout), affine)
        da = max_pool_backward_fast(da, pool)
        _, grads["W1"], grads["b1"], grads["gamma"], grads["beta"] = conv_bn_relu_backward(da, conv)
        return loss, grads


def solve(model, X, y, rule, epochs, rng, batch=50, **options):
    """The course's Solver: the losses of all batches."""
    configs = {name: dict(options) for name in model.params}
    losses = []
    for _ in range(epochs):
        for rows in np.split(rng.permutation(len(X)), range(batch, len(X), batch)):
            loss, grads = model.loss(X[rows], y[rows])
            losses.append(loss)
            assert grads.keys() == model.params.keys()
            for name, w in model.params.items():
                model.params[name], configs[name] = rule(w, grads[name], configs[name])
    return losses


def accuracy(model, X, y):
    return (model.loss(X).argmax(axis=1) == y).mean()


@pytest.mark.parametrize(
    ("rule", "options"),
    [(sgd, {"learning_rate": 0.1}), (sgd_momentum, {"learning_rate": 0.05}), (rmsprop, {"learning_rate": 1e-3}),
     (adam, {"learning_rate": 3e-3})],
    ids=["sgd", "sgd_momentum", "rmsprop", "adam"],
)  # fmt: skip
def test_two_layer_net(rule, options, digits, rng):
    """Every rule: the loss begins near log 10, and the digits held out are told apart (eight seeds: 95 to 98 %)."""
    X, y, X_val, y_val = digits
    model = TwoLayerNet(rng, np.float64)
    losses = solve(model, X, y, rule, 12, rng, **options)
    assert abs(losses[0] - np.log(10)) < 0.3
    assert accuracy(model, X_val, y_val) > 0.93
    assert all(p.dtype == np.float64 for p in model.params.values())


def test_three_layer_convnet_overfits(digits, rng, dtype):
    """50 digits by heart, and nearly nothing of the loss is left."""
    X, y = digits[0][:50].astype(dtype), digits[1][:50]
    np.random.seed(231)  # noqa: NPY002
    model = ThreeLayerConvNet(rng, dtype)
    losses = solve(model, X, y, adam, 40, rng, batch=25, learning_rate=3e-3)
    assert losses[-1] < 0.1 * losses[0]
    assert accuracy(model, X, y) == 1
    assert all(p.dtype == dtype for p in model.params.values())


def test_three_layer_convnet_learns(digits, rng):
    """Parameters float32, data float64, as notebooks mix them (seven seeds: 96 to 99 % of the digits held out)."""
    X, y, X_val, y_val = digits
    np.random.seed(231)  # noqa: NPY002
    model = ThreeLayerConvNet(rng, np.float32)
    solve(model, X, y, adam, 12, rng, learning_rate=3e-3)
    assert accuracy(model, X_val, y_val) > 0.94


TEXT = "the quick brown fox jumps over the lazy dog. "


def recurrent_loss(p, X, y, kind):
    """word_embedding - rnn or lstm - temporal_affine - temporal_softmax_loss"""
    forward, backward = (rnn_forward, rnn_backward) if kind == "rnn" else (lstm_forward, lstm_backward)
    a, embedding = word_embedding_forward(X, p["W_embed"])
    h, recurrent = forward(a, np.zeros((len(X), p["Wh"].shape[0])), p["Wx"], p["Wh"], p["b"])
    scores, vocab = temporal_affine_forward(h, p["W_vocab"], p["b_vocab"])
    loss, dscores = temporal_softmax_loss(scores, y, y > 0)
    grads = {}
    dh, grads["W_vocab"], grads["b_vocab"] = temporal_affine_backward(dscores, vocab)
    da, _, grads["Wx"], grads["Wh"], grads["b"] = backward(dh, recurrent)
    grads["W_embed"] = word_embedding_backward(da, embedding)
    return loss, grads


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_captions_by_heart(kind, rng):
    """Words of different lengths, padded with 0: the loss, a sum over a word, falls to less than a hundredth, because
    all but a word's first letters follow from the ones in front."""
    letters = sorted(set(TEXT))
    words = [[letters.index(a) + 1 for a in word + " "] for word in TEXT.split()]
    captions = np.array([word + [0] * (7 - len(word)) for word in words])
    starts = np.arange(len(words))[:, None] + len(letters) + 1  # a letter for every word, as an image stands for one
    X, y = np.hstack([starts, captions[:, :-1]]), captions
    v, d, hidden, gates = len(letters) + 1 + len(words), 12, 24, 4 if kind == "lstm" else 1
    p = {
        "W_embed": rng.standard_normal((v, d)) * 0.5, "Wx": rng.standard_normal((d, gates * hidden)) / np.sqrt(d),
        "Wh": rng.standard_normal((hidden, gates * hidden)) / np.sqrt(hidden), "b": np.zeros(gates * hidden),
        "W_vocab": rng.standard_normal((hidden, v)) / np.sqrt(hidden), "b_vocab": np.zeros(v),
    }  # fmt: skip
    configs = {name: {"learning_rate": 1e-2} for name in p}
    losses = []
    for _ in range(150):
        loss, grads = recurrent_loss(p, X, y, kind)
        losses.append(loss)
        for name in p:
            p[name], configs[name] = adam(p[name], grads[name], configs[name])
    assert losses[-1] < losses[0] / 100

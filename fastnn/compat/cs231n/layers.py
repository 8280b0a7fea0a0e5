"""The layers of feed-forward networks: forward functions return (out, cache), backward functions take (dout, cache).

Arrays may be of any real dtype and layout; results have the dtype that NumPy's arithmetic would give them. Caches are
opaque. `*_naive` are in plain NumPy, of `fastnn.reference`, to compare the fast ones with.
"""

from math import prod

import numpy as np

from fastnn import ops, reference
from fastnn.compat.cs231n._calls import call, gradients, parameter, promoted
from fastnn.compat.cs231n.fast_layers import conv_backward_fast, conv_forward, max_pool, max_pool_backward_fast
from fastnn.descriptors import number, one_of
from fastnn.ops._arrays import array, array_of_shape, index_array

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

# ---- affine and ReLU ----


def affine(op, x, w, b, axes):
    """(out, cache) of x w + b, the first `axes` axes of x being those of the batch."""
    x, w, b = promoted(op, x=x, w=w, b=b)
    if x.ndim < axes:
        raise ValueError(f"{op}: x has {x.ndim} dimensions, shape {x.shape}, expected at least {axes}")
    batch, shape = x.shape[:axes], x.shape
    d = prod(shape[axes:])
    w = array(w, op, "w", 2, "(D, M)")
    w = array_of_shape(w, op, "w", (d, w.shape[1]))
    m = w.shape[1]
    b = array_of_shape(b, op, "b", (m,))

    def forward(x, w, b):
        out, ctx = ops.matmul_forward(x.reshape(prod(batch), d), w)
        out += b
        return out.reshape(*batch, m), ctx

    def backward(dout, ctx):
        dout = dout.reshape(prod(batch), m)
        dx, dw = ops.matmul_backward(dout, ctx)
        return dx.reshape(shape), dw, dout.sum(axis=0)

    return call(op, forward, backward, x, w, b)


def affine_forward(x, w, b):
    """out = x w + b. x: (N, d1, …, dk), read as (N, D). w: (D, M). b: (M,). Returns (out, cache) with out (N, M)."""
    return affine("affine", x, w, b, 1)


def affine_backward(dout, cache):
    """(dx, dw, db) of affine_forward, with dout (N, M)."""
    return gradients("affine", cache, dout=dout)


def relu_forward(x):
    """out = max(x, 0), of any shape. Returns (out, cache)."""
    return call("relu", ops.relu_forward, ops.relu_backward, *promoted("relu", x=x))


def relu_backward(dout, cache):
    """dx of relu_forward."""
    return gradients("relu", cache, dout=dout)


# ---- convolution and pooling, naively ----


def conv_forward_naive(x, w, b, conv_param):
    """conv_forward_fast of fast_layers, in plain NumPy."""
    return conv_forward(x, w, b, conv_param, module=reference)


def max_pool_forward_naive(x, pool_param):
    """max_pool_forward_im2col of fast_layers, in plain NumPy."""
    return max_pool(x, pool_param, reference)


conv_backward_naive, max_pool_backward_naive = conv_backward_fast, max_pool_backward_fast


# ---- normalisation ----

RUNNING = "running_mean", "running_var"


def batchnorm(op, x, gamma, beta, bn_param, ndim, relu=False):
    """(out, cache) of batch norm over all `ndim` axes of x but the second."""
    mode = one_of(op, "bn_param['mode']", parameter(op, "bn_param", bn_param, "mode"), "train", "test")
    eps = parameter(op, "bn_param", bn_param, "eps", 1e-5)
    momentum = number(parameter(op, "bn_param", bn_param, "momentum", 0.9), op, "bn_param['momentum']")
    arrays = promoted(op, x=x, gamma=gamma, beta=beta)
    x = arrays[0] = array(arrays[0], op, "x", ndim, "(N, D)" if ndim == 2 else "(N, C, H, W)")
    c = x.shape[1]
    running = {name: bn_param[name] if name in bn_param else np.zeros(c, x.dtype) for name in RUNNING}
    if mode == "test":
        arrays = promoted(op, **dict(zip(("x", "gamma", "beta"), arrays, strict=True)), **running)

    def forward(x, gamma, beta, *statistics):
        constant = mode == "test"
        if mode == "train" and x.size == c:  # of one value a channel
            constant, statistics = True, (x.reshape(c), np.zeros(c, x.dtype))
        elif mode == "train":
            statistics = np.zeros((2, c), x.dtype)  # to be replaced by those of x
        out, ctx = ops.batch_norm_forward(
            x, gamma, beta, *statistics, relu=relu, training=not constant, momentum=1.0, eps=eps
        )
        return out, (ctx, statistics)

    def backward(dout, ctx):
        ctx, _ = ctx
        dx, dgamma, dbeta, _ = ops.batch_norm_backward(dout, ctx)
        if mode == "train" and not ctx.training:
            dx.fill(0)
        return dx, dgamma, dbeta

    out, cache = call(op, forward, backward, *arrays)
    if mode == "train" and x.size:
        values = x.size // c
        mean, var = cache.ctx[1]
        new = mean, var * ((values - 1) / values)  # the biased variance
        for (name, old), value in zip(running.items(), new, strict=True):
            bn_param[name] = momentum * old + (1 - momentum) * value
    return out, cache


def batchnorm_forward(x, gamma, beta, bn_param):
    """out = gamma (x - mean) / sqrt(var + eps) + beta for each feature of x (N, D). gamma, beta: (D,).

    bn_param: {"mode": "train" or "test", "eps": 1e-5, "momentum": 0.9, "running_mean", "running_var": zeros}. Training
    takes mean and biased variance from x, and puts momentum * running + (1 - momentum) * new into bn_param; testing
    takes the running statistics. Returns (out, cache).
    """
    return batchnorm("batchnorm", x, gamma, beta, bn_param, 2)


def batchnorm_backward(dout, cache):
    """(dx, dgamma, dbeta) of batchnorm_forward, in both modes."""
    return gradients("batchnorm", cache, dout=dout)


batchnorm_backward_alt = batchnorm_backward


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    """batchnorm_forward for the channels of x (N, C, H, W). gamma, beta: (C,)."""
    return batchnorm("spatial_batchnorm", x, gamma, beta, bn_param, 4)


def spatial_batchnorm_backward(dout, cache):
    """(dx, dgamma, dbeta) of spatial_batchnorm_forward, in both modes."""
    return gradients("spatial_batchnorm", cache, dout=dout)


def layernorm_forward(x, gamma, beta, ln_param):
    """out = gamma (x - mean) / sqrt(var + eps) + beta, mean and variance being those of each row of x (N, D).
    gamma, beta: (D,). ln_param: {"eps": 1e-5}. Returns (out, cache)."""
    eps = parameter("layernorm", "ln_param", ln_param, "eps", 1e-5)
    x, gamma, beta = promoted("layernorm", x=x, gamma=gamma, beta=beta)
    x = array(x, "layernorm", "x", 2, "(N, D)")

    def forward(x, gamma, beta):
        return ops.layer_norm_forward(x, x.shape[1], gamma, beta, eps)

    return call("layernorm", forward, ops.layer_norm_backward, x, gamma, beta)


def layernorm_backward(dout, cache):
    """(dx, dgamma, dbeta) of layernorm_forward."""
    return gradients("layernorm", cache, dout=dout)


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """out = gamma (x - mean) / sqrt(var + eps) + beta, mean and variance being those of G groups of adjacent channels
    of each sample of x (N, C, H, W). gamma, beta: (1, C, 1, 1) or (C,). gn_param: {"eps": 1e-5}. Returns (out, cache).
    """
    op = "spatial_groupnorm"
    eps = parameter(op, "gn_param", gn_param, "eps", 1e-5)
    x, gamma, beta = promoted(op, x=x, gamma=gamma, beta=beta)
    x = array(x, op, "x", 4, "(N, C, H, W)")
    c = x.shape[1]
    for name, a in (("gamma", gamma), ("beta", beta)):
        if a.shape not in ((1, c, 1, 1), (c,)):
            raise ValueError(f"{op}: {name} has shape {a.shape}, expected {(1, c, 1, 1)} or {(c,)}")

    def forward(x, gamma, beta):
        return ops.group_norm_forward(x, G, gamma.reshape(c), beta.reshape(c), eps)

    def backward(dout, ctx):
        dx, dgamma, dbeta = ops.group_norm_backward(dout, ctx)
        return dx, dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)

    return call(op, forward, backward, x, gamma, beta)


def spatial_groupnorm_backward(dout, cache):
    """(dx, dgamma, dbeta) of spatial_groupnorm_forward, these two of the shapes of gamma and beta."""
    return gradients("spatial_groupnorm", cache, dout=dout)


# ---- dropout ----


def dropout_forward(x, dropout_param):
    """Inverted dropout of x, of any shape: x / p with probability p, else 0; x itself for the mode "test".

    dropout_param: {"mode": "train" or "test", "p": the probability that an element is kept, "seed": None}. The numbers
    are those of np.random.rand, and a seed is one for np.random.seed, as in the course. Returns (out, cache).
    """
    mode = one_of("dropout", "dropout_param['mode']", parameter("dropout", "dropout_param", dropout_param, "mode"),
                  "train", "test")  # fmt: skip
    p = number(parameter("dropout", "dropout_param", dropout_param, "p"), "dropout", "dropout_param['p']")
    if not 0 < p <= 1:
        raise ValueError(f"dropout: dropout_param['p'] is {p}, expected a probability above 0")
    seed = parameter("dropout", "dropout_param", dropout_param, "seed", None)
    (x,) = promoted("dropout", x=x)
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    kept = np.random.rand(*x.shape) < p if mode == "train" else None  # noqa: NPY002

    def scaled(x):
        return x.copy() if kept is None else x * (kept / x.dtype.type(p))

    def forward(x):
        return scaled(x), None

    def backward(dout, ctx):
        return scaled(dout)

    return call("dropout", forward, backward, x)


def dropout_backward(dout, cache):
    """dx of dropout_forward."""
    return gradients("dropout", cache, dout=dout)


# ---- losses ----


def svm_loss(x, y):
    """(loss, dx) of the multi-class hinge loss, the mean over samples of the sum of max(0, x_j - x_y + 1) over the
    classes j other than y. x: scores (N, C). y: (N,) integers from 0 to C - 1."""
    x = array(*promoted("svm_loss", x=x), "svm_loss", "x", 2, "(N, C)")
    n, c = x.shape
    y = index_array(y, "svm_loss", "y", (n,), c)
    target = np.arange(n), y
    margins = x - (x[target] - 1)[:, None]
    np.maximum(margins, 0, out=margins)
    margins[target] = 0
    dx = (margins > 0).astype(x.dtype)
    dx[target] = -dx.sum(axis=1)
    return margins.sum() / x.dtype.type(n), dx / x.dtype.type(n)


NEVER = -(2**63)
"""An index that is no class, to be ignored."""


def softmax_loss(x, y):
    """(loss, dx) of the mean over samples of -log softmax(x)_y. x: scores (N, C). y: (N,) integers from 0 to C - 1."""
    x = array(*promoted("softmax_loss", x=x), "softmax_loss", "x", 2, "(N, C)")
    y = index_array(y, "softmax_loss", "y", (len(x),), x.shape[1])
    loss, ctx = ops.cross_entropy_forward(x, y, ignore_index=NEVER)
    return loss[()], ops.cross_entropy_backward(1.0, ctx)

"""The calls of large_calls.py on images."""

import numpy as np
from large_support import check, needs, others, zeros

from fastnn import ops

IMAGE = (1, 8, 16384, 16400)
"""More than 2^31 pixels, channel by channel; a row of the last one begins at CORNER from the end."""
CORNER = (0, -1, slice(-3, None), slice(-3, None))


def image(shape=IMAGE):
    x = zeros(shape)
    x[CORNER] = np.arange(1, 10).reshape(3, 3)
    x[0, 0, 0, 0] = 100
    return x


def check_ends(y, corner):
    """Results at the end of the last channel are `corner`; others are at the beginning of a channel only."""
    corner = np.asarray(corner, y.dtype)
    np.testing.assert_array_equal(y[-1, -1, -len(corner) :, -len(corner) :], corner)
    found = [np.unravel_index(i, y.shape) for i in others(y, 0)]
    size = [n - 8 for n in y.shape[2:]]
    assert all((u < 8 and v < 8) or (u >= size[0] and v >= size[1]) for _, _, u, v in found)


def conv(w, algo, **options):
    y, ctx = ops.conv2d_forward(image(), np.asarray(w, np.float32), algo=algo, **options)
    return y, ctx


@needs(2)
def conv2d_1x1():
    w = np.zeros((1, 8, 1, 1), np.float32)
    w[0, 7], w[0, 0] = 2, 1
    y, ctx = conv(w, "implicit")
    check_ends(y, 2 * np.arange(1, 10).reshape(3, 3))
    assert y[0, 0, 0, 0] == 100
    dy = zeros(y.shape)
    dy[0, 0, -1, -1] = 1
    dw = ops.conv2d_backward(dy, ctx, needs=(False, True, False))[1]
    check(dw, (7,), (9,))


@needs(2)
def conv2d_3x3():
    w = np.zeros((1, 8, 3, 3), np.float32)
    w[0, 7] = 1
    y, _ = conv(w, "implicit", padding=1)
    check_ends(y, [[45, 33], [39, 28]])


@needs(9)
def conv2d_to_many_channels():
    w = np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1, 1)
    x = image((1, 1, *IMAGE[2:]))
    y, ctx = ops.conv2d_forward(x, w)
    check_ends(y, 8 * np.arange(1, 10).reshape(3, 3))
    dx, *_ = ops.conv2d_backward(y, ctx, needs=(True, False, False))
    check_ends(dx, (w * w).sum() * np.arange(1, 10).reshape(3, 3))


@needs(2)
def conv2d_winograd():
    x, w = image((1, 128, 8200, 2048)), np.zeros((1, 128, 3, 3), np.float32)
    w[0, 127] = 1
    y, _ = ops.conv2d_forward(x, w, padding=1, algo="winograd4")
    # transforms of small integers are exact but for factors of 1/6 and 1/24
    np.testing.assert_allclose(y[0, 0, -2:, -2:], [[45, 33], [39, 28]], rtol=1e-4)
    assert np.abs(y[0, 0, 4:-8]).max() == 0


@needs(9)
def conv2d_depthwise():
    w = np.zeros((8, 1, 3, 3), np.float32)
    w[7] = 1
    y, _ = conv(w, "depthwise", padding=1, groups=8)
    check_ends(y, [[45, 33], [39, 28]])


@needs(9)
def conv_transpose2d():
    x, w = image((1, 1, 8192, 8200)), np.ones((1, 8, 2, 2), np.float32)
    y, _ = ops.conv_transpose2d_forward(x, w, stride=2)
    assert y.size > 2**31
    check_ends(y, np.repeat(np.repeat([[5, 6], [8, 9]], 2, 0), 2, 1))


@needs(11)
def max_pool2d():
    """Two planes, with indices of up to 2^30."""
    x = image((1, 2, 32768, 32776))
    (y, index), ctx = ops.max_pool2d_forward(x, 4, return_indices=True)
    check_ends(y, [[9]])
    assert index[0, 1, -1, -1] == 32768 * 32776 - 1
    del index
    dy = zeros(y.shape)
    dy[0, 1, -1, -1] = 1
    assert others(ops.max_pool2d_backward(dy, ctx), 0) == [x.size - 1]


@needs(2)
def max_pool2d_of_the_largest_plane():
    """46340^2 = 2^31 - 88048 pixels: indices just fit."""
    x = image((2, 1, 46340, 46340))
    x[1, 0, -1, -1] = 9
    (y, index), _ = ops.max_pool2d_forward(x, 20, return_indices=True, keep=False)
    assert y[1, 0, -1, -1] == 9
    assert index[1, 0, -1, -1] == 46340**2 - 1
    assert index[1, 0, 0, 0] == 0


@needs(2)
def avg_pool2d():
    y, _ = ops.avg_pool2d_forward(image(), 4, keep=False)
    check_ends(y, [[45 / 16]])


@needs(1)
def adaptive_avg_pool2d():
    x = image()
    y, _ = ops.adaptive_avg_pool2d_forward(x, 1, keep=False)
    np.testing.assert_allclose(y.ravel() * (IMAGE[2] * IMAGE[3]), [100, 0, 0, 0, 0, 0, 0, 45], rtol=1e-5)


@needs(9)
def max_unpool2d():
    x, index = np.ones((1, 8, 1, 2), np.float32), np.array([[[[0, 16384 * 16400 - 1]]]] * 1).repeat(8, 1)
    y, _ = ops.max_unpool2d_forward(x, index, (16384, 8200), output_size=(16384, 16400))
    assert others(y, 0) == [c * 16384 * 16400 + i for c in range(8) for i in (0, 16384 * 16400 - 1)]


@needs(1)
def subsample2d():
    x = image()
    x[0, :, 8192, 8200] = range(1, 9)
    y, _ = ops.subsample2d_forward(x, (8192, 8200))
    np.testing.assert_array_equal(y[0, :, 1, 1], range(1, 9))


@needs(9)
def batch_norm():
    """Statistics of a channel are those of its image."""
    y, _ = ops.batch_norm_forward(image(), training=True, keep=False)
    assert others(y[0, 1:7], 0) == []
    x = np.zeros(IMAGE[2] * IMAGE[3])
    x[-9:] = range(1, 10)
    want = (np.arange(1, 10) - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose(y[CORNER].ravel(), want, rtol=1e-5)


@needs(9)
def local_response_norm():
    y, _ = ops.local_response_norm_forward(image(), 3, alpha=3.0, beta=1.0, keep=False)
    squares = np.arange(1.0, 10).reshape(3, 3) ** 2
    assert np.abs(y[CORNER] - np.sqrt(squares) / (1 + squares)).max() < 1e-6


@needs(9)
def upsample_nearest2d():
    y, _ = ops.upsample_nearest2d_forward(image((1, 1, 16384, 32784)), scale_factor=2, keep=False)
    check_ends(y, np.repeat(np.repeat([[5, 6], [8, 9]], 2, 0), 2, 1))


@needs(9)
def upsample_bilinear2d():
    y, _ = ops.upsample_bilinear2d_forward(image((1, 1, 16384, 32784)), scale_factor=2, keep=False)
    check_ends(y, [[9]])

"""Calls on arrays of more than 2^31 elements, 8 GiB in float32, one a family; test_large.py runs each in a process of
its own. By hand: python tests/reliability/large_calls.py NAME.

Inputs are zeros that take no memory until they are written to, with a few marks at the ends and around 2^31 elements
and 2^32 bytes. Results are searched as a whole: they must be what the marks give, and what zero gives elsewhere.
"""

import mmap
import resource
import sys
import time
from math import prod

import numpy as np

from fastnn import ops
from fastnn.descriptors import layer_norm_desc
from fastnn.kernels import dropout as dropout_kernels
from fastnn.reference._philox import kept

MORE = 2**31 + 17
"""Elements: an odd number, so that there is a tail."""
PLACES = (0, 2**30 - 1, 2**30, 2**31 - 1, 2**31, MORE - 1)
MARKS = np.array([1.5, -2, 3, -4, 5, -6])
PIECE = 2**26


NORESERVE = 0x4000 if sys.platform == "linux" else 0
"""mmap's flag, which Python names from 3.13 on: more than there is memory may be mapped."""


def zeros(shape, dtype=np.float32):
    """Zeros that only take memory where they are written to."""
    dtype, n = np.dtype(dtype), prod(shape if isinstance(shape, tuple) else (shape,))
    memory = mmap.mmap(-1, n * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    return np.frombuffer(memory, dtype).reshape(shape)


def marked(shape=(MORE,), dtype=np.float32, places=PLACES):
    """Zeros but for MARKS at places, counted in row-major order."""
    x = zeros(shape, dtype)
    x.reshape(-1)[list(places)] = MARKS[: len(places)]
    return x


def others(y, background):
    """The places, in row-major order, at which y is not `background`."""
    flat, found = y.reshape(-1), []
    for first in range(0, y.size, PIECE):
        found.extend(int(i) + first for i in np.flatnonzero(flat[first : first + PIECE] != background))
        assert len(found) < 10_000, f"{len(found)} elements are not {background}, first at {found[0]}"
    return found


def check(y, places, values, background=0.0):
    """y is `values` at places, which are in order, and `background` elsewhere."""
    want = dict(zip(places, np.asarray(values, y.dtype).tolist(), strict=True))
    got = {i: float(y.reshape(-1)[i]) for i in others(y, background)}
    assert got == {i: v for i, v in want.items() if v != background}


CALLS = {}
"""Name -> (gibibytes that the call may take, function)."""


def needs(gibibytes):
    def add(function):
        CALLS[function.__name__] = gibibytes, function
        return function

    return add


# ---- elementwise, sums ----


@needs(9)
def relu_in_place():
    x = marked()
    assert ops.relu_forward(x, out=x, keep=False)[0] is x
    check(x, PLACES, np.maximum(MARKS, 0))


@needs(9)
def hardtanh_float64_in_place():
    places = (0, 2**29 - 1, 2**29, 2**30 - 1, 2**30, 2**30 + 8)
    x = marked((2**30 + 9,), np.float64, places)
    ops.hardtanh_forward(x, min_val=-2.5, max_val=2.5, out=x, keep=False)
    check(x, places, MARKS.clip(-2.5, 2.5))


@needs(9)
def add():
    a, b = marked(), zeros(MORE)
    b[-1] = 10
    y, _ = ops.add_forward(a, b, keep=False)
    check(y, PLACES, [*MARKS[:-1], 4])


@needs(9)
def add_backward():
    y = marked()
    _, ctx = ops.add_forward(zeros(3), zeros(3), relu=True)
    ctx = ctx._replace(shape=y.shape, like=y)
    dy = zeros(MORE)
    dy[list(PLACES)] = 7
    da, db = ops.add_backward(dy, ctx, needs=(True, False))
    assert db is None
    check(da, PLACES, np.where(MARKS > 0, 7, 0))


@needs(1)
def mse_loss():
    loss, _ = ops.mse_loss_forward(marked(), zeros(MORE), reduction="sum", keep=False)
    assert loss == np.square(MARKS).sum()


@needs(1)
def clip_grad_norm():
    grads = [marked(), zeros(5)]
    grads[1][:] = 1
    norm = ops.clip_grad_norm(grads, 1e6)
    assert norm == np.float32(np.sqrt(np.square(MARKS).sum() + 5))


@needs(9)
def sgd_step():
    params = zeros(MORE)
    ops.sgd_step([params], [marked()], lr=0.5)
    check(params, PLACES, -0.5 * MARKS)


@needs(9)
def dropout():
    """Which elements are kept is what the reference says about their places."""
    x = zeros(MORE)
    x[:] = 1
    ops.dropout_forward(x, 0.25, seed=5, offset=3, out=x, keep=False)
    for first in (0, 2**31 - 5000):
        keep = kept(min(10_000, MORE - first), 0.25, 5, 3, first)
        np.testing.assert_array_equal(x[first : first + len(keep)], keep / np.float32(0.75))


@needs(2)
def dropout_bits():
    """2^32 + 512 elements."""
    n = 2**32 + 512
    bits = np.empty(dropout_kernels.bits_of(n), np.int32)
    dropout_kernels.draw(np.empty(0, np.float32), bits, n, 0.25, 5, 3)
    for first in (0, 2**31 - 512, 2**31, 2**32 - 512, 2**32):
        got = np.unpackbits(bits[first // 32 : first // 32 + 16].view(np.uint8), bitorder="little")
        np.testing.assert_array_equal(got, kept(512, 0.25, 5, 3, first))


# ---- rows ----

ROWS = (2**21 + 1, 1024)
"""A shape of 2^31 + 1024 elements."""
FAR = (5, 2**31 - 1, 2**31, 2**31 + 1023)
"""Places in it: in the first row, at the end of row 2^21 - 1, and at both ends of the last."""


def far(shape=ROWS):
    return marked(shape, places=FAR)


def rows_at(x, places=FAR):
    """The rows of x that hold places."""
    return sorted({place // x.shape[-1] for place in places})


def check_rows(y, x, f, background):
    """y is f(x), a function of rows; rows without a mark are background."""
    rows = rows_at(x)
    np.testing.assert_array_equal(y[rows], f(np.ascontiguousarray(x[rows])))
    assert {i // y.shape[-1] for i in others(y, background)} <= set(rows)


@needs(9)
def softmax_rows():
    x = far()
    y, _ = ops.softmax_forward(x, keep=False)
    check_rows(y, x, lambda x: ops.softmax_forward(x)[0], np.float32(2**-10))


@needs(9)
def softmax_of_one_row():
    """Equal ones: single precision does not count so far in ones."""
    y, _ = ops.softmax_forward(zeros((1, 2**31)), keep=False)
    check(y, (), (), np.float32(2**-31))


@needs(9)
def softmax_of_columns():
    """Almost all of the first column is at its ends, of the second beyond 2^31 elements."""
    x = zeros((2**30 + 9, 2))
    x[0, 0] = x[-1, 0] = x[2**30, 1] = 50
    y, _ = ops.softmax_forward(x, 0, keep=False)
    np.testing.assert_array_equal(y[[0, -1, 2**30], [0, 0, 1]], [0.5, 0.5, 1])
    assert np.count_nonzero(y > 1e-9) == 3


@needs(1)
def argmax_of_columns():
    """Places of more than 31 bits, side by side."""
    x = zeros((2**31 + 5, 3))
    x[2**31 + 1, 0], x[-1, 1], x[7, 2] = 1, np.nan, 2
    assert ops.argmax_forward(x, 0)[0].tolist() == [2**31 + 1, 2**31 + 4, 7]


@needs(1)
def argmax_of_one_row():
    x = marked()
    assert ops.argmax_forward(x)[0] == PLACES[4]
    x[-2] = np.nan
    assert ops.argmax_forward(x)[0] == MORE - 2


@needs(9)
def layer_norm():
    x = far()
    y, _ = ops.layer_norm_forward(x, 1024, keep=False)
    check_rows(y, x, lambda x: ops.layer_norm_forward(x, 1024)[0], 0)


@needs(9)
def layer_norm_backward():
    x, dy = far(), far()
    _, ctx = ops.layer_norm_forward(np.ascontiguousarray(x[:3]), 1024, np.ones(1024, np.float32))
    mean, var = np.zeros(len(x)), np.zeros(len(x))
    for row in rows_at(x):
        mean[row], var[row] = x[row].mean(dtype=float), x[row].var(dtype=float)
    desc = layer_norm_desc(x.shape, "layer_norm", 1024)
    ctx = ctx._replace(desc=desc, x=x, mean=mean, invstd=1 / np.sqrt(var + 1e-5))
    dx, *_ = ops.layer_norm_backward(dy, ctx, needs=(True, False, False))
    assert {i // 1024 for i in others(dx, 0)} <= set(rows_at(x))
    assert np.abs(dx[-1]).max() > 0


@needs(2)
def cross_entropy():
    x, target = far(), np.zeros(ROWS[0], np.int64)
    target[-1] = 1023
    losses, _ = ops.cross_entropy_forward(x, target, reduction="none", keep=False)
    rows = rows_at(x)
    want = ops.cross_entropy_forward(np.ascontiguousarray(x[rows]), target[rows], reduction="none")[0]
    check(losses, rows, want, np.float32(losses[1]))
    np.testing.assert_allclose(losses[1], np.log(1024), rtol=1e-6)


@needs(9)
def attention():
    """One key: every query gets its value."""
    q, k, v = far((1, *ROWS)), zeros((1, 1, 1024)), zeros((1, 1, 1024))
    v[:] = 3
    y, _ = ops.scaled_dot_product_attention_forward(q, k, v, keep=False)
    assert others(y, 3) == []


@needs(1)
def rnn():
    """2^21 + 1 steps of one unit, which weighs the last feature of a step by 2."""
    x, w_ih, w_hh = far((ROWS[0], 1, 1024)), np.zeros((1, 1024), np.float32), np.zeros((1, 1), np.float32)
    w_ih[0, -1] = 2
    (y, *_), _ = ops.rnn_forward(x, w_ih, w_hh, nonlinearity="relu")
    check(y, (2**21 - 1, 2**21), np.maximum(2 * x[[2**21 - 1, 2**21], 0, -1], 0))


# ---- tables, matrices ----


@needs(1)
def embedding_of_a_large_table():
    table = far()
    index = np.array([0, 2**21, 2**21 - 1, 2**21])
    np.testing.assert_array_equal(ops.embedding_forward(index, table)[0], table[index])


@needs(9)
def embedding_of_many():
    table, index = zeros((7, 1024)), np.zeros(ROWS[0], np.int64)
    table[3], index[-1] = np.arange(1, 1025), 3
    y, _ = ops.embedding_forward(index, table, keep=False)
    check(y, range(2**31, 2**31 + 1024), table[3])


@needs(9)
def embedding_backward():
    dy = zeros((3, 1024))
    dy += np.array([[1], [2], [4]])
    _, ctx = ops.embedding_forward(np.array([2**21, 0, 2**21]), zeros(ROWS))
    dw = ops.embedding_backward(dy, ctx)
    check(dw, (*range(1024), *range(2**31, 2**31 + 1024)), [2] * 1024 + [5] * 1024)


@needs(2)
def linear_of_many_rows():
    places = (5, 2**31 - 1, 2**31, 2**31 + 7)
    x, w = marked((2**28 + 1, 8), places=places), np.ones((1, 8), np.float32)
    y, ctx = ops.linear_forward(x, w)
    rows = rows_at(x, places)
    check(y, rows, x[rows].sum(1))
    dy = zeros(y.shape)
    dy[-1] = 1
    np.testing.assert_array_equal(ops.linear_backward(dy, ctx, needs=(False, True, False))[1], x[-1:])


@needs(9)
def linear_to_many_columns():
    x, w, b = zeros((2**28 + 1, 1)), np.ones((8, 1), np.float32), np.arange(8, dtype=np.float32)
    x[-1] = 10
    y, _ = ops.linear_forward(x, w, keep=False)
    check(y, range(2**31, 2**31 + 8), [10] * 8)
    del y
    y, _ = ops.linear_forward(x[-50:], w, b)
    np.testing.assert_array_equal(y[-1], 10 + b)


# ---- images ----

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


@needs(9)
def max_pool2d():
    """Three planes; in the last, indices of more than 2^30."""
    x = image((1, 3, 32768, 32760))
    (y, index), ctx = ops.max_pool2d_forward(x, 2, return_indices=True)
    check_ends(y, [[1, 3], [7, 9]])
    assert index[0, 2, -1, -1] == 32768 * 32760 - 1
    del index
    dy = zeros(y.shape)
    dy[0, 2, -1, -1] = 1
    dx = ops.max_pool2d_backward(dy, ctx)
    assert dx[0, 2, -1, -1] == 1


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
    """Whole planes of ones, of which single precision does not count so many: 2^28 in each of eight channels."""
    x = zeros((1, 8, 16384, 16384))
    y, _ = ops.adaptive_avg_pool2d_forward(x, 1, keep=False)
    assert not y.any()


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


@needs(9)
def concat_and_split():
    parts = [zeros((2, 2**29)), zeros((2, 2**29 + 9))]
    parts[1][1, -1] = 5
    y, ctx = ops.concat_forward(parts, 1)
    check(y, (2**31 + 17,), (5,))
    dy = zeros(y.shape)
    dy[0, 2**29 - 1], dy[1, -1] = 1, 2
    del y
    first, second = ops.concat_backward(dy, ctx)
    check(first, (2**29 - 1,), (1,))
    check(second, (2 * (2**29 + 9) - 1,), (2,))


@needs(9)
def pad():
    y, _ = ops.pad_forward(marked(), (3, 5), keep=False)
    check(y, [i + 3 for i in PLACES], MARKS)
    del y
    y, _ = ops.pad_forward(marked(), (-(2**31), 0), keep=False)
    check(y, (0, 16), MARKS[-2:])


def main(name):
    before = time.perf_counter()
    CALLS[name][1]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: {time.perf_counter() - before:.0f} s, {peak:.1f} GiB")


if __name__ == "__main__":
    main(sys.argv[1])

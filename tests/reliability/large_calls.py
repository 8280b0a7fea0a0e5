"""Calls on arrays of more than 2^31 elements, 8 GiB in float32, one a family; test_large.py runs each in a process of
its own. By hand: python tests/reliability/large_calls.py NAME."""

import resource
import sys
import time

import large_images  # noqa: F401  adds its calls
import numpy as np
from large_support import CALLS, MARKS, MORE, PLACES, check, marked, needs, others, zeros

from fastnn import ops
from fastnn.descriptors import layer_norm_desc
from fastnn.kernels import dropout as dropout_kernels
from fastnn.reference._philox import kept

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

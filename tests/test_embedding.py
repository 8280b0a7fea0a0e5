"""What is special to the embedding: indices, padding, frequencies, renormalised rows."""

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import ops, reference
from fastnn.verify import forced


def table(rows, d, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((rows, d)).astype(dtype)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_any_integer_dtype(kind):
    weight = table(7, 5)
    x = np.array([[0, 6, 3], [2, 2, 1]], kind)
    np.testing.assert_array_equal(F.embedding(x, weight), weight[x])
    np.testing.assert_array_equal(F.embedding(x.T, weight), weight[x.T])


@pytest.mark.parametrize(("bad", "said"), [(-1, "-1"), (7, "7"), (2**40, "1099511627776")])
def test_index_out_of_range(bad, said):
    x = np.zeros((2, 3), np.int64)
    x[1, 2] = bad
    with pytest.raises(ValueError, match=rf"^embedding: x has the value {said} at index \[1, 2\], expected 0 to 6$"):
        F.embedding(x, table(7, 5))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"padding_idx": 7}, ValueError, "padding_idx is 7, expected -7 to 6"),
        ({"padding_idx": 1.0}, TypeError, "padding_idx must be an integer or None"),
        ({"sparse": True}, ValueError, "sparse is True, expected False"),
        ({"max_norm": "1"}, TypeError, "max_norm must be a number"),
        ({"max_norm": 1.0, "norm_type": 0}, ValueError, "norm_type is 0.0, expected a positive number"),
    ],
)
def test_wrong_options(options, error, said):
    with pytest.raises(error, match=f"^embedding: {said}"):
        F.embedding(np.zeros(3, np.int64), table(7, 5), **options)


def test_indices_are_integers():
    for x, came in (([0, 1], "list"), (np.zeros(3, np.float32), "an array of float32"), (np.zeros(3, bool), "bool")):
        with pytest.raises(TypeError, match=f"^embedding: x must be a NumPy array of integers, got .*{came}"):
            F.embedding(x, table(7, 5))


def test_one_row_takes_all(dtype, isa):
    """A sum of everything in one row, and rows that get nothing, at any number of threads; uneven frequencies."""
    rng = np.random.default_rng(1)
    x = np.where(rng.random(3000) < 0.9, 5, rng.integers(0, 300, 3000))
    dy = rng.integers(-4, 5, (3000, 130)).astype(dtype)
    for by_frequency in (False, True):
        results = []
        for threads in (1, 2, 3, 7):
            with forced(threads=threads):
                _, ctx = ops.embedding_forward(x, np.ones((300, 130), dtype), scale_grad_by_freq=by_frequency)
                results.append(ops.embedding_backward(dy, ctx))
        _, ctx = reference.embedding_forward(x, np.ones((300, 130), dtype), scale_grad_by_freq=by_frequency)
        for result in results:
            np.testing.assert_array_equal(result, reference.embedding_backward(dy, ctx))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_rows_are_renormalised_in_place(norm_type, dtype, isa):
    """Each once, however often it is looked up; rows that are not looked up stay."""
    x = np.array([3, 1, 3, 3])
    weight = table(5, 19, dtype)
    expected, before = weight.astype(np.float64), weight.copy()
    y = ops.embedding_forward(x, weight, max_norm=0.75, norm_type=norm_type)[0]
    reference.embedding_forward(x, expected, max_norm=0.75, norm_type=norm_type)
    np.testing.assert_allclose(weight, expected, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y, weight[x])
    np.testing.assert_array_equal(weight[[0, 2, 4]], before[[0, 2, 4]])
    assert not np.array_equal(weight[1], before[1])
    weight.flags.writeable = False
    with pytest.raises(ValueError, match=r"^embedding: weight is updated in place, expected a writable"):
        ops.embedding_forward(x, weight, max_norm=1.5)


def test_agrees_with_torch_on_renormalised_rows():
    torch = pytest.importorskip("torch")
    x = np.array([[3, 1], [0, 3]])
    weight = table(5, 19)
    theirs = torch.from_numpy(weight.copy())
    want = torch.nn.functional.embedding(torch.from_numpy(x), theirs, max_norm=1.5)
    np.testing.assert_allclose(F.embedding(x, weight, max_norm=1.5), want.numpy(), rtol=4e-7)
    np.testing.assert_allclose(weight, theirs.numpy(), rtol=4e-7)


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 3)])
def test_a_table_without_columns_has_a_gradient(shape):
    """It divided by the number of columns, which ended the process."""
    y, ctx = ops.embedding_forward(np.zeros(shape, np.int64), np.zeros((3, 0), np.float32))
    assert y.shape == (*shape, 0)
    assert ops.embedding_backward(y, ctx).shape == (3, 0)

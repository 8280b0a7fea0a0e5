"""LSTM beyond its cases: absent gradients and arguments, sequences against steps, unaligned weights, errors."""

import numpy as np
import pytest

from fastnn import functional, ops
from fastnn.kernels import runtime
from fastnn.verify import forced

ISAS = runtime.supported_isas()


def draw(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def arguments(t, n, d, h):
    x = draw(n, d) if t is None else draw(t, n, d)
    weights = draw(4 * h, d), draw(4 * h, h), draw(4 * h, seed=1), draw(4 * h, seed=2)
    return (x, *weights), {"h0": draw(n, h, seed=3), "c0": draw(n, h, seed=4)}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 3, 20])
def test_sequence_is_its_steps(isa, n):
    (x, *weights), state = arguments(4, n, 9, 35)
    with forced(isa):
        y, h, c = functional.lstm(x, *weights, **state)
        for x_t, y_t in zip(x, y, strict=True):
            state["h0"], state["c0"] = functional.lstm_step(x_t, *weights, **state)
            np.testing.assert_allclose(y_t, state["h0"], atol=1e-5)
    assert np.array_equal(h, y[-1])
    np.testing.assert_allclose(c, state["c0"], atol=1e-5)


@pytest.mark.parametrize("op", ["lstm_step", "lstm"])
def test_absent_output_gradients_are_zero(op):
    args, state = arguments(3 if op == "lstm" else None, 2, 3, 5)
    outputs, ctx = getattr(ops, f"{op}_forward")(*args, **state)
    backward = getattr(ops, f"{op}_backward")
    for absent in range(len(outputs)):
        dy = [draw(*y.shape, seed=7) for y in outputs]
        dy[absent] = None
        some = backward(tuple(dy), ctx)
        dy[absent] = np.zeros_like(outputs[absent])
        for got, want in zip(some, backward(tuple(dy), ctx), strict=True):
            assert np.array_equal(got, want)


def test_absent_arguments_have_no_gradient():
    (x, w_ih, w_hh, b_ih, _), state = arguments(3, 2, 3, 5)
    (y, _, _), ctx = ops.lstm_forward(x, w_ih, w_hh, b_ih, c0=state["c0"])
    grads = ops.lstm_backward((np.ones_like(y), None, None), ctx)
    assert [g is None for g in grads] == [False, False, False, False, True, True, False]


def test_only_needed_gradients():
    args, state = arguments(3, 2, 3, 5)
    (y, _, _), ctx = ops.lstm_forward(*args, **state)
    dy = np.ones_like(y), None, None
    every = ops.lstm_backward(dy, ctx)
    for i in range(7):
        some = ops.lstm_backward(dy, ctx, [i == j for j in range(7)])
        assert np.array_equal(some[i], every[i])
        assert [g is None for g in some] == [i != j for j in range(7)]


def test_bias_gradients_are_equal_but_not_shared():
    args, state = arguments(3, 2, 3, 5)
    (y, _, _), ctx = ops.lstm_forward(*args, **state)
    _, _, _, db_ih, db_hh, _, _ = ops.lstm_backward((np.ones_like(y), None, None), ctx)
    assert np.array_equal(db_ih, db_hh)
    assert not np.shares_memory(db_ih, db_hh)


def test_results_and_state_gradients_are_fresh_memory():
    args, state = arguments(3, 2, 3, 5)
    (y, h, c), ctx = ops.lstm_forward(*args, **state)
    assert not np.shares_memory(h, y)
    dh, dc = np.ones_like(h), np.ones_like(c)
    ops.lstm_backward((None, dh, dc), ctx)
    assert np.array_equal(dh, np.ones_like(h))
    assert np.array_equal(dc, np.ones_like(c))


@pytest.mark.parametrize("op", ["lstm_step", "lstm"])
def test_empty_batch(op):
    args, state = arguments(3 if op == "lstm" else None, 0, 3, 5)
    outputs, ctx = getattr(ops, f"{op}_forward")(*args, **state)
    assert all(y.size == 0 for y in outputs)
    grads = getattr(ops, f"{op}_backward")(outputs, ctx)
    for grad, argument in zip(grads, (*args, *state.values()), strict=True):
        assert grad.shape == argument.shape
        assert not grad.any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [16, 33, 48, 64, 70])
def test_alignment_of_weights_does_not_change_results(isa, dtype, k):
    """One row times a matrix reads the matrix by whole cache lines, wherever it begins."""
    x, w, b = draw(1, k).astype(dtype), draw(19, k).astype(dtype), draw(19).astype(dtype)
    with forced(isa):
        results = []
        for offset in range(64 // w.itemsize):
            room = np.empty(w.size + 128 // w.itemsize, dtype)
            begin = -room.ctypes.data % 64 // w.itemsize + offset
            moved = room[begin : begin + w.size].reshape(w.shape)
            moved[:] = w
            results.append(functional.linear(x, moved, b))
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "h"), [(16, 16), (48, 20), (33, 64), (5, 19)])
def test_alignment_of_weights_does_not_change_a_step(isa, dtype, d, h):
    """A single sample's step reads both matrices by whole cache lines, each wherever it begins."""
    (x, w_ih, w_hh, *_), state = arguments(None, 1, d, h)
    x, state = x.astype(dtype), {name: a.astype(dtype) for name, a in state.items()}
    with forced(isa):
        results = []
        for offset in range(64 // x.itemsize):
            moved = []
            for w, place in (w_ih, offset), (w_hh, 3 * offset % (64 // x.itemsize)):
                room = np.empty(w.size + 128 // x.itemsize, dtype)
                begin = -room.ctypes.data % 64 // x.itemsize + place
                moved.append(room[begin : begin + w.size].reshape(w.shape))
                moved[-1][:] = w
            results.append(functional.lstm_step(x, *moved, **state))
    for h_new, c_new in results[1:]:
        assert np.array_equal(h_new, results[0][0])
        assert np.array_equal(c_new, results[0][1])


@pytest.mark.parametrize(
    ("op", "change", "error", "message"),
    [
        ("lstm_step", {"x": draw(2, 2, 3)}, ValueError, r"lstm_step: x has shape \(2, 2, 3\), expected \(N, D\)"),
        ("lstm", {"x": draw(2, 3)}, ValueError, r"lstm: x has shape \(2, 3\), expected \(T, N, D\)"),
        ("lstm", {"x": draw(0, 2, 3)}, ValueError, "at least one step"),
        ("lstm", {"w_ih": draw(20, 4)}, ValueError, r"w_ih has shape \(20, 4\), expected \(20, 3\)"),
        ("lstm", {"w_hh": draw(15, 5)}, ValueError, r"w_hh has shape \(15, 5\), expected \(4H, H\)"),
        ("lstm", {"b_hh": draw(5)}, ValueError, r"b_hh has shape \(5,\), expected \(20,\)"),
        ("lstm", {"h0": draw(5)}, ValueError, r"h0 has shape \(5,\), expected \(2, 5\)"),
        ("lstm", {"c0": np.zeros((2, 5))}, TypeError, "c0 has dtype float64, expected float32"),
    ],
)
def test_errors(op, change, error, message):
    args, state = arguments(3 if op == "lstm" else None, 2, 3, 5)
    named = dict(zip(("x", "w_ih", "w_hh", "b_ih", "b_hh"), args, strict=True))
    with pytest.raises(error, match=message):
        getattr(ops, f"{op}_forward")(**{**named, **state, **change})

"""Recurrent networks beyond their cases: absent gradients and arguments, sequences against steps, against each sample
alone, unaligned weights, errors."""

import numpy as np
import pytest

from fastnn import functional, ops, reference
from fastnn.descriptors import GATES
from fastnn.kernels import runtime
from fastnn.registry import as_tuple, specs
from fastnn.verify import forced

ISAS = runtime.supported_isas()
KINDS = {
    "rnn": ("rnn", {}),
    "relu": ("rnn", {"nonlinearity": "relu"}),
    "gru": ("gru", {}),
    "paper": ("gru", {"variant": "paper"}),
    "lstm": ("lstm", {}),
    "projected": ("lstm", {}),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def arguments(kind, t, n, d, h, p=6):
    """(op, arrays by name, options), of a step where t is None."""
    cell, options = KINDS[kind]
    rows, p = GATES[cell] * h, p if kind == "projected" else h
    x = draw(n, d) if t is None else draw(t, n, d)
    arrays = {"x": x, "w_ih": draw(rows, d) / d**0.5, "w_hh": draw(rows, p) / p**0.5}
    arrays |= {"b_ih": draw(rows, seed=1), "b_hh": draw(rows, seed=2)}
    if kind == "projected":
        arrays["w_hr"] = draw(p, h) / h**0.5
    arrays["h0"] = draw(n, p, seed=3)
    if cell == "lstm":
        arrays["c0"] = draw(n, h, seed=4)
    return cell if t else f"{cell}_step", {name: a.astype(np.float32) for name, a in arrays.items()}, options


def call(op, arrays, options):
    x, w_ih, w_hh, *_ = arrays.values()
    rest = {name: a for name, a in arrays.items() if name not in ("x", "w_ih", "w_hh")}
    return getattr(functional, op)(x, w_ih, w_hh, **rest, **options)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_sequence_is_its_steps(kind, n, isa):
    op, arrays, options = arguments(kind, 4, n, 9, 35)
    with forced(isa):
        y, *last = call(op, arrays, options)
        state = {name: arrays[name] for name in ("h0", "c0") if name in arrays}
        for x_t, y_t in zip(arrays["x"], y, strict=True):
            after = as_tuple(call(f"{op}_step", {**arrays, "x": x_t, **state}, options))
            state = dict(zip(state, after, strict=True))
            np.testing.assert_allclose(y_t, state["h0"], atol=2e-5)
    assert np.array_equal(last[0], y[-1])
    for got, want in zip(last, state.values(), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_is_as_alone(kind, reverse, isa):
    """Bit for bit where its own rows are enough for packed weights, too; with NaN in what is not part of a sequence."""
    lengths = [64, 90, 64, 71, 90]
    op, arrays, options = arguments(kind, 90, len(lengths), 9, 35)
    options = {**options, "reverse": reverse}
    for i, length in enumerate(lengths):
        arrays["x"][length:, i] = np.nan
    with forced(isa):
        y, *last = call(op, arrays, {**options, "lengths": lengths})
        for i, length in enumerate(lengths):
            own = {name: a[i : i + 1] if name in ("h0", "c0") else a for name, a in arrays.items()}
            y_i, *last_i = call(op, {**own, "x": arrays["x"][:length, i : i + 1]}, options)
            assert np.array_equal(y[:length, i], y_i[:, 0])
            assert not y[length:, i].any()
            assert all(np.array_equal(a[i], b[0]) for a, b in zip(last, last_i, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_lengths_are_sums_of_those_alone(kind, reverse, isa):
    lengths = [2, 5, 1, 1, 5, 3]
    op, arrays, options = arguments(kind, 5, len(lengths), 4, 19)
    arrays = {name: a.astype(np.float64) for name, a in arrays.items()}
    options = {**options, "reverse": reverse}
    with forced(isa):
        outputs, ctx = getattr(ops, f"{op}_forward")(**arrays, **options, lengths=np.array(lengths))
        dy = tuple(draw(*y.shape, seed=5).astype(np.float64) for y in outputs)
        grads = dict(zip(arrays, without_none(getattr(ops, f"{op}_backward")(dy, ctx)), strict=True))
        sums = {name: np.zeros_like(a) for name, a in arrays.items()}
        for i, length in enumerate(lengths):
            one = slice(i, i + 1)
            own = {name: a[one] if name in ("h0", "c0") else a for name, a in arrays.items()}
            _, ctx = getattr(ops, f"{op}_forward")(**{**own, "x": arrays["x"][:length, one]}, **options)
            alone = getattr(ops, f"{op}_backward")((dy[0][:length, one], *(d[one] for d in dy[1:])), ctx)
            for name, grad in zip(arrays, without_none(alone), strict=True):
                place = sums[name][:length, one] if name == "x" else sums[name][one if name in ("h0", "c0") else ...]
                place += grad
    for name, want in sums.items():
        np.testing.assert_allclose(grads[name], want, rtol=1e-12, atol=1e-12)


def without_none(grads):
    return [grad for grad in grads if grad is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_results(kind):
    """At sizes where each of them has several blocks of units, with packed weights and without."""
    for t, n in ((3, 1), (70, 1), (20, 5), (3, 70)):
        op, arrays, options = arguments(kind, t, n, 20, 230, 100)
        results = []
        for threads in (1, 2, 3, 7):
            with forced(threads=threads):
                outputs, ctx = getattr(ops, f"{op}_forward")(**arrays, **options)
                results.append([*outputs, *without_none(getattr(ops, f"{op}_backward")(outputs, ctx))])
        for others in results[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [None, 3])
def test_absent_output_gradients_are_zero(kind, t):
    op, arrays, options = arguments(kind, t, 2, 3, 5)
    outputs, ctx = getattr(ops, f"{op}_forward")(**arrays, **options)
    if not isinstance(outputs, tuple):
        pytest.skip("a single result")
    backward = getattr(ops, f"{op}_backward")
    for absent in range(len(outputs)):
        dy = [draw(*y.shape, seed=7) for y in outputs]
        dy[absent] = None
        some = backward(tuple(dy), ctx)
        dy[absent] = np.zeros_like(outputs[absent])
        for got, want in zip(some, backward(tuple(dy), ctx), strict=True):
            assert (got is want is None) or np.array_equal(got, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [None, 1, 3])
def test_only_needed_gradients(kind, t):
    """And none of absent arguments."""
    op, arrays, options = arguments(kind, t, 2, 3, 5)
    names = specs()[op].grads
    for absent in (None, "b_ih", "b_hh", "h0"):
        there = {name: a for name, a in arrays.items() if name != absent}
        outputs, ctx = getattr(ops, f"{op}_forward")(**there, **options)
        dy = as_tuple(outputs) if isinstance(outputs, tuple) else outputs
        backward = getattr(ops, f"{op}_backward")
        every = backward(dy, ctx)
        assert [g is not None for g in every] == [name in arrays and name != absent for name in names]
        for i, name in enumerate(names):
            some = backward(dy, ctx, [i == j for j in range(len(names))])
            assert [g is not None for g in some] == [i == j and every[i] is not None for j in range(len(names))], name
            assert every[i] is None or np.array_equal(some[i], every[i])


def test_bias_gradients_are_equal_but_not_shared():
    _, arrays, _ = arguments("lstm", 3, 2, 3, 5)
    (y, _, _), ctx = ops.lstm_forward(**arrays)
    _, _, _, db_ih, db_hh, *_ = ops.lstm_backward((np.ones_like(y), None, None), ctx)
    assert np.array_equal(db_ih, db_hh)
    assert not np.shares_memory(db_ih, db_hh)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [2, 3]])
def test_results_and_state_gradients_are_fresh_memory(kind, lengths):
    op, arrays, options = arguments(kind, 3, 2, 3, 5)
    before = {name: a.copy() for name, a in arrays.items()}
    (y, *last), ctx = getattr(ops, f"{op}_forward")(**arrays, **options, lengths=lengths)
    assert not any(np.shares_memory(y, state) for state in last)
    dlast = [np.ones_like(state) for state in last]
    getattr(ops, f"{op}_backward")((None, *dlast), ctx)
    assert all(np.array_equal(d, np.ones_like(d)) for d in dlast)
    assert all(np.array_equal(a, before[name]) for name, a in arrays.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [None, 3])
def test_empty_batch(kind, t):
    op, arrays, options = arguments(kind, t, 0, 3, 5)
    outputs, ctx = getattr(ops, f"{op}_forward")(**arrays, **options)
    assert all(y.size == 0 for y in as_tuple(outputs))
    grads = without_none(getattr(ops, f"{op}_backward")(outputs, ctx))
    for grad, argument in zip(grads, arrays.values(), strict=True):
        assert grad.shape == argument.shape
        assert not grad.any()


def test_memory_is_bounded():
    """Without keep: a copy of the weights, and x and gates of 256 samples, however long the sequence is."""
    _, arrays, _ = arguments("lstm", 2000, 4, 32, 32)
    runtime.scratch_peak()
    ops.lstm_forward(**arrays, keep=False)
    weights = 4 * 32 * (32 + 32)
    assert runtime.scratch_peak() < 4 * (weights + 256 * (32 + 4 * 32)) + 20000


@pytest.mark.parametrize("kind", ["gru", "paper", "projected"])
def test_large_problems_agree_with_the_reference(kind):
    """Several blocks of the products' sums, of units, and of steps."""
    op, arrays, options = arguments(kind, 9, 33, 300, 270, 290)
    arrays = {name: a.astype(np.float64) for name, a in arrays.items()}
    for lengths in (None, [1, 9, 4] * 11):
        got, ctx = getattr(ops, f"{op}_forward")(**arrays, **options, lengths=lengths)
        want, truth = getattr(reference, f"{op}_forward")(**arrays, **options, lengths=lengths)
        got = [*got, *without_none(getattr(ops, f"{op}_backward")(got, ctx))]
        want = [*want, *without_none(getattr(reference, f"{op}_backward")(want, truth))]
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


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
    _, arrays, _ = arguments("lstm", None, 1, d, h)
    arrays = {name: arrays[name].astype(dtype) for name in ("x", "w_ih", "w_hh", "h0", "c0")}
    with forced(isa):
        results = []
        for offset in range(64 // arrays["x"].itemsize):
            moved = dict(arrays)
            for name, place in ("w_ih", offset), ("w_hh", 3 * offset % (64 // arrays["x"].itemsize)):
                w = arrays[name]
                room = np.empty(w.size + 128 // w.itemsize, dtype)
                begin = -room.ctypes.data % 64 // w.itemsize + place
                moved[name] = room[begin : begin + w.size].reshape(w.shape)
                moved[name][:] = w
            results.append(call("lstm_step", moved, {}))
    for h_new, c_new in results[1:]:
        assert np.array_equal(h_new, results[0][0])
        assert np.array_equal(c_new, results[0][1])


@pytest.mark.parametrize(
    ("kind", "t", "change", "error", "message"),
    [
        ("lstm", None, {"x": draw(2, 2, 3)}, ValueError, r"lstm_step: x has shape \(2, 2, 3\), expected \(N, D\)"),
        ("gru", 3, {"x": draw(2, 3)}, ValueError, r"gru: x has shape \(2, 3\), expected \(T, N, D\)"),
        ("rnn", 3, {"x": draw(0, 2, 3)}, ValueError, "at least one step"),
        ("lstm", 3, {"w_ih": draw(20, 4)}, ValueError, r"w_ih has shape \(20, 4\), expected \(20, 3\)"),
        ("lstm", 3, {"w_hh": draw(15, 5)}, ValueError, r"w_hh has shape \(15, 5\), expected \(4H, H\)"),
        ("gru", 3, {"w_hh": draw(20, 5)}, ValueError, r"w_hh has shape \(20, 5\), expected \(3H, H\)"),
        ("rnn", None, {"w_hh": draw(4, 5)}, ValueError, r"w_hh has shape \(4, 5\), expected \(H, H\)"),
        ("projected", 3, {"w_hh": draw(15, 6)}, ValueError, r"w_hh has shape \(15, 6\), expected \(4H, P\)"),
        ("projected", 3, {"w_hr": draw(5, 5)}, ValueError, r"w_hr has shape \(5, 5\), expected \(P, H\) with P = 6"),
        ("lstm", 3, {"b_hh": draw(5)}, ValueError, r"b_hh has shape \(5,\), expected \(20,\)"),
        ("gru", 3, {"b_ih": draw(5)}, ValueError, r"b_ih has shape \(5,\), expected \(15,\)"),
        ("lstm", 3, {"h0": draw(5)}, ValueError, r"h0 has shape \(5,\), expected \(2, 5\)"),
        ("projected", 3, {"h0": draw(2, 5)}, ValueError, r"h0 has shape \(2, 5\), expected \(2, 6\)"),
        ("lstm", 3, {"c0": np.zeros((2, 5))}, TypeError, "c0 has dtype float64, expected float32"),
        ("rnn", 3, {"lengths": [1, 2, 3]}, ValueError, r"rnn: lengths has shape \(3,\), expected \(2,\)"),
        ("gru", 3, {"lengths": [0, 2]}, ValueError, r"gru: lengths are \[0, 2\], expected each 1 to 3"),
        ("lstm", 3, {"lengths": [1, 4]}, ValueError, r"lstm: lengths are \[1, 4\], expected each 1 to 3"),
        ("lstm", 3, {"lengths": [1.0, 2.0]}, TypeError, "lstm: lengths must be integers, got"),
        ("gru", None, {"variant": "keras"}, ValueError, "gru_step: variant is 'keras', expected 'torch' or 'paper'"),
        ("rnn", 3, {"nonlinearity": "x"}, ValueError, "rnn: nonlinearity is 'x', expected 'tanh' or 'relu'"),
    ],
)
def test_errors(kind, t, change, error, message):
    op, arrays, options = arguments(kind, t, 2, 3, 5)
    with pytest.raises(error, match=message):
        getattr(ops, f"{op}_forward")(**{**arrays, **options, **change})


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.ones((3, 2, 5), np.float32), TypeError, r"gru: dy must be a tuple \(dy, dh\), got ndarray"),
        ((None,), ValueError, r"gru: dy has 1 elements, expected 2: \(dy, dh\)"),
        ((draw(2, 2, 5), None), ValueError, r"gru: dy has shape \(2, 2, 5\), expected \(3, 2, 5\)"),
        ((None, draw(2, 4)), ValueError, r"gru: dh has shape \(2, 4\), expected \(2, 5\)"),
    ],
)
def test_gradient_errors(dy, error, message):
    _, arrays, _ = arguments("gru", 3, 2, 3, 5)
    _, ctx = ops.gru_forward(**arrays)
    with pytest.raises(error, match=message):
        ops.gru_backward(dy, ctx)

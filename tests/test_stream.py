"""Recurrent layers step by step: the same as over sequences, states, memory, errors."""

import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import nn
from fastnn.kernels import runtime
from fastnn.verify import forced

LAYERS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("GRU", {}),
    ("GRU", {"variant": "paper", "bias": False}),
    ("LSTM", {}),
    ("LSTM", {"num_layers": 3, "proj_size": 33, "dropout": 0.5}),
]
CELLS = [("RNNCell", {"nonlinearity": "relu"}), ("GRUCell", {}), ("GRUCell", {"variant": "paper"}), ("LSTMCell", {})]


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def as_list(states):
    return list(states) if isinstance(states, tuple) else [states]


@pytest.fixture(autouse=True)
def seeded():
    fastnn.manual_seed(3)


@pytest.mark.parametrize("isa", runtime.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 2, 5, 17])
@pytest.mark.parametrize(("name", "options"), LAYERS)
def test_steps_are_the_sequence_bit_for_bit(name, options, batch, dtype, isa):
    """From initial states on, with weights that need several blocks of sums, units and features."""
    layer = getattr(nn, name)(140, 135, **options, dtype=dtype).eval()
    x = draw(64, batch, 140, dtype=dtype)
    states = [draw(layer.num_layers, batch, layer.proj_size or 135, dtype=dtype)]
    states += [draw(layer.num_layers, batch, 135, dtype=dtype)] if layer.cell == "lstm" else []
    hx = tuple(states) if layer.cell == "lstm" else states[0]
    for threads in (1, 3):
        with forced(isa, threads=threads):
            y, last = layer(x, hx)
            stream = layer.stream(batch, hx)
            for x_t, y_t in zip(x, y, strict=True):
                assert np.array_equal(stream.step(x_t), y_t)
        assert all(
            np.array_equal(got, want) for got, want in zip([stream.h, stream.c], [*as_list(last), None], strict=False)
        )


@pytest.mark.parametrize(("name", "options"), CELLS)
def test_cells(name, options):
    cell = getattr(nn, name)(5, 19, **options)
    x, hx = draw(4, 3, 5), draw(3, 19)
    hx = (hx, draw(3, 19) + 1) if name == "LSTMCell" else hx
    stream = cell.stream(3, hx)
    for x_t in x:
        hx = cell(x_t, hx)
        np.testing.assert_allclose(stream.step(x_t), as_list(hx)[0], atol=1e-6)


def test_a_step_overwrites_the_last_ones_result_and_allocates_nothing():
    layer = nn.LSTM(30, 300, num_layers=2)
    stream, x = layer.stream(), draw(1, 30)
    first = stream.step(x)
    before = first.copy()
    assert stream.step(x) is first
    assert not np.array_equal(first, before)
    runtime.scratch_peak()
    held = runtime.scratch_peak()
    tracemalloc.start()
    try:
        for _ in range(100):
            stream.step(x)
        assert tracemalloc.get_traced_memory()[1] < 200
    finally:
        tracemalloc.stop()
    assert runtime.scratch_peak() == held


def test_states_can_be_read_written_and_reset():
    layer, x = nn.LSTM(6, 9, num_layers=2), draw(7, 2, 6)
    stream = layer.stream(2)
    first = [stream.step(x_t).copy() for x_t in x]
    saved = stream.h.copy(), stream.c.copy()
    ahead = stream.step(x[0]).copy()
    stream.reset(saved)
    assert np.array_equal(stream.step(x[0]), ahead)
    stream.h[:], stream.c[:] = saved
    assert np.array_equal(stream.step(x[0]), ahead)
    stream.reset()
    assert not stream.h.any()
    assert not stream.c.any()
    assert all(np.array_equal(stream.step(x_t), y_t) for x_t, y_t in zip(x, first, strict=True))


def test_weights_are_those_of_when_it_was_made():
    layer, x = nn.GRU(6, 9), draw(1, 6)
    want = layer.stream().step(x).copy()
    stream = layer.stream()
    layer.weight_ih_l0.data[:] = 0
    layer.bias_hh_l0 = None
    assert np.array_equal(stream.step(x), want)


def test_any_layout_of_x():
    layer = nn.RNN(6, 9)
    x = draw(3, 6)
    want = layer.stream(3).step(x).copy()
    for same in (np.asfortranarray(x), x[::-1].copy()[::-1], np.repeat(x, 2, axis=1)[:, ::2]):
        assert np.array_equal(layer.stream(3).step(same), want)


def test_empty_batch():
    assert nn.LSTM(6, 9).stream(0).step(draw(0, 6)).shape == (0, 9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LSTM(3, 4, bidirectional=True).stream(), ValueError, "LSTM.stream: a bidirectional layer needs"),
        (lambda: nn.LSTM(3, 4).stream(-1), ValueError, "LSTM: batch"),
        (
            lambda: nn.GRU(3, 4).stream(2, draw(2, 4)),
            ValueError,
            r"GRU: hx has h of shape \(2, 4\), expected \(1, 2, 4\)",
        ),
        (lambda: nn.LSTM(3, 4).stream().reset(draw(1, 1, 4)), TypeError, r"LSTM: hx must be None or a pair"),
        (
            lambda: nn.GRU(3, 4).stream(2).step(draw(1, 3)),
            ValueError,
            r"gru_step: x has shape \(1, 3\), expected \(2, 3\)",
        ),
        (lambda: nn.RNN(3, 4).stream().step(draw(1, 3, dtype=np.float64)), TypeError, "rnn_step: x has dtype float64"),
        (lambda: nn.RNN(3, 4).stream().step([1, 2, 3]), TypeError, "rnn_step: x"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()

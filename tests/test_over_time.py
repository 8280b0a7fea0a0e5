"""The norms of gradients along time, against gradients of states that are leaves."""

import numpy as np
import pytest

import fastnn
from fastnn import functional as F
from fastnn import nn
from fastnn.train import gradients_over_time

LAYERS = [
    ("RNN", {}),
    ("GRU", {}),
    ("GRU", {"variant": "paper"}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 3}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
]


@pytest.mark.parametrize("lengths", [None, [2, 6, 1, 4]])
@pytest.mark.parametrize(("name", "options"), LAYERS)
def test_norms_are_those_of_small_changes_of_the_states(name, options, lengths):
    """A change of h after step t is the same as one that is added to y at t, if all later steps start from it: the
    sequence is cut there, and its parts are computed one after the other."""
    fastnn.manual_seed(1)
    layer = getattr(nn, name)(5, 7, **options, dtype=np.float64)
    rng = np.random.default_rng(2)
    x, times = rng.standard_normal((6, 4, 5)), 6
    weight = rng.standard_normal(layer(x)[0].shape)

    def loss(y):
        return (y * fastnn.Tensor(weight[: y.shape[0]]) * y).sum()

    with gradients_over_time() as norms:
        loss(layer(fastnn.Tensor(x), lengths=lengths)[0]).backward()
    directions = 2 if layer.bidirectional else 1
    assert [each.shape for each in norms] == [(times,)] * (layer.num_layers * directions)
    if layer.num_layers > 1:
        assert len({each.tobytes() for each in norms}) == len(norms)
        return
    for t in range(times):
        squares = 0
        for i in range(4):
            length = times if lengths is None else lengths[i]
            if t >= length:
                continue
            one = x[:length, i : i + 1]
            _, state = layer(fastnn.Tensor(one[: t + 1]))
            h = fastnn.Tensor((state[0] if name == "LSTM" else state).array, requires_grad=True)
            own = fastnn.Tensor(weight[: t + 1, i : i + 1])
            total = (h[0] * own[t] * h[0]).sum()
            if t + 1 < length:
                hx = (h, state[1]) if name == "LSTM" else h
                after, _ = layer(fastnn.Tensor(one[t + 1 :]), hx)
                total = total + (after * fastnn.Tensor(weight[t + 1 : length, i : i + 1]) * after).sum()
            total.backward()
            squares += (h.grad**2).sum()
        assert norms[0][t] == pytest.approx(np.sqrt(squares), rel=1e-12)


def test_nothing_is_recorded_outside():
    layer = nn.GRU(3, 4)
    with gradients_over_time() as norms:
        pass
    layer(fastnn.Tensor(np.ones((2, 1, 3), np.float32)))[0].sum().backward()
    assert norms == []


def test_steps_in_a_loop_come_in_their_order():
    """From the last step back, a gradient through a contraction shrinks."""
    cell = nn.RNNCell(3, 4)
    cell.weight_hh.data[:] = 0.1 * np.eye(4)
    h = None
    for _ in range(5):
        h = cell(fastnn.Tensor(np.zeros((2, 3), np.float32)), h)
    with gradients_over_time() as norms:
        F.mse_loss(h, fastnn.Tensor(np.ones((2, 4), np.float32))).backward()
    found = np.concatenate(norms)
    assert found.shape == (5,)
    assert np.all(np.diff(found) > 0)


def test_an_empty_batch():
    layer = nn.LSTM(3, 4)
    with gradients_over_time() as norms:
        layer(fastnn.Tensor(np.ones((2, 0, 3), np.float32)))[0].sum().backward()
    assert np.array_equal(norms[0], [0, 0])

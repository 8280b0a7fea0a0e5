"""Recurrent layers of torch.nn that compute with fastnn."""

from __future__ import annotations

from math import inf

import torch
from torch import nn
from torch.nn import functional as F

from fastnn import ops
from fastnn.torch.calls import Operator, call, takes
from fastnn.torch.layers import Accelerated


def forward_of(operator, **fixed):
    """A function of ops as an Operator has it, of (x, w_ih, w_hh, b_ih, b_hh, w_hr of an LSTM, states, reverse)."""

    def forward(x, w_ih, w_hh, b_ih, b_hh, *others, keep):
        *others, reverse = others
        projection = () if len(others) == 1 else others[:1]
        states = dict(zip(("h0", "c0"), others[len(projection) :], strict=False))
        return operator(x, w_ih, w_hh, b_ih, b_hh, *projection, **states, **fixed, reverse=reverse, keep=keep)

    return forward


def of_torch(function):
    """PyTorch's function of one layer and direction, with the operands of ops."""

    def compute(x, w_ih, w_hh, b_ih, b_hh, *others):
        *others, reverse = others
        projection = () if len(others) == 1 else others[:1]
        sizes = w_hh.shape[1], w_hh.shape[0] // 4  # of h, and of an LSTM's c
        states = [
            (x.new_zeros(x.shape[1], size) if state is None else state)[None]
            for state, size in zip(others[len(projection) :], sizes, strict=False)
        ]
        weights = [w for w in (w_ih, w_hh, b_ih, b_hh, *projection) if w is not None]
        x = x.flip(0) if reverse else x
        given = states if projection else states[0]
        y, *last = function(x, given, weights, b_ih is not None, 1, 0.0, False, False, False)
        return y.flip(0) if reverse else y, *[state[0] for state in last]

    return compute


RNNS = {
    name: Operator(forward_of(ops.rnn_forward, nonlinearity=name), ops.rnn_backward, of_torch(function))
    for name, function in (("tanh", torch.rnn_tanh), ("relu", torch.rnn_relu))
}
GRU_SEQUENCE = Operator(forward_of(ops.gru_forward), ops.gru_backward, of_torch(torch.gru))
LSTM_SEQUENCE = Operator(forward_of(ops.lstm_forward), ops.lstm_backward, of_torch(torch.lstm))


class Recurrent(Accelerated):
    """What they share. A PackedSequence, and an input without a batch, are PyTorch's."""

    least: tuple[float, float] = (2**14, 2**14)

    def operator(self):
        """Of one layer and direction."""
        raise NotImplementedError

    def fast(self, input, hx=None):
        if not isinstance(input, torch.Tensor) or input.ndim != 3:
            return NotImplemented
        lstm = self.mode == "LSTM"
        states = () if hx is None else tuple(hx) if lstm else (hx,)
        weights = [[getattr(self, name) for name in names] for names in self._all_weights]
        every = [w for each in weights for w in each]
        if not takes(input, *every):
            return NotImplemented
        if not self.pays(input.numel() // input.shape[2] * sum(w.numel() for w in every), input, *every):
            return NotImplemented
        n = input.shape[0 if self.batch_first else 1]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        for state, size in zip(states, sizes, strict=False):
            if not takes(state) or state.dtype is not input.dtype or state.shape != (len(weights), n, size):
                return NotImplemented
        y, last = self.over_time(input.transpose(0, 1) if self.batch_first else input, states, weights)
        return y.transpose(0, 1) if self.batch_first else y, tuple(last) if lstm else last[0]

    def over_time(self, x, states, weights):
        """(y, the last states) of x (T, N, D), through all layers and directions."""
        operator, lstm = self.operator(), self.mode == "LSTM"
        directions = 2 if self.bidirectional else 1
        last, outputs = [], []
        for k, given in enumerate(weights):
            if k and k % directions == 0 and self.dropout and self.training:
                x = F.dropout(x, self.dropout, True)
            biases = given[2:4] if self.bias else [None, None]
            projection = [] if not lstm else [given[-1]] if self.proj_size else [None]
            before = [state[k] for state in states] or [None] * (2 if lstm else 1)
            y, *after = call(operator, (k % directions == 1,), x, *given[:2], *biases, *projection, *before)
            outputs.append(y)
            last.append(after)
            if len(outputs) == directions:
                x = torch.cat(outputs, 2) if self.bidirectional else y
                outputs = []
        return x, [torch.stack(each) for each in zip(*last, strict=True)]


class RNN(Recurrent, nn.RNN):
    """As torch.nn.RNN."""

    def operator(self):
        return RNNS[self.nonlinearity]


class GRU(Recurrent, nn.GRU):
    """As torch.nn.GRU."""

    def operator(self):
        return GRU_SEQUENCE


class LSTM(Recurrent, nn.LSTM):
    """As torch.nn.LSTM, whose training is not slower."""

    least = 2**14, inf

    def operator(self):
        return LSTM_SEQUENCE

"""Recurrent layers one step at a time."""

from __future__ import annotations

import numpy as np

from fastnn.autograd import Tensor
from fastnn.ops.recurrent import recurrent_stream

__all__ = ["Stream"]


def array_of(state):
    return state.data if isinstance(state, Tensor) else state


class Stream:
    """A recurrent layer or cell that is fed step by step, made by its `stream(batch)`: for results while the input
    still arrives, and for outputs that are fed back.

        stream = lstm.stream(1)
        h = stream.step(x)

    step: (x) to h, the hidden states of the last layer: x (N, input_size), an array of the layer's dtype; h (N, P), P
    being hidden_size, or proj_size if that is not 0. h is the same array in every step: copy what you want to keep.
    The weights are packed once, when the stream is made, and no step allocates anything; a stream made after the
    weights have changed is another one. Dropout has no effect, gradients are not recorded. h is bit for bit what the
    layer makes of whole sequences with 64 or more rows (N T); shorter ones add up in another order.
    A stream belongs to one thread at a time.

    h: (num_layers, N, P), c: (num_layers, N, hidden_size) of an LSTM, None of others: the states, which each step
    changes in place. They may be read and written.
    """

    def __init__(self, layer, batch, hx):
        self.layer = layer
        names = layer.parameter_names
        if isinstance(names[0], str):
            names = [names]
        weights = [[array_of(getattr(layer, name)) for name in each] for each in names]
        dtype, size = weights[0][0].dtype, layer.proj_size or layer.hidden_size
        self.h = np.zeros((len(names), batch, size), dtype)
        self.c = np.zeros((len(names), batch, layer.hidden_size), dtype) if layer.cell == "lstm" else None
        if self.c is not None and not layer.proj_size:
            weights = [[*each, None] for each in weights]
        self.reset(hx)
        # an attribute, not a method: steps of a microsecond notice a call
        self.step = recurrent_stream(layer.cell, weights, self.h, self.c, **layer.options())

    def reset(self, hx=None):
        """Set the states: zero, or hx as the layer takes it, h or (h, c), of (num_layers, N, ·); of a cell (N, ·)."""
        states = [state for state in (self.h, self.c) if state is not None]
        if hx is None:
            for state in states:
                state.fill(0)
            return
        cell = isinstance(self.layer.parameter_names[0], str)
        _, given = self.layer.arguments(
            np.empty((1, self.layer.input_size), self.h.dtype), hx, *self.h.shape[1 if cell else 0 : 2]
        )
        for state, value in zip(states, given, strict=True):
            state[:] = array_of(value)

    def __repr__(self):
        return f"Stream of {self.h.shape[1]} ({self.layer})"

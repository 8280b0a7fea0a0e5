"""Recurrent layers, with torch's names and layouts of weights: rows of gates in the order i, f, g, o."""

from __future__ import annotations

from math import sqrt

from fastnn import functional as F
from fastnn import init
from fastnn.autograd import Tensor
from fastnn.descriptors import number
from fastnn.nn.module import Module, Parameter
from fastnn.nn.options import blank, counts, need_ndim

__all__ = ["LSTM", "LSTMCell"]


def as_tensor(x):
    """A Tensor of an array; forward may get both."""
    return x if isinstance(x, Tensor) else Tensor(x)


def draw(layer):
    """All parameters uniform in ±1/√hidden_size."""
    bound = 1 / sqrt(layer.hidden_size)
    for parameter in layer.parameters():
        init.uniform_(parameter, -bound, bound)


def sizes(layer, input_size, hidden_size):
    """Check and assign both."""
    layer.input_size, layer.hidden_size = counts(layer, input_size=input_size, hidden_size=hidden_size)
    if not hidden_size or not input_size:
        raise ValueError(
            f"{type(layer).__name__}: input_size is {input_size} and hidden_size {hidden_size}, expected at least 1"
        )


def check_features(layer, input):
    """ValueError if the last axis has not input_size elements."""
    if input.shape[-1] != layer.input_size:
        raise ValueError(
            f"{type(layer).__name__}: input has {input.shape[-1]} features, shape {input.shape}, expected input_size, "
            f"{layer.input_size}"
        )


def states(layer, hx, shape):
    """The initial states (h, c), each of that shape, as Tensors; (None, None) for None, zeros."""
    name = type(layer).__name__
    if hx is None:
        return None, None
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise TypeError(f"{name}: hx must be None or a pair of states (h, c), got {type(hx).__name__}")
    for what, state in zip("hc", hx, strict=True):
        came = getattr(state, "shape", type(state).__name__)
        if came != shape:
            raise ValueError(f"{name}: hx has {what} of shape {came}, expected {shape}")
    return map(as_tensor, hx)


class LSTMCell(Module):
    """One step of a long short-term memory: (input, (h, c)) to the next (h, c); see ops.lstm_step_forward.

    Input: (N, input_size) or (input_size,); h and c: (N, hidden_size) or (hidden_size,), zeros if hx is None.
    weight_ih: (4 hidden_size, input_size), weight_hh: (4 hidden_size, hidden_size), bias_ih, bias_hh: (4 hidden_size,),
    all uniform in ±1/√hidden_size at first.
    """

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        sizes(self, input_size, hidden_size)
        self.bias, gates = bias, 4 * hidden_size
        self.weight_ih = Parameter(blank((gates, input_size), device, dtype))
        self.weight_hh = Parameter(blank((gates, hidden_size), device, dtype))
        self.bias_ih = Parameter(blank((gates,), device, dtype)) if bias else None
        self.bias_hh = Parameter(blank((gates,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        draw(self)

    def forward(self, input, hx=None):
        need_ndim(self, input, 1, 2)
        check_features(self, input)
        single = input.ndim == 1
        h, c = states(self, hx, (*input.shape[:-1], self.hidden_size))
        if single:
            input, h, c = (x if x is None else x[None] for x in (input, h, c))
        results = F.lstm_step(input, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, h0=h, c0=c)
        return tuple(x[0] for x in results) if single else results

    def extra_repr(self):
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")


class LSTM(Module):
    """A long short-term memory of num_layers layers over a sequence: (input, (h_0, c_0)) to (output, (h_n, c_n)).

    Input: (T, N, input_size), (N, T, input_size) with batch_first, or (T, input_size). output: of these with
    D hidden_size features, D being 2 if bidirectional, else 1; h and c: (D num_layers, N, hidden_size), or without N;
    zeros if hx is None. dropout: with this probability, the results of layers but the last are dropped in training.
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, then those of "l0_reverse" if bidirectional, and of layers 1, …:
    as those of LSTMCell. proj_size must be 0: there are no projections yet.
    """

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        proj_size=0,
        device=None,
        dtype=None,
    ):
        sizes(self, input_size, hidden_size)
        (self.num_layers,) = counts(self, num_layers=num_layers)
        if not num_layers:
            raise ValueError(f"LSTM: num_layers is {num_layers}, expected at least 1")
        if not 0 <= number(dropout, "LSTM", "dropout") <= 1:
            raise ValueError(f"LSTM: dropout is {dropout}, expected 0 to 1")
        if proj_size != 0:
            raise ValueError(f"LSTM: proj_size is {proj_size!r}, expected 0: there are no projections yet")
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        gates, directions = 4 * hidden_size, 2 if bidirectional else 1
        for suffix in self.suffixes():
            features = input_size if suffix in ("l0", "l0_reverse") else directions * hidden_size
            setattr(self, f"weight_ih_{suffix}", Parameter(blank((gates, features), device, dtype)))
            setattr(self, f"weight_hh_{suffix}", Parameter(blank((gates, hidden_size), device, dtype)))
            for name in ("bias_ih", "bias_hh") if bias else ():
                setattr(self, f"{name}_{suffix}", Parameter(blank((gates,), device, dtype)))
        self.reset_parameters()

    def suffixes(self):
        """Of the names of parameters, a layer and direction after the other."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{layer}{direction}" for layer in range(self.num_layers) for direction in directions]

    def reset_parameters(self):
        """Draw the parameters anew."""
        draw(self)

    def forward(self, input, hx=None):
        need_ndim(self, input, 2, 3)
        check_features(self, input)
        x, single = as_tensor(input), input.ndim == 2
        suffixes = self.suffixes()
        n = () if single else (input.shape[0 if self.batch_first else 1],)
        h0, c0 = states(self, hx, (len(suffixes), *n, self.hidden_size))
        if single:
            x, h0, c0 = (each if each is None else each.unsqueeze(-2) for each in (x, h0, c0))
        elif self.batch_first:
            x = x.transpose(0, 1)
        directions, h_n, c_n = 2 if self.bidirectional else 1, [], []
        for k, suffix in enumerate(suffixes):
            backwards = k % directions
            if not backwards:
                if k and self.dropout:
                    x = F.dropout(x, self.dropout, self.training)
                results = []
            parameters = [getattr(self, f"{name}_{suffix}", None) for name in NAMES]
            state = {} if h0 is None else {"h0": h0[k], "c0": c0[k]}
            y, h, c = F.lstm(x[::-1] if backwards else x, *parameters, **state)
            h_n.append(h)
            c_n.append(c)
            results.append(y[::-1] if backwards else y)
            if len(results) == directions:
                x = F.cat(results, 2) if self.bidirectional else y
        h_n, c_n = F.stack(h_n), F.stack(c_n)
        if single:
            x, h_n, c_n = (each.squeeze(-2) for each in (x, h_n, c_n))
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, (h_n, c_n)

    def extra_repr(self):
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        shown = [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *shown])


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Of the parameters of a layer and direction, in the order of functional.lstm."""

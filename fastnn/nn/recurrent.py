"""Recurrent layers and cells, with torch's names and layouts of weights: gates in the order r, z, n and i, f, g, o."""

from __future__ import annotations

from math import sqrt

from fastnn import functional as F
from fastnn import init
from fastnn.autograd import Tensor, call, plain
from fastnn.descriptors import GATES, checked_lengths, number
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import blank, counts, need_ndim, switches
from fastnn.nn.stream import Stream
from fastnn.nn.utils.rnn import PackedSequence, pack, unpack
from fastnn.tensor_ops import permute_forward

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

CHOICES = {"nonlinearity": ("tanh", "relu"), "variant": ("torch", "paper")}
"""The values of a cell's option."""


class Recurrent(Layer):
    """What cells and layers over sequences share: sizes, states, and parameters, all uniform in ±1/√hidden_size."""

    cell: str
    """"rnn", "gru" or "lstm", the name of the function over a sequence."""
    option: str | None = None
    """The attribute that is an option of the function."""
    shown: tuple[tuple[str, object], ...]
    """What repr shows, if it is there and has another value."""
    proj_size = 0

    def __init__(self, input_size, hidden_size, bias, **option):
        name = type(self).__name__
        self.input_size, self.hidden_size = counts(self, input_size=input_size, hidden_size=hidden_size)
        if not hidden_size or not input_size:
            raise ValueError(f"{name}: input_size is {input_size} and hidden_size {hidden_size}, expected at least 1")
        (self.bias,) = switches(self, bias=bias)
        for key, value in option.items():
            if value not in CHOICES[key]:
                raise ValueError(f"{name}: {key} is {value!r}, expected {' or '.join(map(repr, CHOICES[key]))}")
            setattr(self, key, value)

    def add_parameters(self, features, suffix, device, dtype):
        """Parameters for input of so many features; returns their names, in the order of the function's arguments."""
        gates, size = GATES[self.cell] * self.hidden_size, self.proj_size or self.hidden_size
        shapes = {"weight_ih": (gates, features), "weight_hh": (gates, size)}
        shapes |= dict.fromkeys(("bias_ih", "bias_hh"), (gates,) if self.bias else None)
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, name + suffix, None if shape is None else Parameter(blank(shape, device, dtype)))
        return [name + suffix for name in shapes]

    def reset_parameters(self):
        """Draw the parameters anew."""
        bound = 1 / sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def weights(self, names, x):
        """The function's arguments behind x."""
        return operands(x, *[getattr(self, name) for name in names])

    def options(self):
        """The function's own options."""
        return {} if self.option is None else {self.option: getattr(self, self.option)}

    def arguments(self, input, hx, *leading):
        """(input, states): checked, states (*leading, H) as a list, empty for hx None; all Tensors if one is."""
        name, shape = type(self).__name__, input.shape
        if shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input has {shape[-1]} features, shape {shape}, expected input_size, {self.input_size}"
            )
        if hx is None:
            return input, []
        sizes = {"h": self.proj_size or self.hidden_size}
        if self.cell == "lstm":
            sizes["c"] = self.hidden_size
            if not isinstance(hx, tuple | list) or len(hx) != 2:
                raise TypeError(f"{name}: hx must be None or a pair of states (h, c), got {type(hx).__name__}")
        states = list(hx) if self.cell == "lstm" else [hx]
        for (what, size), state in zip(sizes.items(), states, strict=True):
            came = getattr(state, "shape", None)
            if came is None:
                raise TypeError(f"{name}: hx must have an array or Tensor as {what}, got {type(state).__name__}")
            if came != (*leading, size):
                raise ValueError(f"{name}: hx has {what} of shape {came}, expected {(*leading, size)}")
        if any(isinstance(x, Tensor) for x in (input, *states)):
            input, *states = (x if isinstance(x, Tensor) else Tensor(x) for x in (input, *states))
        return input, states

    def stream(self, batch=1, hx=None):
        """A `fastnn.nn.stream.Stream`: this layer one step at a time, of `batch` samples, from the states hx on."""
        if getattr(self, "bidirectional", False):
            raise ValueError(f"{type(self).__name__}.stream: a bidirectional layer needs the sequence's end to begin")
        (batch,) = counts(self, batch=batch)
        return Stream(self, batch, hx)

    def returned(self, states):
        """States as torch returns them."""
        return tuple(states) if self.cell == "lstm" else states[0]

    def extra_repr(self):
        values = ((name, getattr(self, name, usual), usual) for name, usual in self.shown)
        options = (f"{name}={value}" for name, value, usual in values if value != usual)
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *options])


class RNNCellBase(Recurrent):
    """What cells share: parameters weight_ih, weight_hh, bias_ih, bias_hh, and `forward`, one step."""

    shown = ("bias", True), ("nonlinearity", "tanh"), ("variant", "torch")

    def __init__(self, input_size, hidden_size, bias, device, dtype, **option):
        super().__init__(input_size, hidden_size, bias, **option)
        self.parameter_names = self.add_parameters(input_size, "", device, dtype)
        self.reset_parameters()

    def forward(self, input, hx=None):
        need_ndim(self, input, 1, 2)
        single = input.ndim == 1
        x, states = self.arguments(input, hx, *input.shape[:-1])
        if single:
            x, *states = (each[None] for each in (x, *states))
        given = dict(zip(("h0", "c0"), states, strict=False))
        after = getattr(F, f"{self.cell}_step")(x, *self.weights(self.parameter_names, x), **given, **self.options())
        after = after if isinstance(after, tuple) else (after,)
        return self.returned([state[0] for state in after] if single else after)


class RNNCell(RNNCellBase):
    """One step of a simple recurrent network: (input, h) to the next h; see `fastnn.ops.rnn_step_forward`.

    Input: (N, input_size) or (input_size,); h: (N, hidden_size) or (hidden_size,), zeros if hx is None.
    weight_ih: (hidden_size, input_size), weight_hh: (hidden_size, hidden_size), bias_ih, bias_hh: (hidden_size,).
    nonlinearity: "tanh" or "relu".
    """

    cell, option = "rnn", "nonlinearity"

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, device, dtype, nonlinearity=nonlinearity)


class GRUCell(RNNCellBase):
    """One step of a gated recurrent unit: as RNNCell, with 3 hidden_size rows in the parameters.

    variant: "torch", whose reset gate is applied to the product with h, or "paper", to h itself, as in that of 2014,
    where the update gate also has the opposite sense; see `fastnn.ops.gru_step_forward`.
    """

    cell, option = "gru", "variant"

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None, *, variant="torch"):
        super().__init__(input_size, hidden_size, bias, device, dtype, variant=variant)


class LSTMCell(RNNCellBase):
    """One step of a long short-term memory: (input, (h, c)) to the next (h, c); see `fastnn.ops.lstm_step_forward`.

    As RNNCell, with 4 hidden_size rows in the parameters; c has the shape of h.
    """

    cell = "lstm"

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, device, dtype)


class RNNBase(Recurrent):
    """What layers over sequences share: (input, hx) to (output, the last states).

    Input: (T, N, input_size), (N, T, input_size) with batch_first, (T, input_size), or a PackedSequence. output: of
    these with D H features, D being 2 if bidirectional, else 1, H being hidden_size, or proj_size if that is not 0.
    States: (D num_layers, N, H), or without N, zeros if hx is None.

    lengths: (N,) integers 1 to T, in any order: every sequence is computed as if it came alone. Its output behind its
    end is zero, its last state is that at its end, where its reverse direction starts.

    dropout: with this probability, the results of layers but the last are dropped in training.
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, then those of "l0_reverse" if bidirectional, and of layers 1, …:
    as those of the cell of the same name.
    """

    shown = (
        ("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0),
        ("bidirectional", False), ("variant", "torch"),
    )  # fmt: skip

    def __init__(
        self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
        proj_size=0, **option,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, **option)
        name = type(self).__name__
        self.num_layers, proj_size = counts(self, num_layers=num_layers, proj_size=proj_size)
        if not num_layers:
            raise ValueError(f"{name}: num_layers is {num_layers}, expected at least 1")
        if not 0 <= number(dropout, name, "dropout") <= 1:
            raise ValueError(f"{name}: dropout is {dropout}, expected 0 to 1")
        if proj_size >= hidden_size:
            raise ValueError(f"{name}: proj_size is {proj_size}, expected less than hidden_size, {hidden_size}")
        self.batch_first, self.bidirectional = switches(self, batch_first=batch_first, bidirectional=bidirectional)
        self.dropout = dropout
        self.proj_size = proj_size
        directions = ("", "_reverse") if bidirectional else ("",)
        self.parameter_names = []
        for layer in range(num_layers):
            features = len(directions) * (proj_size or hidden_size) if layer else input_size
            self.parameter_names += [self.add_parameters(features, f"_l{layer}{d}", device, dtype) for d in directions]
        self.reset_parameters()

    @property
    def all_weights(self):
        """The Parameters of every layer and direction, a list of lists."""
        values = ([getattr(self, name) for name in names] for names in self.parameter_names)
        return [[value for value in each if value is not None] for each in values]

    def flatten_parameters(self):
        """Nothing, for programs that call it for GPUs."""

    def forward(self, input, hx=None, *, lengths=None):
        if isinstance(input, PackedSequence):
            return self.of_packed(input, hx, lengths)
        need_ndim(self, input, 2, 3)
        single, turned = input.ndim == 2, input.ndim == 3 and self.batch_first
        n = () if single else (input.shape[0 if turned else 1],)
        x, states = self.arguments(input, hx, len(self.parameter_names), *n)
        if single:
            x, *states = (each[..., None, :] for each in (x, *states))
        elif turned:
            x = exchanged(x)
        if lengths is not None:
            lengths = checked_lengths(type(self).__name__, plain(lengths), *x.shape[:2])
        y, states = self.over_time(x, states, lengths)
        if single:
            y, *states = (each[..., 0, :] for each in (y, *states))
        return exchanged(y) if turned else y, self.returned(states)

    def of_packed(self, input, hx, lengths):
        """forward of a PackedSequence. States are in the order of the batch."""
        name = type(self).__name__
        if lengths is not None:
            raise TypeError(f"{name}: lengths is given beside a PackedSequence, which has its own")
        if getattr(input.data, "ndim", None) != 2:
            came = getattr(input.data, "shape", type(input.data).__name__)
            raise ValueError(f"{name}: input is a PackedSequence whose data have shape {came}, expected 2 dimensions")
        x, lengths = unpack(input)
        x, states = self.arguments(x, hx, len(self.parameter_names), len(lengths))
        y, states = self.over_time(x, states, lengths)
        return pack(y, *input[1:]), self.returned(states)

    def over_time(self, x, states, lengths):
        """(y, the last states) of x (T, N, D)."""
        function, options = getattr(F, self.cell), {"lengths": lengths, **self.options()}
        directions = 2 if self.bidirectional else 1
        last, outputs = [], []
        for k, names in enumerate(self.parameter_names):
            if k and self.dropout and k % directions == 0:
                x = F.dropout(x, self.dropout, self.training)
            given = {name: state[k] for name, state in zip(("h0", "c0"), states, strict=False)}
            y, *after = function(x, *self.weights(names, x), **given, reverse=k % directions == 1, **options)
            outputs.append(y)
            last.append(after)
            if len(outputs) == directions:
                x = F.cat(outputs, 2) if self.bidirectional else y
                outputs = []
        return x, [F.stack(each) if len(each) > 1 else each[0][None] for each in zip(*last, strict=True)]


def exchanged(x):
    """The first two of three axes exchanged, a view."""
    return call(permute_forward, x, (1, 0, 2))


class RNN(RNNBase):
    """A simple recurrent network of num_layers layers over a sequence: (input, h_0) to (output, h_n).

    For shapes, `lengths`, dropout and parameters see `fastnn.nn.recurrent.RNNBase`.
    nonlinearity: "tanh" or "relu".
    """

    cell, option = "rnn", "nonlinearity"

    def __init__(
        self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0,
        bidirectional=False, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
            nonlinearity=nonlinearity)  # fmt: skip


class GRU(RNNBase):
    """A gated recurrent unit of num_layers layers over a sequence: (input, h_0) to (output, h_n).

    For shapes, `lengths`, dropout and parameters see `fastnn.nn.recurrent.RNNBase`.
    variant: "torch" or "paper", see `fastnn.nn.GRUCell`.
    """

    cell, option = "gru", "variant"

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
        device=None, dtype=None, *, variant="torch",
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
            variant=variant)  # fmt: skip


class LSTM(RNNBase):
    """A long short-term memory of num_layers layers over a sequence: (input, (h_0, c_0)) to (output, (h_n, c_n)).

    For shapes, `lengths`, dropout and parameters see `fastnn.nn.recurrent.RNNBase`.
    proj_size: h is projected to so many features by weight_hr_l0, (proj_size, hidden_size), …, 0: it is not; c always
    has hidden_size features.
    """

    cell = "lstm"

    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False,
        proj_size=0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
            proj_size=proj_size)  # fmt: skip

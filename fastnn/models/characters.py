"""A recurrent network that writes, character by character (Elman 1990, "Finding structure in time"; Sutskever, Martens
and Hinton 2011, "Generating text with recurrent neural networks")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn.nn as nn
from fastnn import Tensor, init
from fastnn import functional as F

__all__ = ["CELLS", "CharacterGenerator"]

CELLS: dict[str, Callable[..., Any]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class CharacterGenerator(nn.Module):
    """Scores of the next character from those so far: one-hot → hidden → softmax of the next one.

    h_t = cell(onehot(x_t), h_(t-1)),   p(x_(t+1) = k | x_1 … x_t) = softmax_k(W h_t + b).

    Integers (T, N) below `symbols`, and the state before, None for none -> (logits (T, N, symbols), the state then).
    cell: a name of CELLS. hidden: features of the state. The product of a one-hot vector and the first weights is a
    column of these, which is the character's embedding.
    """

    def __init__(self, symbols: int, hidden: int, *, cell: str = "lstm") -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"CharacterGenerator: cell is {cell!r}, expected one of {', '.join(CELLS)}")
        self.symbols = symbols
        self.rnn = CELLS[cell](symbols, hidden)
        self.head = nn.Linear(hidden, symbols)
        init.uniform_(self.rnn.weight_ih_l0, -1, 1)  # one input of all is not 0, however many there are
        if cell == "lstm":  # the forget gate is open at first (Gers et al. 2000)
            init.ones_(self.rnn.bias_ih_l0.data[hidden : 2 * hidden])

    def one_hot(self, codes):
        """Vectors (…, symbols) of integers (…): 1 at these, 0 elsewhere."""
        return np.eye(self.symbols, dtype=self.head.weight.dtype)[codes]

    def forward(self, codes, state=None):
        h, state = self.rnn(Tensor(self.one_hot(codes.numpy())), state)
        return self.head(h), state

    def write(self, before, *, longest: int, rng, temperature: float = 1.0, end: int | None = None) -> list[int]:
        """What follows `before`, integers, at least one: at most `longest` characters, or those before `end`.

        Each is drawn by rng, a numpy Generator, from softmax(logits / temperature): towards 0 the likeliest, above 1
        more of the unlikely ones.
        """
        if not len(before):
            raise ValueError("CharacterGenerator: before is empty, expected at least one character")
        if not temperature > 0:
            raise ValueError(f"CharacterGenerator: temperature is {temperature}, expected a number above 0")
        text: list[int] = []
        stream, inputs = self.rnn.stream(1), self.one_hot(np.arange(self.symbols))[:, None]
        for code in before:
            h = stream.step(inputs[code])
        while len(text) < longest:
            p = F.softmax(self.head(h)[0].astype(np.float64) / temperature, 0)
            code = int(rng.choice(self.symbols, p=p))
            if code == end:
                break
            text.append(code)
            h = stream.step(inputs[code])
        return text

"""Image captioning: a convolutional encoder and a recurrent decoder that looks at a part of the image for each word (Xu
et al. 2015, "Show, attend and tell"), or is given the whole image at first (Vinyals et al. 2015, "Show and tell")."""

from __future__ import annotations

import numpy as np

import fastnn.nn as nn
from fastnn import Tensor, no_grad
from fastnn import functional as F
from fastnn.models.decoding import END, START, beam_search, greedy_search
from fastnn.nn.options import as_tensor

__all__ = ["Captioner", "GridEncoder"]

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


class GridEncoder(nn.Module):
    """Images (N, in_channels, H, W) of a fixed size -> features (N, 4 width, H / 4, W / 4) of the cells of a grid.

    Two convolutions, pooling, two more, pooling; batch norm before each ReLU. A cell sees 16 × 16 pixels, and so would
    not know where in the image it is: a learned vector for each cell is added.
    """

    def __init__(self, input_size: tuple[int, int], *, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
        height, columns = input_size
        if height < 4 or columns < 4:
            raise ValueError(f"GridEncoder: input_size is {input_size}, expected at least (4, 4), one cell")
        self.grid = height // 4, columns // 4
        self.features = 4 * width

        def block(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

        self.convolutions = nn.Sequential(
            *block(in_channels, width), *block(width, 2 * width), nn.MaxPool2d(2),
            *block(2 * width, 4 * width), *block(4 * width, 4 * width), nn.MaxPool2d(2),
        )  # fmt: skip
        self.position = nn.Parameter(np.zeros((self.features, *self.grid), np.float32))

    def forward(self, images):
        y = self.convolutions(images)
        if y.shape[2:] != self.grid:
            raise ValueError(
                f"GridEncoder: images have shape {images.shape}, which gives {y.shape[2:]} cells, expected {self.grid}"
            )
        return y + self.position


class Captioner(nn.Module):
    """Images (N, in_channels, H, W), and the words before each that is to be told, (N, T), from START on -> (logits
    (N, T, vocabulary), attention (N, T, cells)).

    With the features a_s of the cells s, and the decoder's state h_0 = tanh(W mean_s a_s), of an LSTM also c_0:

        p_t = softmax_s(v · tanh(W_h h_(t-1) + W_a a_s)),   z_t = Σ_s p_ts a_s
        h_t = LSTM([E y_(t-1), z_t], h_(t-1)),   logits = V relu(M [h_t, z_t])

    This is the paper's soft attention; its output layer is a sum without ReLU. Without attention h_0 is made of all
    cells side by side, z_t is left out, and None is in place of the weights: words are told from memory.

    vocabulary: how many words, with PADDING, START and END of `fastnn.models.decoding`. cell: "lstm" or "gru". width:
    channels of the first convolution. dropout: of the features a_s, and before V.
    """

    def __init__(
        self,
        vocabulary: int,
        input_size: tuple[int, int],
        *,
        in_channels: int = 1,
        width: int = 16,
        embedding_dim: int = 32,
        hidden_size: int = 96,
        attention: bool = True,
        cell: str = "lstm",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"Captioner: cell is {cell!r}, expected 'lstm' or 'gru'")
        self.encoder = GridEncoder(input_size, in_channels=in_channels, width=width)
        features, (rows, columns) = self.encoder.features, self.encoder.grid
        seen = features if attention else 0
        self.parts, self.hidden_size = 2 if cell == "lstm" else 1, hidden_size
        self.first = nn.Linear(features if attention else features * rows * columns, self.parts * hidden_size)
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.attention = nn.AdditiveAttention(hidden_size, features, hidden_size // 2) if attention else None
        self.cell = CELLS[cell](embedding_dim + seen, hidden_size)
        self.mix = nn.Linear(hidden_size + seen, hidden_size)
        self.classify = nn.Linear(hidden_size, vocabulary)
        self.dropout = nn.Dropout(dropout)

    def look(self, images):
        """The memory (N, cells, features), its projection (None without attention), and the first state (N, parts,
        hidden_size): parts are h, and c of an LSTM."""
        memory = self.dropout(self.encoder(images).flatten(2).transpose(1, 2))
        whole = memory.flatten(1) if self.attention is None else memory.mean(1)
        state = F.tanh(self.first(whole)).reshape(len(images), self.parts, self.hidden_size)
        return memory, None if self.attention is None else self.attention.project(memory), state

    def tell(self, previous, state, memory, projected):
        """(logits (M, vocabulary), the next state, attention (M, cells)) of the words (M,) told last and the state
        (M, parts, hidden_size): M / N for each image, side by side."""
        x, weights, seen = self.embedding(as_tensor(previous)), None, []
        if self.attention is not None:
            query = state[:, 0].reshape(len(memory), -1, self.hidden_size)
            z, weights = self.attention(query, memory, projected=projected, need_weights=True)
            seen, weights = [z.flatten(0, 1)], weights.flatten(0, 1)
        h = self.cell(F.cat([x, *seen], 1), (state[:, 0], state[:, 1]) if self.parts == 2 else state[:, 0])
        state = F.stack(h if self.parts == 2 else [h], 1)
        y = F.relu(self.mix(F.cat([state[:, 0], *seen], 1)))
        return self.classify(self.dropout(y)), state, weights

    def forward(self, images, previous):
        memory, projected, state = self.look(images)
        told, looked = [], []
        for t in range(previous.shape[1]):
            logits, state, weights = self.tell(previous[:, t], state, memory, projected)
            told.append(logits)
            looked.append(weights)
        return F.stack(told, 1), None if self.attention is None else F.stack(looked, 1)

    def stepper(self, images):
        """What `greedy_search` and `beam_search` need of images, an array: step, and the first state."""
        with no_grad():
            memory, projected, first = self.look(Tensor(images))

        def step(previous, state):
            with no_grad():
                logits, state, _ = self.tell(previous, Tensor(state), memory, projected)
                return F.log_softmax(logits, 1).numpy(), state.numpy()

        return step, first.numpy()

    def caption(self, images, *, beams: int = 1, max_length: int = 20):
        """The words of images, an array: (N, at most max_length), END from their end on. beams: 1 takes the likeliest
        word at each step, more search for the likeliest caption."""
        if beams < 1:
            raise ValueError(f"Captioner: beams is {beams}, expected at least 1")
        step, first = self.stepper(images)
        if beams == 1:
            return greedy_search(step, first, START, END, max_length)
        return beam_search(step, first, START, END, beams, max_length)[0]

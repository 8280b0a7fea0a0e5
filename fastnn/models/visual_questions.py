"""Questions about images: vectors of a convolutional and a recurrent encoder are multiplied (Antol et al. 2015, "VQA:
Visual question answering"), or the two halves of the image are matched under the question (Perez et al. 2018, "FiLM:
Visual reasoning with a general conditioning layer")."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn import functional as F
from fastnn.models.captioning import GridEncoder

__all__ = ["VisualQuestions"]

FUSIONS = "matching", "product"
SHARPNESS = 4.0
"""The standard deviation of a symbol's scores at first: one symbol is chosen, nearly."""


class VisualQuestions(nn.Module):
    """Images (N, in_channels, H, W) and questions (N, T), words -> logits of the answers (N, answers); questions
    (N, Q, T), Q about each image -> (N, Q, answers). q is the last state of a GRU that reads the question, and e(x) are
    the features of all cells of an image x side by side (see `GridEncoder`).

    fusion "matching": the left and the right half x_1, x_2 are encoded by the same weights, read as one of `symbols`
    each, and matched as in Mou et al. 2016; what is made of it depends on the question through γ and β, linear maps of
    q:

        z_k = relu(D softmax(norm(C e(x_k))))
        h = relu((1 + γ) M [z_1, z_2, z_1·z_2, ‖z_1 - z_2‖²] + β),   logits = V h

    norm is batch norm. Equal things are the same symbol in both halves, and whether they are equal is a number that has
    the same meaning for all symbols, so that comparing is learned from some pairs for all. dropout: of z.
    fusion "product", as in the first paper: h = relu(M (relu(A e(x)) relu(B q))), of the whole image.

    vocabulary: how many words. lengths: (N,) or (N, Q), so many words has each question; None: all have T.
    """

    def __init__(
        self,
        vocabulary: int,
        answers: int,
        input_size: tuple[int, int],
        *,
        in_channels: int = 1,
        width: int = 16,
        embedding_dim: int = 32,
        hidden_size: int = 64,
        symbols: int = 16,
        code_size: int = 32,
        dropout: float = 0.1,
        fusion: str = "matching",
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"VisualQuestions: fusion is {fusion!r}, expected 'matching' or 'product'")
        height, columns = input_size
        if fusion == "matching" and columns % 2:
            raise ValueError(f"VisualQuestions: input_size is {input_size}, expected an even width, of two halves")
        self.fusion, self.hidden_size = fusion, hidden_size
        seen = (height, columns // 2 if fusion == "matching" else columns)
        self.encoder = GridEncoder(seen, in_channels=in_channels, width=width)
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.read = nn.GRU(embedding_dim, hidden_size, batch_first=True)
        features, size = self.encoder.position.size, 2 * hidden_size
        if fusion == "matching":
            scores = nn.BatchNorm1d(symbols)
            scores.weight.data[:] = SHARPNESS
            self.code = nn.Sequential(
                nn.Linear(features, symbols, bias=False),
                scores,
                nn.Softmax(1),
                nn.Linear(symbols, code_size),
                nn.ReLU(),
                nn.Dropout(dropout),
            )
            self.match = nn.Linear(2 * code_size + 2, size)
            self.modulate = nn.Linear(hidden_size, 2 * size)
        else:
            self.image = nn.Linear(features, size)
            self.question = nn.Linear(hidden_size, size)
            self.match = nn.Linear(size, size)
        self.answer = nn.Linear(size, answers)

    def forward(self, images, questions, lengths=None):
        lead = questions.shape[:-1]
        words = self.embedding(questions.reshape(-1, questions.shape[-1]))
        _, last = self.read(words, lengths=None if lengths is None else lengths.reshape(-1))
        q = last[0].reshape(len(images), -1, self.hidden_size)
        h = self.matched(images, q) if self.fusion == "matching" else self.product(images, q)
        return self.answer(h).reshape(*lead, -1)

    def matched(self, images, q):
        """h (N, Q, 2 hidden_size) of images and questions (N, Q, hidden_size)."""
        halves = F.cat(images.chunk(2, 3), 0)
        a, b = self.code(self.encoder(halves).flatten(1)).unsqueeze(1).chunk(2, 0)
        scale, shift = self.modulate(q).chunk(2, 2)
        alike = (a * b).sum(2, keepdim=True), (a - b).square().sum(2, keepdim=True)
        return F.relu(self.match(F.cat([a, b, *alike], 2)) * (scale + 1) + shift)

    def product(self, images, q):
        """The same."""
        image = F.relu(self.image(self.encoder(images).flatten(1))).unsqueeze(1)
        return F.relu(self.match(image * F.relu(self.question(q))))

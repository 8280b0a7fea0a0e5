"""Questions about images: vectors of a convolutional and a recurrent encoder are multiplied (Antol et al. 2015, "VQA:
Visual question answering"), or parts of the image are matched under the question (Perez et al. 2018, "FiLM")."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn import functional as F
from fastnn.models.captioning import GridEncoder
from fastnn.nn.options import as_tensor

__all__ = ["VisualQuestions"]

FUSIONS = "matching", "product"


class VisualQuestions(nn.Module):
    """Images (N, in_channels, H, W) and questions (N, T), words -> logits of the answers (N, answers); questions
    (N, Q, T), Q about each image -> (N, Q, answers). q is the last state of a GRU that reads the question, a_s are the
    features of the image's cells (see `GridEncoder`).

    fusion "matching": two learned queries u_k look at a part of the image each, what they see is matched as in Mou et
    al. 2016, and what is made of it depends on the question as in Perez et al. 2018 (FiLM):

        p_ks = softmax_s(v · tanh(W_u u_k + W_a a_s)),   z_k = relu(C Σ_s p_ks a_s)
        h = relu((1 + γ(q)) M [z_1, z_2, (z_1 - z_2)², z_1 z_2] + β(q)),   logits = V h

    Things that are equal have the same z wherever they are, so that comparing them is learned from some pairs for all.
    fusion "product", as in the first paper: h = relu(A [a_1, a_2, …]) relu(B q), logits = V relu(M h).

    vocabulary: how many words. lengths: (N,) or (N, Q), so many words has each question; None: all have T.
    need_weights: (logits, p (N, 2, cells)) is returned, of fusion "matching".
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
        code_size: int = 32,
        fusion: str = "matching",
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"VisualQuestions: fusion is {fusion!r}, expected 'matching' or 'product'")
        self.fusion, self.hidden_size = fusion, hidden_size
        self.encoder = GridEncoder(input_size, in_channels=in_channels, width=width)
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.read = nn.GRU(embedding_dim, hidden_size, batch_first=True)
        features, (rows, columns), size = self.encoder.features, self.encoder.grid, 2 * hidden_size
        if fusion == "matching":
            self.queries = nn.Embedding(2, hidden_size)
            self.attention = nn.AdditiveAttention(hidden_size, features, hidden_size)
            self.code = nn.Linear(features, code_size)
            self.match = nn.Linear(4 * code_size, size)
            self.modulate = nn.Linear(hidden_size, 2 * size)
        else:
            self.image = nn.Linear(features * rows * columns, size)
            self.question = nn.Linear(hidden_size, size)
            self.match = nn.Linear(size, size)
        self.answer = nn.Linear(size, answers)

    def forward(self, images, questions, lengths=None, *, need_weights=False):
        if need_weights and self.fusion != "matching":
            raise ValueError(f"VisualQuestions: need_weights is True, fusion {self.fusion!r} has none")
        questions = as_tensor(questions)
        lead = questions.shape[:-1]
        _, last = self.read(
            self.embedding(questions.reshape(-1, questions.shape[-1])),
            lengths=None if lengths is None else lengths.reshape(-1),
        )
        q = last[0].reshape(len(images), -1, self.hidden_size)
        h, weights = self.fuse(self.encoder(images), q)
        logits = self.answer(h).reshape(*lead, -1)
        return (logits, weights) if need_weights else logits

    def fuse(self, cells, q):
        """h (N, Q, 2 hidden_size) of cells (N, features, rows, columns) and questions (N, Q, hidden_size); and the
        weights (N, 2, cells), None of fusion "product"."""
        if self.fusion == "product":
            image = F.relu(self.image(cells.flatten(1))).unsqueeze(1)
            return F.relu(self.match(image * F.relu(self.question(q)))), None
        query = self.queries.weight.expand(len(cells), *self.queries.weight.shape)
        seen, weights = self.attention(query, cells.flatten(2).transpose(1, 2), need_weights=True)
        a, b = F.relu(self.code(seen)).split(1, 1)
        matched = self.match(F.cat([a, b, (a - b) * (a - b), a * b], 2))
        scale, shift = self.modulate(q).chunk(2, 2)
        return F.relu(matched * (scale + 1) + shift), weights

"""End-to-end memory network (Sukhbaatar, Szlam, Weston and Fergus 2015, "End-to-end memory networks")."""

from __future__ import annotations

import numpy as np

import fastnn.nn as nn
from fastnn import Tensor
from fastnn import functional as F

__all__ = ["MemoryNetwork", "position_encoding"]


def position_encoding(words: int, size: int) -> np.ndarray:
    """Weights (words, size), float32, of words in their sentence's vector, so that their order counts: l_jk =
    (1 - j/J) - (k/d) (1 - 2j/J), j = 1 … J words, k = 1 … d features (the paper's section 4.1)."""
    j, k = np.arange(1, words + 1)[:, None] / words, np.arange(1, size + 1) / size
    return ((1 - j) - k * (1 - 2 * j)).astype(np.float32)


class MemoryNetwork(nn.Module):
    """Answers a question about sentences: stories (N, S, J) and questions (N, J) -> logits of a word, (N, vocabulary).

    A sentence is remembered as two vectors: m_i, by which it is found, and c_i, which is what it says. Each is the sum
    of its words' embeddings weighed by `position_encoding`, and of one for its age, how many sentences came behind it.
    The question is such a sum u_1 as well, without age. It reads the memory `hops` times, and asks anew each time:

        p_i = softmax_i(u_h · m_i),   o = Σ_i p_i c_i,   u_(h+1) = relu(H_h [u_h, o]),   logits = W u_(hops+1)

    c of one hop is m of the next ("adjacent" in the paper). The paper's u_(h+1) = H u_h + o is a sum; the map of both
    with a ReLU also tells "since then" from "before that", according to what was read.

    vocabulary: how many words, 0 being none. sentences: the most of a story. size: of all vectors.
    Words are integers, the last sentence is the last in time. lengths: (N,), so many sentences has each story; None:
    all. need_weights: (logits, the weights p (hops, N, S)) is returned.
    """

    def __init__(self, vocabulary: int, sentences: int, *, size: int = 64, hops: int = 3) -> None:
        super().__init__()
        if hops < 1:
            raise ValueError(f"MemoryNetwork: hops is {hops}, expected at least 1")
        self.sentences, self.size = sentences, size
        self.question = nn.Embedding(vocabulary, size, padding_idx=0)
        self.words = nn.ModuleList(nn.Embedding(vocabulary, size, padding_idx=0) for _ in range(hops + 1))
        self.ages = nn.ModuleList(nn.Embedding(sentences, size) for _ in range(hops + 1))
        self.update = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(hops))
        self.answer = nn.Linear(size, vocabulary)
        self.attention = nn.DotAttention()
        for table in (self.question, *self.words, *self.ages):
            table.weight.data *= 0.1  # sums of words, and all scores, begin small

    def encode(self, table, sentences):
        """Vectors (…, size) of sentences (…, J), words from a table."""
        places = position_encoding(sentences.shape[-1], self.size).astype(table.weight.dtype)
        return (table(sentences) * Tensor(places)).sum(-2)

    def forward(self, stories, questions, lengths=None, *, need_weights=False):
        n, s, _ = stories.shape
        if s > self.sentences:
            raise ValueError(f"MemoryNetwork: stories have {s} sentences, expected at most {self.sentences}")
        if isinstance(lengths, Tensor):
            lengths = lengths.numpy()
        lengths = np.full(n, s) if lengths is None else np.asarray(lengths)
        age = np.maximum(lengths[:, None] - 1 - np.arange(s), 0)  # behind the end, where no query sees it, it is 0
        memory = [self.encode(words, stories) + ages(age) for words, ages in zip(self.words, self.ages, strict=True)]
        u, weights = self.encode(self.question, questions), []
        for update, m, c in zip(self.update, memory[:-1], memory[1:], strict=True):
            o, p = self.attention(u, m, c, lengths=lengths, need_weights=True)
            u = F.relu(update(F.cat([u, o], -1)))
            weights.append(p)
        logits = self.answer(u)
        return (logits, F.stack(weights)) if need_weights else logits

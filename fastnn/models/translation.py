"""Encoder and decoder without attention (Sutskever, Vinyals and Le 2014, "Sequence to sequence learning with neural
networks") and with it (Bahdanau, Cho and Bengio 2014, "Neural machine translation by jointly learning to align and
translate"), and the search for the likeliest sequence."""

from __future__ import annotations

import numpy as np

import fastnn.nn as nn
from fastnn import functional as F

__all__ = ["END", "PADDING", "START", "Translator", "beam_search", "greedy_search"]

PADDING, START, END = 0, 1, 2
"""Codes that are no symbols: behind the last one, before the first one told, and its end."""


class Encoder(nn.Module):
    """Reads in both directions: symbols (N, S) with lengths (N,) -> memory (N, S, H), and the last state (1, N, H), of
    both directions side by side, H / 2 of each."""

    def __init__(self, symbols: int, hidden_size: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding_dim, padding_idx=PADDING)
        self.rnn = nn.GRU(embedding_dim, hidden_size // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, symbols, lengths):
        memory, last = self.rnn(self.dropout(self.embedding(symbols)), lengths=lengths)
        return self.dropout(memory), F.cat([last[0], last[1]], 1)[None]


class Decoder(nn.Module):
    """Tells each symbol from those before it, (N, T), a state (1, N, H), and a memory (N, S, H) of so many `lengths`:
    (logits (N, T, symbols), attention (N, T, S), None without).

    h_t = GRU(y_(t-1), h_(t-1)). With attention h_t asks, and the symbol is told from both, in the order of Luong, Pham
    and Manning 2015:

        a_t = softmax_s(v · tanh(W h_t + U m_s)),   c_t = Σ_s a_ts m_s,   logits = V tanh(M [h_t, c_t])

    The context c_t is not fed back, so all steps of a known sequence are one call of each kernel. Without attention the
    first state is all that the decoder gets, and the logits are V tanh(M h_t).
    """

    def __init__(self, symbols: int, hidden_size: int, embedding_dim: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding_dim, padding_idx=PADDING)
        self.rnn = nn.GRU(embedding_dim, hidden_size, batch_first=True)
        self.attention = nn.AdditiveAttention(hidden_size, hidden_size, hidden_size // 2) if attention else None
        self.mix = nn.Linear(2 * hidden_size if attention else hidden_size, hidden_size)
        self.classify = nn.Linear(hidden_size, symbols)
        self.dropout = nn.Dropout(dropout)

    def forward(self, previous, state, memory, lengths):
        states, _ = self.rnn(self.dropout(self.embedding(previous)), state)
        return self.tell(states, memory, lengths)

    def tell(self, states, memory, lengths):
        """Logits and attention of states (N, T, H)."""
        weights = None
        if self.attention is not None:
            context, weights = self.attention(states, memory, lengths=lengths, need_weights=True)
            states = F.cat([states, context], 2)
        return self.classify(self.dropout(F.tanh(self.mix(states)))), weights


class Translator(nn.Module):
    """Encoder and Decoder: symbols of one language (N, S), lengths (N,), and those of the other before each that is to
    be told, (N, T), from START on -> (logits (N, T, target), attention (N, T, S), None without).

    source, target: how many codes each language has, from 0, with PADDING, START and END.
    """

    def __init__(
        self,
        source: int,
        target: int,
        *,
        hidden_size: int = 256,
        embedding_dim: int = 64,
        attention: bool = True,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"Translator: hidden_size is {hidden_size}, expected a multiple of 2, for two directions")
        self.encoder = Encoder(source, hidden_size, embedding_dim, dropout)
        self.decoder = Decoder(target, hidden_size, embedding_dim, dropout, attention)

    def forward(self, symbols, lengths, previous):
        memory, state = self.encoder(symbols, lengths)
        return self.decoder(previous, state, memory, lengths)

    def stepper(self, symbols, lengths):
        """What `greedy_search` and `beam_search` need of N sequences, arrays: step, and the first state (N, H)."""
        memory, first = self.encoder(symbols, lengths)

        def step(previous, state):
            states, last = self.decoder.rnn(self.decoder.embedding(previous[:, None]), state[None])
            # The beams of a sequence are so many queries to its memory.
            logits, _ = self.decoder.tell(states.reshape(len(symbols), -1, states.shape[2]), memory, lengths)
            return F.log_softmax(logits, 2).reshape(len(previous), -1), last[0]

        return step, first[0]


# ---- decoding, of any model that is a step ----


def greedy_search(step, state, start, end, max_length):
    """The likeliest symbol at each step: symbols (N, at most max_length), `end` from their end on.

    step(previous symbols (N,), state) -> (log-probabilities (N, C), next state); state: an array (N, …).
    """
    symbols = np.full(len(state), start)
    ended = np.zeros(len(state), bool)
    result = []
    while len(result) < max_length and not ended.all():
        log_probability, state = step(symbols, state)
        symbols = np.where(ended, end, log_probability.argmax(axis=1))
        ended |= symbols == end
        result.append(symbols)
    return np.stack(result, 1)


def beam_search(step, state, start, end, width, max_length):
    """The likeliest sequences among those that begin with one of the `width` likeliest beginnings at every step:
    (symbols (N, at most max_length), their log-probabilities (N,)).

    Arguments as of `greedy_search`; step gets (N width) symbols and states, those of one sequence side by side. Sums
    are not normalised by length. As they only fall, the search is over when the best beginning of each sequence has
    ended.
    """
    n = len(state)
    state = np.repeat(state, width, 0)
    symbols = np.full((n, width), start)
    score = np.full((n, width), -np.inf)
    score[:, 0] = 0  # the beginnings are equal at first: one of them counts
    ended = np.zeros((n, width), bool)
    result = np.empty((n, width, 0), symbols.dtype)
    while result.shape[2] < max_length and not ended[:, 0].all():
        log_probability, state = step(symbols.reshape(-1), state)
        total = log_probability.reshape(n, width, -1).astype(score.dtype)
        classes = total.shape[2]
        total[ended] = np.where(np.arange(classes) == end, 0, -np.inf)
        total = (total + score[:, :, None]).reshape(n, -1)
        best = np.argsort(-total, axis=1, kind="stable")[:, :width]
        score = np.take_along_axis(total, best, 1)
        parents, symbols = np.divmod(best, classes)
        ended = np.take_along_axis(ended, parents, 1) | (symbols == end)
        result = np.concatenate([np.take_along_axis(result, parents[:, :, None], 1), symbols[:, :, None]], 2)
        state = state[(np.arange(n)[:, None] * width + parents).reshape(-1)]
    return result[:, 0], score[:, 0]

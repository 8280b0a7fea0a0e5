"""Encoder and decoder without attention (Sutskever, Vinyals and Le 2014, "Sequence to sequence learning with neural
networks") and with it (Bahdanau, Cho and Bengio 2014, "Neural machine translation by jointly learning to align and
translate")."""

from __future__ import annotations

import fastnn.nn as nn
from fastnn import functional as F
from fastnn.models.decoding import PADDING

__all__ = ["Translator"]


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
        """What the searches of `fastnn.models.decoding` need of N sequences, arrays: step, first state (N, H)."""
        memory, first = self.encoder(symbols, lengths)

        def step(previous, state):
            states, last = self.decoder.rnn(self.decoder.embedding(previous[:, None]), state[None])
            # The beams of a sequence are so many queries to its memory.
            logits, _ = self.decoder.tell(states.reshape(len(symbols), -1, states.shape[2]), memory, lengths)
            return F.log_softmax(logits, 2).reshape(len(previous), -1), last[0]

        return step, first[0]

"""The search for the likeliest sequence, of any model that tells one symbol after the other."""

from __future__ import annotations

import numpy as np

__all__ = ["END", "PADDING", "START", "beam_search", "greedy_search"]

PADDING, START, END = 0, 1, 2
"""Codes that are no symbols: behind the last one, before the first one told, and its end."""


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

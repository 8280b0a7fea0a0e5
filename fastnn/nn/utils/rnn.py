"""Batches of sequences of different lengths, with torch.nn.utils.rnn's names.

Nothing here is needed to give a recurrent layer such a batch: it takes `lengths`.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor, plain
from fastnn.descriptors import checked_lengths, is_int

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class Packed(NamedTuple):
    """The fields of a PackedSequence."""

    data: Any
    batch_sizes: np.ndarray
    sorted_indices: np.ndarray | None
    unsorted_indices: np.ndarray | None


class PackedSequence(Packed):
    """Sequences without padding: data (S, *), the first elements of all, then the second ones, …, the longest first.

    data: an array or Tensor. batch_sizes: (T,), how many sequences have that many elements. sorted_indices and
    unsorted_indices: (N,), the place in the batch of the i-th longest, and the other way round; both None for a batch
    that is in this order. pack_padded_sequence and pack_sequence make one, and layers that are given one return one.
    """

    __slots__ = ()

    def __new__(cls, data, batch_sizes, sorted_indices=None, unsorted_indices=None):
        batch_sizes, order, back = map(plain, (batch_sizes, sorted_indices, unsorted_indices))
        if order is not None and back is None:
            back = np.argsort(order)
        return super().__new__(cls, data, batch_sizes, order, back)

    def lengths(self):
        """(N,) of the sequences, in the order of the batch."""
        sizes, back = self.batch_sizes, self.unsorted_indices
        lengths = np.count_nonzero(sizes > np.arange(sizes.max(initial=0))[:, None], axis=1)
        return lengths if back is None else lengths[back]

    def places(self):
        """(t, n) of every row of data: which element of which sequence of the batch it is."""
        sizes, order = self.batch_sizes, self.sorted_indices
        t = np.repeat(np.arange(len(sizes)), sizes)
        rank = np.arange(len(t)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return t, rank if order is None else order[rank]


def rows(data, index):
    """data[index] by embedding, whose gradient is 40 times as quick; indices that are not unique add theirs up."""
    if data.dtype.kind != "f":
        return data[index]
    trailing = data.shape[1:]
    return F.embedding(index, data.reshape(len(data), prod(trailing))).reshape(*index.shape, *trailing)


def spread(data, places, shape, padding_value):
    """An array of these leading axes that has row i of data at places[i], and padding_value elsewhere; padding_value
    None: anything."""
    index = np.full(shape, -1)
    index[places] = np.arange(len(data))
    y = rows(data, np.maximum(index, 0))
    padding = index < 0
    if padding_value is None or not padding.any():
        return y
    return F.where(~padding.reshape(*shape, *(1,) * (y.ndim - 2)), y, padding_value)


def pack(padded, batch_sizes, sorted_indices=None, unsorted_indices=None, batch_first=False):
    """The PackedSequence of padded, (T, N, *) or (N, T, *), with these fields."""
    t, n = PackedSequence(padded, batch_sizes, sorted_indices, unsorted_indices).places()
    index = n * padded.shape[1] + t if batch_first else t * padded.shape[1] + n
    merged = padded.reshape(padded.shape[0] * padded.shape[1], *padded.shape[2:])
    return PackedSequence(rows(merged, index), batch_sizes, sorted_indices, unsorted_indices)


def unpack(sequence):
    """(x (T, N, *), lengths) of a PackedSequence, with anything behind the ends."""
    lengths = sequence.lengths()
    return spread(sequence.data, sequence.places(), (len(sequence.batch_sizes), len(lengths)), None), lengths


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """The PackedSequence of input (T, N, *), (N, T, *) with batch_first, and lengths (N,), each 1 to T.

    enforce_sorted: lengths must be in decreasing order.
    """
    op = "pack_padded_sequence"
    if getattr(input, "ndim", 0) < 2:
        raise TypeError(f"{op}: input must be a Tensor or an array of at least 2 dimensions, got {input!r}")
    t, n = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
    if not n:
        raise ValueError(f"{op}: input has shape {input.shape}, expected at least one sequence")
    lengths = checked_lengths(op, plain(lengths), t, n)
    order = back = None
    if enforce_sorted:
        if (np.diff(lengths) > 0).any():
            raise ValueError(f"{op}: lengths are {lengths.tolist()}, expected decreasing ones, or enforce_sorted=False")
    else:
        order = np.argsort(-lengths, kind="stable")
        back = np.argsort(order)
    batch_sizes = np.count_nonzero(lengths > np.arange(lengths.max())[:, None], axis=1)
    return pack(input, batch_sizes, order, back, batch_first)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """(padded, lengths (N,)) of a PackedSequence: padded (T, N, *), or (N, T, *) with batch_first, is padding_value
    behind the ends. total_length: T, at least that of the longest sequence, None for that."""
    op = "pad_packed_sequence"
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"{op}: sequence must be a PackedSequence, got {type(sequence).__name__}")
    lengths, steps = sequence.lengths(), len(sequence.batch_sizes)
    if total_length is not None:
        if not is_int(total_length):
            raise TypeError(f"{op}: total_length must be an integer or None, got {total_length!r}")
        if total_length < steps:
            raise ValueError(f"{op}: total_length is {total_length}, expected at least {steps}, the longest sequence's")
        steps = total_length
    t, n = sequence.places()
    places, shape = ((n, t), (len(lengths), steps)) if batch_first else ((t, n), (steps, len(lengths)))
    return spread(sequence.data, places, shape, padding_value), lengths


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Sequences (L_i, *), a list of arrays or Tensors, as one array (T, N, *), or (N, T, *) with batch_first; T is the
    largest L_i, and padding_value is behind the shorter ones, or before them with the padding_side "left"."""
    op = "pad_sequence"
    if padding_side not in ("right", "left"):
        raise ValueError(f"{op}: padding_side is {padding_side!r}, expected 'right' or 'left'")
    lengths = lengths_of(op, sequences)
    t = np.concatenate([np.arange(length) for length in lengths])
    if padding_side == "left":
        t += np.repeat(lengths.max() - lengths, lengths)
    n = np.repeat(np.arange(len(lengths)), lengths)
    places, shape = ((n, t), (len(lengths), lengths.max())) if batch_first else ((t, n), (lengths.max(), len(lengths)))
    return spread(F.cat(list(sequences)), places, shape, padding_value)


def lengths_of(op, sequences):
    """The lengths of a list of sequences."""
    if not isinstance(sequences, list | tuple) or not sequences:
        raise TypeError(f"{op}: sequences must be a list of at least one array or Tensor, got {sequences!r}")
    for x in sequences:
        if not isinstance(x, np.ndarray | Tensor) or not x.ndim:
            raise TypeError(f"{op}: sequences must hold arrays or Tensors (L, *), got {x!r}")
    return np.array([len(x) for x in sequences])


def pack_sequence(sequences, enforce_sorted=True):
    """The PackedSequence of a list of sequences (L_i, *). enforce_sorted: their lengths must be in decreasing order."""
    return pack_padded_sequence(
        pad_sequence(sequences), lengths_of("pack_sequence", sequences), enforce_sorted=enforce_sorted
    )


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The list of sequences (L_i, *) of padded_sequences (T, N, *), or (N, T, *) with batch_first; views."""
    need = padded_sequences.shape[:2][:: -1 if batch_first else 1]
    lengths = checked_lengths("unpad_sequence", plain(lengths), *need)
    return [
        padded_sequences[i, :length] if batch_first else padded_sequences[:length, i]
        for i, length in enumerate(lengths)
    ]


def unpack_sequence(packed_sequences):
    """The list of sequences (L_i, *) of a PackedSequence."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))

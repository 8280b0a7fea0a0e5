"""Where `fit`, `evaluate` and `predict` get their batches from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.autograd import Tensor
from fastnn.data import DataLoader, Dataset
from fastnn.descriptors import flag, is_int
from fastnn.random import default_generator

__all__ = ["as_batches", "as_tensor", "batches_from", "length", "pair"]


def as_batches(data: Any, op: str, what: str, batch_size: int, shuffle: bool = False, seed: int | None = None) -> Any:
    """An iterable of batches: a DataLoader of arrays x or (x, y) or of a Dataset, any other iterable as it is.

    seed: None is that of fastnn.manual_seed.
    """
    if not is_int(batch_size):
        raise TypeError(f"{op}: batch_size must be an integer, got {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"{op}: batch_size is {batch_size}, expected at least 1")
    if seed is None:
        seed = default_generator.initial_seed()
    if not is_int(seed):
        raise TypeError(f"{op}: seed must be an integer, got {seed!r}")
    if isinstance(data, np.ndarray | Tensor):
        data = (data,)
    shuffle = flag(shuffle, op, "shuffle")
    arrays = isinstance(data, tuple) and bool(data) and all(isinstance(x, np.ndarray | Tensor) for x in data)
    if arrays or isinstance(data, Dataset):
        try:
            return DataLoader(data, int(batch_size), shuffle, seed)
        except ValueError as error:
            raise ValueError(f"{op}: {what}: {error}") from None
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        raise TypeError(f"{op}: {what} must be arrays (x, y) or an iterable of batches, got {type(data).__name__}")
    if isinstance(data, Iterator):
        raise TypeError(
            f"{op}: {what} is an iterator, which can be gone through only once, expected what begins anew each time, "
            "such as a list or a loader"
        )
    return data


def batches_from(batches: Any, epoch: int, batch: int = 0) -> Iterator[Any]:
    """The batches of an epoch (from 0) behind the first ones, which are passed over: by `start` if there is one, as of
    a DataLoader, so that they are not made."""
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    if hasattr(batches, "start"):
        return batches.start(batch)
    iterator = iter(batches)
    for _ in range(batch):
        next(iterator, None)
    return iterator


def length(batches: Any) -> int | None:
    """How many batches, if that is known."""
    try:
        return len(batches)
    except TypeError:
        return None


def pair(batch: Any, op: str) -> tuple[Any, Any]:
    """x and y of a batch."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise TypeError(f"{op}: a batch must be a pair (x, y), got {type(batch).__name__}{size}")
    return batch[0], batch[1]


def as_tensor(x: Any, op: str) -> Tensor:
    """The input of a batch for the tape."""
    if isinstance(x, Tensor):
        return x
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{op}: x of a batch must be an array or Tensor, got {type(x).__name__}")
    return Tensor(x)

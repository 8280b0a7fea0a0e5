"""Where `fit`, `evaluate` and `predict` get their batches from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastnn.autograd import Tensor
from fastnn.descriptors import is_int
from fastnn.random import default_generator

__all__ = ["ArrayBatches", "as_batches", "as_tensor", "batches_from", "pair"]


class ArrayBatches:
    """Batches (x, y) of arrays, or x of one, along their first axis; the last one may be smaller.

    shuffle: the order is a pure function of seed and of the epoch that `set_epoch` says.
    """

    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int, shuffle: bool = False, seed: int = 0) -> None:
        self.arrays, self.batch_size, self.shuffle, self.seed = arrays, batch_size, shuffle, seed
        self.samples = len(arrays[0])
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self.start(0)

    def start(self, batch: int) -> Iterator[Any]:
        """The batches of an epoch without the first ones."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.samples) if self.shuffle else None
        for begin in range(batch * self.batch_size, self.samples, self.batch_size):
            part = slice(begin, begin + self.batch_size)
            index = part if order is None else order[part]
            batches = tuple(array[index] for array in self.arrays)
            yield batches if len(batches) > 1 else batches[0]


def as_batches(data: Any, op: str, what: str, batch_size: int, shuffle: bool = False, seed: int | None = None) -> Any:
    """An iterable of batches: of arrays x or (x, y) made here, any other iterable as it is.

    seed: None is that of fastnn.manual_seed.
    """
    if not is_int(batch_size):
        raise TypeError(f"{op}: batch_size must be an integer, got {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"{op}: batch_size is {batch_size}, expected at least 1")
    if isinstance(data, np.ndarray | Tensor):
        data = (data,)
    if isinstance(data, tuple) and data and all(isinstance(x, np.ndarray | Tensor) for x in data):
        arrays = tuple(x.array if isinstance(x, Tensor) else x for x in data)
        if len(arrays) > 2:
            raise ValueError(f"{op}: {what} has {len(arrays)} arrays, expected (x, y)")
        if any(not x.ndim for x in arrays):
            raise ValueError(f"{op}: {what} has an array without axes, expected samples along the first one")
        if len({len(x) for x in arrays}) > 1:
            raise ValueError(f"{op}: {what} has {len(arrays[0])} samples in x and {len(arrays[1])} in y")
        if seed is None:
            seed = default_generator.initial_seed()
        if not is_int(seed):
            raise TypeError(f"{op}: seed must be an integer, got {seed!r}")
        return ArrayBatches(arrays, int(batch_size), shuffle, int(seed) % 2**64)
    if not isinstance(data, Iterable):
        raise TypeError(f"{op}: {what} must be arrays (x, y) or an iterable of batches, got {type(data).__name__}")
    if isinstance(data, Iterator):
        raise TypeError(
            f"{op}: {what} is an iterator, which can be gone through only once, expected what begins anew each time, "
            "such as a list or a loader"
        )
    return data


def batches_from(batches: Any, epoch: int, batch: int) -> Iterator[Any]:
    """The batches of an epoch (from 0) behind the first ones, which are passed over."""
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    if isinstance(batches, ArrayBatches):
        return batches.start(batch)
    iterator = iter(batches)
    for _ in range(batch):
        next(iterator, None)
    return iterator


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

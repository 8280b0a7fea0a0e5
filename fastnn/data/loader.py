"""Batches of a dataset, epoch by epoch, made by the caller or by threads ahead of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.data.dataset import as_dataset, as_seed
from fastnn.data.transforms import Draws, Transform
from fastnn.descriptors import flag, is_int

__all__ = ["DataLoader"]

Batch = tuple[np.ndarray, ...]


class DataLoader:
    """Batches of a dataset: tuples of new arrays with samples along the first axis. Every `iter` is the next epoch.

        loader = DataLoader((x, y), batch_size=128, shuffle=True, transform=RandomHorizontalFlip(), workers=1)
        for epoch in range(10):
            for x, y in loader:
                ...

    dataset: a Dataset, an array or a tuple of arrays of one length, or whatever has `__len__` and `__getitem__`.
    shuffle: another order each epoch. drop_last: without the last batch if it is not full.
    transform: called as transform(x, draws) with the first array of each batch, returns what takes its place; see
    `fastnn.data.transforms`. All random numbers are functions of seed, epoch and the sample's number, so that batches
    are the same with any number of workers.
    workers: threads that make batches ahead, at most `prefetch` each. They help as far as making them releases
    Python's lock, as NumPy's copies do. What they raise is raised in the loop. After `fork`, the child begins a new
    loop; the parent's, gone on with there, raises RuntimeError.
    """

    def __init__(
        self, dataset: Any, batch_size: int = 32, shuffle: bool = False, seed: int = 0, drop_last: bool = False,
        transform: Transform | None = None, workers: int = 0, prefetch: int = 2,
    ) -> None:  # fmt: skip
        self.dataset = as_dataset(dataset, "DataLoader")
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
            check_count(name, value, least)
        if transform is not None and not callable(transform):
            raise TypeError(f"DataLoader: transform must be callable, got {transform!r}")
        self.batch_size, self.workers, self.prefetch = int(batch_size), int(workers), int(prefetch)
        self.shuffle = flag(shuffle, "DataLoader", "shuffle")
        self.drop_last, self.transform = flag(drop_last, "DataLoader", "drop_last"), transform
        self.seed = as_seed(seed, "DataLoader")
        self.begin = 0, 0
        self.progress = Progress(0, 0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.start(self.begin[1])

    def start(self, batch: int) -> Iterator[Batch]:
        """The next epoch without the first batches, which are not made."""
        check_count("batch", batch, 0)
        epoch = self.begin[0]
        self.begin = epoch + 1, 0
        self.progress = Progress(epoch, batch)
        return self.batches(self.progress)

    def set_epoch(self, epoch: int) -> None:
        """The next `iter` is this epoch, from 0."""
        check_count("epoch", epoch, 0)
        self.begin = int(epoch), 0
        self.progress = Progress(*self.begin)

    def state_dict(self) -> dict[str, int | bool]:
        """Where the latest loop is, for a checkpoint: its epoch, the number of batches it has had, and the options that
        decide on the batches. Once it has ended, it is at batch 0 of the next epoch."""
        return {"epoch": self.progress.epoch, "batch": self.progress.batch, **self.options()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The next `iter` goes on there, with the same batches bit for bit. ValueError for the state of a loader with
        other options or another number of samples."""
        for name, own in self.options().items():
            if state_dict.get(name) != own:
                raise ValueError(f"load_state_dict: {name} is {state_dict.get(name)!r}, expected {own!r}, the loader's")
        epoch, batch = (check_count(name, state_dict.get(name), 0) for name in ("epoch", "batch"))
        if batch > len(self):
            raise ValueError(
                f"load_state_dict: batch is {batch}, expected at most {len(self)}, the batches of an epoch"
            )
        self.begin = epoch, batch
        self.progress = Progress(epoch, batch)

    def options(self) -> dict[str, int | bool]:
        """What batches depend on besides epoch and data."""
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "seed": self.seed,
        }

    def batches(self, progress: Progress) -> Iterator[Batch]:
        """The rest of an epoch, whose progress is kept."""
        size, epoch, count = len(self.dataset), progress.epoch, len(self)
        order = np.arange(size)
        if self.shuffle:
            np.random.Generator(np.random.Philox(key=[self.seed, epoch])).shuffle(order)

        def make(batch: int) -> Batch:
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            arrays = self.dataset.take(indices)
            if self.transform is None:
                return arrays
            return self.transform(arrays[0], Draws(self.seed, epoch, indices)), *arrays[1:]

        numbers = range(progress.batch, count)
        made = ahead(make, numbers, self.workers, self.workers * self.prefetch) if self.workers else map(make, numbers)
        for batch in made:
            progress.batch += 1
            yield batch
        progress.epoch, progress.batch = epoch + 1, 0


class Progress:
    """How far a loop is."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch


def ahead(make: Any, numbers: range, workers: int, depth: int) -> Iterator[Any]:
    """map(make, numbers) by threads, in order, of which `depth` are begun before they are asked for.

    The threads wait for nothing but work, and leave when the iterator ends, fails, or is closed or collected.
    """
    from concurrent.futures import ThreadPoolExecutor

    process = os.getpid()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fastnn.data")
    waiting: deque[Any] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > depth:
                yield from results(waiting, process, len(waiting) - 1)
        yield from results(waiting, process, 0)
    finally:
        if os.getpid() == process:  # the child of a fork has none of the threads, but their locks as they were
            # Without waiting: a collection may happen in one of these threads.
            pool.shutdown(wait=False, cancel_futures=True)


def results(waiting: deque[Any], process: int, left: int) -> Iterator[Any]:
    """What was begun first, until so many are left."""
    while len(waiting) > left:
        if os.getpid() != process:
            raise RuntimeError("DataLoader: threads do not survive fork, begin a new loop in the child")
        yield waiting.popleft().result()


def check_count(name: str, value: Any, least: int) -> int:
    """An integer that is at least so much."""
    if not is_int(value):
        raise TypeError(f"DataLoader: {name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"DataLoader: {name} is {value}, expected at least {least}")
    return int(value)

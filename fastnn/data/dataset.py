"""Samples by their number, one at a time or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite
from typing import Any

import numpy as np

from fastnn.autograd import Tensor
from fastnn.descriptors import is_int, number

__all__ = ["ArrayDataset", "Dataset", "Subset", "as_dataset", "as_seed", "random_split"]


class Dataset:
    """Samples 0, 1, … A subclass defines `__len__` and `__getitem__`, which returns one sample: a tuple of arrays or
    numbers, the same number of them, of the same shapes and dtypes, for each.

    It may define `take` as well, if many samples at once cost less than one after the other. Threads of a DataLoader
    call both at the same time.
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """A batch: new arrays with the samples of these numbers along the first axis."""
        return stack([self[i] for i in indices.tolist()])


class ArrayDataset(Dataset):
    """Samples along the first axis of arrays of one length, which are shared and not copied."""

    def __init__(self, *arrays: np.ndarray | Tensor) -> None:
        if not arrays:
            raise ValueError("ArrayDataset: got no arrays, expected at least one")
        for i, x in enumerate(arrays):
            if not isinstance(x, np.ndarray | Tensor):
                raise TypeError(f"ArrayDataset: arrays[{i}] must be an array, got {type(x).__name__}")
            if not x.ndim:
                raise ValueError(f"ArrayDataset: arrays[{i}] has no axes, expected samples along the first one")
        self.arrays = tuple(x.array if isinstance(x, Tensor) else x for x in arrays)
        lengths = [len(x) for x in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"ArrayDataset: arrays have lengths {lengths}, expected one length")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(x[index] for x in self.arrays)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(x.take(indices, axis=0) for x in self.arrays)


class Subset(Dataset):
    """The samples of a dataset whose numbers are given, in that order."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = as_dataset(dataset, "Subset")
        self.indices = np.array(indices, np.int64 if len(indices) == 0 else None)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be a list of integers, got {indices!r}")
        self.indices = self.indices.astype(np.int64)
        size = len(self.dataset)
        outside = self.indices[(self.indices < 0) | (self.indices >= size)]
        if outside.size:
            raise ValueError(
                f"Subset: indices have {outside[0]}, expected 0 to {size - 1}: the dataset has {size} samples"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.dataset[int(self.indices[index])]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.dataset.take(self.indices[indices])


class Samples(Dataset):
    """What has `__len__` and `__getitem__` but is no Dataset, such as one of torch's kind."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.samples[index]


def as_dataset(data: Any, op: str) -> Dataset:
    """An array, a tuple of arrays, or what has a length and samples, as a Dataset."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, np.ndarray | Tensor):
        return ArrayDataset(data)
    if isinstance(data, tuple) and data and all(isinstance(x, np.ndarray | Tensor) for x in data):
        return ArrayDataset(*data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, str | bytes | dict):
        return Samples(data)
    raise TypeError(f"{op}: dataset must be a Dataset, an array or a tuple of arrays, got {type(data).__name__}")


def as_seed(seed: Any, op: str) -> int:
    """A seed in [0, 2^64); of another integer the lower 64 bits count."""
    if not is_int(seed):
        raise TypeError(f"{op}: seed must be an integer, got {seed!r}")
    return int(seed) % 2**64


def stack(samples: list[Any]) -> tuple[np.ndarray, ...]:
    """A batch of samples one by one."""
    rows = [sample if isinstance(sample, tuple | list) else (sample,) for sample in samples]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"DataLoader: samples of a batch have {sorted({len(row) for row in rows})} parts, expected one number"
        )
    return tuple(
        np.stack([x.array if isinstance(x, Tensor) else np.asarray(x) for x in part])
        for part in zip(*rows, strict=True)
    )


def random_split(dataset: Any, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Split a dataset at random into Subsets of these lengths, or of these shares if they sum to 1.

    Shares are rounded down, and the samples left over go to the first ones, one each, as torch has it. ValueError for
    lengths that do not sum to the number of samples.
    """
    dataset = as_dataset(dataset, "random_split")
    size = len(dataset)
    parts = [number(x, "random_split", f"lengths[{i}]") for i, x in enumerate(lengths)]
    if any(not isfinite(x) or x < 0 for x in parts):
        raise ValueError(f"random_split: lengths are {list(lengths)}, expected none below 0")
    if sum(parts) == size and all(x % 1 == 0 for x in parts):
        counts = [int(x) for x in parts]
    elif abs(sum(parts) - 1) <= 1e-9:
        counts = [floor(size * x) for x in parts]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        raise ValueError(
            f"random_split: lengths are {list(lengths)}, expected {size} in all, the number of samples, or shares that "
            "sum to 1"
        )
    order = np.random.Generator(np.random.Philox(key=as_seed(seed, "random_split"))).permutation(size)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(counts)[:-1])]

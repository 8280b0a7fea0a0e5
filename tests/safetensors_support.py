"""Files of the safetensors format, right and wrong, made by hand, and what becomes of them."""

import tracemalloc
from contextlib import contextmanager

import numpy as np

import fastnn
from fastnn.train import load_checkpoint

SLACK = 1 << 16
"""Bytes that the interpreter, buffers of files and error messages may take beside twice the size of a file."""


def same(a, b):
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def blob(header, data=b"", length=None):
    """A file of these bytes or this text as header, honest about its length unless told."""
    header = header.encode() if isinstance(header, str) else header
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(dtype='"F32"', shape="[1]", data_offsets="[0,4]"):
    """A tensor in a header; each value is JSON or what stands in its place."""
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{data_offsets}}}'


def one(data=b"1234", **fields):
    """A file with one tensor, "w"."""
    return blob(f'{{"w":{entry(**fields)}}}', data)


@contextmanager
def limited(size):
    """At most so much memory is taken at any time within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size + SLACK
    finally:
        tracemalloc.stop()


def outcome(function, *arguments):
    """What it returns, or the ValueError that it raises; nothing else passes."""
    try:
        return function(*arguments)
    except ValueError as error:
        assert type(error) is ValueError
        return error


def load_mapped(path):
    return fastnn.load(path, mmap=True)


LOADERS = [fastnn.load, load_mapped, fastnn.load_metadata, load_checkpoint]
"""What reads such files."""


def whole(path):
    """Write a file with a little of everything; its bytes."""
    fastnn.save(path, {"a": np.arange(3.0), "b": np.array(True), "ü": np.ones((2, 2), np.float16)}, {"key": "text"})
    return path.read_bytes()

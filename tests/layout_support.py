"""Layouts that an array can have in memory: each a function of an array that gives the same values, laid out so."""

import tempfile

import numpy as np


def stepped(x):
    """Every second element along each axis of a larger array."""
    big = np.zeros([2 * n for n in x.shape], x.dtype)
    view = big[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_axes(x):
    """Negative strides along each axis."""
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return x[flip].copy()[flip]


def fortran(x):
    return np.asfortranarray(x)


def cut_out(x):
    """The inside of a larger array."""
    big = np.zeros([n + 3 for n in x.shape], x.dtype)
    view = big[tuple(slice(1, n + 1) for n in x.shape)]
    view[...] = x
    return view


def misaligned(x):
    """Contiguous, but one byte off every element's alignment."""
    view = np.ndarray(x.shape, x.dtype, np.zeros(x.nbytes + 1, np.uint8), offset=1)
    view[...] = x
    assert view.flags.c_contiguous and view.flags.aligned == (x.itemsize == 1 or not x.size)
    return view


def element_aligned(x):
    """Aligned to an element but to no vector."""
    memory = np.zeros(x.size + 65, x.dtype)
    start = 1 + (-memory.ctypes.data % 64) // x.itemsize
    view = memory[start : start + x.size].reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def broadcast(x):
    """Read-only with strides of zero: the first element everywhere."""
    return np.broadcast_to(x.flat[0] if x.size else x.dtype.type(0), x.shape)


def memory_mapped(x):
    with tempfile.TemporaryFile() as file:
        file.write(x.tobytes() or b"\0")  # of nothing there is no map
        file.flush()
        return np.memmap(file, x.dtype, "r", shape=x.shape)


class Subclass(np.ndarray):
    pass


def subclass(x):
    return x.copy().view(Subclass)


LAYOUTS = [
    stepped,
    reversed_axes,
    fortran,
    cut_out,
    misaligned,
    element_aligned,
    read_only,
    broadcast,
    memory_mapped,
    subclass,
]

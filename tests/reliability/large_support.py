"""Arrays of more than 2^31 elements for large_calls.py and large_images.py, and the table of their calls.

Inputs are zeros that take no memory until they are written to, with a few marks at the ends and around 2^31 elements
and 2^32 bytes. Results are searched as a whole: they must be what the marks give, and what zero gives elsewhere.
"""

import mmap
import sys
from math import prod

import numpy as np

MORE = 2**31 + 17
"""Elements: an odd number, so that there is a tail."""
PLACES = (0, 2**30 - 1, 2**30, 2**31 - 1, 2**31, MORE - 1)
MARKS = np.array([1.5, -2, 3, -4, 5, -6])
PIECE = 2**26


NORESERVE = 0x4000 if sys.platform == "linux" else 0
"""mmap's flag, which Python names from 3.13 on: more than there is memory may be mapped."""


def zeros(shape, dtype=np.float32):
    """Zeros that only take memory where they are written to."""
    dtype, n = np.dtype(dtype), prod(shape if isinstance(shape, tuple) else (shape,))
    memory = mmap.mmap(-1, n * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    return np.frombuffer(memory, dtype).reshape(shape)


def marked(shape=(MORE,), dtype=np.float32, places=PLACES):
    """Zeros but for MARKS at places, counted in row-major order."""
    x = zeros(shape, dtype)
    x.reshape(-1)[list(places)] = MARKS[: len(places)]
    return x


def others(y, background):
    """The places, in row-major order, at which y is not `background`."""
    flat, found = y.reshape(-1), []
    for first in range(0, y.size, PIECE):
        found.extend(int(i) + first for i in np.flatnonzero(flat[first : first + PIECE] != background))
        assert len(found) < 10_000, f"{len(found)} elements are not {background}, first at {found[0]}"
    return found


def check(y, places, values, background=0.0):
    """y is `values` at places, which are in order, and `background` elsewhere."""
    want = dict(zip(places, np.asarray(values, y.dtype).tolist(), strict=True))
    got = {i: float(y.reshape(-1)[i]) for i in others(y, background)}
    assert got == {i: v for i, v in want.items() if v != background}


CALLS = {}
"""Name -> (gibibytes that the call may take, function)."""


def needs(gibibytes):
    def add(function):
        CALLS[function.__name__] = gibibytes, function
        return function

    return add

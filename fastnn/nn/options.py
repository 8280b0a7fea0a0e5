"""What the constructors of layers check."""

from __future__ import annotations

import numpy as np

from fastnn.descriptors import is_int

__all__ = ["blank", "counts"]


def counts(layer, **numbers):
    """Check that numbers of features, channels and the like are integers, at least 0; returns them."""
    for name, n in numbers.items():
        if not is_int(n):
            raise TypeError(f"{type(layer).__name__}: {name} must be an integer, got {n!r}")
        if n < 0:
            raise ValueError(f"{type(layer).__name__}: {name} is {n}, expected at least 0")
    return numbers.values()


def blank(shape, device=None, dtype=None, fill=None):
    """An array for a parameter or buffer: float32, or float64 with that dtype; of fill, or not initialised.

    device: for programs that name one, None or "cpu".
    """
    if device is not None and str(device) != "cpu":
        raise ValueError(f"device is {device!r}, expected None or 'cpu'")
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype}, expected float32 or float64")
    return np.empty(shape, dtype) if fill is None else np.full(shape, fill, dtype)

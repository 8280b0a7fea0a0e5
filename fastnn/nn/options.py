"""What the constructors of layers check, and how single samples are taken."""

from __future__ import annotations

import numpy as np

from fastnn.autograd import Tensor
from fastnn.descriptors import flag, is_int

__all__ = ["as_tensor", "batched", "blank", "counts", "need_ndim", "switches"]


def counts(layer, **numbers):
    """Check that numbers of features, channels and the like are integers, at least 0; returns them."""
    for name, n in numbers.items():
        if not is_int(n):
            raise TypeError(f"{type(layer).__name__}: {name} must be an integer, got {n!r}")
        if n < 0:
            raise ValueError(f"{type(layer).__name__}: {name} is {n}, expected at least 0")
    return numbers.values()


def switches(layer, **flags):
    """Check that options are True or False; returns them."""
    return [flag(value, type(layer).__name__, name) for name, value in flags.items()]


def blank(shape, device=None, dtype=None, fill=None):
    """An array for a parameter or buffer: float32, or float64 with that dtype; of fill, or not initialised.

    device: for programs that name one, None or "cpu".
    """
    if device is not None and str(device) != "cpu":
        raise ValueError(f"device is {device!r}, expected None or 'cpu'")
    try:
        dtype = np.dtype(np.float32 if dtype is None else dtype)
    except (TypeError, ValueError):  # no dtype at all
        raise TypeError(f"dtype is {dtype!r}, expected float32 or float64") from None
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype is {dtype}, expected float32 or float64")
    return np.empty(shape, dtype) if fill is None else np.full(shape, fill, dtype)


def need_ndim(layer, input, *expected):
    """Check the number of the input's dimensions."""
    ndim = getattr(input, "ndim", None)
    if ndim is None:
        raise TypeError(f"{type(layer).__name__}: input must be a Tensor or an array, got {type(input).__name__}")
    if ndim not in expected:
        raise ValueError(
            f"{type(layer).__name__}: input has {ndim} dimensions, shape {input.shape}, expected "
            f"{' or '.join(map(str, expected))}"
        )


def batched(layer, function, ndim, input, *options):
    """function(input, *options) of a batch, which has ndim dimensions, or of one sample, which has one fewer."""
    if getattr(input, "ndim", None) == ndim:
        return function(input, *options)
    need_ndim(layer, input, ndim - 1, ndim)
    y = function(input[None], *options)
    return tuple(each[0] for each in y) if isinstance(y, tuple) else y[0]


def as_tensor(x):
    """A Tensor of an array; forward may get both."""
    return x if isinstance(x, Tensor) else Tensor(x)

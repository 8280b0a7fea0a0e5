"""Padding layers: of the last axis (1d) or the last two (2d)."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.descriptors import is_int
from fastnn.nn.module import Layer

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ZeroPad1d",
    "ZeroPad2d",
]


class Pad(Layer):
    """padding: how many elements on each side of `axes` axes, or (before, behind) the last, and then of the one before;
    `mode` is that of functional.pad."""

    axes: int
    mode = "constant"
    value: float | None = None

    def __init__(self, padding):
        name = type(self).__name__
        self.padding = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * (2 * self.axes)
        if not all(map(is_int, self.padding)):
            raise TypeError(f"{name}: padding must be integers, got {padding!r}")
        if len(self.padding) != 2 * self.axes:
            raise ValueError(f"{name}: padding is {padding!r}, expected an integer or {2 * self.axes} of them")

    def forward(self, input):
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self):
        return f"{self.padding}"


class ConstantPad(Pad):
    """Padding with a value."""

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(ConstantPad):
    """`value` beyond the ends of the last axis.

    padding: an integer, or (left, right).
    """

    axes = 1


class ConstantPad2d(ConstantPad):
    """`value` beyond the ends of the last two axes.

    padding: an integer, or (left, right, top, bottom).
    """

    axes = 2


class ZeroPad1d(Pad):
    """Zeros beyond the ends of the last axis.

    padding: an integer, or (left, right).
    """

    axes = 1


class ZeroPad2d(Pad):
    """Zeros beyond the ends of the last two axes.

    padding: an integer, or (left, right, top, bottom).
    """

    axes = 2


class ReflectionPad1d(Pad):
    """Elements mirrored, without repeating the edges, beyond the ends of the last axis.

    padding: an integer, or (left, right).
    """

    axes = 1
    mode = "reflect"


class ReflectionPad2d(Pad):
    """Elements mirrored, without repeating the edges, beyond the ends of the last two axes.

    padding: an integer, or (left, right, top, bottom).
    """

    axes = 2
    mode = "reflect"


class ReplicationPad1d(Pad):
    """The edges repeated beyond the ends of the last axis.

    padding: an integer, or (left, right).
    """

    axes = 1
    mode = "replicate"


class ReplicationPad2d(Pad):
    """The edges repeated beyond the ends of the last two axes.

    padding: an integer, or (left, right, top, bottom).
    """

    axes = 2
    mode = "replicate"


class CircularPad1d(Pad):
    """The elements of the other end beyond those of the last axis.

    padding: an integer, or (left, right).
    """

    axes = 1
    mode = "circular"


class CircularPad2d(Pad):
    """The elements of the other end beyond those of the last two axes.

    padding: an integer, or (left, right, top, bottom).
    """

    axes = 2
    mode = "circular"

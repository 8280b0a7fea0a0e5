"""Dropout layers: they do something in training mode only."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.descriptors import number
from fastnn.nn.module import Layer
from fastnn.nn.options import switches

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d"]


class Dropping(Layer):
    """`function` with the probability p, 0 to 1; inplace: of arrays, written to the input, and ignored of Tensors.
    Random numbers are those of the process (fastnn.manual_seed)."""

    function: staticmethod

    def __init__(self, p=0.5, inplace=False):
        if not 0 <= number(p, type(self).__name__, "p") <= 1:
            raise ValueError(f"{type(self).__name__}: p is {p}, expected 0 to 1")
        self.p = p
        (self.inplace,) = switches(self, inplace=inplace)

    def forward(self, input):
        return self.function(input, self.p, self.training, self.inplace)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(Dropping):
    """Elements become 0 with probability p, others x / (1 - p) (Srivastava et al. 2014); x itself in eval mode.

    inplace: of arrays, written to the input; ignored of Tensors.
    """

    function = staticmethod(F.dropout)


class Dropout1d(Dropping):
    """Dropout of whole channels of input (N, C, L) or (C, L)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropping):
    """Dropout of whole channels of input (N, C, H, W)."""

    function = staticmethod(F.dropout2d)


class AlphaDropout(Dropping):
    """Dropout that keeps mean 0 and variance 1, for SELU (Klambauer et al. 2017); see ops.alpha_dropout_forward."""

    function = staticmethod(F.alpha_dropout)

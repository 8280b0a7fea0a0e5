"""Linear layers."""

from __future__ import annotations

from math import sqrt

from fastnn import functional as F
from fastnn import init
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import blank, counts

__all__ = ["Linear"]


class Linear(Layer):
    """y = x wᵀ + b: (*, in_features) to (*, out_features).

    weight: (out_features, in_features), bias: (out_features,), both uniform in ±1/√in_features at first.
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        self.in_features, self.out_features = counts(self, in_features=in_features, out_features=out_features)
        self.weight = Parameter(blank((out_features, in_features), device, dtype))
        self.bias = Parameter(blank((out_features,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            bound = 1 / sqrt(self.in_features) if self.in_features else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input):
        return F.linear(input, *operands(input, self.weight, self.bias))

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

"""Linear layers, and those that only change shapes."""

from __future__ import annotations

from math import sqrt

from fastnn import functional as F
from fastnn import init
from fastnn.descriptors import is_int
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import blank, counts, switches

__all__ = ["Flatten", "Identity", "Linear", "Unflatten"]


class Linear(Layer):
    """y = x wᵀ + b: (*, in_features) to (*, out_features).

    weight: (out_features, in_features), bias: (out_features,), both uniform in ±1/√in_features at first.
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        self.in_features, self.out_features = counts(self, in_features=in_features, out_features=out_features)
        self.weight = Parameter(blank((out_features, in_features), device, dtype))
        (bias,) = switches(self, bias=bias)
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


class Identity(Layer):
    """The input itself; the constructor takes any arguments."""

    def __init__(self, *args, **kwargs):
        pass

    def forward(self, input):
        return input


class Flatten(Layer):
    """Axes start_dim to end_dim as one: by default (N, …) to (N, D)."""

    def __init__(self, start_dim=1, end_dim=-1):
        for name, dim in ("start_dim", start_dim), ("end_dim", end_dim):
            if not is_int(dim):
                raise TypeError(f"Flatten: {name} must be an integer, got {dim!r}")
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Layer):
    """The axis dim as several, of the lengths unflattened_size, one of which may be -1."""

    def __init__(self, dim, unflattened_size):
        if not is_int(dim):
            raise TypeError(f"Unflatten: dim must be an integer, got {dim!r}")
        if not isinstance(unflattened_size, tuple | list) or not all(map(is_int, unflattened_size)):
            raise TypeError(f"Unflatten: unflattened_size must be a tuple of integers, got {unflattened_size!r}")
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input):
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

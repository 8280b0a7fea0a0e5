"""Activations. inplace: of arrays, the result is written to the input; it is ignored of Tensors."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.autograd import Tensor
from fastnn.descriptors import number
from fastnn.nn.module import Layer, Module, Parameter
from fastnn.nn.options import blank, counts, need_ndim, switches

__all__ = [
    "ELU",
    "GELU",
    "Hardmax",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSoftmax",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softplus",
    "Tanh",
]


class Activation(Layer):
    """`function` of the input and of the attributes that `options` names."""

    function: staticmethod
    options: tuple[str, ...] = ()
    inplace = False
    shows_inplace = False

    def forward(self, input):
        out = input if self.inplace and not isinstance(input, Tensor) else None
        return self.function(input, *[getattr(self, name) for name in self.options], out=out)

    def extra_repr(self):
        shown = [f"{name}={getattr(self, name)!r}" for name in self.options]
        return ", ".join(shown + ["inplace=True"] * (self.inplace and self.shows_inplace))


class InPlace(Activation):
    """One without options, but for inplace."""

    shows_inplace = True

    def __init__(self, inplace=False):
        (self.inplace,) = switches(self, inplace=inplace)


class ReLU(InPlace):
    """max(x, 0)"""

    function = staticmethod(F.relu)


class ReLU6(InPlace):
    """x clipped to [0, 6]"""

    function = staticmethod(F.relu6)


class SiLU(InPlace):
    """x sigmoid(x)"""

    function = staticmethod(F.silu)


class Hardsigmoid(InPlace):
    """(x + 3) / 6 clipped to [0, 1]"""

    function = staticmethod(F.hardsigmoid)
    shows_inplace = False  # as torch


class Hardswish(InPlace):
    """x hardsigmoid(x)"""

    function = staticmethod(F.hardswish)
    shows_inplace = False  # as torch


class Sigmoid(Activation):
    """1 / (1 + exp(-x))"""

    function = staticmethod(F.sigmoid)


class Tanh(Activation):
    """Hyperbolic tangent"""

    function = staticmethod(F.tanh)


class LeakyReLU(Activation):
    """x if x > 0, else negative_slope x (Maas et al. 2013)"""

    function = staticmethod(F.leaky_relu)
    options = ("negative_slope",)
    shows_inplace = True

    def __init__(self, negative_slope=0.01, inplace=False):
        self.negative_slope = negative_slope
        (self.inplace,) = switches(self, inplace=inplace)


class ELU(Activation):
    """x if x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016)"""

    function = staticmethod(F.elu)
    options = ("alpha",)
    shows_inplace = True

    def __init__(self, alpha=1.0, inplace=False):
        self.alpha = alpha
        (self.inplace,) = switches(self, inplace=inplace)


class GELU(Activation):
    """x times the normal distribution function of x, or its approximation by "tanh" (Hendrycks & Gimpel 2016)"""

    function = staticmethod(F.gelu)
    options = ("approximate",)

    def __init__(self, approximate="none"):
        self.approximate = approximate


class Softplus(Activation):
    """log(1 + exp(beta x)) / beta; x where beta x > threshold"""

    function = staticmethod(F.softplus)
    options = ("beta", "threshold")

    def __init__(self, beta=1.0, threshold=20.0):
        self.beta, self.threshold = beta, threshold


class Hardtanh(Activation):
    """x clipped to [min_val, max_val]; min_value and max_value are their former names."""

    function = staticmethod(F.hardtanh)
    options = ("min_val", "max_val")
    shows_inplace = True

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None):
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        (self.inplace,) = switches(self, inplace=inplace)
        for name in ("min_val", "max_val"):
            number(getattr(self, name), "Hardtanh", name)
        if not self.max_val > self.min_val:
            raise ValueError(f"Hardtanh: max_val is {self.max_val}, expected more than min_val, {self.min_val}")


class PReLU(Module):
    """x if x > 0, else weight x (He et al. 2015), with one learned weight, or one for each of the input's channels.

    weight: (num_parameters,), init at first. Input: (N, num_parameters, *), or any shape with one weight.
    """

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        (self.num_parameters,) = counts(self, num_parameters=num_parameters)
        self.init = number(init, "PReLU", "init")
        self.weight = Parameter(blank((num_parameters,), device, dtype, init))

    def reset_parameters(self):
        """All weights become init."""
        self.weight.data.fill(self.init)
        self.weight.increment_version()

    def forward(self, input):
        weight = self.weight
        if self.num_parameters != 1:
            if input.ndim < 2 or input.shape[1] != self.num_parameters:
                raise ValueError(
                    f"PReLU: input has shape {input.shape}, expected num_parameters, {self.num_parameters}, channels"
                )
            weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
        return F.where(input > 0, input, weight * input)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"


class AlongAxis(Layer):
    """`function` along the axis dim. None: the first axis of one or three dimensions, else the second, as torch."""

    function: staticmethod

    def __init__(self, dim=None):
        self.dim = dim

    def forward(self, input):
        dim = self.dim
        if dim is None:
            dim = 0 if getattr(input, "ndim", 1) in (0, 1, 3) else 1
        return self.function(input, dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmax(AlongAxis):
    """exp(x) / Σ exp(x) along the axis dim. None: the first axis of one or three dimensions, else the second."""

    function = staticmethod(F.softmax)


class LogSoftmax(AlongAxis):
    """log softmax along the axis dim. None: the first axis of one or three dimensions, else the second."""

    function = staticmethod(F.log_softmax)


class Hardmax(AlongAxis):
    """1 at the largest element along the axis dim, 0 elsewhere; without a gradient. None: as of Softmax."""

    function = staticmethod(F.hardmax)


class Softmax2d(Layer):
    """softmax over the channels of input (N, C, H, W) or (C, H, W)"""

    def forward(self, input):
        need_ndim(self, input, 3, 4)
        return F.softmax(input, -3)

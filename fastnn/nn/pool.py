"""Pooling layers: of batches (N, C, H, W) or (N, C, L), or of one sample without the first axis."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.nn.module import Layer
from fastnn.nn.options import batched

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "LPPool1d",
    "LPPool2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MinPool1d",
    "MinPool2d",
    "SubSample2d",
]


class Pool(Layer):
    """`function` of an input of ndim dimensions and of the attributes that `options` names; repr shows the first
    `shown` of these."""

    function: staticmethod
    ndim: int
    options: tuple[str, ...]
    shown: int

    def forward(self, input):
        return batched(self, self.function, self.ndim, input, *[getattr(self, name) for name in self.options])

    def extra_repr(self):
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options[: self.shown])


def tuple_of(value, n):
    """An option as a tuple of n, as torch keeps some."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * n


class Extreme(Pool):
    """Maximum or minimum."""

    options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    shown = 5

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode


class MaxPool1d(Extreme):
    """Maximum of every window of (N, C, L), or (maximum, its index in the row); see ops.max_pool1d_forward."""

    function, ndim = staticmethod(F.max_pool1d), 3


class MaxPool2d(Extreme):
    """Maximum of every window of (N, C, H, W), or (maximum, its index in the plane); see ops.max_pool2d_forward."""

    function, ndim = staticmethod(F.max_pool2d), 4


class MinPool1d(Extreme):
    """Minimum of every window of (N, C, L), or (minimum, its index in the row); see ops.min_pool1d_forward."""

    function, ndim = staticmethod(F.min_pool1d), 3


class MinPool2d(Extreme):
    """Minimum of every window of (N, C, H, W), or (minimum, its index in the plane); see ops.min_pool2d_forward."""

    function, ndim = staticmethod(F.min_pool2d), 4


class AvgPool1d(Pool):
    """Average of every window of (N, C, L); see ops.avg_pool1d_forward."""

    function, ndim = staticmethod(F.avg_pool1d), 3
    options = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    shown = 3

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        self.kernel_size = tuple_of(kernel_size, 1)
        self.stride = self.kernel_size if stride is None else tuple_of(stride, 1)
        self.padding = tuple_of(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad


class AvgPool2d(Pool):
    """Average of every window of (N, C, H, W); see ops.avg_pool2d_forward."""

    function, ndim = staticmethod(F.avg_pool2d), 4
    options = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    shown = 3

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override


class LPPool(Pool):
    """Norms."""

    options = ("norm_type", "kernel_size", "stride", "ceil_mode")
    shown = 4

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode


class LPPool1d(LPPool):
    """(Σ x^norm_type)^(1/norm_type) of every window of (N, C, L); see ops.lp_pool2d_forward."""

    function, ndim = staticmethod(F.lp_pool1d), 3


class LPPool2d(LPPool):
    """(Σ x^norm_type)^(1/norm_type) of every window of (N, C, H, W); see ops.lp_pool2d_forward."""

    function, ndim = staticmethod(F.lp_pool2d), 4


class AdaptiveAvgPool(Pool):
    """Averages."""

    options = ("output_size",)
    shown = 1

    def __init__(self, output_size):
        self.output_size = output_size


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """Average of windows that share out (N, C, L): output_size of them; see ops.adaptive_max_pool2d_forward."""

    function, ndim = staticmethod(F.adaptive_avg_pool1d), 3


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """Average of windows that share out (N, C, H, W), all of it with output_size 1; None keeps an axis. See
    ops.adaptive_max_pool2d_forward."""

    function, ndim = staticmethod(F.adaptive_avg_pool2d), 4


class AdaptiveMaxPool(Pool):
    """Maxima."""

    options = ("output_size", "return_indices")
    shown = 1

    def __init__(self, output_size, return_indices=False):
        self.output_size, self.return_indices = output_size, return_indices


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """Maximum of windows that share out (N, C, L), or (maximum, its index in the row); see
    ops.adaptive_max_pool2d_forward."""

    function, ndim = staticmethod(F.adaptive_max_pool1d), 3


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """Maximum of windows that share out (N, C, H, W), or (maximum, its index in the plane); see
    ops.adaptive_max_pool2d_forward."""

    function, ndim = staticmethod(F.adaptive_max_pool2d), 4


class MaxUnpool(Pool):
    """Maxima, put back."""

    options = ("kernel_size", "stride", "padding")
    shown = 3

    def __init__(self, kernel_size, stride=None, padding=0):
        axes = self.ndim - 2
        self.kernel_size = tuple_of(kernel_size, axes)
        self.stride = self.kernel_size if stride is None else tuple_of(stride, axes)
        self.padding = tuple_of(padding, axes)

    def forward(self, input, indices, output_size=None):
        options = self.kernel_size, self.stride, self.padding, output_size
        if getattr(input, "ndim", None) == self.ndim - 1:
            return self.function(input[None], indices[None], *options)[0]
        return self.function(input, indices, *options)


class MaxUnpool1d(MaxUnpool):
    """Zeros, but input (N, C, L) at the indices that MaxPool1d returned; see ops.max_unpool1d_forward."""

    function, ndim = staticmethod(F.max_unpool1d), 3


class MaxUnpool2d(MaxUnpool):
    """Zeros, but input (N, C, H, W) at the indices that MaxPool2d returned; see ops.max_unpool2d_forward."""

    function, ndim = staticmethod(F.max_unpool2d), 4


class SubSample2d(Pool):
    """One pixel of every block of (N, C, H, W): its "upper_left" or its "middle"; see ops.subsample2d_forward."""

    function, ndim = staticmethod(F.subsample2d), 4
    options = ("block", "position")
    shown = 2

    def __init__(self, block, position="upper_left"):
        self.block, self.position = block, position

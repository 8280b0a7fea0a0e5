"""Normalisation layers."""

from __future__ import annotations

import numpy as np

from fastnn import ops
from fastnn.autograd import call
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import blank, counts, need_ndim

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class Norm(Layer):
    """What layers with a scale `weight` and a shift `bias` share: they are 1 and 0 at first, or None."""

    def make_affine(self, shape, weight, bias, device, dtype):
        """Assign the parameters that there are to be."""
        self.weight = Parameter(blank(shape, device, dtype)) if weight else None
        self.bias = Parameter(blank(shape, device, dtype)) if bias else None

    def reset_parameters(self):
        """Scale 1 and shift 0, in place."""
        for parameter, value in (self.weight, 1), (self.bias, 0):
            if parameter is not None:
                parameter.data.fill(value)
                parameter.increment_version()


class ChannelNorm(Norm):
    """Batch and instance norm: parameters and running statistics of num_features channels."""

    ndims: tuple[int, ...]
    """How many dimensions the input may have."""

    def __init__(self, num_features, eps, momentum, affine, track_running_stats, device, dtype, bias):
        (self.num_features,) = counts(self, num_features=num_features)
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.make_affine((num_features,), affine, affine and bias, device, dtype)
        for name in "running_mean", "running_var":
            self.register_buffer(name, blank((num_features,), device, dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Mean 0, variance 1, no batches seen, in place."""
        if self.track_running_stats:
            self.running_mean.fill(0)
            self.running_var.fill(1)
            self.num_batches_tracked.fill(0)

    def reset_parameters(self):
        """Scale 1, shift 0, and reset_running_stats."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm(ChannelNorm):
    """(x - mean) / √(var + eps) · weight + bias in each channel (Ioffe & Szegedy 2015).

    In training, mean and biased variance are those of the batch, and running_mean and running_var, of which the latter
    is unbiased, move towards them by momentum, or are the averages over all batches if momentum is None. In eval mode
    they are used instead. Without track_running_stats there are none, and the batch's are used in both modes.
    """

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        need_ndim(self, input, *self.ndims)
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has {input.shape[1]} channels, shape {input.shape}, expected "
                f"num_features, {self.num_features}"
            )
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        batch = self.training or mean is None
        if batch and not (self.training and self.track_running_stats):  # a batch's statistics that leave no trace
            mean = var = count = None
        momentum = 0.0 if self.momentum is None and count is None else self.momentum
        return call(
            ops.batch_norm_forward, input, *operands(input, self.weight, self.bias), mean, var, training=batch,
            momentum=momentum, eps=self.eps, num_batches_tracked=count if batch else None)  # fmt: skip


class BatchNorm1d(BatchNorm):
    __doc__ = f"{BatchNorm.__doc__.rstrip()}\n\n    Input: (N, num_features) or (N, num_features, L).\n    "
    ndims = (2, 3)


class BatchNorm2d(BatchNorm):
    __doc__ = f"{BatchNorm.__doc__.rstrip()}\n\n    Input: (N, num_features, H, W).\n    "
    ndims = (4,)


class BatchNorm3d(BatchNorm):
    __doc__ = f"{BatchNorm.__doc__.rstrip()}\n\n    Input: (N, num_features, D, H, W).\n    "
    ndims = (5,)

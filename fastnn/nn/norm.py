"""Normalisation layers."""

from __future__ import annotations

import numpy as np

from fastnn import functional as F
from fastnn import ops
from fastnn.autograd import call
from fastnn.descriptors import is_int
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import batched, blank, counts, need_ndim, switches

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "Whiten",
]


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
        self.eps, self.momentum = eps, momentum
        affine, track_running_stats, bias = switches(
            self, affine=affine, track_running_stats=track_running_stats, bias=bias
        )
        self.affine, self.track_running_stats = affine, track_running_stats
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

    def check_channels(self, input, axis):
        """ValueError if the input has not num_features channels."""
        if input.shape[axis] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has {input.shape[axis]} channels, shape {input.shape}, expected "
                f"num_features, {self.num_features}"
            )

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
        return self.normalized(input, False)

    def forward_relu(self, input):
        """forward, and then ReLU, in one pass."""
        return self.normalized(input, True)

    def normalized(self, input, relu):
        """The layer, with or without ReLU."""
        need_ndim(self, input, *self.ndims)
        self.check_channels(input, 1)
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        batch = self.training or mean is None
        if batch and not (self.training and self.track_running_stats):  # a batch's statistics that leave no trace
            mean = var = count = None
        momentum = 0.0 if self.momentum is None and count is None else self.momentum
        return call(
            ops.batch_norm_forward, input, *operands(input, self.weight, self.bias), mean, var, relu=relu,
            training=batch, momentum=momentum, eps=self.eps, num_batches_tracked=count if batch else None)  # fmt: skip


class BatchNorm1d(BatchNorm):
    """BatchNorm of input (N, num_features) or (N, num_features, L).

    (x - mean) / √(var + eps) · weight + bias in each channel, with mean and variance of the batch in training, and
    running ones in eval mode.
    """

    ndims = (2, 3)


class BatchNorm2d(BatchNorm):
    """BatchNorm of input (N, num_features, H, W).

    (x - mean) / √(var + eps) · weight + bias in each channel, with mean and variance of the batch in training, and
    running ones in eval mode.
    """

    ndims = (4,)


class BatchNorm3d(BatchNorm):
    """BatchNorm of input (N, num_features, D, H, W).

    (x - mean) / √(var + eps) · weight + bias in each channel, with mean and variance of the batch in training, and
    running ones in eval mode.
    """

    ndims = (5,)


class InstanceNorm(ChannelNorm):
    """(x - mean) / √(var + eps) · weight + bias in each channel of each sample (Ulyanov et al. 2016).

    Mean and biased variance are the sample's. With track_running_stats, running_mean and running_var, averages over
    samples, move towards them by momentum in training, and are used instead in eval mode.
    """

    ndim: int

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        need_ndim(self, input, self.ndim - 1, self.ndim)
        self.check_channels(input, input.ndim - self.ndim + 1)
        weight, bias = operands(input, self.weight, self.bias)
        own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        options = self.running_mean, self.running_var, weight, bias, own, momentum, self.eps
        return batched(self, F.instance_norm, self.ndim, input, *options)


class InstanceNorm1d(InstanceNorm):
    """InstanceNorm of input (N, num_features, L) or (num_features, L).

    (x - mean) / √(var + eps) · weight + bias in each channel of each sample, with the sample's mean and variance, or,
    in eval mode with track_running_stats, running ones.
    """

    ndim = 3


class InstanceNorm2d(InstanceNorm):
    """InstanceNorm of input (N, num_features, H, W) or (num_features, H, W).

    (x - mean) / √(var + eps) · weight + bias in each channel of each sample, with the sample's mean and variance, or,
    in eval mode with track_running_stats, running ones.
    """

    ndim = 4


class InstanceNorm3d(InstanceNorm):
    """InstanceNorm of input (N, num_features, D, H, W) or (num_features, D, H, W).

    (x - mean) / √(var + eps) · weight + bias in each channel of each sample, with the sample's mean and variance, or,
    in eval mode with track_running_stats, running ones.
    """

    ndim = 5


def lengths(layer, shape):
    """normalized_shape as a tuple of integers."""
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not shape or not all(is_int(n) and n > 0 for n in shape):
        raise TypeError(f"{type(layer).__name__}: normalized_shape must be positive integers, got {shape!r}")
    return shape


class LayerNorm(Norm):
    """(x - mean) / √(var + eps) · weight + bias, with mean and biased variance over the last axes of each sample, whose
    shape is normalized_shape (Ba et al. 2016)."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        self.normalized_shape = lengths(self, normalized_shape)
        elementwise_affine, bias = switches(self, elementwise_affine=elementwise_affine, bias=bias)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.make_affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, *operands(input, self.weight, self.bias), self.eps)

    def extra_repr(self):
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Norm):
    """x / √(mean of x² + eps) · weight over the last axes of each sample, whose shape is normalized_shape (Zhang &
    Sennrich 2019). eps None: the machine epsilon of x's dtype."""

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        self.normalized_shape = lengths(self, normalized_shape)
        (elementwise_affine,) = switches(self, elementwise_affine=elementwise_affine)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.make_affine(self.normalized_shape, elementwise_affine, False, device, dtype)
        self.reset_parameters()

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, *operands(input, self.weight), self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Norm):
    """(x - mean) / √(var + eps) · weight + bias, with mean and biased variance of each of num_groups groups of channels
    of each sample (Wu & He 2018). Input: (N, num_channels, *)."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        self.num_groups, self.num_channels = counts(self, num_groups=num_groups, num_channels=num_channels)
        if not num_groups or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels is {num_channels}, expected a multiple of num_groups, {num_groups}"
            )
        affine, bias = switches(self, affine=affine, bias=bias)
        self.eps, self.affine = eps, affine
        self.make_affine((num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input):
        return F.group_norm(input, self.num_groups, *operands(input, self.weight, self.bias), self.eps)

    def extra_repr(self):
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(Layer):
    """x / (k + alpha / size Σ x²)^beta, the sum over `size` adjacent channels (Krizhevsky et al. 2012). Input:
    (N, C, *)."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class Whiten(Layer):
    """Features of input (N, num_features) made uncorrelated, of variance 1, by "pca" or "zca"; see ops.whiten_forward.

    In training, with mean and covariance of the batch; running_mean and running_cov, of which the latter is unbiased,
    move towards them by momentum, or are the averages over all batches if momentum is None, and are used in eval mode.
    They are 0 and the unit matrix at first.
    """

    def __init__(self, num_features, method="zca", eps=1e-5, momentum=0.1, device=None, dtype=None):
        (self.num_features,) = counts(self, num_features=num_features)
        if method not in ("pca", "zca"):
            raise ValueError(f"Whiten: method is {method!r}, expected 'pca' or 'zca'")
        self.method, self.eps, self.momentum = method, eps, momentum
        self.register_buffer("running_mean", blank((num_features,), device, dtype))
        self.register_buffer("running_cov", blank((num_features, num_features), device, dtype))
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64))
        self.reset_running_stats()

    def reset_running_stats(self):
        """Mean 0, covariance the unit matrix, no batches seen, in place."""
        self.running_mean.fill(0)
        self.running_cov[...] = np.eye(self.num_features)
        self.num_batches_tracked.fill(0)

    def forward(self, input):
        momentum = 1 / (self.num_batches_tracked.item() + 1) if self.momentum is None else self.momentum
        options = self.method, self.training, momentum, self.eps
        y = F.whiten(input, self.running_mean, self.running_cov, *options)
        if self.training and len(input):
            self.num_batches_tracked += 1
        return y

    def extra_repr(self):
        return f"{self.num_features}, method={self.method!r}, eps={self.eps}, momentum={self.momentum}"

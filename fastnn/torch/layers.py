"""Layers of torch.nn that compute with fastnn, each a subclass of the layer that it stands for.

A module becomes one by its `__class__` (`fastnn.torch.swap`): parameters, buffers, hooks and mode are what they were.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fastnn import ops
from fastnn.torch.calls import Operator, Packed, array, call, follow_threads, records, takes, tensors, watched


class Accelerated:
    """What all have in common: `fast` computes a call, or says NotImplemented; then PyTorch does it."""

    def forward(self, *args, **kwargs):
        if not watched():
            try:
                result = self.fast(*args, **kwargs)
            except ValueError:  # PyTorch says in its own words what is wrong, if it is
                result = NotImplemented
            if result is not NotImplemented:
                return result
        return super().forward(*args, **kwargs)

    def __prepare_scriptable__(self):
        """For torch.jit.script, which compiles `forward`: PyTorch's module on the same parameters."""
        module = self.__class__.__new__(self.__class__)
        vars(module).update({name: value for name, value in vars(self).items() if name != "packed"})
        module.__class__ = original(type(self))
        return module


def original(kind):
    """The layer of torch.nn that a class stands for."""
    return kind.__bases__[-1]


# ---- convolution and linear ----

CONV2D = Operator(ops.conv2d_forward, ops.conv2d_backward, F.conv2d)
CONV1D = Operator(ops.conv1d_forward, ops.conv1d_backward, F.conv1d)
CONV_TRANSPOSE2D = Operator(ops.conv_transpose2d_forward, ops.conv_transpose2d_backward, F.conv_transpose2d)
LINEAR = Operator(ops.linear_forward, ops.linear_backward, F.linear)


class Conv2d(Accelerated, nn.Conv2d):
    """Where nothing is recorded, with filters that are packed or transformed once (`fastnn.ops.prepare_conv2d`)."""

    def fast(self, input):
        w, b = self.weight, self.bias
        if self.padding_mode != "zeros" or not takes(input, w, b) or input.ndim != 4:
            return NotImplemented
        options = self.stride, self.padding, self.dilation, self.groups
        if records(input, w, b):
            vars(self).pop("packed", None)
            return call(CONV2D, options, input, w, b)
        follow_threads()
        packed = vars(self).get("packed") or vars(self).setdefault("packed", Packed(ops.prepare_conv2d))
        return tensors(ops.conv2d_forward(array(input), packed.of(w), array(b), *options, keep=False)[0])


def single(option):
    """The number in a tuple of one; a name as it is."""
    return option if isinstance(option, str) else option[0]


class Conv1d(Accelerated, nn.Conv1d):
    """As torch.nn.Conv1d."""

    def fast(self, input):
        w, b = self.weight, self.bias
        if self.padding_mode != "zeros" or not takes(input, w, b) or input.ndim != 3:
            return NotImplemented
        options = single(self.stride), single(self.padding), single(self.dilation), self.groups
        return call(CONV1D, options, input, w, b)


class ConvTranspose2d(Accelerated, nn.ConvTranspose2d):
    """As torch.nn.ConvTranspose2d, but for calls with an output_size."""

    def fast(self, input, output_size=None):
        w, b = self.weight, self.bias
        if output_size is not None or not takes(input, w, b) or input.ndim != 4:
            return NotImplemented
        options = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return call(CONV_TRANSPOSE2D, options, input, w, b)


class Linear(Accelerated, nn.Linear):
    """As torch.nn.Linear."""

    def fast(self, input):
        if not takes(input, self.weight, self.bias):
            return NotImplemented
        return call(LINEAR, (), input, self.weight, self.bias)


# ---- norms ----


def batch_norm_forward(x, w, b, mean, var, count, training, momentum, eps, keep):
    """ops.batch_norm_forward with its options in a row."""
    return ops.batch_norm_forward(
        x, w, b, mean, var, training=training, momentum=momentum, eps=eps, num_batches_tracked=count, keep=keep
    )


def batch_norm_of_torch(x, w, b, mean, var, count, training, momentum, eps):
    """The same, but for the running statistics, which the forward pass has brought up to date."""
    statistics = (None, None) if training else tensors((mean, var))
    return F.batch_norm(x, *statistics, w, b, training, 0.0, eps)


BATCH_NORM = Operator(
    batch_norm_forward,
    lambda dy, ctx, needs: ops.batch_norm_backward(dy, ctx, (*needs, False))[:3],
    batch_norm_of_torch,
)


class BatchNorm(Accelerated):
    """Batch norm, of inputs with so many axes."""

    axes: tuple[int, ...]

    def fast(self, input):
        mean, var = self.running_mean, self.running_var
        if not takes(input, self.weight, self.bias, mean, var) or input.ndim not in self.axes:
            return NotImplemented
        training, count = self.training or mean is var is None, None
        if (mean is None) != (var is None) or (training and input.numel() == input.shape[1]):
            return NotImplemented
        if self.training and not self.track_running_stats:
            mean = var = None
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            count, momentum = self.num_batches_tracked, self.momentum
        state = mean, var, count
        options = *map(array, state), training, momentum, self.eps
        y = call(BATCH_NORM, options, input, self.weight, self.bias)
        if training:
            torch.autograd.graph.increment_version([x for x in state if x is not None])
        return y


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """As torch.nn.BatchNorm1d, the running statistics included."""

    axes = 2, 3


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """As torch.nn.BatchNorm2d, the running statistics included."""

    axes = (4,)


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    """As torch.nn.BatchNorm3d, the running statistics included."""

    axes = (5,)


LAYER_NORM = Operator(
    lambda x, w, b, shape, eps, keep: ops.layer_norm_forward(x, shape, w, b, eps, keep=keep),
    ops.layer_norm_backward,
    lambda x, w, b, shape, eps: F.layer_norm(x, shape, w, b, eps),
)
GROUP_NORM = Operator(
    lambda x, w, b, groups, eps, keep: ops.group_norm_forward(x, groups, w, b, eps, keep=keep),
    ops.group_norm_backward,
    lambda x, w, b, groups, eps: F.group_norm(x, groups, w, b, eps),
)


class LayerNorm(Accelerated, nn.LayerNorm):
    """As torch.nn.LayerNorm."""

    def fast(self, input):
        if not takes(input, self.weight, self.bias):
            return NotImplemented
        return call(LAYER_NORM, (self.normalized_shape, self.eps), input, self.weight, self.bias)


class GroupNorm(Accelerated, nn.GroupNorm):
    """As torch.nn.GroupNorm."""

    def fast(self, input):
        if not takes(input, self.weight, self.bias):
            return NotImplemented
        return call(GROUP_NORM, (self.num_groups, self.eps), input, self.weight, self.bias)


# ---- layers without parameters ----


def of_one(name, function):
    """The Operator of one array: ops.<name>_forward, whose gradient is always needed when it is asked for."""
    backward = getattr(ops, f"{name}_backward")
    return Operator(getattr(ops, f"{name}_forward"), lambda dy, ctx, needs: (backward(dy, ctx),), function)


class Pool(Accelerated):
    """A pooling layer of images: the operator, and the attributes that are its options."""

    operator: Operator
    options: tuple[str, ...]

    def fast(self, input):
        if not takes(input) or input.ndim != 4 or getattr(self, "return_indices", False):
            return NotImplemented
        return call(self.operator, tuple(getattr(self, name) for name in self.options), input)


class MaxPool2d(Pool, nn.MaxPool2d):
    """As torch.nn.MaxPool2d, but for calls that return indices."""

    operator = of_one("max_pool2d", F.max_pool2d)
    options = "kernel_size", "stride", "padding", "dilation", "ceil_mode"


class AvgPool2d(Pool, nn.AvgPool2d):
    """As torch.nn.AvgPool2d."""

    operator = of_one("avg_pool2d", F.avg_pool2d)
    options = "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"


class AdaptiveAvgPool2d(Pool, nn.AdaptiveAvgPool2d):
    """As torch.nn.AdaptiveAvgPool2d."""

    operator = of_one("adaptive_avg_pool2d", F.adaptive_avg_pool2d)
    options = ("output_size",)


class Function(Accelerated):
    """A function of each element."""

    operator: Operator
    options: tuple[str, ...] = ()

    def fast(self, input):
        if not takes(input) or getattr(self, "inplace", False):
            return NotImplemented
        return call(self.operator, tuple(getattr(self, name) for name in self.options), input)


class ReLU(Function, nn.ReLU):
    operator = of_one("relu", F.relu)


class Sigmoid(Function, nn.Sigmoid):
    operator = of_one("sigmoid", torch.sigmoid)


class Tanh(Function, nn.Tanh):
    operator = of_one("tanh", torch.tanh)


class GELU(Function, nn.GELU):
    operator = of_one("gelu", lambda x, approximate: F.gelu(x, approximate=approximate))
    options = ("approximate",)


class SiLU(Function, nn.SiLU):
    operator = of_one("silu", F.silu)


class Hardswish(Function, nn.Hardswish):
    operator = of_one("hardswish", F.hardswish)

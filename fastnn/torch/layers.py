"""Layers of torch.nn that compute with fastnn, each a subclass of the layer that it stands for.

A module becomes one by its `__class__` (`fastnn.torch.swap`): parameters, buffers, hooks and mode are what they were.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.nn import functional as F

from fastnn import ops
from fastnn.torch.calls import KINDS, Operator, Packed, array, call, follow_threads, records, takes, tensors, watched

STANDS: dict[type, type] = {}
"""Layer of torch.nn -> the class here that stands for it."""


def made(kind):
    """What copies and pickles begin with: a layer that stands for this one, without state."""
    return STANDS[kind].__new__(STANDS[kind])


class Accelerated:
    """What all have in common: `fast` computes a call, or says NotImplemented; then PyTorch does it."""

    least: tuple[float, float] = (0, 0)
    """From how much work on fastnn is faster than PyTorch, whose calls cost less: where nothing is recorded, and where
    autograd does. In multiply-adds for matrix products, else in elements of the input; measured, see
    docs/from-pytorch.md."""

    def pays(self, work, *operands):
        """Is so much work with these tensors left to fastnn?"""
        return work >= self.least[records(*operands)]

    def forward(self, *args, **kwargs):
        if type(args[0] if args else kwargs.get("input")) in KINDS and not watched():
            try:
                result = self.fast(*args, **kwargs)
            except ValueError:  # PyTorch says in its own words what is wrong, if it is
                result = NotImplemented
            if result is not NotImplemented:
                return result
        return super().forward(*args, **kwargs)

    def __init_subclass__(cls):
        """A class that stands for a layer is of torch.nn to those who ask for its module's name, as torch.fx does."""
        super().__init_subclass__()
        if issubclass(cls, nn.Module):
            cls.__module__ = original(cls).__module__
            STANDS.setdefault(original(cls), cls)

    def __reduce_ex__(self, protocol):
        """For copies and pickles, which cannot find the class by its name then."""
        make, args, *state = super().__reduce_ex__(max(protocol, 2))
        kind = original(type(self))
        return (made, (kind,), *state) if STANDS.get(kind) is type(self) else (make, args, *state)

    def __prepare_scriptable__(self):
        """For torch.jit.script, which compiles `forward`: PyTorch's layer on the same parameters."""
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


class Conv(Accelerated):
    """Convolutions, of inputs with so many axes."""

    least = 2**18, 2**19
    wide = 128
    """Channels of a group from which on PyTorch's forward pass is the faster one: of those with strides, and of
    transposed ones."""
    axes: int

    def possible(self, input):
        """Can fastnn compute this, and is it faster?"""
        w, b = self.weight, self.bias
        if self.padding_mode != "zeros" or input.ndim != self.axes or not input.numel():
            return False
        steps = 1 if self.transposed else prod(self.stride)
        if (self.transposed or steps > 1) and self.in_channels // self.groups >= self.wide and not records(input, w, b):
            return False
        work = input.numel() // (input.shape[1] * steps) * w.numel()
        return self.pays(work, input, w, b) and takes(input, w, b)


class Conv2d(Conv, nn.Conv2d):
    """Where nothing is recorded, with filters that are packed or transformed once (`fastnn.ops.prepare_conv2d`)."""

    axes = 4

    def fast(self, input):
        if not self.possible(input):
            return NotImplemented
        w, b = self.weight, self.bias
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


class Conv1d(Conv, nn.Conv1d):
    """As torch.nn.Conv1d."""

    axes = 3

    def fast(self, input):
        if not self.possible(input):
            return NotImplemented
        options = single(self.stride), single(self.padding), single(self.dilation), self.groups
        return call(CONV1D, options, input, self.weight, self.bias)


class ConvTranspose2d(Conv, nn.ConvTranspose2d):
    """As torch.nn.ConvTranspose2d, but for calls with an output_size, and for images of one pixel, which are a matrix
    product there."""

    axes = 4

    def fast(self, input, output_size=None):
        if output_size is not None or not self.possible(input) or input.shape[2:].numel() == 1:
            return NotImplemented
        options = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return call(CONV_TRANSPOSE2D, options, input, self.weight, self.bias)


class Linear(Accelerated, nn.Linear):
    """As torch.nn.Linear. Training on a few samples is PyTorch's: the weights' gradient is then hardly a product."""

    least = 2**19, 3 * 2**18
    least_rows = 8

    def fast(self, input):
        w, b = self.weight, self.bias
        rows = input.numel() // max(self.in_features, 1)
        if not self.pays(rows * w.numel(), input, w, b) or not takes(input, w, b):
            return NotImplemented
        if rows < self.least_rows and records(input, w, b):
            return NotImplemented
        return call(LINEAR, (), input, w, b)


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
    least = 2**17, 2**16

    def fast(self, input):
        w, b, mean, var = self.weight, self.bias, self.running_mean, self.running_var
        if not self.pays(input.numel(), input, w, b) or input.ndim not in self.axes:
            return NotImplemented
        if not takes(input, w, b, mean, var):
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
        y = call(BATCH_NORM, options, input, w, b)
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


class RowNorm(Accelerated):
    """Norms of each sample: the operator, and the attributes that are its options."""

    operator: Operator
    options: tuple[str, ...]

    def fast(self, input):
        w, b = self.weight, self.bias
        if not self.pays(input.numel(), input, w, b) or not takes(input, w, b):
            return NotImplemented
        return call(self.operator, tuple(getattr(self, name) for name in self.options), input, w, b)


class LayerNorm(RowNorm, nn.LayerNorm):
    """As torch.nn.LayerNorm."""

    operator, options, least = LAYER_NORM, ("normalized_shape", "eps"), (2**16, 2**18)


class GroupNorm(RowNorm, nn.GroupNorm):
    """As torch.nn.GroupNorm."""

    operator, options, least = GROUP_NORM, ("num_groups", "eps"), (2**16, 2**19)


# ---- layers without parameters ----


def of_one(name, function):
    """The Operator of one array: ops.<name>_forward, whose gradient is always needed when it is asked for."""
    backward = getattr(ops, f"{name}_backward")
    return Operator(getattr(ops, f"{name}_forward"), lambda dy, ctx, needs: (backward(dy, ctx),), function)


class Map(Accelerated):
    """Layers without parameters: the operator, and the attributes that are its options."""

    operator: Operator
    options: tuple[str, ...] = ()

    def fast(self, input):
        if not self.pays(input.numel(), input) or not takes(input):
            return NotImplemented
        return call(self.operator, tuple(getattr(self, name) for name in self.options), input)


class Pool(Map):
    """A pooling layer of images."""

    def fast(self, input):
        return super().fast(input) if input.ndim == 4 else NotImplemented


class MaxPool2d(Pool, nn.MaxPool2d):
    """As torch.nn.MaxPool2d, but for calls that return indices."""

    operator, least = of_one("max_pool2d", F.max_pool2d), (2**11, 2**13)
    options = "kernel_size", "stride", "padding", "dilation", "ceil_mode"

    def fast(self, input):
        return NotImplemented if self.return_indices else super().fast(input)


class AvgPool2d(Pool, nn.AvgPool2d):
    """As torch.nn.AvgPool2d."""

    operator, least = of_one("avg_pool2d", F.avg_pool2d), (2**12, 2**13)
    options = "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"


class AdaptiveAvgPool2d(Pool, nn.AdaptiveAvgPool2d):
    """As torch.nn.AdaptiveAvgPool2d."""

    operator, options, least = of_one("adaptive_avg_pool2d", F.adaptive_avg_pool2d), ("output_size",), (2**16, 2**16)


class Sigmoid(Map, nn.Sigmoid):
    """As torch.nn.Sigmoid."""

    operator, least = of_one("sigmoid", torch.sigmoid), (2**17, 2**20)


class Tanh(Map, nn.Tanh):
    """As torch.nn.Tanh."""

    operator, least = of_one("tanh", torch.tanh), (2**12, 2**14)


class GELU(Map, nn.GELU):
    """As torch.nn.GELU."""

    operator = of_one("gelu", lambda x, approximate: F.gelu(x, approximate=approximate))
    options, least = ("approximate",), (2**14, 2**17)


class SiLU(Map, nn.SiLU):
    """As torch.nn.SiLU, but in place."""

    operator, least = of_one("silu", F.silu), (2**17, 2**19)

    def fast(self, input):
        return NotImplemented if self.inplace else super().fast(input)

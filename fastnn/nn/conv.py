"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

from fastnn import functional as F
from fastnn import init, ops
from fastnn._tape import Prepared
from fastnn.autograd import Tensor, call, is_grad_enabled
from fastnn.descriptors import is_int
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import batched, blank, counts, switches

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]

PADDING_MODES = "zeros", "reflect", "replicate", "circular"


class Conv(Layer):
    """What all convolutions share: options, one for each of `axes` spatial axes, parameters, and torch's repr.

    weight and bias are uniform in ±1/√fan_in at first, fan_in = weight[0].size.
    """

    axes: int
    transposed = False
    prepare: Callable[..., object] | None = None
    """What makes the weight's prepared form."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
        padding_mode, device, dtype,
    ):  # fmt: skip
        name = type(self).__name__
        self.in_channels, self.out_channels, self.groups = counts(
            self, in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: groups is {groups}, expected a divisor of in_channels {in_channels} and out_channels "
                f"{out_channels}"
            )
        (bias,) = switches(self, bias=bias)
        self.kernel_size = self.each("kernel_size", kernel_size, 1)
        self.stride = self.each("stride", stride, 1)
        self.dilation = self.each("dilation", dilation, 1)
        self.output_padding = self.each("output_padding", output_padding, 0)
        if padding in ("same", "valid") and not self.transposed:
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{name}: padding is 'same' with stride {self.stride}, expected a stride of 1")
            self.padding = padding
        else:
            sides = not self.transposed and isinstance(padding, tuple | list) and len(padding) == 2 * self.axes
            self.padding = self.each("padding", padding, 0, 2 if sides else 1)
        modes = PADDING_MODES[:1] if self.transposed else PADDING_MODES
        if padding_mode not in modes:
            raise ValueError(f"{name}: padding_mode is {padding_mode!r}, expected {' or '.join(map(repr, modes))}")
        self.padding_mode = padding_mode
        channels = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = channels[0], channels[1] // groups, *self.kernel_size
        self.weight = Parameter(blank(shape, device, dtype))
        self.bias = Parameter(blank((out_channels,), device, dtype)) if bias else None
        if self.prepare is not None:
            self._prepared = Prepared(self.prepare)  # of the weight; Module.train knows the name
        self.reset_parameters()

    def each(self, name, value, least, times=1):
        """An option, `times` integers of at least `least` for each axis, as a tuple."""
        values = tuple(value) if isinstance(value, tuple | list) else (value,) * self.axes
        if not all(map(is_int, values)):
            raise TypeError(f"{type(self).__name__}: {name} must be an integer or {self.axes} of them, got {value!r}")
        if len(values) != self.axes * times or min(values) < least:
            raise ValueError(
                f"{type(self).__name__}: {name} is {value!r}, expected an integer of at least {least}, or {self.axes}"
            )
        return values

    def reset_parameters(self):
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        fan_in = prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def padded(self, input):
        """(input padded as padding_mode says, the padding that is left to the operator)"""
        if self.padding_mode == "zeros":
            return input, self.padding
        sides: list[int] = []
        for i in reversed(range(self.axes)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                sides += [total // 2, total - total // 2]
            elif self.padding == "valid":
                sides += [0, 0]
            elif len(self.padding) == self.axes:
                sides += [self.padding[i]] * 2
            else:
                sides += self.padding[2 * i : 2 * i + 2]
        return F.pad(input, tuple(sides), self.padding_mode), (0,) * self.axes

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.axes:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.axes:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.axes:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Straight(Conv):
    """Convolutions that are no transposed ones."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
        padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode, device,
            dtype)  # fmt: skip


class Conv1d(Straight):
    """Cross-correlation of rows, (N, in_channels, L) or (in_channels, L): see `fastnn.ops.conv1d_forward`.

    weight: (out_channels, in_channels/groups, kernel_size). padding: an integer, (left, right), "same" or "valid".
    padding_mode: "zeros", "reflect", "replicate" or "circular".
    """

    axes = 1

    def forward(self, input):
        return batched(self, self.of_batch, 3, input)

    def of_batch(self, input):
        """The layer on (N, C, L)."""
        input, padding = self.padded(input)
        padding = padding[0] if len(padding) == 1 else padding
        options = self.stride[0], padding, self.dilation[0], self.groups
        return F.conv1d(input, *operands(input, self.weight, self.bias), *options)


class Conv2d(Straight):
    """Cross-correlation of images, (N, in_channels, H, W) or (in_channels, H, W): see `fastnn.ops.conv2d_forward`.

    weight: (out_channels, in_channels/groups, R, S). kernel_size, stride, padding, dilation: an integer or (vertical,
    horizontal); padding also (top, bottom, left, right), "same" or "valid". padding_mode: "zeros", "reflect",
    "replicate" or "circular".

    Where nothing is recorded (arrays, no_grad), filters are packed or transformed once and kept until they change;
    Winograd's transform takes up to four times their memory. `train()` gives it back.
    """

    axes = 2
    prepare = staticmethod(ops.prepare_conv2d)
    activation: str | None = None
    """"relu" where `fuse` found one behind."""

    def forward(self, input):
        return batched(self, self.of_batch, 4, input, self.activation)

    def forward_relu(self, input):
        """forward, and then ReLU, in one pass."""
        return batched(self, self.of_batch, 4, input, "relu")

    def of_batch(self, input, activation):
        """The layer on (N, C, H, W)."""
        input, padding = self.padded(input)
        recorded = isinstance(input, Tensor) and is_grad_enabled()
        weight = self.weight if recorded else self._prepared.of(self.weight)
        (bias,) = operands(input, self.bias)
        options = self.stride, padding, self.dilation, self.groups
        return call(ops.conv2d_forward, input, weight, bias, *options, activation=activation)

    def extra_repr(self):
        return super().extra_repr() + (f", activation={self.activation}" if self.activation else "")


class ConvTranspose(Conv):
    """Transposed convolutions, which need a size to tell inputs of several that give the same."""

    transposed = True

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
        dilation=1, padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
            padding_mode, device, dtype)  # fmt: skip

    def padding_to(self, input, output_size):
        """The output_padding that gives spatial axes of output_size, or with a batch and channels in front; None: the
        layer's own. ValueError if there is none."""
        if output_size is None:
            return self.output_padding
        sizes = tuple(output_size)[-self.axes :]
        found = []
        for i, size in enumerate(sizes):
            least = (
                (input.shape[i - self.axes] - 1) * self.stride[i]
                - 2 * self.padding[i]
                + self.dilation[i] * (self.kernel_size[i] - 1)
                + 1
            )
            if not least <= size < least + self.stride[i]:
                raise ValueError(
                    f"{type(self).__name__}: output_size is {tuple(output_size)}, expected {least} to "
                    f"{least + self.stride[i] - 1} in axis {i - self.axes}"
                )
            found.append(size - least)
        return tuple(found)


class ConvTranspose2d(ConvTranspose):
    """Up-convolution of images, (N, in_channels, H, W) or (in_channels, H, W): see
    `fastnn.ops.conv_transpose2d_forward`.

    weight: (in_channels, out_channels/groups, R, S). `forward` takes an output_size, (H, W) or with leading axes, where
    the stride leaves a choice.
    """

    axes = 2

    def forward(self, input, output_size=None):
        return batched(self, self.of_batch, 4, input, output_size)

    def of_batch(self, input, output_size):
        """The layer on (N, C, H, W)."""
        options = self.stride, self.padding, self.padding_to(input, output_size), self.groups, self.dilation
        return F.conv_transpose2d(input, *operands(input, self.weight, self.bias), *options)


class ConvTranspose1d(ConvTranspose):
    """Up-convolution of rows, (N, in_channels, L) or (in_channels, L): ConvTranspose2d of images one pixel high.

    weight: (in_channels, out_channels/groups, kernel_size).
    """

    axes = 1

    def forward(self, input, output_size=None):
        return batched(self, self.of_batch, 3, input, output_size)

    def of_batch(self, input, output_size):
        """The layer on (N, C, L)."""
        weight, bias = operands(input, self.weight, self.bias)
        options = [
            (first, option[0])
            for first, option in ((1, self.stride), (0, self.padding), (0, self.padding_to(input, output_size)))
        ]
        y = F.conv_transpose2d(
            input[:, :, None], weight[:, :, None], bias, *options, self.groups, (1, self.dilation[0])
        )
        return y[:, :, 0]

"""Normalisation."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from fastnn.descriptors.options import cached, is_int


@dataclass(frozen=True, slots=True)
class BatchNormDesc:
    """Batch normalisation of x (n, c, *spatial), s = product of the spatial sizes."""

    n: int
    c: int
    s: int

    @property
    def size(self):
        return self.n * self.c * self.s

    @property
    def flops(self):
        """Mean, squared deviations, normalisation."""
        return 7.0 * self.size

    def bytes(self, itemsize, residual=False):
        """x, and a residual, are read and y written once: a channel is in cache when it is read again."""
        return (2.0 + residual) * self.size * itemsize

    @property
    def backward_flops(self):
        """Two sums, and dx as a combination of dy and x."""
        return 9.0 * self.size

    def backward_bytes(self, itemsize, residual=False):
        """dy, x and, with a residual, y are read, dx and the residual's gradient written."""
        return (3.0 + 2 * residual) * self.size * itemsize


@lru_cache(maxsize=1024)
def batch_norm_desc(shape):
    """The descriptor for x of a shape."""
    if len(shape) < 2:
        raise ValueError(f"batch_norm: x has shape {shape}, expected (N, C) or (N, C, *spatial)")
    n, c, s = shape[0], shape[1], prod(shape[2:])
    if c == 0 or s == 0:
        raise ValueError(f"batch_norm: x has shape {shape}, expected at least one channel and one value in each")
    return BatchNormDesc(n, c, s)


@dataclass(frozen=True, slots=True)
class RowNormDesc:
    """Rows of contiguous elements, each normalised by its own statistics: channels of `inner` elements each. Row r is
    group r % groups; weight and bias have groups * channels elements, in the shape `affine`."""

    rows: int
    groups: int
    channels: int
    inner: int
    affine: tuple[int, ...]

    @property
    def layout(self):
        return self.rows, self.groups, self.channels, self.inner

    @property
    def size(self):
        return self.rows * self.channels * self.inner

    @property
    def flops(self):
        """Mean, squared deviations, normalisation, affine map, and the steps of a row."""
        return 9.0 * self.size + 200.0 * self.rows

    def bytes(self, itemsize):
        """x is read and y written once: a row is in cache when it is read again."""
        return 2.0 * self.size * itemsize

    @property
    def backward_flops(self):
        """Two sums, dx as a combination of dy and x, two sums for weight and bias."""
        return 14.0 * self.size + 200.0 * self.rows

    def backward_bytes(self, itemsize):
        """dy and x are read, dx is written."""
        return 3.0 * self.size * itemsize


@cached
def layer_norm_desc(x_shape, op, normalized):
    """The descriptor for x of a shape whose trailing axes `normalized`, an integer or a tuple of them, are rows."""
    shape = (normalized,) if is_int(normalized) else normalized
    if not isinstance(shape, tuple) or not shape or not all(is_int(n) for n in shape):
        raise TypeError(f"{op}: normalized_shape must be an integer or a tuple of them, got {normalized!r}")
    if x_shape[max(len(x_shape) - len(shape), 0) :] != shape:
        raise ValueError(f"{op}: x has shape {x_shape}, expected its last axes to be normalized_shape {shape}")
    shape = tuple(map(int, shape))
    return RowNormDesc(prod(x_shape[: len(x_shape) - len(shape)]), 1, prod(shape), 1, shape)


@cached
def group_norm_desc(x_shape, groups):
    """The descriptor for x (N, C, *spatial), its channels taken together in groups."""
    if len(x_shape) < 2:
        raise ValueError(f"group_norm: x has shape {x_shape}, expected (N, C) or (N, C, *spatial)")
    if not is_int(groups):
        raise TypeError(f"group_norm: num_groups must be an integer, got {groups!r}")
    n, c, s = x_shape[0], x_shape[1], prod(x_shape[2:])
    if groups < 1 or c % groups or c == 0:
        raise ValueError(f"group_norm: x has {c} channels, expected a positive multiple of num_groups={groups}")
    if n * (c // groups) * s == 1:
        raise ValueError(f"group_norm: x of shape {x_shape} has one value per group, expected more than one")
    return RowNormDesc(n * groups, int(groups), c // groups, s, (c,))


@cached
def instance_norm_desc(x_shape, use_input_stats):
    """The descriptor for x (N, C, *spatial), each channel of a sample by itself."""
    if len(x_shape) < 3:
        raise ValueError(f"instance_norm: x has shape {x_shape}, expected (N, C, *spatial)")
    n, c, s = x_shape[0], x_shape[1], prod(x_shape[2:])
    if use_input_stats and s == 1:
        raise ValueError(f"instance_norm: x of shape {x_shape} has one value per channel, expected more than one")
    if c == 0 or s == 0:
        raise ValueError(f"instance_norm: x has shape {x_shape}, expected at least one channel and one value in each")
    return RowNormDesc(n * c, c, 1, s, (c,))


@dataclass(frozen=True, slots=True)
class ResponseNormDesc:
    """Local response normalisation of x (n, c, *spatial), s = product of the spatial sizes, by `size` channels."""

    n: int
    c: int
    s: int
    size: int

    @property
    def elements(self):
        return self.n * self.c * self.s

    @property
    def flops(self):
        """The sum of squares of a window, a power (by two roots) and a product."""
        return (2.0 * min(self.size, self.c) + 20) * self.elements

    def bytes(self, itemsize):
        """x is read and y written once: the windows' rows are in cache."""
        return 2.0 * self.elements * itemsize

    @property
    def backward_flops(self):
        """That, and a second sum over a window."""
        return (3.0 * min(self.size, self.c) + 26) * self.elements

    def backward_bytes(self, itemsize):
        """dy and x are read, dx is written."""
        return 3.0 * self.elements * itemsize


@cached
def response_norm_desc(x_shape, size):
    """The descriptor for x of a shape."""
    if len(x_shape) < 3:
        raise ValueError(f"local_response_norm: x has shape {x_shape}, expected (N, C, *spatial)")
    if not is_int(size):
        raise TypeError(f"local_response_norm: size must be an integer, got {size!r}")
    if not 1 <= size < 2**31:
        raise ValueError(f"local_response_norm: size must be at least 1, below 2**31, got {size}")
    return ResponseNormDesc(x_shape[0], x_shape[1], prod(x_shape[2:]), int(size))

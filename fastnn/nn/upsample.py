"""Up-sampling layers."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.descriptors import number
from fastnn.nn.module import Layer

__all__ = ["Upsample", "UpsampleZeros2d", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


class Upsample(Layer):
    """Input resampled to size, or by scale_factor; mode "nearest" of (N, C, L) or (N, C, H, W), "linear" of the former,
    "bilinear" of the latter; see functional.interpolate."""

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        many = isinstance(scale_factor, tuple | list)
        self.size, self.mode, self.align_corners = size, mode, align_corners
        name = type(self).__name__
        factors = [number(s, name, "scale_factor") for s in (scale_factor if many else [scale_factor or 0])]
        self.scale_factor = tuple(factors) if many else factors[0] or None
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self):
        by = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{by}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """The nearest pixels of (N, C, H, W), to size or by scale_factor."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Linear interpolation of (N, C, H, W), to size or by scale_factor, with the corners where they were."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class UpsampleZeros2d(Layer):
    """Zeros between the pixels of (N, C, H, W), which are stride apart; see ops.upsample_zeros2d_forward."""

    def __init__(self, stride):
        self.stride = stride

    def forward(self, input):
        return F.upsample_zeros2d(input, self.stride)

    def extra_repr(self):
        return f"stride={self.stride}"

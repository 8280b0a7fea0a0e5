"""Resampling: every axis by itself, by places of the results among the elements."""

import numpy as np

from fastnn import ops
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import FLOATS, axes_in, through_float32, unsupported

NEAREST = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

OLD_RULE = ("floor", "ceil")
"""Of Upsample and Resize before opset 11: upwards, and downwards."""


def places(kind, n, size, scale, roi):
    """Where on an axis of n elements each of `size` results lies."""
    i = np.arange(size, dtype=np.float64)
    if kind == "asymmetric":
        return i / scale
    if kind == "align_corners":
        length = scale * n  # a fraction, if a scale is given
        return i * (n - 1) / (length - 1) if size > 1 and length != 1 else np.zeros(size)
    if kind == "tf_crop_and_resize":
        start, end = roi
        if size > 1:
            return start * (n - 1) + i * (end - start) * (n - 1) / (size - 1)
        return np.full(size, 0.5 * (start + end) * (n - 1))
    if kind == "pytorch_half_pixel" and size <= 1:
        return np.zeros(size)
    at = (i + 0.5) / scale - 0.5
    if kind == "half_pixel_symmetric":
        at += n / 2 * (1 - size / (scale * n))
    return at


def triangle(d):
    return np.maximum(1 - np.abs(d), 0)


def cubic(a):
    """Keys's interpolation with the coefficient a."""

    def weight(d):
        d = np.abs(d)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    return weight


def weights(at, n, reach, function, stretch, exclude):
    """(results, n): what each element counts in each result. Beyond the edge is the edge, or nothing if excluded."""
    reach = int(np.ceil(reach * stretch))
    taps = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)
    values = function((taps - at[:, None]) / stretch)
    if exclude:
        values = np.where((taps >= 0) & (taps < n), values, 0)
    values /= values.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(at), n))
    np.add.at(matrix, (np.arange(len(at))[:, None], np.clip(taps, 0, n - 1).astype(np.intp)), values)
    return matrix


@through_float32
def resample(node, x, sizes, scales, rois=None, kind="half_pixel", rule="round_prefer_floor"):
    """x with axes of other sizes. scales: how much longer they are, None of one that stays. rule: None, as of old."""
    a = node.attributes
    mode = a.get("mode", "nearest")
    if mode == "bilinear":
        mode = "linear"
    changed = [i for i, scale in enumerate(scales) if scale is not None and (scale != 1 or rois)]
    if quick(x, sizes, scales, changed, mode, kind) and not a.get("antialias", 0):
        return ops.upsample_bilinear2d_forward(x, tuple(sizes[2:]), align_corners=kind == "align_corners", keep=False)[
            0
        ]
    if mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode is {mode!r}, expected nearest, linear or cubic")
    if mode != "nearest" and x.dtype not in FLOATS:
        raise unsupported(node, f"mode {mode!r} of dtype {x.dtype}")
    outside = []
    for axis in changed:
        n = x.shape[axis]
        at = places(kind, n, sizes[axis], scales[axis], rois[axis] if rois else None)
        outside.append((axis, (at < 0) | (at > n - 1)))
        if mode == "nearest":
            x = x.take(np.clip(NEAREST[rule or OLD_RULE[scales[axis] < 1]](at), 0, n - 1).astype(np.intp), axis)
            continue
        stretch = max(1.0, 1 / scales[axis]) if a.get("antialias", 0) else 1.0
        function = triangle if mode == "linear" else cubic(a.get("cubic_coeff_a", -0.75))
        matrix = weights(at, n, 1 if mode == "linear" else 2, function, stretch, bool(a.get("exclude_outside", 0)))
        x = np.moveaxis(np.tensordot(matrix.astype(x.dtype), x, (1, axis)), 0, axis)
    if kind == "tf_crop_and_resize":
        x = np.array(x)
        for axis, beyond in outside:
            x[(slice(None),) * axis + (beyond,)] = a.get("extrapolation_value", 0.0)
    return x


def quick(x, sizes, scales, changed, mode, kind):
    """Whether the bilinear kernel does it."""
    return (
        x.ndim == 4
        and mode == "linear"
        and x.dtype in FLOATS
        and bool(changed)
        and min(changed) >= 2
        and (kind in ("half_pixel", "align_corners") or (kind == "pytorch_half_pixel" and min(sizes[2:]) > 1))
        and all(scales[i] is not None and x.shape[i] * scales[i] == sizes[i] for i in (2, 3))
    )


@operator("Upsample", since=7)
def upsample(node, x, scales=None):
    scales = node.attributes["scales"] if scales is None else scales.tolist()
    return scaled(node, x, scales)


@operator("Resize", since=10)
def resize_10(node, x, scales):
    return scaled(node, x, scales.tolist())


def scaled(node, x, scales):
    """The forms before opset 11."""
    sizes = [int(np.floor(n * scale)) for n, scale in zip(x.shape, scales, strict=True)]
    return resample(node, x, sizes, scales, None, "asymmetric", None)


@operator("Resize", since=11)
def resize(node, x, roi=None, scales=None, sizes=None):
    a = node.attributes
    kind = a.get("coordinate_transformation_mode", "half_pixel")
    axes = axes_in(node, a["axes"], x.ndim) if a.get("axes") else range(x.ndim)
    lengths = [x.shape[i] for i in axes]
    spans = None
    if kind == "tf_crop_and_resize":
        starts, ends = np.split(roi.astype(np.float64), 2)
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
    if scales is not None and scales.size:
        factors = scales.tolist()
        cut = [end - start for start, end in spans] if spans else [1.0] * len(lengths)
        found = [int(np.floor(n * c * f)) for n, c, f in zip(lengths, cut, factors, strict=True)]
    else:
        if sizes is None:
            raise ValueError("neither scales nor sizes, expected one of them")
        found = sizes.tolist()
        policy = a.get("keep_aspect_ratio_policy", "stretch")
        factors = [size / n for size, n in zip(found, lengths, strict=True)]
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            found = [int(np.floor(factor * n + 0.5)) for n in lengths]
            factors = [factor] * len(lengths)
    every_size, every_scale = list(x.shape), [None] * x.ndim
    rois = [(0.0, 1.0)] * x.ndim if spans else None
    for i, axis in enumerate(axes):
        every_size[axis], every_scale[axis] = found[i], factors[i]
        if spans:
            rois[axis] = spans[i]
    return resample(node, x, every_size, every_scale, rois, kind, a.get("nearest_mode", "round_prefer_floor"))

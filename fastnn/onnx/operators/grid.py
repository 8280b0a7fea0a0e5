"""Elements at places between others that a grid names, as of spatial transformers (Jaderberg et al. 2015)."""

from itertools import product

import numpy as np

from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import through_float32
from fastnn.onnx.operators.resize import cubic, triangle

MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""Names before opset 20."""
COEFFICIENT = -0.75


def taps(at, mode):
    """(places, weights) of the elements that count, behind another axis."""
    if mode == "nearest":
        return np.rint(at)[..., None], np.ones((*at.shape, 1))
    reach, function = (1, triangle) if mode == "linear" else (2, cubic(COEFFICIENT))
    where = np.floor(at)[..., None] + np.arange(1 - reach, reach + 1)
    return where, function(where - at[..., None])


def inside(where, n, padding, align):
    """Places as indices of an axis of n, and whether there is anything."""
    seen = (where >= 0) & (where < n)
    if padding == "reflection":
        period = max(2 * (n - 1), 1) if align else 2 * n
        where = np.mod(where, period)
        where = np.where(where < n, where, period - (0 if align else 1) - where)
    return np.clip(where, 0, n - 1).astype(np.intp), seen


@operator("GridSample", since=16)
@through_float32
def grid_sample(node, x, grid):
    """x: (N, C, *sizes). grid: (N, *results, axes), from -1 to 1 along each axis, the last axis first."""
    a = node.attributes
    mode, padding, align = a.get("mode", "linear"), a.get("padding_mode", "zeros"), bool(a.get("align_corners", 0))
    mode = MODES.get(mode, mode)
    if mode not in ("linear", "nearest", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"mode is {mode!r} and padding_mode {padding!r}, expected linear, nearest or cubic, and zeros, ..."
        )
    n, c, *sizes = x.shape
    if grid.ndim != x.ndim or grid.shape[0] != n or grid.shape[-1] != len(sizes):
        raise ValueError(f"grid has shape {grid.shape} and X {x.shape}, expected (N, ..., {len(sizes)})")
    at = grid.reshape(n, int(np.prod(grid.shape[1:-1])), len(sizes)).astype(np.float64)
    axes = []
    for i, size in enumerate(sizes):
        g = at[..., len(sizes) - 1 - i] + 1
        where, weight = taps(g / 2 * (size - 1) if align else (g * size - 1) / 2, mode)
        index, seen = inside(where, size, padding, align)
        axes.append((index, weight * seen if padding == "zeros" else weight))
    flat = x.reshape(n, c, int(np.prod(sizes)))
    y = np.zeros((n, c, at.shape[1]), x.dtype)
    for corner in product(*(range(index.shape[-1]) for index, _ in axes)):
        place, weight = 0, 1.0
        for size, (index, weights), k in zip(sizes, axes, corner, strict=True):
            place, weight = place * size + index[..., k], weight * weights[..., k]
        y += weight[:, None].astype(x.dtype) * np.take_along_axis(flat, place[:, None], 2)
    return y.reshape(n, c, *grid.shape[1:-1])


@operator("AffineGrid", since=20)
@through_float32
def affine_grid(node, theta, size):
    """The grid (N, *sizes, axes) of theta (N, axes, axes + 1) applied to the places of a result's elements."""
    sizes = size.tolist()[2:]
    align = node.attributes.get("align_corners", 0)
    places = [np.linspace(-1, 1, n) if align else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    mesh = np.meshgrid(*places, indexing="ij")
    base = np.stack([*reversed(mesh), np.ones_like(mesh[0])], -1).astype(theta.dtype)
    return np.matmul(base.reshape(1, -1, len(sizes) + 1), theta.swapaxes(1, 2)).reshape(-1, *sizes, len(sizes))

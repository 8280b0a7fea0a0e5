"""Losses (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import is_int, number
from fastnn.kernels import elementwise as elementwise_kernels
from fastnn.kernels import loss as kernels
from fastnn.ops._arrays import array, array_of_shape, axis_layout, empty, empty_like, index_array

__all__ = ["cross_entropy_backward", "cross_entropy_forward", "mse_loss_backward", "mse_loss_forward"]


def check_reduction(reduction, op):
    """ValueError unless reduction is one that losses know."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


def gradient_of_loss(dy, op, shape, like):
    """dy as an array of the loss's shape and dtype; for a reduced loss any real scalar will do."""
    if shape == () and isinstance(dy, (int, float, np.floating)):
        dy = np.array(dy, like.dtype)
    return array_of_shape(dy, op, "dy", shape, like)


class CrossEntropyCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    target: np.ndarray
    max: np.ndarray
    """Largest logit of each problem, in target's shape; so is `sum`, Σ exp(x - max)."""
    sum: np.ndarray
    layout: tuple[int, int, int]
    """x as (outer, classes, inner)."""
    ignore_index: int
    label_smoothing: float
    divisor: float
    """What the summed loss was divided by."""
    shape: tuple
    """Shape of the loss."""


def cross_entropy_forward(x, target, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, keep=True):
    """Softmax and cross-entropy in one, loss = -Σ_c q_c log softmax(x)_c.

    q is 1 at the target class and 0 elsewhere; with label_smoothing s (Szegedy et al. 2016, "Rethinking the Inception
    Architecture") it is (1-s) of that, plus s/C everywhere.

    x: logits (N, C), (N, C, d1, …) or (C,), float32 or float64. target: integer class indices in [0, C), of x's shape
    without C; where it is ignore_index the loss is 0 and does not count. reduction: "mean" over the targets that
    count (NaN if none does), "sum", or "none". Returns (loss, ctx); a reduced loss is 0-d.
    Raises ValueError for a target out of range, naming it.
    """
    x = array(x, "cross_entropy", "x")
    check_reduction(reduction, "cross_entropy")
    if not is_int(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise TypeError(f"cross_entropy: ignore_index must be a 64-bit integer, got {ignore_index!r}")
    label_smoothing = number(label_smoothing, "cross_entropy", "label_smoothing")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected 0 to 1")
    shape = x.shape
    if not shape:
        raise ValueError("cross_entropy: x has 0 dimensions, expected logits (N, C), (N, C, d1, …) or (C,)")
    axis = min(1, len(shape) - 1)
    layout = axis_layout(x, axis, "cross_entropy", "x")
    target = index_array(target, "cross_entropy", "target", shape[:axis] + shape[axis + 1 :], layout[1], ignore_index)

    loss = empty(target.shape, x)
    max_, sum_ = (empty_like(loss), empty_like(loss)) if keep else (None, None)
    kernels.cross_entropy(x, target, *layout, ignore_index, label_smoothing, loss, max_, sum_)
    divisor = 1
    if reduction != "none":
        if reduction == "mean":
            divisor = kernels.count_targets(target, ignore_index)
        problems, loss = loss, empty((), x)
        kernels.reduce(problems, divisor, loss)
    if not keep:
        return loss, None
    return loss, CrossEntropyCtx(x, target, max_, sum_, layout, ignore_index, label_smoothing, divisor, loss.shape)


def cross_entropy_backward(dy, ctx):
    """dx = (softmax(x) - q) * dy, divided by the number of targets that count if the loss is their mean; 0 where
    the target is ignored."""
    dy = gradient_of_loss(dy, "cross_entropy", ctx.shape, ctx.x)
    dx = empty_like(ctx.x)
    scale = 1 / ctx.divisor if ctx.divisor else 0.0  # nothing counts: every target is ignored
    kernels.cross_entropy_backward(
        ctx.x, ctx.target, *ctx.layout, ctx.ignore_index, ctx.label_smoothing, ctx.max, ctx.sum, dy, scale, dx
    )
    return dx


class MseLossCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    target: np.ndarray
    divisor: float
    shape: tuple


def mse_loss_forward(x, target, reduction="mean", *, keep=True):
    """Mean squared error, loss = (x - target)^2.

    x: any shape, float32 or float64. target: like x. reduction: "mean" (NaN of an empty x), "sum", or "none".
    Returns (loss, ctx); a reduced loss is 0-d.
    """
    x = array(x, "mse_loss", "x")
    target = array_of_shape(target, "mse_loss", "target", x.shape, x)
    check_reduction(reduction, "mse_loss")
    divisor = x.size if reduction == "mean" else 1
    if reduction == "none":
        loss = empty_like(x)
        elementwise_kernels.squared_error(x, target, loss)
    else:
        loss = empty((), x)
        kernels.squared_error_reduce(x, target, divisor, loss)
    return loss, MseLossCtx(x, target, divisor, loss.shape) if keep else None


def mse_loss_backward(dy, ctx, needs=(True, True)):
    """dx = 2 (x - target) * dy, divided by the number of elements if the loss is their mean; dtarget = -dx."""
    dy = gradient_of_loss(dy, "mse_loss", ctx.shape, ctx.x)
    dx, dtarget = (empty_like(ctx.x) if need else None for need in needs)
    kernels.squared_error_backward(ctx.x, ctx.target, dy, 1 / max(ctx.divisor, 1), dx, dtarget)
    return dx, dtarget

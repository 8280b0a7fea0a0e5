"""Losses (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import is_int, number
from fastnn.kernels import loss as kernels
from fastnn.ops._arrays import array, array_of_shape, axis_layout, empty, empty_like, index_array

__all__ = [
    "binary_cross_entropy_with_logits_backward",
    "binary_cross_entropy_with_logits_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "huber_loss_backward",
    "huber_loss_forward",
    "kl_div_backward",
    "kl_div_forward",
    "l1_loss_backward",
    "l1_loss_forward",
    "mse_loss_backward",
    "mse_loss_forward",
    "smooth_l1_loss_backward",
    "smooth_l1_loss_forward",
]


def check_reduction(reduction, op, *more):
    """ValueError unless reduction is one that losses know, or one more."""
    if reduction not in ("mean", "sum", "none", *more):
        known = ", ".join(map(repr, ("mean", *more, "sum")))
        raise ValueError(f"{op}: reduction is {reduction!r}, expected {known} or 'none'")


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

    loss = np.empty(target.shape, x.dtype)
    max_, sum_ = (empty_like(loss), empty_like(loss)) if keep else (None, None)
    kernels.cross_entropy(x, target, *layout, ignore_index, label_smoothing, loss, max_, sum_)
    divisor = 1
    if reduction != "none":
        if reduction == "mean":
            divisor = kernels.count_targets(target, ignore_index)
        problems, loss = loss, np.empty((), x.dtype)
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


class PairCtx(NamedTuple):
    """What the backward pass needs of the forward pass of a loss of single elements and their targets."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    positive: np.ndarray | None
    loss: int
    """Its place in the table of kernels."""
    p: float
    divisor: float
    shape: tuple


def pair_forward(op, loss, x, target, reduction, keep, p=0.0, weight=None, positive=None):
    """(loss, ctx) of a loss in the kernels' table with parameter p; weight and positive broadcast to x's shape."""
    x = array(x, op, "x")
    target = array_of_shape(target, op, "target", x.shape, x)
    if weight is not None:
        weight = broadcast(weight, op, "weight", x)
    if positive is not None:
        positive = broadcast(positive, op, "pos_weight", x)
    if reduction == "none":
        divisor, y = 1, empty_like(x)
        kernels.pair_values(loss, x, target, weight, positive, p, y)
    else:
        divisor = 1 if reduction == "sum" else x.size if reduction == "mean" else len(x) if x.ndim else 1
        y = empty((), x)
        kernels.pair_reduce(loss, x, target, weight, positive, p, divisor, y)
    return y, PairCtx(x, target, weight, positive, loss, p, divisor, y.shape) if keep else None


def broadcast(weight, op, name, x):
    """An argument that broadcasts to x's shape, in full."""
    weight = array(weight, op, name, like=x)
    if weight.shape != x.shape:
        try:
            weight = np.ascontiguousarray(np.broadcast_to(weight, x.shape))
        except ValueError:
            raise ValueError(
                f"{op}: {name} has shape {weight.shape}, expected one that broadcasts to {x.shape}"
            ) from None
    return weight


def pair_backward_of(op, formula):
    """The operator's backward function."""

    def backward(dy, ctx, needs=(True, True)):
        dy = gradient_of_loss(dy, op, ctx.shape, ctx.x)
        dx, dtarget = (empty_like(ctx.x) if need else None for need in needs)
        if any(needs):
            kernels.pair_gradients(ctx.loss, *ctx[:4], ctx.p, dy, 1 / max(ctx.divisor, 1), dx, dtarget)
        return dx, dtarget

    backward.__name__ = backward.__qualname__ = f"{op}_backward"
    backward.__doc__ = f"{formula} Divided by what the summed loss was divided by."
    return backward


MSE = kernels.PAIR_LOSSES["mse"]


def mse_loss_forward(x, target, reduction="mean", *, keep=True):
    """Mean squared error, loss = (x - target)^2.

    x: any shape, float32 or float64. target: like x. reduction: "mean" (NaN of an empty x), "sum", or "none".
    Returns (loss, ctx); a reduced loss is 0-d.
    """
    check_reduction(reduction, "mse_loss")
    return pair_forward("mse_loss", MSE, x, target, reduction, keep)


mse_loss_backward = pair_backward_of("mse_loss", "dx = 2 (x - target) * dy, dtarget = -dx.")

L1 = kernels.PAIR_LOSSES["l1"]


def l1_loss_forward(x, target, reduction="mean", *, keep=True):
    """Mean absolute error, loss = |x - target|. Arguments and results as of mse_loss_forward."""
    check_reduction(reduction, "l1_loss")
    return pair_forward("l1_loss", L1, x, target, reduction, keep)


l1_loss_backward = pair_backward_of("l1_loss", "dx = sign(x - target) * dy, 0 where they are equal; dtarget = -dx.")

SMOOTH_L1 = kernels.PAIR_LOSSES["smooth_l1"]


def smooth_l1_loss_forward(x, target, reduction="mean", beta=1.0, *, keep=True):
    """Smooth absolute error (Girshick 2015), with d = |x - target|: d^2 / (2 beta) if d < beta, else d - beta / 2.

    beta: at least 0, which gives l1_loss. Other arguments and results as of mse_loss_forward.
    """
    check_reduction(reduction, "smooth_l1_loss")
    beta = number(beta, "smooth_l1_loss", "beta")
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}, expected at least 0")
    return pair_forward("smooth_l1_loss", SMOOTH_L1, x, target, reduction, keep, beta)


smooth_l1_loss_backward = pair_backward_of(
    "smooth_l1_loss", "dx = (x - target) / beta * dy if |x - target| < beta, else sign(x - target) * dy; dtarget = -dx."
)

HUBER = kernels.PAIR_LOSSES["huber"]


def huber_loss_forward(x, target, reduction="mean", delta=1.0, *, keep=True):
    """Huber's loss (1964), with d = |x - target|: d^2 / 2 if d < delta, else delta (d - delta / 2).

    delta: positive. Other arguments and results as of mse_loss_forward.
    """
    check_reduction(reduction, "huber_loss")
    delta = number(delta, "huber_loss", "delta")
    if not delta > 0:
        raise ValueError(f"huber_loss: delta is {delta}, expected a positive number")
    return pair_forward("huber_loss", HUBER, x, target, reduction, keep, delta)


huber_loss_backward = pair_backward_of(
    "huber_loss", "dx = (x - target) * dy if |x - target| < delta, else delta sign(x - target) * dy; dtarget = -dx."
)

BCE = kernels.PAIR_LOSSES["bce"]


def binary_cross_entropy_with_logits_forward(x, target, weight=None, reduction="mean", pos_weight=None, *, keep=True):
    """Cross-entropy of σ(x), loss = -weight (pos_weight * target * log σ(x) + (1 - target) log σ(-x)).

    x: logits of any shape, float32 or float64. target: like x, probabilities. weight, pos_weight: of shapes that
    broadcast to x's, None for 1. reduction: "mean" over all elements, "sum", or "none". Returns (loss, ctx); a reduced
    loss is 0-d. Large logits neither overflow nor lose their loss.
    """
    op = "binary_cross_entropy_with_logits"
    check_reduction(reduction, op)
    return pair_forward(op, BCE, x, target, reduction, keep, 0.0, weight, pos_weight)


binary_cross_entropy_with_logits_backward = pair_backward_of(
    "binary_cross_entropy_with_logits",
    "With v = 1 + (pos_weight - 1) target: dx = weight (1 - target - v σ(-x)) * dy, "
    "dtarget = weight ((pos_weight - 1) log(1 + exp(-x)) - x) * dy.",
)

KL_DIV = {False: kernels.PAIR_LOSSES["kl"], True: kernels.PAIR_LOSSES["kl_log"]}


def kl_div_forward(x, target, reduction="mean", log_target=False, *, keep=True):
    """Kullback-Leibler divergence of the target from exp(x), in nats, element by element: target (log target - x).

    x: logarithms of probabilities, any shape, float32 or float64. target: like x, probabilities (0 log 0 = 0), or their
    logarithms if log_target. reduction: "mean" over all elements, "batchmean" (the sum over the length of axis 0: the
    divergence's definition), "sum", or "none". Returns (loss, ctx); a reduced loss is 0-d.
    """
    check_reduction(reduction, "kl_div", "batchmean")
    return pair_forward("kl_div", KL_DIV[bool(log_target)], x, target, reduction, keep)


kl_div_backward = pair_backward_of(
    "kl_div",
    "dx = -target * dy, dtarget = (log target + 1 - x) * dy, 0 where target is 0; of a log_target t, "
    "dx = -exp(t) * dy and dtarget = exp(t) (t - x + 1) * dy.",
)

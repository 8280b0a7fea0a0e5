"""Losses (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.descriptors import flag, is_int, number, one_of
from fastnn.kernels import loss as kernels
from fastnn.ops._arrays import array, array_of_shape, axis_layout, empty, empty_like, index_array
from fastnn.ops.softmax import layout_along

__all__ = [
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "binary_cross_entropy_with_logits_backward",
    "binary_cross_entropy_with_logits_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "huber_loss_backward",
    "huber_loss_forward",
    "js_divergence_backward",
    "js_divergence_forward",
    "kl_div_backward",
    "kl_div_forward",
    "l1_loss_backward",
    "l1_loss_forward",
    "mse_loss_backward",
    "mse_loss_forward",
    "nll_loss_backward",
    "nll_loss_forward",
    "smooth_l1_loss_backward",
    "smooth_l1_loss_forward",
]


def check_reduction(reduction, op, *more):
    """ValueError unless reduction is one that losses know, or one more."""
    one_of(op, "reduction", reduction, "mean", *more, "sum", "none")


def gradient_of_loss(dy, op, shape, like):
    """dy as an array of the loss's shape and dtype; for a reduced loss any real scalar will do."""
    if shape == () and isinstance(dy, (int, float, np.floating)):
        dy = np.array(dy, like.dtype)
    return array_of_shape(dy, op, "dy", shape, like)


def class_options(op, x, target, weight, ignore_index):
    """(x, target, weight, (outer, classes, inner)) of a loss along axis 1 of x, or its only one."""
    x = array(x, op, "x")
    if not is_int(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise TypeError(f"{op}: ignore_index must be a 64-bit integer, got {ignore_index!r}")
    shape = x.shape
    if not shape:
        raise ValueError(f"{op}: x has 0 dimensions, expected (N, C), (N, C, d1, …) or (C,)")
    axis = min(1, len(shape) - 1)
    layout = axis_layout(x, axis, op, "x")
    if weight is not None:
        weight = array_of_shape(weight, op, "weight", (layout[1],), x)
    if op == "cross_entropy" and isinstance(target, np.ndarray) and target.dtype.kind == "f" and target.ndim == x.ndim:
        return x, array_of_shape(target, op, "target", shape, x), weight, layout
    target = index_array(target, op, "target", shape[:axis] + shape[axis + 1 :], layout[1], ignore_index)
    return x, target, weight, layout


def reduced(losses, reduction, count):
    """(loss, what its sum was divided by)."""
    if reduction == "none":
        return losses, 1
    divisor = count if reduction == "mean" else 1
    loss = empty((), losses)
    kernels.reduce(losses, divisor, loss)
    return loss, divisor


class CrossEntropyCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    max: np.ndarray
    """Largest logit of each problem; so is `sum`, Σ exp(x - max)."""
    sum: np.ndarray
    mass: np.ndarray | None
    """Of a target of probabilities, Σ weight * q."""
    layout: tuple[int, int, int]
    """x as (outer, classes, inner)."""
    ignore_index: int
    label_smoothing: float
    divisor: float
    """What the summed loss was divided by."""
    shape: tuple
    """Shape of the loss."""


def cross_entropy_forward(
    x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, keep=True
):
    """Softmax and cross-entropy in one, loss = -Σ_c weight_c q_c log softmax(x)_c.

    q is 1 at the target class and 0 elsewhere, or the target itself if that holds probabilities; with label_smoothing s
    (Szegedy et al. 2016, "Rethinking the Inception Architecture") it is (1-s) of that, plus s/C everywhere.

    x: logits (N, C), (N, C, d1, …) or (C,), float32 or float64. target: integer class indices in [0, C), of x's shape
    without C; where it is ignore_index the loss is 0 and does not count. Or of x's shape and dtype: the probability of
    every class, a constant that has no gradient. weight: (C,), of the classes, None for 1. reduction: "mean" over the
    targets that count (NaN if none does), each counting as much as its class's weight, over all problems for
    probabilities; "sum", or "none". Returns (loss, ctx); a reduced loss is 0-d.
    Raises ValueError for a target out of range, naming it.
    """
    check_reduction(reduction, "cross_entropy")
    label_smoothing = number(label_smoothing, "cross_entropy", "label_smoothing")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected 0 to 1")
    x, target, weight, layout = class_options("cross_entropy", x, target, weight, ignore_index)
    given = target.shape == x.shape
    shape = target.shape if not given else x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    losses = empty(shape, x)
    max_, sum_, mass = None, None, None
    if keep:
        max_, sum_ = empty_like(losses), empty_like(losses)
        mass = empty_like(losses) if given else None
    kernels.cross_entropy(x, target, *layout, ignore_index, label_smoothing, weight, losses, max_, sum_, mass)
    count = 1
    if reduction == "mean":
        count = losses.size if given else kernels.target_weight(target, ignore_index, weight)
    loss, divisor = reduced(losses, reduction, count)
    if not keep:
        return loss, None
    return loss, CrossEntropyCtx(
        x, target, weight, max_, sum_, mass, layout, ignore_index, label_smoothing, divisor, loss.shape
    )


def cross_entropy_backward(dy, ctx):
    """dx = (softmax(x) Σ weight * q - weight * q) * dy, divided by what the summed loss was divided by; 0 where the
    target is ignored."""
    dy = gradient_of_loss(dy, "cross_entropy", ctx.shape, ctx.x)
    dx = empty_like(ctx.x)
    scale = 1 / ctx.divisor if ctx.divisor else 0.0  # nothing counts: every target is ignored
    kernels.cross_entropy_backward(
        ctx.x, ctx.target, *ctx.layout, ctx.ignore_index, ctx.label_smoothing, ctx.weight, ctx.max, ctx.sum, ctx.mass,
        dy, scale, dx,
    )  # fmt: skip
    return dx


class NllCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    layout: tuple[int, int, int]
    ignore_index: int
    divisor: float
    shape: tuple


def nll_loss_forward(x, target, weight=None, *, ignore_index=-100, reduction="mean", keep=True):
    """Negative log-likelihood, loss = -weight_t x_t at the target class t; of log_softmax it is cross_entropy.

    x: logarithms of probabilities, (N, C), (N, C, d1, …) or (C,), float32 or float64. target (class indices), weight,
    ignore_index, reduction, results and errors as of cross_entropy_forward.
    """
    check_reduction(reduction, "nll_loss")
    x, target, weight, layout = class_options("nll_loss", x, target, weight, ignore_index)
    losses = empty(target.shape, x)
    kernels.nll(x, target, *layout, ignore_index, weight, losses)
    count = kernels.target_weight(target, ignore_index, weight) if reduction == "mean" else 1
    loss, divisor = reduced(losses, reduction, count)
    return loss, NllCtx(x, target, weight, layout, ignore_index, divisor, loss.shape) if keep else None


def nll_loss_backward(dy, ctx):
    """dx = -weight_t * dy at the target class t, divided by what the summed loss was divided by; 0 elsewhere."""
    dy = gradient_of_loss(dy, "nll_loss", ctx.shape, ctx.x)
    dx = empty_like(ctx.x)
    scale = 1 / ctx.divisor if ctx.divisor else 0.0
    kernels.nll_backward(ctx.target, *ctx.layout, ctx.ignore_index, ctx.weight, dy, scale, dx)
    return dx


class JsDivergenceCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    p: np.ndarray
    q: np.ndarray
    layout: tuple[int, int, int]
    divisor: float
    shape: tuple


def js_divergence_forward(p, q, axis=-1, reduction="mean", *, keep=True):
    """Jensen-Shannon divergence in bits (Lin 1991), (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2.

    p, q: vectors of probabilities along `axis`, any equal shapes with at least one dimension, float32 or float64. It is
    symmetric, 0 for p = q, 1 for disjoint p and q, and in [0, 1] with rounding too; 0 log 0 = 0. reduction: "mean" of
    the divergences, "sum", or "none". Returns (loss, ctx); a reduced loss is 0-d.
    """
    check_reduction(reduction, "js_divergence")
    p = array(p, "js_divergence", "p")
    q = array_of_shape(q, "js_divergence", "q", p.shape, p)
    layout = layout_along(p, axis, "js_divergence", "p")
    axis %= p.ndim
    losses = empty(p.shape[:axis] + p.shape[axis + 1 :], p)
    kernels.js_divergence(p, q, *layout, losses)
    loss, divisor = reduced(losses, reduction, losses.size)
    return loss, JsDivergenceCtx(p, q, layout, divisor, loss.shape) if keep else None


def js_divergence_backward(dy, ctx, needs=(True, True)):
    """dp = log2(2p / (p + q)) / 2 * dy, dq likewise, divided by what the summed loss was divided by. At an element that
    is 0, where the derivative is -inf, it is 0: the term 0 log 0 is left out."""
    dy = gradient_of_loss(dy, "js_divergence", ctx.shape, ctx.p)
    dp, dq = (empty_like(ctx.p) if need else None for need in needs)
    kernels.js_divergence_backward(ctx.p, ctx.q, *ctx.layout, dy, 1 / max(ctx.divisor, 1), dp, dq)
    return dp, dq


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

FRACTION = kernels.PAIR_LOSSES["fraction"]


def binary_cross_entropy_forward(x, target, weight=None, reduction="mean", *, keep=True):
    """Cross-entropy of probabilities, loss = -weight (target log x + (1 - target) log(1 - x)).

    x: probabilities of any shape, float32 or float64; the loss is NaN where it is outside of [0, 1]. target: like x.
    weight: of a shape that broadcasts to x's, None for 1. reduction: "mean" over all elements, "sum", or "none".
    Returns (loss, ctx); a reduced loss is 0-d. As in torch, a logarithm below -100 counts as -100;
    binary_cross_entropy_with_logits, of logits, knows no such limit.
    """
    check_reduction(reduction, "binary_cross_entropy")
    return pair_forward("binary_cross_entropy", FRACTION, x, target, reduction, keep, 0.0, weight)


binary_cross_entropy_backward = pair_backward_of(
    "binary_cross_entropy",
    "dx = weight (x - target) / max(x (1 - x), 1e-12) * dy, dtarget = weight (log(1 - x) - log x) * dy.",
)

KL_DIV = {False: kernels.PAIR_LOSSES["kl"], True: kernels.PAIR_LOSSES["kl_log"]}


def kl_div_forward(x, target, reduction="mean", log_target=False, *, keep=True):
    """Kullback-Leibler divergence of the target from exp(x), in nats, element by element: target (log target - x).

    x: logarithms of probabilities, any shape, float32 or float64. target: like x, probabilities (0 log 0 = 0), or their
    logarithms if log_target. reduction: "mean" over all elements, "batchmean" (the sum over the length of axis 0: the
    divergence's definition), "sum", or "none". Returns (loss, ctx); a reduced loss is 0-d.
    """
    check_reduction(reduction, "kl_div", "batchmean")
    return pair_forward("kl_div", KL_DIV[flag(log_target, "kl_div", "log_target")], x, target, reduction, keep)


kl_div_backward = pair_backward_of(
    "kl_div",
    "dx = -target * dy, dtarget = (log target + 1 - x) * dy, 0 where target is 0; of a log_target t, "
    "dx = -exp(t) * dy and dtarget = exp(t) (t - x + 1) * dy.",
)

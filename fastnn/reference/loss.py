"""Losses (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.reference.elementwise import logistic
from fastnn.reference.softmax import log_softmax_forward

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


def reduce(loss, reduction, count):
    """The losses themselves, their sum, or their sum over `count`, of the losses' dtype."""
    if reduction == "none":
        return loss
    with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
        total = loss.sum()
        return np.asarray(total if reduction == "sum" else total / loss.dtype.type(count))


def class_axis(x):
    return min(1, x.ndim - 1)


def along(weight, x):
    """The classes' weights, in x's shape."""
    weight = np.ones(x.shape[class_axis(x)], x.dtype) if weight is None else weight
    return np.broadcast_to(weight.reshape((-1,) + (1,) * (x.ndim - 1 - class_axis(x))), x.shape)


def onehot_of(target, x):
    classes = np.arange(x.shape[class_axis(x)]).reshape((-1,) + (1,) * (x.ndim - 1 - class_axis(x)))
    return np.expand_dims(target, class_axis(x)) == classes


class CrossEntropyCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    log_p: np.ndarray
    q: np.ndarray
    """The probabilities of the target times the classes' weights, 0 where the target is ignored."""
    axis: int
    reduction: str
    divisor: float


def cross_entropy_forward(
    x, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, keep=True
):
    """loss = -Σ_c w_c q_c log softmax(x)_c with q = (1-s) p + s/C, p = onehot(target) or the target itself; 0 where the
    target is ignored"""
    axis = class_axis(x)
    log_p, _ = log_softmax_forward(x, axis)
    weights = along(weight, x)
    if target.dtype.kind == "f":
        p, counts, divisor = target, True, x.size // x.shape[axis]
    else:
        p, counts = onehot_of(target, x), np.expand_dims(target != ignore_index, axis)
        divisor = np.where(p & counts, weights, 0).sum(dtype=float)
    share = (1 - label_smoothing) * p + label_smoothing / x.shape[axis]
    # The weight of a class that is no target does not count, not even a NaN.
    counted = counts & ((share != 0) | (target.dtype.kind == "f"))
    q = np.where(counted, share * weights, 0).astype(x.dtype)
    terms = np.multiply(q, log_p, where=q != 0, out=np.zeros_like(log_p))  # 0 log 0 = 0
    y = reduce(-terms.sum(axis=axis), reduction, divisor)
    return y, CrossEntropyCtx(log_p, q, axis, reduction, divisor) if keep else None


def cross_entropy_backward(dy, ctx):
    """dx = (softmax(x) Σ w q - w q) * dy, over what the summed loss was divided by"""
    dy = np.expand_dims(dy, ctx.axis) if ctx.reduction == "none" else dy
    mass = ctx.q.sum(axis=ctx.axis, keepdims=True)
    dx = ((np.exp(ctx.log_p) * mass - ctx.q) * dy).astype(ctx.log_p.dtype)
    dx = dx / dx.dtype.type(ctx.divisor or 1) if ctx.reduction == "mean" else dx
    return np.where(mass == 0, dx.dtype.type(0), dx)


class NllCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    q: np.ndarray
    """The classes' weights at the targets that count, 0 elsewhere."""
    counts: np.ndarray
    """Where these are."""
    axis: int
    reduction: str
    divisor: float


def nll_loss_forward(x, target, weight=None, *, ignore_index=-100, reduction="mean", keep=True):
    """loss = -w_t x_t; 0 where the target is ignored"""
    axis = class_axis(x)
    counts = np.expand_dims(target != ignore_index, axis) & onehot_of(target, x)
    q = np.where(counts, along(weight, x), 0)
    losses = -np.multiply(q, x, where=q != 0, out=np.zeros_like(x)).sum(axis=axis)
    y = reduce(losses, reduction, q.sum(dtype=float))
    return y, NllCtx(q.astype(x.dtype), counts, axis, reduction, q.sum(dtype=float)) if keep else None


def nll_loss_backward(dy, ctx):
    """dx = -w_t * dy at the target class, over what the summed loss was divided by; 0 elsewhere"""
    dx = -ctx.q * (np.expand_dims(dy, ctx.axis) if ctx.reduction == "none" else dy)
    dx = dx / dx.dtype.type(ctx.divisor or 1) if ctx.reduction == "mean" else dx
    return np.where(ctx.counts, dx, dx.dtype.type(0))


class JsDivergenceCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    slopes: tuple
    axis: int
    reduction: str
    divisor: int


def log_share(v, total):
    """log2(2 v / total), 0 if v is. A small share is scaled, so that it is not subnormal."""
    small = np.abs(v) < np.abs(total) * 2.0**-60
    share = np.where(small, v * 2.0**64, v) / np.where(v == 0, 1, total) * 2
    return np.log2(share, where=v != 0, out=np.zeros_like(v)) - np.where(small & (v != 0), v.dtype.type(64), 0)


def js_divergence_forward(p, q, axis=-1, reduction="mean", *, keep=True):
    """loss = (Σ p log2(p / m) + Σ q log2(q / m)) / 2 with m = (p + q) / 2 and 0 log 0 = 0"""
    logs = [log_share(v, p + q) for v in (p, q)]
    losses = np.minimum(np.maximum((p * logs[0] + q * logs[1]) / 2, 0).sum(axis=axis), 1)
    y = reduce(losses, reduction, losses.size)
    return y, JsDivergenceCtx((logs[0] / 2, logs[1] / 2), axis, reduction, losses.size) if keep else None


def js_divergence_backward(dy, ctx, needs=(True, True)):
    """dp = log2(p / m) / 2 * dy, dq likewise; 0 where p or q is"""
    dy = np.expand_dims(dy, ctx.axis) if ctx.reduction == "none" else dy
    divisor = dy.dtype.type(max(ctx.divisor, 1) if ctx.reduction == "mean" else 1)
    return tuple(slope * dy / divisor if need else None for slope, need in zip(ctx.slopes, needs, strict=True))


class PairCtx(NamedTuple):
    """What the backward pass of a loss of single elements and their targets needs: its slopes along both, and what the
    sum was divided by."""

    slopes: tuple
    divisor: int


def pair_result(x, losses, slopes, reduction, keep):
    """(loss, ctx) from the losses of single elements and their slopes along x and target."""
    divisor = {"mean": x.size, "batchmean": len(x) if x.ndim else 1}.get(reduction, 1)
    return reduce(losses, reduction, divisor), PairCtx(slopes, divisor) if keep else None


def pair_gradients(dy, ctx, needs):
    """The slopes times dy"""
    divisor = dy.dtype.type(max(ctx.divisor, 1))
    return tuple(slope * dy / divisor if need else None for slope, need in zip(ctx.slopes, needs, strict=True))


def mse_loss_forward(x, target, reduction="mean", *, keep=True):
    """loss = (x - target)^2"""
    d = x - target
    return pair_result(x, d**2, (2 * d, -2 * d), reduction, keep)


def mse_loss_backward(dy, ctx, needs=(True, True)):
    """dx = 2 (x - target) * dy, over the number of elements if the loss is their mean; dtarget = -dx"""
    return pair_gradients(dy, ctx, needs)


def l1_loss_forward(x, target, reduction="mean", *, keep=True):
    """loss = |x - target|"""
    d = x - target
    return pair_result(x, np.abs(d), (np.sign(d), -np.sign(d)), reduction, keep)


def l1_loss_backward(dy, ctx, needs=(True, True)):
    """dx = sign(x - target) * dy, dtarget = -dx"""
    return pair_gradients(dy, ctx, needs)


def smooth_l1_loss_forward(x, target, reduction="mean", beta=1.0, *, keep=True):
    """loss = d^2 / (2 beta) if d = |x - target| < beta, else d - beta / 2"""
    d = x - target
    near = np.abs(d) < beta
    losses = np.where(near, d**2 / (2 * (beta or 1)), np.abs(d) - beta / 2)
    slope = np.where(near, d / (beta or 1), np.sign(d))
    return pair_result(x, losses, (slope, -slope), reduction, keep)


def smooth_l1_loss_backward(dy, ctx, needs=(True, True)):
    """dx = (x - target) / beta * dy if |x - target| < beta, else sign(x - target) * dy; dtarget = -dx"""
    return pair_gradients(dy, ctx, needs)


def huber_loss_forward(x, target, reduction="mean", delta=1.0, *, keep=True):
    """loss = d^2 / 2 if d = |x - target| < delta, else delta (d - delta / 2)"""
    d = x - target
    near = np.abs(d) < delta
    losses = np.where(near, d**2 / 2, delta * (np.abs(d) - delta / 2))
    slope = np.where(near, d, delta * np.sign(d))
    return pair_result(x, losses, (slope, -slope), reduction, keep)


def huber_loss_backward(dy, ctx, needs=(True, True)):
    """dx = (x - target) * dy if |x - target| < delta, else delta sign(x - target) * dy; dtarget = -dx"""
    return pair_gradients(dy, ctx, needs)


def binary_cross_entropy_with_logits_forward(x, target, weight=None, reduction="mean", pos_weight=None, *, keep=True):
    """loss = -weight (pos_weight * target * log σ(x) + (1 - target) log σ(-x)), where log σ(-x) = log σ(x) - x"""
    weight, positive = (np.ones((), x.dtype) if w is None else w for w in (weight, pos_weight))
    log_p, factor = -np.logaddexp(0, -x), 1 + (positive - 1) * target
    losses = weight * ((1 - target) * x - factor * log_p)
    slope = weight * ((1 - target) - factor * logistic(-x))
    target_slope = -weight * ((positive - 1) * log_p + x)
    return pair_result(x, losses, (slope, target_slope), reduction, keep)


def binary_cross_entropy_with_logits_backward(dy, ctx, needs=(True, True)):
    """With v = 1 + (pos_weight - 1) target: dx = weight (1 - target - v σ(-x)) * dy,
    dtarget = -weight ((pos_weight - 1) log σ(x) + x) * dy"""
    return pair_gradients(dy, ctx, needs)


def binary_cross_entropy_forward(x, target, weight=None, reduction="mean", *, keep=True):
    """loss = -weight (target log x + (1 - target) log(1 - x)), logarithms being at least -100"""
    weight = np.ones((), x.dtype) if weight is None else weight
    with np.errstate(divide="ignore", invalid="ignore"):
        log_x, log_rest = np.log(x), np.log1p(-x)
    losses = -weight * (target * np.maximum(log_x, -100) + (1 - target) * np.maximum(log_rest, -100))
    slope = weight * (x - target) / np.maximum(x * (1 - x), 1e-12)
    return pair_result(x, losses, (slope, weight * (log_rest - log_x)), reduction, keep)


def binary_cross_entropy_backward(dy, ctx, needs=(True, True)):
    """dx = weight (x - target) / max(x (1 - x), 1e-12) * dy, dtarget = weight (log(1 - x) - log x) * dy"""
    return pair_gradients(dy, ctx, needs)


def kl_div_forward(x, target, reduction="mean", log_target=False, *, keep=True):
    """loss = target (log target - x) with 0 log 0 = 0; or exp(target) (target - x)"""
    if log_target:
        p, log_p, some = np.exp(target), target, True
    else:
        some = target != 0
        p, log_p = target, np.log(target, where=some, out=np.zeros_like(target))
    losses = np.where(some, p * (log_p - x), 0).astype(x.dtype)
    target_slope = np.where(some, log_p - x + 1, 0).astype(x.dtype) * (p if log_target else 1)
    return pair_result(x, losses, (-p, target_slope), reduction, keep)


def kl_div_backward(dy, ctx, needs=(True, True)):
    """dx = -target * dy, dtarget = (log target + 1 - x) * dy, 0 where target is; of a log_target t,
    dx = -exp(t) * dy and dtarget = exp(t) (t - x + 1) * dy"""
    return pair_gradients(dy, ctx, needs)

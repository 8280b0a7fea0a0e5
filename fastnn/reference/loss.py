"""Losses (K10)."""

from typing import NamedTuple

import numpy as np

from fastnn.reference.softmax import log_softmax_forward

__all__ = ["cross_entropy_backward", "cross_entropy_forward", "mse_loss_backward", "mse_loss_forward"]


def reduce(loss, reduction, count):
    """The losses themselves, their sum, or their sum over `count`, of the losses' dtype."""
    if reduction == "none":
        return loss
    with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
        total = loss.sum()
        return np.asarray(total / loss.dtype.type(count) if reduction == "mean" else total)


class CrossEntropyCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    log_p: np.ndarray
    q: np.ndarray
    counts: np.ndarray
    axis: int
    reduction: str


def cross_entropy_forward(x, target, *, ignore_index=-100, reduction="mean", label_smoothing=0.0, keep=True):
    """loss = -Σ_c q_c log softmax(x)_c with q = (1-s) onehot(target) + s/C; 0 where the target is ignored"""
    axis = min(1, x.ndim - 1)
    classes = x.shape[axis]
    log_p, _ = log_softmax_forward(x, axis)
    counts = np.expand_dims(target != ignore_index, axis)
    onehot = np.expand_dims(target, axis) == np.arange(classes).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    q = ((1 - label_smoothing) * onehot + label_smoothing / classes).astype(x.dtype)
    terms = np.multiply(q, log_p, where=counts & (q != 0), out=np.zeros_like(log_p))  # 0 log 0 = 0
    y = reduce(-terms.sum(axis=axis), reduction, counts.sum())
    return y, CrossEntropyCtx(log_p, q, counts, axis, reduction) if keep else None


def cross_entropy_backward(dy, ctx):
    """dx = (softmax(x) - q) * dy, over the number of targets that count if the loss is their mean"""
    dy = np.expand_dims(dy, ctx.axis) if ctx.reduction == "none" else dy
    dx = np.where(ctx.counts, (np.exp(ctx.log_p) - ctx.q) * dy, 0).astype(ctx.log_p.dtype)
    return dx / dx.dtype.type(max(ctx.counts.sum(), 1)) if ctx.reduction == "mean" else dx


class MseLossCtx(NamedTuple):
    """What the backward pass needs of the forward pass."""

    x: np.ndarray
    target: np.ndarray
    reduction: str


def mse_loss_forward(x, target, reduction="mean", *, keep=True):
    """loss = (x - target)^2"""
    y = reduce((x - target) ** 2, reduction, x.size)
    return y, MseLossCtx(x, target, reduction) if keep else None


def mse_loss_backward(dy, ctx, needs=(True, True)):
    """dx = 2 (x - target) * dy, over the number of elements if the loss is their mean; dtarget = -dx"""
    dx = 2 * (ctx.x - ctx.target) * dy
    if ctx.reduction == "mean":
        dx /= dx.dtype.type(max(dx.size, 1))
    return dx if needs[0] else None, -dx if needs[1] else None

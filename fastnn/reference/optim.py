"""Optimiser steps and the clipping of gradients (K16), parameter by parameter."""

from math import inf, isfinite

import numpy as np

__all__ = ["adam_step", "adamw_step", "clip_grad_norm", "clip_grad_value", "rmsprop_step", "sgd_step"]


def directions(params, grads, weight_decay, maximize):
    """The gradient of each parameter, uphill or downhill, with its decay."""
    for p, g in zip(params, grads, strict=True):
        g = -g if maximize else g
        yield g + weight_decay * p if weight_decay else g


def lerp(start, end, weight):
    """start + weight (end - start), in torch's two forms, which give different infinities and NaN."""
    return start + weight * (end - start) if weight < 0.5 else end - (end - start) * (1 - weight)


def sgd_step(
    params, grads, momentum_buffers=None, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
    maximize=False, first=False,
):  # fmt: skip
    """buf = momentum buf + (1 - dampening) g; p -= lr buf, or p -= lr (g + momentum buf) with nesterov"""
    for i, g in enumerate(directions(params, grads, weight_decay, maximize)):
        if momentum:
            buf = momentum_buffers[i]
            buf[...] = g if first else momentum * buf + (1 - dampening) * g
            g = g + momentum * buf if nesterov else buf
        params[i] -= lr * g


def rmsprop_step(
    params, grads, square_avgs, grad_avgs=None, momentum_buffers=None, *, lr=1e-2, alpha=0.99, eps=1e-8,
    weight_decay=0.0, momentum=0.0, maximize=False,
):  # fmt: skip
    """v = alpha v + (1 - alpha) g²; p -= lr g / (√v + eps)"""
    for i, g in enumerate(directions(params, grads, weight_decay, maximize)):
        v = square_avgs[i]
        v[...] = alpha * v + (1 - alpha) * g * g
        if grad_avgs is not None:
            m = grad_avgs[i]
            m[...] = lerp(m, g, 1 - alpha)
            v = v - m * m
        step = g / (np.sqrt(v) + eps)
        if momentum:
            momentum_buffers[i][...] = step = momentum * momentum_buffers[i] + step
        params[i] -= lr * step


def adam_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
    weight_decay=0.0, maximize=False,
):  # fmt: skip
    """m = β₁ m + (1 - β₁) g; v = β₂ v + (1 - β₂) g²; p -= lr m̂ / (√v̂ + eps), m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)"""
    beta1, beta2 = betas
    for i, g in enumerate(directions(params, grads, weight_decay, maximize)):
        m, v = exp_avgs[i], exp_avg_sqs[i]
        m[...] = lerp(m, g, 1 - beta1)
        v[...] = beta2 * v + (1 - beta2) * g * g
        if max_exp_avg_sqs is not None:
            max_exp_avg_sqs[i][...] = v = np.maximum(max_exp_avg_sqs[i], v)
        params[i] -= lr / (1 - beta1**step) * m / (np.sqrt(v / (1 - beta2**step)) + eps)


def adamw_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
    weight_decay=1e-2, maximize=False,
):  # fmt: skip
    """The same with p *= 1 - lr weight_decay before it, and no decay in the gradient"""
    for p in params:
        p *= 1 - lr * weight_decay
    options = {"step": step, "lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
    adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, **options)


def clip_grad_norm(grads, max_norm, norm_type=2.0, error_if_nonfinite=False):
    """g *= min(1, max_norm / (norm + 1e-6)), norm that of all elements together"""
    wide = np.concatenate([g.ravel() for g in grads]).astype(np.float64)
    total = np.sqrt(np.sum(wide * wide)) if norm_type != inf else np.abs(wide).max(initial=0)
    if error_if_nonfinite and not isfinite(total):
        raise ValueError(f"clip_grad_norm: the norm of grads is {total}, expected a finite one")
    factor = max_norm / (total + 1e-6)
    for g in grads:
        if not factor >= 1:
            g *= g.dtype.type(factor)
    return np.array(total, grads[0].dtype)


def clip_grad_value(grads, clip_value):
    """g = min(max(g, -clip_value), clip_value)"""
    for g in grads:
        np.clip(g, -clip_value, clip_value, out=g)

"""Clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite

import numpy as np

from fastnn import ops
from fastnn.autograd import Tensor
from fastnn.descriptors import number

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def gradients(op: str, parameters: Tensor | Iterable[Tensor]) -> dict[np.dtype, list[np.ndarray]]:
    """The gradients of one Tensor or several by dtype, without those that are None."""
    grads: dict[np.dtype, list[np.ndarray]] = {}
    for p in [parameters] if isinstance(parameters, Tensor) else parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"{op}: parameters must be Tensors, got {type(p).__name__}")
        if p.grad is not None:
            grads.setdefault(p.grad.dtype, []).append(p.grad)
    return grads


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale the gradients of parameters in place by min(1, max_norm / (norm + 1e-6)), norm being that of all their
    elements together, which is returned; 0 if there is no gradient. See `fastnn.ops.clip_grad_norm`.

    norm_type: p of the p-norm, above 0; inf for the largest magnitude. error_if_nonfinite: ValueError, before anything
    is changed, for a norm that is NaN or infinite, which else makes gradients NaN or 0.
    """
    op = "clip_grad_norm_"
    max_norm, norm_type = number(max_norm, op, "max_norm"), number(norm_type, op, "norm_type")
    if not max_norm >= 0:
        raise ValueError(f"{op}: max_norm is {max_norm}, expected at least 0")
    if not norm_type > 0:
        raise ValueError(f"{op}: norm_type is {norm_type}, expected a number above 0, or inf")
    grads = list(gradients(op, parameters).values())
    if len(grads) == 1 and norm_type in (2, inf):
        return float(ops.clip_grad_norm(grads[0], max_norm, norm_type, error_if_nonfinite))
    with np.errstate(all="ignore"):
        norms = [np.linalg.norm(g.astype(np.float64).ravel(), norm_type) for same in grads for g in same]
        total = float(np.linalg.norm(norms, norm_type)) if norms else 0.0
        if error_if_nonfinite and not isfinite(total):
            raise ValueError(f"{op}: the norm of the gradients is {total}, expected a finite one")
        factor = max_norm / (total + 1e-6)
        if not factor >= 1:
            for same in grads:
                for g in same:
                    g *= g.dtype.type(factor)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of the gradients of parameters to [-clip_value, clip_value] in place; NaN stays."""
    for same in gradients("clip_grad_value_", parameters).values():
        ops.clip_grad_value(same, clip_value)

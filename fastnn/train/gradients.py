"""Statistics of gradients, a layer at a time."""

from __future__ import annotations

from math import hypot

import numpy as np

from fastnn.autograd import Tensor
from fastnn.nn import Module

__all__ = ["GradientStatistics"]


def norm(x: np.ndarray) -> float:
    """Of all elements; inf if their squares overflow."""
    flat = x.reshape(-1)
    return float(np.sqrt(np.dot(flat, flat)))


class GradientStatistics:
    """Measures every n-th batch, from the first on: `before` the step of the optimiser, from the gradients, and `after`
    it."""

    def __init__(self, model: Module, every: int) -> None:
        self.every = every
        self.layers: dict[str, list[Tensor]] = {}
        seen: set[int] = set()
        for path, module in model.named_modules():
            own = [p for p in module.own_parameters().values() if id(p) not in seen]
            seen |= set(map(id, own))
            if own:
                self.layers[path] = own  # type: ignore[assignment]  # Parameters are Tensors
        self.found: dict[str, dict[str, float]] = {}
        self.weights: dict[str, list[tuple[Tensor, np.ndarray]]] = {}

    def due(self, step: int) -> bool:
        """Is this batch, counted from 1, to be measured?"""
        return (step - 1) % self.every == 0

    def before(self) -> None:
        """Gradients as backward left them, and a copy of the weights."""
        with np.errstate(over="ignore", invalid="ignore"):
            for path, parameters in self.layers.items():
                learning = [(p, p.grad) for p in parameters if p.grad is not None]
                elements = sum(p.size for p, _ in learning)
                total = sum(float(np.abs(grad).sum()) for _, grad in learning)
                self.found[path] = {
                    "norm": hypot(*(norm(grad) for _, grad in learning)),
                    "mean_abs": total / elements if elements else 0.0,
                }
                self.weights[path] = [(p, p.array.copy()) for p, _ in learning]

    def after(self) -> dict[str, dict[str, float]]:
        """The statistics of each layer, in the order of the model's parameters."""
        with np.errstate(over="ignore", invalid="ignore"):
            for path, weights in self.weights.items():
                size = hypot(*(norm(old) for _, old in weights))
                change = hypot(*(norm(np.subtract(p.array, old, out=old)) for p, old in weights))
                self.found[path]["update_ratio"] = change / size if size else 0.0
        self.weights = {}
        return self.found

"""Metrics, and means over the samples of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fastnn.autograd import Tensor

__all__ = ["METRICS", "Means", "as_metrics"]

Metric = Callable[[np.ndarray, Any], Any]
RESERVED = ("epoch", "loss", "lr", "seconds", "grad_norm")
IGNORED = -100
"""The class index that the cross-entropy leaves out by default; torch's as well."""


def accuracy(output, target):
    """(number of right ones, number of all). Class indices of shape (N, d1, …) are compared with the argmax of output
    (N, C, d1, …) along axis 1, -100 left out; class probabilities of output's shape likewise. With one logit a sample,
    output (N,) or (N, 1), the target is 0 or 1, or a probability, and the logit's sign decides."""
    if output.size == target.size and (output.ndim == 1 or output.shape[1] == 1):
        return binary_accuracy(output.reshape(target.shape), target)
    if target.shape == output.shape:
        target = target.argmax(1)
    elif target.shape != output.shape[:1] + output.shape[2:] or target.dtype.kind not in "iu":
        raise ValueError(
            f"accuracy: target has shape {target.shape} and dtype {target.dtype}, expected class indices of shape "
            f"{output.shape[:1] + output.shape[2:]} or probabilities of shape {output.shape}"
        )
    ignored = np.count_nonzero(target == IGNORED)
    return np.count_nonzero(output.argmax(1) == target), target.size - ignored


def binary_accuracy(output, target):
    """(number of right ones, number of all): logits of any shape are right if they are positive where target > 1/2."""
    if output.shape != target.shape:
        raise ValueError(f"binary_accuracy: target has shape {target.shape}, expected {output.shape}")
    return np.count_nonzero((output > 0) == (target > 0.5)), target.size


def mse(output, target):
    """(sum of squared errors, number of elements)."""
    difference = np.subtract(output, target, dtype=np.float64)
    return np.vdot(difference, difference), difference.size


def mae(output, target):
    """(sum of absolute errors, number of elements)."""
    difference = np.subtract(output, target, dtype=np.float64)
    return np.abs(difference, out=difference).sum(), difference.size


METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "mse": mse, "mae": mae}
"""Metrics that can be named. A metric is a function of output and target, ndarrays, which returns the mean of the
samples, or a pair of a sum and of how many it is the sum of."""


def as_metrics(metrics: Any, op: str) -> dict[str, Metric]:
    """Functions by name, of None, a name or function, a list of these, or a dict name -> name or function."""
    if metrics is None:
        return {}
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Mapping):
        if not isinstance(metrics, Iterable):
            raise TypeError(f"{op}: metrics must be names, functions or a dict, got {type(metrics).__name__}")
        listed = list(metrics)
        metrics = {m if isinstance(m, str) else getattr(m, "__name__", type(m).__name__): m for m in listed}
        if len(metrics) != len(listed):
            raise ValueError(f"{op}: metrics has a name twice, expected a dict of different names")
    found: dict[str, Metric] = {}
    for name, metric in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"{op}: a name in metrics must be a string, got {name!r}")
        if name in RESERVED or name.startswith(("val_", "lr_")):
            raise ValueError(f"{op}: a metric is named {name!r}, expected another name, as History has that one")
        if isinstance(metric, str):
            if metric not in METRICS:
                raise ValueError(f"{op}: metric {metric!r} is unknown, expected a function or {', '.join(METRICS)}")
            metric = METRICS[metric]
        if not callable(metric):
            raise TypeError(f"{op}: metric {name!r} must be a name or a function, got {metric!r}")
        found[name] = metric
    return found


def plain(x: Any) -> Any:
    """The array of a Tensor."""
    return x.array if isinstance(x, Tensor) else x


class Means:
    """Means of the loss and of metrics over samples, accumulated in double precision, however large the batches are."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics
        self.sums: dict[str, list[float]] = {}
        self.reset()

    def reset(self, sums: Mapping[str, list[float]] | None = None) -> None:
        """Begin anew, or with [sum, count] by name."""
        self.sums = {name: [0.0, 0.0] for name in ("loss", *self.metrics)} | dict(sums or {})

    def add(self, name: str, total: float, count: float) -> None:
        entry = self.sums.setdefault(name, [0.0, 0.0])
        entry[0] += total
        entry[1] += count

    def update(self, loss: float, output: Any, target: Any, count: int) -> None:
        """Add a batch of so many samples."""
        entry = self.sums["loss"]
        entry[0] += loss * count
        entry[1] += count
        if self.metrics:
            output, target = plain(output), plain(target)
            for name, metric in self.metrics.items():
                value = metric(output, target)
                if isinstance(value, tuple):
                    self.add(name, float(value[0]), float(value[1]))
                else:
                    self.add(name, float(value) * count, count)

    def values(self, prefix: str = "") -> dict[str, float]:
        """The means; NaN of nothing."""
        return {prefix + name: total / count if count else float("nan") for name, (total, count) in self.sums.items()}

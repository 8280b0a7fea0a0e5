"""Loss and metrics of a model, and its outputs, without changing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor, no_grad
from fastnn.nn import Module
from fastnn.train.batches import as_batches, as_tensor, pair
from fastnn.train.metrics import Means, as_metrics

__all__ = ["check_model", "evaluate", "modes_kept", "predict", "run_evaluation"]


@contextmanager
def modes_kept(model: Module) -> Iterator[None]:
    """Whatever happens, each Module is in training or inference mode as before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_model(model: Any, op: str) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"{op}: model must be a Module, got {type(model).__name__}")


def run_evaluation(
    model: Module,
    batches: Any,
    loss: Callable[..., Any],
    means: Means,
    op: str,
    after_batch: Callable[[], None] = lambda: None,
) -> None:
    """Add all batches to the means, in inference mode and without a tape."""
    with modes_kept(model), no_grad():
        model.eval()
        for batch in batches:
            x, y = pair(batch, op)
            output = model(as_tensor(x, op))
            means.update(loss(output, y).item(), output, y, len(x))
            after_batch()


def evaluate(
    model: Module,
    data: Any,
    *,
    loss: Callable[..., Any] = F.cross_entropy,
    metrics: Any = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """{"loss": …, metric: …}: means over all samples, in inference mode; the model stays as it is.

    data: arrays (x, y), or an iterable of such batches. loss: loss(output, y), the mean of a batch's samples. metrics:
    as of `fit`. TypeError or ValueError for other arguments, and for data without a sample.
    """
    check_model(model, "evaluate")
    means = Means(as_metrics(metrics, "evaluate"))
    run_evaluation(model, as_batches(data, "evaluate", "data", batch_size), loss, means, "evaluate")
    if not means.sums["loss"][1]:
        raise ValueError("evaluate: data has no samples, expected at least one")
    return means.values()


def predict(model: Module, data: Any, *, batch_size: int = 32) -> Any:
    """The outputs for all samples, an ndarray, or a tuple of them if the model returns one; in inference mode, without
    a tape.

    data: an array x, or an iterable of batches x or (x, y), of which y is not used.
    """
    check_model(model, "predict")
    batches = as_batches(data, "predict", "data", batch_size)
    outputs: list[Any] = []
    with modes_kept(model), no_grad():
        model.eval()
        for batch in batches:
            x = batch[0] if isinstance(batch, tuple | list) else batch
            outputs.append(model(x.array if isinstance(x, Tensor) else x))
        if not outputs and isinstance(data, np.ndarray | Tensor):
            outputs.append(model(data.array if isinstance(data, Tensor) else data))
    if not outputs:
        raise ValueError("predict: data has no batches, expected at least one")
    if isinstance(outputs[0], tuple):
        return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return np.concatenate(outputs)

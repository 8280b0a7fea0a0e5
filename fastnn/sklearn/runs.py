"""What the estimators of `net` need around a run of fastnn.train.fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np

from fastnn._tape import Version
from fastnn.data import Dataset
from fastnn.nn import Module
from fastnn.random import get_rng_state, manual_seed, set_rng_state

__all__ = ["Samples", "Weighted", "asked_for", "in_memory", "like_target", "seeded", "unweighted"]


class Weighted(NamedTuple):
    """Targets of a batch, and what its samples weigh (N,)."""

    target: np.ndarray
    weight: np.ndarray | None


class Samples(Dataset):
    """x and Weighted targets in batches."""

    def __init__(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> None:
        self.x, self.target, self.weight = x, target, weight

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: np.ndarray) -> Any:
        weight = None if self.weight is None else self.weight[indices]
        return self.x[indices], Weighted(self.target[indices], weight)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """fastnn's random numbers from a seed, and afterwards as if nothing had been drawn."""
    before = get_rng_state()
    manual_seed(seed)
    try:
        yield
    finally:
        set_rng_state(before)


def like_target(output: Any, target: np.ndarray) -> Any:
    """Outputs (N,) for targets (N, 1)."""
    return output.reshape(target.shape) if output.shape == target.shape[:1] and target.shape[1:] == (1,) else output


def in_memory(module: Module, optimizer: Any = None) -> None:
    """Arrays that are files which cannot be written, as joblib hands them to processes, in memory of their own."""

    def plain(x: np.ndarray) -> bool:
        return type(x) is np.ndarray and x.flags.writeable

    for p in module.parameters():
        if not plain(p.array):
            p.array, p.versions = np.array(p.array), Version()
    for part in module.modules():
        for name, x in part.own_buffers().items():
            if not plain(x):
                setattr(part, name, np.array(x))
    for state in optimizer.state.values() if optimizer is not None else ():
        state.update({name: np.array(x) for name, x in state.items() if isinstance(x, np.ndarray) and not plain(x)})


def asked_for(function: Callable[..., Any]) -> set[str]:
    """Names of arguments; a function that takes any keyword asks for none by it, nor does one without a signature."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    try:
        parameters = signature(function).parameters
    except ValueError:
        return set()
    return {name for name, p in parameters.items() if p.kind in named}


def unweighted(metric: Callable[..., Any]) -> Callable[..., Any]:
    """A metric of the output and Weighted targets."""
    return lambda output, batch: metric(output, batch.target)

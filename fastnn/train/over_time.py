"""Gradients along the steps of recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastnn.ops.recurrent import watching

__all__ = ["gradients_over_time"]


@contextmanager
def gradients_over_time() -> Iterator[list[np.ndarray]]:
    """Records how large the gradients at the hidden states are, step by step, while `backward` runs:

        with gradients_over_time() as norms:
            loss.backward()

    Afterwards norms has an array (T,) of float64 for each recurrent operator, a layer and direction, in the order of
    the forward pass: element t is the norm of the loss's derivative by h after the step of time t, over all samples and
    units. What falls off from the last time to the first is a vanishing gradient, what grows an exploding one
    (Bengio, Simard & Frasconi 1994). It concerns this thread, and costs a copy of the states.
    """
    norms: list[np.ndarray] = []
    # backward comes to the last operator first
    token = watching.set(lambda found: norms.insert(0, found))
    try:
        yield norms
    finally:
        watching.reset(token)

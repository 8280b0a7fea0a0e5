"""Modules whose parameters get their values from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastnn import init

__all__ = ["skip_init"]

Made = TypeVar("Made")


def skip_init(module_cls: Callable[..., Made], *args, **kwargs) -> Made:
    """module_cls(*args, **kwargs), a Module's class or a function that makes one, without drawing random numbers.

    Parameters that would be random are what fresh memory holds, NaN perhaps, until they are loaded. With
    `skip_init(models.vgg19)`, that is 143 million numbers.
    """
    with init.skipped():
        return module_cls(*args, **kwargs)

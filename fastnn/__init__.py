"""Neural-network layers for CPUs: compiled kernels, and a NumPy reference that states what each one means."""

from typing import TYPE_CHECKING

from fastnn import functional, init, ops, optim, reference
from fastnn.autograd import Tensor, enable_grad, is_grad_enabled, no_grad, tensor
from fastnn.config import show_config
from fastnn.differences import gradcheck
from fastnn.functional import cat, flatten, matmul, split, stack, where
from fastnn.kernels.runtime import release_memory
from fastnn.random import Generator, get_rng_state, manual_seed, set_rng_state
from fastnn.serialize import load, load_metadata, save
from fastnn.threads import get_num_threads, num_threads, set_num_threads

if TYPE_CHECKING:
    from fastnn.inspection import lint, summary

__version__ = "0.1.0"

__all__ = [
    "Generator",
    "Tensor",
    "cat",
    "enable_grad",
    "flatten",
    "functional",
    "get_num_threads",
    "get_rng_state",
    "gradcheck",
    "init",
    "is_grad_enabled",
    "lint",
    "load",
    "load_metadata",
    "manual_seed",
    "matmul",
    "no_grad",
    "num_threads",
    "ops",
    "optim",
    "reference",
    "release_memory",
    "save",
    "set_num_threads",
    "set_rng_state",
    "show_config",
    "split",
    "stack",
    "summary",
    "tensor",
    "where",
]


def __getattr__(name):
    """summary and lint are imported when they are first used."""
    if name not in ("lint", "summary"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastnn import inspection

    globals().update(lint=inspection.lint, summary=inspection.summary)
    return globals()[name]

"""Neural-network layers for CPUs: compiled kernels, and a NumPy reference that states what each one means."""

from importlib import import_module
from typing import TYPE_CHECKING

from fastnn import functional, ops
from fastnn.autograd import Tensor, enable_grad, is_grad_enabled, no_grad, tensor
from fastnn.functional import cat, flatten, matmul, split, stack, where
from fastnn.kernels.runtime import release_memory
from fastnn.random import Generator, get_rng_state, manual_seed, set_rng_state
from fastnn.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"  # the one place: the distribution's is read from here

__all__ = [
    "Generator",
    "Tensor",
    "cat",
    "data",
    "distributions",
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
    "models",
    "nn",
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
    "train",
    "where",
]

LAZY = {
    "data": "data",
    "distributions": "distributions",
    "gradcheck": "differences",
    "init": "init",
    "lint": "inspection",
    "load": "serialize",
    "load_metadata": "serialize",
    "models": "models",
    "nn": "nn",
    "optim": "optim",
    "reference": "reference",
    "save": "serialize",
    "show_config": "config",
    "summary": "inspection",
    "train": "train",
}
"""Name -> the module it comes from, imported when the name is first used: what not every program needs. A name that is
its module's is that module."""

if TYPE_CHECKING:  # LAZY once more, for type checkers and editors
    from fastnn import data, distributions, init, models, nn, optim, reference, train
    from fastnn.config import show_config
    from fastnn.differences import gradcheck
    from fastnn.inspection import lint, summary
    from fastnn.serialize import load, load_metadata, save
else:  # which would take __getattr__ for having any name

    def __getattr__(name):
        if name not in LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{LAZY[name]}")
        value = globals()[name] = module if LAZY[name] == name else getattr(module, name)
        return value

    def __dir__():
        return sorted({*globals(), *LAZY})
